//! The log, on standard error.

use super::output::is_coloured;
use crate::config::{Log, LogFormat, LogLevel};
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Begins to log. What libraries say below a warning is of use only to those who trace.
pub(super) fn start(log: &Log) {
    let filter = match log.level {
        LogLevel::Error => "error".to_owned(),
        LogLevel::Trace => "debug,aptpeer=trace".to_owned(),
        level => format!("warn,aptpeer={level}"),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(is_coloured());
    // A log that has begun already stays as it is.
    let _ = match log.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
}
