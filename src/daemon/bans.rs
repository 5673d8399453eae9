//! `peers.json` in the state directory: who is banned for a lie, over a restart.

use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock;
use crate::download::Downloads;
use crate::swarm::{Ban, LONGEST_BAN};

/// The most bans that are kept; those that end first are left out. Nobody meets so many liars within a day.
const MAX_BANS: usize = 1024;

/// How often what is left of the bans is written down.
const EVERY: Duration = Duration::from_secs(60);

/// The least time between two writings, so that many liars at once are one.
const LEAST: Duration = Duration::from_secs(1);

/// The longest file that is read, in bytes: several times what that many bans take.
const MAX_FILE: u64 = 1 << 20;

/// The file as it is written. Times are seconds since 1970-01-01 UTC.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    /// When it was written.
    written: u64,
    bans: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    peer: SocketAddr,
    /// How many seconds it had left when the file was written.
    left: u64,
    convictions: u32,
}

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct BansFile {
    path: PathBuf,
    /// Nothing is written while nothing is there and nothing was.
    empty: bool,
}

impl BansFile {
    /// The file of this state directory, and the bans in it that last at `now`. A file that cannot be read has none.
    pub(super) fn open(state: &Path, now: u64) -> (Self, Vec<Ban<SocketAddr>>) {
        let path = state.join("peers.json");
        let bans = match read(&path) {
            Ok(document) => lasting(&document, now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                warn!(path = %path.display(), %error, "whom we had banned cannot be read");
                Vec::new()
            }
        };
        debug!(bans = bans.len(), "bans taken over");
        (Self { path, empty: bans.is_empty() }, bans)
    }

    /// Writes down who is banned at `now`, in one step. A failure is logged: it is not worth stopping for.
    pub(super) fn save(&mut self, bans: Vec<Ban<SocketAddr>>, now: u64) {
        let empty = bans.is_empty();
        if empty && self.empty {
            return;
        }
        match write(&self.path, &document(bans, now)) {
            Ok(()) => self.empty = empty,
            Err(error) => {
                warn!(path = %self.path.display(), %error, "whom we have banned cannot be written down");
            }
        }
    }
}

/// Keeps the file true until `shutdown`, and once more then. A ban is written down as it is made, so that it outlives a kill;
/// how much is left of all of them, now and then.
pub(super) async fn keep(downloads: Downloads, mut file: BansFile, shutdown: CancellationToken) {
    let mut convictions = downloads.convictions();
    loop {
        let stopping = shutdown.is_cancelled();
        convictions.mark_unchanged();
        tokio::task::block_in_place(|| file.save(downloads.bans(), clock::unix_seconds()));
        if stopping {
            return;
        }
        let next = async {
            tokio::time::sleep(LEAST).await;
            // The sender lives as long as the downloads, and so as long as this.
            let _ = tokio::time::timeout(EVERY, convictions.changed()).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = next => {}
        }
    }
}

fn document(mut bans: Vec<Ban<SocketAddr>>, now: u64) -> Document {
    bans.sort_by_key(|ban| (std::cmp::Reverse(ban.left), ban.peer));
    bans.truncate(MAX_BANS);
    let entry = |ban: Ban<SocketAddr>| {
        let Ban { peer, left, convictions } = ban;
        Entry { peer, left: left.as_secs().max(1), convictions }
    };
    Document { written: now, bans: bans.into_iter().map(entry).collect() }
}

/// What is left of each ban at `now`. A clock that has gone back takes nothing off, so a ban is never longer than it was; one
/// that has gone ahead ends bans early, which harms nobody: a liar is found out again.
fn lasting(document: &Document, now: u64) -> Vec<Ban<SocketAddr>> {
    let since = now.saturating_sub(document.written);
    let ban = |entry: &Entry| {
        let left = entry.left.checked_sub(since).filter(|left| *left > 0)?;
        let left = Duration::from_secs(left).min(LONGEST_BAN);
        Some(Ban { peer: entry.peer, left, convictions: entry.convictions })
    };
    document.bans.iter().take(MAX_BANS).filter_map(ban).collect()
}

fn read(path: &Path) -> io::Result<Document> {
    let mut json = Vec::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut json)?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

fn write(path: &Path, document: &Document) -> io::Result<()> {
    let new = path.with_extension("json.new");
    fs::write(&new, serde_json::to_vec(document).map_err(io::Error::other)?)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn ban(port: u16, left: Duration) -> Ban<SocketAddr> {
        Ban { peer: ([192, 0, 2, 1], port).into(), left, convictions: 1 }
    }

    fn left_at(state: &Path, now: u64) -> Vec<Duration> {
        BansFile::open(state, now).1.into_iter().map(|ban| ban.left).collect()
    }

    #[test]
    fn bans_last_over_a_restart_and_end_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, none) = BansFile::open(folder.path(), 1_000_000);
        assert_eq!(none, []);
        file.save(vec![ban(1, HOUR), ban(2, 2 * HOUR)], 1_000_000);
        assert_eq!(BansFile::open(folder.path(), 1_000_000).1, [ban(2, 2 * HOUR), ban(1, HOUR)]);
        assert_eq!(left_at(folder.path(), 1_000_000 + 3600), [HOUR]);
        assert!(left_at(folder.path(), 1_000_000 + 7200).is_empty());
    }

    #[test]
    fn a_clock_that_jumps_makes_no_ban_longer() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = BansFile::open(folder.path(), 1_000_000);
        file.save(vec![ban(1, HOUR)], 1_000_000);
        assert_eq!(left_at(folder.path(), 0), [HOUR]);
        assert_eq!(left_at(folder.path(), 999_999), [HOUR]);
        assert!(left_at(folder.path(), u64::MAX).is_empty());
        file.save(vec![ban(1, Duration::from_secs(u64::MAX))], u64::MAX);
        assert_eq!(left_at(folder.path(), 5), [LONGEST_BAN]);
    }

    #[test]
    fn a_file_that_is_none_bans_nobody_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.json");
        for rubbish in ["", "[]", "{\"written\":1,\"bans\":[{\"peer\":\"x\"}]}", "\u{0}"] {
            fs::write(&path, rubbish).unwrap();
            let (mut file, bans) = BansFile::open(folder.path(), 5);
            assert_eq!(bans, [], "{rubbish:?}");
            file.save(vec![ban(1, HOUR)], 5);
            assert_eq!(left_at(folder.path(), 5), [HOUR]);
        }
    }

    #[test]
    fn the_file_is_bounded_and_empties() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = BansFile::open(folder.path(), 5);
        file.save(Vec::new(), 5);
        assert!(!folder.path().join("peers.json").exists(), "nothing to write down");
        let many = (1..=2000).map(|port| ban(port, Duration::from_secs(u64::from(port))));
        file.save(many.collect(), 5);
        let kept = left_at(folder.path(), 5);
        assert_eq!((kept.len(), kept[0].as_secs()), (MAX_BANS, 2000), "those that last longest");
        file.save(Vec::new(), 5);
        assert!(left_at(folder.path(), 5).is_empty());
    }
}
