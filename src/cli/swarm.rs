//! `aptpeer swarm`

use std::path::PathBuf;

use super::Context;
use super::output::Failure;
use crate::daemon;

#[derive(clap::Subcommand)]
pub(super) enum Action {
    /// Make the secret of a new private swarm; its members name the file in swarm.secret_file
    Create {
        /// Where the secret is written; must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// The secret goes to the file, the tag by which members can see that they have the same one to standard output.
pub(super) fn run(action: &Action, context: &mut Context) -> Result<(), Failure> {
    let Action::Create { file } = action;
    let swarm = daemon::create_secret(file).map_err(|error| Failure::Work(error.to_string()))?;
    context.output.line(swarm.tag())
}
