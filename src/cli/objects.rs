//! How stored objects and the store's errors are told, to people and to programs.

use super::output::Failure;
use crate::causes::Causes;
use crate::clock;
use crate::status::{rounded_bytes, rounded_time};
use crate::store::{Entry, Origin, Scope, StoreError};
use serde_json::{Value, json};
use std::io;

/// A line for people: digest, size, how long unused, and what is special.
pub(super) fn line(entry: &Entry) -> String {
    let unused = rounded_time(clock::unix_seconds().saturating_sub(entry.used));
    let special = [
        (entry.pinned, "pinned"),
        (entry.origin.is_seed(), "seed"),
        (!entry.origin.is_announced(), "silent"),
        (entry.scope == Scope::Local, "local"),
        (entry.in_place, "in place"),
    ];
    let special: Vec<_> = special.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
    let line =
        format!("{}  {:>8}  {unused:>9} ago  {}", entry.id, rounded_bytes(entry.length), special.join(" "));
    line.trim_end().to_owned()
}

/// A value for programs. Times are seconds since 1970-01-01 UTC.
pub(super) fn document(entry: &Entry) -> Value {
    let origin = match entry.origin {
        Origin::Download => "download",
        Origin::Seed | Origin::SilentSeed => "seed",
    };
    json!({
        "sha256": entry.id.to_string(),
        "size": entry.length,
        "origin": origin,
        "announce": entry.origin.is_announced() && entry.scope == Scope::Public,
        "scope": if entry.scope == Scope::Public { "public" } else { "local" },
        "pinned": entry.pinned,
        "in_place": entry.in_place,
        "added": entry.added,
        "used": entry.used,
        "last_modified": entry.last_modified,
    })
}

/// `1 file`, `2 files`.
pub(super) fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// An error with its causes, and what to do where we know.
pub(super) fn explain(error: &StoreError) -> String {
    let text = Causes(error).to_string();
    match advice(error) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

fn advice(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Full { .. } => {
            Some("raise cache.max_size, lower cache.min_free_space or run `aptpeer cache clear`")
        }
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Some("run the command as the user of the daemon, or set cache.path")
        }
        StoreError::Catalog(rusqlite::Error::SqliteFailure(error, _)) => match error.code {
            rusqlite::ErrorCode::DatabaseBusy => Some("another process is busy with it: try again"),
            rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen => {
                Some("run the command as the user of the daemon, or set cache.path")
            }
            _ => None,
        },
        _ => None,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Work(explain(&error))
    }
}
