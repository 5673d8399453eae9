//! An object while it is being downloaded: a preallocated file, written anywhere, read through one mapping.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};

use super::Shared;
use super::catalog::{self, Durability, NewRow, Origin, Scope};
use super::disk::{self, READ_BLOCK, Stamp};
use super::error::StoreError;
use super::layout::{Layout, share, sync_directory};
use super::mapping::{self, Rent};
use super::object::{Object, Parts};
use crate::digest::Sha256;
use crate::pieces::{Geometry, Kept, PieceIndex, State};

/// How much memory all objects that are assembled in memory take together, in bytes: they are the way out of a full
/// disk, not a second cache.
pub(super) const MEMORY_LIMIT: u64 = 64 << 20;

/// The longest object that is assembled in memory, in bytes: most packages fit, a few large ones do not take it all.
const MEMORY_OBJECT_LIMIT: u64 = 16 << 20;

/// The longest `Last-Modified` that is kept, in bytes. An HTTP-date has 29 (RFC 9110 section 5.6.7).
const LAST_MODIFIED_LIMIT: usize = 128;

/// How often we try to make a partial file before we give up. Only [`super::Store::recover`] of another process, in the
/// moment between a file's creation and its lock, makes a second try needed.
const CREATE_TRIES: u32 = 8;

/// An object that is being put together. Writers and readers share it behind an `Arc`.
///
/// Dropped without [`Assembly::publish`] or [`Assembly::leave`] it leaves nothing behind. Slices taken from it stay valid in any case.
pub struct Assembly {
    id: Sha256,
    geometry: Geometry,
    file: Arc<File>,
    whole: Bytes,
    pub(super) place: Place,
    pub(super) phase: RwLock<Phase>,
    /// Pieces of a broken off download that were not looked at again yet.
    pub(super) unchecked: Mutex<BTreeMap<PieceIndex, Kept>>,
    pub(super) store: Arc<Shared>,
}

pub(super) enum Place {
    Disk(Partial),
    Memory,
}

#[derive(PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Published,
    /// It belongs to whoever goes on with it.
    Left,
}

/// A file below `partial/`, removed with its owner unless it was renamed away by then, or is to stay.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    pub(super) stays: AtomicBool,
}

impl Assembly {
    /// A new partial file, with all its blocks where the file system can preallocate.
    pub(super) fn on_disk(store: &Arc<Shared>, id: Sha256, geometry: Geometry) -> Result<Self, StoreError> {
        let (partial, file) = Partial::create(&store.layout, &id)?;
        let length = geometry.length();
        let made = if store.scratch { file.set_len(length) } else { disk::preallocate(&file, length) };
        made.map_err(StoreError::adding(length, "preallocating", &partial.path))?;
        let whole = mapping::map(&file, length, None).map_err(StoreError::io("mapping", &partial.path))?;
        Ok(Self::new(store, id, geometry, file, whole, Place::Disk(partial)))
    }

    /// What an earlier download of the object has left, where it has left anything.
    pub(super) fn resume(
        store: &Arc<Shared>,
        id: Sha256,
        geometry: Geometry,
    ) -> Result<Option<Self>, StoreError> {
        let Some((file, path, kept)) = store.take_leftover(&id, geometry)? else { return Ok(None) };
        let whole = mapping::map(&file, geometry.length(), None).map_err(StoreError::io("mapping", &path))?;
        let partial = Partial { path, stays: AtomicBool::new(false) };
        let mut assembly = Self::new(store, id, geometry, file, whole, Place::Disk(partial));
        assembly.unchecked = Mutex::new(kept.into_iter().map(|kept| (kept.piece, kept)).collect());
        Ok(Some(assembly))
    }

    /// A file that is nowhere, of memory within `budget`.
    pub(super) fn in_memory(
        store: &Arc<Shared>,
        budget: &Arc<AtomicU64>,
        id: Sha256,
        geometry: Geometry,
    ) -> Result<Self, StoreError> {
        let length = geometry.length();
        let full = || StoreError::Full { length, limit: "the memory for objects that have no room on disk" };
        if length > MEMORY_OBJECT_LIMIT {
            return Err(full());
        }
        let rent = Rent::take(budget, length).ok_or_else(full)?;
        let failed = |error| {
            StoreError::adding(length, "making a file in memory for", &store.layout.object(&id))(error)
        };
        let file =
            memfd_create("aptpeer-object", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let file = File::from(file);
        disk::preallocate(&file, length).map_err(failed)?;
        let whole = mapping::map(&file, length, Some(rent)).map_err(failed)?;
        Ok(Self::new(store, id, geometry, file, whole, Place::Memory))
    }

    fn new(
        store: &Arc<Shared>,
        id: Sha256,
        geometry: Geometry,
        file: File,
        whole: Bytes,
        place: Place,
    ) -> Self {
        let phase = RwLock::new(Phase::Open);
        let unchecked = Mutex::default();
        Self { id, geometry, file: Arc::new(file), whole, place, phase, unchecked, store: Arc::clone(store) }
    }

    /// The digest of the object to be.
    pub fn id(&self) -> Sha256 {
        self.id
    }

    /// How the object is cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether the bytes are in memory, so that the object cannot be published.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.place, Place::Memory)
    }

    /// Writes `bytes` at `offset`. Writes of a megabyte or more are several times cheaper than small ones.
    ///
    /// # Errors
    /// [`StoreError::Misuse`] beyond the end or after [`Assembly::publish`] or [`Assembly::leave`]; [`StoreError::Full`] where the file
    /// system gave us blocks that it does not have.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if !self.holds(offset, bytes.len()) {
            return Err(self.misuse("a write beyond its end"));
        }
        let phase = self.phase.read().unwrap_or_else(PoisonError::into_inner);
        if *phase != Phase::Open {
            return Err(self.misuse("a write after it was published or left"));
        }
        self.file.write_all_at(bytes, offset).map_err(StoreError::adding(
            bytes.len() as u64,
            "writing",
            self.path(),
        ))
    }

    /// The bytes of `range`, cut off at the end, without a copy: zeros where nothing was written yet. Ask for what is
    /// linked; bytes that are written later show in slices taken before.
    pub fn bytes(&self, range: Range<u64>) -> Bytes {
        let end = range.end.min(self.geometry.length());
        let start = range.start.min(end);
        #[allow(clippy::cast_possible_truncation, reason = "the mapping is as long as a usize can say")]
        self.whole.slice(start as usize..end as usize)
    }

    /// Whether `bytes` are others than those at `offset` now. What cannot be read differs.
    pub fn differs(&self, offset: u64, bytes: &[u8]) -> bool {
        if !self.holds(offset, bytes.len()) {
            return true;
        }
        let range = offset..offset + bytes.len() as u64;
        let mut rest = bytes;
        let same = disk::read_blocks(&self.file, range, READ_BLOCK, |_, block| {
            let (head, tail) = rest.split_at(block.len());
            rest = tail;
            if head == block { Ok(()) } else { Err(io::Error::from(io::ErrorKind::InvalidData)) }
        });
        same.is_err()
    }

    /// Makes the object, whose bytes the caller has verified, part of the store; it survives a power cut once this
    /// returns. `states` are the n-1 inner states of its chain, `last_modified` the mirror's header, byte for byte (of
    /// at most 128 bytes: what is longer is no date and is not kept).
    ///
    /// It waits for the disk. Publishing what is published already, by this assembly or another, changes nothing that
    /// a reader could see.
    ///
    /// # Errors
    /// [`StoreError::InMemory`] for an assembly in memory; [`StoreError::Misuse`] where the number of states is wrong.
    pub fn publish(&self, states: Vec<State>, last_modified: Option<String>) -> Result<(), StoreError> {
        self.publish_as(states, last_modified, Origin::Download, Scope::Public)
    }

    /// The same for an object that is not for everybody.
    ///
    /// # Errors
    /// As [`Assembly::publish`].
    pub fn publish_within(
        &self,
        scope: Scope,
        states: Vec<State>,
        last_modified: Option<String>,
    ) -> Result<(), StoreError> {
        self.publish_as(states, last_modified, Origin::Download, scope)
    }

    pub(super) fn publish_as(
        &self,
        states: Vec<State>,
        last_modified: Option<String>,
        origin: Origin,
        scope: Scope,
    ) -> Result<(), StoreError> {
        let Place::Disk(partial) = &self.place else { return Err(StoreError::InMemory(self.id)) };
        if states.len() != self.geometry.last() as usize {
            return Err(self.misuse("published with another number of states than it has inner pieces"));
        }
        let last_modified = last_modified.filter(|text| text.len() <= LAST_MODIFIED_LIMIT);

        let mut phase = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        match *phase {
            Phase::Open => {}
            Phase::Published => return Ok(()),
            Phase::Left => return Err(self.misuse("published after it was left")),
        }
        self.settle(partial)?;
        let row = NewRow {
            id: &self.id,
            length: self.geometry.length(),
            states: &states,
            last_modified: last_modified.as_deref(),
            origin,
            scope,
            in_place: false,
        };
        self.store.enter(&row, &partial.path)?;
        *phase = Phase::Published;
        drop(phase);

        self.keep_hot(states, last_modified);
        self.store.trim();
        Ok(())
    }

    /// The bytes first: no power cut may leave a name in `objects/` whose bytes are missing.
    fn settle(&self, partial: &Partial) -> Result<(), StoreError> {
        self.file
            .set_permissions(Permissions::from_mode(0o644))
            .map_err(StoreError::io("setting the mode of", &partial.path))?;
        if self.store.scratch {
            return Ok(());
        }
        self.file.sync_all().map_err(StoreError::adding(
            self.geometry.length(),
            "writing to disk",
            &partial.path,
        ))
    }

    /// What was just verified needs no second look while nobody touches the file. What was only kept does.
    fn keep_hot(&self, states: Vec<State>, last_modified: Option<String>) {
        let Ok(stamp) = Stamp::of(&self.file) else { return };
        let parts = Parts {
            id: self.id,
            geometry: self.geometry,
            states,
            last_modified,
            file: Arc::clone(&self.file),
            whole: Some(self.whole.clone()),
            place: None,
            store: Arc::downgrade(&self.store),
        };
        let pieces = 0..self.geometry.pieces();
        let verified = pieces.map(|piece| self.is_checked(piece)).collect();
        self.store.keep_hot(Arc::new(Object::new(parts, stamp, verified)));
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn path(&self) -> &Path {
        match &self.place {
            Place::Disk(partial) => &partial.path,
            Place::Memory => Path::new("a file in memory"),
        }
    }

    fn holds(&self, offset: u64, count: usize) -> bool {
        offset.checked_add(count as u64).is_some_and(|end| end <= self.geometry.length())
    }

    fn misuse(&self, what: &'static str) -> StoreError {
        StoreError::Misuse { id: self.id, what }
    }
}

impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assembly")
            .field("id", &self.id)
            .field("length", &self.geometry.length())
            .finish_non_exhaustive()
    }
}

impl Partial {
    /// A new file that is ours: created, then locked, then seen to be there still.
    pub(super) fn create(layout: &Layout, id: &Sha256) -> Result<(Self, File), StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let partial = Self { path: layout.new_partial(id), stays: AtomicBool::new(false) };
            let made = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&partial.path)
                .and_then(|file| {
                    share(&file, &layout.partials())?;
                    Ok((disk::try_lock(&file) && Stamp::of(&file)?.links > 0, file))
                });
            match made {
                Ok((true, file)) => return Ok((partial, file)),
                // Another process took it for a leftover before it was locked, or somebody removed the directories.
                Ok((false, _)) if tries < CREATE_TRIES => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < CREATE_TRIES => {
                    layout.create().map_err(StoreError::io("making", layout.root()))?;
                }
                Ok((false, _)) => {
                    let error = io::Error::other("another process removes it each time");
                    return Err(StoreError::io("locking", &partial.path)(error));
                }
                Err(error) => return Err(StoreError::adding(0, "making", &partial.path)(error)),
            }
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if *self.stays.get_mut() {
            return;
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove a partial file");
            }
            _ => {}
        }
    }
}

impl Shared {
    /// Moves the partial file at `from` to its place and writes its row, as one step for everybody who looks.
    ///
    /// The order: bytes on disk (by the caller), row written, file renamed, directory on disk, row committed. The row
    /// is seen by others, and survives, only after its file does; a process that dies in between leaves a file without
    /// a row, which nobody sees and [`super::Store::recover`] removes. The transaction keeps out everybody else who
    /// removes rows or files.
    fn enter(&self, row: &NewRow<'_>, from: &Path) -> Result<(), StoreError> {
        let to = self.layout.object(row.id);
        let durability = if self.scratch { Durability::Relaxed } else { Durability::Full };
        let entered = self.catalog.write(durability, |catalog| {
            catalog::insert(catalog, row, crate::clock::unix_seconds())?;
            catalog::forget_leftover(catalog, row.id)?;
            let shard = self.layout.create_shard(row.id).map_err(StoreError::io("making", &to))?;
            fs::rename(from, &to).map_err(StoreError::adding(row.length, "moving into place", &to))?;
            if self.scratch {
                return Ok(());
            }
            sync_directory(&shard).map_err(StoreError::io("writing to disk", &shard))
        });
        if entered.is_err() && !from.exists() && self.length_of(row.id).is_none() {
            // The commit failed after the rename: a file without a row would take room that nobody counts.
            let _ = fs::remove_file(&to);
        }
        self.note_change();
        entered
    }
}
