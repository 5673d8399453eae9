//! A node of the swarm: a download, what it has, and what it serves.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use aptpeer::pieces::{End, Kept, PieceIndex, PieceList, PieceSet, State};
use aptpeer::swarm::{Download, Fact, FetchId, Group, Outcome, Prefer, SourceId};

use crate::net::{FlowId, Host};
use crate::object::{Object, Variant};

/// What a node is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    Honest,
    /// Has had the object from the start.
    Seed,
    /// Says the right list and sends other bytes.
    WrongPieces(Variant),
    /// Says another list, and sends what it says.
    WrongList(Variant),
}

impl Nature {
    pub(crate) const fn is_honest(self) -> bool {
        matches!(self, Self::Honest)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Mirror,
    Node(Host),
}

/// A fetch under way.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) from: From,
    pub(crate) flow: Option<FlowId>,
    pub(crate) piece: PieceIndex,
    pub(crate) start: State,
    pub(crate) expected: Option<End>,
    /// Where a walk ends.
    pub(crate) walk: Option<u64>,
    /// Where in the object the present transfer began, and how much of it the download knows of.
    pub(crate) offset: u64,
    pub(crate) told: u64,
    /// What of its piece it brings.
    pub(crate) range: Range<u64>,
    /// The piece's own fetch, where this one helps.
    pub(crate) helps: Option<FetchId>,
    /// The parts that are here, by whom and what: its own as well.
    pub(crate) brought: Vec<(FetchId, Host, Range<u64>, Variant)>,
}

impl Fetch {
    pub(crate) fn piece(
        other: Host,
        piece: PieceIndex,
        range: Range<u64>,
        start: State,
        expected: End,
    ) -> Self {
        let (from, expected) = (From::Node(other), Some(expected));
        Self { from, expected, range, walk: None, offset: 0, ..Self::walk(piece, 0..0, start) }
    }

    pub(crate) fn part(other: Host, piece: PieceIndex, helps: FetchId, range: Range<u64>) -> Self {
        let (from, helps) = (From::Node(other), Some(helps));
        Self { from, range, helps, walk: None, ..Self::walk(piece, 0..0, State::INITIAL) }
    }

    pub(crate) fn walk(piece: PieceIndex, range: Range<u64>, start: State) -> Self {
        Self {
            from: From::Mirror,
            flow: None,
            piece,
            start,
            expected: None,
            walk: Some(range.end),
            offset: range.start,
            told: 0,
            range,
            helps: None,
            brought: Vec::new(),
        }
    }

    pub(crate) fn left_of_piece(&self, object: &Object) -> u64 {
        object.geometry.range(self.piece).end - self.offset
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) nature: Nature,
    pub(crate) address: IpAddr,
    pub(crate) joins: Instant,
    /// It leaves as soon as it has the object.
    pub(crate) leaves: bool,
    pub(crate) gone: bool,
    /// How long it was not there in the middle of its download, and what it went on with.
    pub(crate) away: Duration,
    kept: Vec<Kept>,
    pub(crate) machine: Option<Download>,
    pub(crate) peers: HashMap<SourceId, Host>,
    pub(crate) known: HashMap<Host, SourceId>,
    pub(crate) networks: HashMap<Group, usize>,
    pub(crate) fetches: BTreeMap<FetchId, Fetch>,
    pub(crate) content: Vec<Option<Variant>>,
    pub(crate) uploads: usize,
    pub(crate) tick: Option<Instant>,
    pub(crate) announced: bool,
    pub(crate) finished: Option<Instant>,
    reported: bool,
    pub(crate) failed: bool,
    pub(crate) first_byte: Option<Duration>,
    /// When who carried how much.
    pub(crate) carried: BTreeMap<Host, Vec<(Instant, f64)>>,
    pub(crate) facts: Vec<Fact>,
    offer: Option<(u64, PieceList, PieceSet)>,
    /// Grows when its offer becomes another.
    version: u64,
    /// The version that was told to those who wait.
    pub(crate) shown: u64,
    /// Who waits for that: a question, the download that asked it, and what it calls this node.
    pub(crate) waiting: Vec<(u64, Host, SourceId)>,
    /// The versions that peers told last.
    pub(crate) told: HashMap<SourceId, u64>,
}

impl Node {
    pub(crate) fn new(
        nature: Nature,
        address: IpAddr,
        joins: Instant,
        leaves: bool,
        object: &Object,
    ) -> Self {
        Self {
            nature,
            address,
            joins,
            leaves,
            gone: false,
            away: Duration::ZERO,
            kept: Vec::new(),
            machine: None,
            peers: HashMap::new(),
            known: HashMap::new(),
            networks: HashMap::new(),
            fetches: BTreeMap::new(),
            content: vec![None; object.geometry.pieces() as usize],
            uploads: 0,
            tick: None,
            announced: false,
            finished: None,
            reported: false,
            failed: false,
            first_byte: None,
            carried: BTreeMap::new(),
            facts: Vec::new(),
            offer: None,
            version: 0,
            shown: 0,
            waiting: Vec::new(),
            told: HashMap::new(),
        }
    }

    pub(crate) fn start(&self, object: &Object, prefer: Prefer, seed: u64, now: Instant) -> Download {
        let mut download = Download::new(object.digest, object.geometry, prefer, now).seeded(seed);
        download.resume(&self.kept);
        download
    }

    /// Its download is broken off.
    pub(crate) fn go_away(&mut self, length: Duration, now: Instant) {
        let Some(machine) = self.machine.take() else { return };
        self.kept = machine.worth_keeping(now);
        let kept: Vec<PieceIndex> = self.kept.iter().map(|kept| kept.piece).collect();
        let mut pieces = (0..).zip(&mut self.content);
        pieces.by_ref().filter(|(piece, _)| !kept.contains(piece)).for_each(|(_, content)| *content = None);
        (self.gone, self.away, self.offer, self.tick) = (true, length, None, None);
        self.fetches.clear();
    }

    /// It is back, and knows nobody any more.
    pub(crate) fn come_back(&mut self) {
        self.gone = false;
        self.peers.clear();
        self.known.clear();
        self.networks.clear();
        self.told.clear();
        self.facts.clear();
    }

    /// Whether it is among those who are to have the object in the end.
    pub(crate) const fn wants(&self) -> bool {
        self.nature.is_honest()
    }

    pub(crate) fn is_here(&self, now: Instant) -> bool {
        !self.gone && now >= self.joins
    }

    /// Known peers that have not been found out to be of no use.
    pub(crate) fn alive(&self) -> usize {
        let faulted = |fact: &&Fact| matches!(fact, Fact::PeerFaulted(..) | Fact::NotHeld(_));
        self.peers.len() - self.facts.iter().filter(faulted).count().min(self.peers.len())
    }

    pub(crate) fn holds(&mut self, piece: PieceIndex) -> bool {
        !self.nature.is_honest() || self.offer().1.contains(piece)
    }

    /// What it sends for a piece that it holds.
    pub(crate) fn sends(&self, piece: PieceIndex) -> Variant {
        match self.nature {
            Nature::Honest => self.content[piece as usize].unwrap(),
            Nature::Seed => 0,
            Nature::WrongPieces(lie) | Nature::WrongList(lie) => lie,
        }
    }

    /// What it tells of the object.
    pub(crate) fn offer(&mut self) -> (PieceList, PieceSet) {
        let machine = self.machine.as_ref().unwrap();
        let revision = machine.revision();
        match &self.offer {
            Some((of, list, have)) if *of == revision => (list.clone(), have.clone()),
            _ => {
                let servable = machine.servable();
                let same = |(_, list, have): &(u64, _, _)| *list == servable.states && *have == servable.have;
                if !self.offer.as_ref().is_some_and(same) {
                    self.version += 1;
                }
                self.offer = Some((revision, servable.states.clone(), servable.have.clone()));
                (servable.states, servable.have)
            }
        }
    }

    /// Which of its offers is the present one.
    pub(crate) fn version(&mut self) -> u64 {
        if self.machine.is_some() {
            self.offer();
        }
        self.version
    }

    /// Looks at what the download has come to.
    pub(crate) fn note(&mut self, now: Instant) {
        let machine = self.machine.as_mut().unwrap();
        while let Some(fact) = machine.poll_fact() {
            self.facts.push(fact);
        }
        if machine.released() > 0 && self.first_byte.is_none() {
            self.first_byte = Some(now - self.joins - self.away);
        }
        match machine.outcome() {
            Outcome::Running => {}
            Outcome::Closed => self.finished = self.finished.or(Some(now)),
            Outcome::Failed => self.failed = true,
        }
    }

    pub(crate) fn has_just_finished(&mut self) -> bool {
        self.finished.is_some() && !std::mem::replace(&mut self.reported, true)
    }
}
