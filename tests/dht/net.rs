//! A network in virtual time: latency, loss, the dead and the liars.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aptpeer::dht::message::{Ask, Body, Packet, Reply};
use aptpeer::dht::{Contact, Ended, Event, Family, Id, Limits, LookUp, Node, NodeConfig, OwnedItem, Urgency};

/// Datagrams per second in the background.
pub(crate) const BACKGROUND_RATE: u32 = 50;

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    pub(crate) fn id(&mut self) -> Id {
        let mut bytes = [0; 20];
        bytes.iter_mut().for_each(|byte| *byte = self.next().to_be_bytes()[0]);
        Id::new(bytes)
    }

    /// Somewhere in the world, never the same network twice for all practical purposes.
    pub(crate) fn address(&mut self, family: Family) -> SocketAddr {
        let [a, b, c, d, ..] = self.next().to_be_bytes();
        match family {
            Family::V4 => SocketAddr::from(([20 + a % 70, b, c, d.max(1)], 6881)),
            Family::V6 => {
                let pair = |a, b| u16::from_be_bytes([a, b]);
                SocketAddr::from(([0x2a00, pair(a, b), pair(c, d), 0, 0, 0, 0, 1], 6881))
            }
        }
    }
}

/// What sits at an address.
pub(crate) enum Host {
    Honest(Box<Node>),
    Dead,
    Liar(Liar),
}

/// Answers every question, never rightly.
#[derive(Clone)]
pub(crate) enum Liar {
    /// Names 32 nodes right at the target that are not there.
    Inventor,
    /// Names itself under eight names right at the target.
    Narcissus,
    /// Says only that the node is known by this id; names its friends; takes what is announced and keeps it to itself.
    Conspirator { id: Id, friends: Vec<Contact> },
}

pub(crate) struct Net {
    pub(crate) seed: u64,
    pub(crate) family: Family,
    pub(crate) random: Random,
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) by_address: HashMap<SocketAddr, usize>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize, What)>>,
    queued: u64,
    timers: Vec<Option<Instant>>,
    /// Of 100 datagrams, so many are lost.
    pub(crate) loss: u64,
    pub(crate) events: Vec<(usize, Instant, Event)>,
    /// Datagrams that reached nobody.
    astray: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Timer,
    Datagram(SocketAddr, Vec<u8>),
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            family: Family::V4,
            random: Random(seed),
            now: Instant::now(),
            hosts: Vec::new(),
            addresses: Vec::new(),
            by_address: HashMap::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            timers: Vec::new(),
            loss: 0,
            events: Vec::new(),
            astray: 0,
        }
    }

    /// Of other addresses than IPv4's.
    pub(crate) fn of_family(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// `count` nodes that all know the first alone, two minutes after the last one came.
    pub(crate) fn of(count: usize, seed: u64) -> Self {
        Self::grown(Self::new(seed), count)
    }

    /// The same in this network.
    pub(crate) fn grown(mut net: Self, count: usize) -> Self {
        for n in 0..count {
            let node = net.add_node();
            if n > 0 {
                let first = net.addresses[0];
                net.with(node, |node, now| node.add_nodes([first], now));
            }
            net.run(Duration::from_millis(100));
        }
        net.run(seconds(120));
        net
    }

    pub(crate) fn config(&mut self) -> NodeConfig {
        let mut seed = [0; 32];
        seed.iter_mut().for_each(|byte| *byte = self.random.next().to_be_bytes()[0]);
        NodeConfig {
            id: self.random.id(),
            family: self.family,
            seed,
            read_only: false,
            allow_local: false,
            background_rate: BACKGROUND_RATE,
            limits: Limits::daemon(),
        }
    }

    pub(crate) fn add_node(&mut self) -> usize {
        let config = self.config();
        self.add_node_with(config)
    }

    pub(crate) fn add_node_with(&mut self, config: NodeConfig) -> usize {
        let address = self.random.address(self.family);
        let node = Node::new(config, self.now);
        self.add(address, Host::Honest(Box::new(node)))
    }

    pub(crate) fn add(&mut self, address: SocketAddr, host: Host) -> usize {
        self.hosts.push(host);
        self.addresses.push(address);
        self.timers.push(None);
        self.by_address.insert(address, self.hosts.len() - 1);
        self.settle(self.hosts.len() - 1);
        self.hosts.len() - 1
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        match &self.hosts[at] {
            Host::Honest(node) => node,
            _ => panic!("seed {:#x}: host {at} is no node", self.seed),
        }
    }

    pub(crate) fn with<T>(&mut self, at: usize, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let now = self.now;
        let Host::Honest(node) = &mut self.hosts[at] else { panic!("host {at} is no node") };
        let result = act(node, now);
        self.settle(at);
        result
    }

    /// Sends what a host wants sent, takes its events, sets its timer.
    fn settle(&mut self, at: usize) {
        let Host::Honest(node) = &mut self.hosts[at] else { return };
        let mut transmits = Vec::new();
        while let Some(transmit) = node.poll_transmit() {
            transmits.push(transmit);
        }
        while let Some(event) = node.poll_event() {
            self.events.push((at, self.now, event));
        }
        let due = node.next_timeout().map(|due| due.max(self.now));
        if due != self.timers[at] {
            self.timers[at] = due;
            due.into_iter().for_each(|due| self.push(due, at, What::Timer));
        }
        let from = self.addresses[at];
        transmits.into_iter().for_each(|transmit| self.send(from, transmit.to, transmit.payload));
    }

    fn push(&mut self, at: Instant, host: usize, what: What) {
        self.queued += 1;
        self.queue.push(Reverse((at, self.queued, host, what)));
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        assert!(payload.len() <= 1472, "seed {:#x}: a datagram of {} bytes", self.seed, payload.len());
        let lost = self.random.next() % 100 < self.loss;
        match self.by_address.get(&to) {
            Some(host) if !lost => {
                let arrives = self.now + self.latency(from, to);
                self.push(arrives, *host, What::Datagram(from, payload));
            }
            _ => self.astray += 1,
        }
    }

    /// One way, 5 to 150 ms, always the same between the same two.
    fn latency(&self, a: SocketAddr, b: SocketAddr) -> Duration {
        let bits = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits() as u64,
        };
        Duration::from_millis(5 + Random(self.seed ^ (bits(a) + bits(b))).next() % 146)
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Does the next thing that happens before `end`.
    fn step(&mut self, end: Instant) -> bool {
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > end) {
            return false;
        }
        let Some(Reverse((at, _, host, what))) = self.queue.pop() else { return false };
        self.now = at;
        match what {
            What::Timer if self.timers[host] == Some(at) => {
                self.timers[host] = None;
                if let Host::Honest(node) = &mut self.hosts[host] {
                    node.handle_timeout(at);
                }
            }
            What::Timer => return true,
            What::Datagram(from, payload) => self.deliver(host, from, &payload),
        }
        self.settle(host);
        true
    }

    fn deliver(&mut self, at: usize, from: SocketAddr, payload: &[u8]) {
        let liar = match &mut self.hosts[at] {
            Host::Honest(node) => return node.handle_datagram(from, payload, self.now),
            Host::Dead => return,
            Host::Liar(liar) => liar.clone(),
        };
        let own = self.addresses[at];
        if let Some(answer) = liar.answer(own, from, payload, &mut self.random) {
            self.send(own, from, answer);
        }
    }

    /// Runs until these look-ups have ended; gives what each came to, in their order.
    pub(crate) fn finish(&mut self, look_ups: &[(usize, LookUp)]) -> Vec<Found> {
        let begun = self.now;
        let limit = self.now + seconds(600);
        let mut from = 0;
        let mut missing: BTreeSet<(usize, LookUp)> = look_ups.iter().copied().collect();
        while !missing.is_empty() {
            assert!(self.step(limit), "seed {:#x}: {} look-ups do not end", self.seed, missing.len());
            for (host, _, event) in &self.events[from..] {
                if let Event::Ended { look_up, .. } = event {
                    missing.remove(&(*host, *look_up));
                }
            }
            from = self.events.len();
        }
        look_ups.iter().map(|(host, look_up)| self.found(*host, *look_up, begun)).collect()
    }

    fn found(&self, host: usize, wanted: LookUp, begun: Instant) -> Found {
        let mut found = Found::default();
        for (_, at, event) in
            self.events.iter().filter(|(at, _, event)| *at == host && event.look_up() == wanted)
        {
            let after = at.duration_since(begun);
            match event {
                Event::Peers { peers, .. } => {
                    found.first.get_or_insert(after);
                    found.peers.extend(peers);
                }
                Event::Item { item, .. } => {
                    found.first.get_or_insert(after);
                    found.items.push(item.clone());
                }
                Event::Ended { outcome, .. } => {
                    found.ended = after;
                    found.outcome = *outcome;
                }
            }
        }
        found
    }

    pub(crate) fn announce(&mut self, at: usize, info_hash: Id) -> Found {
        let look_up = self.with(at, |node, now| node.announce(info_hash, 9979, now));
        self.finish(&[(at, look_up)]).remove(0)
    }

    pub(crate) fn find(&mut self, at: usize, info_hash: Id) -> Found {
        let look_up = self.with(at, |node, now| node.find_peers(info_hash, Urgency::Now, now));
        self.finish(&[(at, look_up)]).remove(0)
    }

    /// Where the peer of host `at` is.
    pub(crate) fn peer(&self, at: usize) -> SocketAddr {
        SocketAddr::new(self.addresses[at].ip(), 9979)
    }

    /// Some of these hosts, none twice.
    pub(crate) fn choose(&mut self, hosts: std::ops::Range<usize>, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = hosts.collect();
        (0..count).map(|_| all.swap_remove(self.random.below(all.len()))).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) first: Option<Duration>,
    pub(crate) ended: Duration,
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) items: Vec<OwnedItem>,
    pub(crate) outcome: Ended,
}

impl Liar {
    fn answer(
        &self,
        own: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
        random: &mut Random,
    ) -> Option<Vec<u8>> {
        let packet = Packet::parse(datagram).ok()?;
        let Body::Query(query) = &packet.body else { return None };
        let target = match query.ask {
            Ask::FindNode { target } | Ask::Get { target, .. } => target,
            Ask::GetPeers { info_hash } => info_hash,
            _ => random.id(),
        };
        let nodes: Vec<Contact> = match self {
            Self::Inventor => (0..32)
                .map(|_| Contact { id: beside(&target, random), address: random.address(Family::V4) })
                .collect(),
            Self::Narcissus => (0..8)
                .map(|port| {
                    let address = SocketAddr::new(own.ip(), 7000 + port);
                    Contact { id: beside(&target, random), address }
                })
                .collect(),
            Self::Conspirator { friends, .. } => friends.clone(),
        };
        let id = match self {
            Self::Conspirator { id, .. } => *id,
            _ => beside(&target, random),
        };
        let reply = Reply { nodes: Some(nodes), token: Some(b"believe!"), ..Reply::default() };
        Some(reply.encode(&id, packet.transaction, from))
    }
}

/// A point that is nearer to `target` than any honest node.
pub(crate) fn beside(target: &Id, random: &mut Random) -> Id {
    let mut bytes = *target.as_bytes();
    bytes[12..].copy_from_slice(&random.next().to_be_bytes());
    Id::new(bytes)
}
