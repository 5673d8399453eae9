//! The assembly as several fetches write to it: who may still write where, and whether released bytes change.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::metrics::Metrics;
use crate::pieces::{Geometry, PieceIndex};
use crate::store::{Assembly, Check, StoreError};
use tokio::sync::Notify;

/// Locks for the pieces; a piece's number modulo this names its lock. As many as pieces are ever in flight.
const STRIPES: usize = 16;

/// An object under construction.
///
/// A piece from a peer is written whole, once it is linked ([`Canvas::commit`]), and then stays; a walk writes as bytes
/// arrive ([`Canvas::paint`]) and leaves committed pieces alone. A fetch that was cancelled writes nothing any more.
pub(super) struct Canvas {
    assembly: Assembly,
    stripes: [Mutex<()>; STRIPES],
    committed: Vec<AtomicBool>,
    released: AtomicU64,
    /// How often bytes that had been released were overwritten with others.
    taints: AtomicU32,
    /// Pieces of an earlier download that turned out damaged and were not given up yet.
    damaged: Mutex<BTreeSet<PieceIndex>>,
    damage: Notify,
    metrics: Metrics,
}

impl fmt::Debug for Canvas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canvas").field("assembly", &self.assembly).finish_non_exhaustive()
    }
}

/// A fetch's right to write, until it is taken away.
#[derive(Debug, Clone, Default)]
pub(super) struct Licence(Arc<Permit>);

#[derive(Debug, Default)]
struct Permit {
    revoked: AtomicBool,
    committed: AtomicBool,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// The bytes are in the object.
    Done,
    /// They are not: the piece is there already.
    Skipped,
    /// They are not: the fetch was cancelled.
    Cancelled,
}

impl Canvas {
    pub(super) fn new(assembly: Assembly, metrics: Metrics) -> Self {
        let pieces = assembly.geometry().pieces();
        let committed: Vec<_> = (0..pieces).map(|_| AtomicBool::new(false)).collect();
        assembly
            .resumed()
            .iter()
            .for_each(|kept| committed[kept.piece as usize].store(true, Ordering::Release));
        Self {
            assembly,
            stripes: Default::default(),
            committed,
            damaged: Mutex::default(),
            damage: Notify::new(),
            metrics,
            released: AtomicU64::new(0),
            taints: AtomicU32::new(0),
        }
    }

    pub(super) fn assembly(&self) -> &Assembly {
        &self.assembly
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.assembly.geometry()
    }

    /// Puts a linked piece into the object.
    pub(super) fn commit(
        &self,
        piece: PieceIndex,
        bytes: &[u8],
        licence: &Licence,
    ) -> Result<Written, StoreError> {
        let _guard = self.lock(piece);
        if licence.is_revoked() {
            return Ok(Written::Cancelled);
        }
        let written = self.write(self.geometry().range(piece).start, bytes)?;
        self.committed[piece as usize].store(true, Ordering::Release);
        licence.0.committed.store(true, Ordering::Release);
        Ok(written)
    }

    /// Puts bytes of a walk into the object; they lie within `piece`.
    pub(super) fn paint(
        &self,
        piece: PieceIndex,
        offset: u64,
        bytes: &[u8],
        licence: &Licence,
    ) -> Result<Written, StoreError> {
        let _guard = self.lock(piece);
        if licence.is_revoked() {
            return Ok(Written::Cancelled);
        }
        if self.committed[piece as usize].load(Ordering::Acquire) {
            return Ok(Written::Skipped);
        }
        self.write(offset, bytes)
    }

    /// Takes the licence away: once this returns, the fetch changes nothing any more. `pieces` are those it may be in.
    /// Says whether the fetch has committed its piece before, of which its task may not have told.
    pub(super) fn revoke(&self, licence: &Licence, pieces: Range<PieceIndex>) -> bool {
        licence.0.revoked.store(true, Ordering::Release);
        // Wait for a write that has begun.
        for piece in pieces.take(STRIPES) {
            drop(self.lock(piece));
        }
        licence.0.committed.load(Ordering::Acquire)
    }

    /// Opens a piece for writing again.
    pub(super) fn reopen(&self, piece: PieceIndex) {
        let _guard = self.lock(piece);
        if let Some(committed) = self.committed.get(piece as usize) {
            committed.store(false, Ordering::Release);
        }
        self.assembly.renew(piece);
    }

    /// Whether the bytes of every piece that `range` touches are what was linked. Only a piece of an earlier download is ever
    /// hashed for that, once; the other tasks of this thread go on meanwhile. Call it within a multi-thread runtime.
    pub(super) fn is_sound(&self, range: &Range<u64>) -> bool {
        let last = self.geometry().piece_at(range.end.saturating_sub(1).max(range.start));
        (self.geometry().piece_at(range.start)..=last).all(|piece| self.is_sound_piece(piece))
    }

    fn is_sound_piece(&self, piece: PieceIndex) -> bool {
        if self.assembly.is_checked(piece) {
            return true;
        }
        match tokio::task::block_in_place(|| self.assembly.check(piece)) {
            Check::Known => true,
            Check::Rehashed(bytes) => {
                self.metrics.bytes_rehashed(bytes);
                true
            }
            Check::Damaged => {
                self.lock_damaged().insert(piece);
                self.damage.notify_one();
                false
            }
        }
    }

    /// Whether [`Self::is_sound`] would answer without reading the disk first.
    pub(super) fn is_checked(&self, offset: u64) -> bool {
        self.assembly.is_checked(self.geometry().piece_at(offset))
    }

    fn lock_damaged(&self) -> MutexGuard<'_, BTreeSet<PieceIndex>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a piece has turned out damaged, and says which.
    pub(super) async fn next_damaged(&self) -> PieceIndex {
        loop {
            let piece = self.lock_damaged().pop_first();
            match piece {
                Some(piece) => return piece,
                None => self.damage.notified().await,
            }
        }
    }

    /// From here on, changing the bytes before `end` is noticed.
    pub(super) fn note_released(&self, end: u64) {
        self.released.store(end, Ordering::Release);
    }

    /// How often released bytes were overwritten with others.
    pub(super) fn taints(&self) -> u32 {
        self.taints.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self, range: Range<u64>) -> Bytes {
        self.assembly.bytes(range)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<Written, StoreError> {
        let released = self.released.load(Ordering::Acquire).saturating_sub(offset);
        let shown = &bytes[..usize::try_from(released).unwrap_or(usize::MAX).min(bytes.len())];
        let differs = !shown.is_empty() && self.assembly.differs(offset, shown);
        if differs {
            // Before the write: a reader that sees the new bytes must be able to see this.
            self.taints.fetch_add(1, Ordering::AcqRel);
        }
        self.assembly.write_at(offset, bytes)?;
        Ok(Written::Done)
    }

    fn lock(&self, piece: PieceIndex) -> MutexGuard<'_, ()> {
        self.stripes[piece as usize % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Licence {
    pub(super) fn is_revoked(&self) -> bool {
        self.0.revoked.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::store::{Store, StoreConfig};

    #[test]
    fn a_fetch_that_is_cancelled_says_whether_its_piece_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let store = Store::open(StoreConfig { path, max_size: 1 << 30, min_free_space: 0 }).unwrap();
        let assembly = store.assemble(Sha256::of(b"right"), Geometry::new(5).unwrap()).unwrap();
        let canvas = Canvas::new(assembly, Metrics::new(crate::clock::now()));
        let (early, late, walk) = (Licence::default(), Licence::default(), Licence::default());
        assert_eq!(canvas.commit(0, b"wrong", &early).unwrap(), Written::Done);
        assert!(canvas.revoke(&early, 0..1), "it is there, and nobody vouches for it");
        assert!(!canvas.revoke(&late, 0..1));
        assert_eq!(canvas.commit(0, b"later", &late).unwrap(), Written::Cancelled);
        assert_eq!(canvas.paint(0, 0, b"right", &walk).unwrap(), Written::Skipped);
        canvas.reopen(0);
        assert_eq!(canvas.paint(0, 0, b"right", &walk).unwrap(), Written::Done);
        assert_eq!(&canvas.bytes(0..5)[..], b"right");
    }
}
