//! The table of downloads that broke off.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{id_of, signed, unsigned};
use crate::digest::Sha256;

/// A download that was broken off, or may be.
pub(in crate::store) struct LeftoverRow {
    pub(in crate::store) length: u64,
    /// The name of its file.
    pub(in crate::store) file: String,
    /// What is linked in it.
    pub(in crate::store) links: Vec<u8>,
    /// When that was written, in seconds since 1970 UTC.
    pub(in crate::store) kept: u64,
}

/// Notes what there is of a download of object `id`.
pub(in crate::store) fn keep_leftover(
    catalog: &Connection,
    id: &Sha256,
    row: &LeftoverRow,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO leftovers (id, length, file, links, kept) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![id.as_bytes(), signed(row.length), row.file, row.links, signed(row.kept)];
    catalog.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// What there is of a download of object `id`.
pub(in crate::store) fn leftover(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Option<LeftoverRow>> {
    catalog
        .prepare_cached("SELECT id, length, file, links, kept FROM leftovers WHERE id = ?1")?
        .query_row([id.as_bytes()], leftover_of)
        .optional()
}

/// Every such download, the oldest first, without its links.
pub(in crate::store) fn leftovers(catalog: &Connection) -> rusqlite::Result<Vec<(Sha256, LeftoverRow)>> {
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
pub(in crate::store) fn forget_leftover(catalog: &Connection, id: &Sha256) -> rusqlite::Result<()> {
    catalog.prepare_cached("DELETE FROM leftovers WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}
