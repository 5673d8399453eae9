//! The catalog: what is known of every object, in SQLite.
//!
//! Two connections to one file in WAL mode: readers never wait for a writer, so asking for an object never waits for
//! one that is being published. Several processes (the daemon, the commands) use one catalog at a time.

mod leftovers;
mod objects;
mod rows;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior};
use rustix::fs::{FlockOperation, flock};

pub(super) use self::leftovers::{LeftoverRow, forget_leftover, keep_leftover, leftover, leftovers};
pub(super) use self::objects::{
    delete, entries, eviction_order, ids_in_shard, insert, is_in_place, last_modified, length, offers,
    record, scope, set_announced, set_in_place, set_origin, set_pinned, set_scope, totals, touch,
};
pub use self::rows::{Entry, Origin, Scope};
pub(super) use self::rows::{NewRow, Record, Totals};
use super::error::StoreError;
use super::layout::Layout;
use super::migrations;
use crate::digest::Sha256;

/// How long we wait for another process that writes. Its transactions take milliseconds; a disk that is worn out or
/// busy may make them seconds.
const BUSY: Duration = Duration::from_secs(5);

/// SQLite's page cache per connection, in KiB: the kernel caches the file anyway.
const CACHE_KIB: i64 = 256;

/// How large SQLite may leave its write-ahead log lying around, in bytes.
const LOG_LIMIT: i64 = 4 << 20;

/// How much a power cut may take back. A killed process loses nothing either way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Perhaps the last transactions; none of them waits for the disk.
    Relaxed,
    /// Nothing.
    Full,
}

pub(super) struct Catalog {
    path: PathBuf,
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

impl Catalog {
    /// Opens the catalog, makes it where there is none and brings it up to date. One that is beyond repair is set
    /// aside: a cache that starts anew is better than a daemon that does not start.
    pub(super) fn open(layout: &Layout) -> Result<Self, StoreError> {
        let path = layout.catalog();
        let directory = File::open(layout.root()).map_err(StoreError::io("opening", layout.root()))?;
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(|error| StoreError::io("locking", layout.root())(error.into()))?;
        match Self::open_locked(&path) {
            Err(StoreError::Catalog(error)) if is_beyond_repair(&error) => {
                tracing::warn!(path = %path.display(), %error, "the catalog of the cache is damaged, starting anew");
                set_aside(&path).map_err(StoreError::io("setting aside", &path))?;
                Self::open_locked(&path)
            }
            opened => opened,
        }
    }

    fn open_locked(path: &Path) -> Result<Self, StoreError> {
        let mut writer = Connection::open(path)?;
        configure(&writer)?;
        // A file system without shared memory stays in rollback mode, which is slower and as safe.
        writer.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
        migrations::migrate(&mut writer)?;
        let found = migrations::version(&writer)?;
        if found > migrations::NEWEST {
            return Err(StoreError::TooNew { path: path.to_owned(), found, known: migrations::NEWEST });
        }
        let reader =
            Connection::open_with_flags(path, OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE)?;
        configure(&reader)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(Self { path: path.to_owned(), reader: Mutex::new(reader), writer: Mutex::new(writer) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the catalog; never waits for a writer.
    pub(super) fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        Ok(ask(&lock(&self.reader))?)
    }

    /// Changes the catalog in one transaction, which is undone where `change` fails. It has the catalog alone, also
    /// against other processes, from its start to its end.
    pub(super) fn write<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = lock(&self.writer);
        let synchronous = if durability == Durability::Full { "FULL" } else { "NORMAL" };
        writer.pragma_update(None, "synchronous", synchronous)?;
        let transaction = Transaction::new(&mut writer, TransactionBehavior::Immediate)?;
        let done = change(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // A panic in the middle of a transaction has rolled it back: the connection is as good as before.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT, |_| Ok(()))
}

fn is_beyond_repair(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn set_aside(path: &Path) -> std::io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    fs::rename(path, aside)?;
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        match fs::remove_file(beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The digest in the first column.
fn id_of(row: &Row<'_>) -> rusqlite::Result<Sha256> {
    row.get::<_, [u8; 32]>(0).map(Sha256::new)
}

/// SQLite's integers are signed. No length or time of ours comes near the limit.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A negative number, which we never write, is 0.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(folder: &Path) -> Catalog {
        let layout = Layout::new(folder);
        layout.create().unwrap();
        Catalog::open(&layout).unwrap()
    }

    fn add(catalog: &Catalog, name: &[u8], length: u64) -> Sha256 {
        let id = Sha256::of(name);
        let row = NewRow {
            id: &id,
            length,
            states: &[],
            last_modified: None,
            origin: Origin::Download,
            scope: Scope::Public,
            in_place: false,
        };
        catalog.write(Durability::Relaxed, |c| Ok(insert(c, &row, 5)?)).unwrap();
        id
    }

    #[test]
    fn totals_follow_every_change() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = catalog(folder.path());
        let a = add(&catalog, b"a", 10);
        let b = add(&catalog, b"b", 20);
        add(&catalog, b"b", 21);
        catalog.write(Durability::Full, |c| Ok(set_pinned(c, &b, true)?)).unwrap();
        let sums = Totals {
            objects: 2,
            bytes: 31,
            pinned_objects: 1,
            pinned_bytes: 21,
            in_place_objects: 0,
            in_place_bytes: 0,
        };
        assert_eq!(catalog.read(totals).unwrap(), sums);
        catalog.write(Durability::Full, |c| Ok(delete(c, &a)?)).unwrap();
        catalog.write(Durability::Full, |c| Ok(delete(c, &a)?)).unwrap();
        assert_eq!(catalog.read(totals).unwrap(), Totals { objects: 1, bytes: 21, ..sums });
    }

    #[test]
    fn a_failed_change_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = catalog(folder.path());
        let id = add(&catalog, b"a", 10);
        let failed: Result<(), _> = catalog.write(Durability::Full, |c| {
            delete(c, &id)?;
            Err(StoreError::InMemory(id))
        });
        assert!(failed.is_err());
        assert_eq!(catalog.read(|c| length(c, &id)).unwrap(), Some(10));
    }

    #[test]
    fn it_is_in_wal_mode_and_waits_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = catalog(folder.path());
        let mode: String =
            catalog.read(|c| c.pragma_query_value(None, "journal_mode", |row| row.get(0))).unwrap();
        assert_eq!(mode, "wal");
        let timeout: u64 = catalog
            .read(|c| c.pragma_query_value(None, "busy_timeout", |row| row.get::<_, i64>(0)))
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!(Duration::from_millis(timeout), BUSY);
    }

    #[test]
    fn objects_are_listed_by_their_first_digits() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = catalog(folder.path());
        let ids: Vec<Sha256> = (0..600_u32).map(|i| add(&catalog, &i.to_be_bytes(), 1)).collect();
        let mut listed: Vec<Sha256> =
            (0..=255).flat_map(|first| catalog.read(|c| ids_in_shard(c, first)).unwrap()).collect();
        let mut wanted = ids;
        wanted.sort();
        listed.sort();
        assert_eq!(listed, wanted);
    }

    #[test]
    fn a_catalog_of_a_newer_program_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        drop(catalog(folder.path()));
        let path = Layout::new(folder.path()).catalog();
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let refused = Catalog::open(&Layout::new(folder.path())).err().unwrap();
        assert!(matches!(refused, StoreError::TooNew { found: 99, .. }), "{refused}");
        assert!(refused.to_string().contains("catalog.sqlite is of version 99"), "{refused}");
    }

    #[test]
    fn a_catalog_that_is_none_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.create().unwrap();
        fs::write(layout.catalog(), "this was never a database, whatever its name says".repeat(100)).unwrap();
        let catalog = Catalog::open(&layout).unwrap();
        assert_eq!(catalog.read(totals).unwrap().objects, 0);
        assert!(layout.root().join("catalog.sqlite.damaged").exists());
    }
}
