//! Local files into the store: hashed by all cores, written to the catalog in batches.
//!
//! Worker threads take one file after another ([`taking`]): each is hashed, and what is new is copied, or put to the cache
//! without a copy. The caller's thread writes what they have taken to the catalog ([`entering`]), at least once a second: an
//! import that is killed goes on there, for a file that is what it was is not hashed again.

mod entering;
mod taking;

use std::collections::BTreeMap;
use std::iter::Enumerate;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::catalog::{Origin, Scope};
use super::error::StoreError;
use super::{Shared, Store, lock};
use crate::clock;
use crate::digest::Sha256;
use taking::{Hand, Taken};

/// How many files are written to the catalog at once. Each is an open file, of 1024 that a process may usually have.
const BATCH: usize = 128;

/// The longest time before what was taken is written to the catalog: as much work a kill costs.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// How often the caller hears how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// How many results wait, for the one of an earlier file, to be told in the order of the files; then they come as they are.
const WAITING: usize = 4096;

/// How many threads hash at most: no disk feeds more.
const MOST_THREADS: usize = 32;

/// How files become objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They are put into the cache: with shared blocks where the file system can, else as a hard link where root owns the
    /// file and nobody else may write it, else as a copy.
    Copy,
    /// The same, and any file that everybody may read is linked: nobody changes it in place.
    Link,
    /// They stay where they are, and are served from there.
    InPlace,
}

/// What is to be imported as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import {
    /// What the objects are from then on.
    pub origin: Origin,
    /// How.
    pub way: Way,
}

/// What an import has done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was not hashed: it is what it was at the last import.
    Unchanged,
    /// Its object was here.
    Present,
    /// Its bytes were copied.
    Copied,
    /// The cache shares its blocks.
    Cloned,
    /// The cache has a hard link to it.
    Linked,
    /// Its object lies in it.
    InPlace,
}

/// A file that is now an object of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Its digest.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// Whether the store had it already.
    pub was_there: bool,
    /// What was done.
    pub how: How,
}

/// What an import has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportSum {
    /// Files that are objects now.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were hashed to the end.
    pub hashed_files: u64,
    /// The bytes that were hashed.
    pub hashed_bytes: u64,
    /// Files that were as they had been, and not hashed.
    pub unchanged: u64,
    /// Files that were hashed and whose objects were here.
    pub present: u64,
    /// Files whose bytes were copied.
    pub copied: u64,
    /// Files whose blocks are shared.
    pub cloned: u64,
    /// Files that were linked.
    pub linked: u64,
    /// Files that objects lie in from now on.
    pub in_place: u64,
    /// Files that were not imported.
    pub failed: u64,
}

/// What an import tells.
#[derive(Debug)]
pub enum Told<'a> {
    /// What came of a file.
    File(&'a Path, Result<Imported, StoreError>),
    /// How far it is.
    Progress(&'a ImportSum),
}

/// What became of file number so and so.
struct Outcome {
    number: u64,
    path: PathBuf,
    taken: Result<Taken, StoreError>,
}

impl Store {
    /// Imports the regular file at `path` by [`Way::Copy`]. An object that is there already only gets the new `origin`.
    ///
    /// # Errors
    /// [`StoreError::Full`] where there is no room; [`StoreError::TooLong`]; else what the system refused, also where
    /// `path` is no regular file or changes while it is read.
    pub fn import_file(&self, path: &Path, origin: Origin) -> Result<Imported, StoreError> {
        let import = Import { origin, way: Way::Copy };
        let mut hand = Hand::new(&self.shared, import);
        let taken = hand.take(path, &AtomicU64::new(0))?;
        let entered = self.shared.enter_all(&[taken], import)?;
        entered.into_iter().next().unwrap_or_else(|| Err(StoreError::vanished(path)))
    }

    /// Imports `files`, which the threads of the import ask for one by one. `each` hears of every file, in their order as a rule.
    ///
    /// # Errors
    /// What SQLite refused. What goes wrong with a file is told by [`Told::File`].
    pub fn import<I>(
        &self,
        files: I,
        import: Import,
        mut each: impl FnMut(Told<'_>),
    ) -> Result<ImportSum, StoreError>
    where
        I: Iterator<Item = PathBuf> + Send,
    {
        let files = Mutex::new(files.enumerate());
        let hashed = AtomicU64::new(0);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        std::thread::scope(|scope| {
            let (sender, results) = sync_channel(BATCH);
            for _ in 0..cores.min(MOST_THREADS) {
                let sender = sender.clone();
                let (files, hashed) = (&files, &hashed);
                scope.spawn(move || work(&self.shared, import, files, hashed, &sender));
            }
            drop(sender);
            Desk::new(&self.shared, import, &hashed, &mut each).run(&results)
        })
    }
}

/// Takes files until there are none, or nobody listens any more.
fn work<I: Iterator<Item = PathBuf>>(
    store: &Arc<Shared>,
    import: Import,
    files: &Mutex<Enumerate<I>>,
    hashed: &AtomicU64,
    results: &SyncSender<Outcome>,
) {
    let mut hand = Hand::new(store, import);
    loop {
        let Some((number, path)) = lock(files).next() else { return };
        let taken = hand.take(&path, hashed);
        if results.send(Outcome { number: number as u64, path, taken }).is_err() {
            return;
        }
    }
}

/// Where what was taken is written down and told.
struct Desk<'a, F> {
    store: &'a Arc<Shared>,
    import: Import,
    hashed: &'a AtomicU64,
    each: &'a mut F,
    sum: ImportSum,
    batch: Vec<(u64, PathBuf, Taken)>,
    write_at: Instant,
    tell_at: Instant,
    /// What cannot be told before the file number `next`.
    waiting: BTreeMap<u64, (PathBuf, Result<Imported, StoreError>)>,
    next: u64,
}

impl<'a, F: FnMut(Told<'_>)> Desk<'a, F> {
    fn new(store: &'a Arc<Shared>, import: Import, hashed: &'a AtomicU64, each: &'a mut F) -> Self {
        let now = clock::now();
        Self {
            store,
            import,
            hashed,
            each,
            sum: ImportSum::default(),
            batch: Vec::new(),
            write_at: now + WRITE_EVERY,
            tell_at: now + TELL_EVERY,
            waiting: BTreeMap::new(),
            next: 0,
        }
    }

    fn run(mut self, results: &Receiver<Outcome>) -> Result<ImportSum, StoreError> {
        loop {
            let wait = self.tell_at.min(self.write_at).saturating_duration_since(clock::now());
            match results.recv_timeout(wait) {
                Ok(Outcome { number, path, taken: Ok(taken) }) => self.batch.push((number, path, taken)),
                Ok(Outcome { number, path, taken: Err(error) }) => self.note(number, path, Err(error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = clock::now();
            if self.batch.len() >= BATCH || now >= self.write_at {
                self.write()?;
            }
            if now >= self.tell_at {
                self.tell_at = now + TELL_EVERY;
                self.progress();
            }
        }
        self.write()?;
        while let Some((number, _)) = self.waiting.first_key_value() {
            self.next = *number;
            self.tell();
        }
        self.progress();
        Ok(self.sum)
    }

    /// Writes the batch to the catalog.
    fn write(&mut self) -> Result<(), StoreError> {
        self.write_at = clock::now() + WRITE_EVERY;
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut names = Vec::with_capacity(self.batch.len());
        let mut taken = Vec::with_capacity(self.batch.len());
        for (number, path, one) in self.batch.drain(..) {
            names.push((number, path));
            taken.push(one);
        }
        let entered = self.store.enter_all(&taken, self.import)?;
        for ((number, path), result) in names.into_iter().zip(entered) {
            self.note(number, path, result);
        }
        Ok(())
    }

    fn note(&mut self, number: u64, path: PathBuf, result: Result<Imported, StoreError>) {
        self.sum.count(result.as_ref().ok());
        self.waiting.insert(number, (path, result));
        if self.waiting.len() > WAITING
            && let Some((first, _)) = self.waiting.first_key_value()
        {
            self.next = *first;
        }
        self.tell();
    }

    /// Tells what is next, as far as it is known.
    fn tell(&mut self) {
        while let Some((path, result)) = self.waiting.remove(&self.next) {
            self.next += 1;
            (self.each)(Told::File(&path, result));
        }
    }

    fn progress(&mut self) {
        self.sum.hashed_bytes = self.hashed.load(Ordering::Relaxed);
        (self.each)(Told::Progress(&self.sum));
    }
}

impl ImportSum {
    /// `None` is a file that failed.
    fn count(&mut self, imported: Option<&Imported>) {
        let Some(imported) = imported else {
            self.failed += 1;
            return;
        };
        self.files += 1;
        self.bytes += imported.length;
        self.hashed_files += u64::from(imported.how != How::Unchanged);
        let counter = match imported.how {
            How::Unchanged => &mut self.unchanged,
            How::Present => &mut self.present,
            How::Copied => &mut self.copied,
            How::Cloned => &mut self.cloned,
            How::Linked => &mut self.linked,
            How::InPlace => &mut self.in_place,
        };
        *counter += 1;
    }
}

impl Import {
    /// What is not to be announced is not for those who would only know of it by an announcement either.
    fn scope(self) -> Scope {
        if self.origin.is_announced() { Scope::Public } else { Scope::Local }
    }
}
