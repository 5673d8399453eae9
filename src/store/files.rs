//! The files outside of the cache that became objects: what they were when they were hashed.
//!
//! A file that shows the same [`Mark`] is not hashed again. One that was imported in place is also where its object lies.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::catalog::{signed, unsigned};
use super::disk::Mark;
use crate::digest::Sha256;

/// A file that an object lies in, and what it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lying {
    pub(super) path: PathBuf,
    pub(super) mark: Mark,
}

/// A file that was hashed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: Sha256,
    pub(super) mark: Mark,
    pub(super) in_place: bool,
}

/// What is known of the file at `path`.
pub(super) fn known(catalog: &Connection, path: &Path) -> rusqlite::Result<Option<Known>> {
    catalog
        .prepare_cached(
            "SELECT length, modified, modified_ns, inode, id, in_place FROM files WHERE path = ?1",
        )?
        .query_row([bytes_of(path)], |row| {
            Ok(Known { mark: mark_of(row)?, id: row.get(4).map(Sha256::new)?, in_place: row.get(5)? })
        })
        .optional()
}

/// Notes that the file at `path` is object `id`, in the place of what was known of it. An object that lay nowhere else
/// goes (a trigger of the catalog).
pub(super) fn keep(
    catalog: &Connection,
    path: &Path,
    mark: &Mark,
    id: &Sha256,
    in_place: bool,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO files (path, length, modified, modified_ns, inode, id, in_place)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (path) DO UPDATE SET
                   length = excluded.length, modified = excluded.modified, modified_ns = excluded.modified_ns,
                   inode = excluded.inode, id = excluded.id, in_place = excluded.in_place";
    catalog.prepare_cached(sql)?.execute(params![
        bytes_of(path),
        signed(mark.length),
        mark.modified.0,
        mark.modified.1,
        mark.inode,
        id.as_bytes(),
        in_place
    ])?;
    Ok(())
}

/// The files that object `id` lies in.
pub(super) fn places_of(catalog: &Connection, id: &Sha256) -> rusqlite::Result<Vec<Lying>> {
    let mut statement = catalog.prepare_cached(
        "SELECT length, modified, modified_ns, inode, path FROM files WHERE id = ?1 AND in_place = 1",
    )?;
    let places = statement.query_map([id.as_bytes()], lying)?;
    places.collect()
}

/// At most `count` files in place, those at or below `folder` only, in the order of their paths from the first after `after`.
pub(super) fn in_place(
    catalog: &Connection,
    folder: &Path,
    after: &Path,
    count: u32,
) -> rusqlite::Result<Vec<Lying>> {
    let mut statement = catalog.prepare_cached(
        "SELECT length, modified, modified_ns, inode, path FROM files
         WHERE in_place = 1 AND path > ?3 AND (path = ?4 OR (path >= ?1 AND path < ?2)) ORDER BY path LIMIT ?5",
    )?;
    // Whatever is below `a/b` begins with `a/b/`, and `0` is the byte after `/`.
    let stem = bytes_of(folder).strip_suffix(b"/").unwrap_or(bytes_of(folder));
    let (from, to) = ([stem, b"/"].concat(), [stem, b"0"].concat());
    let places = statement.query_map(params![from, to, bytes_of(after), bytes_of(folder), count], lying)?;
    places.collect()
}

/// Forgets the file at `path`, if nothing else is known of it by now; whether it was there.
pub(super) fn forget(catalog: &Connection, file: &Lying) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM files
               WHERE path = ?1 AND length = ?2 AND modified = ?3 AND modified_ns = ?4 AND inode = ?5";
    let mark = &file.mark;
    let values =
        params![bytes_of(&file.path), signed(mark.length), mark.modified.0, mark.modified.1, mark.inode];
    Ok(catalog.prepare_cached(sql)?.execute(values)? > 0)
}

fn lying(row: &Row<'_>) -> rusqlite::Result<Lying> {
    let path = match row.get_ref(4)? {
        ValueRef::Blob(bytes) => OsString::from_vec(bytes.to_vec()).into(),
        other => return Err(rusqlite::Error::InvalidColumnType(4, "path".to_owned(), other.data_type())),
    };
    Ok(Lying { path, mark: mark_of(row)? })
}

/// From the first four columns.
fn mark_of(row: &Row<'_>) -> rusqlite::Result<Mark> {
    Ok(Mark { length: unsigned(row.get(0)?), modified: (row.get(1)?, row.get(2)?), inode: row.get(3)? })
}

fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
