//! Downloads in virtual time: the pure machine against sources that are slow, silent, dead or lying.
//!
//! Bytes are symbols here: a piece is its number and a variant, variant 0 being the right one, and the chain is
//! computed over those. What an observer at apt's end would have seen is tracked beside the file itself.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use aptpeer::pieces::{End, Geometry, PIECE_LENGTH, PieceIndex, PieceList, PieceSet, State};
use aptpeer::swarm::{
    Download, Fact, FetchId, Order, Outcome, PeerFault, PeerKind, Prefer, SourceId, Standing, Walker,
};

type Variant = u8;

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

/// How a source behaves.
#[derive(Clone)]
struct Behaviour {
    kind: Option<PeerKind>,
    network: u8,
    latency: Duration,
    /// Bytes a second.
    rate: f64,
    /// What it sends for each piece.
    variant: fn(PieceIndex) -> Variant,
    /// The list that it tells: the chain over these variants, or none at all.
    list: Option<fn(PieceIndex) -> Variant>,
    /// Never answers.
    silent: bool,
    /// Refuses connections.
    dead: bool,
    /// Tells a list without a single piece, and goes on doing so.
    hollow: bool,
    /// Says that it does not hold the object when asked for bytes.
    empty_handed: bool,
    /// Stops in the middle of this piece.
    stalls_at: Option<PieceIndex>,
}

fn right(_: PieceIndex) -> Variant {
    0
}

fn mirror(rate: f64) -> Behaviour {
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
        stalls_at: None,
    }
}

fn peer(kind: PeerKind, network: u8, rate: f64) -> Behaviour {
    Behaviour {
        kind: Some(kind),
        network,
        latency: Duration::from_millis(5),
        list: Some(right),
        ..mirror(rate)
    }
}

fn neighbour(rate: f64) -> Behaviour {
    peer(PeerKind::Neighbour, 1, rate)
}

fn stranger(network: u8, rate: f64) -> Behaviour {
    peer(PeerKind::Stranger, network, rate)
}

#[derive(Debug, Clone, Copy)]
enum Event {
    ListArrives(SourceId),
    ListFails(SourceId),
    PieceBytes(FetchId, u64, bool),
    PieceFails(FetchId),
    NotHeld(FetchId),
    WalkBytes(FetchId),
    Tick,
}

struct Walk {
    range: Range<u64>,
    at: u64,
    state: State,
    who: usize,
    piece_whole: bool,
}

struct World {
    geometry: Geometry,
    now: Instant,
    start: Instant,
    queue: BinaryHeap<std::cmp::Reverse<(Instant, u64)>>,
    events: HashMap<u64, Event>,
    sequence: u64,
    machine: Download,
    sources: Vec<Behaviour>,
    mirror: Option<Behaviour>,
    ids: Vec<SourceId>,
    pieces: BTreeMap<FetchId, (usize, PieceIndex, State, End)>,
    walks: BTreeMap<FetchId, Walk>,
    file: Vec<Option<Variant>>,
    committed: Vec<bool>,
    /// What apt has seen of each piece under the present count of taints.
    seen: Vec<Option<Variant>>,
    taints: u32,
    first_byte: Option<Duration>,
    facts: Vec<Fact>,
    carried: Vec<u64>,
    mirror_bytes: u64,
}

const SLICE: u64 = PIECE_LENGTH / 16;

impl World {
    fn new(length: u64, sources: &[Behaviour]) -> Self {
        Self::with(length, sources, Prefer::Speed)
    }

    fn with(length: u64, all: &[Behaviour], prefer: Prefer) -> Self {
        let geometry = Geometry::new(length).unwrap();
        let (_, digest) = chain(geometry, right);
        let start = Instant::now();
        let mut machine = Download::new(digest, geometry, prefer, start);
        let mut ids = Vec::new();
        let mirror = all.iter().find(|source| source.kind.is_none()).cloned();
        if mirror.is_some() {
            machine.add_mirror(None);
        }
        let sources: Vec<_> = all.iter().filter(|source| source.kind.is_some()).cloned().collect();
        for (host, source) in (1..).zip(&sources) {
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, source.network, host));
            ids.push(machine.add_peer(source.kind.unwrap(), address, Standing::default(), start));
        }
        let count = geometry.pieces() as usize;
        Self {
            geometry,
            now: start,
            start,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
            machine,
            carried: vec![0; sources.len()],
            sources,
            mirror,
            ids,
            pieces: BTreeMap::new(),
            walks: BTreeMap::new(),
            file: vec![None; count],
            committed: vec![false; count],
            seen: vec![None; count],
            taints: 0,
            first_byte: None,
            facts: Vec::new(),
            mirror_bytes: 0,
        }
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(std::cmp::Reverse((when, self.sequence)));
    }

    fn run(&mut self) -> Outcome {
        self.machine.handle_timeout(self.now);
        for _ in 0..200_000 {
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
        self.ids.iter().position(|known| *known == id).unwrap()
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
                Order::FetchPiece { fetch, source, piece, range, start, expected } => {
                    let who = self.source(source);
                    let source = self.sources[who].clone();
                    self.pieces.insert(fetch, (who, piece, start, expected));
                    self.machine.handle_begun(fetch, self.now);
                    if source.empty_handed {
                        self.at(self.now + source.latency, Event::NotHeld(fetch));
                    } else if source.dead {
                        self.at(self.now + source.latency, Event::PieceFails(fetch));
                    } else if !source.silent {
                        let mut left = range.end - range.start;
                        let mut done = self.now + source.latency;
                        while left > 0 {
                            let bytes = left.min(SLICE);
                            left -= bytes;
                            done = Self::transfer(done, bytes, &source);
                            if left == 0 && source.stalls_at == Some(piece) {
                                break;
                            }
                            self.at(done, Event::PieceBytes(fetch, bytes, left == 0));
                        }
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

    fn behaviour(&self, who: usize) -> Behaviour {
        self.sources.get(who).cloned().unwrap_or_else(|| self.mirror.clone().unwrap())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::ListArrives(id) => match self.sources[self.source(id)].list {
                None => self.machine.handle_no_list(id, self.now),
                Some(variant) => {
                    let (states, _) = chain(self.geometry, variant);
                    let list = PieceList::new(self.geometry, states.into_iter().map(Some).collect()).unwrap();
                    let pieces = self.geometry.pieces();
                    let hollow = self.sources[self.source(id)].hollow;
                    let have = if hollow { PieceSet::none(pieces) } else { PieceSet::all(pieces) };
                    self.machine.handle_list(id, list, have, self.now);
                }
            },
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
            Event::PieceBytes(fetch, bytes, end) => self.piece_bytes(fetch, bytes, end),
            Event::WalkBytes(fetch) => self.walk_bytes(fetch),
        }
    }

    fn piece_bytes(&mut self, fetch: FetchId, bytes: u64, end: bool) {
        let Some((who, piece, start, expected)) = self.pieces.get(&fetch).copied() else { return };
        self.machine.handle_progress(fetch, 0, bytes, self.now);
        self.carried[who] += bytes;
        if !end {
            return;
        }
        self.pieces.remove(&fetch);
        let variant = (self.sources[who].variant)(piece);
        let led = step(self.geometry, start, piece, variant);
        if led != expected {
            return self.machine.handle_piece_unlinked(fetch, led);
        }
        self.write(piece, variant);
        self.committed[piece as usize] = true;
        self.machine.handle_piece_linked(fetch);
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

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn faults(&self) -> Vec<(usize, PeerFault)> {
        let fault = |fact: &Fact| match fact {
            Fact::PeerFaulted(id, fault) => Some((self.source(*id), *fault)),
            _ => None,
        };
        self.facts.iter().filter_map(fault).collect()
    }
}

const MB: f64 = 1e6;
const LARGE: u64 = 10 * PIECE_LENGTH + 12_345;

#[test]
fn a_mirror_alone_gives_the_object_and_its_first_byte_at_once() {
    for length in [1, 50_000, PIECE_LENGTH, LARGE] {
        let mut world = World::new(length, &[mirror(10.0 * MB)]);
        assert_eq!(world.run(), Outcome::Closed);
        let limit = Duration::from_millis(if length > 1 { 160 } else { 60 });
        assert!(world.first_byte.unwrap() <= limit, "{:?}", world.first_byte);
    }
}

#[test]
fn an_empty_object_needs_nobody() {
    let mut world = World::new(0, &[]);
    world.machine = {
        let digest = Sha256::of(b"");
        Download::new(digest, world.geometry, Prefer::Speed, world.start)
    };
    assert_eq!(world.run(), Outcome::Closed);
}

#[test]
fn neighbours_that_hold_it_spare_the_mirror() {
    for length in [50_000, PIECE_LENGTH + 1, LARGE] {
        let mut world = World::new(length, &[mirror(10.0 * MB), neighbour(50.0 * MB), neighbour(50.0 * MB)]);
        assert_eq!(world.run(), Outcome::Closed);
        assert_eq!(world.mirror_bytes, 0, "{length} bytes");
        assert!(world.faults().is_empty());
    }
}

#[test]
fn four_equal_peers_each_carry_about_a_quarter() {
    let length = 40 * PIECE_LENGTH;
    let mut world = World::new(
        length,
        &[neighbour(20.0 * MB), neighbour(20.0 * MB), neighbour(20.0 * MB), neighbour(20.0 * MB)],
    );
    assert_eq!(world.run(), Outcome::Closed);
    for carried in &world.carried {
        let pieces = carried / PIECE_LENGTH;
        assert!((8..=12).contains(&pieces), "{:?}", world.carried);
    }
}

#[test]
fn a_small_object_is_asked_of_one_peer_at_a_time() {
    let mut world = World::new(50_000, &[neighbour(20.0 * MB), neighbour(20.0 * MB), neighbour(20.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.carried.iter().sum::<u64>(), 50_000);
}

#[test]
fn a_dead_neighbour_costs_no_time() {
    let dead = Behaviour { dead: true, ..neighbour(1.0) };
    for length in [50_000, LARGE] {
        let mut alone = World::new(length, &[mirror(10.0 * MB)]);
        alone.run();
        let mut world = World::new(length, &[mirror(10.0 * MB), dead.clone()]);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(world.elapsed() <= alone.elapsed() + Duration::from_millis(20));
        assert_eq!(world.faults(), [(0, PeerFault::Unreachable)]);
    }
}

#[test]
fn a_silent_neighbour_costs_the_hedge_and_no_more() {
    let silent = Behaviour { silent: true, ..neighbour(1.0) };
    for length in [50_000, LARGE] {
        let mut alone = World::new(length, &[mirror(10.0 * MB)]);
        alone.run();
        let mut world = World::new(length, &[mirror(10.0 * MB), silent.clone()]);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(world.elapsed() <= alone.elapsed() + Duration::from_millis(1100), "{:?}", world.elapsed());
    }
}

#[test]
fn who_keeps_the_mirror_waiting_is_late_and_who_delivers_is_not() {
    let silent = Behaviour { silent: true, ..neighbour(1.0) };
    for length in [50_000, LARGE] {
        let mut world = World::new(length, &[mirror(10.0 * MB), silent.clone()]);
        assert_eq!(world.run(), Outcome::Closed);
        let late: Vec<_> = world.facts.iter().filter(|fact| matches!(fact, Fact::PeerLate(_))).collect();
        assert_eq!(late.len(), 1, "{:?}", world.facts);
        let mut world = World::new(length, &[mirror(10.0 * MB), neighbour(50.0 * MB)]);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(!world.facts.iter().any(|fact| matches!(fact, Fact::PeerLate(_))), "{:?}", world.facts);
    }
}

#[test]
fn a_slow_neighbour_does_not_keep_the_mirror_waiting() {
    let mut alone = World::new(LARGE, &[mirror(10.0 * MB)]);
    alone.run();
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), neighbour(0.1 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.elapsed() <= alone.elapsed() + Duration::from_millis(1200), "{:?}", world.elapsed());
}

#[test]
fn a_stalling_neighbour_is_replaced() {
    let stalling = Behaviour { stalls_at: Some(3), ..neighbour(40.0 * MB) };
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), stalling, neighbour(40.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.elapsed() < Duration::from_secs(6), "{:?}", world.elapsed());
}

#[test]
fn a_flipped_bit_is_pinned_to_its_sender_and_fetched_again() {
    let liar = Behaviour { variant: |piece| u8::from(piece == 4), ..neighbour(40.0 * MB) };
    let mut world = World::new(LARGE, &[liar, neighbour(40.0 * MB), neighbour(40.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.faults().iter().all(|(who, fault)| *who == 0 && *fault == PeerFault::WrongPiece));
    assert_eq!(world.taints, 0, "apt saw nothing of it");
}

#[test]
fn a_wrong_small_object_convicts_its_sender_at_once() {
    let liar = Behaviour { variant: |_| 1, ..neighbour(40.0 * MB) };
    let mut world = World::new(50_000, &[mirror(10.0 * MB), liar]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.faults(), [(0, PeerFault::WrongPiece)]);
    assert!(world.elapsed() < Duration::from_millis(200));
}

#[test]
fn a_lone_neighbour_that_lies_throughout_is_found_out() {
    // List and bytes agree with each other, so they link; they cannot lead to the digest.
    let liar = Behaviour { variant: |_| 1, list: Some(|_| 1), ..neighbour(40.0 * MB) };
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), liar]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.faults().len(), 1, "{:?}", world.facts);
    assert!(world.faults()[0].1.is_lie());
}

#[test]
fn a_liar_with_a_true_tail_taints_and_apt_recovers() {
    let liar = Behaviour {
        variant: |piece| u8::from(piece < 3),
        list: Some(|piece| u8::from(piece < 3)),
        ..neighbour(40.0 * MB)
    };
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), liar]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.faults().iter().all(|(_, fault)| fault.is_lie()) && !world.faults().is_empty());
}

#[test]
fn a_lone_stranger_and_the_mirror_meet() {
    let mut alone = World::new(LARGE, &[mirror(10.0 * MB)]);
    alone.run();
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), stranger(1, 10.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    let total = world.geometry.length();
    assert!(world.mirror_bytes < total * 7 / 10, "the mirror gave {} of {total}", world.mirror_bytes);
    assert!(world.elapsed() < alone.elapsed().mul_f64(0.8));
    assert_eq!(world.taints, 0);
}

#[test]
fn nothing_a_lone_stranger_says_reaches_apt() {
    let lies: [fn(PieceIndex) -> Variant; 3] =
        [|_| 1, |piece| u8::from(piece > 5), |piece| u8::from(piece < 5)];
    for lie in lies {
        let liar = Behaviour { variant: lie, list: Some(lie), ..stranger(1, 30.0 * MB) };
        let mut world = World::new(LARGE, &[mirror(10.0 * MB), liar]);
        assert_eq!(world.run(), Outcome::Closed);
        assert_eq!(world.taints, 0);
    }
}

#[test]
fn corroborating_strangers_do_the_work() {
    let mut world = World::new(LARGE, &[mirror(5.0 * MB), stranger(1, 40.0 * MB), stranger(2, 40.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.mirror_bytes < world.geometry.length() / 2);
}

#[test]
fn a_conspiracy_taints_and_the_mirror_saves_the_day() {
    // Two networks, one false list, one set of false bytes, a true tail: the worst there is.
    let lie: fn(PieceIndex) -> Variant = |piece| u8::from((2..6).contains(&piece));
    let liar = |network| Behaviour { variant: lie, list: Some(lie), ..stranger(network, 60.0 * MB) };
    let mut world = World::new(LARGE, &[mirror(2.0 * MB), liar(1), liar(2), liar(3)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.faults().iter().all(|(_, fault)| fault.is_lie()));
}

#[test]
fn peers_alone_finish_when_the_mirror_is_down() {
    let down = Behaviour { dead: true, ..mirror(1.0) };
    for sources in [vec![down.clone(), stranger(1, 10.0 * MB)], vec![down, neighbour(10.0 * MB)]] {
        let mut world = World::new(LARGE, &sources);
        assert_eq!(world.run(), Outcome::Closed);
    }
}

#[test]
fn a_plain_file_server_is_a_peer() {
    let plain = Behaviour { list: None, ..neighbour(20.0 * MB) };
    for length in [50_000, LARGE] {
        let mut world = World::new(length, std::slice::from_ref(&plain));
        assert_eq!(world.run(), Outcome::Closed, "{length}");
    }
    let wrong = Behaviour { variant: |piece| u8::from(piece == 3), ..plain.clone() };
    let mut world = World::new(LARGE, &[wrong, plain]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.faults(), [(0, PeerFault::WrongPiece)]);
}

#[test]
fn a_peer_without_the_object_does_not_keep_a_download_alive() {
    let down = Behaviour { dead: true, ..mirror(1.0) };
    let without = Behaviour { list: None, empty_handed: true, ..neighbour(1.0 * MB) };
    for length in [50_000, LARGE] {
        let mut world = World::new(length, &[down.clone(), without.clone()]);
        assert_eq!(world.run(), Outcome::Failed);
        assert!(world.elapsed() < Duration::from_secs(1));
    }
    let hollow = Behaviour { hollow: true, ..neighbour(1.0 * MB) };
    let mut world = World::new(LARGE, &[down, hollow]);
    assert_eq!(world.run(), Outcome::Failed);
    assert!(world.elapsed() < Duration::from_secs(40), "{:?}", world.elapsed());
}

#[test]
fn a_mirror_whose_file_is_not_the_index_s_is_another_source_s_problem() {
    let other = Behaviour { variant: |piece| u8::from(piece == 1 || piece == 0), ..mirror(10.0 * MB) };
    for length in [50_000, LARGE] {
        let mut world = World::new(length, std::slice::from_ref(&other));
        assert_eq!(world.run(), Outcome::Failed);
        assert!(world.facts.contains(&Fact::MirrorDiffers));
        let mut world = World::new(length, &[other.clone(), neighbour(10.0 * MB)]);
        assert_eq!(world.run(), Outcome::Closed, "the neighbour has it, {length} bytes");
        assert!(world.faults().is_empty());
        let mut world = World::new(length, &[other.clone(), stranger(3, 0.5 * MB)]);
        assert_eq!(world.run(), Outcome::Closed, "even a stranger has it, {length} bytes");
        assert!(world.faults().is_empty(), "and nobody innocent is charged: {:?}", world.faults());
    }
}

#[test]
fn quarrelling_neighbours_are_judged_by_the_end() {
    let liar = Behaviour { variant: |_| 1, list: Some(|_| 1), ..neighbour(40.0 * MB) };
    for sources in [vec![liar.clone(), neighbour(40.0 * MB)], vec![neighbour(40.0 * MB), liar.clone()]] {
        let honest = usize::from(sources[0].list.unwrap()(0) == 1);
        let mut world = World::new(LARGE, &sources);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(world.faults().iter().all(|(who, _)| *who != honest), "{:?}", world.faults());
    }
}

#[test]
fn offload_waits_for_slow_peers() {
    let slow = [mirror(50.0 * MB), neighbour(4.0 * MB)];
    let mut speed = World::new(LARGE, &slow);
    assert_eq!(speed.run(), Outcome::Closed);
    assert!(speed.mirror_bytes > 0);
    let mut offload = World::with(LARGE, &slow, Prefer::Offload);
    assert_eq!(offload.run(), Outcome::Closed);
    assert_eq!(offload.mirror_bytes, 0);
}

/// Random swarms: whatever the mixture, a right mirror or one right peer is enough, and apt never completes a wrong
/// file. The seed is printed when a run fails.
#[test]
fn random_swarms_always_end_well() {
    for seed in 0..1500_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        let length = match random.below(3) {
            0 => 1 + random.below(PIECE_LENGTH),
            1 => PIECE_LENGTH * (1 + random.below(4)),
            _ => 1 + random.below(12 * PIECE_LENGTH),
        };
        let lies: [fn(PieceIndex) -> Variant; 5] =
            [right, |_| 1, |p| u8::from(p == 2), |p| u8::from(p < 2), |p| 2 * u8::from(p % 2 == 1)];
        let mut sources = vec![Behaviour { rate: 1.0 * MB + random.unit() * 20.0 * MB, ..mirror(1.0) }];
        for network in 0..random.below(5) {
            let kind = if random.below(2) == 0 { PeerKind::Neighbour } else { PeerKind::Stranger };
            let bytes = lies[usize::try_from(random.below(5)).unwrap()];
            let list = match random.below(4) {
                0 => None,
                1 => Some(bytes),
                2 => Some(right as fn(PieceIndex) -> Variant),
                _ => Some(lies[usize::try_from(random.below(5)).unwrap()]),
            };
            sources.push(Behaviour {
                variant: bytes,
                list,
                silent: random.below(8) == 0,
                dead: random.below(8) == 0,
                hollow: random.below(10) == 0,
                empty_handed: random.below(10) == 0,
                latency: Duration::from_millis(1 + random.below(700)),
                stalls_at: (random.below(6) == 0).then(|| u32::try_from(random.below(5)).unwrap()),
                ..peer(kind, u8::try_from(network).unwrap() % 3, 0.2 * MB + random.unit() * 60.0 * MB)
            });
        }
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(length, &sources);
            (world.run(), world.faults(), world.facts)
        });
        let (outcome, faults, facts) = result.unwrap_or_else(|_| panic!("seed {seed} failed"));
        assert_eq!(outcome, Outcome::Closed, "seed {seed}: {facts:?}");
        for (who, fault) in faults.iter().filter(|(_, fault)| fault.is_lie()) {
            let source = &sources[who + 1];
            let pieces = Geometry::new(length).unwrap().pieces();
            let honest =
                (0..pieces).all(|p| (source.variant)(p) == 0 && source.list.is_none_or(|list| list(p) == 0));
            assert!(!honest, "seed {seed}: innocent peer {who} was charged with {fault}");
        }
    }
}

/// A small generator with a seed, so that a run can be repeated (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn unit(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }
}
