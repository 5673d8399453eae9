//! Room: how much the store holds, what it may hold, and what leaves when more comes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::statvfs;

use super::catalog::{self, Durability, Totals};
use super::error::StoreError;
use super::{Shared, Store, lock};
use crate::digest::Sha256;

/// How many objects leave in one transaction: nobody else can write while it lasts.
const BATCH: u64 = 256;

/// The unit of `st_blocks`, in bytes (stat(2)).
const BLOCK: u64 = 512;

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Whole objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those kept from eviction.
    pub pinned_objects: u64,
    /// Their bytes.
    pub pinned_bytes: u64,
    /// Objects that lie in files of others, which count in none of the numbers above.
    pub in_place_objects: u64,
    /// Their bytes.
    pub in_place_bytes: u64,
    /// The bytes set apart for objects that are being assembled.
    pub assembling_bytes: u64,
    /// The bytes free on the file system.
    pub free_space: u64,
    /// The limit of bytes and assembling bytes together.
    pub max_size: u64,
    /// The bytes to be left free on the file system.
    pub min_free_space: u64,
}

/// What was removed by [`Store::clear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Objects that are gone.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects whose file could not be removed.
    pub failed: u64,
}

impl Store {
    /// What the store holds, counted exactly.
    ///
    /// # Errors
    /// What the system or SQLite refused.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let Totals { objects, bytes, pinned_objects, pinned_bytes, in_place_objects, in_place_bytes } =
            self.shared.catalog.read(catalog::totals)?;
        Ok(Stats {
            objects,
            bytes,
            pinned_objects,
            pinned_bytes,
            in_place_objects,
            in_place_bytes,
            assembling_bytes: self.shared.assembling()?.bytes,
            free_space: self.shared.free_space()?,
            max_size: self.shared.config.max_size,
            min_free_space: self.shared.config.min_free_space,
        })
    }

    /// Whether anything can be added: the file system may have become read-only, or the directory somebody else's.
    ///
    /// # Errors
    /// What the system refused.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        let folder = self.shared.layout.partials();
        match rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
            // It is made when it is needed.
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(StoreError::io("writing to", &folder)(errno.into())),
        }
    }

    /// Removes every object that is neither pinned nor in place, and what broken off downloads left. Those who read one of them keep what they have.
    ///
    /// # Errors
    /// What SQLite refused; what was removed by then is.
    pub fn clear(&self) -> Result<Cleared, StoreError> {
        self.shared.sweep_partials(u64::MAX)?;
        self.shared.evict(u64::MAX)
    }
}

/// Bytes that are missing, and what misses them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shortage {
    bytes: u64,
    limit: &'static str,
}

/// What objects that are being assembled take.
#[derive(Default)]
struct Assembling {
    /// Their lengths.
    bytes: u64,
    /// How much of that has no blocks yet, because the file system cannot preallocate.
    promised: u64,
}

impl Shared {
    /// Makes room for `length` bytes more. The caller holds `room` until those bytes are set apart.
    ///
    /// Nothing is evicted where evicting everything would not be enough.
    pub(super) fn make_room(&self, length: u64) -> Result<(), StoreError> {
        let full = |shortage: Shortage| StoreError::Full { length, limit: shortage.limit };
        let Some(mut shortage) = self.shortage(length)? else { return Ok(()) };
        if self.sweep_partials(shortage.bytes)?.0 > 0 {
            match self.shortage(length)? {
                Some(less) => shortage = less,
                None => return Ok(()),
            }
        }
        let totals = self.catalog.read(catalog::totals)?;
        if length > self.config.max_size || shortage.bytes > totals.bytes.saturating_sub(totals.pinned_bytes)
        {
            return Err(full(shortage));
        }
        self.save_uses()?;
        let evicted = self.evict(shortage.bytes)?;
        tracing::debug!(objects = evicted.objects, bytes = evicted.bytes, "evicted to make room");
        if evicted.bytes < shortage.bytes { Err(full(shortage)) } else { Ok(()) }
    }

    /// Evicts what is too much by now: two processes that make room at the same moment may both find the same.
    pub(super) fn trim(&self) {
        let _alone = lock(&self.room);
        match self.make_room(0) {
            Err(error @ StoreError::Full { .. }) => tracing::debug!(%error, "cannot trim the cache"),
            Err(error) => tracing::warn!(%error, "cannot trim the cache"),
            Ok(()) => {}
        }
    }

    /// What must leave before `length` bytes may come. The free space is looked at once: some file systems free the
    /// blocks of a file long after its name, and waiting for them would evict everything.
    fn shortage(&self, length: u64) -> Result<Option<Shortage>, StoreError> {
        let Assembling { bytes, promised } = self.assembling()?;
        let held = self.catalog.read(catalog::totals)?.bytes.saturating_add(bytes);
        let size = held.saturating_add(length).saturating_sub(self.config.max_size);
        let wanted = length.saturating_add(promised).saturating_add(self.config.min_free_space);
        let free = wanted.saturating_sub(self.free_space()?);
        let shortage = Shortage { bytes: size, limit: "cache.max_size" }
            .max(Shortage { bytes: free, limit: "cache.min_free_space" });
        Ok((shortage.bytes > 0).then_some(shortage))
    }

    /// Removes objects, the least recently used first and never a pinned one, until `bytes` are gone or none is left.
    /// An object that cannot be removed is passed over.
    fn evict(&self, bytes: u64) -> Result<Cleared, StoreError> {
        let mut gone = Cleared::default();
        while gone.bytes < bytes {
            let (removed, left) = self.evict_batch(bytes - gone.bytes, &mut gone)?;
            self.note_change();
            let _closed: Vec<_> = {
                let mut hot = lock(&self.hot);
                removed.iter().filter_map(|id| hot.remove(id)).collect()
            };
            if !left {
                break;
            }
        }
        Ok(gone)
    }

    /// One transaction of [`Shared::evict`]: what was removed, and whether there may be more.
    fn evict_batch(&self, bytes: u64, gone: &mut Cleared) -> Result<(Vec<Sha256>, bool), StoreError> {
        let mut batch = Cleared { failed: gone.failed, ..Cleared::default() };
        let removed = self.catalog.write(Durability::Relaxed, |catalog| {
            let mut removed = Vec::new();
            let victims = catalog::eviction_order(catalog, BATCH, batch.failed)?;
            let more = victims.len() as u64 == BATCH;
            for (id, length) in victims {
                if batch.bytes >= bytes {
                    break;
                }
                // The file first: a row without a file heals, a file without a row would take room uncounted.
                if let Err(error) = self.unlink(&id) {
                    tracing::warn!(%id, %error, "cannot evict an object");
                    batch.failed += 1;
                    continue;
                }
                catalog::delete(catalog, &id)?;
                batch.objects += 1;
                batch.bytes += length;
                removed.push(id);
            }
            Ok((removed, more))
        })?;
        gone.objects += batch.objects;
        gone.bytes += batch.bytes;
        gone.failed = batch.failed;
        Ok(removed)
    }

    /// All partial files, also those of other processes.
    fn assembling(&self) -> Result<Assembling, StoreError> {
        let folder = self.layout.partials();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Assembling::default()),
            entries => entries.map_err(StoreError::io("listing", &folder))?,
        };
        // A file that is gone by the time we look at it takes no room.
        let mut assembling = Assembling::default();
        for metadata in entries.flatten().filter_map(|entry| entry.metadata().ok()) {
            let allocated = metadata.blocks().saturating_mul(BLOCK);
            assembling.bytes = assembling.bytes.saturating_add(metadata.len());
            assembling.promised =
                assembling.promised.saturating_add(metadata.len().saturating_sub(allocated));
        }
        Ok(assembling)
    }

    /// The bytes that an unprivileged process may still write.
    fn free_space(&self) -> Result<u64, StoreError> {
        let root = self.layout.root();
        let look = || statvfs(root).map_err(std::io::Error::from);
        let space = look().or_else(|error| match error.kind() {
            // Somebody emptied the cache directory under us.
            std::io::ErrorKind::NotFound => self.layout.create().and_then(|()| look()),
            _ => Err(error),
        });
        let space = space.map_err(StoreError::io("looking at the disk of", root))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}
