//! Peers that wait for a place among the neighbours, and those that had one and are not taken again soon.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::digest::Sha256;
use crate::swarm::source::Group;

/// How many wait: several times more than ever get a place.
const MAX_WAITING: usize = 200;

/// How many of one network wait or have a place: a few may be machines of one house, more are one host's word.
const PER_GROUP: usize = 4;

/// For how long a peer that was parted with is not taken again.
const SHUNNED: Duration = Duration::from_secs(3600);

/// How many of those are remembered; the oldest makes room.
const MAX_SHUNNED: usize = 1000;

/// Bounded, whatever is told.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    waiting: VecDeque<(SocketAddr, Vec<Sha256>)>,
    shunned: HashMap<SocketAddr, Instant>,
}

impl Candidates {
    /// A peer that may become a neighbour, unless it is known, shunned, or one too many of its network. `alike` are the
    /// strangers that have a place.
    pub(super) fn add(
        &mut self,
        peer: SocketAddr,
        archives: &[Sha256],
        alike: impl Iterator<Item = SocketAddr>,
        now: Instant,
    ) {
        if let Some((_, known)) = self.waiting.iter_mut().find(|(other, _)| *other == peer) {
            let more =
                archives.iter().filter(|archive| !known.contains(archive)).copied().collect::<Vec<_>>();
            known.extend(more.into_iter().take(4_usize.saturating_sub(known.len())));
            return;
        }
        if self.shunned.get(&peer).is_some_and(|until| now < *until) || self.waiting.len() >= MAX_WAITING {
            return;
        }
        let group = Group::of(peer.ip());
        let others = alike.chain(self.waiting.iter().map(|(other, _)| *other));
        if others.filter(|other| Group::of(other.ip()) == group).count() >= PER_GROUP {
            return;
        }
        self.waiting.push_back((peer, archives.iter().take(4).copied().collect()));
    }

    /// The next one, first come first served.
    pub(super) fn take(&mut self, now: Instant) -> Option<(SocketAddr, Vec<Sha256>)> {
        loop {
            let next = self.waiting.pop_front()?;
            if self.shunned.get(&next.0).is_none_or(|until| now >= *until) {
                return Some(next);
            }
        }
    }

    /// It has a place in another way.
    pub(super) fn forget(&mut self, peer: &SocketAddr) {
        self.waiting.retain(|(other, _)| other != peer);
    }

    pub(super) fn shun(&mut self, peer: SocketAddr, now: Instant) {
        self.shunned.retain(|_, until| now < *until);
        if self.shunned.len() >= MAX_SHUNNED {
            let oldest = self.shunned.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            oldest.map(|peer| self.shunned.remove(&peer));
        }
        self.shunned.insert(peer, now + SHUNNED);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
