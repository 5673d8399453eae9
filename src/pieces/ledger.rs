//! Which pieces of an object are linked, and what that proves.

use super::{Geometry, PieceIndex, State};
use crate::digest::Sha256;

/// What a piece leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An inner piece: the chaining value behind it.
    State(State),
    /// The last piece: the digest of the whole object.
    Digest(Sha256),
}

/// A piece that was hashed: it leads from `start` to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The chaining value before the piece.
    pub start: State,
    /// What the bytes of the piece made of it.
    pub end: End,
}

/// A linked piece that is kept for a later download of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub piece: PieceIndex,
    /// What it leads from and to.
    pub link: Link,
    /// Whether the mirror sent it.
    pub from_mirror: bool,
}

/// The links of an object, and the two runs that follow from them.
///
/// The *prefix* is the run of links from the first byte in which each starts where the one before ended. The *proven*
/// suffix is such a run that ends in the digest: nobody can forge it, whoever claimed its states, because a wrong state
/// in it would be a second preimage of SHA-256. The object is closed when the prefix is the whole object and ends in
/// the digest.
#[derive(Debug, Clone)]
pub struct Ledger {
    geometry: Geometry,
    digest: Sha256,
    links: Vec<Option<Link>>,
}

impl Ledger {
    /// Nothing linked yet of the object with this digest.
    pub fn new(digest: Sha256, geometry: Geometry) -> Self {
        Self { geometry, digest, links: vec![None; geometry.pieces() as usize] }
    }

    /// The object's geometry.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The object's digest.
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Notes a link; a piece that has one already gets the new one.
    pub fn link(&mut self, piece: PieceIndex, link: Link) {
        if let Some(slot) = self.links.get_mut(piece as usize) {
            *slot = Some(link);
        }
    }

    /// Forgets a link.
    pub fn unlink(&mut self, piece: PieceIndex) {
        if let Some(slot) = self.links.get_mut(piece as usize) {
            *slot = None;
        }
    }

    /// The link of a piece.
    pub fn get(&self, piece: PieceIndex) -> Option<Link> {
        self.links.get(piece as usize).copied().flatten()
    }

    /// Whether the piece is linked.
    pub fn is_linked(&self, piece: PieceIndex) -> bool {
        self.get(piece).is_some()
    }

    /// Whether every piece is linked; they need not fit together.
    pub fn is_full(&self) -> bool {
        self.links.iter().all(Option::is_some)
    }

    /// How many pieces the prefix has.
    pub fn prefix(&self) -> PieceIndex {
        let mut state = End::State(State::INITIAL);
        let mut count = 0;
        for link in self.links.iter().map_while(|link| *link) {
            if End::State(link.start) != state {
                break;
            }
            state = link.end;
            count += 1;
        }
        count
    }

    /// The first piece of the proven suffix; the number of pieces where there is none.
    pub fn proven_from(&self) -> PieceIndex {
        let mut end = End::Digest(self.digest);
        let mut first = self.geometry.pieces();
        for link in self.links.iter().rev().map_while(|link| *link) {
            if link.end != end {
                break;
            }
            end = End::State(link.start);
            first -= 1;
        }
        first
    }

    /// Whether the whole object is proven: SHA-256 of the bytes is its digest.
    pub fn is_closed(&self) -> bool {
        self.prefix() == self.geometry.pieces()
            && self.get(self.geometry.last()).is_some_and(|link| link.end == End::Digest(self.digest))
    }

    /// The chaining value at the end of the prefix, where the forward front goes on; `None` once it covers the object.
    pub fn front_state(&self) -> Option<State> {
        match self.prefix().checked_sub(1) {
            None => Some(State::INITIAL),
            Some(last) => match self.get(last)?.end {
                End::State(state) => Some(state),
                End::Digest(_) => None,
            },
        }
    }

    /// What a piece must lead to for the proven suffix to grow by it; `None` for any other piece.
    pub fn proven_end(&self, piece: PieceIndex) -> Option<End> {
        if piece == self.geometry.last() {
            return Some(End::Digest(self.digest));
        }
        (piece + 1 >= self.proven_from())
            .then(|| self.get(piece + 1).map(|link| End::State(link.start)))
            .flatten()
    }

    /// The inner states of a closed object, `None` before.
    pub fn inner_states(&self) -> Option<Vec<State>> {
        if !self.is_closed() {
            return None;
        }
        Some(self.links.iter().skip(1).flatten().map(|link| link.start).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::PIECE_LENGTH;

    const DIGEST: Sha256 = Sha256::new([0xdd; 32]);

    fn ledger() -> Ledger {
        Ledger::new(DIGEST, Geometry::new(3 * PIECE_LENGTH + 1).unwrap())
    }

    fn state(boundary: u8) -> State {
        if boundary == 0 { State::INITIAL } else { State::from_bytes(&[boundary; 32]) }
    }

    fn right(piece: u8) -> Link {
        let end = if piece == 3 { End::Digest(DIGEST) } else { End::State(state(piece + 1)) };
        Link { start: state(piece), end }
    }

    #[test]
    fn the_two_runs_grow_towards_each_other_and_close() {
        let mut ledger = ledger();
        assert_eq!((ledger.prefix(), ledger.proven_from()), (0, 4));
        ledger.link(0, right(0));
        ledger.link(3, right(3));
        assert_eq!((ledger.prefix(), ledger.proven_from()), (1, 3));
        assert_eq!(ledger.front_state(), Some(state(1)));
        assert_eq!(ledger.proven_end(2), Some(End::State(state(3))));
        assert_eq!(ledger.proven_end(1), None);
        ledger.link(2, right(2));
        assert!(!ledger.is_full() && ledger.inner_states().is_none());
        ledger.link(1, right(1));
        assert!(ledger.is_closed());
        assert_eq!(ledger.inner_states(), Some(vec![state(1), state(2), state(3)]));
        assert_eq!(ledger.front_state(), None);
    }

    #[test]
    fn runs_that_meet_with_different_states_do_not_close() {
        let mut ledger = ledger();
        for piece in 0..4 {
            ledger.link(u32::from(piece), right(piece));
        }
        ledger.link(1, Link { start: state(1), end: End::State(state(77)) });
        assert!(ledger.is_full() && !ledger.is_closed());
        assert_eq!((ledger.prefix(), ledger.proven_from()), (2, 2));
        ledger.unlink(1);
        assert_eq!((ledger.prefix(), ledger.proven_from()), (1, 2));
    }

    #[test]
    fn a_wrong_digest_at_the_end_proves_nothing() {
        let mut ledger = ledger();
        for piece in 0..3 {
            ledger.link(u32::from(piece), right(piece));
        }
        ledger.link(3, Link { start: state(3), end: End::Digest(Sha256::new([1; 32])) });
        assert_eq!((ledger.prefix(), ledger.proven_from()), (4, 4));
        assert!(!ledger.is_closed());
    }
}
