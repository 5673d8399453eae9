//! What clones of the index share, and the work that may block: reading, learning, saving.

use super::journal::{Head, Journal};
use super::lists::Lists;
use super::places::{Admission, Place, Places, Wanted};
use super::reading::{Expected, ReadError, read_table_beside};
use super::signature::{Outcome, Verification, Verifier};
use super::table::Table;
use super::upgrades::Status;
use super::worker::{Queue, Stoppable};
use super::{LearnError, Learned, OpenStored, Reading, Taught};
use crate::clock;
use crate::debian::{Release, ReleaseError};
use crate::digest::Sha256;
use std::collections::{HashSet, VecDeque};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

/// The most bare Releases that wait for their Release.gpg. apt asks for it right after.
const MAX_UNSIGNED: usize = 4;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) places: RwLock<Places>,
    pub(super) lists: Option<Lists>,
    pub(super) journal: Option<Journal>,
    pub(super) verification: Verification,
    pub(super) verifier: Verifier,
    /// Releases whose signatures may come, by directory, the newest last.
    pub(super) unsigned: Mutex<VecDeque<(String, Vec<u8>)>>,
    /// Held while an index is read: one after the other bounds the memory and leaves the other cores to the rest.
    pub(super) reading: Mutex<()>,
    pub(super) queue: Queue,
    /// What is installed; `None` where nobody wants to know.
    pub(super) status: Option<Status>,
    /// Counts what was learnt.
    pub(super) learnt: watch::Sender<u64>,
    pub(super) lists_queued: AtomicBool,
    pub(super) stopping: AtomicBool,
}

impl Inner {
    pub(super) fn read_lock(&self) -> RwLockReadGuard<'_, Places> {
        self.places.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Places> {
        self.places.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn needs_check(&self, learned: Learned) -> bool {
        learned == Learned::Passing && self.verification != Verification::Off
    }

    pub(super) fn refuse(&self, base: &str, outcome: Outcome) -> Taught {
        tracing::warn!(release = base, ?outcome, "a Release teaches nothing because of its signature");
        Taught::Refused(outcome)
    }

    /// Takes a Release in, and saves it where it passed.
    pub(super) fn teach(
        &self,
        base: &str,
        body: &[u8],
        clearsigned: bool,
        learned: Learned,
        proven: bool,
    ) -> Result<Taught, LearnError> {
        let head = Head { base: base.to_owned(), clearsigned, proven, learned: clock::unix_seconds() };
        let admission = self.admit(&head, body, learned)?;
        if admission == Admission::Admitted && learned == Learned::Passing {
            self.save(&head, body);
        }
        Ok(match admission {
            Admission::Admitted => Taught::New,
            Admission::Same => Taught::Same,
            Admission::Older => Taught::Older,
        })
    }

    fn admit(&self, head: &Head, body: &[u8], learned: Learned) -> Result<Admission, LearnError> {
        let release = if head.clearsigned { Release::parse_inrelease(body)? } else { Release::parse(body)? };
        let place =
            Place::new(&head.base, &release, Sha256::of(body), learned, head.proven, clock::unix_seconds());
        // A body within its limit has fewer names than a table may have.
        let place = place.ok_or(ReleaseError::TooLong(body.len()))?;
        let admission = self.write().admit(place);
        if admission == Admission::Admitted {
            self.note_learnt();
        }
        Ok(admission)
    }

    fn note_learnt(&self) {
        self.learnt.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn save(&self, head: &Head, body: &[u8]) {
        let Some(journal) = &self.journal else { return };
        let names = |digest: &Sha256| {
            self.read_lock()
                .held(Learned::Passing)
                .any(|place| place.base == head.base && place.has_index(digest))
        };
        if let Err(error) = journal.save(head, body, names) {
            tracing::warn!(%error, release = head.base, "cannot save a Release: it will be forgotten at a restart");
        }
        self.trim_journal();
    }

    /// Removes from the journal what was forgotten.
    fn trim_journal(&self) {
        if let Some(journal) = &self.journal {
            let places = self.read_lock();
            let bases: HashSet<&str> =
                places.held(Learned::Passing).map(|place| place.base.as_str()).collect();
            journal.retain(&bases);
        }
    }

    pub(super) fn forget(&self, base: &str, body: &Sha256) {
        self.write()
            .retain(|place| place.learned != Learned::Passing || place.base != base || place.body != *body);
        self.trim_journal();
    }

    pub(super) fn keep_unsigned(&self, base: &str, body: &[u8]) {
        let mut unsigned = self.unsigned.lock().unwrap_or_else(PoisonError::into_inner);
        unsigned.retain(|(other, _)| other != base);
        unsigned.push_back((base.to_owned(), body.to_vec()));
        if unsigned.len() > MAX_UNSIGNED {
            unsigned.pop_front();
        }
    }

    pub(super) fn unsigned(&self, base: &str) -> Option<Vec<u8>> {
        let unsigned = self.unsigned.lock().unwrap_or_else(PoisonError::into_inner);
        unsigned.iter().find(|(other, _)| other == base).map(|(_, body)| body.clone())
    }

    /// Reads a stored index that a Release names, and remembers that it was read.
    pub(super) fn learn_index<R: Read + Send>(
        &self,
        digest: Sha256,
        open: impl FnOnce() -> io::Result<R>,
    ) -> Result<Reading, ReadError> {
        let Some(wanted) = self.read_lock().wanted(&digest) else { return Ok(Reading::NotNeeded) };
        let table = self.read(open()?, wanted, Expected::Stored(digest))?;
        let filled = self.write().fill(&wanted.id, &table);
        self.note_learnt();
        for (base, body) in filled {
            let saved =
                self.journal.as_ref().map_or(Ok(()), |journal| journal.add_index(&base, &body, digest));
            if let Err(error) = saved {
                tracing::warn!(%error, release = base, "cannot save which index was read");
            }
        }
        self.trim_journal();
        Ok(Reading::Read(table.len()))
    }

    /// Reads an index of apt's lists. Says how many entries it has.
    pub(super) fn read_and_fill(
        &self,
        source: impl Read + Send,
        wanted: Wanted,
        expected: Expected,
    ) -> Result<usize, ReadError> {
        let table = self.read(source, wanted, expected)?;
        self.write().fill(&wanted.id, &table);
        self.note_learnt();
        Ok(table.len())
    }

    fn read(
        &self,
        source: impl Read + Send,
        wanted: Wanted,
        expected: Expected,
    ) -> Result<Arc<Table>, ReadError> {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = clock::now();
        let source = Stoppable { source, stopping: &self.stopping };
        let installed = self.status.as_ref().map(Status::installed).unwrap_or_default();
        let table = read_table_beside(source, wanted.kind, expected, &installed)?;
        let took = clock::now().duration_since(begun);
        tracing::debug!(index = %wanted.id, entries = table.len(), ?took, "read an index");
        Ok(Arc::new(table))
    }

    /// Learns again what the journal has.
    pub(super) fn replay(&self, open: &mut OpenStored) {
        let Some(journal) = &self.journal else { return };
        for saved in journal.load() {
            if self.stopping() {
                return;
            }
            if let Err(error) = self.admit(&saved.head, &saved.body, Learned::Passing) {
                tracing::info!(%error, release = saved.head.base, "cannot use a Release of the journal");
                continue;
            }
            // Those that were read; and those that passed and were not read before the end came, if they are stored.
            let mut named = self.read_lock().indexes_of(&saved.head.base);
            named.retain(|digest| !saved.indexes.contains(digest));
            for digest in saved.indexes.into_iter().chain(named) {
                // What the cache has evicted since is learnt when it passes again.
                let Some(source) = self.wants(&digest).then(|| open(&digest)).flatten() else { continue };
                if let Err(error) = self.learn_index(digest, || Ok(source)) {
                    tracing::info!(%error, %digest, "cannot use an index of the journal");
                }
            }
        }
        self.trim_journal();
    }

    fn wants(&self, digest: &Sha256) -> bool {
        self.read_lock().wanted(digest).is_some()
    }
}
