//! An object while it is being downloaded: a preallocated file, written anywhere, read through one mapping.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};

use super::Shared;
use super::catalog::{Origin, Scope};
use super::disk::{self, READ_BLOCK, Stamp};
use super::error::StoreError;
use super::heap::Heap;
use super::layout::{Layout, share};
use super::mapping::{self, Rent};
use super::publish::{self, Finished};
use crate::digest::Sha256;
use crate::pieces::{Geometry, Kept, PieceIndex, State};

/// How much memory all objects that are assembled in memory take together, in bytes: they are the way out of a full
/// disk, not a second cache.
pub(super) const MEMORY_LIMIT: u64 = 64 << 20;

/// The longest object that is assembled in memory, in bytes: most packages fit, a few large ones do not take it all.
const MEMORY_OBJECT_LIMIT: u64 = 16 << 20;

/// How much memory all objects take together that get a file when they are whole, in bytes: those that apt has asked for
/// ahead, and those that wait for the disk.
pub(super) const SMALL_MEMORY: u64 = 48 << 20;

/// The longest of them, in bytes: most packages are shorter. What is longer takes its time anyway.
const SMALL_LIMIT: u64 = 512 << 10;

/// How often we try to make a partial file before we give up. Only [`super::Store::recover`] of another process, in the
/// moment between a file's creation and its lock, makes a second try needed.
const CREATE_TRIES: u32 = 8;

/// An object that is being put together. Writers and readers share it behind an `Arc`.
///
/// Dropped without [`Assembly::publish`] or [`Assembly::leave`] it leaves nothing behind. Slices taken from it stay valid in any case.
pub struct Assembly {
    id: Sha256,
    geometry: Geometry,
    pub(super) place: Place,
    pub(super) phase: RwLock<Phase>,
    /// Pieces of a broken off download that were not looked at again yet.
    pub(super) unchecked: Mutex<BTreeMap<PieceIndex, Kept>>,
    pub(super) store: Arc<Shared>,
}

pub(super) enum Place {
    Disk(Partial, Mapped),
    /// In memory until it is whole; it gets its file when it is published.
    Small(Heap),
    /// In a file that is nowhere, and never anywhere else.
    Memory(Mapped),
}

/// A file, and all of it to be read.
pub(super) struct Mapped {
    pub(super) file: Arc<File>,
    pub(super) whole: Bytes,
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
        Ok(Self::new(store, id, geometry, Place::Disk(partial, Mapped::new(file, whole))))
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
        let mut assembly = Self::new(store, id, geometry, Place::Disk(partial, Mapped::new(file, whole)));
        assembly.unchecked = Mutex::new(kept.into_iter().map(|kept| (kept.piece, kept)).collect());
        Ok(Some(assembly))
    }

    /// A file that is nowhere, for an object that has no room on disk.
    pub(super) fn in_memory(store: &Arc<Shared>, id: Sha256, geometry: Geometry) -> Result<Self, StoreError> {
        let length = geometry.length();
        let full = || StoreError::Full { length, limit: "the memory for objects that have no file" };
        let rent = rent(&store.memory, MEMORY_OBJECT_LIMIT, length).ok_or_else(full)?;
        let failed = |error| {
            StoreError::adding(length, "making a file in memory for", &store.layout.object(&id))(error)
        };
        let file =
            memfd_create("aptpeer-object", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let file = File::from(file);
        disk::preallocate(&file, length).map_err(failed)?;
        let whole = mapping::map(&file, length, Some(rent)).map_err(failed)?;
        Ok(Self::new(store, id, geometry, Place::Memory(Mapped::new(file, whole))))
    }

    /// Memory, for a small object that has no file yet; `None` where it is not small, or there is no more memory for such.
    pub(super) fn small(store: &Arc<Shared>, id: Sha256, geometry: Geometry) -> Option<Self> {
        let rent = rent(&store.small, SMALL_LIMIT, geometry.length())?;
        let heap = Heap::new(usize::try_from(geometry.length()).ok()?, rent);
        Some(Self::new(store, id, geometry, Place::Small(heap)))
    }

    fn new(store: &Arc<Shared>, id: Sha256, geometry: Geometry, place: Place) -> Self {
        let phase = RwLock::new(Phase::Open);
        let unchecked = Mutex::default();
        Self { id, geometry, place, phase, unchecked, store: Arc::clone(store) }
    }

    /// The digest of the object to be.
    pub fn id(&self) -> Sha256 {
        self.id
    }

    /// How the object is cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether the bytes are in memory: writing them never waits for the disk.
    pub fn is_in_memory(&self) -> bool {
        !matches!(self.place, Place::Disk(..))
    }

    /// Whether the object can be published: one that has no room on disk cannot.
    pub fn is_publishable(&self) -> bool {
        !matches!(self.place, Place::Memory(_))
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
        let written = match &self.place {
            Place::Small(heap) => {
                heap.write_at(index(offset), bytes);
                return Ok(());
            }
            Place::Disk(_, mapped) | Place::Memory(mapped) => mapped.file.write_all_at(bytes, offset),
        };
        written.map_err(StoreError::adding(bytes.len() as u64, "writing", self.path()))
    }

    /// The bytes of `range`, cut off at the end, without a copy as a rule: zeros where nothing was written yet. Ask for what is
    /// linked; bytes that are written later may show in slices taken before.
    pub fn bytes(&self, range: Range<u64>) -> Bytes {
        let end = range.end.min(self.geometry.length());
        let start = range.start.min(end);
        let range = index(start)..index(end);
        match &self.place {
            Place::Small(heap) => heap.bytes(range),
            Place::Disk(_, mapped) | Place::Memory(mapped) => mapped.whole.slice(range),
        }
    }

    /// Whether `bytes` are others than those at `offset` now. What cannot be read differs.
    pub fn differs(&self, offset: u64, bytes: &[u8]) -> bool {
        if !self.holds(offset, bytes.len()) {
            return true;
        }
        let range = offset..offset + bytes.len() as u64;
        let mapped = match &self.place {
            Place::Small(heap) => return heap.bytes(index(range.start)..index(range.end)) != bytes,
            Place::Disk(_, mapped) | Place::Memory(mapped) => mapped,
        };
        let mut rest = bytes;
        let same = disk::read_blocks(&mapped.file, range, READ_BLOCK, |_, block| {
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
    /// It waits for the disk; [`super::Store::publish_all`] waits once for many. Publishing what is published already, by
    /// this assembly or another, changes nothing that a reader could see.
    ///
    /// # Errors
    /// [`StoreError::InMemory`] for an assembly in memory that gets no file; [`StoreError::Misuse`] where the number of states
    /// is wrong.
    pub fn publish(&self, states: Vec<State>, last_modified: Option<String>) -> Result<(), StoreError> {
        self.publish_as(states, last_modified, Origin::Download, Scope::Public)
    }

    pub(super) fn publish_as(
        &self,
        states: Vec<State>,
        last_modified: Option<String>,
        origin: Origin,
        scope: Scope,
    ) -> Result<(), StoreError> {
        let finished = Finished::new(self, states, last_modified, scope).from(origin);
        publish::publish(&self.store, vec![finished]).pop().unwrap_or(Ok(()))
    }

    fn path(&self) -> &Path {
        match &self.place {
            Place::Disk(partial, _) => &partial.path,
            Place::Small(_) | Place::Memory(_) => Path::new("a file in memory"),
        }
    }

    fn holds(&self, offset: u64, count: usize) -> bool {
        offset.checked_add(count as u64).is_some_and(|end| end <= self.geometry.length())
    }

    pub(super) fn misuse(&self, what: &'static str) -> StoreError {
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

impl Mapped {
    fn new(file: File, whole: Bytes) -> Self {
        Self { file: Arc::new(file), whole }
    }
}

/// Memory for an object of `length` bytes, where it is no longer than `limit` and so much is left.
fn rent(budget: &Arc<AtomicU64>, limit: u64, length: u64) -> Option<Rent> {
    (length <= limit).then(|| Rent::take(budget, length))?
}

/// Where a byte of an object is in memory that holds all of the object.
#[allow(clippy::cast_possible_truncation, reason = "what is in memory is as long as a usize can say")]
const fn index(offset: u64) -> usize {
    offset as usize
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
