//! Where bytes can come from, as one download sees it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::score::{Known, score};
use crate::pieces::{PIECE_LENGTH, PieceSet};

/// A source within one download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub(super) u32);

#[cfg(test)]
impl SourceId {
    pub(crate) const fn numbered(number: u32) -> Self {
        Self(number)
    }
}

/// The network a peer stands in: an IPv4 /24 or an IPv6 /48. Two peers of one group count as one witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group([u8; 7]);

impl Group {
    /// The group of an address; an IPv4 address mapped into IPv6 counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        let mut group = [0; 7];
        match address.to_canonical() {
            IpAddr::V4(v4) => group[1..4].copy_from_slice(&v4.octets()[..3]),
            IpAddr::V6(v6) => {
                group[0] = 6;
                group[1..].copy_from_slice(&v6.octets()[..6]);
            }
        }
        Self(group)
    }
}

/// How a peer came to our knowledge, which decides what its bytes may do before they are proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// One that we or the LAN chose: a static peer, a member of our private swarm, a LAN host.
    Neighbour,
    /// One that was found on the DHT or by exchange.
    Stranger,
}

/// Where a peer stands, for what to expect of one that was never met: it answers like others of its kin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// It is on the local network.
    Local,
    /// It is elsewhere, and one that we chose.
    Chosen,
    /// It was found.
    Stranger,
}

/// What is known of a source from downloads before this one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Its usual time to the first byte.
    pub first_byte: Option<Duration>,
    /// After what time its first byte is overdue, by its own answers so far.
    pub overdue: Option<Duration>,
    /// Its usual throughput in bytes a second.
    pub rate: Option<f64>,
    /// How good it is, from 0 to 1.
    pub score: f64,
    /// It failed lately: it is tried, but nothing waits for it.
    pub doubtful: bool,
}

impl Default for Standing {
    /// That of a peer of which nothing is known.
    fn default() -> Self {
        let score = score(&Known::default());
        Self { first_byte: None, overdue: None, rate: None, score, doubtful: false }
    }
}

/// What a peer has told of the object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Holding {
    /// Its list was asked for and has not come yet.
    Asked { since: Instant },
    /// It would serve these pieces now; a growing holder was asked last at `asked_at`, and had more than before at
    /// `grown_at`.
    Pieces { have: PieceSet, asked_at: Instant, grown_at: Instant },
    /// Out of this download.
    Gone,
    /// It sent bytes that do not link under somebody else's list: not used until that list is judged.
    Suspended { have: PieceSet },
}

/// A peer in one download.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: SourceId,
    pub(super) kind: PeerKind,
    pub(super) group: Group,
    pub(super) standing: Standing,
    pub(super) holding: Holding,
    /// It answered with bytes in this download.
    pub(super) delivered: bool,
    pub(super) charged: bool,
    /// It said that it does not hold the object.
    pub(super) absent: bool,
    /// It was noted that it kept us waiting.
    pub(super) late: bool,
    /// When it was asked for news of what it holds, which have not come yet.
    pub(super) awaited_since: Option<Instant>,
    /// How a holder of a part has grown so far.
    pub(super) growth: Growth,
    /// It had no place for us: until when it is left alone, and since when without a byte.
    pub(super) busy_until: Option<Instant>,
    pub(super) busy_since: Option<Instant>,
    /// How long its list took in this download, and how fast its last body came, in bytes a second.
    pub(super) answer: Option<Duration>,
    pub(super) rate: Option<f64>,
}

/// How much a holder had at most, and how quickly it came to that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    /// The most pieces that it had; what it had less in between is not counted twice.
    most: usize,
    /// When its growth was first seen, and how much it had then.
    first: Option<(Instant, usize)>,
    /// When it was last seen.
    last: Option<Instant>,
    /// Whether its last news were that it has more.
    pub(super) fresh: bool,
}

impl Growth {
    /// It has so many pieces now; says whether it never had so many.
    pub(super) fn note(&mut self, count: usize, now: Instant) -> bool {
        self.fresh = count > self.most;
        if self.fresh {
            if self.most > 0 {
                self.first = self.first.or(Some((now, count)));
            }
            (self.most, self.last) = (count, Some(now));
        }
        self.fresh
    }

    /// When it last had more than ever before.
    pub(super) const fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Its rate in bytes a second, once it has been seen to grow twice.
    #[allow(clippy::cast_precision_loss, reason = "an object has 2^18 pieces at most")]
    pub(super) fn rate(&self) -> Option<f64> {
        let ((first, before), last) = (self.first?, self.last?);
        let pieces = self.most.saturating_sub(before);
        let took = last.saturating_duration_since(first);
        (pieces > 0 && !took.is_zero()).then(|| pieces as f64 * PIECE_LENGTH as f64 / took.as_secs_f64())
    }
}

impl Peer {
    pub(super) fn new(
        id: SourceId,
        kind: PeerKind,
        address: IpAddr,
        standing: Standing,
        now: Instant,
    ) -> Self {
        Self {
            id,
            kind,
            group: Group::of(address),
            standing,
            holding: Holding::Asked { since: now },
            delivered: false,
            charged: false,
            absent: false,
            late: false,
            awaited_since: None,
            growth: Growth::default(),
            busy_until: None,
            busy_since: None,
            answer: None,
            rate: None,
        }
    }

    /// Whether it may still deliver something.
    pub(super) const fn is_alive(&self) -> bool {
        !matches!(self.holding, Holding::Gone | Holding::Suspended { .. })
    }

    /// Whether the mirror may wait a moment for it.
    pub(super) const fn is_promising(&self) -> bool {
        self.is_alive() && self.busy_until.is_none() && (!self.standing.doubtful || self.delivered)
    }

    pub(super) fn holds(&self, piece: u32) -> bool {
        matches!(&self.holding, Holding::Pieces { have, .. } if have.contains(piece))
    }
}

/// The mirror in one download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mirror {
    /// There is none.
    None,
    /// Not needed so far.
    Standby,
    /// Asked to help; it walks whenever there is something to walk.
    Active,
    /// It failed, or its bytes are not the object's.
    Gone,
}
