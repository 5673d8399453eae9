//! One file: looked at, hashed, and put into the cache where it is new.

use std::collections::HashSet;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Advice, AtFlags, CWD, fadvise, ioctl_ficlone, linkat};

use super::super::assembly::Partial;
use super::super::catalog;
use super::super::disk::{self, Mark, WRITE_BLOCK};
use super::super::error::StoreError;
use super::super::{Shared, lock};
use super::{How, Import, Way};
use crate::digest::Sha256;
use crate::pieces::{Geometry, State};

/// The bits of a mode that let others than the owner write (inode(7)).
const OTHERS_WRITE: u32 = 0o022;

/// The bit of a mode that lets everybody read.
const ALL_READ: u32 = 0o004;

/// A file that is ready to be written to the catalog.
pub(super) struct Taken {
    /// Its name without links and dots.
    pub(super) path: PathBuf,
    pub(super) mark: Mark,
    pub(super) id: Sha256,
    /// `None` where it was not hashed.
    pub(super) states: Option<Vec<State>>,
    pub(super) how: How,
    /// What is to be moved into its place in the cache.
    pub(super) new: Option<Moving>,
}

/// A file below `partial/`, locked, so that nobody takes it for a leftover.
pub(super) struct Moving {
    pub(super) partial: Partial,
    pub(super) file: File,
}

/// A thread that takes files.
pub(super) struct Hand<'a> {
    store: &'a Arc<Shared>,
    import: Import,
    /// The cache's own directory, whose files are no others'.
    own: Option<PathBuf>,
    /// The file systems whose blocks the cache cannot share.
    apart: HashSet<u64>,
}

impl<'a> Hand<'a> {
    pub(super) fn new(store: &'a Arc<Shared>, import: Import) -> Self {
        Self { store, import, own: store.layout.root().canonicalize().ok(), apart: HashSet::new() }
    }

    /// Takes the file at `path`; `hashed` grows with every block.
    pub(super) fn take(&mut self, path: &Path, hashed: &AtomicU64) -> Result<Taken, StoreError> {
        let full = path.canonicalize().map_err(StoreError::io("opening", path))?;
        if self.own.as_ref().is_some_and(|own| full.starts_with(own)) {
            return Err(StoreError::io("importing", path)(io::Error::other(
                "it belongs to the cache itself",
            )));
        }
        let file = disk::open_regular(&full, true).map_err(StoreError::io("opening", path))?;
        let metadata = file.metadata().map_err(StoreError::io("looking at", path))?;
        let mark = Mark::of(&metadata);
        if let Some(known) = self.store.known_file(&full, &mark)? {
            let taken =
                Taken { path: full, mark, id: known.id, states: None, how: How::Unchanged, new: None };
            return Ok(taken);
        }

        let geometry = Geometry::new(metadata.len())?;
        // Only a hint.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        let count = |_, block: &[u8]| {
            hashed.fetch_add(block.len() as u64, Ordering::Relaxed);
            Ok(())
        };
        let reading = |error| StoreError::io("reading", path)(error);
        let (id, states) = disk::walk_file(&file, geometry, WRITE_BLOCK, count).map_err(reading)?;
        disk::unchanged(&file, &mark).map_err(reading)?;

        let (how, new) = self.bring(&file, &metadata, id, geometry, path)?;
        Ok(Taken { path: full, mark, id, states: Some(states), how, new })
    }

    /// Puts a file that was hashed where it may be moved into the cache, unless it stays or its object is here.
    fn bring(
        &mut self,
        file: &File,
        metadata: &Metadata,
        id: Sha256,
        geometry: Geometry,
        path: &Path,
    ) -> Result<(How, Option<Moving>), StoreError> {
        if self.import.way == Way::InPlace {
            return Ok((How::InPlace, None));
        }
        if self.has(&id)? {
            return Ok((How::Present, None));
        }
        let room = lock(&self.store.room);
        self.store.make_room(geometry.length())?;
        if let Some(clone) = self.clone_of(file, metadata, id)? {
            drop(room);
            open_to_all(&clone, path)?;
            return Ok((How::Cloned, Some(clone)));
        }
        if self.may_link(metadata)
            && let Some(link) = self.link_to(file, id)
        {
            return Ok((How::Linked, Some(link)));
        }
        let (partial, copy) = Partial::create(&self.store.layout, &id)?;
        let length = geometry.length();
        disk::preallocate(&copy, length).map_err(StoreError::adding(
            length,
            "preallocating",
            &partial.path,
        ))?;
        drop(room);
        let copied = Moving { partial, file: copy };
        copied.fill(file, length, path)?;
        disk::unchanged(file, &Mark::of(metadata)).map_err(StoreError::io("reading", path))?;
        open_to_all(&copied, path)?;
        Ok((How::Copied, Some(copied)))
    }

    /// Whether the object is here, its file included.
    fn has(&self, id: &Sha256) -> Result<bool, StoreError> {
        match self.store.catalog.read(|catalog| catalog::is_in_place(catalog, id))? {
            None => Ok(false),
            Some(_) => match self.store.open_from_disk(id) {
                Err(StoreError::Damaged { .. }) => Ok(false),
                opened => Ok(opened?.is_some()),
            },
        }
    }

    /// A copy that shares the file's blocks, `None` where the file system has no such thing (ioctl_ficlone(2)).
    fn clone_of(
        &mut self,
        file: &File,
        metadata: &Metadata,
        id: Sha256,
    ) -> Result<Option<Moving>, StoreError> {
        if metadata.len() == 0 || self.apart.contains(&metadata.dev()) {
            return Ok(None);
        }
        let (partial, copy) = Partial::create(&self.store.layout, &id)?;
        let cloned = ioctl_ficlone(&copy, file).is_ok()
            && copy.metadata().is_ok_and(|copy| copy.len() == metadata.len());
        if !cloned {
            self.apart.insert(metadata.dev());
            return Ok(None);
        }
        Ok(Some(Moving { partial, file: copy }))
    }

    /// A linked file has its owner's mode and may be changed by whoever could before. The store notices that (it verifies
    /// what shows another stamp) but would have lost the object; root is trusted to replace files rather than to write over
    /// them, as rsync and dpkg do.
    fn may_link(&self, metadata: &Metadata) -> bool {
        let mode = metadata.mode();
        let safe = metadata.uid() == 0 && mode & OTHERS_WRITE == 0;
        mode & ALL_READ != 0 && (safe || self.import.way == Way::Link)
    }

    /// Another name of the file, below `partial/`; `None` where it cannot be had: another file system, the kernel's
    /// `protected_hardlinks`, too many links.
    fn link_to(&self, file: &File, id: Sha256) -> Option<Moving> {
        let locked = file.try_clone().ok().filter(disk::try_lock)?;
        let to = self.store.layout.new_partial(&id);
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, opened, CWD, &to, AtFlags::SYMLINK_FOLLOW).ok()?;
        let partial = Partial { path: to, stays: AtomicBool::new(false) };
        Some(Moving { partial, file: locked })
    }
}

impl Moving {
    fn fill(&self, mut from: &File, length: u64, path: &Path) -> Result<(), StoreError> {
        // A copy within the kernel, where it can (copy_file_range(2)).
        io::Seek::rewind(&mut from).map_err(StoreError::io("reading", path))?;
        let copied = io::copy(&mut io::Read::take(from, length), &mut &self.file);
        match copied {
            Ok(copied) if copied == length => Ok(()),
            Ok(_) => Err(StoreError::io("reading", path)(io::Error::other("it changes while it is read"))),
            Err(error) => Err(StoreError::adding(length, "copying", path)(error)),
        }
    }
}

/// Gives a file of our own the mode of an object.
fn open_to_all(new: &Moving, path: &Path) -> Result<(), StoreError> {
    let set = new.file.set_permissions(Permissions::from_mode(0o644));
    set.map_err(StoreError::io("setting the mode of the copy of", path))
}
