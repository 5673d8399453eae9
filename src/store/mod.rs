//! What is on disk: whole objects by their SHA-256, assemblies in progress, and the catalog that knows them.
//!
//! - `layout`: where everything lies; the only file that spells paths.
//! - `object`, `assembly`: an object to read, and one that is being put together; both are read through one mapping
//!   (`mapping`), and what is kept open is bounded (`hot`).
//! - `catalog`, `migrations`: SQLite.
//! - `quota`: room for what comes, by evicting what was not used longest.
//! - `publish`: how what is whole enters the store, many objects at a time.
//! - `announced`: what is offered to others, and when they were last told.
//! - `leftover`: downloads that were broken off, and where they go on.
//! - `import`, `files`: local files in, and what they were when they were hashed.
//! - `in_place`: objects that lie in files of others, and what became of those.
//! - `verify`, `recover`: bytes looked at again, leftovers of a killed process out.
//!
//! Everything is synchronous. Looking an object up takes microseconds and never waits for a writer; whatever waits for
//! the disk says so. Several processes may use one cache at a time.

mod announced;
mod assembly;
mod catalog;
mod disk;
mod error;
mod files;
mod hot;
mod import;
mod in_place;
mod layout;
mod leftover;
mod mapping;
mod migrations;
mod object;
mod publish;
mod quota;
mod recover;
mod verify;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::clock::unix_seconds;
use crate::digest::Sha256;
use crate::metrics::{Metrics, VerificationFailure};
use crate::pieces::Geometry;

use catalog::{Catalog, Durability};
use disk::Stamp;
use hot::Hot;
use layout::Layout;
use object::OpenError;

pub use announced::Offer;
pub use assembly::Assembly;
pub use catalog::{Entry, Origin, Scope};
pub use error::StoreError;
pub use import::{How, Import, ImportSum, Imported, Told, Way};
pub use in_place::{Hashed, InPlace};
pub use leftover::Check;
pub use object::{Object, ObjectReader, Sighting};
pub use publish::Finished;
pub use quota::{Cleared, Stats};
pub use recover::Recovery;
pub use verify::{Verdict, Verification};

/// How many objects' uses are remembered before they are written to the catalog. At 100 bytes each it is 400 KiB.
const PENDING_USES: usize = 4096;

/// Where a store lies and how large it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The cache directory; the store makes it.
    pub path: PathBuf,
    /// The bytes of all objects together, those being assembled included.
    pub max_size: u64,
    /// The bytes to be left free on the file system.
    pub min_free_space: u64,
}

/// The objects on disk. A clone is another handle to the same store; several processes may have one open.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What the handles of one store, its assemblies and its objects share.
struct Shared {
    config: StoreConfig,
    /// See [`Store::open_scratch`].
    scratch: bool,
    layout: Layout,
    catalog: Catalog,
    hot: Mutex<Hot>,
    uses: Mutex<Uses>,
    /// Held by whoever makes room, so that two of them do not count the same room.
    room: Mutex<()>,
    /// The bytes left for assemblies in memory.
    memory: Arc<AtomicU64>,
    /// And for those of them that get a file when they are whole.
    small: Arc<AtomicU64>,
    /// Counts what came and what left.
    changes: watch::Sender<u64>,
    /// Where damage is counted; unset where nobody looks.
    metrics: OnceLock<Metrics>,
}

/// Uses that are not in the catalog yet: order and time of each object's last one.
#[derive(Default)]
struct Uses {
    next: u64,
    pending: HashMap<Sha256, (u64, u64)>,
}

impl Store {
    /// Opens the store at `config.path`, making what is missing and bringing the catalog up to date.
    ///
    /// # Errors
    /// [`StoreError::TooNew`] where a newer program wrote the catalog; else what the system or SQLite refused.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        Self::open_as(config, false)
    }

    /// Opens a store of one's own at `path` that goes with its directory, for a file that is to be moved elsewhere. It
    /// neither preallocates nor waits for the disk, like any program that writes a file for its user: a full disk shows
    /// in the middle, and a power cut may leave nothing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_scratch(path: PathBuf) -> Result<Self, StoreError> {
        Self::open_as(StoreConfig { path, max_size: u64::MAX, min_free_space: 0 }, true)
    }

    fn open_as(config: StoreConfig, scratch: bool) -> Result<Self, StoreError> {
        let layout = Layout::new(&config.path);
        layout.create().map_err(StoreError::io("making", layout.root()))?;
        let catalog = Catalog::open(&layout)?;
        let shared = Shared {
            config,
            scratch,
            layout,
            catalog,
            hot: Mutex::new(Hot::new()),
            uses: Mutex::default(),
            room: Mutex::new(()),
            memory: Arc::new(AtomicU64::new(assembly::MEMORY_LIMIT)),
            small: Arc::new(AtomicU64::new(assembly::SMALL_MEMORY)),
            changes: watch::Sender::new(0),
            metrics: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The object `id`, `None` where the store does not have it (any longer: one whose file is gone, or of another
    /// length, leaves the catalog here). The use is noted.
    ///
    /// # Errors
    /// What the system or SQLite refused; the object may be there all the same.
    pub fn get(&self, id: &Sha256) -> Result<Option<Arc<Object>>, StoreError> {
        Ok(self.sight(id)?.map(Sighting::into_object))
    }

    /// The same, for what is sent at once: its file has just been looked at.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn sight(&self, id: &Sha256) -> Result<Option<Sighting>, StoreError> {
        match self.shared.open_object(id) {
            Ok(Some(object)) => {
                self.shared.note_use(id)?;
                Ok(Some(object))
            }
            Err(StoreError::Damaged { .. }) => Ok(None),
            absent_or_failed => absent_or_failed,
        }
    }

    /// From now on counts each object that turns out to be damaged, whoever comes upon it. Only the first call has an effect.
    pub fn count_damage_in(&self, metrics: Metrics) {
        let _first = self.shared.metrics.set(metrics);
    }

    /// Whether the catalog has object `id`.
    pub fn contains(&self, id: &Sha256) -> bool {
        self.length_of(id).is_some()
    }

    /// The length of object `id` in bytes, `None` where the catalog does not have it.
    pub fn length_of(&self, id: &Sha256) -> Option<u64> {
        self.shared.length_of(id)
    }

    /// The mirror's `Last-Modified` of object `id`, byte for byte.
    pub fn last_modified(&self, id: &Sha256) -> Option<String> {
        self.shared.catalog.read(|catalog| catalog::last_modified(catalog, id)).ok().flatten()
    }

    /// Every object, the least recently used first.
    ///
    /// # Errors
    /// What SQLite refused.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        self.save_uses()?;
        self.shared.catalog.read(catalog::entries)
    }

    /// Starts to put object `id` together on disk: makes room for it, evicting what was not used longest, and
    /// preallocates it where the file system can. May wait for the disk. Where an earlier download of it was broken off, it
    /// goes on from what [`Assembly::resumed`] says.
    ///
    /// # Errors
    /// [`StoreError::Full`] where there is no room and none can be made.
    pub fn assemble(&self, id: Sha256, geometry: Geometry) -> Result<Assembly, StoreError> {
        let _alone = lock(&self.shared.room);
        if let Some(assembly) = Assembly::resume(&self.shared, id, geometry)? {
            return Ok(assembly);
        }
        self.shared.make_room(geometry.length())?;
        Assembly::on_disk(&self.shared, id, geometry)
    }

    /// Starts to put object `id` together in memory, where [`Store::assemble`] found no room: a full disk is no reason
    /// to fail. It can be read while it grows, but not published.
    ///
    /// # Errors
    /// [`StoreError::Full`] for an object beyond 16 MiB, or where such objects have 64 MiB already.
    pub fn assemble_in_memory(&self, id: Sha256, geometry: Geometry) -> Result<Assembly, StoreError> {
        Assembly::in_memory(&self.shared, id, geometry)
    }

    /// Starts to put a small object together, in memory until it is published: whoever waits for its bytes does not wait for
    /// the disk, and room is made for it when it is whole. `None` for an object that is not small, or where those that
    /// are not published yet take all the memory that there is for them: [`Store::assemble`] takes it. Never waits.
    pub fn assemble_small(&self, id: Sha256, geometry: Geometry) -> Option<Assembly> {
        // An object of several pieces may have been begun before.
        let small = geometry.pieces() == 1 && !self.shared.scratch;
        small.then(|| Assembly::small(&self.shared, id, geometry).ok())?
    }

    /// Makes objects part of the store that are whole, as [`Assembly::publish`] does, and waits for the disk once for all of
    /// them. What became of each, in their order: one that cannot be kept does not keep out the others.
    pub fn publish_all(&self, finished: Vec<Finished<'_>>) -> Vec<Result<(), StoreError>> {
        publish::publish(&self.shared, finished)
    }

    /// Removes object `id`, also a pinned one; whether there was one. Of one that is in place the file stays.
    ///
    /// # Errors
    /// What the system or SQLite refused.
    pub fn remove(&self, id: &Sha256) -> Result<bool, StoreError> {
        let removed = self.shared.catalog.write(Durability::Relaxed, |catalog| {
            self.shared.unlink(id)?;
            Ok(catalog::delete(catalog, id)?)
        });
        let _closed = lock(&self.shared.hot).remove(id);
        self.shared.note_change();
        removed
    }

    /// Keeps object `id` from eviction; whether there is such an object.
    ///
    /// # Errors
    /// What SQLite refused.
    pub fn pin(&self, id: &Sha256) -> Result<bool, StoreError> {
        self.shared.catalog.write(Durability::Full, |catalog| Ok(catalog::set_pinned(catalog, id, true)?))
    }

    /// Lets object `id` be evicted again; whether there is such an object.
    ///
    /// # Errors
    /// What SQLite refused.
    pub fn unpin(&self, id: &Sha256) -> Result<bool, StoreError> {
        self.shared.catalog.write(Durability::Full, |catalog| Ok(catalog::set_pinned(catalog, id, false)?))
    }

    /// Writes to the catalog which objects were used since the last time. Making room does so by itself; called once a
    /// minute, it also tells other processes and survives a kill.
    ///
    /// # Errors
    /// What SQLite refused; the uses are forgotten, which costs no more than their order.
    pub fn save_uses(&self) -> Result<(), StoreError> {
        self.shared.save_uses()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Shared {
    fn length_of(&self, id: &Sha256) -> Option<u64> {
        self.catalog.read(|catalog| catalog::length(catalog, id)).ok().flatten()
    }

    /// The object `id` from those kept open, or opened now.
    fn open_object(self: &Arc<Self>, id: &Sha256) -> Result<Option<Sighting>, StoreError> {
        let kept = lock(&self.hot).get(id);
        if let Some(object) = kept {
            if let Some(stamp) = object.shows()
                && object.place().is_none_or(|place| self.still_lies(id, place))
            {
                return Ok(Some(Sighting::new(object, Some(stamp))));
            }
            let _closed = lock(&self.hot).remove(id);
        }
        let opened = self.open_from_disk(id)?.map(Arc::new);
        if let Some(object) = &opened {
            self.keep_hot(Arc::clone(object));
        }
        Ok(opened.map(|object| Sighting::new(object, None)))
    }

    /// The object `id`, opened now and kept by nobody else.
    fn open_from_disk(self: &Arc<Self>, id: &Sha256) -> Result<Option<Object>, StoreError> {
        let Some(record) = self.catalog.read(|catalog| catalog::record(catalog, id))? else {
            return Ok(None);
        };
        if record.in_place {
            return self.open_in_place(id, &record);
        }
        let path = self.layout.object(id);
        match Object::open(*id, record, &path, Arc::downgrade(self)) {
            Ok(object) => Ok(Some(object)),
            Err(OpenError::Damaged { stamp, what }) => Err(self.drop_damaged(*id, stamp, what)),
            Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.forget_if_gone(id)?;
                Ok(None)
            }
            Err(OpenError::Io(error)) => Err(StoreError::io("opening", &path)(error)),
        }
    }

    fn keep_hot(&self, object: Arc<Object>) {
        let _left = lock(&self.hot).insert(object);
    }

    /// Removes the row of an object whose file is gone. Under the catalog's lock nobody is between the two.
    fn forget_if_gone(&self, id: &Sha256) -> Result<(), StoreError> {
        let path = self.layout.object(id);
        let forgotten = self.catalog.write(Durability::Relaxed, |catalog| {
            Ok(path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
                && catalog::is_in_place(catalog, id)? == Some(false)
                && catalog::delete(catalog, id)?)
        })?;
        if forgotten {
            self.note_change();
            tracing::info!(%id, "a cached object's file is gone");
        }
        Ok(())
    }

    fn count_damage(&self) {
        if let Some(metrics) = self.metrics.get() {
            metrics.verification_failed(VerificationFailure::Stored);
        }
    }

    /// Removes an object that turned out to be damaged, unless its file is by now another than the one that showed
    /// `stamp`. Returns the error to be reported.
    fn drop_damaged(&self, id: Sha256, stamp: Stamp, what: String) -> StoreError {
        tracing::warn!(%id, what, "a cached object is damaged, dropping it");
        let path = self.layout.object(&id);
        let dropped = self.catalog.write(Durability::Relaxed, |catalog| {
            if stamp.is_of(&path) {
                self.unlink(&id)?;
            }
            if path.exists() || catalog::is_in_place(catalog, &id)? != Some(false) {
                return Ok(false);
            }
            Ok(catalog::delete(catalog, &id)?)
        });
        match dropped {
            // Several readers may come upon it at the same time: it is counted once.
            Ok(true) => self.count_damage(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%id, %error, "cannot drop a damaged object"),
        }
        let _closed = lock(&self.hot).remove(&id);
        self.note_change();
        StoreError::Damaged { id, what }
    }

    /// Removes the file of object `id`; one that is gone is removed.
    fn unlink(&self, id: &Sha256) -> Result<(), StoreError> {
        let path = self.layout.object(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn note_use(&self, id: &Sha256) -> Result<(), StoreError> {
        let many = {
            let mut uses = lock(&self.uses);
            uses.next += 1;
            let order = uses.next;
            uses.pending.insert(*id, (order, unix_seconds()));
            uses.pending.len() >= PENDING_USES
        };
        if many { self.save_uses() } else { Ok(()) }
    }

    fn save_uses(&self) -> Result<(), StoreError> {
        let pending = std::mem::take(&mut lock(&self.uses).pending);
        if pending.is_empty() {
            return Ok(());
        }
        let mut pending: Vec<_> = pending.into_iter().map(|(id, (order, when))| (order, id, when)).collect();
        pending.sort_unstable();
        self.catalog.write(Durability::Relaxed, |catalog| {
            Ok(pending.iter().try_for_each(|(_, id, when)| catalog::touch(catalog, id, *when))?)
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.save_uses() {
            tracing::debug!(%error, catalog = %self.catalog.path().display(), "the last uses are not saved");
        }
    }
}

/// A panic elsewhere leaves these maps and counters as good as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
