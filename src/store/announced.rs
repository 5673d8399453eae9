//! What the announcer needs to know of the objects, and what it writes down.

use tokio::sync::watch;

use super::catalog::{self, Durability, Origin, Scope};
use super::error::StoreError;
use super::{Shared, Store};
use crate::digest::Sha256;
use crate::pieces::{Geometry, State};

/// How many rows are read at once: whoever asks for an object waits for no more than these, a millisecond or so.
const PAGE: u32 = 1024;

/// What the announcer has to know of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The digest that names the object.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// Where it came from.
    pub origin: Origin,
    /// With whom it may be shared.
    pub scope: Scope,
    /// When it was last used, in seconds since 1970 UTC, accurate to a minute or so.
    pub used: u64,
    /// When it was last announced, in seconds since 1970 UTC.
    pub announced: Option<u64>,
    /// How many other providers were seen then.
    pub others: u32,
}

impl Store {
    /// Every object as the announcer sees it, in no order. 60,000 take some tens of milliseconds; nobody waits for
    /// more than a part of them. An object that comes or goes meanwhile may be in the list or not,
    /// and one that does both may be in it twice.
    ///
    /// # Errors
    /// What SQLite refused.
    pub fn offers(&self) -> Result<Vec<Offer>, StoreError> {
        let mut offers = Vec::new();
        let mut after = 0;
        loop {
            let page = self.shared.catalog.read(|catalog| catalog::offers(catalog, after, PAGE))?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            offers.extend(page.into_iter().map(|(_, offer)| offer));
        }
        Ok(offers)
    }

    /// Writes down which objects were announced when, in seconds since 1970 UTC, and how many other providers each
    /// announce saw. Objects that left meanwhile are passed over.
    ///
    /// # Errors
    /// What SQLite refused; then none is written.
    pub fn announced(&self, done: &[(Sha256, u64, u32)]) -> Result<(), StoreError> {
        if done.is_empty() {
            return Ok(());
        }
        self.shared.catalog.write(Durability::Relaxed, |catalog| {
            Ok(done
                .iter()
                .try_for_each(|(id, when, others)| catalog::set_announced(catalog, id, *when, *others))?)
        })
    }

    /// How object `id` is cut and the chain's states between its pieces, `None` where the catalog does not have it. It is
    /// no use of the object, and its file is not looked at.
    ///
    /// # Errors
    /// What SQLite refused.
    pub fn states(&self, id: &Sha256) -> Result<Option<(Geometry, Vec<State>)>, StoreError> {
        let Some(record) = self.shared.catalog.read(|catalog| catalog::record(catalog, id))? else {
            return Ok(None);
        };
        let geometry = Geometry::new(record.length)?;
        // A row that makes no sense is found out, and dropped, when the object is opened.
        Ok((record.states.len() == geometry.last() as usize).then_some((geometry, record.states)))
    }

    /// With whom object `id` may be shared, `None` where the catalog does not have it.
    ///
    /// # Errors
    /// What SQLite refused: then nobody can know.
    pub fn scope(&self, id: &Sha256) -> Result<Option<Scope>, StoreError> {
        self.shared.catalog.read(|catalog| catalog::scope(catalog, id))
    }

    /// Object `id` may be shared with everybody from now on: a public repository has it as well.
    ///
    /// # Errors
    /// What SQLite refused.
    pub fn make_public(&self, id: &Sha256) -> Result<(), StoreError> {
        let write = |catalog: &_| Ok(catalog::set_scope(catalog, id, Scope::Public)?);
        if self.shared.catalog.write(Durability::Relaxed, write)? {
            self.shared.note_change();
        }
        Ok(())
    }

    /// Changes whenever this process adds or removes objects. What another process does is not seen here.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Shared {
    /// Tells those who watch [`Store::changes`].
    pub(super) fn note_change(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}
