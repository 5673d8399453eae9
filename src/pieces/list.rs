//! A piece-hash list: the inner states of the chain, as somebody claims them.

use super::{Geometry, PieceIndex, State};

/// The inner states `state[1] ..= state[n - 1]` of an object of `n` pieces, each known or not.
///
/// A list is a claim: it is right only if the pieces that link under it close the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceList {
    inner: Vec<Option<State>>,
}

/// A list whose length does not fit the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a piece list of {got} states for an object that has {expected} inner ones")]
pub struct WrongShape {
    got: usize,
    expected: usize,
}

impl PieceList {
    /// A list in which nothing is known yet.
    pub fn unknown(geometry: Geometry) -> Self {
        Self { inner: vec![None; inner_states(geometry)] }
    }

    /// The list with these inner states.
    ///
    /// # Errors
    /// [`WrongShape`] unless there is exactly one entry for each inner boundary of the object.
    pub fn new(geometry: Geometry, inner: Vec<Option<State>>) -> Result<Self, WrongShape> {
        let expected = inner_states(geometry);
        if inner.len() == expected {
            Ok(Self { inner })
        } else {
            Err(WrongShape { got: inner.len(), expected })
        }
    }

    /// `state[boundary]`: the chaining value after the first `boundary` pieces. The first is known to everybody; the
    /// one behind the last piece is the digest and in no list.
    pub fn state(&self, boundary: PieceIndex) -> Option<State> {
        match (boundary as usize).checked_sub(1) {
            None => Some(State::INITIAL),
            Some(inner) => self.inner.get(inner).copied().flatten(),
        }
    }

    /// Says the state at an inner boundary; any other is left out.
    pub fn set(&mut self, boundary: PieceIndex, state: State) {
        let inner = (boundary as usize).checked_sub(1);
        if let Some(slot) = inner.and_then(|inner| self.inner.get_mut(inner)) {
            *slot = Some(state);
        }
    }

    /// The inner states in order.
    pub fn inner(&self) -> &[Option<State>] {
        &self.inner
    }

    /// Whether every inner state is known.
    pub fn is_complete(&self) -> bool {
        self.inner.iter().all(Option::is_some)
    }

    /// Whether the two lists claim the same wherever both claim anything.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.inner.len() == other.inner.len()
            && self.inner.iter().zip(&other.inner).all(|(a, b)| a.is_none() || b.is_none() || a == b)
    }

    /// Whether everything that `other` claims is claimed here too.
    pub fn includes(&self, other: &Self) -> bool {
        self.inner.len() == other.inner.len()
            && self.inner.iter().zip(&other.inner).all(|(a, b)| b.is_none() || a == b)
    }

    /// Fills what is unknown here from `other`.
    pub fn fill_from(&mut self, other: &Self) {
        for (mine, theirs) in self.inner.iter_mut().zip(&other.inner) {
            *mine = mine.or(*theirs);
        }
    }
}

fn inner_states(geometry: Geometry) -> usize {
    geometry.last() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::PIECE_LENGTH;

    fn geometry() -> Geometry {
        Geometry::new(3 * PIECE_LENGTH + 1).unwrap()
    }

    fn state(seed: u8) -> Option<State> {
        Some(State::from_bytes(&[seed; 32]))
    }

    #[test]
    fn a_list_has_one_state_for_each_inner_boundary() {
        assert!(PieceList::new(geometry(), vec![None; 3]).is_ok());
        let refused = PieceList::new(geometry(), vec![None; 4]).unwrap_err();
        assert_eq!(refused.to_string(), "a piece list of 4 states for an object that has 3 inner ones");
        let one_piece = Geometry::new(10).unwrap();
        assert!(PieceList::unknown(one_piece).is_complete());
    }

    #[test]
    fn boundaries_count_from_the_start_of_the_object() {
        let list = PieceList::new(geometry(), vec![state(1), None, state(3)]).unwrap();
        assert_eq!(list.state(0), Some(State::INITIAL));
        assert_eq!(list.state(1), state(1));
        assert_eq!(list.state(2), None);
        assert_eq!(list.state(3), state(3));
        assert_eq!(list.state(4), None, "the digest is in no list");
    }

    #[test]
    fn lists_agree_where_both_claim_something() {
        let early = PieceList::new(geometry(), vec![state(1), None, None]).unwrap();
        let late = PieceList::new(geometry(), vec![None, state(2), state(3)]).unwrap();
        let other = PieceList::new(geometry(), vec![state(9), None, None]).unwrap();
        assert!(early.agrees_with(&late));
        assert!(!early.agrees_with(&other));
        let mut merged = early;
        merged.fill_from(&late);
        assert!(merged.is_complete());
        assert!(!merged.agrees_with(&other));
        assert!(merged.includes(&late) && !late.includes(&merged) && !merged.includes(&other));
    }
}
