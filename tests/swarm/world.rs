//! The machine's surroundings in virtual time.
//!
//! Bytes are symbols here: a piece is its number and a variant, variant 0 being the right one, and the chain is
//! computed over those. What an observer at apt's end would have seen is tracked beside the file itself.

mod pieces;

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use aptpeer::pieces::{End, Geometry, Kept, Link, PIECE_LENGTH, PieceIndex, PieceList, PieceSet, State};
use aptpeer::swarm::{
    Download, Fact, FetchId, Order, Outcome, PeerFault, PeerKind, Prefer, SourceId, Standing, Walker,
};

pub(crate) type Variant = u8;

fn step(geometry: Geometry, start: State, piece: PieceIndex, variant: Variant) -> End {
    let mut input = start.to_bytes().to_vec();
    input.extend(piece.to_be_bytes());
    input.push(variant);
    let digest = Sha256::of(&input);
    if piece == geometry.last() {
        End::Digest(digest)
    } else {
        End::State(State::from_bytes(digest.as_bytes()))
    }
}

fn chain(geometry: Geometry, variant: impl Fn(PieceIndex) -> Variant) -> (Vec<State>, Sha256) {
    let mut states = Vec::new();
    let mut state = State::INITIAL;
    for piece in 0..geometry.pieces() {
        match step(geometry, state, piece, variant(piece)) {
            End::State(next) => {
                state = next;
                states.push(next);
            }
            End::Digest(digest) => return (states, digest),
        }
    }
    unreachable!("the last piece ends in the digest")
}

/// A piece that was put together of several variants.
const MIXED: Variant = Variant::MAX;

/// What part of a piece of this variant is told apart by.
fn digest_of(range: &Range<u64>, variant: Variant) -> Sha256 {
    Sha256::of(format!("{range:?} {variant}").as_bytes())
}

fn list(geometry: Geometry, variant: impl Fn(PieceIndex) -> Variant) -> PieceList {
    let (states, _) = chain(geometry, variant);
    PieceList::new(geometry, states.into_iter().map(Some).collect()).unwrap()
}

/// How a source behaves.
#[derive(Clone)]
pub(crate) struct Behaviour {
    pub(crate) kind: Option<PeerKind>,
    pub(crate) network: u8,
    pub(crate) latency: Duration,
    /// Bytes a second.
    pub(crate) rate: f64,
    /// What it sends for each piece.
    pub(crate) variant: fn(PieceIndex) -> Variant,
    /// The list that it tells: the chain over these variants, or none at all.
    pub(crate) list: Option<fn(PieceIndex) -> Variant>,
    /// Never answers.
    pub(crate) silent: bool,
    /// Refuses connections.
    pub(crate) dead: bool,
    /// Tells a list without a single piece, and goes on doing so.
    pub(crate) hollow: bool,
    /// Says that it does not hold the object when asked for bytes.
    pub(crate) empty_handed: bool,
    /// Says so when asked for a part of a piece.
    pub(crate) whole_only: bool,
    /// Stops in the middle of this piece.
    pub(crate) stalls_at: Option<PieceIndex>,
    /// It is still downloading: so many bytes it had when we began, and so many come a second.
    pub(crate) grows: Option<(f64, f64)>,
    /// It answers questions for news at once, whether it has any or not.
    pub(crate) impatient: bool,
    /// A look-up finds it after this time; it is known from the start otherwise.
    pub(crate) found_after: Option<Duration>,
}

pub(crate) fn right(_: PieceIndex) -> Variant {
    0
}

pub(crate) fn mirror(rate: f64) -> Behaviour {
    Behaviour {
        kind: None,
        network: 0,
        latency: Duration::from_millis(50),
        rate,
        variant: right,
        list: None,
        silent: false,
        dead: false,
        hollow: false,
        empty_handed: false,
        whole_only: false,
        stalls_at: None,
        grows: None,
        impatient: false,
        found_after: None,
    }
}

pub(crate) fn peer(kind: PeerKind, network: u8, rate: f64) -> Behaviour {
    Behaviour {
        kind: Some(kind),
        network,
        latency: Duration::from_millis(5),
        list: Some(right),
        ..mirror(rate)
    }
}

pub(crate) fn neighbour(rate: f64) -> Behaviour {
    peer(PeerKind::Neighbour, 1, rate)
}

pub(crate) fn stranger(network: u8, rate: f64) -> Behaviour {
    peer(PeerKind::Stranger, network, rate)
}

#[derive(Debug, Clone, Copy)]
enum Event {
    ListArrives(SourceId),
    /// It has no more than so many pieces, and says so.
    NoNews(SourceId),
    ListFails(SourceId),
    PieceBytes(FetchId, u64),
    PieceFails(FetchId),
    NotHeld(FetchId),
    WalkBytes(FetchId),
    /// A look-up comes upon this source.
    Found(usize),
    /// A look-up comes upon the list over these variants; signed or not.
    ListFound(fn(PieceIndex) -> Variant, bool),
    LookUpEnds,
    Tick,
}

/// A piece, or a part of one, on its way from a peer.
struct Piece {
    who: usize,
    piece: PieceIndex,
    link: Option<(State, End)>,
    range: Range<u64>,
    got: u64,
    helps: Option<FetchId>,
    /// The parts that are here, its own as well: of which fetch, and what.
    brought: Vec<(FetchId, Range<u64>, Variant)>,
}

struct Walk {
    range: Range<u64>,
    at: u64,
    state: State,
    who: usize,
    piece_whole: bool,
}

pub(crate) struct World {
    pub(crate) geometry: Geometry,
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    queue: BinaryHeap<std::cmp::Reverse<(Instant, u64)>>,
    events: HashMap<u64, Event>,
    sequence: u64,
    pub(crate) machine: Download,
    sources: Vec<Behaviour>,
    mirror: Option<Behaviour>,
    ids: Vec<Option<SourceId>>,
    pieces: BTreeMap<FetchId, Piece>,
    walks: BTreeMap<FetchId, Walk>,
    file: Vec<Option<Variant>>,
    committed: Vec<bool>,
    /// What apt has seen of each piece under the present count of taints.
    seen: Vec<Option<Variant>>,
    pub(crate) taints: u32,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) carried: Vec<u64>,
    pub(crate) mirror_bytes: u64,
    /// Pieces that other peers could have had before the object was closed.
    pub(crate) offered: PieceSet,
    /// Some of them, or of the states told with them, were not the object's.
    pub(crate) offered_wrong: bool,
    revision: Option<u64>,
    /// How many pieces each source told that it has.
    told: Vec<u32>,
    /// How often a source was asked for news.
    pub(crate) questions: u32,
    /// How often a part of a piece was asked for.
    pub(crate) parts: u32,
    /// How often a piece was wrong that came from several.
    pub(crate) mixtures: u32,
}

const SLICE: u64 = PIECE_LENGTH / 16;

impl World {
    pub(crate) fn new(length: u64, sources: &[Behaviour]) -> Self {
        Self::with(length, sources, Prefer::Speed)
    }

    pub(crate) fn with(length: u64, all: &[Behaviour], prefer: Prefer) -> Self {
        let geometry = Geometry::new(length).unwrap();
        let (_, digest) = chain(geometry, right);
        let start = Instant::now();
        let mut machine = Download::new(digest, geometry, prefer, start);
        let mirror = all.iter().find(|source| source.kind.is_none()).cloned();
        if mirror.is_some() {
            machine.add_mirror(None);
        }
        let sources: Vec<_> = all.iter().filter(|source| source.kind.is_some()).cloned().collect();
        let count = geometry.pieces() as usize;
        let told = vec![0; sources.len()];
        let mut world = Self {
            geometry,
            now: start,
            start,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
            machine,
            carried: vec![0; sources.len()],
            ids: vec![None; sources.len()],
            sources,
            mirror,
            pieces: BTreeMap::new(),
            walks: BTreeMap::new(),
            file: vec![None; count],
            committed: vec![false; count],
            seen: vec![None; count],
            taints: 0,
            first_byte: None,
            facts: Vec::new(),
            mirror_bytes: 0,
            offered: PieceSet::none(geometry.pieces()),
            offered_wrong: false,
            revision: None,
            told,
            questions: 0,
            parts: 0,
            mixtures: 0,
        };
        for index in 0..world.sources.len() {
            match world.sources[index].found_after {
                Some(after) => world.at(start + after, Event::Found(index)),
                None => world.join(index),
            }
        }
        world
    }

    /// An earlier download has left these pieces, as linked over these variants.
    pub(crate) fn resumed(
        mut self,
        pieces: impl IntoIterator<Item = PieceIndex>,
        variant: fn(PieceIndex) -> Variant,
        from_mirror: bool,
    ) -> Self {
        let (states, _) = chain(self.geometry, variant);
        let mut kept = Vec::new();
        for piece in pieces {
            let start = piece.checked_sub(1).map_or(State::INITIAL, |before| states[before as usize]);
            let link = Link { start, end: step(self.geometry, start, piece, variant(piece)) };
            kept.push(Kept { piece, link, from_mirror });
            self.file[piece as usize] = Some(variant(piece));
            self.committed[piece as usize] = true;
        }
        self.machine.resume(&kept);
        self
    }

    /// Somebody writes other bytes over a linked piece.
    pub(crate) fn overwrite(&mut self, piece: PieceIndex, variant: Variant) {
        self.write(piece, variant);
        self.committed[piece as usize] = true;
        self.machine.handle_overwritten(piece);
    }

    /// The mirror's rate is known from before.
    pub(crate) fn mirror_known(mut self, rate: f64) -> Self {
        self.machine.add_mirror(Some(rate));
        self
    }

    /// A look-up will find the list over these variants.
    pub(crate) fn list_found(
        mut self,
        after: Duration,
        variant: fn(PieceIndex) -> Variant,
        signed: bool,
    ) -> Self {
        self.at(self.start + after, Event::ListFound(variant, signed));
        self
    }

    /// A look-up is under way, until it ends by itself or its time is over.
    pub(crate) fn looking(mut self, ends: Option<Duration>, limit: Duration) -> Self {
        self.machine.expect_findings(self.start + limit);
        if let Some(after) = ends {
            self.at(self.start + after, Event::LookUpEnds);
        }
        self
    }

    fn join(&mut self, index: usize) {
        let source = &self.sources[index];
        let host = u8::try_from(index + 1).unwrap();
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, source.network, host));
        // As the driver does it: nothing waits for a peer that a look-up found.
        let standing = Standing { doubtful: source.found_after.is_some(), ..Standing::default() };
        let id = self.machine.add_peer(source.kind.unwrap(), address, standing, self.now);
        self.ids[index] = Some(id);
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(std::cmp::Reverse((when, self.sequence)));
    }

    pub(crate) fn run(&mut self) -> Outcome {
        self.run_for(Duration::from_secs(u64::from(u32::MAX)))
    }

    /// Runs until the end, or until this time is over.
    pub(crate) fn run_for(&mut self, limit: Duration) -> Outcome {
        self.machine.handle_timeout(self.now);
        for _ in 0..200_000 {
            if self.elapsed() >= limit {
                return self.machine.outcome();
            }
            self.observe_offer();
            self.drain();
            self.observe();
            if self.machine.outcome() != Outcome::Running {
                self.drain();
                return self.machine.outcome();
            }
            if let Some(at) = self.machine.next_timeout(self.now) {
                self.at(at.max(self.now), Event::Tick);
            }
            let Some(std::cmp::Reverse((when, id))) = self.queue.pop() else {
                panic!("nothing left to happen and yet not ended: {:?}", self.machine);
            };
            self.now = self.now.max(when);
            let event = self.events.remove(&id).unwrap();
            self.happen(event);
            self.machine.handle_timeout(self.now);
        }
        panic!("no end after 200,000 events: {:?}", self.facts);
    }

    fn source(&self, id: SourceId) -> usize {
        self.ids.iter().position(|known| *known == Some(id)).unwrap()
    }

    /// When the next `bytes` of a request have arrived that may begin at `from`. A peer's two requests share its rate.
    fn transfer(from: Instant, bytes: u64, behaviour: &Behaviour) -> Instant {
        let share = if behaviour.kind.is_some() { 2.0 } else { 1.0 };
        #[allow(clippy::cast_precision_loss)]
        let seconds = bytes as f64 * share / behaviour.rate;
        from + Duration::from_secs_f64(seconds)
    }

    fn drain(&mut self) {
        while let Some(order) = self.machine.poll_order() {
            match order {
                Order::AskList(id) => {
                    let source = self.sources[self.source(id)].clone();
                    let later = self.now + source.latency;
                    match source {
                        Behaviour { dead: true, .. } => self.at(later, Event::ListFails(id)),
                        Behaviour { silent: true, .. } => {}
                        _ => self.at(later, Event::ListArrives(id)),
                    }
                }
                Order::AwaitNews(id, wait) => {
                    self.questions += 1;
                    let who = self.source(id);
                    let source = self.sources[who].clone();
                    let arrives = self.now + source.latency;
                    // Told before: what it had when it answered last.
                    let told = self.told[who];
                    let limit = if source.impatient { self.now } else { self.now + wait };
                    match self.grown_beyond(&source, told) {
                        Some(at) if at <= limit => {
                            self.at(at.max(self.now) + source.latency, Event::ListArrives(id));
                        }
                        _ if source.impatient => self.at(arrives, Event::ListArrives(id)),
                        _ => self.at(arrives + wait, Event::NoNews(id)),
                    }
                }
                Order::FetchPiece { fetch, source, piece, range, start, expected } => {
                    self.ask(fetch, source, piece, range, Some((start, expected)), None);
                }
                Order::FetchPart { fetch, source, piece, helps, cut, mut range } => {
                    self.parts += 1;
                    if let Some(cut) = cut {
                        range.start = self.cut(cut, range.start).min(range.end);
                        self.machine.handle_cut(fetch, range.start);
                    }
                    if !range.is_empty() {
                        self.ask(fetch, source, piece, range, None, Some(helps));
                    }
                }
                Order::Compare { source, range, digest } => {
                    let here = self.file[self.geometry.piece_at(range.start) as usize].unwrap();
                    if digest_of(&range, here) != digest {
                        self.machine.handle_other_bytes(source);
                    }
                }
                Order::Walk { fetch, walker, range, start } => {
                    let who = match walker {
                        Walker::Mirror => self.sources.len(),
                        Walker::Peer(id) => self.source(id),
                    };
                    let at = range.start;
                    self.walks.insert(fetch, Walk { range, at, state: start, who, piece_whole: true });
                    let source = self.behaviour(who);
                    if source.empty_handed {
                        self.at(self.now + source.latency, Event::NotHeld(fetch));
                    } else if !source.dead && !source.silent {
                        self.at(self.now + source.latency, Event::WalkBytes(fetch));
                    } else if source.dead {
                        self.at(self.now + source.latency, Event::PieceFails(fetch));
                    }
                }
                Order::Cancel(fetch) => {
                    self.pieces.remove(&fetch);
                    self.walks.remove(&fetch);
                }
                Order::Reopen(piece) => self.committed[piece as usize] = false,
            }
        }
        while let Some(fact) = self.machine.poll_fact() {
            self.facts.push(fact);
        }
    }

    /// How many pieces a source has by now that is still downloading.
    fn grown(&self, source: &Behaviour) -> u32 {
        let Some((before, rate)) = source.grows else { return self.geometry.pieces() };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes = (before + rate * self.elapsed().as_secs_f64()) as u64;
        (0..self.geometry.pieces()).take_while(|piece| self.geometry.range(*piece).end <= bytes).count()
            as u32
    }

    /// When it has more than so many.
    #[allow(clippy::cast_precision_loss)]
    fn grown_beyond(&self, source: &Behaviour, count: u32) -> Option<Instant> {
        let (before, rate) = source.grows?;
        let wanted = self.geometry.range(count.min(self.geometry.last())).end as f64 + 1.0;
        (rate > 0.0).then(|| self.start + Duration::from_secs_f64(((wanted - before) / rate).max(0.0)))
    }

    fn behaviour(&self, who: usize) -> Behaviour {
        self.sources.get(who).cloned().unwrap_or_else(|| self.mirror.clone().unwrap())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::Found(index) => self.join(index),
            Event::ListFound(variant, signed) => {
                self.machine.handle_found_list(list(self.geometry, variant), signed);
            }
            Event::LookUpEnds => self.machine.handle_findings_end(),
            Event::ListArrives(id) => match self.sources[self.source(id)].list {
                None => self.machine.handle_no_list(id, self.now),
                Some(variant) => {
                    let who = self.source(id);
                    let list = list(self.geometry, variant);
                    let pieces = self.geometry.pieces();
                    if self.sources[who].grows.is_some() {
                        let count = self.grown(&self.sources[who]);
                        self.told[who] = count;
                        let have = PieceSet::from_ranges(pieces, (count > 0).then(|| 0..=count - 1));
                        let known = (1..).zip(list.inner()).map(|(at, state)| state.filter(|_| at <= count));
                        let list = PieceList::new(self.geometry, known.collect()).unwrap();
                        return self.machine.handle_list(id, list, have, self.now);
                    }
                    let hollow = self.sources[self.source(id)].hollow;
                    let have = if hollow { PieceSet::none(pieces) } else { PieceSet::all(pieces) };
                    self.machine.handle_list(id, list, have, self.now);
                }
            },
            Event::NoNews(id) => self.machine.handle_no_news(id),
            Event::ListFails(id) => self.machine.handle_list_failure(id, PeerFault::Unreachable),
            Event::PieceFails(fetch) => {
                self.pieces.remove(&fetch);
                if self.walks.remove(&fetch).is_some() {
                    self.machine.handle_walk_failure(fetch, PeerFault::Unreachable);
                } else {
                    self.machine.handle_piece_failure(fetch, PeerFault::Unreachable);
                }
            }
            Event::NotHeld(fetch) => self.machine.handle_piece_not_held(fetch),
            Event::PieceBytes(fetch, bytes) => self.piece_bytes(fetch, bytes),
            Event::WalkBytes(fetch) => self.walk_bytes(fetch),
        }
    }

    fn walk_bytes(&mut self, fetch: FetchId) {
        let Some(walk) = self.walks.get(&fetch) else { return };
        let source = self.behaviour(walk.who);
        let piece = self.geometry.piece_at(walk.at);
        let end = (walk.at + SLICE).min(self.geometry.range(piece).end);
        let (bytes, from, who, state) = (end - walk.at, walk.at, walk.who, walk.state);
        if source.stalls_at == Some(piece) && from > self.geometry.range(piece).start {
            // The mirror's client gives up after its own retries.
            self.walks.remove(&fetch);
            return self.machine.handle_walk_failure(fetch, PeerFault::Stalled);
        }
        let variant = (source.variant)(piece);
        let skipped = self.committed[piece as usize];
        if !skipped {
            self.write(piece, variant);
        }
        if who == self.sources.len() {
            self.mirror_bytes += bytes;
        }
        let walk = self.walks.get_mut(&fetch).unwrap();
        walk.at = end;
        walk.piece_whole &= !skipped;
        let (whole, last) = (walk.piece_whole, end == walk.range.end);
        self.machine.handle_progress(fetch, end, bytes, self.now);
        if end == self.geometry.range(piece).end {
            let led = step(self.geometry, state, piece, variant);
            if let End::State(next) = led {
                walk.state = next;
            }
            walk.piece_whole = true;
            self.machine.handle_walked(fetch, led, whole);
        }
        if !last {
            let next = Self::transfer(self.now, SLICE, &source);
            self.at(next, Event::WalkBytes(fetch));
        }
    }

    /// Writes into the file, and tells the machine where apt has seen other bytes.
    fn write(&mut self, piece: PieceIndex, variant: Variant) {
        self.file[piece as usize] = Some(variant);
        if self.seen[piece as usize].is_some_and(|seen| seen != variant) {
            self.machine.handle_differing();
        }
    }

    fn observe(&mut self) {
        if self.machine.taints() > self.taints {
            self.taints = self.machine.taints();
            self.seen.fill(None);
        }
        let released = self.machine.released();
        if released > 0 && self.first_byte.is_none() {
            self.first_byte = Some(self.now - self.start);
        }
        for piece in 0..self.geometry.pieces() {
            if released > self.geometry.range(piece).start {
                let there = self.file[piece as usize].expect("released bytes are in the file");
                let seen = *self.seen[piece as usize].get_or_insert(there);
                assert_eq!(seen, there, "piece {piece} changed under a reader without a taint");
            }
        }
        if self.machine.outcome() != Outcome::Closed {
            assert!(
                released < self.geometry.length().max(1),
                "the last byte went out before the object was closed"
            );
        } else if self.geometry.length() > 0 {
            assert!(
                self.seen.iter().all(|seen| *seen == Some(0)),
                "apt completed a wrong file: {:?}",
                self.seen
            );
        }
    }

    /// What other peers would be given now, looked at as often as the driver does.
    fn observe_offer(&mut self) {
        let revision = Some(self.machine.revision());
        if self.revision == revision || self.machine.outcome() != Outcome::Running {
            return;
        }
        self.revision = revision;
        let offer = self.machine.servable();
        let truth = list(self.geometry, right);
        self.offered_wrong |= !offer.states.agrees_with(&truth);
        for piece in (0..self.geometry.pieces()).filter(|piece| offer.have.contains(*piece)) {
            self.offered.insert(piece);
            self.offered_wrong |= self.file[piece as usize] != Some(0);
            let ends = [piece, piece + 1].map(|boundary| offer.states.state(boundary));
            assert!(ends[0].is_some() && (ends[1].is_some() || piece == self.geometry.last()));
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn faults(&self) -> Vec<(usize, PeerFault)> {
        let fault = |fact: &Fact| match fact {
            Fact::PeerFaulted(id, fault) => Some((self.source(*id), *fault)),
            _ => None,
        };
        self.facts.iter().filter_map(fault).collect()
    }
}

pub(crate) const MB: f64 = 1e6;
pub(crate) const LARGE: u64 = 10 * PIECE_LENGTH + 12_345;

/// A small generator with a seed, so that a run can be repeated (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn unit(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }
}
