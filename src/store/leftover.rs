//! Downloads that were broken off: what is kept of them, and where they go on.
//!
//! A partial file is a *leftover* when nobody has it locked and the catalog has a row for it, which says what is linked in it.
//! The order that makes it worth something after a power cut: bytes on disk, then the row. Its pieces are looked at again
//! when they are used for the first time ([`Assembly::check`]), like those of any object that is opened.

use std::fs;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::assembly::{Assembly, Phase, Place};
use super::catalog::{self, Durability, LeftoverRow};
use super::disk;
use super::error::StoreError;
use super::recover::{files_in, remove_if_unowned};
use super::{Shared, lock};
use crate::clock::unix_seconds;
use crate::digest::Sha256;
use crate::pieces::{End, Geometry, Kept, Link, PieceIndex, State};

/// The most leftovers that are kept; the oldest makes room. More than apt has under way at a time.
const LEFTOVERS: usize = 32;

/// How long a leftover is kept, in seconds: who has not wanted a package again for 3 days will get another version of it.
const KEPT_SECONDS: u64 = 3 * 24 * 3600;

/// The most pieces an object has of which something is kept (32 GiB): its row has half a megabyte then.
const MAX_PIECES: PieceIndex = 8192;

/// The bytes of a link in the catalog: the piece's number, the state before it, what it leads to, and who sent it.
const LINK_BYTES: usize = 4 + 32 + 32 + 1;

/// What a look at a piece gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// It was hashed when it came, or has been since.
    Known,
    /// It was hashed now, these many bytes, and is what it was.
    Rehashed(u64),
    /// It is not what it was.
    Damaged,
}

impl Assembly {
    /// What was linked already when the download before was broken off; for one that begins, nothing.
    pub fn resumed(&self) -> Vec<Kept> {
        lock(&self.unchecked).values().copied().collect()
    }

    /// Whether the bytes of a piece are those that were linked. A piece of a broken off download is hashed for that, once;
    /// it may take milliseconds, or as long as the disk takes ([`Assembly::is_checked`] tells beforehand).
    pub fn check(&self, piece: PieceIndex) -> Check {
        let Some(kept) = lock(&self.unchecked).get(&piece).copied() else { return Check::Known };
        let geometry = self.geometry();
        // What is resumed has a file.
        let Place::Disk(_, mapped) = &self.place else { return Check::Damaged };
        let Ok(walk) = disk::walk_piece(&mapped.file, geometry, piece, kept.link.start) else {
            return Check::Damaged;
        };
        let right = match kept.link.end {
            End::State(state) => walk.state() == Some(state),
            End::Digest(digest) => walk.finish(geometry.length()) == digest,
        };
        if !right {
            return Check::Damaged;
        }
        lock(&self.unchecked).remove(&piece);
        let range = geometry.range(piece);
        Check::Rehashed(range.end - range.start)
    }

    /// Whether [`Assembly::check`] would answer without reading the disk first.
    pub fn is_checked(&self, piece: PieceIndex) -> bool {
        !lock(&self.unchecked).contains_key(&piece)
    }

    /// The piece will be written anew: what was kept of it counts no more.
    pub fn renew(&self, piece: PieceIndex) {
        lock(&self.unchecked).remove(&piece);
    }

    /// Writes down what is linked by now, so that it is not lost with the process. Waits for the disk. Nothing is written of
    /// an object of one piece, in memory, or published already.
    ///
    /// # Errors
    /// What the system or SQLite refused.
    pub fn checkpoint(&self, kept: &[Kept]) -> Result<(), StoreError> {
        self.write_down(kept).map(drop)
    }

    /// The same, and leaves the file for the next who wants the object.
    ///
    /// # Errors
    /// As [`Assembly::checkpoint`]; then nothing is left.
    pub fn leave(&self, kept: &[Kept]) -> Result<(), StoreError> {
        if !self.write_down(kept)? {
            return Ok(());
        }
        let mut phase = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        if let (Place::Disk(partial, mapped), Phase::Open) = (&self.place, &*phase) {
            *phase = Phase::Left;
            partial.stays.store(true, Ordering::Release);
            // Slow readers may keep the file open for long: nobody who goes on with it is to wait for them.
            disk::unlock(&mapped.file);
        }
        drop(phase);
        self.store.sweep_partials(0).map(drop)
    }

    fn write_down(&self, kept: &[Kept]) -> Result<bool, StoreError> {
        let Place::Disk(partial, mapped) = &self.place else { return Ok(false) };
        if kept.is_empty() || self.store.scratch || self.geometry().pieces() > MAX_PIECES {
            return Ok(false);
        }
        let Some(file) = partial.path.file_name().and_then(|name| name.to_str()) else { return Ok(false) };
        // A row must not come back after its object was published.
        let phase = self.phase.read().unwrap_or_else(PoisonError::into_inner);
        if *phase != Phase::Open {
            return Ok(false);
        }
        mapped.file.sync_data().map_err(StoreError::adding(
            self.geometry().length(),
            "writing to disk",
            &partial.path,
        ))?;
        let row = LeftoverRow {
            length: self.geometry().length(),
            file: file.to_owned(),
            links: kept.iter().flat_map(encode).collect(),
            kept: unix_seconds(),
        };
        let id = self.id();
        self.store
            .catalog
            .write(Durability::Relaxed, |catalog| Ok(catalog::keep_leftover(catalog, &id, &row)?))?;
        Ok(true)
    }
}

impl Shared {
    /// The leftover of object `id`, as far as it is one of this length, and what is linked in it. It is ours from here on.
    pub(super) fn take_leftover(
        &self,
        id: &Sha256,
        geometry: Geometry,
    ) -> Result<Option<(fs::File, std::path::PathBuf, Vec<Kept>)>, StoreError> {
        let Some(row) = self.catalog.read(|catalog| catalog::leftover(catalog, id))? else { return Ok(None) };
        let taken = self.layout.partial_named(id, &row.file).and_then(|path| {
            let file = disk::open_own(&path).ok()?;
            if !disk::try_lock(&file) {
                return None;
            }
            let fits = file.metadata().ok()?.len() == geometry.length() && row.length == geometry.length();
            Some((file, path, fits))
        });
        let kept = decode(&row.links, geometry);
        match (taken, kept) {
            (Some((file, path, true)), Some(kept)) if path.exists() => Ok(Some((file, path, kept))),
            (Some((file, path, _)), _) => {
                // Another object's length, or a row that makes no sense: it is worth nothing.
                let _ = fs::remove_file(&path);
                drop(file);
                self.catalog.write(Durability::Relaxed, |c| Ok(catalog::forget_leftover(c, id)?))?;
                Ok(None)
            }
            // Gone, or at work in somebody's hands.
            (None, _) => Ok(None),
        }
    }

    /// Removes the partial files that nobody has locked, but for leftovers: how many, and their bytes. Of leftovers, those
    /// that are too old or too many, and the oldest of the others until `wanted` bytes are gone.
    pub(super) fn sweep_partials(&self, wanted: u64) -> Result<(u64, u64), StoreError> {
        let rows = self.catalog.read(catalog::leftovers)?;
        let oldest = unix_seconds().saturating_sub(KEPT_SECONDS);
        let surplus = rows.len().saturating_sub(LEFTOVERS);
        let (mut count, mut bytes) = (0, 0);
        let mut remove = |path: &std::path::Path, id: Option<&Sha256>| {
            // Whoever owned it has written its row before he let go of the lock.
            let is_leftover = || {
                let row = |id: &Sha256| self.catalog.read(|c| catalog::leftover(c, id)).ok().flatten();
                let name = path.file_name().and_then(|name| name.to_str());
                let of = name.and_then(|name| name.split_once('.')?.0.parse::<Sha256>().ok());
                of.and_then(|id| row(&id)).is_some_and(|row| Some(&*row.file) == name)
            };
            let freed = remove_if_unowned(path, || id.is_some() || !is_leftover());
            if let Some(freed) = freed.map_err(StoreError::io("removing", path))? {
                count += 1;
                bytes += freed;
            }
            Ok::<u64, StoreError>(bytes)
        };
        let mut freed = 0;
        for path in files_in(&self.layout.partials())? {
            freed = remove(&path, None)?;
        }
        let mut gone = Vec::new();
        for (at, (id, row)) in rows.iter().enumerate() {
            let Some(path) = self.layout.partial_named(id, &row.file).filter(|path| path.exists()) else {
                gone.push(*id);
                continue;
            };
            if at < surplus || row.kept < oldest || freed < wanted {
                freed = remove(&path, Some(id))?;
                if !path.exists() {
                    gone.push(*id);
                }
            }
        }
        if !gone.is_empty() {
            self.catalog.write(Durability::Relaxed, |catalog| {
                Ok(gone.iter().try_for_each(|id| catalog::forget_leftover(catalog, id))?)
            })?;
        }
        Ok((count, bytes))
    }
}

fn encode(kept: &Kept) -> [u8; LINK_BYTES] {
    let mut bytes = [0; LINK_BYTES];
    bytes[..4].copy_from_slice(&kept.piece.to_be_bytes());
    bytes[4..36].copy_from_slice(&kept.link.start.to_bytes());
    bytes[36..68].copy_from_slice(&match kept.link.end {
        End::State(state) => state.to_bytes(),
        End::Digest(digest) => *digest.as_bytes(),
    });
    bytes[68] = u8::from(kept.from_mirror);
    bytes
}

/// The links of a row, `None` where they cannot be those of such an object.
fn decode(links: &[u8], geometry: Geometry) -> Option<Vec<Kept>> {
    let (links, rest) = links.as_chunks::<LINK_BYTES>();
    let kept = |bytes: &[u8; LINK_BYTES]| {
        let piece = PieceIndex::from_be_bytes(bytes[..4].try_into().ok()?);
        let start = State::from_bytes(bytes[4..36].try_into().ok()?);
        let end: &[u8; 32] = bytes[36..68].try_into().ok()?;
        let end = match piece == geometry.last() {
            true => End::Digest(Sha256::new(*end)),
            false => End::State(State::from_bytes(end)),
        };
        (piece <= geometry.last()).then_some(Kept {
            piece,
            link: Link { start, end },
            from_mirror: bytes[68] == 1,
        })
    };
    let kept: Option<Vec<Kept>> = links.iter().map(kept).collect();
    kept.filter(|kept| rest.is_empty() && !kept.is_empty())
}
