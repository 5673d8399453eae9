//! The table of objects.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{Entry, NewRow, Origin, Record, Scope, Totals};
use super::{id_of, signed, unsigned};
use crate::digest::Sha256;
use crate::pieces::State;
use crate::store::announced::Offer;

/// What is needed to open object `id`. A row that makes no sense is an error of its conversion.
pub(in crate::store) fn record(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<Record>> {
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
pub(in crate::store) fn length(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<u64>> {
    catalog
        .prepare_cached("SELECT length FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0).map(unsigned))
        .optional()
}

/// The mirror's `Last-Modified` of object `id`.
pub(in crate::store) fn last_modified(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<String>> {
    catalog
        .prepare_cached("SELECT last_modified FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()
        .map(Option::flatten)
}

/// Every object, the least recently used first.
pub(in crate::store) fn entries(catalog: &Connection) -> rusqlite::Result<Vec<Entry>> {
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
pub(in crate::store) fn offers(
    catalog: &Connection,
    after: i64,
    count: u32,
) -> rusqlite::Result<Vec<(i64, Offer)>> {
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
pub(in crate::store) fn set_announced(
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
pub(in crate::store) fn ids_in_shard(catalog: &Connection, first: u8) -> rusqlite::Result<Vec<Sha256>> {
    let (mut low, mut high) = ([0; 32], [0xff; 32]);
    (low[0], high[0]) = (first, first);
    let mut statement =
        catalog.prepare_cached("SELECT id FROM objects WHERE id BETWEEN ?1 AND ?2 AND in_place = 0")?;
    let ids = statement.query_map([low, high], id_of)?;
    ids.collect()
}

/// The next `count` objects to be evicted, those after the first `skip`, with their lengths.
pub(in crate::store) fn eviction_order(
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
pub(in crate::store) fn totals(catalog: &Connection) -> rusqlite::Result<Totals> {
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
pub(in crate::store) fn insert(catalog: &Connection, row: &NewRow<'_>, now: u64) -> rusqlite::Result<()> {
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
pub(in crate::store) fn delete(catalog: &Connection, id: &Sha256) -> rusqlite::Result<bool> {
    Ok(catalog.prepare_cached("DELETE FROM objects WHERE id = ?1")?.execute([id.as_bytes()])? > 0)
}

/// Notes that object `id` was used at `when`, after everything noted before.
pub(in crate::store) fn touch(catalog: &Connection, id: &Sha256, when: u64) -> rusqlite::Result<()> {
    let sql =
        "UPDATE objects SET used = max(used, ?2), turn = (SELECT max(turn) + 1 FROM objects) WHERE id = ?1";
    catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), signed(when)])?;
    Ok(())
}

/// Keeps object `id` from eviction, or no longer; whether there is such an object.
pub(in crate::store) fn set_pinned(
    catalog: &Connection,
    id: &Sha256,
    pinned: bool,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE objects SET pinned = ?2 WHERE id = ?1";
    Ok(catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), pinned])? > 0)
}

/// Says whether object `id` lies in files of others; whether it is another thing than before.
pub(in crate::store) fn set_in_place(
    catalog: &Connection,
    id: &Sha256,
    in_place: bool,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE objects SET in_place = ?2 WHERE id = ?1 AND in_place <> ?2";
    Ok(catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), in_place])? > 0)
}

/// Whether object `id` lies in files of others, `None` where it is unknown.
pub(in crate::store) fn is_in_place(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<bool>> {
    catalog
        .prepare_cached("SELECT in_place FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()
}

/// Says where object `id` came from; whether there is such an object.
pub(in crate::store) fn set_origin(
    catalog: &Connection,
    id: &Sha256,
    origin: Origin,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE objects SET origin = ?2 WHERE id = ?1";
    Ok(catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), origin.spelled()])? > 0)
}

/// With whom object `id` may be shared.
pub(in crate::store) fn scope(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<Scope>> {
    catalog
        .prepare_cached("SELECT scope FROM objects WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| Ok(Scope::parse(row.get_ref(0)?.as_str()?)))
        .optional()
}

/// Says with whom object `id` may be shared; whether there is such an object.
pub(in crate::store) fn set_scope(catalog: &Connection, id: &Sha256, scope: Scope) -> rusqlite::Result<bool> {
    let sql = "UPDATE objects SET scope = ?2 WHERE id = ?1";
    Ok(catalog.prepare_cached(sql)?.execute(params![id.as_bytes(), scope.spelled()])? > 0)
}
