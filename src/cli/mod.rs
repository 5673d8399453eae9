//! The command line: one file per command.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done; 1 the work failed; 2 bad
//! usage or bad configuration.

mod arenas;
mod ask;
mod bootstrap;
mod cache;
mod config;
mod daemon;
mod detect;
mod doctor;
mod examples;
mod get;
mod keygen;
mod logging;
mod man;
mod objects;
mod output;
mod peers;
mod progress;
mod publish;
mod publisher;
mod readable;
mod seed;
mod status;
mod swarm;
mod version;
mod walk;

use crate::config::{Loaded, Log, LogFormat, LogLevel, Settings, Surroundings, Typed, load};
use crate::store::{Store, StoreConfig};
use clap::builder::PossibleValuesParser;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use examples::with_examples;
use objects::explain;
use output::{Failure, Output};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// A peer-to-peer proxy for apt: verified pieces from peers, the mirror as the last resort.
#[derive(Parser)]
#[command(name = "aptpeer", version, arg_required_else_help = true)]
struct Arguments {
    /// Read this configuration file; it wins over those in the usual places
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// How much is said on standard error
    #[arg(long, global = true, value_name = "LEVEL", value_parser = levels())]
    log_level: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole node: apt's proxy, the peers' server, the cache
    Daemon,
    /// Run a node of the DHT that others enter the network by: no cache, no proxy, no apt
    Bootstrap(bootstrap::Arguments),
    /// Fetch one file from peers and the mirror
    Get(get::Arguments),
    /// For apt's Proxy-Auto-Detect: print the proxy's URL if the daemon is well, and nothing otherwise
    #[command(hide = true)]
    Detect(detect::Arguments),
    /// Say how the running daemon does
    Status(status::Arguments),
    /// List the peers that the running daemon knows
    Peers(peers::Arguments),
    /// Look after the files that are kept
    Cache(cache::Arguments),
    /// Offer local files to other peers
    #[command(subcommand)]
    Seed(seed::Action),
    /// Make a key to publish signed piece lists with
    Keygen(keygen::Arguments),
    /// Vouch for files: store their piece lists, signed, in the DHT
    Publish(publish::Arguments),
    /// Look after a private swarm
    #[command(subcommand)]
    Swarm(swarm::Action),
    /// Show, check or begin a configuration
    #[command(subcommand)]
    Config(config::Action),
    /// Say what stands in the way, and what to do about it
    Doctor(doctor::Arguments),
    /// Print what completes the command line in a shell
    Completions(man::Completions),
    /// Print the manual
    Man(man::Manual),
    /// Print the version
    Version(version::Arguments),
}

impl Command {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Daemon => daemon::run(context),
            Self::Bootstrap(arguments) => bootstrap::run(arguments, context),
            Self::Detect(arguments) => {
                detect::run(&arguments, context);
                Ok(())
            }
            Self::Get(arguments) => get::run(&arguments, context),
            Self::Status(arguments) => status::run(&arguments, context),
            Self::Peers(arguments) => peers::run(&arguments, context),
            Self::Cache(arguments) => cache::run(&arguments, context),
            Self::Seed(action) => seed::run(&action, context),
            Self::Keygen(arguments) => keygen::run(&arguments, context),
            Self::Publish(arguments) => publish::run(&arguments, context),
            Self::Swarm(action) => swarm::run(&action, context),
            Self::Config(action) => config::run(&action, context),
            Self::Doctor(arguments) => doctor::run(&arguments, context),
            Self::Completions(arguments) => man::completions(&arguments, context),
            Self::Man(arguments) => man::man(&arguments, context),
            Self::Version(arguments) => version::run(&arguments, context),
        }
    }
}

/// Runs the command that `arguments` (the program's name first) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = with_examples(Arguments::command()).try_get_matches_from(arguments);
    let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version asked for are results, everything else is bad usage; clap knows which stream is whose.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let mut typed = Typed { config: arguments.config, flags: Vec::new() };
    let level = arguments.log_level;
    typed.flags.extend(level.map(|level| ("log.level", "--log-level", level)));

    let mut context = Context { typed, around: Surroundings::of_this_process(), output: Output::new() };
    match arguments.command.run(&mut context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What every command has at hand.
struct Context {
    typed: Typed,
    around: Surroundings,
    output: Output,
}

impl Context {
    fn load(&self) -> Result<Loaded, Failure> {
        Ok(load(&self.typed, &self.around)?)
    }

    /// The settings, for a command that works once and leaves: what goes wrong it tells itself, so only
    /// `--log-level` makes it log more than errors (`log.level` is about the daemon).
    fn settings(&self) -> Result<Settings, Failure> {
        let settings = self.load()?.settings;
        let level = if self.typed.flags.is_empty() { LogLevel::Error } else { settings.log.level };
        logging::start(&Log { level, format: LogFormat::Text });
        Ok(settings)
    }

    /// The store that the settings name; works beside a daemon that uses it.
    fn store(&self) -> Result<Store, Failure> {
        let cache = self.settings()?.cache;
        let path = cache.path.clone();
        let max_size = cache.max_size.bytes();
        let min_free_space = cache.min_free_space.bytes();
        Store::open(StoreConfig { path: cache.path, max_size, min_free_space }).map_err(|error| {
            Failure::Work(format!(
                "cannot use the cache at {} (cache.path): {}",
                path.display(),
                explain(&error)
            ))
        })
    }
}

fn levels() -> PossibleValuesParser {
    PossibleValuesParser::new(LogLevel::ALL.iter().map(|level| level.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        with_examples(Arguments::command()).debug_assert();
    }
}
