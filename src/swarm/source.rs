//! Where bytes can come from, as one download sees it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::pieces::PieceSet;

/// A source within one download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub(super) u32);

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

/// What is known of a source from downloads before this one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// Its usual time to the first byte.
    pub first_byte: Option<Duration>,
    /// Its usual throughput in bytes a second.
    pub rate: Option<f64>,
    /// It failed lately: it is tried, but nothing waits for it.
    pub doubtful: bool,
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
    /// It had no place for us: until when it is left alone, and since when without a byte.
    pub(super) busy_until: Option<Instant>,
    pub(super) busy_since: Option<Instant>,
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
            busy_until: None,
            busy_since: None,
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
