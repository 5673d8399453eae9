//! The SHA-256 chain: SHA-256 stopped at piece boundaries, so that pieces verify in any order.
//!
//! SHA-256 is a Merkle–Damgård chain: a fixed start, one compression for each 64-byte block, the padding last
//! (FIPS 180-4, sections 5.1.1, 5.3.3 and 6.2.2). The chaining value after the first *i* pieces is `state[i]`. A piece
//! that leads from `state[i]` to `state[i + 1]` is *linked*; the last piece leads to the digest itself.

use std::fmt;

use sha2::block_api::compress256;

use crate::digest::{self, Sha256};

/// The bytes that one compression takes.
const BLOCK: usize = 64;

/// A chaining value of SHA-256 at a piece boundary: eight 32-bit words.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State([u32; 8]);

impl State {
    /// The value before the first byte (FIPS 180-4, section 5.3.3).
    pub const INITIAL: Self = Self([
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ]);

    /// The eight words as 32 bytes, big-endian, as they are written on the wire.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// The value whose eight big-endian words are `bytes`.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Self(words)
    }

    /// The value that 64 hexadecimal digits spell, `None` for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        digest::parse_hex(text).map(|bytes| Self::from_bytes(&bytes))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digest::write_hex(&self.to_bytes(), f)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Walks the chain over bytes as they arrive, in slices of any length.
///
/// It starts at any block boundary, so at any piece boundary. Cloning it is cheap: a walk can be tried and given up.
#[derive(Clone)]
pub struct ChainWalk {
    state: State,
    /// The bytes of an unfinished block; only the first `pending` are meant.
    block: [u8; BLOCK],
    pending: usize,
}

impl ChainWalk {
    /// A walk that starts at `state`, at a block boundary.
    pub const fn from_state(state: State) -> Self {
        Self { state, block: [0; BLOCK], pending: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if self.pending > 0 {
            let taken = bytes.len().min(BLOCK - self.pending);
            self.block[self.pending..self.pending + taken].copy_from_slice(&bytes[..taken]);
            self.pending += taken;
            bytes = &bytes[taken..];
            if self.pending < BLOCK {
                return;
            }
            compress256(&mut self.state.0, &[self.block]);
            self.pending = 0;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        compress256(&mut self.state.0, blocks);
        self.block[..rest.len()].copy_from_slice(rest);
        self.pending = rest.len();
    }

    /// The chaining value here, `None` in the middle of a block (every piece but the last ends on a block boundary).
    pub const fn state(&self) -> Option<State> {
        if self.pending == 0 { Some(self.state) } else { None }
    }

    /// The digest of the whole object, `length` bytes long, that ends here: the padding and the length in bits are
    /// added as FIPS 180-4, section 5.1.1 says.
    pub fn finish(mut self, length: u64) -> Sha256 {
        let mut tail = [0_u8; 2 * BLOCK];
        tail[0] = 0x80;
        // The marker bit and the eight bytes of the length must fit behind what is pending.
        let padded = if self.pending < BLOCK - 8 { BLOCK } else { 2 * BLOCK } - self.pending;
        tail[padded - 8..padded].copy_from_slice(&length.wrapping_mul(8).to_be_bytes());
        self.update(&tail[..padded]);
        Sha256::new(self.state.to_bytes())
    }
}

impl fmt::Debug for ChainWalk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainWalk").field("state", &self.state).field("pending", &self.pending).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::{Geometry, PIECE_LENGTH};
    use proptest::prelude::*;

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from((i * 31 + i / 251) % 256).unwrap()).collect()
    }

    fn walked(bytes: &[u8]) -> Sha256 {
        let mut walk = ChainWalk::from_state(State::INITIAL);
        walk.update(bytes);
        walk.finish(bytes.len() as u64)
    }

    #[test]
    fn agrees_with_sha256_around_every_block_boundary() {
        for length in [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000] {
            let bytes = sample(length);
            assert_eq!(walked(&bytes), Sha256::of(&bytes), "{length} bytes");
        }
    }

    #[test]
    fn agrees_with_sha256_around_piece_boundaries() {
        let piece = usize::try_from(PIECE_LENGTH).unwrap();
        for length in [piece - 9, piece - 1, piece, piece + 1, piece + 55, piece + 56, piece + 64, 3 * piece]
        {
            let bytes = sample(length);
            assert_eq!(walked(&bytes), Sha256::of(&bytes), "{length} bytes");
        }
    }

    #[test]
    fn pieces_walked_apart_meet_at_the_same_states() {
        let bytes = sample(2 * usize::try_from(PIECE_LENGTH).unwrap() + 77);
        let geometry = Geometry::new(bytes.len() as u64).unwrap();
        let piece = |i| {
            let range = geometry.range(i);
            &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
        };
        let after = |state, bytes: &[u8]| {
            let mut walk = ChainWalk::from_state(state);
            walk.update(bytes);
            walk
        };
        let first = after(State::INITIAL, piece(0)).state().unwrap();
        let second = after(first, piece(1)).state().unwrap();
        assert_eq!(after(second, piece(2)).finish(geometry.length()), Sha256::of(&bytes));
        assert_eq!(after(second, piece(2)).state(), None, "the last piece ends within a block");

        let mut wrong = piece(1).to_vec();
        wrong[12_345] ^= 1;
        assert_ne!(after(first, &wrong).state().unwrap(), second, "a flipped bit is pinned to its piece");
    }

    #[test]
    fn states_survive_their_spellings() {
        let state = ChainWalk::from_state(State::INITIAL).state().unwrap();
        assert_eq!(State::from_bytes(&state.to_bytes()), state);
        assert_eq!(State::from_hex(&state.to_string()), Some(state));
        assert_eq!(State::from_hex("6a09"), None);
        assert!(state.to_string().starts_with("6a09e667bb67ae85"));
    }

    proptest! {
        #[test]
        fn slices_of_any_length_give_the_same_digest(bytes in prop::collection::vec(any::<u8>(), 0..2000),
                                                     cuts in prop::collection::vec(0_usize..300, 0..20)) {
            let mut walk = ChainWalk::from_state(State::INITIAL);
            let mut rest = &bytes[..];
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                walk.update(head);
                rest = tail;
            }
            walk.update(rest);
            prop_assert_eq!(walk.finish(bytes.len() as u64), Sha256::of(&bytes));
        }
    }
}
