//! What was learnt of passing Releases, for the time after a restart.
//!
//! In `<state>/indexes/v1/`, for every Release that is held, `<key>` being the first 32 digits of the SHA-256 of its
//! directory:
//!
//! - `<key>.release`: one line of JSON ([`Head`]), then the body as it came;
//! - `<key>.indexes`: the digest of that body, then those of the indexes that were read, one on each line.
//!
//! The indexes themselves are objects of the store. Files are published by rename, so each is whole or not there;
//! an `.indexes` that belongs to another body is not used.

use super::places::MAX_PASSING;
use crate::debian::MAX_RELEASE;
use crate::digest::Sha256;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most indexes that are remembered of one Release: all components and architectures of the largest archive are
/// some two hundred.
const MAX_INDEXES: usize = 1024;

/// The longest file, in bytes: a Release, and its head.
const MAX_FILE: u64 = MAX_RELEASE as u64 + (64 << 10);

/// The first line of a `.release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The directory of the Release, `host/path`.
    pub(super) base: String,
    /// Whether the body is an InRelease.
    pub(super) clearsigned: bool,
    /// Whether its signature was good.
    pub(super) proven: bool,
    /// When it was learnt, in seconds since 1970-01-01 UTC.
    pub(super) learned: u64,
}

/// A Release that was learnt before, with the indexes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) indexes: Vec<Sha256>,
}

/// The files, and what they hold.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    held: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    body: Sha256,
    indexes: Vec<Sha256>,
}

impl Journal {
    /// The journal in the daemon's state directory. Nothing is read yet.
    pub(super) fn new(state: &Path) -> Self {
        Self { folder: state.join("indexes").join("v1"), held: Mutex::default() }
    }

    /// Everything that was saved, the oldest first. What cannot be read is removed.
    pub(super) fn load(&self) -> Vec<Saved> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            match path.extension().and_then(|end| end.to_str()) {
                Some("release") => match read_saved(&path) {
                    Some(saved) if path == self.path(&saved.head.base, "release") => found.push(saved),
                    _ => discard(&path),
                },
                Some("indexes") if path.with_extension("release").exists() => {}
                _ => discard(&path),
            }
        }
        found.sort_by(|a, b| (a.head.learned, &a.head.base).cmp(&(b.head.learned, &b.head.base)));
        for forgotten in found.drain(..found.len().saturating_sub(MAX_PASSING)) {
            self.discard_both(&forgotten.head.base);
        }
        let mut held = self.held();
        for saved in &found {
            let entry = Entry { body: Sha256::of(&saved.body), indexes: saved.indexes.clone() };
            held.insert(saved.head.base.clone(), entry);
        }
        found
    }

    /// Saves a Release. Indexes that were read for any Release and that `names` says this one names too stay with it.
    ///
    /// # Errors
    /// What the file system fails with.
    pub(super) fn save(&self, head: &Head, body: &[u8], names: impl Fn(&Sha256) -> bool) -> io::Result<()> {
        let mut held = self.held();
        let mut indexes: Vec<Sha256> =
            held.values().flat_map(|entry| &entry.indexes).copied().filter(names).collect();
        indexes.sort();
        indexes.dedup();
        let entry = Entry { body: Sha256::of(body), indexes };
        let mut bytes = serde_json::to_vec(head)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
        fs::create_dir_all(&self.folder)?;
        publish(&self.path(&head.base, "release"), &bytes)?;
        publish(&self.path(&head.base, "indexes"), &entry.to_bytes())?;
        held.insert(head.base.clone(), entry);
        Ok(())
    }

    /// Remembers that index `digest` was read for the Release with this body.
    ///
    /// # Errors
    /// What the file system fails with.
    pub(super) fn add_index(&self, base: &str, body: &Sha256, digest: Sha256) -> io::Result<()> {
        let mut held = self.held();
        let Some(entry) = held.get_mut(base).filter(|entry| entry.body == *body) else { return Ok(()) };
        if entry.indexes.contains(&digest) || entry.indexes.len() >= MAX_INDEXES {
            return Ok(());
        }
        entry.indexes.push(digest);
        publish(&self.path(base, "indexes"), &entry.to_bytes())
    }

    /// Removes what is not among `bases` any more.
    pub(super) fn retain(&self, bases: &HashSet<&str>) {
        self.held().retain(|base, _| {
            let keep = bases.contains(base.as_str());
            if !keep {
                self.discard_both(base);
            }
            keep
        });
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, base: &str, end: &str) -> PathBuf {
        let key = Sha256::of(base.as_bytes()).to_string();
        self.folder.join(&key[..32]).with_extension(end)
    }

    fn discard_both(&self, base: &str) {
        discard(&self.path(base, "release"));
        discard(&self.path(base, "indexes"));
    }
}

impl Entry {
    fn to_bytes(&self) -> Vec<u8> {
        std::iter::once(&self.body)
            .chain(&self.indexes)
            .flat_map(|digest| format!("{digest}\n").into_bytes())
            .collect()
    }
}

fn read_saved(path: &Path) -> Option<Saved> {
    let bytes = read_file(path)?;
    let end = memchr::memchr(b'\n', &bytes)?;
    let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
    let body = bytes[end + 1..].to_vec();
    let indexes = read_file(&path.with_extension("indexes")).unwrap_or_default();
    let mut digests = std::str::from_utf8(&indexes).unwrap_or("").lines().map_while(|line| line.parse().ok());
    let belongs = digests.next() == Some(Sha256::of(&body));
    let indexes = digests.filter(|_| belongs).take(MAX_INDEXES).collect();
    Some(Saved { head, body, indexes })
}

fn read_file(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_FILE).then_some(bytes)
}

/// Writes beside, then renames: whoever reads finds the old file or the new one.
fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn discard(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, path = %path.display(), "cannot remove a file of the journal");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(base: &str, learned: u64) -> Head {
        Head { base: base.to_owned(), clearsigned: false, proven: true, learned }
    }

    fn bases(saved: &[Saved]) -> Vec<&str> {
        saved.iter().map(|saved| saved.head.base.as_str()).collect()
    }

    #[test]
    fn what_was_saved_is_found_again_the_oldest_first() {
        let state = tempfile::tempdir().unwrap();
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let journal = Journal::new(state.path());
        journal.save(&head("h/new", 9), b"new body\nof two lines", |_| true).unwrap();
        journal.save(&head("h/old", 3), b"old", |_| true).unwrap();
        journal.add_index("h/new", &Sha256::of(b"new body\nof two lines"), a).unwrap();
        journal.add_index("h/new", &Sha256::of(b"of another body"), b).unwrap();

        let again = Journal::new(state.path()).load();
        assert_eq!(bases(&again), ["h/old", "h/new"]);
        assert_eq!(again[1].head, head("h/new", 9));
        assert_eq!(again[1].body, b"new body\nof two lines");
        assert_eq!((again[0].indexes.as_slice(), again[1].indexes.as_slice()), (&[][..], &[a][..]));
    }

    #[test]
    fn a_new_body_keeps_the_indexes_that_it_still_names() {
        let state = tempfile::tempdir().unwrap();
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let journal = Journal::new(state.path());
        journal.save(&head("h/x", 1), b"one", |_| true).unwrap();
        journal.add_index("h/x", &Sha256::of(b"one"), a).unwrap();
        journal.add_index("h/x", &Sha256::of(b"one"), b).unwrap();
        journal.save(&head("h/x", 2), b"two", |digest| *digest == b).unwrap();
        let again = Journal::new(state.path()).load();
        assert_eq!((again[0].body.as_slice(), again[0].indexes.as_slice()), (&b"two"[..], &[b][..]));
    }

    #[test]
    fn rubbish_is_removed_and_what_is_not_held_any_more_too() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::new(state.path());
        journal.save(&head("h/keep", 1), b"body", |_| true).unwrap();
        journal.save(&head("h/drop", 1), b"body", |_| true).unwrap();
        journal.retain(&HashSet::from(["h/keep"]));
        for name in ["half.new", "odd.release", "alone.indexes", "other"] {
            fs::write(journal.folder.join(name), "rubbish").unwrap();
        }
        let again = Journal::new(state.path()).load();
        assert_eq!(bases(&again), ["h/keep"]);
        assert_eq!(fs::read_dir(&journal.folder).unwrap().count(), 2);
    }
}
