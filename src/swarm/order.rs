//! What a download tells its driver.

use std::ops::Range;
use std::time::Duration;

use super::fault::PeerFault;
use super::source::SourceId;
use crate::digest::Sha256;
use crate::pieces::{End, PieceIndex, State};

/// One fetch: a request to one source and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub(super) u64);

#[cfg(test)]
impl FetchId {
    pub(crate) const fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// Who is walked forward from the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walker {
    /// The mirror.
    Mirror,
    /// A peer, for want of a list and of a mirror.
    Peer(SourceId),
}

/// What the driver is to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Ask the peer for its piece-hash list; [`super::Download::handle_list`] and its siblings take the answer.
    AskList(SourceId),
    /// Ask the peer for its list when it has more to tell than it had the last time, and to wait for that as long as this;
    /// besides a list, [`super::Download::handle_no_news`] takes the answer.
    AwaitNews(SourceId, Duration),
    /// Fetch one piece from a peer, in a buffer of its own, walk the chain over it and, if it leads to `expected`,
    /// put it into the object.
    FetchPiece {
        /// Names this fetch in every later event.
        fetch: FetchId,
        /// The peer.
        source: SourceId,
        /// Which piece.
        piece: PieceIndex,
        /// Its bytes.
        range: Range<u64>,
        /// The chaining value before it.
        start: State,
        /// What it must lead to.
        expected: End,
    },
    /// Fetch a part of the piece that the fetch `helps` is at work on, and put it beside what that brings; the piece is
    /// hashed when all its parts are here. [`super::Download::handle_part_came`] says that one is, the one of `helps` as well.
    FetchPart {
        /// Names this fetch in every later event.
        fetch: FetchId,
        /// The peer.
        source: SourceId,
        /// Which piece.
        piece: PieceIndex,
        /// The piece's own fetch, which tells what the whole piece leads to.
        helps: FetchId,
        /// The fetch that is to end where this begins, without another request; [`super::Download::handle_cut`] is told at
        /// once where that is. None where nobody is at work on the part.
        cut: Option<FetchId>,
        /// The part's bytes.
        range: Range<u64>,
    },
    /// Fetch in order, straight into the object, and tell the chaining value at each piece's end.
    Walk {
        /// Names this fetch in every later event.
        fetch: FetchId,
        /// From whom.
        walker: Walker,
        /// From the start of a piece to the end of one.
        range: Range<u64>,
        /// The chaining value at the start.
        start: State,
    },
    /// Give up a fetch; nothing of it may reach the object after this.
    Cancel(FetchId),
    /// The object is closed: where its bytes of this range do not have this digest, call
    /// [`super::Download::handle_other_bytes`] with the peer that sent them.
    Compare {
        /// The peer.
        source: SourceId,
        /// What it was asked for.
        range: Range<u64>,
        /// The SHA-256 of what it sent.
        digest: Sha256,
    },
    /// The bytes of this piece are not to be kept: open it for writing again.
    Reopen(PieceIndex),
}

/// Something that happened, for the log, the counters and the scoreboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A piece from this peer is in the object.
    PieceLinked(SourceId, PieceIndex),
    /// A peer did something wrong.
    PeerFaulted(SourceId, PeerFault),
    /// The mirror was spared for this peer, and had to be asked in the end. No fault, but nothing is to wait for it next
    /// time.
    PeerLate(SourceId),
    /// The peer does not hold the object.
    NotHeld(SourceId),
    /// A list was given up, for it contradicts the mirror or the digest.
    ListDiscarded,
    /// A list that a publisher has signed is not the object's: proven.
    PublisherWrong,
    /// The mirror was asked to help.
    MirrorJoined,
    /// The mirror's bytes are not those the index names.
    MirrorDiffers,
    /// Bytes that had been released proved wrong.
    Tainted,
}

/// How a download stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Bytes are still wanted.
    Running,
    /// The whole object is proven.
    Closed,
    /// No source is left that could give what is missing.
    Failed,
}
