//! Where the pieces of an object lie.

use std::ops::Range;

/// The length of every piece but the last: 4 MiB, a multiple of SHA-256's 64-byte block.
pub const PIECE_LENGTH: u64 = 4 << 20;

/// The longest object that is downloaded in pieces: 1 TiB, three hundred times the largest package of the archive.
/// It bounds what a length that a stranger claims can make us allocate.
pub const MAX_LENGTH: u64 = 1 << 40;

/// The number of a piece, counted from 0.
pub type PieceIndex = u32;

/// How an object of a known length is cut into pieces.
///
/// There is always at least one piece; that of an empty object is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    length: u64,
}

/// A length beyond [`MAX_LENGTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an object of {0} bytes is longer than the limit of {MAX_LENGTH}")]
pub struct TooLong(pub u64);

impl Geometry {
    /// Cuts an object of `length` bytes.
    ///
    /// # Errors
    /// [`TooLong`] beyond [`MAX_LENGTH`].
    pub const fn new(length: u64) -> Result<Self, TooLong> {
        if length > MAX_LENGTH { Err(TooLong(length)) } else { Ok(Self { length }) }
    }

    /// The length of the object in bytes.
    pub const fn length(self) -> u64 {
        self.length
    }

    /// How many pieces there are, at least one.
    #[allow(clippy::cast_possible_truncation, reason = "MAX_LENGTH / PIECE_LENGTH is 2^18")]
    pub const fn pieces(self) -> PieceIndex {
        let count = self.length.div_ceil(PIECE_LENGTH);
        if count == 0 { 1 } else { count as PieceIndex }
    }

    /// The number of the last piece.
    pub const fn last(self) -> PieceIndex {
        self.pieces() - 1
    }

    /// The bytes of piece `index`; empty where there is no such piece.
    pub fn range(self, index: PieceIndex) -> Range<u64> {
        let start = (u64::from(index) * PIECE_LENGTH).min(self.length);
        start..(start + PIECE_LENGTH).min(self.length)
    }

    /// The piece that holds the byte at `offset`; the last piece for the end of the object and beyond.
    pub fn piece_at(self, offset: u64) -> PieceIndex {
        u32::try_from(offset / PIECE_LENGTH).unwrap_or(u32::MAX).min(self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(length: u64) -> Geometry {
        Geometry::new(length).unwrap()
    }

    #[test]
    fn pieces_cover_the_object_without_gap_or_overlap() {
        for length in
            [0, 1, PIECE_LENGTH - 1, PIECE_LENGTH, PIECE_LENGTH + 1, 3 * PIECE_LENGTH, 3_300_000_007]
        {
            let geometry = geometry(length);
            let mut end = 0;
            for index in 0..geometry.pieces() {
                let range = geometry.range(index);
                assert_eq!(range.start, end, "piece {index} of {length}");
                assert!(range.end > range.start || length == 0);
                end = range.end;
            }
            assert_eq!(end, length);
        }
    }

    #[test]
    fn an_empty_object_has_one_empty_piece() {
        assert_eq!(geometry(0).pieces(), 1);
        assert_eq!(geometry(0).range(0), 0..0);
    }

    #[test]
    fn offsets_name_their_piece() {
        let geometry = geometry(2 * PIECE_LENGTH + 5);
        assert_eq!(geometry.piece_at(0), 0);
        assert_eq!(geometry.piece_at(PIECE_LENGTH - 1), 0);
        assert_eq!(geometry.piece_at(PIECE_LENGTH), 1);
        assert_eq!(geometry.piece_at(2 * PIECE_LENGTH + 4), 2);
        assert_eq!(geometry.piece_at(u64::MAX), 2);
    }

    #[test]
    fn absurd_lengths_are_refused() {
        assert_eq!(Geometry::new(MAX_LENGTH + 1), Err(TooLong(MAX_LENGTH + 1)));
        assert_eq!(geometry(MAX_LENGTH).pieces(), 1 << 18);
    }
}
