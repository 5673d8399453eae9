//! The catalog: what is known of every object, in SQLite.
//!
//! Two connections to one file in WAL mode: readers never wait for a writer, so asking for an object never waits for
//! one that is being published. Several processes (the daemon, the commands) use one catalog at a time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params,
};
use rustix::fs::{FlockOperation, flock};

use super::announced::Offer;
use super::error::StoreError;
use super::layout::Layout;
use super::migrations;
use crate::digest::Sha256;
use crate::pieces::State;

/// How long we wait for another process that writes. Its transactions take milliseconds; a disk that is worn out or
/// busy may make them seconds.
const BUSY: Duration = Duration::from_secs(5);

/// SQLite's page cache per connection, in KiB: the kernel caches the file anyway.
const CACHE_KIB: i64 = 256;

/// How large SQLite may leave its write-ahead log lying around, in bytes.
const LOG_LIMIT: i64 = 4 << 20;

/// Where an object came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was downloaded because apt asked for it.
    Download,
    /// A person added it, to be offered to peers.
    Seed,
    /// A person added it and asked that it be not announced.
    SilentSeed,
}

impl Origin {
    /// Whether the object may be announced.
    pub fn is_announced(self) -> bool {
        self != Self::SilentSeed
    }

    /// Whether a person added it.
    pub fn is_seed(self) -> bool {
        self != Self::Download
    }

    fn spelled(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Seed => "seed",
            Self::SilentSeed => "seed-silent",
        }
    }

    /// An unknown spelling, of a newer program, is an ordinary download.
    fn parse(text: &str) -> Self {
        match text {
            "seed" => Self::Seed,
            "seed-silent" => Self::SilentSeed,
            _ => Self::Download,
        }
    }
}

/// With whom an object may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// With everybody: it is in a public repository, or a person offers it.
    Public,
    /// With the local network and the members of our private swarm: it came from a repository that not everybody reaches.
    Local,
}

impl Scope {
    fn spelled(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Local => "local",
        }
    }

    /// What an unknown spelling, of a newer program, means is not known: it is not for everybody.
    fn parse(text: &str) -> Self {
        if text == "public" { Self::Public } else { Self::Local }
    }
}

/// What the catalog says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The digest that names the object.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// Where it came from.
    pub origin: Origin,
    /// With whom it may be shared.
    pub scope: Scope,
    /// Whether it is kept from eviction.
    pub pinned: bool,
    /// When it was added, in seconds since 1970 UTC.
    pub added: u64,
    /// When it was last used, in seconds since 1970 UTC, accurate to a minute or so.
    pub used: u64,
    /// The mirror's `Last-Modified`, byte for byte.
    pub last_modified: Option<String>,
    /// Whether it lies in a file of somebody else's, outside of the cache.
    pub in_place: bool,
}

/// What is needed to open an object.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) length: u64,
    pub(super) states: Vec<State>,
    pub(super) last_modified: Option<String>,
    pub(super) in_place: bool,
}

/// An object that is being added.
pub(super) struct NewRow<'a> {
    pub(super) id: &'a Sha256,
    pub(super) length: u64,
    pub(super) states: &'a [State],
    pub(super) last_modified: Option<&'a str>,
    pub(super) origin: Origin,
    pub(super) scope: Scope,
    pub(super) in_place: bool,
}

/// A download that was broken off, or may be.
pub(super) struct LeftoverRow {
    pub(super) length: u64,
    /// The name of its file.
    pub(super) file: String,
    /// What is linked in it.
    pub(super) links: Vec<u8>,
    /// When that was written, in seconds since 1970 UTC.
    pub(super) kept: u64,
}

/// Sums over the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    pub(super) pinned_objects: u64,
    pub(super) pinned_bytes: u64,
    /// The objects of others' files, which are in none of the sums above.
    pub(super) in_place_objects: u64,
    pub(super) in_place_bytes: u64,
}

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

/// What is needed to open object `id`. A row that makes no sense is an error of its conversion.
pub(super) fn record(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<Record>> {
    catalog
        .prepare_cached("SELECT length, states, last_modified, in_place FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| {
            let states: &[u8] = row.get_ref(1)?.as_blob()?;
            Ok(Record {
                length: unsigned(row.get(0)?),
                states: states.as_chunks().0.iter().map(State::from_bytes).collect(),
                last_modified: row.get(2)?,
                in_place: row.get(3)?,
            })
        })
        .optional()
}

/// The length of object `id`, `None` where it is unknown.
pub(super) fn length(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<u64>> {
    catalog
        .prepare_cached("SELECT length FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0).map(unsigned))
        .optional()
}

/// The mirror's `Last-Modified` of object `id`.
pub(super) fn last_modified(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<String>> {
    catalog
        .prepare_cached("SELECT last_modified FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()
        .map(Option::flatten)
}

/// Every object, the least recently used first.
pub(super) fn entries(catalog: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = catalog.prepare_cached(
        "SELECT id, length, origin, pinned, added, used, last_modified, scope, in_place
         FROM objects ORDER BY turn",
    )?;
    let entries = statement.query_map([], |row| {
        Ok(Entry {
            id: id_of(row)?,
            length: unsigned(row.get(1)?),
            origin: Origin::parse(row.get_ref(2)?.as_str()?),
            scope: Scope::parse(row.get_ref(7)?.as_str()?),
            pinned: row.get(3)?,
            added: unsigned(row.get(4)?),
            used: unsigned(row.get(5)?),
            last_modified: row.get(6)?,
            in_place: row.get(8)?,
        })
    })?;
    entries.collect()
}

/// At most `count` objects with their rows' numbers, from the first row after number `after`.
pub(super) fn offers(catalog: &Connection, after: i64, count: u32) -> rusqlite::Result<Vec<(i64, Offer)>> {
    let mut statement = catalog.prepare_cached(
        "SELECT id, length, origin, used, announced, others, rowid, scope FROM objects
         WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
    )?;
    let offers = statement.query_map(params![after, count], |row| {
        let offer = Offer {
            id: id_of(row)?,
            length: unsigned(row.get(1)?),
            origin: Origin::parse(row.get_ref(2)?.as_str()?),
            scope: Scope::parse(row.get_ref(7)?.as_str()?),
            used: unsigned(row.get(3)?),
            announced: row.get::<_, Option<i64>>(4)?.map(unsigned),
            others: u32::try_from(row.get::<_, i64>(5)?).unwrap_or(u32::MAX),
        };
        Ok((row.get(6)?, offer))
    })?;
    offers.collect()
}

/// Notes that object `id`, if it is there, was announced at `when` and that so many others were seen.
pub(super) fn set_announced(
    catalog: &Connection,
    id: &Sha256,
    when: u64,
    others: u32,
) -> rusqlite::Result<()> {
    let sql = "UPDATE objects SET announced = ?2, others = ?3 WHERE id = ?1";
    catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), signed(when), others])?;
    Ok(())
}

/// The objects of our own whose digest starts with `first`.
pub(super) fn ids_in_shard(catalog: &Connection, first: u8) -> rusqlite::Result<Vec<Sha256>> {
    let (mut low, mut high) = ([0; 32], [0xff; 32]);
    (low[0], high[0]) = (first, first);
    let mut statement =
        catalog.prepare_cached("SELECT id FROM objects WHERE id BETWEEN ?1 AND ?2 AND in_place = 0")?;
    let ids = statement.query_map([low, high], id_of)?;
    ids.collect()
}

/// The next `count` objects to be evicted, those after the first `skip`, with their lengths.
pub(super) fn eviction_order(
    catalog: &Connection,
    count: u64,
    skip: u64,
) -> rusqlite::Result<Vec<(Sha256, u64)>> {
    let mut statement = catalog.prepare_cached(
        "SELECT id, length FROM objects WHERE pinned = 0 AND in_place = 0 ORDER BY turn LIMIT ?1 OFFSET ?2",
    )?;
    let victims =
        statement.query_map([signed(count), signed(skip)], |row| Ok((id_of(row)?, unsigned(row.get(1)?))))?;
    victims.collect()
}

/// The sums over all objects.
pub(super) fn totals(catalog: &Connection) -> rusqlite::Result<Totals> {
    let sql = "SELECT objects, bytes,
                      (SELECT count(*) FROM objects WHERE pinned = 1 AND in_place = 0),
                      (SELECT coalesce(sum(length), 0) FROM objects WHERE pinned = 1 AND in_place = 0),
                      in_place_objects, in_place_bytes
               FROM totals";
    catalog.prepare_cached(sql)?.query_row([], |row| {
        Ok(Totals {
            objects: unsigned(row.get(0)?),
            bytes: unsigned(row.get(1)?),
            pinned_objects: unsigned(row.get(2)?),
            pinned_bytes: unsigned(row.get(3)?),
            in_place_objects: unsigned(row.get(4)?),
            in_place_bytes: unsigned(row.get(5)?),
        })
    })
}

/// Adds an object, or renews the row of one that is there; pin and origin stay, and what was public stays so.
pub(super) fn insert(catalog: &Connection, row: &NewRow<'_>, now: u64) -> rusqlite::Result<()> {
    let states: Vec<u8> = row.states.iter().flat_map(|state| state.to_bytes()).collect();
    let sql = "INSERT INTO objects (id, length, states, last_modified, origin, scope, added, used, in_place, turn)
               VALUES (?1, ?2, ?3, ?4, ?5, ?7, ?6, ?6, ?8, (SELECT coalesce(max(turn), 0) + 1 FROM objects))
               ON CONFLICT (id) DO UPDATE SET
                   length = excluded.length, states = excluded.states, used = excluded.used, turn = excluded.turn,
                   in_place = excluded.in_place,
                   last_modified = coalesce(excluded.last_modified, last_modified),
                   scope = CASE WHEN excluded.scope = 'public' THEN 'public' ELSE scope END";
    catalog.prepare_cached(sql)?.execute(params![
        row.id.as_bytes(),
        signed(row.length),
        states,
        row.last_modified,
        row.origin.spelled(),
        signed(now),
        row.scope.spelled(),
        row.in_place
    ])?;
    Ok(())
}

/// Removes the row of object `id`; whether there was one.
pub(super) fn delete(catalog: &Connection, id: &Sha256) -> rusqlite::Result<bool> {
    Ok(catalog.prepare_cached("DELETE FROM objects WHERE id = ?1")?.execute([id.as_bytes()])? > 0)
}

/// Notes that object `id` was used at `when`, after everything noted before.
pub(super) fn touch(catalog: &Connection, id: &Sha256, when: u64) -> rusqlite::Result<()> {
    let sql =
        "UPDATE objects SET used = max(used, ?2), turn = (SELECT max(turn) + 1 FROM objects) WHERE id = ?1";
    catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), signed(when)])?;
    Ok(())
}

/// Keeps object `id` from eviction, or no longer; whether there is such an object.
pub(super) fn set_pinned(catalog: &Connection, id: &Sha256, pinned: bool) -> rusqlite::Result<bool> {
    let sql = "UPDATE objects SET pinned = ?2 WHERE id = ?1";
    Ok(catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), pinned])? > 0)
}

/// Says whether object `id` lies in files of others; whether it is another thing than before.
pub(super) fn set_in_place(catalog: &Connection, id: &Sha256, in_place: bool) -> rusqlite::Result<bool> {
    let sql = "UPDATE objects SET in_place = ?2 WHERE id = ?1 AND in_place <> ?2";
    Ok(catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), in_place])? > 0)
}

/// Whether object `id` lies in files of others, `None` where it is unknown.
pub(super) fn is_in_place(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<bool>> {
    catalog
        .prepare_cached("SELECT in_place FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()
}

/// Says where object `id` came from; whether there is such an object.
pub(super) fn set_origin(catalog: &Connection, id: &Sha256, origin: Origin) -> rusqlite::Result<bool> {
    let sql = "UPDATE objects SET origin = ?2 WHERE id = ?1";
    Ok(catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), origin.spelled()])? > 0)
}

/// With whom object `id` may be shared.
pub(super) fn scope(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<Scope>> {
    catalog
        .prepare_cached("SELECT scope FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| Ok(Scope::parse(row.get_ref(0)?.as_str()?)))
        .optional()
}

/// Says with whom object `id` may be shared; whether there is such an object.
pub(super) fn set_scope(catalog: &Connection, id: &Sha256, scope: Scope) -> rusqlite::Result<bool> {
    let sql = "UPDATE objects SET scope = ?2 WHERE id = ?1";
    Ok(catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), scope.spelled()])? > 0)
}

/// Notes what there is of a download of object `id`.
pub(super) fn keep_leftover(catalog: &Connection, id: &Sha256, row: &LeftoverRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO leftovers (id, length, file, links, kept) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![id.as_bytes(), signed(row.length), row.file, row.links, signed(row.kept)];
    catalog.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// What there is of a download of object `id`.
pub(super) fn leftover(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<LeftoverRow>> {
    catalog
        .prepare_cached("SELECT id, length, file, links, kept FROM leftovers WHERE id = ?1")?
        .query_row([id.as_bytes()], leftover_of)
        .optional()
}

/// Every such download, the oldest first, without its links.
pub(super) fn leftovers(catalog: &Connection) -> rusqlite::Result<Vec<(Sha256, LeftoverRow)>> {
    let sql = "SELECT id, length, file, x'', kept FROM leftovers ORDER BY kept, id";
    let mut statement = catalog.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((id_of(row)?, leftover_of(row)?)))?;
    rows.collect()
}

fn leftover_of(row: &Row<'_>) -> rusqlite::Result<LeftoverRow> {
    Ok(LeftoverRow {
        length: unsigned(row.get(1)?),
        file: row.get(2)?,
        links: row.get(3)?,
        kept: unsigned(row.get(4)?),
    })
}

/// Forgets the download of object `id`.
pub(super) fn forget_leftover(catalog: &Connection, id: &Sha256) -> rusqlite::Result<()> {
    catalog.prepare_cached("DELETE FROM leftovers WHERE id = ?1")?.execute([id.as_bytes()])?;
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
