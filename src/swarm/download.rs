//! One object's download as a pure machine: events and `now` in, orders and facts out.
//!
//! Bytes come on two fronts (docs/verification.md): the mirror walks forward from the first byte, peers fetch pieces
//! under a piece-hash list, and what may be handed out follows from what is linked and who said so.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::claims::Claims;
use super::crowd::{Rest, Rests};
use super::fault::PeerFault;
use super::fetched::Suspect;
use super::meter::Meter;
use super::order::{Fact, FetchId, Order, Outcome, Walker};
use super::owner::Company;
use super::pace;
use super::parts::{Mixture, Part};
use super::source::{Holding, Mirror, Peer, PeerKind, SourceId, Standing};
use crate::digest::Sha256;
use crate::pieces::{ChainWalk, End, Geometry, Ledger, Link, PieceIndex, PieceList, PieceSet, State};

/// What the user wants of a download (`transfer.prefer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// The mirror helps as soon as it would make things faster.
    #[default]
    Speed,
    /// Wait a little for peers to spare the mirror.
    Offload,
}

/// Where the bytes of a linked piece came from, and so what its link is worth before it is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The mirror: what apt would have got anyway.
    Mirror,
    /// A peer, under the leading list.
    Listed,
    /// A peer that was walked because nobody has a list.
    Walked(SourceId),
}

/// A fetch under way.
#[derive(Debug)]
pub(super) enum Fetch {
    /// `held`: it is we who let it wait, before it is asked or before its body is read. `arrived`: bytes of the piece so far.
    Piece {
        source: SourceId,
        piece: PieceIndex,
        link: Link,
        asked: Instant,
        progress: Instant,
        started: bool,
        held: bool,
        arrived: u64,
        part: Part,
    },
    /// `piece` is the one it is in, `offset` what is written, `until` the end of what was asked for.
    Walk { walker: Walker, piece: PieceIndex, offset: u64, until: u64, start: State, progress: Instant },
}

/// The download of one object.
#[derive(Debug)]
pub struct Download {
    pub(super) ledger: Ledger,
    /// Where the bytes of each linked piece came from.
    pub(super) by: Vec<Option<By>>,
    pub(super) claims: Claims,
    pub(super) peers: Vec<Peer>,
    pub(super) mirror: Mirror,
    pub(super) mirror_rate: Option<f64>,
    pub(super) prefer: Prefer,
    pub(super) fetches: BTreeMap<FetchId, Fetch>,
    pub(super) suspects: Vec<Suspect>,
    pub(super) mixtures: Vec<Mixture>,
    pub(super) orders: VecDeque<Order>,
    pub(super) facts: VecDeque<Fact>,
    next_fetch: u64,
    pub(super) started: Instant,
    /// When a byte of the object last arrived from anywhere.
    pub(super) last_byte: Option<Instant>,
    /// When our own limit on downloads last kept bytes waiting that peers had sent.
    pub(super) held_back: Option<Instant>,
    /// And bytes of the mirror.
    pub(super) mirror_held_back: Option<Instant>,
    /// Bytes that peers delivered, for their rate.
    pub(super) peer_bytes: u64,
    pub(super) last_release: Instant,
    pub(super) released: u64,
    taints: u32,
    /// Where walks set out from last, and how many did so in a row.
    pub(super) walks_from: (PieceIndex, u32),
    /// Pieces were unlinked that had been released.
    pub(super) regrets: bool,
    /// Peers that were given up without proof may be tried once more before the download fails.
    pub(super) last_hope: bool,
    /// Somebody looks for more peers; until then at most the download waits for them where nobody else is left.
    pub(super) findings_until: Option<Instant>,
    /// Grows with everything that decides what may be given to others.
    pub(super) revision: u64,
    /// Pieces that an earlier download has left, and that were not given up since.
    pub(super) resumed: PieceSet,
    /// What came lately.
    pub(super) from_peers: Meter,
    pub(super) from_mirror: Meter,
    /// The walk of the mirror for the first bytes, since it was ordered.
    pub(super) opening: Option<FetchId>,
    /// The mirror has helped and rests.
    pub(super) rest: Option<Rest>,
    pub(super) rests: Rests,
    /// Makes this node's choice among equals another than that of others.
    pub(super) seed: u64,
    /// The first piece that no lot was drawn for yet, whether the mirror rests.
    pub(super) drawn_for: PieceIndex,
    /// The nodes of the local network.
    pub(super) company: Company,
    pub(super) outcome: Outcome,
}

impl Download {
    /// A download of the object `id`, with no source yet.
    pub fn new(id: Sha256, geometry: Geometry, prefer: Prefer, now: Instant) -> Self {
        let mut download = Self {
            ledger: Ledger::new(id, geometry),
            by: vec![None; geometry.pieces() as usize],
            claims: Claims::default(),
            peers: Vec::new(),
            mirror: Mirror::None,
            mirror_rate: None,
            prefer,
            fetches: BTreeMap::new(),
            suspects: Vec::new(),
            mixtures: Vec::new(),
            orders: VecDeque::new(),
            facts: VecDeque::new(),
            next_fetch: 0,
            started: now,
            last_byte: None,
            held_back: None,
            mirror_held_back: None,
            peer_bytes: 0,
            last_release: now,
            released: 0,
            taints: 0,
            walks_from: (0, 0),
            regrets: false,
            last_hope: true,
            findings_until: None,
            revision: 0,
            resumed: PieceSet::none(geometry.pieces()),
            from_peers: Meter::new(now),
            from_mirror: Meter::new(now),
            opening: None,
            rest: None,
            rests: Rests::default(),
            seed: 0,
            drawn_for: 0,
            company: Company::default(),
            outcome: Outcome::Running,
        };
        if geometry.length() == 0 {
            let digest = ChainWalk::from_state(State::INITIAL).finish(0);
            download.ledger.link(0, Link { start: State::INITIAL, end: End::Digest(digest) });
        }
        download
    }

    /// Lets what is chosen among equals follow from `seed`, a random number: nodes that choose differently have
    /// something to give to each other.
    #[must_use]
    pub const fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The mirror can be asked; `rate` is its usual throughput in bytes a second.
    pub fn add_mirror(&mut self, rate: Option<f64>) {
        self.mirror = Mirror::Standby;
        self.mirror_rate = rate;
    }

    /// A peer that may hold the object; it may come at any time.
    pub fn add_peer(
        &mut self,
        kind: PeerKind,
        address: IpAddr,
        standing: Standing,
        now: Instant,
    ) -> SourceId {
        let id = self.push_peer(kind, address, standing, now);
        if self.geometry().pieces() > 1 {
            self.orders.push_back(Order::AskList(id));
        } else if let Some(peer) = self.peers.last_mut() {
            // One piece needs no list: the first question is for the bytes.
            peer.holding = Holding::Pieces { have: PieceSet::all(1), asked_at: now, grown_at: now };
        }
        id
    }

    pub(super) fn push_peer(
        &mut self,
        kind: PeerKind,
        address: IpAddr,
        standing: Standing,
        now: Instant,
    ) -> SourceId {
        let id = SourceId(u32::try_from(self.peers.len()).unwrap_or(u32::MAX));
        self.peers.push(Peer::new(id, kind, address, standing, now));
        id
    }

    /// The peer's list and the pieces that it would serve now.
    pub fn handle_list(&mut self, source: SourceId, list: PieceList, have: PieceSet, now: Instant) {
        let Some(peer) = self.peers.get_mut(source.0 as usize) else { return };
        if peer.holding == Holding::Gone {
            return;
        }
        peer.awaited_since = None;
        if let Holding::Asked { since } = &peer.holding {
            peer.answer = Some(now.saturating_duration_since(*since));
        }
        let grown = peer.growth.note(have.count(), now);
        peer.holding = match &peer.holding {
            Holding::Suspended { .. } => Holding::Suspended { have },
            Holding::Pieces { asked_at, grown_at, .. } => {
                Holding::Pieces { have, asked_at: *asked_at, grown_at: if grown { now } else { *grown_at } }
            }
            Holding::Asked { .. } | Holding::Gone => Holding::Pieces { have, asked_at: now, grown_at: now },
        };
        let (kind, group) = (peer.kind, peer.group);
        if self.claims.put(source, kind, group, list) {
            self.revision += 1;
            self.drop_foreign_links();
            self.check_camp_against_walk();
        }
    }

    /// The peer has nothing new to tell of the object.
    pub fn handle_no_news(&mut self, source: SourceId) {
        if let Some(peer) = self.peers.get_mut(source.0 as usize) {
            peer.awaited_since = None;
            peer.growth.fresh = false;
        }
        self.note_no_news(source);
    }

    /// The peer has no list of the object. It may be a plain file server: it is asked for pieces under the lists of
    /// others.
    pub fn handle_no_list(&mut self, source: SourceId, now: Instant) {
        let all = PieceSet::all(self.geometry().pieces());
        if self.is_node(source) {
            // It speaks our protocol.
            self.handle_not_held(source);
        } else if self
            .peers
            .get_mut(source.0 as usize)
            .is_some_and(|peer| peer.awaited_since.take().is_some())
        {
            // It had one: its own download has come to nothing.
            self.handle_not_held(source);
        } else if let Some(peer) = self.peers.get_mut(source.0 as usize)
            && matches!(peer.holding, Holding::Asked { .. })
        {
            peer.holding = Holding::Pieces { have: all, asked_at: now, grown_at: now };
            // Nothing is to wait for it.
            peer.standing.doubtful = true;
        }
    }

    /// The peer does not hold the object, or not the bytes asked for.
    pub fn handle_not_held(&mut self, source: SourceId) {
        self.facts.push_back(Fact::NotHeld(source));
        if let Some(peer) = self.peers.get_mut(source.0 as usize) {
            peer.absent = true;
        }
        self.retire(source);
    }

    /// The question for the list failed.
    pub fn handle_list_failure(&mut self, source: SourceId, fault: PeerFault) {
        self.charge(source, fault);
        self.retire(source);
    }

    /// Other bytes were written where some had been released already.
    pub fn handle_differing(&mut self) {
        self.taints += 1;
        self.released = 0;
        self.facts.push_back(Fact::Tainted);
    }

    /// Decides what to do next; call it after every event and when [`Self::next_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.outcome != Outcome::Running {
            return;
        }
        if self.ledger.is_closed() {
            self.close();
            return;
        }
        self.expire(now);
        self.end_busy(now);
        self.ask_nodes(now);
        self.yield_to_walker(now);
        self.schedule(now);
        self.tell_intent(now);
        while self.is_hopeless() && self.is_blocked_by_list() {
            self.discard_camp();
            self.schedule(now);
        }
        self.release(now);
        if !self.is_hopeless() || self.findings_until.is_some_and(|until| now < until) {
            return;
        }
        if self.last_hope && self.revive() {
            self.last_hope = false;
            self.schedule(now);
        } else {
            self.outcome = Outcome::Failed;
        }
    }

    fn is_hopeless(&self) -> bool {
        let asked = |peer: &Peer| matches!(peer.holding, Holding::Asked { .. });
        let growing = |peer: &Peer| matches!(&peer.holding, Holding::Pieces { have, .. } if !have.is_all());
        self.fetches.is_empty()
            && !self.is_somebody_busy()
            && self.is_without_mirror()
            && !self.peers.iter().any(|peer| asked(peer) || growing(peer))
    }

    /// Whether somebody would deliver something if another list led.
    fn is_blocked_by_list(&self) -> bool {
        self.peers.iter().any(|peer| peer.is_alive() && !self.claims.supports(peer.id))
    }

    /// Whether a peer is left that may deliver something.
    pub fn has_live_peer(&self) -> bool {
        self.peers.iter().any(Peer::is_alive)
    }

    /// Whether the mirror may still give something.
    pub const fn has_mirror(&self) -> bool {
        !self.is_without_mirror()
    }

    /// The next order, if there is one.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The next fact, if there is one.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// How many bytes from the start may be handed to readers; the last byte only once the object is closed.
    pub const fn released(&self) -> u64 {
        self.released
    }

    /// How often released bytes proved wrong; whoever read under a lower count must throw away what it has.
    pub const fn taints(&self) -> u32 {
        self.taints
    }

    /// Whether released bytes were given up later, so that who has read them must not go on from them unless the
    /// object has been closed since.
    pub const fn has_regrets(&self) -> bool {
        self.regrets
    }

    /// How the download stands.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The ledger: what is linked so far.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) const fn geometry(&self) -> Geometry {
        self.ledger.geometry()
    }

    pub(super) fn order_walk(
        &mut self,
        walker: Walker,
        range: Range<u64>,
        start: State,
        now: Instant,
    ) -> FetchId {
        let fetch = self.fetch_id();
        let piece = self.geometry().piece_at(range.start);
        let (offset, until) = (range.start, range.end);
        self.fetches.insert(fetch, Fetch::Walk { walker, piece, offset, until, start, progress: now });
        self.orders.push_back(Order::Walk { fetch, walker, range, start });
        fetch
    }

    pub(super) fn order_piece(&mut self, source: SourceId, piece: PieceIndex, link: Link, now: Instant) {
        let range = self.geometry().range(piece);
        let fetch = self.begin_piece(source, piece, link, Part::whole(range.clone()), now);
        self.orders.push_back(Order::FetchPiece {
            fetch,
            source,
            piece,
            range,
            start: link.start,
            expected: link.end,
        });
    }

    pub(super) fn begin_piece(
        &mut self,
        source: SourceId,
        piece: PieceIndex,
        link: Link,
        part: Part,
        now: Instant,
    ) -> FetchId {
        let fetch = self.fetch_id();
        let (started, held, arrived) = (false, true, 0);
        let state =
            Fetch::Piece { source, piece, link, asked: now, progress: now, started, held, arrived, part };
        self.fetches.insert(fetch, state);
        fetch
    }

    pub(super) fn order_news(&mut self, source: SourceId) {
        self.orders.push_back(Order::AwaitNews(source, pace::NEWS));
    }

    pub(super) fn note(&mut self, fact: Fact) {
        self.facts.push_back(fact);
    }

    pub(super) fn close(&mut self) {
        self.outcome = Outcome::Closed;
        self.released = self.geometry().length();
        self.cancel_where(|_| true);
        let states = self.ledger.inner_states().unwrap_or_default();
        for source in self.claims.proven_wrong(&states) {
            self.charge(source, PeerFault::WrongList);
        }
        if self.claims.is_publisher_wrong(&states) {
            self.facts.push_back(Fact::PublisherWrong);
        }
        for suspect in std::mem::take(&mut self.suspects) {
            let proven = self.ledger.get(suspect.piece);
            if proven.is_some_and(|link| link.start == suspect.link.start && link.end != suspect.link.end) {
                self.charge(suspect.source, PeerFault::WrongPiece);
            }
        }
        self.judge_mixtures();
    }

    fn expire(&mut self, now: Instant) {
        let overdue = |since: Instant, limit: Duration| now.duration_since(since) >= limit;
        let stalled: Vec<_> = self
            .fetches
            .iter()
            .filter_map(|(fetch, state)| match state {
                Fetch::Piece { source, progress, started, held: false, .. } => {
                    overdue(*progress, self.stall_for(*source)).then_some((*fetch, *started))
                }
                Fetch::Walk { walker: Walker::Peer(source), progress, .. } => {
                    overdue(*progress, self.stall_for(*source)).then_some((*fetch, true))
                }
                Fetch::Piece { .. } | Fetch::Walk { .. } => None,
            })
            .collect();
        for (fetch, started) in stalled {
            let fault = if started { PeerFault::Stalled } else { PeerFault::Silent };
            self.orders.push_back(Order::Cancel(fetch));
            self.handle_piece_failure(fetch, fault);
        }
        let hollow = |peer: &Peer| match &peer.holding {
            Holding::Pieces { have, grown_at, .. } => {
                let limit = if have.count() == 0 { self.empty_for() } else { pace::GROWING };
                !have.is_all() && overdue(*grown_at, limit)
            }
            _ => false,
        };
        let hollow: Vec<_> = self.peers.iter().filter(|peer| hollow(peer)).map(|peer| peer.id).collect();
        hollow.into_iter().for_each(|source| self.handle_not_held(source));
        let silent = |peer: &Peer| {
            let stall = pace::stall(&peer.standing);
            matches!(peer.holding, Holding::Asked { since } if overdue(since, stall) && !self.is_unasked(peer.id))
                || (peer.is_alive()
                    && peer.awaited_since.is_some_and(|since| overdue(since, pace::NEWS + stall)))
        };
        let silent: Vec<_> = self.peers.iter().filter(|peer| silent(peer)).map(|peer| peer.id).collect();
        for source in silent {
            self.handle_list_failure(source, PeerFault::Silent);
        }
    }

    /// How long a holder of a part may have nothing at all. While the mirror is there nothing waits for it, and of many
    /// who begin at the same time it may be the first to have something.
    pub(super) const fn empty_for(&self) -> Duration {
        if self.is_without_mirror() { pace::EMPTY } else { pace::EMPTY_BESIDE_MIRROR }
    }

    pub(super) const fn is_without_mirror(&self) -> bool {
        matches!(self.mirror, Mirror::None | Mirror::Gone)
    }

    pub(super) fn is_fetched_by_peer(&self, piece: PieceIndex) -> bool {
        self.fetches.values().any(|fetch| matches!(fetch, Fetch::Piece { piece: of, .. } if *of == piece))
    }

    pub(super) fn cancel_where(&mut self, mut which: impl FnMut(&Fetch) -> bool) {
        let ids: Vec<_> = self.fetches.iter().filter(|(_, fetch)| which(fetch)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|fetch| self.cancel(fetch));
    }

    pub(super) fn cancel(&mut self, fetch: FetchId) {
        if self.fetches.remove(&fetch).is_some() {
            self.orders.push_back(Order::Cancel(fetch));
        }
    }

    fn fetch_id(&mut self) -> FetchId {
        self.next_fetch += 1;
        FetchId(self.next_fetch)
    }
}
