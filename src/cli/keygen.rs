//! `aptpeer keygen`

use std::path::PathBuf;

use super::Context;
use super::output::Failure;
use super::publisher::Publisher;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where the private key is written; must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The private key goes to the file, the public one, which clients name in their configuration, to standard output.
pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let publisher = Publisher::generate()?;
    publisher.save(&arguments.file)?;
    context.output.line(publisher.public_key_hex())
}
