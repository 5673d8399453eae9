//! What a killed process left behind, put in order at the next start.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::catalog::{self, Durability};
use super::disk;
use super::error::StoreError;
use super::layout::object_in_shard;
use super::{Shared, Store};
use crate::digest::Sha256;

/// What [`Store::recover`] put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Partial files that nobody owned any more and nobody can go on with.
    pub partials: u64,
    /// The bytes they took.
    pub partial_bytes: u64,
    /// Rows of the catalog without a file.
    pub rows: u64,
    /// Files among the objects without a row: a publish that was interrupted, or a catalog that was lost.
    pub files: u64,
}

impl Store {
    /// Puts in order what a killed process left behind, and makes the cache as small as it is to be. For the daemon's
    /// start; safe beside other processes that use
    /// the same cache, and beside this one. It reads names, no files.
    ///
    /// # Errors
    /// What the system or SQLite refused; what was done by then is.
    pub fn recover(&self) -> Result<Recovery, StoreError> {
        let (partials, partial_bytes) = self.shared.sweep_partials(0)?;
        let mut recovery = Recovery { partials, partial_bytes, ..Recovery::default() };
        for first in 0..=u8::MAX {
            self.shared.reconcile_shard(first, &mut recovery)?;
        }
        // Two processes may have published into the same room, and died before they made up for it.
        self.shared.trim();
        Ok(recovery)
    }
}

impl Shared {
    /// Compares the files of one directory with the rows that belong there.
    fn reconcile_shard(&self, first: u8, recovery: &mut Recovery) -> Result<(), StoreError> {
        let files = self.objects_in_shard(first)?;
        let rows: HashSet<Sha256> =
            self.catalog.read(|c| catalog::ids_in_shard(c, first))?.into_iter().collect();
        if files == rows {
            return Ok(());
        }
        // Somebody may be publishing or evicting right now: look again where nobody can.
        self.catalog.write(Durability::Relaxed, |catalog| {
            let files = self.objects_in_shard(first)?;
            let rows: HashSet<Sha256> = catalog::ids_in_shard(catalog, first)?.into_iter().collect();
            for id in files.difference(&rows) {
                self.unlink(id)?;
                recovery.files += 1;
            }
            for id in rows.difference(&files) {
                catalog::delete(catalog, id)?;
                recovery.rows += 1;
            }
            Ok(())
        })
    }

    /// The objects that lie in one directory; files with other names are not ours to judge.
    fn objects_in_shard(&self, first: u8) -> Result<HashSet<Sha256>, StoreError> {
        let files = files_in(&self.layout.shard(first))?;
        Ok(files.iter().filter_map(|path| object_in_shard(first, path.file_name()?.to_str()?)).collect())
    }
}

/// The paths in `folder`, none where there is no such folder.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::io("listing", folder))?,
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(StoreError::io("listing", folder))
}

/// Removes the partial file at `path` unless its owner lives; the bytes it had. `worthless` is asked when it is locked.
pub(super) fn remove_if_unowned(path: &Path, worthless: impl FnOnce() -> bool) -> io::Result<Option<u64>> {
    let file = match disk::open_regular(path, true) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // Not a regular file: none of ours.
        Err(_) => return Ok(None),
    };
    if !disk::try_lock(&file) || !worthless() {
        return Ok(None);
    }
    // The lock is ours, so the name is still that of a leftover: an owner would have renamed or removed it locked.
    let bytes = file.metadata()?.len();
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        removed => removed.map(|()| Some(bytes)),
    }
}
