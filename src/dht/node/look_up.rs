//! A look-up under way: the walk, what it is for, and the telling at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use crate::dht::address::is_local;
use crate::dht::event::{Ended, Urgency};
use crate::dht::id::Id;
use crate::dht::item::OwnedItem;
use crate::dht::lookup::{CLOSEST, Holder, Step, Walk};
use crate::dht::message::{Ask, Item, Response};
use crate::dht::prefix::Prefix;
use crate::dht::queries::Queries;
use crate::dht::remembered::{Kind, Remembered};

/// Queries of one walk that wait at a time (the Kademlia paper, section 2.3, calls it alpha).
const ALPHA_NOW: usize = 4;
/// Where nobody waits, BEP 5's implementations use three.
const ALPHA_BACKGROUND: usize = 3;

/// Peers that are handed out for one look-up: a download does not use more.
const MAX_PEERS: usize = 64;

/// Peers of one network that are handed out for one look-up, so that nobody fills it with his own.
const MAX_PEERS_OF_NETWORK: u8 = 4;

/// Peers that are taken of one answer, so that one liar leaves room for others.
const MAX_PEERS_OF_ANSWER: usize = 24;

/// Different values that are handed out for one look-up: whoever knows the key can sign any number.
const MAX_VALUES: usize = 8;

/// Nodes that are told in the place of those which do not take it.
const STAND_INS: usize = 4;

/// So many of those told out of memory must take it, or the walk is made after all.
const ENOUGH_STORED: usize = 4;

/// What a look-up is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Peers of an info-hash.
    Peers,
    /// To tell that we are a peer of an info-hash, on this port.
    Announce { port: u16 },
    /// A value of BEP 44, with the salt of a mutable one.
    Item { salt: Vec<u8> },
    /// To store a value of BEP 44.
    Store { item: OwnedItem },
    /// Nodes near a point: upkeep, of which nothing is said outside.
    Nodes,
}

/// A look-up under way.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) purpose: Purpose,
    pub(super) urgency: Urgency,
    pub(super) walk: Walk,
    telling: Option<Telling>,
    /// All that could be found was found.
    complete: bool,
    outcome: Ended,
    peers: BTreeSet<SocketAddr>,
    networks: BTreeMap<Prefix, u8>,
    values: Vec<OwnedItem>,
}

/// What is left to be told, and to whom.
#[derive(Debug)]
struct Telling {
    /// The next one last.
    queue: Vec<Holder>,
    waiting: usize,
    stored: usize,
    /// They are those of an earlier walk: the walk is made after all if fewer than this take it.
    enough: usize,
}

/// What a look-up wants.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask this node for the way.
    Ask(SocketAddr),
    /// Tell this node.
    Tell(Holder),
    /// Wait.
    Wait,
    /// It is over.
    Done,
}

impl Active {
    pub(super) const fn new(target: Id, purpose: Purpose, urgency: Urgency) -> Self {
        let alpha = match urgency {
            Urgency::Now => ALPHA_NOW,
            Urgency::Background => ALPHA_BACKGROUND,
        };
        Self {
            purpose,
            urgency,
            walk: Walk::new(target, alpha),
            telling: None,
            complete: false,
            outcome: Ended { asked: 0, answered: 0, stored: 0, datagrams: 0, peers: 0 },
            peers: BTreeSet::new(),
            networks: BTreeMap::new(),
            values: Vec::new(),
        }
    }

    /// Tells these at once; only if too few take it, the walk is made.
    pub(super) fn tell_first(&mut self, holders: Vec<Holder>) {
        let enough = holders.len().min(ENOUGH_STORED);
        self.telling = Some(Telling { queue: holders, waiting: 0, stored: 0, enough });
    }

    /// Which tokens its answers carry.
    pub(super) const fn kind(&self) -> Option<Kind> {
        match self.purpose {
            Purpose::Peers | Purpose::Announce { .. } => Some(Kind::Peers),
            Purpose::Item { .. } | Purpose::Store { .. } => Some(Kind::Items),
            Purpose::Nodes => None,
        }
    }

    /// What to do next. The end of a walk is remembered, and may be the beginning of the telling.
    pub(super) fn next(&mut self, remembered: &mut Remembered, queries: &Queries, now: Instant) -> Next {
        if self.complete {
            return Next::Done;
        }
        if let Some(telling) = &mut self.telling {
            if telling.stored + telling.waiting < CLOSEST
                && let Some(holder) = telling.queue.pop()
            {
                return Next::Tell(holder);
            }
            if telling.waiting > 0 {
                return Next::Wait;
            }
            if telling.stored >= telling.enough {
                return Next::Done;
            }
            self.telling = None;
            self.kind().into_iter().for_each(|kind| remembered.forget(self.walk.target(), kind));
        }
        match self.walk.step(|address| queries.is_free(address)) {
            Step::Ask(address) => Next::Ask(address),
            Step::Wait => Next::Wait,
            Step::Done => self.walked(remembered, now),
        }
    }

    /// The query that goes out to ask for the way.
    pub(super) const fn ask(&self) -> Ask<'static> {
        let target = self.walk.target();
        match self.purpose {
            Purpose::Peers | Purpose::Announce { .. } => Ask::GetPeers { info_hash: target },
            Purpose::Item { .. } | Purpose::Store { .. } => Ask::Get { target, seq: None },
            Purpose::Nodes => Ask::FindNode { target },
        }
    }

    /// The query that tells; `None` where there is nothing to tell.
    pub(super) fn tell<'a>(&'a self, token: &'a [u8]) -> Option<Ask<'a>> {
        match &self.purpose {
            Purpose::Announce { port } => {
                let info_hash = self.walk.target();
                Some(Ask::AnnouncePeer { info_hash, port: Some(*port), token })
            }
            Purpose::Store { item } => Some(Ask::Put { item: item.as_message(), cas: None, token }),
            Purpose::Peers | Purpose::Item { .. } | Purpose::Nodes => None,
        }
    }

    /// The node could not be told for now.
    pub(super) fn put_back(&mut self, holder: Holder) {
        if let Some(telling) = &mut self.telling {
            telling.queue.push(holder);
        }
    }

    /// The node was asked.
    pub(super) fn asked(&mut self, address: SocketAddr) {
        self.walk.asked(address);
        self.outcome.datagrams += 1;
    }

    /// A node was told.
    pub(super) fn told(&mut self) {
        self.outcome.datagrams += 1;
        if let Some(telling) = &mut self.telling {
            telling.waiting += 1;
        }
    }

    /// A node that was told took it, or did not, or never answered (`answered` is false then).
    pub(super) fn took(&mut self, took: bool, answered: bool) {
        self.outcome.datagrams += u32::from(answered);
        self.outcome.stored += u32::from(took);
        if let Some(telling) = &mut self.telling {
            telling.waiting = telling.waiting.saturating_sub(1);
            telling.stored += usize::from(took);
        }
    }

    /// Something came back from a node that was asked for the way.
    pub(super) const fn received(&mut self) {
        self.outcome.datagrams += 1;
    }

    /// The peers of an answer that are news. `usable` says which addresses count.
    pub(super) fn new_peers(
        &mut self,
        response: &Response<'_>,
        usable: impl Fn(SocketAddr) -> bool,
    ) -> Vec<SocketAddr> {
        if !matches!(self.purpose, Purpose::Peers | Purpose::Announce { .. }) {
            return Vec::new();
        }
        let candidates = response.peers.iter().copied().filter(|peer| usable(*peer));
        let news: Vec<SocketAddr> =
            candidates.filter(|peer| self.is_news(*peer)).take(MAX_PEERS_OF_ANSWER).collect();
        #[allow(clippy::cast_possible_truncation, reason = "at most 24")]
        let count = news.len() as u32;
        self.outcome.peers += count;
        news
    }

    /// The value of an answer, if it is verified and news.
    pub(super) fn new_item(&mut self, item: &Item<'_>) -> Option<OwnedItem> {
        let Purpose::Item { salt } = &self.purpose else { return None };
        let seq = item.signed.map(|signed| signed.seq);
        let known = self.values.iter().any(|known| known.value() == item.value && known.seq() == seq);
        if known || self.values.len() >= MAX_VALUES {
            return None;
        }
        let item = OwnedItem::verify(item, &self.walk.target(), salt).ok()?;
        // BEP 44: an immutable value has its hash for a name, so that there is no other.
        self.complete = item.seq().is_none();
        self.values.push(item.clone());
        Some(item)
    }

    /// What it has come to.
    pub(super) const fn outcome(&self) -> Ended {
        Ended { asked: self.walk.asked, answered: self.walk.answered, ..self.outcome }
    }

    fn walked(&mut self, remembered: &mut Remembered, now: Instant) -> Next {
        let Some(kind) = self.kind() else { return Next::Done };
        remembered.keep(self.walk.target(), kind, self.walk.closest(CLOSEST), now);
        if !matches!(self.purpose, Purpose::Announce { .. } | Purpose::Store { .. }) {
            return Next::Done;
        }
        let mut closest = self.walk.closest(CLOSEST + STAND_INS);
        closest.reverse();
        let Some(first) = closest.pop() else { return Next::Done };
        self.telling = Some(Telling { queue: closest, waiting: 0, stored: 0, enough: 0 });
        Next::Tell(first)
    }

    fn is_news(&mut self, peer: SocketAddr) -> bool {
        if self.peers.len() >= MAX_PEERS || self.peers.contains(&peer) {
            return false;
        }
        let of_network = self.networks.entry(Prefix::network(peer.ip())).or_default();
        if *of_network >= MAX_PEERS_OF_NETWORK && !is_local(peer.ip()) {
            return false;
        }
        *of_network = of_network.saturating_add(1);
        self.peers.insert(peer)
    }
}
