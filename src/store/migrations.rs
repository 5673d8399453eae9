//! The schema of the catalog, step by step. Steps are only ever appended: an existing one never changes.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// `PRAGMA user_version` is the number of steps that have been taken.
const STEPS: &[&str] = &[
    // 1: objects, in the order of their last use, and exact totals.
    "CREATE TABLE objects (
        id            BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 32),
        length        INTEGER NOT NULL CHECK (length >= 0),
        states        BLOB NOT NULL,               -- the n-1 inner states of the chain, 32 bytes each
        last_modified TEXT,                        -- the mirror's header, byte for byte
        pinned        INTEGER NOT NULL DEFAULT 0,
        added         INTEGER NOT NULL,            -- seconds since 1970 UTC
        used          INTEGER NOT NULL,            -- seconds since 1970 UTC
        turn          INTEGER NOT NULL             -- grows with every use: the order in which objects are evicted
     );
     CREATE INDEX objects_by_turn ON objects (turn);
     CREATE INDEX objects_pinned ON objects (length) WHERE pinned = 1;
     CREATE TABLE totals (
        id      INTEGER PRIMARY KEY CHECK (id = 0),
        objects INTEGER NOT NULL,
        bytes   INTEGER NOT NULL
     );
     INSERT INTO totals VALUES (0, 0, 0);
     CREATE TRIGGER count_insert AFTER INSERT ON objects BEGIN
        UPDATE totals SET objects = objects + 1, bytes = bytes + new.length;
     END;
     CREATE TRIGGER count_delete AFTER DELETE ON objects BEGIN
        UPDATE totals SET objects = objects - 1, bytes = bytes - old.length;
     END;
     CREATE TRIGGER count_update AFTER UPDATE OF length ON objects BEGIN
        UPDATE totals SET bytes = bytes - old.length + new.length;
     END;",
    // 2: where an object came from; what a person seeds is told apart from what passed through.
    "ALTER TABLE objects ADD COLUMN origin TEXT NOT NULL DEFAULT 'download';",
    // 3: the last announce of an object in the DHT, gone with its row.
    "ALTER TABLE objects ADD COLUMN announced INTEGER;        -- seconds since 1970 UTC
     ALTER TABLE objects ADD COLUMN others INTEGER NOT NULL DEFAULT 0;  -- the other providers that were seen then",
    // 4: downloads that were broken off; a row says what is linked in a file below partial/.
    "CREATE TABLE leftovers (
        id     BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 32),
        length INTEGER NOT NULL CHECK (length >= 0),
        file   TEXT NOT NULL,                      -- its name
        links  BLOB NOT NULL,                      -- 69 bytes for each linked piece
        kept   INTEGER NOT NULL                    -- seconds since 1970 UTC
     );",
    // 5: with whom an object may be shared. What a person wanted not to be announced stays near.
    "ALTER TABLE objects ADD COLUMN scope TEXT NOT NULL DEFAULT 'public';
     UPDATE objects SET scope = 'local' WHERE origin = 'seed-silent';",
    // 6: files that became objects, and objects that lie in such a file. Those take no room of the cache's, and go with the
    // last file that they lie in.
    "CREATE TABLE files (
        path        BLOB PRIMARY KEY NOT NULL,     -- absolute
        id          BLOB NOT NULL CHECK (length(id) = 32),
        length      INTEGER NOT NULL,              -- this and the next three: as the file was when it was hashed
        modified    INTEGER NOT NULL,              -- seconds since 1970 UTC
        modified_ns INTEGER NOT NULL,
        inode       INTEGER NOT NULL,
        in_place    INTEGER NOT NULL               -- whether the object is served out of it
     );
     CREATE INDEX files_by_id ON files (id);
     ALTER TABLE objects ADD COLUMN in_place INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE totals ADD COLUMN in_place_objects INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE totals ADD COLUMN in_place_bytes INTEGER NOT NULL DEFAULT 0;
     DROP TRIGGER count_insert;
     DROP TRIGGER count_delete;
     DROP TRIGGER count_update;
     CREATE TRIGGER count_insert AFTER INSERT ON objects BEGIN
        UPDATE totals SET
            objects = objects + (new.in_place = 0), bytes = bytes + new.length * (new.in_place = 0),
            in_place_objects = in_place_objects + (new.in_place = 1),
            in_place_bytes = in_place_bytes + new.length * (new.in_place = 1);
     END;
     CREATE TRIGGER count_delete AFTER DELETE ON objects BEGIN
        UPDATE totals SET
            objects = objects - (old.in_place = 0), bytes = bytes - old.length * (old.in_place = 0),
            in_place_objects = in_place_objects - (old.in_place = 1),
            in_place_bytes = in_place_bytes - old.length * (old.in_place = 1);
     END;
     CREATE TRIGGER count_update AFTER UPDATE OF length, in_place ON objects BEGIN
        UPDATE totals SET
            objects = objects - (old.in_place = 0) + (new.in_place = 0),
            bytes = bytes - old.length * (old.in_place = 0) + new.length * (new.in_place = 0),
            in_place_objects = in_place_objects - (old.in_place = 1) + (new.in_place = 1),
            in_place_bytes = in_place_bytes - old.length * (old.in_place = 1) + new.length * (new.in_place = 1);
     END;
     CREATE TRIGGER object_gone AFTER DELETE ON objects BEGIN
        DELETE FROM files WHERE id = old.id;
     END;
     CREATE TRIGGER file_gone AFTER DELETE ON files WHEN old.in_place = 1 BEGIN
        DELETE FROM objects WHERE id = old.id AND in_place = 1
            AND NOT EXISTS (SELECT 1 FROM files WHERE id = old.id AND in_place = 1);
     END;
     CREATE TRIGGER file_changed AFTER UPDATE OF id, in_place ON files
        WHEN old.in_place = 1 AND (new.id <> old.id OR new.in_place = 0) BEGIN
        DELETE FROM objects WHERE id = old.id AND in_place = 1
            AND NOT EXISTS (SELECT 1 FROM files WHERE id = old.id AND in_place = 1);
     END;",
];

/// The newest version known here.
pub(super) const NEWEST: u32 = STEPS.len() as u32;

/// The version that the catalog has.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Takes the steps that are missing, each in a transaction of its own. A catalog of a newer version is left alone.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    migrate_to(connection, NEWEST)
}

fn migrate_to(connection: &mut Connection, target: u32) -> rusqlite::Result<()> {
    loop {
        let step = Transaction::new(connection, TransactionBehavior::Immediate)?;
        let at = version(&step)?;
        if at >= target {
            return Ok(());
        }
        let Some(sql) = STEPS.get(at as usize) else { return Ok(()) };
        step.execute_batch(sql)?;
        step.pragma_update(None, "user_version", at + 1)?;
        step.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(connection: &Connection) -> Vec<String> {
        let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
        rows.map(|sql| sql.unwrap().unwrap_or_default()).collect()
    }

    #[test]
    fn an_empty_catalog_gets_every_step_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(version(&connection).unwrap(), NEWEST);
        let first = schema(&connection);
        migrate(&mut connection).unwrap();
        assert_eq!(schema(&connection), first);
    }

    #[test]
    fn a_catalog_of_version_1_keeps_its_objects() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, 1).unwrap();
        let insert = "INSERT INTO objects (id, length, states, added, used, turn) VALUES (zeroblob(32), 7, x'', 1, 2, 3)";
        connection.execute_batch(insert).unwrap();
        migrate(&mut connection).unwrap();
        let (length, origin): (i64, String) = connection
            .query_row("SELECT length, origin FROM objects", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!((length, origin.as_str()), (7, "download"));
        let totals: (i64, i64) = connection
            .query_row("SELECT objects, bytes FROM totals", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(totals, (1, 7));
    }

    #[test]
    fn a_catalog_of_version_2_has_announced_nothing_yet() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, 2).unwrap();
        let insert = "INSERT INTO objects (id, length, states, added, used, turn) VALUES (zeroblob(32), 7, x'', 1, 2, 3)";
        connection.execute_batch(insert).unwrap();
        migrate(&mut connection).unwrap();
        let row: (i64, Option<i64>, i64) = connection
            .query_row("SELECT length, announced, others FROM objects", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(row, (7, None, 0));
    }

    #[test]
    fn objects_of_version_4_are_public_but_those_that_were_to_be_silent() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, 4).unwrap();
        for (byte, origin) in [(1_u8, "download"), (2, "seed"), (3, "seed-silent")] {
            let insert = "INSERT INTO objects (id, length, states, added, used, turn, origin) VALUES (?1, 7, x'', 1, 2, 3, ?2)";
            connection.execute(insert, rusqlite::params![[byte; 32], origin]).unwrap();
        }
        migrate(&mut connection).unwrap();
        let mut statement = connection.prepare("SELECT scope FROM objects ORDER BY id").unwrap();
        let scopes: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(scopes, ["public", "public", "local"]);
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, 1).unwrap();
        connection.execute_batch("ALTER TABLE objects ADD COLUMN origin TEXT").unwrap();
        assert!(migrate(&mut connection).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
    }

    #[test]
    fn a_newer_catalog_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", NEWEST + 5).unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(version(&connection).unwrap(), NEWEST + 5);
        assert!(schema(&connection).is_empty());
    }
}
