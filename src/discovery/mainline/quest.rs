//! Gathering one piece list that is spread over several values of the DHT.

use crate::pieces::{Geometry, PieceList, State};
use crate::wire::{ListHead, ListProblem, chunk_states};

/// What a head is good for.
pub(super) enum Step {
    /// It has the whole list in line.
    List(PieceList),
    /// Its chunks are to be asked for.
    Quest(Quest),
}

/// Chunks of one list on their way.
#[derive(Debug)]
pub(super) struct Quest {
    geometry: Geometry,
    pub(super) signed: bool,
    targets: Vec<[u8; 20]>,
    chunks: Vec<Option<Vec<[u8; 32]>>>,
    asked: usize,
}

/// Reads the value of a head, of an object of this geometry.
pub(super) fn read_head(value: &[u8], geometry: Geometry, signed: bool) -> Result<Step, ListProblem> {
    match ListHead::parse(value, geometry.length())? {
        ListHead::States(states) => list_of(geometry, &states).map(Step::List),
        ListHead::Chunks(targets) => {
            let chunks = vec![None; targets.len()];
            Ok(Step::Quest(Quest { geometry, signed, targets, chunks, asked: 0 }))
        }
    }
}

fn list_of(geometry: Geometry, states: &[[u8; 32]]) -> Result<PieceList, ListProblem> {
    let states = states.iter().map(|state| Some(State::from_bytes(state))).collect();
    PieceList::new(geometry, states).map_err(|_| ListProblem::Other("another number of states"))
}

impl Quest {
    /// The next chunk to ask for, with its place; `None` once all were.
    pub(super) fn next_chunk(&mut self) -> Option<(usize, [u8; 20])> {
        let target = *self.targets.get(self.asked)?;
        self.asked += 1;
        Some((self.asked - 1, target))
    }

    /// A chunk came; the list, once it was the last.
    pub(super) fn handle_chunk(&mut self, index: usize, value: &[u8]) -> Option<PieceList> {
        let states = chunk_states(value, self.geometry.length(), index).ok()?;
        *self.chunks.get_mut(index)? = Some(states);
        let whole: Option<Vec<_>> = self.chunks.iter().cloned().collect();
        list_of(self.geometry, &whole?.concat()).ok()
    }
}
