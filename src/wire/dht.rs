//! What stands in the BitTorrent DHT about an object: its piece-hash list, as BEP 44 values.
//!
//! A *head* in a mutable item, signed with a key that the object's digest or a publisher gives; with more states than
//! one value holds, the head names *chunks*, each an immutable item. Who holds the object stands under its
//! [`InfoHash`](crate::digest::InfoHash).
//!
//! The values of one object are always the same bytes, so that whoever writes them again keeps the same items alive.

use super::secret::Veil;
use crate::bencode::{BencodeError, Value, Writer};
use crate::digest::Sha256;

/// The sequence number under which every list is written (BEP 44, "mutable items"): the value of one object never
/// changes.
pub const LIST_SEQUENCE: i64 = 1;

/// The most inner states that a head has in line: 669 bytes as a value, so that an answer with it, its key, its
/// signature and the 20 nodes that some implementations add stays within one unfragmented datagram.
pub const HEAD_STATES: usize = 20;

/// The most inner states of one chunk: 804 bytes as a value; answers with it carry no key and no signature.
pub const CHUNK_STATES: usize = 25;

/// The most chunks that a head names: 691 bytes as a value.
pub const MAX_CHUNKS: usize = 33;

/// The most inner states that fit at all: those of an object of 826 pieces, 3304 MiB.
pub const MAX_STATES: usize = MAX_CHUNKS * CHUNK_STATES;

/// The binary logarithm of the piece length, as a head writes it.
const PIECE_EXPONENT: i64 = 22;

/// What the seeds of derived keys begin with.
const SEED_PREFIX: &[u8] = b"aptpeer piece list 1";

/// The bytes of a target (BEP 44: a SHA-1).
const TARGET: usize = 20;

/// The Ed25519 seed (RFC 8032, section 5.1.5: the private key) of the item that holds the list of `object`. Everybody
/// who knows the object's name can derive it: the signature proves nothing, it only gives the list a place.
pub fn list_seed(object: &Sha256) -> [u8; 32] {
    *Sha256::of(&[SEED_PREFIX, object.as_bytes()].concat()).as_bytes()
}

/// How many inner states an object of `length` bytes has, if it has a list in the DHT: not one of a single piece,
/// nor one of more than [`MAX_STATES`] + 1.
pub fn listed_states(length: u64) -> Option<usize> {
    let inner = usize::try_from(length.div_ceil(1 << PIECE_EXPONENT)).ok()?.checked_sub(1)?;
    (1..=MAX_STATES).contains(&inner).then_some(inner)
}

/// The values that hold one object's list, bencoded as they are signed, hashed and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListItems {
    /// The value of the mutable item.
    pub head: Vec<u8>,
    /// The immutable items that it names, in order; none where the states are in line.
    pub chunks: Vec<Chunk>,
}

/// An immutable item with some of the states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it is stored: the SHA-1 of `value` (BEP 44, "immutable items").
    pub target: [u8; 20],
    /// The bencoded value.
    pub value: Vec<u8>,
}

impl ListItems {
    /// The values for an object of `length` bytes with these inner states, each 32 big-endian bytes. `None` where it
    /// has no list in the DHT ([`listed_states`]), or another number of inner states.
    pub fn of(length: u64, states: &[[u8; 32]]) -> Option<Self> {
        Self::shown(length, length, states)
    }

    /// The same under a veil (docs/protocol.md, section 13).
    pub fn veiled(length: u64, states: &[[u8; 32]], veil: &Veil) -> Option<Self> {
        let mut states = states.to_vec();
        veil.states(0, &mut states);
        Self::shown(length, veil.length(length), &states)
    }

    fn shown(length: u64, shown: u64, states: &[[u8; 32]]) -> Option<Self> {
        if listed_states(length)? != states.len() {
            return None;
        }
        let number = i64::try_from(shown).ok()?;
        let mut head = Writer::new();
        head.dictionary();
        if states.len() <= HEAD_STATES {
            head.key("h").bytes(states.as_flattened());
            head.key("l").integer(number).key("p").integer(PIECE_EXPONENT).end();
            return Some(Self { head: head.finish(), chunks: Vec::new() });
        }
        let chunks: Vec<_> = states.chunks(CHUNK_STATES).map(Chunk::of).collect();
        let targets: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.target).collect();
        head.key("l").integer(number).key("p").integer(PIECE_EXPONENT).key("r").bytes(&targets).end();
        Some(Self { head: head.finish(), chunks })
    }
}

impl Chunk {
    fn of(states: &[[u8; 32]]) -> Self {
        let mut value = Writer::new();
        value.bytes(states.as_flattened());
        let value = value.finish();
        let mut target = [0; TARGET];
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &value);
        target.copy_from_slice(digest.as_ref());
        Self { target, value }
    }
}

/// What a head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListHead {
    /// All inner states, in order.
    States(Vec<[u8; 32]>),
    /// The targets of the chunks that hold them, in order.
    Chunks(Vec<[u8; 20]>),
}

/// A value that is not the list of the object, or not as docs/protocol.md says.
#[derive(Debug, thiserror::Error)]
pub enum ListProblem {
    /// Not bencoded.
    #[error("reading a piece list of the DHT: {0}")]
    Syntax(#[from] BencodeError),
    /// For other pieces than the protocol's, or for another length than the object's.
    #[error("a piece list of the DHT for another object: {0}")]
    Other(&'static str),
    /// Not the members, or not the bytes, that an object of that length has.
    #[error("a piece list of the DHT of the wrong shape: {0}")]
    Shape(&'static str),
}

impl ListHead {
    /// Reads the bencoded value of a head for an object that is known to have `length` bytes.
    ///
    /// Members that it does not know and an unusual order of members are let pass: what counts is verified later.
    ///
    /// # Errors
    /// [`ListProblem`], also where such an object has no list in the DHT.
    pub fn parse(value: &[u8], length: u64) -> Result<Self, ListProblem> {
        Self::read(value, length, length)
    }

    /// The same for a head under a veil, which is taken off its states.
    ///
    /// # Errors
    /// As [`ListHead::parse`].
    pub fn unveil(value: &[u8], length: u64, veil: &Veil) -> Result<Self, ListProblem> {
        let mut head = Self::read(value, length, veil.length(length))?;
        if let Self::States(states) = &mut head {
            veil.states(0, states);
        }
        Ok(head)
    }

    fn read(value: &[u8], length: u64, shown: u64) -> Result<Self, ListProblem> {
        let inner = listed_states(length).ok_or(ListProblem::Other("an object of its length has none"))?;
        let value = Value::parse(value)?;
        let integer = |key| value.get(key).and_then(Value::integer);
        if integer("p") != Some(PIECE_EXPONENT) {
            return Err(ListProblem::Other("its `p` is not 22"));
        }
        if integer("l").and_then(|length| u64::try_from(length).ok()) != Some(shown) {
            return Err(ListProblem::Other("its `l` is not the object's length"));
        }
        match (value.get("h"), value.get("r")) {
            (Some(states), None) if inner <= HEAD_STATES => {
                exactly(states, inner).map(Self::States).ok_or(ListProblem::Shape("`h`"))
            }
            (None, Some(targets)) if inner > HEAD_STATES => {
                let chunks = inner.div_ceil(CHUNK_STATES);
                exactly(targets, chunks).map(Self::Chunks).ok_or(ListProblem::Shape("`r`"))
            }
            _ => Err(ListProblem::Shape("`h` up to 20 states, `r` beyond")),
        }
    }
}

/// The inner states in chunk `index` (counted from 0) of an object that is known to have `length` bytes. That `value`
/// is what its target names has been checked by whoever fetched it.
///
/// # Errors
/// [`ListProblem`], also where such an object has no such chunk.
pub fn chunk_states(value: &[u8], length: u64, index: usize) -> Result<Vec<[u8; 32]>, ListProblem> {
    let inner = listed_states(length).filter(|inner| *inner > HEAD_STATES).unwrap_or(0);
    let before = index.saturating_mul(CHUNK_STATES);
    let count = inner.saturating_sub(before).min(CHUNK_STATES);
    if count == 0 {
        return Err(ListProblem::Other("an object of its length has no such chunk"));
    }
    exactly(&Value::parse(value)?, count).ok_or(ListProblem::Shape("a chunk"))
}

/// The same for a chunk under a veil, which is taken off.
///
/// # Errors
/// As [`chunk_states`].
pub fn unveiled_chunk(
    value: &[u8],
    length: u64,
    index: usize,
    veil: &Veil,
) -> Result<Vec<[u8; 32]>, ListProblem> {
    let mut states = chunk_states(value, length, index)?;
    veil.states(index.saturating_mul(CHUNK_STATES), &mut states);
    Ok(states)
}

/// The `count` entries of `N` bytes each that a byte string consists of.
fn exactly<const N: usize>(value: &Value<'_>, count: usize) -> Option<Vec<[u8; N]>> {
    let (entries, rest) = value.bytes()?.as_chunks::<N>();
    (rest.is_empty() && entries.len() == count).then(|| entries.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECE: u64 = 4 << 20;

    /// The most bytes of a bencoded value with a key and a signature, and without, whose answer is one datagram.
    const SIGNED_BYTES: usize = 725;
    const PLAIN_BYTES: usize = 840;

    /// The largest length with that many inner states.
    fn length(inner: usize) -> u64 {
        (inner as u64 + 1) * PIECE
    }

    fn states(inner: usize) -> Vec<[u8; 32]> {
        (0..inner).map(|at| *Sha256::of(&at.to_be_bytes()).as_bytes()).collect()
    }

    fn items(inner: usize) -> ListItems {
        ListItems::of(length(inner), &states(inner)).unwrap()
    }

    /// What a reader that gets all values ends up with.
    fn read(items: &ListItems, length: u64) -> Vec<[u8; 32]> {
        match ListHead::parse(&items.head, length).unwrap() {
            ListHead::States(states) => states,
            ListHead::Chunks(targets) => {
                assert_eq!(targets, items.chunks.iter().map(|chunk| chunk.target).collect::<Vec<_>>());
                let chunks = items.chunks.iter().enumerate();
                chunks.flat_map(|(at, chunk)| chunk_states(&chunk.value, length, at).unwrap()).collect()
            }
        }
    }

    #[test]
    fn only_objects_of_some_pieces_have_a_list() {
        for none in [0, 1, PIECE, length(MAX_STATES) + 1, u64::MAX] {
            assert_eq!(listed_states(none), None, "{none}");
            assert_eq!(ListItems::of(none, &[]), None, "{none}");
            assert!(ListHead::parse(b"de", none).is_err(), "{none}");
        }
        assert_eq!(listed_states(PIECE + 1), Some(1));
        assert_eq!(listed_states(length(MAX_STATES)), Some(825));
        assert_eq!(length(MAX_STATES), 3304 << 20, "what the documents say");
        assert_eq!(ListItems::of(length(3), &states(2)), None, "another number of states");
    }

    #[test]
    fn a_head_is_written_as_the_protocol_says() {
        let one = ListItems::of(PIECE + 1, &[[b'x'; 32]]).unwrap();
        let expected = format!("d1:h32:{}1:li4194305e1:pi22ee", "x".repeat(32));
        assert_eq!(one, ListItems { head: expected.into_bytes(), chunks: Vec::new() });
        let large = items(26);
        assert!(large.head.starts_with(b"d1:li113246208e1:pi22e1:r40:"));
        assert!(large.chunks[0].value.starts_with(b"800:"));
        assert!(large.chunks[1].value.starts_with(b"32:"));
    }

    #[test]
    fn whatever_is_written_is_read_and_fits_one_datagram() {
        for inner in [1, 2, 19, 20, 21, 25, 26, 49, 50, 51, 824, 825] {
            let items = items(inner);
            assert_eq!(items.chunks.is_empty(), inner <= HEAD_STATES, "{inner}");
            assert_eq!(read(&items, length(inner)), states(inner), "{inner}");
            assert!(items.head.len() <= SIGNED_BYTES, "{inner}: {}", items.head.len());
            for chunk in &items.chunks {
                assert!(chunk.value.len() <= PLAIN_BYTES, "{inner}: {}", chunk.value.len());
            }
        }
        assert_eq!(items(HEAD_STATES).head.len(), 669, "what the constants say");
        assert_eq!(items(MAX_STATES).head.len(), 691);
        assert_eq!(items(MAX_STATES).chunks[0].value.len(), 804);
    }

    #[test]
    fn a_list_of_another_object_is_told() {
        let head = items(2).head;
        let swap = |from: &str, to: &str| {
            let text: String = head.iter().map(|byte| char::from(*byte)).collect();
            assert!(text.contains(from), "{from}");
            let changed: Vec<u8> = text.replace(from, to).chars().map(|c| c as u8).collect();
            ListHead::parse(&changed, length(2)).unwrap_err().to_string()
        };
        assert!(swap("1:pi22e", "1:pi21e").contains("`p`"));
        assert!(swap("1:pi22e", "1:p2:22").contains("`p`"));
        assert!(swap("1:pi22e", "").contains("`p`"));
        assert!(swap("li12582912e", "li12582911e").contains("`l`"));
        assert!(swap("li12582912e", "li-12582912e").contains("`l`"));
        assert!(swap("li12582912e", "li012582912e").contains("not bencoded"));
        assert!(swap("1:h64:", "1:x64:").contains("`h`"));
        assert!(ListHead::parse(&head, length(2) - 1).is_err());
        assert!(ListHead::parse(&[&head[..], b"e"].concat(), length(2)).is_err());
    }

    #[test]
    fn the_shape_follows_from_the_length_alone() {
        let head = |member: &str, bytes: usize, length: u64| {
            let mut writer = Writer::new();
            writer.dictionary().key(member).bytes(&vec![7; bytes]);
            writer.key("l").integer(i64::try_from(length).unwrap()).key("p").integer(22).end();
            ListHead::parse(&writer.finish(), length)
        };
        for (member, bytes, inner, fits) in [
            ("h", 64, 2, true),
            ("h", 63, 2, false),
            ("h", 32, 2, false),
            ("h", 96, 2, false),
            ("h", 0, 2, false),
            ("r", 20, 2, false),
            ("h", 640, 20, true),
            ("h", 672, 21, false),
            ("r", 20, 21, true),
            ("r", 20, 25, true),
            ("r", 40, 25, false),
            ("r", 20, 26, false),
            ("r", 40, 26, true),
            ("r", 41, 26, false),
            ("r", 660, 825, true),
        ] {
            assert_eq!(head(member, bytes, length(inner)).is_ok(), fits, "{member} {bytes} {inner}");
        }
        let both = format!("d1:h32:{}1:li8388608e1:pi22e1:r20:{}e", "h".repeat(32), "r".repeat(20));
        assert!(ListHead::parse(both.as_bytes(), 8_388_608).is_err(), "both of them");
        let list = "d1:hl32:hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhe1:li8388608e1:pi22ee";
        assert!(ListHead::parse(list.as_bytes(), 8_388_608).is_err(), "a list of states");
    }

    #[test]
    fn unknown_members_and_another_order_are_let_pass() {
        let odd = format!("d1:pi22e1:zi1e1:li8388608e1:h32:{}e", "h".repeat(32));
        let read = ListHead::parse(odd.as_bytes(), 8_388_608).unwrap();
        assert_eq!(read, ListHead::States(vec![[b'h'; 32]]));
    }

    #[test]
    fn each_chunk_has_its_states() {
        let items = items(26);
        let chunk = |value: &[u8], inner, index| chunk_states(value, length(inner), index);
        assert_eq!(chunk(&items.chunks[1].value, 26, 1).unwrap(), states(26)[25..]);
        assert!(chunk(&items.chunks[1].value, 26, 0).is_err(), "too few");
        assert!(chunk(&items.chunks[0].value, 26, 1).is_err(), "too many");
        assert!(chunk(&items.chunks[1].value, 26, 2).is_err(), "no such chunk");
        assert!(chunk(&items.chunks[1].value, 26, usize::MAX).is_err(), "no such chunk");
        assert!(chunk(&items.chunks[1].value, 1, 0).is_err(), "its states are in the head");
        assert!(chunk(b"i1e", 26, 1).is_err());
        assert!(chunk(b"32:", 26, 1).is_err());
    }

    proptest! {
        #[test]
        fn any_number_of_states_survives(inner in 1..=MAX_STATES, short in 0..PIECE) {
            let length = length(inner) - short;
            let items = ListItems::of(length, &states(inner)).unwrap();
            prop_assert_eq!(read(&items, length), states(inner));
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), length: u64, index: usize) {
            let _ = ListHead::parse(&bytes, length);
            let _ = chunk_states(&bytes, length, index);
        }
    }
}
