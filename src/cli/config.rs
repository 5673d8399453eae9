//! `aptpeer config`

use super::Context;
use super::output::{Failure, remedy, warn_of};
use crate::config::sample_file;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub(super) enum Action {
    /// Print the values in use and where each came from
    Show {
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print a commented file with every key and its default
    Init {
        /// Write it to this file, which must not exist yet
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Say whether the configuration holds, and every problem if it does not
    Check,
}

pub(super) fn run(action: &Action, context: &mut Context) -> Result<(), Failure> {
    match action {
        Action::Show { json } => show(*json, context),
        Action::Init { output: Some(path) } => create(path),
        Action::Init { output: None } => context.output.text(&sample_file()),
        Action::Check => check(context),
    }
}

fn show(json: bool, context: &mut Context) -> Result<(), Failure> {
    let loaded = context.load()?;
    if json { context.output.json(&loaded.to_json()) } else { context.output.text(&loaded.to_toml()) }
}

fn create(path: &Path) -> Result<(), Failure> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(sample_file().as_bytes()));
    written
        .map_err(|error| Failure::Work(format!("cannot write {}: {error}{}", path.display(), remedy(&error))))
}

fn check(context: &mut Context) -> Result<(), Failure> {
    let loaded = context.load()?;
    warn_of(&loaded.warnings);
    if loaded.files.is_empty() {
        return context.output.line("the configuration is good (no file, defaults only)");
    }
    let files: Vec<_> = loaded.files.iter().map(|path| path.display().to_string()).collect();
    context.output.line(format_args!("the configuration is good ({})", files.join(", ")))
}
