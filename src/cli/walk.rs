//! The files that the paths of a command line name.

use super::output::{Tone, complain};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Directories where apt keeps downloads that are not whole yet: their digests would name nothing.
const UNFINISHED: &str = "partial";

/// A path that cannot be used, and why.
pub(super) type Refused = (PathBuf, io::Error);

/// The files that `paths` name, in order; with `recursive` those below directories too.
///
/// What the user names may be a symbolic link; what a directory holds may not.
pub(super) fn regular_files(
    paths: &[PathBuf],
    recursive: bool,
) -> impl Iterator<Item = Result<PathBuf, Refused>> {
    regular_files_telling(paths, recursive, skip)
}

/// The same; `skip` is told what is left out, and why.
pub(super) fn regular_files_telling<S: Fn(&Path, &str) + Copy>(
    paths: &[PathBuf],
    recursive: bool,
    skip: S,
) -> impl Iterator<Item = Result<PathBuf, Refused>> {
    paths.iter().flat_map(move |path| match fs::metadata(path) {
        Err(error) => Named::One(Some(Err((path.clone(), error)))),
        Ok(metadata) if metadata.is_dir() && !recursive => {
            Named::One(Some(Err((path.clone(), io::Error::other("it is a directory, add -r")))))
        }
        Ok(metadata) if metadata.is_dir() => Named::Many(Walk { pending: vec![path.clone()], skip }),
        Ok(_) => Named::One(Some(Ok(path.clone()))),
    })
}

/// What one path stands for.
enum Named<S> {
    One(Option<Result<PathBuf, Refused>>),
    Many(Walk<S>),
}

impl<S: Fn(&Path, &str)> Iterator for Named<S> {
    type Item = Result<PathBuf, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(one) => one.take(),
            Self::Many(walk) => walk.next(),
        }
    }
}

/// The regular files below a directory, in the order of their names. Symbolic links are not followed, so that the walk
/// ends; hidden files and unfinished downloads are left out, each with a word on standard error.
struct Walk<S> {
    /// What is still to be looked at, the next one last.
    pending: Vec<PathBuf>,
    skip: S,
}

impl<S: Fn(&Path, &str)> Iterator for Walk<S> {
    type Item = Result<PathBuf, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(path) = self.pending.pop() {
            let kind = match fs::symlink_metadata(&path) {
                // Also where it was removed since its directory was read.
                Err(error) => return Some(Err((path, error))),
                Ok(metadata) => metadata,
            };
            if kind.is_file() && kind.len() > 0 {
                return Some(Ok(path));
            }
            if !kind.is_dir() {
                (self.skip)(&path, if kind.is_file() { "it is empty" } else { "it is no regular file" });
            } else if let Err(error) = self.enter(&path) {
                return Some(Err((path, error)));
            }
        }
        None
    }
}

impl<S: Fn(&Path, &str)> Walk<S> {
    fn enter(&mut self, directory: &Path) -> io::Result<()> {
        let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.retain(|path| match reason_to_skip(path.file_name().unwrap_or_default()) {
            Some(reason) => {
                (self.skip)(path, reason);
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

/// Tells it on standard error.
pub(super) fn skip(path: &Path, reason: &str) {
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
        let walk = Walk { pending: vec![folder.path().to_owned()], skip };
        let found: Vec<_> = walk.map(Result::unwrap).collect();
        assert_eq!(found, [at("b/a.deb"), at("c"), at("z.deb")]);
    }
}
