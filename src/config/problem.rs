//! What can be wrong with a configuration, and how the user is told.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Variable(String),
    /// A flag of the command line, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One thing that must be put right before the program can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A file that was named, or that exists in a usual place, cannot be read.
    #[error("cannot read configuration file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said, and what to do where we know.
        reason: String,
    },
    /// A file is not TOML.
    #[error("{} line {line} is not valid TOML: {reason}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser missed, in one line.
        reason: String,
    },
    /// No such key.
    #[error("unknown key {name} = {value} ({origin}): {advice}")]
    UnknownKey {
        /// As the user wrote it, sections and all.
        name: String,
        /// As the user wrote it.
        value: String,
        /// Where.
        origin: Origin,
        /// The nearest key, or how to see all.
        advice: String,
    },
    /// No such environment variable.
    #[error("unknown environment variable {name} = {value}: {advice}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// The nearest variable, or how to see all.
        advice: String,
    },
    /// A value that the key does not take.
    #[error("{key} = {value} is not allowed ({origin}): allowed is {allowed}")]
    Refused {
        /// The key, or the section where a section was expected.
        key: String,
        /// The part of the value that was refused.
        value: String,
        /// Where.
        origin: Origin,
        /// What would do.
        allowed: String,
    },
    /// No usual place to fall back on.
    #[error(
        "{key} is empty and there is no usual place for it, as HOME is not set: set {key} to an absolute path"
    )]
    NoPlace {
        /// The key.
        key: &'static str,
    },
}

/// Everything that is wrong, one problem a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// Something the user should know, which does not stop the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The feature behind the key comes in a later version.
    NoEffect {
        /// The key.
        key: &'static str,
        /// Its value, as TOML.
        value: String,
        /// Where it was set.
        origin: Origin,
    },
    /// The proxy listens to the network but lets nobody in from there.
    NobodyAdmitted {
        /// The value of `proxy.listen`.
        listen: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEffect { key, value, origin } => {
                write!(f, "{key} = {value} ({origin}) has no effect in this version of aptpeer")
            }
            Self::NobodyAdmitted { listen } => write!(
                f,
                "proxy.listen = \"{listen}\" is open to the network, but proxy.allow_clients names only this machine: \
                 add the networks whose machines may use it"
            ),
        }
    }
}
