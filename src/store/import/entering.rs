//! What was taken, written to the catalog: one transaction for many files.

use std::collections::BTreeSet;
use std::fs::{self, File};

use rusqlite::Connection;
use rustix::fs::syncfs;

use super::super::catalog::{self, Durability, NewRow};
use super::super::error::StoreError;
use super::super::files;
use super::super::layout::sync_directory;
use super::super::{Shared, lock};
use super::taking::Taken;
use super::{How, Import, Imported, Way};
use crate::clock::unix_seconds;
use crate::digest::Sha256;

/// How many files, or names, are given to the disk one by one. More of them wait less for the whole file system (sync(2)).
const FEW: usize = 8;

impl Shared {
    /// Moves files into their places and writes their rows, as [`Shared::enter`] does for one; the result of each.
    ///
    /// # Errors
    /// What SQLite refused: then none has entered.
    pub(super) fn enter_all(
        &self,
        taken: &[Taken],
        import: Import,
    ) -> Result<Vec<Result<Imported, StoreError>>, StoreError> {
        let mut moved = Vec::new();
        self.settle(taken)?;
        let entered = self.catalog.write(Durability::Full, |catalog| {
            let mut results = Vec::with_capacity(taken.len());
            for one in taken {
                match self.enter_one(catalog, one, import, &mut moved) {
                    Err(error @ StoreError::Catalog(_)) => return Err(error),
                    entered => results.push(entered),
                }
            }
            self.settle_names(&moved)?;
            Ok(results)
        });
        if entered.is_err() {
            // Files without a row would take room that nobody counts.
            let lost = moved.iter().filter(|id| self.length_of(id).is_none());
            lost.for_each(|id| drop(fs::remove_file(self.layout.object(id))));
        }
        self.note_change();
        let results: Vec<Result<Imported, StoreError>> = entered?;
        let placed = results.iter().flatten().map(|one| one.id);
        if import.way == Way::InPlace {
            self.remove_copies(placed)?;
        } else if !moved.is_empty() {
            self.trim();
        }
        Ok(results)
    }

    /// The bytes first: no power cut may leave a row whose bytes are missing. A linked file may be as new as a copy.
    fn settle(&self, taken: &[Taken]) -> Result<(), StoreError> {
        let new = || taken.iter().filter_map(|one| Some((&one.path, one.new.as_ref()?)));
        if new().count() > FEW {
            return self.sync_everything();
        }
        new().try_for_each(|(path, new)| new.file.sync_all().map_err(StoreError::io("writing to disk", path)))
    }

    /// Then the names.
    fn settle_names(&self, moved: &[Sha256]) -> Result<(), StoreError> {
        let shards: BTreeSet<u8> = moved.iter().map(|id| id.as_bytes()[0]).collect();
        if shards.len() > FEW {
            return self.sync_everything();
        }
        shards
            .into_iter()
            .map(|shard| self.layout.shard(shard))
            .chain((!moved.is_empty()).then(|| self.layout.objects()))
            .try_for_each(|shard| sync_directory(&shard).map_err(StoreError::io("writing to disk", &shard)))
    }

    fn sync_everything(&self) -> Result<(), StoreError> {
        let root = self.layout.root();
        let synced = File::open(root).and_then(|root| Ok(syncfs(root)?));
        synced.map_err(StoreError::io("writing to the disk of", root))
    }

    fn enter_one(
        &self,
        catalog: &Connection,
        taken: &Taken,
        import: Import,
        moved: &mut Vec<Sha256>,
    ) -> Result<Imported, StoreError> {
        let (id, length) = (taken.id, taken.mark.length);
        let before = catalog::is_in_place(catalog, &id)?;
        let stays = import.way == Way::InPlace;
        if let Some(new) = &taken.new {
            let to = self.layout.object(&id);
            self.layout.create_shard(&id).map_err(StoreError::io("making", &to))?;
            fs::rename(&new.partial.path, &to).map_err(StoreError::adding(
                length,
                "moving into place",
                &to,
            ))?;
            moved.push(id);
        }
        if let Some(states) = taken.states.as_deref().filter(|_| stays || taken.new.is_some()) {
            let (origin, scope) = (import.origin, import.scope());
            let row = NewRow { id: &id, length, states, last_modified: None, origin, scope, in_place: stays };
            catalog::insert(catalog, &row, unix_seconds())?;
            catalog::forget_leftover(catalog, &id)?;
        } else if stays {
            catalog::set_in_place(catalog, &id, true)?;
        }
        let is_here = catalog::set_scope(catalog, &id, import.scope())?
            && catalog::set_origin(catalog, &id, import.origin)?;
        if !is_here {
            return Err(StoreError::vanished(&taken.path));
        }
        if stays || taken.how != How::Unchanged {
            // A file that its object lies in stays one of its places, whatever is done besides.
            let lies =
                files::known(catalog, &taken.path)?.is_some_and(|known| known.id == id && known.in_place);
            let in_place = stays || (lies && taken.new.is_none());
            files::keep(catalog, &taken.path, &taken.mark, &id, in_place)?;
        }
        Ok(Imported { id, length, was_there: before.is_some(), how: taken.how })
    }

    /// Removes what the cache has itself of objects that are in place now. Under the catalog's lock nobody publishes one.
    fn remove_copies(&self, placed: impl Iterator<Item = Sha256>) -> Result<(), StoreError> {
        let copies: Vec<Sha256> = placed.filter(|id| self.layout.object(id).exists()).collect();
        if copies.is_empty() {
            return Ok(());
        }
        self.catalog.write(Durability::Relaxed, |catalog| {
            for id in &copies {
                if catalog::is_in_place(catalog, id)? == Some(true) {
                    self.unlink(id)?;
                }
            }
            Ok(())
        })?;
        let mut hot = lock(&self.hot);
        let closed: Vec<_> = copies.iter().filter_map(|id| hot.remove(id)).collect();
        drop(hot);
        drop(closed);
        Ok(())
    }
}
