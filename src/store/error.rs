//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Sha256;
use crate::pieces::TooLong;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room for this object, and evicting what may be evicted would not make it.
    #[error("no room in the cache for {length} bytes more: {limit} stands in the way")]
    Full {
        /// The bytes that were to be added.
        length: u64,
        /// What is exhausted: a setting, the disk or the memory for objects that have no room on disk.
        limit: &'static str,
    },
    /// The bytes on disk are not those that the digest names. The object has left the store.
    #[error("object {id} is damaged on disk: {what}")]
    Damaged {
        /// The object.
        id: Sha256,
        /// How it shows.
        what: String,
    },
    /// An object that was assembled in memory was to be published.
    #[error("object {0} was assembled in memory and cannot be published")]
    InMemory(Sha256),
    /// The catalog was written by a newer program.
    #[error("{path} is of version {found}, this program knows {known}: upgrade it or use another cache.path")]
    TooNew {
        /// The catalog.
        path: PathBuf,
        /// The version it says it has.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// An assembly was used as it must not be; the words say how.
    #[error("object {id}: {what}")]
    Misuse {
        /// The object.
        id: Sha256,
        /// What was wrong.
        what: &'static str,
    },
    /// A file that is too long to be an object.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The operating system refused.
    #[error("{doing} {path}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("using the catalog of the cache")]
    Catalog(#[from] rusqlite::Error),
}

impl StoreError {
    /// The object of the file at `path` left the store while it was imported.
    pub(super) fn vanished(path: &Path) -> Self {
        let source = io::Error::other("it was evicted meanwhile: import it again");
        Self::Io { doing: "importing", path: path.to_owned(), source }
    }

    /// For `map_err`: the system refused `doing` something to `path`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// As [`StoreError::io`], where `length` bytes are being added: a full disk is [`StoreError::Full`].
    pub(super) fn adding(length: u64, doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { length, limit: "the disk" }
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }
}
