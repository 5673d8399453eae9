//! The object that everybody wants, in symbols: a piece is its number and a variant, variant 0 being the right one, and
//! the chain is computed over those.

use std::ops::Range;

use aptpeer::digest::Sha256;
use aptpeer::pieces::{End, Geometry, PieceIndex, PieceList, State};

pub(crate) type Variant = u32;

/// The right bytes of a piece.
pub(crate) const RIGHT: Variant = 0;

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) geometry: Geometry,
    pub(crate) digest: Sha256,
    /// `states[piece]` is the one before the piece.
    states: Vec<State>,
}

impl Object {
    pub(crate) fn new(length: u64) -> Self {
        let geometry = Geometry::new(length).unwrap();
        let (states, digest) = chain(geometry, RIGHT);
        Self { geometry, digest, states }
    }

    /// What the piece's bytes of this variant make of a state.
    pub(crate) fn led(&self, start: State, piece: PieceIndex, variant: Variant) -> End {
        let known = variant == RIGHT && self.states[piece as usize] == start;
        match self.states.get(piece as usize + 1) {
            Some(next) if known => End::State(*next),
            None if known => End::Digest(self.digest),
            _ => step(self.geometry, start, piece, variant),
        }
    }

    /// What part of a piece of this variant is told apart by.
    pub(crate) fn digest_of(&self, range: &Range<u64>, variant: Variant) -> Sha256 {
        Sha256::of(format!("{} {range:?} {variant}", self.digest).as_bytes())
    }

    /// The list of an object that is this variant throughout.
    pub(crate) fn list(&self, variant: Variant) -> PieceList {
        let (states, _) = chain(self.geometry, variant);
        PieceList::new(self.geometry, states.into_iter().skip(1).map(Some).collect()).unwrap()
    }
}

fn step(geometry: Geometry, start: State, piece: PieceIndex, variant: Variant) -> End {
    let mut input = start.to_bytes().to_vec();
    input.extend(piece.to_be_bytes());
    input.extend(variant.to_be_bytes());
    let digest = Sha256::of(&input);
    if piece == geometry.last() {
        End::Digest(digest)
    } else {
        End::State(State::from_bytes(digest.as_bytes()))
    }
}

fn chain(geometry: Geometry, variant: Variant) -> (Vec<State>, Sha256) {
    let mut states = vec![State::INITIAL];
    loop {
        let piece = u32::try_from(states.len() - 1).unwrap();
        match step(geometry, states[piece as usize], piece, variant) {
            End::State(next) => states.push(next),
            End::Digest(digest) => return (states, digest),
        }
    }
}
