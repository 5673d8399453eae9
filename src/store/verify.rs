//! Every byte looked at again.

use std::sync::Arc;

use super::catalog::Entry;
use super::error::StoreError;
use super::{Shared, Store};
use crate::digest::Sha256;

/// What [`Store::verify`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every piece links, up to the digest.
    Whole,
    /// Not the bytes that the digest names; the object has left the store.
    Damaged,
    /// The store does not have it.
    Absent,
}

/// What [`Store::verify_all`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verification {
    /// Whole objects.
    pub whole: u64,
    /// Their bytes.
    pub whole_bytes: u64,
    /// Objects that were damaged and have left the store.
    pub damaged: u64,
    /// Objects whose file was gone, or that were evicted meanwhile.
    pub absent: u64,
}

impl Store {
    /// Reads object `id` from disk and verifies every piece, whatever was verified before. One that is damaged leaves
    /// the store.
    ///
    /// # Errors
    /// What the system or SQLite refused: nothing is known of the object then.
    pub fn verify(&self, id: &Sha256) -> Result<Verdict, StoreError> {
        match self.shared.verify(id) {
            Err(StoreError::Damaged { .. }) => Ok(Verdict::Damaged),
            verdict => verdict,
        }
    }

    /// Verifies every object, the least recently used first; `each` hears of it as it goes.
    ///
    /// # Errors
    /// What the system or SQLite refused.
    pub fn verify_all(&self, mut each: impl FnMut(&Entry, Verdict)) -> Result<Verification, StoreError> {
        let mut sum = Verification::default();
        for entry in self.list()? {
            let verdict = self.verify(&entry.id)?;
            match verdict {
                Verdict::Whole => {
                    sum.whole += 1;
                    sum.whole_bytes += entry.length;
                }
                Verdict::Damaged => sum.damaged += 1,
                Verdict::Absent => sum.absent += 1,
            }
            each(&entry, verdict);
        }
        Ok(sum)
    }
}

impl Shared {
    fn verify(self: &Arc<Self>, id: &Sha256) -> Result<Verdict, StoreError> {
        let Some(object) = self.open_from_disk(id)? else { return Ok(Verdict::Absent) };
        object.verify_all()?;
        Ok(Verdict::Whole)
    }
}
