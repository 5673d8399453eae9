//! Local files into the store.

use std::fs::File;
use std::path::Path;

use rustix::fs::ioctl_ficlone;

use super::catalog::{self, Durability, Origin, Scope};
use super::disk::{self, READ_BLOCK, WRITE_BLOCK};
use super::error::StoreError;
use super::{Assembly, Store};
use crate::digest::Sha256;
use crate::pieces::{Geometry, State};

/// A file that is now an object of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Its digest.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// Whether the store had it already.
    pub was_there: bool,
}

impl Store {
    /// Copies the regular file at `path` into the store, sharing its blocks where the file system can. An object that
    /// is there already only gets the new `origin`: importing a directory again costs no more than reading it.
    ///
    /// # Errors
    /// [`StoreError::Full`] where there is no room; [`StoreError::TooLong`]; else what the system refused, also where
    /// `path` is no regular file or changes while it is read.
    pub fn import_file(&self, path: &Path, origin: Origin) -> Result<Imported, StoreError> {
        let source = disk::open_regular(path, false).map_err(StoreError::io("opening", path))?;
        let length = source.metadata().map_err(StoreError::io("looking at", path))?.len();
        let geometry = Geometry::new(length)?;
        let (id, states) = disk::walk_file(&source, geometry, READ_BLOCK, |_, _| Ok(()))
            .map_err(StoreError::io("reading", path))?;

        // What is not to be announced is not for those who would only know of it by an announcement either.
        let scope = if origin.is_announced() { Scope::Public } else { Scope::Local };
        if self.get(&id)?.is_some() {
            let write = |catalog: &_| {
                Ok(catalog::set_scope(catalog, &id, scope)? && catalog::set_origin(catalog, &id, origin)?)
            };
            if self.shared.catalog.write(Durability::Full, write)? {
                return Ok(Imported { id, length, was_there: true });
            }
        }
        let assembly = self.assemble(id, geometry)?;
        if copy(&source, path, &assembly)? != (id, states.clone()) {
            return Err(StoreError::io("reading", path)(std::io::Error::other(
                "it changes while it is read",
            )));
        }
        assembly.publish_as(states, None, origin, scope)?;
        Ok(Imported { id, length, was_there: false })
    }
}

/// Fills `assembly` from `source`; the digest and the states of what is in it then.
fn copy(source: &File, path: &Path, assembly: &Assembly) -> Result<(Sha256, Vec<State>), StoreError> {
    let geometry = assembly.geometry();
    let failed = |error: CopyError| match error {
        CopyError::Read(error) => StoreError::io("reading", path)(error),
        CopyError::Write(error) => error,
    };
    if share_blocks(source, assembly) {
        return disk::walk_file(assembly.file(), geometry, READ_BLOCK, |_, _| Ok(())).map_err(failed);
    }
    let write = |at, block: &[u8]| assembly.write_at(at, block).map_err(CopyError::Write);
    disk::walk_file(source, geometry, WRITE_BLOCK, write).map_err(failed)
}

/// Whether the file system could give `assembly` the blocks of `source`, so that the copy takes no room.
fn share_blocks(source: &File, assembly: &Assembly) -> bool {
    let length = |file: &File| file.metadata().map(|metadata| metadata.len());
    assembly.geometry().length() > 0
        && ioctl_ficlone(assembly.file(), source).is_ok()
        && length(assembly.file()).is_ok_and(|length| length == assembly.geometry().length())
}

enum CopyError {
    Read(std::io::Error),
    Write(StoreError),
}

impl From<std::io::Error> for CopyError {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}
