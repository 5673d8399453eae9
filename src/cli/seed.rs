//! `aptpeer seed`

use super::Context;
use super::objects::{document, explain, files, line};
use super::output::{Failure, Tone, complain};
use super::progress::Progress;
use super::readable::Reader;
use super::walk::{regular_files_telling, skip};
use crate::digest::Sha256;
use crate::status::rounded_bytes;
use crate::store::{Import, ImportSum, Origin, Store, Told, Way};
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where apt keeps what it has downloaded, unless the configuration names another directory.
const APT_ARCHIVES: &str = "/var/cache/apt/archives";

/// How many files that could not be imported a JSON document names; all are counted, and told on standard error.
const MOST_NAMED: usize = 1000;

#[derive(clap::Subcommand)]
pub(super) enum Action {
    /// Add local .deb and index files, or whole pools of them
    Import(Importing),
    /// List the files that were added
    List {
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
    /// No longer offer files: what was imported in place below a path, or a file of the cache by its SHA-256
    Remove {
        /// Print a JSON document
        #[arg(long)]
        json: bool,
        /// Paths that were imported in place (the files stay), or digests
        #[arg(required = true, value_name = "PATH|SHA256")]
        what: Vec<PathBuf>,
    },
}

#[derive(clap::Args)]
pub(super) struct Importing {
    /// Also take the files below directories
    #[arg(short, long)]
    recursive: bool,
    /// Offer the files on the local network and in the private swarm only, and do not announce them
    #[arg(long)]
    no_announce: bool,
    /// Serve the files from where they are, without a copy; directories are taken whole
    #[arg(long)]
    in_place: bool,
    /// Link the files into the cache instead of copying them, whoever owns them: nobody changes them in place
    #[arg(long, conflicts_with = "in_place")]
    hard_link: bool,
    /// Take the packages that apt has downloaded (seed.apt_archives, or /var/cache/apt/archives)
    #[arg(long)]
    apt_archives: bool,
    /// Print a JSON document with what was done
    #[arg(long)]
    json: bool,
    /// Files, and with -r directories
    #[arg(required_unless_present = "apt_archives", value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(action: &Action, context: &mut Context) -> Result<(), Failure> {
    match action {
        Action::Import(importing) => importing.run(context),
        Action::List { json } => list(*json, context),
        Action::Remove { json, what } => remove(what, *json, context),
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

fn remove(what: &[PathBuf], json: bool, context: &mut Context) -> Result<(), Failure> {
    let store = context.store()?;
    let (mut removed, mut failed) = (0, 0_u64);
    for one in what {
        let digest = one.to_str().and_then(|text| text.parse::<Sha256>().ok());
        let count = match digest {
            Some(id) => u64::from(store.remove(&id)?),
            None => store.forget_in_place(&absolute(one))?,
        };
        if count == 0 {
            let why = if digest.is_some() {
                "it is not in the cache"
            } else {
                "nothing there was imported in place"
            };
            complain(Tone::Error, format_args!("cannot remove {}: {why}", one.display()));
            failed += 1;
        }
        removed += count;
    }
    if json {
        context.output.json(&json!({ "removed": removed }))?;
    } else {
        context.output.line(format_args!("no longer offered: {}", files(removed)))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Work("`aptpeer seed list` prints what is offered".to_owned())),
    }
}

/// What could not be imported: told at once, and counted.
struct Refused {
    progress: Progress,
    count: AtomicU64,
    named: Mutex<Vec<Value>>,
}

impl Refused {
    fn add(&self, path: &Path, reason: &dyn Display) {
        let error = reason.to_string();
        let text = format_args!("cannot import {}: {error}", Shown(path)).to_string();
        self.progress.aside(|| complain(Tone::Error, text));
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut named = self.named.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if named.len() < MOST_NAMED {
            named.push(json!({ "path": path.to_string_lossy(), "error": error }));
        }
    }
}

impl Importing {
    /// Imports what it can and says what it cannot; fails at the end if there was any of the latter.
    fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let settings = context.settings()?;
        let store = context.store()?;
        let mut paths = self.paths.clone();
        if self.apt_archives {
            paths.push(settings.seed.apt_archives.clone().unwrap_or_else(|| APT_ARCHIVES.into()));
        }
        let progress = if self.json { Progress::none() } else { Progress::of_bytes(None) };
        let refused =
            Refused { progress: progress.clone(), count: AtomicU64::new(0), named: Mutex::default() };
        let mut reader = if self.in_place { Reader::of_daemon(&settings) } else { None };
        let note = |path: &Path, reason: &str| progress.aside(|| skip(path, reason));
        let found = regular_files_telling(&paths, self.recursive || self.in_place || self.apt_archives, note)
            .filter_map(|found| match found {
                Ok(path) => match reader.as_mut().map_or(Ok(()), |reader| reader.may_read(&path)) {
                    Ok(()) => Some(path),
                    Err(why) => {
                        refused.add(&path, &why);
                        None
                    }
                },
                Err((path, error)) => {
                    refused.add(&path, &error);
                    None
                }
            });

        let mut written = Ok(());
        let sum = store.import(found, self.import(), |told| match told {
            Told::File(path, Err(error)) => refused.add(path, &explain(&error)),
            Told::File(path, Ok(file)) => {
                if !self.json && written.is_ok() {
                    let line = format_args!("{}  {}  {}", file.id, file.length, Shown(path)).to_string();
                    written = progress.aside(|| context.output.line(line));
                }
            }
            Told::Progress(sum) => {
                progress.reach(sum.hashed_bytes);
                progress.tell(files(sum.files));
            }
        })?;
        let gone = if self.in_place { rescan(&store, &paths)? } else { 0 };
        drop(progress);
        written?;
        self.conclude(&sum, gone, &refused, context)
    }

    fn import(&self) -> Import {
        let origin = if self.no_announce { Origin::SilentSeed } else { Origin::Seed };
        let way = match (self.in_place, self.hard_link) {
            (true, _) => Way::InPlace,
            (false, true) => Way::Link,
            (false, false) => Way::Copy,
        };
        Import { origin, way }
    }

    fn conclude(
        &self,
        sum: &ImportSum,
        gone: u64,
        refused: &Refused,
        context: &mut Context,
    ) -> Result<(), Failure> {
        let failed = refused.count.load(Ordering::Relaxed);
        if self.json {
            let named = refused.named.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            context.output.json(&json!({
                "files": sum.files,
                "bytes": sum.bytes,
                "hashed_files": sum.hashed_files,
                "hashed_bytes": sum.hashed_bytes,
                "unchanged_files": sum.unchanged,
                "present_files": sum.present,
                "copied_files": sum.copied,
                "cloned_files": sum.cloned,
                "linked_files": sum.linked,
                "in_place_files": sum.in_place,
                "gone_files": gone,
                "failed": failed,
                "errors": *named,
            }))?;
        } else if io::stderr().is_terminal() {
            let hashed = rounded_bytes(sum.hashed_bytes);
            let text = format!("{} imported, {hashed} hashed, {gone} gone since", files(sum.files));
            complain(Tone::Note, text);
        }
        match failed {
            0 => Ok(()),
            1 => Err(Failure::Work("1 path was not imported, all others were".to_owned())),
            count => Err(Failure::Work(format!("{count} paths were not imported, all others were"))),
        }
    }
}

/// Forgets the files in place below `paths` that are no longer there; how many.
fn rescan(store: &Store, paths: &[PathBuf]) -> Result<u64, Failure> {
    let mut gone = 0;
    for path in paths {
        gone += store.check_in_place(&absolute(path), || false)?.gone;
    }
    Ok(gone)
}

/// A path as it is imported. One that leads nowhere (any more) is taken as it is written.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// A path in one line: a name may have anything in it, also what a terminal obeys.
struct Shown<'a>(&'a Path);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.to_string_lossy();
        match text.contains(char::is_control) {
            true => write!(f, "{}", text.escape_debug()),
            false => f.write_str(&text),
        }
    }
}
