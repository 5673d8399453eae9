//! Results to standard output, complaints to standard error, and how a command ends.

use crate::config::{ConfigError, Warning};
use serde::Serialize;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// How many bytes are copied to standard output at a time.
const COPY_BLOCK: usize = 256 * 1024;

/// Standard output, for results only. A reader that goes away ends the command quietly.
pub(super) struct Output(io::Stdout);

impl Output {
    pub(super) fn new() -> Self {
        Self(io::stdout())
    }

    /// One line.
    pub(super) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.0, "{line}").map_err(|error| Failure::of_output(&error))
    }

    /// A text that ends its own lines.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        write!(self.0, "{text}").and_then(|()| self.0.flush()).map_err(|error| Failure::of_output(&error))
    }

    /// Bytes, until `source` ends. `told` says what went wrong with the source.
    pub(super) fn copy(
        &mut self,
        source: &mut impl io::Read,
        told: impl FnOnce(&io::Error) -> String,
    ) -> Result<(), Failure> {
        let mut block = vec![0; COPY_BLOCK];
        loop {
            let count = match source.read(&mut block) {
                Ok(0) => return self.0.flush().map_err(|error| Failure::of_output(&error)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Work(told(&error))),
            };
            self.0.write_all(&block[..count]).map_err(|error| Failure::of_output(&error))?;
        }
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).map_err(|error| Failure::of_output(&error))
    }

    /// One JSON document.
    pub(super) fn json(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| Failure::Work(format!("cannot write the result as JSON: {error}")))?;
        self.line(text)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The work failed: what, and what to do.
    Work(String),
    /// What the user typed or configured is wrong.
    Usage(String),
    /// Nobody reads our output any more.
    OutputClosed,
}

impl Failure {
    /// A failure to write a result.
    pub(super) fn of_output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Work(format!("cannot write to standard output: {error}"))
    }

    /// Says it on standard error; the exit code that belongs to it.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            Self::Work(text) => {
                complain(Tone::Error, text);
                ExitCode::from(1)
            }
            Self::Usage(text) => {
                text.lines().for_each(|line| complain(Tone::Error, line));
                ExitCode::from(2)
            }
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// What to do where a file cannot be written, with what joins it to the error's text; nothing where we do not know.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; make its directory first",
        io::ErrorKind::AlreadyExists => "; move it away or choose another name",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a place that is yours to write to"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there or choose another place"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => "; choose another place",
        _ => "",
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Tone {
    Error,
    Warning,
    Note,
}

/// A line on standard error. Coloured for a terminal, unless NO_COLOR is set to anything (no-color.org).
pub(super) fn complain(tone: Tone, text: impl fmt::Display) {
    let (word, colour) = match tone {
        Tone::Error => ("error", "\x1b[1;31m"),
        Tone::Warning => ("warning", "\x1b[1;33m"),
        Tone::Note => ("note", "\x1b[1m"),
    };
    let mut stderr = io::stderr().lock();
    // Where standard error is closed there is nobody to tell.
    let _ = if is_coloured() {
        writeln!(stderr, "{colour}{word}:\x1b[0m {text}")
    } else {
        writeln!(stderr, "{word}: {text}")
    };
}

/// Tells the user what the configuration has that does not stop us.
pub(super) fn warn_of(warnings: &[Warning]) {
    warnings.iter().for_each(|warning| complain(Tone::Warning, warning));
}

/// Whether standard error shows colours.
pub(super) fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the terminal, by its own word, can do no more than print (terminfo's `dumb`).
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}
