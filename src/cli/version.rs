//! `aptpeer version`

use super::Context;
use super::output::Failure;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if arguments.json {
        return context.output.json(&serde_json::json!({ "name": "aptpeer", "version": version }));
    }
    context.output.line(format_args!("aptpeer {version}"))
}
