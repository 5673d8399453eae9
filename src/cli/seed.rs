//! `aptpeer seed`

use super::Context;
use super::objects::{document, explain, line};
use super::output::{Failure, Tone, complain};
use super::walk::regular_files;
use crate::store::{Origin, Store};
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub(super) enum Action {
    /// Add local .deb and index files to the cache
    Import {
        /// Also take the files below directories
        #[arg(short, long)]
        recursive: bool,
        /// Offer the files on the local network and in the private swarm only, and do not announce them
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
    for found in regular_files(paths, recursive) {
        match found {
            Ok(file) => add(&store, &file, origin, context, &mut refuse)?,
            Err((path, error)) => refuse(&path, &error),
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
