//! `aptpeer doctor`: goes through everything that can stand in the way, and says of each what to do.

mod apt;
mod machine;
mod node;
mod ports;

use std::fmt;

use serde::Serialize;

use super::Context;
use super::output::Failure;
use crate::daemon::Record;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// Something does not work.
    Failure,
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    about: &'static str,
    verdict: Verdict,
    text: String,
    /// What to do about it.
    remedy: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Ok, text: text.into(), remedy: None }
    }

    fn warning(about: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Warning, text: text.into(), remedy: Some(remedy.into()) }
    }

    fn failure(about: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failure, ..Self::warning(about, text, remedy) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failure => "failure",
        };
        write!(f, "{verdict:<8} {:<9} {}", self.about, self.text)?;
        let Some(remedy) = &self.remedy else { return Ok(()) };
        write!(f, "\n{:19}-> {remedy}", "")
    }
}

/// Fails if anything does not work.
pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let settings = context.settings()?;
    let record = Record::read(&settings.state.path);
    let mut findings = node::daemon(&settings, record.as_ref());
    findings.extend(apt::findings(&settings, record.as_ref()));
    findings.extend(machine::findings(&settings));
    if arguments.json {
        context.output.json(&findings)?;
    } else {
        findings.iter().try_for_each(|finding| context.output.line(finding))?;
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Failure).count() {
        0 => Ok(()),
        1 => Err(Failure::Work("one thing does not work: see above".to_owned())),
        more => Err(Failure::Work(format!("{more} things do not work: see above"))),
    }
}
