//! How objects enter the store that are whole: many at a time, for waiting for the disk is what costs most.
//!
//! The order: bytes on disk, rows written, files renamed, directories on disk, rows committed. A row is seen by others, and
//! survives, only after its file does; a process that dies in between leaves files without a row, which nobody sees and
//! [`super::Store::recover`] removes. The transaction keeps out everybody else who removes rows or files.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLockWriteGuard};

use rustix::fs::{Advice, fadvise};

use super::assembly::{Assembly, Mapped, Partial, Phase, Place};
use super::catalog::{self, Durability, NewRow, Origin, Scope};
use super::disk::{Mark, Stamp};
use super::error::StoreError;
use super::layout::sync_directory;
use super::object::{Object, Parts};
use super::{Shared, lock, mapping};
use crate::digest::Sha256;
use crate::pieces::State;

/// The longest `Last-Modified` that is kept, in bytes. An HTTP-date has 29 (RFC 9110 section 5.6.7).
const LAST_MODIFIED_LIMIT: usize = 128;

/// An object that is whole and verified, and what is to be known of it.
#[derive(Debug)]
pub struct Finished<'a> {
    assembly: &'a Assembly,
    states: Vec<State>,
    last_modified: Option<String>,
    origin: Origin,
    scope: Scope,
}

impl<'a> Finished<'a> {
    /// The object of `assembly`, which was downloaded; `states` and `last_modified` as for [`Assembly::publish`].
    pub fn new(
        assembly: &'a Assembly,
        states: Vec<State>,
        last_modified: Option<String>,
        scope: Scope,
    ) -> Self {
        let last_modified = last_modified.filter(|text| text.len() <= LAST_MODIFIED_LIMIT);
        Self { assembly, states, last_modified, origin: Origin::Download, scope }
    }

    /// The same, which came from elsewhere.
    pub(super) fn from(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }
}

/// An object on its way into the store. Nobody else writes to it meanwhile.
struct Entrant<'a> {
    id: Sha256,
    finished: Finished<'a>,
    phase: RwLockWriteGuard<'a, Phase>,
    home: Home<'a>,
    /// What its file showed after the last byte that we wrote.
    shown: Option<Mark>,
}

/// Where its bytes are.
enum Home<'a> {
    /// In its partial file.
    Disk(&'a Partial, &'a Mapped),
    /// In memory: it has no file yet.
    Memory,
    /// In a partial file that was made for it now.
    Made(Partial, Mapped),
}

/// Those that enter together, and what became of those that were to.
struct Batch<'a> {
    entrants: Vec<(usize, Entrant<'a>)>,
    results: Vec<Result<(), StoreError>>,
}

/// Makes all of `finished` part of `store`: what became of each.
pub(super) fn publish(store: &Arc<Shared>, finished: Vec<Finished<'_>>) -> Vec<Result<(), StoreError>> {
    let mut batch = Batch::of(finished);
    batch.give_files(store);
    batch.settle(store.scratch);
    batch.enter(store);
    let published = !batch.entrants.is_empty();
    for (_, entrant) in batch.entrants {
        entrant.finish(store);
    }
    if published {
        store.trim();
    }
    batch.results
}

impl<'a> Batch<'a> {
    fn of(finished: Vec<Finished<'a>>) -> Self {
        let results = finished.iter().map(|_| Ok(())).collect();
        let mut batch = Self { entrants: Vec::with_capacity(finished.len()), results };
        for (at, finished) in finished.into_iter().enumerate() {
            let twice =
                |(_, other): &(usize, Entrant<'a>)| std::ptr::eq(other.finished.assembly, finished.assembly);
            if batch.entrants.iter().any(twice) {
                continue;
            }
            match Entrant::of(finished) {
                Ok(Some(entrant)) => batch.entrants.push((at, entrant)),
                Ok(None) => {}
                Err(error) => batch.results[at] = Err(error),
            }
        }
        batch
    }

    /// Does `step` for each; for whom it fails, it ends here.
    fn each(&mut self, mut step: impl FnMut(&mut Entrant<'a>) -> Result<(), StoreError>) {
        let results = &mut self.results;
        self.entrants.retain_mut(|(at, entrant)| match step(entrant) {
            Ok(()) => true,
            Err(error) => {
                results[*at] = Err(error);
                false
            }
        });
    }

    /// Makes room for what is in memory, and writes it to files.
    fn give_files(&mut self, store: &Arc<Shared>) {
        if self.entrants.iter().all(|(_, entrant)| entrant.mapped().is_some()) {
            return;
        }
        let missing = self.entrants.iter().map(|(_, entrant)| entrant.missing()).sum();
        let _alone = lock(&store.room);
        let room_for_all = store.make_room(missing).is_ok();
        self.each(|entrant| {
            if !room_for_all {
                store.make_room(entrant.missing())?;
            }
            entrant.give_file(store)
        });
    }

    /// The bytes first: no power cut may leave a name in `objects/` whose bytes are missing.
    fn settle(&mut self, scratch: bool) {
        self.each(|entrant| {
            entrant.shown = entrant.on_file(Stamp::of).ok().map(|stamp| stamp.mark());
            let set = entrant.on_file(|file| file.set_permissions(Permissions::from_mode(0o644)));
            set.map_err(StoreError::io("setting the mode of", entrant.path()))
        });
        if scratch {
            return;
        }
        if self.entrants.len() > 1 {
            for (_, entrant) in &self.entrants {
                // Starts to write to disk (posix_fadvise(2)), so that the file system's journal waits for all at once below.
                // Only a hint; the pages that are being written stay.
                let _ = entrant.on_file(|file| Ok(fadvise(file, 0, None, Advice::DontNeed)?));
            }
        }
        self.each(|entrant| {
            let length = entrant.finished.assembly.geometry().length();
            let synced = entrant.on_file(File::sync_all);
            synced.map_err(StoreError::adding(length, "writing to disk", entrant.path()))
        });
    }

    fn enter(&mut self, store: &Shared) {
        let together: Vec<&Entrant<'_>> = self.entrants.iter().map(|(_, entrant)| entrant).collect();
        match store.enter(&together) {
            Ok(()) => {}
            Err(error) if together.len() == 1 => self.each_fails(error),
            Err(error) => {
                tracing::debug!(%error, objects = together.len(), "objects enter the store one by one");
                self.each(|entrant| store.enter(&[entrant]));
            }
        }
    }

    /// The only one there is has failed.
    fn each_fails(&mut self, error: StoreError) {
        let mut error = Some(error);
        self.each(|_| error.take().map_or(Ok(()), Err));
    }
}

impl<'a> Entrant<'a> {
    /// `None` for an object that has entered already.
    fn of(finished: Finished<'a>) -> Result<Option<Self>, StoreError> {
        let assembly = finished.assembly;
        let home = match &assembly.place {
            Place::Disk(partial, mapped) => Home::Disk(partial, mapped),
            Place::Small(_) => Home::Memory,
            Place::Memory(_) => return Err(StoreError::InMemory(assembly.id())),
        };
        if finished.states.len() != assembly.geometry().last() as usize {
            return Err(assembly.misuse("published with another number of states than it has inner pieces"));
        }
        let phase = assembly.phase.write().unwrap_or_else(PoisonError::into_inner);
        match *phase {
            Phase::Open => Ok(Some(Self { id: assembly.id(), finished, phase, home, shown: None })),
            Phase::Published => Ok(None),
            Phase::Left => Err(assembly.misuse("published after it was left")),
        }
    }

    /// The bytes that have no file yet.
    fn missing(&self) -> u64 {
        match &self.home {
            Home::Memory => self.finished.assembly.geometry().length(),
            Home::Disk(..) | Home::Made(..) => 0,
        }
    }

    fn give_file(&mut self, store: &Shared) -> Result<(), StoreError> {
        if !matches!(self.home, Home::Memory) {
            return Ok(());
        }
        let assembly = self.finished.assembly;
        let length = assembly.geometry().length();
        let (partial, file) = Partial::create(&store.layout, &assembly.id())?;
        let written = file.write_all_at(&assembly.bytes(0..length), 0);
        written.map_err(StoreError::adding(length, "writing", &partial.path))?;
        let whole = mapping::map(&file, length, None).map_err(StoreError::io("mapping", &partial.path))?;
        self.home = Home::Made(partial, Mapped { file: Arc::new(file), whole });
        Ok(())
    }

    fn partial(&self) -> Option<&Partial> {
        match &self.home {
            Home::Disk(partial, _) => Some(partial),
            Home::Made(partial, _) => Some(partial),
            Home::Memory => None,
        }
    }

    fn path(&self) -> &Path {
        self.partial().map_or(Path::new("a file in memory"), |partial| &partial.path)
    }

    /// `None` before it has a file.
    fn mapped(&self) -> Option<&Mapped> {
        match &self.home {
            Home::Disk(_, mapped) => Some(mapped),
            Home::Made(_, mapped) => Some(mapped),
            Home::Memory => None,
        }
    }

    /// Nobody gets as far as this without a file.
    fn on_file<T>(&self, act: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        self.mapped().map_or_else(|| Err(io::ErrorKind::NotFound.into()), |mapped| act(&mapped.file))
    }

    fn row(&self) -> NewRow<'_> {
        NewRow {
            id: &self.id,
            length: self.finished.assembly.geometry().length(),
            states: &self.finished.states,
            last_modified: self.finished.last_modified.as_deref(),
            origin: self.finished.origin,
            scope: self.finished.scope,
            in_place: false,
        }
    }

    /// It has entered. What was just verified needs no second look while nobody touches the file. What was only kept of an
    /// earlier download does.
    fn finish(mut self, store: &Arc<Shared>) {
        *self.phase = Phase::Published;
        if let Some(partial) = self.partial() {
            // Its name is another by now.
            partial.stays.store(true, Ordering::Release);
        }
        let assembly = self.finished.assembly;
        let Some(Mapped { file, whole }) = self.mapped() else { return };
        let (file, whole) = (Arc::clone(file), whole.clone());
        let Ok(stamp) = Stamp::of(&file) else { return };
        let parts = Parts {
            id: assembly.id(),
            geometry: assembly.geometry(),
            states: std::mem::take(&mut self.finished.states),
            last_modified: self.finished.last_modified.take(),
            file,
            whole: Some(whole),
            place: None,
            store: Arc::downgrade(store),
        };
        let pieces = 0..assembly.geometry().pieces();
        // What was written since, and not by us, is looked at before it is given away.
        let ours = self.shown == Some(stamp.mark());
        let verified = pieces.map(|piece| ours && assembly.is_checked(piece)).collect();
        store.keep_hot(Arc::new(Object::new(parts, stamp, verified)));
    }
}

impl Shared {
    /// Moves the partial files to their places and writes their rows, as one step for everybody who looks. Where it fails,
    /// nothing has changed.
    fn enter(&self, entrants: &[&Entrant<'_>]) -> Result<(), StoreError> {
        if entrants.is_empty() {
            return Ok(());
        }
        let durability = if self.scratch { Durability::Relaxed } else { Durability::Full };
        let now = crate::clock::unix_seconds();
        let entered = self.catalog.write(durability, |catalog| {
            let (mut shards, mut new_shard) = (BTreeSet::new(), false);
            for entrant in entrants {
                let row = entrant.row();
                catalog::insert(catalog, &row, now)?;
                catalog::forget_leftover(catalog, row.id)?;
                new_shard |= self.move_in(entrant)?;
                shards.insert(row.id.as_bytes()[0]);
            }
            if self.scratch {
                return Ok(());
            }
            let shards = shards.into_iter().map(|first| self.layout.shard(first));
            let mut directories = shards.chain(new_shard.then(|| self.layout.objects()));
            directories.try_for_each(|directory| {
                sync_directory(&directory).map_err(StoreError::io("writing to disk", &directory))
            })
        });
        if entered.is_err() {
            entrants.iter().for_each(|entrant| self.take_back(entrant));
        }
        self.note_change();
        entered
    }

    /// Whether a directory had to be made for it.
    fn move_in(&self, entrant: &Entrant<'_>) -> Result<bool, StoreError> {
        let row = entrant.row();
        let (from, to) = (entrant.path(), self.layout.object(row.id));
        let mut new_shard = false;
        let moved = fs::rename(from, &to).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            new_shard = self.layout.create_shard(row.id)?;
            fs::rename(from, &to)
        });
        moved.map_err(StoreError::adding(row.length, "moving into place", &to))?;
        Ok(new_shard)
    }

    /// A file without a row would take room that nobody counts: it is a partial file again, which goes with its owner.
    fn take_back(&self, entrant: &Entrant<'_>) {
        let from = entrant.path();
        if !from.exists() && self.length_of(&entrant.id).is_none() {
            let _ = fs::rename(self.layout.object(&entrant.id), from);
        }
    }
}
