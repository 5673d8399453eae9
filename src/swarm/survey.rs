//! What is missing and could be fetched now, and which of it a peer is asked for.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Instant;

use super::download::{Download, Fetch};
use super::order::Walker;
use super::source::{Holding, Mirror, Peer, PeerKind};
use crate::pieces::{Link, PieceIndex};

/// As many holders that are still growing make a crowd: its members have different pieces, and the rarest must spread.
/// Fewer are followers of one another, and apt reads from the front.
const CROWD: usize = 4;

/// In a crowd, so many pieces from where apt reads go before rarer ones.
const FRONT: PieceIndex = 2;

/// A piece that is missing and may be asked for.
#[derive(Debug)]
pub(super) struct Missing {
    piece: PieceIndex,
    pub(super) link: Link,
    /// Nobody is at work on it.
    fresh: bool,
    /// It may be released as soon as it is linked.
    open: bool,
    /// A lone list may be followed so far.
    near: bool,
    /// Peers of this download that would give it.
    holders: u32,
}

/// All that is missing, looked at once for many peers.
#[derive(Debug)]
pub(super) struct Survey {
    missing: Vec<Missing>,
    prefix: PieceIndex,
    crowd: bool,
    /// Everything that is missing is being fetched.
    endgame: bool,
}

impl Survey {
    pub(super) fn of(download: &Download, now: Instant) -> Self {
        let geometry = download.geometry();
        let (prefix, proven) = (download.ledger.prefix(), download.ledger.proven_from());
        let crowd = download.is_crowd();
        let claimed = download.claimed();
        let mut missing = Vec::new();
        let mut unlinked = 0;
        for piece in (0..geometry.pieces()).filter(|piece| !download.ledger.is_linked(*piece)) {
            unlinked += 1;
            let Some(link) = download.listed_link(piece).filter(|_| download.is_worth_trying(piece)) else {
                continue;
            };
            let holders = download.peers.iter().filter(|peer| peer.holds(piece)).count();
            missing.push(Missing {
                piece,
                link,
                fresh: !claimed.contains(&piece),
                open: download.is_open(piece, now),
                near: piece + super::pace::BACKWARD_WINDOW >= proven,
                holders: u32::try_from(holders).unwrap_or(u32::MAX),
            });
        }
        let mut survey = Self { missing, prefix, crowd, endgame: false };
        survey.endgame =
            survey.missing.len() == unlinked && survey.missing.iter().all(|missing| !missing.fresh);
        survey
    }

    /// The piece that this peer is to be asked for, of those that nobody is at work on.
    pub(super) fn pick(&self, download: &Download, peer: &Peer) -> Option<&Missing> {
        let held = || self.missing.iter().filter(|missing| peer.holds(missing.piece));
        let mut fresh = held().filter(|missing| missing.fresh);
        let last = download.geometry().last();
        if self.crowd {
            self.pick_in_crowd(download, peer)
        } else if download.mirror == Mirror::Active {
            // The mirror walks from the front: peers come from the end to meet it.
            fresh.next_back().filter(|missing| missing.open || missing.near)
        } else if download.claims.is_lone()
            && self.prefix > 0
            && let Some(end) = fresh.clone().next_back().filter(|missing| missing.piece == last)
        {
            // One voice only: what it says of the end shows early whether it tells the truth.
            Some(end)
        } else {
            fresh.find(|missing| missing.open)
        }
    }

    /// Whether the peer may bring a part of a piece that somebody is at work on.
    pub(super) fn may_bring(&self, peer: &Peer, piece: PieceIndex) -> bool {
        let may = |missing: &Missing| missing.piece == piece && (missing.open || missing.near);
        peer.holds(piece) && self.missing.iter().any(may)
    }

    /// One that somebody else is at work on and takes too long with. In a crowd only when nothing else is left: a piece
    /// that one peer has is most often under way from another.
    pub(super) fn pick_late(&self, download: &Download, peer: &Peer, now: Instant) -> Option<&Missing> {
        if self.crowd && !self.endgame {
            return None;
        }
        let mut held = self.missing.iter().filter(|missing| peer.holds(missing.piece));
        held.find(|missing| {
            (missing.open || missing.near) && download.may_duplicate(missing.piece, peer, now)
        })
    }

    /// In a crowd: what apt waits for, then the rarest; which of several differs from node to node, so that they can help each
    /// other. A stranger who has rarer pieces than what apt waits for is asked for those: others have that as well, and what few have
    /// is what all will wait for.
    ///
    /// Of whom nothing can be had under two voices, one of the end is taken, where one is enough: what links there is proven by
    /// the digest, and can be given on. So one who has the whole object is of use to all at once.
    fn pick_in_crowd(&self, download: &Download, peer: &Peer) -> Option<&Missing> {
        let fresh = || self.missing.iter().filter(|missing| missing.fresh && peer.holds(missing.piece));
        let open = || fresh().filter(|missing| missing.open);
        let rarest = open().map(|missing| missing.holders).min();
        let walked = download.mirror == Mirror::Active;
        let near_by = peer.kind == PeerKind::Neighbour;
        let awaited = |missing: &Missing| {
            !walked && missing.piece < self.prefix + FRONT && (near_by || Some(missing.holders) == rarest)
        };
        let order = |missing: &&Missing| {
            if awaited(missing) {
                (0, missing.piece, 0)
            } else {
                (1, missing.holders, download.shuffled(missing.piece))
            }
        };
        let of_the_end = || fresh().filter(|missing| missing.near);
        open()
            .min_by_key(order)
            .or_else(|| of_the_end().min_by_key(|missing| (missing.holders, Reverse(missing.piece))))
    }

    /// How many pieces nobody is at work on.
    pub(super) fn fresh(&self) -> usize {
        self.missing.iter().filter(|missing| missing.fresh).count()
    }

    /// Whether the peer has one of them.
    pub(super) fn has_fresh_for(&self, peer: &Peer) -> bool {
        self.missing.iter().any(|missing| missing.fresh && peer.holds(missing.piece))
    }

    pub(super) fn note_asked(&mut self, piece: PieceIndex) {
        self.missing.iter_mut().filter(|missing| missing.piece == piece).for_each(|missing| {
            missing.fresh = false;
        });
    }
}

impl Missing {
    pub(super) const fn piece(&self) -> PieceIndex {
        self.piece
    }
}

impl Download {
    /// Whether many want the object at the same time. A stranger who has nothing yet may be anybody; a neighbour is on his way.
    pub(super) fn is_crowd(&self) -> bool {
        let grows = |peer: &&Peer| match &peer.holding {
            Holding::Pieces { have, .. } => {
                !have.is_all() && (have.count() > 0 || peer.kind == PeerKind::Neighbour)
            }
            _ => false,
        };
        self.peers.iter().filter(grows).count() >= CROWD
    }

    /// Whether many are known that want the object, also such as have nothing of it yet.
    pub(super) fn is_wanted_by_many(&self) -> bool {
        self.growing() >= CROWD
    }

    /// How many peers say that they have a part of the object, be it none yet.
    pub(super) fn growing(&self) -> usize {
        let growing = |peer: &&Peer| matches!(&peer.holding, Holding::Pieces { have, .. } if !have.is_all());
        self.peers.iter().filter(growing).count()
    }

    /// A number for each piece that is another for each node (SplitMix64).
    pub(super) fn shuffled(&self, piece: PieceIndex) -> u64 {
        let mut z = self.seed.wrapping_add(u64::from(piece + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }

    /// The pieces that somebody is at work on: a peer fetches them, or the walk is in them or just before.
    fn claimed(&self) -> BTreeSet<PieceIndex> {
        let several = self.geometry().pieces() > 1;
        let mut claimed = BTreeSet::new();
        for (id, fetch) in &self.fetches {
            match fetch {
                Fetch::Walk { .. } if self.is_opening_alone(*id) => {}
                Fetch::Piece { piece, .. } => _ = claimed.insert(*piece),
                Fetch::Walk { piece, walker: Walker::Mirror, .. } if several => {
                    claimed.extend([*piece, piece + 1]);
                }
                Fetch::Walk { piece, .. } if several => _ = claimed.insert(*piece),
                Fetch::Walk { .. } => {}
            }
        }
        claimed
    }
}
