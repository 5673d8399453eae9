//! `aptpeer seed`

use super::Context;
use super::objects::{document, explain, line};
use super::output::{Failure, Tone, complain};
use crate::store::{Origin, Store};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Directories where apt keeps downloads that are not whole yet: their digests would name nothing.
const UNFINISHED: &str = "partial";

#[derive(clap::Subcommand)]
pub(super) enum Action {
    /// Add local .deb and index files to the cache
    Import {
        /// Also take the files below directories
        #[arg(short, long)]
        recursive: bool,
        /// Serve the files to peers that ask, but do not tell the swarm
        #[arg(long)]
        no_announce: bool,
        /// Files, and with -r directories
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// List the files that were added
    List {
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(action: &Action, context: &mut Context) -> Result<(), Failure> {
    match action {
        Action::Import { recursive, no_announce, paths } => {
            let origin = if *no_announce { Origin::SilentSeed } else { Origin::Seed };
            import(paths, *recursive, origin, context)
        }
        Action::List { json } => list(*json, context),
    }
}

fn list(json: bool, context: &mut Context) -> Result<(), Failure> {
    let mut seeds = context.store()?.list()?;
    seeds.retain(|entry| entry.origin.is_seed());
    if json {
        return context.output.json(&seeds.iter().map(document).collect::<Vec<_>>());
    }
    seeds.iter().try_for_each(|entry| context.output.line(line(entry)))
}

/// Imports what it can and says what it cannot; fails at the end if there was any of the latter.
fn import(paths: &[PathBuf], recursive: bool, origin: Origin, context: &mut Context) -> Result<(), Failure> {
    let store = context.store()?;
    let mut failed = 0_u64;
    let mut refuse = |path: &Path, reason: &dyn std::fmt::Display| {
        complain(Tone::Error, format_args!("cannot import {}: {reason}", path.display()));
        failed += 1;
    };
    for path in paths {
        // What the user names may be a symbolic link; what a directory holds may not.
        match fs::metadata(path) {
            Err(error) => refuse(path, &error),
            Ok(metadata) if metadata.is_dir() && !recursive => refuse(path, &"it is a directory, add -r"),
            Ok(metadata) if metadata.is_dir() => {
                let walk = Walk { pending: vec![path.clone()] };
                for found in walk {
                    match found {
                        Ok(file) => add(&store, &file, origin, context, &mut refuse)?,
                        Err((path, error)) => refuse(&path, &error),
                    }
                }
            }
            Ok(_) => add(&store, path, origin, context, &mut refuse)?,
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::Work("1 path was not imported, all others were".to_owned())),
        count => Err(Failure::Work(format!("{count} paths were not imported, all others were"))),
    }
}

/// Imports one file and prints its line.
fn add(
    store: &Store,
    path: &Path,
    origin: Origin,
    context: &mut Context,
    refuse: &mut impl FnMut(&Path, &dyn std::fmt::Display),
) -> Result<(), Failure> {
    match store.import_file(path, origin) {
        Ok(file) => context.output.line(format_args!("{}  {}  {}", file.id, file.length, path.display())),
        Err(error) => {
            refuse(path, &explain(&error));
            Ok(())
        }
    }
}

/// The regular files below a directory, in the order of their names. Symbolic links are not followed, so that the walk
/// ends; hidden files and unfinished downloads are left out, each with a word on standard error.
struct Walk {
    /// What is still to be looked at, the next one last.
    pending: Vec<PathBuf>,
}

impl Iterator for Walk {
    type Item = Result<PathBuf, (PathBuf, io::Error)>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(path) = self.pending.pop() {
            let kind = match fs::symlink_metadata(&path) {
                // Removed since its directory was read: then it is not there to be imported.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Some(Err((path, error))),
                Ok(metadata) => metadata,
            };
            if kind.is_file() && kind.len() > 0 {
                return Some(Ok(path));
            }
            if !kind.is_dir() {
                skip(&path, if kind.is_file() { "it is empty" } else { "it is no regular file" });
            } else if let Err(error) = self.enter(&path) {
                return Some(Err((path, error)));
            }
        }
        None
    }
}

impl Walk {
    fn enter(&mut self, directory: &Path) -> io::Result<()> {
        let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.retain(|path| match reason_to_skip(path.file_name().unwrap_or_default()) {
            Some(reason) => {
                skip(path, reason);
                false
            }
            None => true,
        });
        paths.sort_unstable_by(|a, b| b.cmp(a));
        self.pending.append(&mut paths);
        Ok(())
    }
}

fn reason_to_skip(name: &OsStr) -> Option<&'static str> {
    if name == UNFINISHED {
        return Some("it holds unfinished downloads");
    }
    name.as_bytes().starts_with(b".").then_some("it is hidden")
}

fn skip(path: &Path, reason: &str) {
    complain(Tone::Note, format_args!("skipped {}: {reason}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_gives_regular_files_in_order_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("b/partial")).unwrap();
        for name in ["z.deb", "b/a.deb", "b/partial/half.deb", ".hidden", "c"] {
            fs::write(at(name), "x").unwrap();
        }
        fs::write(at("lock"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), at("b/loop")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let walk = Walk { pending: vec![folder.path().to_owned()] };
        let found: Vec<_> = walk.map(Result::unwrap).collect();
        assert_eq!(found, [at("b/a.deb"), at("c"), at("z.deb")]);
    }
}
