//! `aptpeer cache`

use super::Context;
use super::objects::{document, explain, files, line};
use super::output::{Failure, Output, Tone, complain, remedy};
use super::progress::Progress;
use crate::digest::Sha256;
use crate::status::rounded_bytes;
use crate::store::{Object, Stats, Store, Verdict};
use serde_json::json;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print a JSON document
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the files, the one unused for longest first
    List,
    /// Say how much is kept and how much may be
    Stats,
    /// Read every file and remove those that are damaged
    Verify,
    /// Remove every file that is not pinned
    Clear,
    /// Keep a file whatever the cache's size
    Pin {
        /// The file's SHA-256
        sha256: Sha256,
    },
    /// Let a file be removed again to make room
    Unpin {
        /// The file's SHA-256
        sha256: Sha256,
    },
    /// Write a file's bytes to standard output or to a file
    Export {
        /// The file's SHA-256
        sha256: Sha256,
        /// Write to this file, replacing it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let store = context.store()?;
    let (json, output) = (arguments.json, &mut context.output);
    match &arguments.action {
        Action::List => list(&store, json, output),
        Action::Stats => stats(&store.stats()?, json, output),
        Action::Verify => verify(&store, json, output),
        Action::Clear => clear(&store, json, output),
        Action::Pin { sha256 } => told_of(sha256, store.pin(sha256)?, "pinned", true, json, output),
        Action::Unpin { sha256 } => {
            told_of(sha256, store.unpin(sha256)?, "no longer pinned", false, json, output)
        }
        Action::Export { sha256, output: to } => export(&store, sha256, to.as_deref(), json, output),
    }
}

fn list(store: &Store, json: bool, output: &mut Output) -> Result<(), Failure> {
    let entries = store.list()?;
    if json {
        return output.json(&entries.iter().map(document).collect::<Vec<_>>());
    }
    entries.iter().try_for_each(|entry| output.line(line(entry)))
}

fn stats(stats: &Stats, json: bool, output: &mut Output) -> Result<(), Failure> {
    if json {
        return output.json(&json!({
            "files": stats.objects,
            "bytes": stats.bytes,
            "pinned_files": stats.pinned_objects,
            "pinned_bytes": stats.pinned_bytes,
            "in_place_files": stats.in_place_objects,
            "in_place_bytes": stats.in_place_bytes,
            "assembling_bytes": stats.assembling_bytes,
            "free_space": stats.free_space,
            "max_size": stats.max_size,
            "min_free_space": stats.min_free_space,
        }));
    }
    let bytes = rounded_bytes;
    output.line(format_args!("files             {}", stats.objects))?;
    output.line(format_args!(
        "size              {} of at most {}",
        bytes(stats.bytes),
        bytes(stats.max_size)
    ))?;
    output.line(format_args!(
        "pinned            {} in {}",
        bytes(stats.pinned_bytes),
        files(stats.pinned_objects)
    ))?;
    if stats.in_place_objects > 0 {
        output.line(format_args!(
            "served in place   {} in {}, beside the cache",
            bytes(stats.in_place_bytes),
            files(stats.in_place_objects)
        ))?;
    }
    output.line(format_args!("being downloaded  {}", bytes(stats.assembling_bytes)))?;
    let (free, least) = (bytes(stats.free_space), bytes(stats.min_free_space));
    output.line(format_args!("free on the disk  {free}, of which {least} stay free"))
}

fn verify(store: &Store, json: bool, output: &mut Output) -> Result<(), Failure> {
    let mut damaged = Vec::new();
    let progress = if json { Progress::none() } else { Progress::of_bytes(Some(store.stats()?.bytes)) };
    let found = store.verify_all(|entry, verdict| {
        progress.advance(entry.length);
        if verdict == Verdict::Damaged {
            let text = format_args!("{} was damaged and is removed", entry.id);
            progress.aside(|| complain(Tone::Warning, text));
            damaged.push(entry.id.to_string());
        }
    })?;
    drop(progress);
    if json {
        let whole = (found.whole, found.whole_bytes);
        output.json(&json!({ "whole_files": whole.0, "whole_bytes": whole.1, "damaged": damaged }))?;
    } else {
        output.line(format_args!("{} ({}) whole", files(found.whole), rounded_bytes(found.whole_bytes)))?;
    }
    if found.damaged == 0 {
        return Ok(());
    }
    let count = files(found.damaged);
    Err(Failure::Work(format!("{count} damaged and removed: look at the disk; apt will fetch them again")))
}

fn clear(store: &Store, json: bool, output: &mut Output) -> Result<(), Failure> {
    let cleared = store.clear()?;
    if json {
        output
            .json(&json!({ "files": cleared.objects, "bytes": cleared.bytes, "failed": cleared.failed }))?;
    } else {
        output.line(format_args!("removed {} ({})", files(cleared.objects), rounded_bytes(cleared.bytes)))?;
    }
    if cleared.failed == 0 {
        return Ok(());
    }
    let count = files(cleared.failed);
    Err(Failure::Work(format!("{count} could not be removed: run the command as the user of the daemon")))
}

/// Answers `pin` and `unpin`.
fn told_of(
    id: &Sha256,
    found: bool,
    words: &str,
    pinned: bool,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if !found {
        return Err(absent(id));
    }
    if json {
        return output.json(&json!({ "sha256": id.to_string(), "pinned": pinned }));
    }
    output.line(format_args!("{id} is {words}"))
}

fn export(
    store: &Store,
    id: &Sha256,
    to: Option<&Path>,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let object = store.get(id)?.ok_or_else(|| absent(id))?;
    let Some(path) = to.filter(|path| path.as_os_str() != "-") else {
        return export_to_stdout(&object, json, output);
    };
    write_file(&object, path).map_err(|error| {
        Failure::Work(format!("cannot write {id} to {}: {}{}", path.display(), told(&error), remedy(&error)))
    })?;
    if json {
        return output.json(&json!({ "sha256": id.to_string(), "size": object.length(), "path": path }));
    }
    Ok(())
}

fn export_to_stdout(object: &Arc<Object>, json: bool, output: &mut Output) -> Result<(), Failure> {
    if json {
        return Err(Failure::Usage(
            "--json and the file cannot both go to standard output: add -o FILE".to_owned(),
        ));
    }
    if io::stdout().is_terminal() {
        let text = "the file is not for a terminal: redirect standard output or add -o FILE";
        return Err(Failure::Usage(text.to_owned()));
    }
    output.copy(&mut object.reader(), |error| format!("cannot read {}: {}", object.id(), told(error)))
}

/// Writes beside `path` and renames, so that nobody sees half a file, nor one whose rest turned out to be damaged.
/// A device or a pipe is written to as it is.
fn write_file(object: &Arc<Object>, path: &Path) -> io::Result<()> {
    let path = match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            let mut special = File::options().write(true).open(path)?;
            return io::copy(&mut object.reader(), &mut special).map(|_| ());
        }
        Ok(_) => path.canonicalize()?,
        Err(_) => path.to_owned(),
    };
    let mut partial = std::ffi::OsString::from(".");
    partial.push(path.file_name().unwrap_or_default());
    partial.push(format!(".aptpeer-{}", std::process::id()));
    let partial = path.with_file_name(partial);

    let mut file = File::create_new(&partial)?;
    let written = io::copy(&mut object.reader(), &mut file)
        .and_then(|_| file.sync_all())
        .and_then(|()| std::fs::rename(&partial, &path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// What the reader of an object says: the system's error, or the store's inside.
fn told(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.map_or_else(|| error.to_string(), explain)
}

fn absent(id: &Sha256) -> Failure {
    Failure::Work(format!("{id} is not in the cache: `aptpeer cache list` prints what is"))
}
