//! docs/protocol.md as types: what peers say to each other over HTTP/1.1, and what stands about objects in the DHT.

mod address;
mod archive;
mod dht;
mod have_set;
mod neighbours;
mod piece_list;
mod proof;
mod secret;
mod target;

pub use address::{is_dialable, is_local};
pub use archive::archive_name;
pub use dht::{
    CHUNK_STATES, Chunk, HEAD_STATES, LIST_SEQUENCE, ListHead, ListItems, ListProblem, MAX_CHUNKS,
    MAX_STATES, chunk_states, list_seed, listed_states, unveiled_chunk,
};
pub use have_set::{HAVE_PREFIX, HAVE_SET_HEAD, HaveSet, HaveSetProblem, MAX_HAVE_OBJECTS};
pub use neighbours::{MAX_NEIGHBOURS_BYTES, MAX_NEIGHBOURS_TOLD, neighbours_from_json, neighbours_to_json};
pub use piece_list::{Intent, MAX_PIECE_LIST_BYTES, PieceListMessage, PieceListProblem};
pub use proof::{ANSWER_PROOF, Answered, Asked, MAX_SKEW, Nonce, Nonces, Proof};
pub use secret::{Secret, SecretProblem, Swarm, Veil};
pub use target::{HAVE_PATH, NEIGHBOURS_PATH, PeerTarget, hash_path, pieces_path};

/// The version of the peer protocol that this program speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The longest a peer is asked to hold an answer back (`Prefer: wait=N`, RFC 7240 section 4.3), in seconds.
pub const MAX_WAIT_SECONDS: u64 = 20;

/// How many seconds a `Prefer` header asks to wait: the `wait` preference of RFC 7240, section 4.3, at most
/// [`MAX_WAIT_SECONDS`]; `None` where there is none or it is no number.
pub fn preferred_wait(header: &str) -> Option<u64> {
    header.split(',').find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let seconds: u64 = value.trim().trim_matches('"').parse().ok()?;
        Some(seconds.min(MAX_WAIT_SECONDS))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_preference_is_read_and_bounded() {
        assert_eq!(preferred_wait("wait=5"), Some(5));
        assert_eq!(preferred_wait("respond-async, wait=7; foo"), Some(7));
        assert_eq!(preferred_wait("Wait = \"3\""), Some(3));
        assert_eq!(preferred_wait("wait=100000"), Some(MAX_WAIT_SECONDS));
        assert_eq!(preferred_wait("return=minimal"), None);
        assert_eq!(preferred_wait("wait=-1"), None);
    }
}
