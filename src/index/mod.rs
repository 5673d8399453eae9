//! The index of hashes: which address is which object.
//!
//! It learns from every Release, Packages and Sources that passes through the proxy, and from apt's own lists. An
//! index that a Release does not name is never read, and one that does not have the digest that the Release names
//! teaches nothing.
//!
//! ```text
//! InRelease ─ signature ─▶ places ◀─ lists (what apt has)      lookup(url) ─▶ places ─▶ digest, length
//! Packages ─ decompress ─ reading ─▶ table ─▶ places           journal: what passed, for after a restart
//! ```

mod decompress;
mod inner;
mod journal;
mod keyring;
mod lists;
mod places;
mod reading;
mod signature;
mod table;
mod upgrades;
mod worker;

use crate::debian::{Clearsigned, Release, ReleaseError, RepoUrl};
use crate::digest::Sha256;
use inner::Inner;
use journal::Journal;
use lists::Lists;
use std::collections::HashSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use upgrades::Status;
use worker::{Queue, Work};

pub use reading::{Expected, IndexKind, ReadError, read_table};
pub use signature::{Outcome, Verification, Verifier};
pub use table::{Key, MAX_ENTRIES, Table};
pub use upgrades::Upgrade;

/// What the index is made of.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// apt's lists (`mirrors.lists_dir`); none are read without it.
    pub lists_dir: Option<PathBuf>,
    /// The daemon's state directory; without it nothing outlives a restart.
    pub state_dir: Option<PathBuf>,
    /// `mirrors.verify_signatures`.
    pub verification: Verification,
    /// `mirrors.keyrings`.
    pub keyrings: Vec<PathBuf>,
    /// dpkg's status file; without it [`Index::upgrades`] knows of none.
    pub status: Option<PathBuf>,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The object that it is.
    pub id: Sha256,
    /// Its length in bytes; unknown for a by-hash address of which no Release was seen.
    pub length: Option<u64>,
    /// Who names it.
    pub kind: Kind,
}

/// Who names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Release: an index, a translation, a list of contents, an icon.
    Index,
    /// Packages or Sources: a package, a .dsc, a tarball.
    File,
}

/// That an index names a package.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Naming {
    /// The package.
    pub id: Sha256,
    /// The host that the index came from, with the port where it is another than usual.
    pub host: String,
    /// Whether its Release passed through the proxy: then nobody needs credentials for it.
    pub passed: bool,
}

/// Where a Release was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// In apt's own lists: apt has verified it.
    FromApt,
    /// On its way through the proxy.
    Passing,
}

/// What came of a Release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taught {
    /// It is known now, in place of the one that was there.
    New,
    /// It was known before, or it said nothing more.
    Same,
    /// A newer one, or one that is proven, is known; this one is not used.
    Older,
    /// It waits for its Release.gpg.
    Waiting,
    /// Its signature does not allow to use it.
    Refused(Outcome),
}

/// Why a Release could not be learnt.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// Neither InRelease, Release nor Release.gpg.
    #[error("{0} is not the address of a Release")]
    NotARelease(RepoUrl),
    /// The body cannot be used.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The runtime is shutting down.
    #[error("the reading of a Release was broken off")]
    BrokenOff,
}

/// What came of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It was read, with so many entries.
    Read(usize),
    /// Nothing was opened: it was read before, or no Release names it as an index.
    NotNeeded,
}

/// What came of an index that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It will be read; [`Index::settled`] waits for it.
    Queued,
    /// It was read before, or no Release names it as an index.
    NotNeeded,
    /// Too much waits already, or nothing is read any more.
    Full,
}

/// How much is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Releases.
    pub releases: usize,
    /// Tables of Packages and Sources, each counted once.
    pub tables: usize,
    /// Paths in those tables.
    pub entries: usize,
}

/// Opens an index; it is called once, on a thread that may block.
pub type Open = Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send>> + Send>;

/// Opens a stored object; it is called on a thread that may block.
pub type OpenStored = Box<dyn FnMut(&Sha256) -> Option<Box<dyn Read + Send>> + Send>;

/// The index of hashes. Clones are one and the same.
#[derive(Debug, Clone)]
pub struct Index(Arc<Inner>);

impl Index {
    /// An index that knows nothing yet. apt's lists wait to be read by [`Self::run`].
    pub fn new(options: Options) -> Self {
        let scratch = options.state_dir.clone().unwrap_or_else(std::env::temp_dir);
        let index = Self(Arc::new(Inner {
            places: RwLock::default(),
            lists: options.lists_dir.map(Lists::new),
            journal: options.state_dir.as_deref().map(Journal::new),
            verification: options.verification,
            verifier: Verifier::new(options.keyrings, scratch),
            unsigned: Mutex::default(),
            reading: Mutex::default(),
            queue: Queue::new(),
            status: options.status.map(Status::new),
            learnt: watch::Sender::default(),
            lists_queued: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }));
        index.queue_lists();
        index
    }

    /// What `url` is, if anything that was learnt names it. It never waits for a reading; see [`Self::settled`].
    pub fn lookup(&self, url: &RepoUrl) -> Option<Known> {
        self.0.read_lock().lookup(url)
    }

    /// Who names the packages with these digests. It goes through everything that is known: some tens of milliseconds, on
    /// a thread that may block.
    pub fn namings(&self, ids: &HashSet<Sha256>) -> Vec<Naming> {
        self.0.read_lock().namings(ids)
    }

    /// The name of the archive ([`crate::wire::archive_name`]) whose Release or indexes name `url`.
    pub fn archive_of(&self, url: &RepoUrl) -> Option<Sha256> {
        self.0.read_lock().archive_of(url)
    }

    /// The names of the archives that are used, each once, the one used last first. Those whose mirrors stand in a local
    /// network only where `local`.
    pub fn archives(&self, local: bool) -> Vec<Sha256> {
        self.0.read_lock().archives(local)
    }

    /// Whether `digest` is that of an index that a Release names and that should be read: an offer is welcome.
    pub fn wants(&self, digest: &Sha256) -> bool {
        self.0.read_lock().wanted(digest).is_some()
    }

    /// Whether `url` has the name of what [`Self::learn_release`] takes.
    pub fn is_release(url: &RepoUrl) -> bool {
        matches!(url.split_last().1, "InRelease" | "Release" | "Release.gpg")
    }

    /// Learns an InRelease, a Release, or the Release.gpg that belongs to a Release seen before. `body` is the whole
    /// body without any content coding. Checking a signature takes 5 s at most.
    ///
    /// # Errors
    /// [`LearnError`]; nothing is learnt then.
    pub async fn learn_release(
        &self,
        url: &RepoUrl,
        body: &[u8],
        learned: Learned,
    ) -> Result<Taught, LearnError> {
        let _pending = self.0.queue.pending();
        let (base, name) = url.split_last();
        match name {
            "InRelease" => {
                let proven = match self.0.needs_check(learned) {
                    false => true,
                    true => {
                        let signed = Clearsigned::parse(body).map_err(ReleaseError::from)?;
                        let outcome = self.0.verifier.check(&signed.text, signed.signature).await;
                        if !self.0.verification.allows(outcome) {
                            return Ok(self.0.refuse(base, outcome));
                        }
                        outcome == Outcome::Good
                    }
                };
                self.teach(base, body, true, learned, proven).await
            }
            "Release" if self.0.needs_check(learned) => {
                Release::parse(body)?;
                self.0.keep_unsigned(base, body);
                match self.0.verification {
                    Verification::Enforce => Ok(Taught::Waiting),
                    _ => self.teach(base, body, false, learned, false).await,
                }
            }
            "Release" => self.teach(base, body, false, learned, true).await,
            "Release.gpg" => self.learn_signature(base, body, learned).await,
            _ => Err(LearnError::NotARelease(url.clone())),
        }
    }

    /// Reads the index with digest `digest` (as it is stored: compressed or not) now, unless that is not needed.
    /// The caller has it from a look-up, so its address does not matter; its bytes are verified once more.
    ///
    /// # Errors
    /// [`ReadError`]; nothing is learnt then.
    pub async fn learn_index<F, R>(&self, digest: Sha256, open: F) -> Result<Reading, ReadError>
    where
        F: FnOnce() -> io::Result<R> + Send + 'static,
        R: Read + Send + 'static,
    {
        if !self.wants(&digest) {
            return Ok(Reading::NotNeeded);
        }
        let (inner, pending) = (Arc::clone(&self.0), self.0.queue.pending());
        let read = tokio::task::spawn_blocking(move || {
            let _pending = pending;
            inner.learn_index(digest, open)
        });
        read.await.unwrap_or(Err(ReadError::BrokenOff))
    }

    /// Puts the index with digest `digest` in the queue of what [`Self::run`] reads, unless that is not needed.
    pub fn offer_index(&self, digest: Sha256, open: Open) -> Offer {
        if !self.wants(&digest) {
            return Offer::NotNeeded;
        }
        match self.0.queue.push(Work::Index { digest, open }) {
            true => Offer::Queued,
            false => Offer::Full,
        }
    }

    /// Has [`Self::run`] learn again what passed before a restart; `open` opens the indexes, which are objects of
    /// the store. To be called once, at start.
    pub fn replay(&self, open: OpenStored) {
        if self.0.journal.is_some() {
            self.0.queue.push(Work::Replay(open));
        }
    }

    /// Has [`Self::run`] read what is new in apt's lists. Cheap enough for every request: one `stat` where nothing
    /// changed.
    pub fn refresh(&self) {
        if self.0.lists.as_ref().is_some_and(Lists::changed) {
            self.queue_lists();
        }
    }

    /// Changes whenever something was learnt.
    pub fn learnt(&self) -> watch::Receiver<u64> {
        self.0.learnt.subscribe()
    }

    /// What this machine would upgrade, by dpkg's status and what is known now.
    pub async fn upgrades(&self) -> Vec<Upgrade> {
        let inner = Arc::clone(&self.0);
        let find = move || {
            let Some(status) = &inner.status else { return Vec::new() };
            let installed = status.installed();
            inner.read_lock().upgrades(&installed)
        };
        tokio::task::spawn_blocking(find).await.unwrap_or_default()
    }

    /// Waits until everything that was begun or queued before this call is learnt, `patience` at most. Says whether it
    /// is.
    pub async fn settled(&self, patience: Duration) -> bool {
        self.0.queue.settled(patience).await
    }

    /// Reads what is queued, until `shutdown`; a reading that has begun is broken off. Only the first call works.
    pub async fn run(self, shutdown: CancellationToken) {
        worker::run(&self.0, &shutdown).await;
    }

    /// How much is known.
    pub fn figures(&self) -> Figures {
        let (releases, tables, entries) = self.0.read_lock().counts();
        Figures { releases, tables, entries }
    }

    fn queue_lists(&self) {
        let inner = &self.0;
        if inner.lists.is_some()
            && !inner.lists_queued.swap(true, Ordering::AcqRel)
            && !inner.queue.push(Work::Lists)
        {
            inner.lists_queued.store(false, Ordering::Release);
        }
    }

    /// [`Inner::teach`] on a thread that may block: it hashes thousands of names and writes the journal.
    async fn teach(
        &self,
        base: &str,
        body: &[u8],
        clearsigned: bool,
        learned: Learned,
        proven: bool,
    ) -> Result<Taught, LearnError> {
        let (inner, base, body) = (Arc::clone(&self.0), base.to_owned(), body.to_vec());
        tokio::task::spawn_blocking(move || inner.teach(&base, &body, clearsigned, learned, proven))
            .await
            .unwrap_or(Err(LearnError::BrokenOff))
    }

    /// Checks a Release.gpg against the Release that came before it.
    async fn learn_signature(
        &self,
        base: &str,
        signature: &[u8],
        learned: Learned,
    ) -> Result<Taught, LearnError> {
        let Some(body) = self.0.unsigned(base).filter(|_| self.0.needs_check(learned)) else {
            return Ok(Taught::Same);
        };
        let outcome = self.0.verifier.check(&body, signature).await;
        if !self.0.verification.allows(outcome) {
            self.0.forget(base, &Sha256::of(&body));
            return Ok(self.0.refuse(base, outcome));
        }
        self.teach(base, &body, false, learned, outcome == Outcome::Good).await
    }
}

impl Verification {
    fn allows(self, outcome: Outcome) -> bool {
        match self {
            Self::Off => true,
            Self::Auto => outcome != Outcome::Bad,
            Self::Enforce => outcome == Outcome::Good,
        }
    }
}
