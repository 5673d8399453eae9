//! Gathering the piece lists of one object, some of which are spread over several values of the DHT.

use std::collections::HashMap;

use crate::pieces::{Geometry, PieceList, State};
use crate::wire::{LIST_SEQUENCE, ListHead, ListProblem, Veil, unveiled_chunk};

/// Lists in chunks that are gathered under one key: everybody can write another head under the derived one.
const QUESTS: usize = 2;

/// Under which key a head stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The one that everybody can derive from the object.
    Derived,
    /// The one of the publisher at this place of the configuration.
    Publisher(usize),
}

/// What a head is good for.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It has the whole list in line.
    List(PieceList),
    /// Its chunks are to be asked for, under this number.
    Quest(usize),
    /// Nothing: a better one is known, or enough are.
    Nothing,
}

/// The lists of one object, as they are found.
#[derive(Debug)]
pub(super) struct Lists {
    geometry: Geometry,
    veil: Veil,
    /// The highest `seq` of each publisher so far.
    newest: HashMap<Key, i64>,
    quests: Vec<Quest>,
}

/// Chunks of one list on their way.
#[derive(Debug)]
struct Quest {
    key: Key,
    seq: i64,
    targets: Vec<[u8; 20]>,
    chunks: Vec<Option<Vec<[u8; 32]>>>,
    asked: usize,
}

impl Lists {
    /// None yet, of an object of this geometry whose lists lie under this veil.
    pub(super) fn new(geometry: Geometry, veil: Veil) -> Self {
        Self { geometry, veil, newest: HashMap::new(), quests: Vec::new() }
    }

    /// A head came, with the `seq` of its item.
    ///
    /// # Errors
    /// Where it is none for this object.
    pub(super) fn handle_head(&mut self, key: Key, seq: i64, value: &[u8]) -> Result<Step, ListProblem> {
        // docs/protocol.md, section 11: no honest writer makes another under the derived key.
        if key == Key::Derived && seq != LIST_SEQUENCE {
            return Err(ListProblem::Other("another sequence number"));
        }
        let head = ListHead::unveil(value, self.geometry.length(), &self.veil)?;
        // "Of several items a reader takes the one with the highest seq": nobody waits for that one, so that an older
        // one may have been taken before it, but none is after it.
        let newest = self.newest.entry(key).or_insert(seq);
        if seq < *newest {
            return Ok(Step::Nothing);
        }
        *newest = seq;
        let targets = match head {
            ListHead::States(states) => return list_of(self.geometry, &states).map(Step::List),
            ListHead::Chunks(targets) => targets,
        };
        let under_way = self.quests.iter().filter(|quest| (quest.key, quest.seq) == (key, seq)).count();
        if under_way >= QUESTS {
            return Ok(Step::Nothing);
        }
        let chunks = vec![None; targets.len()];
        self.quests.push(Quest { key, seq, targets, chunks, asked: 0 });
        Ok(Step::Quest(self.quests.len() - 1))
    }

    /// The next chunk of a quest to ask for, with its place; `None` once all were.
    pub(super) fn next_chunk(&mut self, quest: usize) -> Option<(usize, [u8; 20])> {
        let quest = self.quests.get_mut(quest)?;
        if self.newest.get(&quest.key).is_some_and(|newest| quest.seq < *newest) {
            return None;
        }
        let target = *quest.targets.get(quest.asked)?;
        quest.asked += 1;
        Some((quest.asked - 1, target))
    }

    /// A chunk came; the list and its key, once it was the last.
    pub(super) fn handle_chunk(
        &mut self,
        quest: usize,
        index: usize,
        value: &[u8],
    ) -> Option<(PieceList, Key)> {
        let quest = self.quests.get_mut(quest)?;
        let states = unveiled_chunk(value, self.geometry.length(), index, &self.veil).ok()?;
        *quest.chunks.get_mut(index)? = Some(states);
        if self.newest.get(&quest.key).is_some_and(|newest| quest.seq < *newest) {
            return None;
        }
        let whole: Option<Vec<_>> = quest.chunks.iter().cloned().collect();
        Some((list_of(self.geometry, &whole?.concat()).ok()?, quest.key))
    }
}

impl Key {
    /// Whether a publisher vouches for what stands under it.
    pub(super) const fn is_signed(self) -> bool {
        matches!(self, Self::Publisher(_))
    }
}

fn list_of(geometry: Geometry, states: &[[u8; 32]]) -> Result<PieceList, ListProblem> {
    let states = states.iter().map(|state| Some(State::from_bytes(state))).collect();
    PieceList::new(geometry, states).map_err(|_| ListProblem::Other("another number of states"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::pieces::PIECE_LENGTH;
    use crate::wire::{ListItems, Swarm};

    fn open(geometry: Geometry) -> Lists {
        Lists::new(geometry, Swarm::PUBLIC.veil(&Sha256::of(b"object")))
    }

    const TRUSTED: Key = Key::Publisher(0);

    /// A list of so many states, all of them this byte.
    fn items(states: usize, byte: u8) -> (Geometry, ListItems) {
        let length = states as u64 * PIECE_LENGTH + 1;
        (Geometry::new(length).unwrap(), ListItems::of(length, &vec![[byte; 32]; states]).unwrap())
    }

    fn is_list(step: Result<Step, ListProblem>) -> bool {
        step.is_ok_and(|step| matches!(step, Step::List(_)))
    }

    #[test]
    fn under_the_derived_key_only_what_honest_writers_write_counts() {
        let (geometry, list) = items(2, 1);
        let mut lists = open(geometry);
        for seq in [0, -1, 2, i64::MAX] {
            assert!(lists.handle_head(Key::Derived, seq, &list.head).is_err(), "{seq}");
        }
        assert!(is_list(lists.handle_head(Key::Derived, 1, &list.head)));
    }

    #[test]
    fn of_a_publishers_lists_the_newest_wins() {
        let (geometry, list) = items(2, 1);
        let mut lists = open(geometry);
        assert!(is_list(lists.handle_head(TRUSTED, 1, &list.head)));
        assert!(is_list(lists.handle_head(TRUSTED, 3, &list.head)));
        assert_eq!(lists.handle_head(TRUSTED, 2, &list.head).unwrap(), Step::Nothing);
        assert!(lists.handle_head(TRUSTED, 9, b"le").is_err());
        assert!(is_list(lists.handle_head(TRUSTED, 3, &list.head)), "rubbish is no correction");
        assert!(is_list(lists.handle_head(Key::Publisher(1), 1, &list.head)), "another has its own count");
    }

    #[test]
    fn a_corrected_list_in_chunks_is_gathered_no_further() {
        let ((geometry, old), (_, new)) = (items(30, 1), items(30, 2));
        let mut lists = open(geometry);
        assert_eq!(lists.handle_head(TRUSTED, 1, &old.head).unwrap(), Step::Quest(0));
        assert!(lists.next_chunk(0).is_some());
        assert_eq!(lists.handle_head(TRUSTED, 2, &new.head).unwrap(), Step::Quest(1));
        assert_eq!(lists.next_chunk(0), None);
        for (index, chunk) in old.chunks.iter().enumerate() {
            assert_eq!(lists.handle_chunk(0, index, &chunk.value), None);
        }
        assert_eq!(lists.handle_chunk(1, 1, &new.chunks[1].value), None);
        assert!(matches!(lists.handle_chunk(1, 0, &new.chunks[0].value), Some((_, TRUSTED))));
    }

    #[test]
    fn liars_under_the_derived_key_take_no_room_from_a_publisher() {
        let geometry = items(30, 0).0;
        let mut lists = open(geometry);
        let mut head = |key, byte| lists.handle_head(key, 1, &items(30, byte).1.head).unwrap();
        assert_eq!([head(Key::Derived, 1), head(Key::Derived, 2)], [Step::Quest(0), Step::Quest(1)]);
        assert_eq!(head(Key::Derived, 3), Step::Nothing);
        assert_eq!(head(TRUSTED, 4), Step::Quest(2));
    }
}
