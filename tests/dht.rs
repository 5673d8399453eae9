//! Whole networks of DHT nodes in virtual time: what is announced is found, whoever dies, lies or loses datagrams.
//!
//! The figures that docs quote are printed: `cargo test --test dht -- --nocapture`.
#![allow(clippy::unwrap_used)]

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aptpeer::dht::message::{Ask, Body, Packet, Query, Reply};
use aptpeer::dht::{
    Contact, Ended, Event, Family, Id, Limits, LookUp, Node, NodeConfig, OwnedItem, Signer, Urgency,
};

const SEED: u64 = 0x5eed_0042;

const BACKGROUND_RATE: u32 = 50;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// SplitMix64.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn id(&mut self) -> Id {
        let mut bytes = [0; 20];
        bytes.iter_mut().for_each(|byte| *byte = self.next().to_be_bytes()[0]);
        Id::new(bytes)
    }

    /// Somewhere in the world, never the same network twice for all practical purposes.
    fn address(&mut self, family: Family) -> SocketAddr {
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
enum Host {
    Honest(Box<Node>),
    Dead,
    Liar(Liar),
}

/// Answers every question, never rightly.
#[derive(Clone)]
enum Liar {
    /// Names 32 nodes right at the target that are not there.
    Inventor,
    /// Names itself under eight names right at the target.
    Narcissus,
    /// Says only that the node is known by this id; names its friends; takes what is announced and keeps it to itself.
    Conspirator { id: Id, friends: Vec<Contact> },
}

struct Net {
    seed: u64,
    family: Family,
    random: Random,
    now: Instant,
    hosts: Vec<Host>,
    addresses: Vec<SocketAddr>,
    by_address: HashMap<SocketAddr, usize>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize, What)>>,
    queued: u64,
    timers: Vec<Option<Instant>>,
    /// Of 100 datagrams, so many are lost.
    loss: u64,
    events: Vec<(usize, Instant, Event)>,
    /// Datagrams that reached nobody.
    astray: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Timer,
    Datagram(SocketAddr, Vec<u8>),
}

impl Net {
    fn new(seed: u64) -> Self {
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

    /// `count` nodes that all know the first alone, two minutes after the last one came.
    fn of(count: usize, seed: u64) -> Self {
        Self::grown(Self::new(seed), count)
    }

    fn grown(mut net: Self, count: usize) -> Self {
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

    fn config(&mut self) -> NodeConfig {
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

    fn add_node(&mut self) -> usize {
        let config = self.config();
        self.add_node_with(config)
    }

    fn add_node_with(&mut self, config: NodeConfig) -> usize {
        let address = self.random.address(self.family);
        let node = Node::new(config, self.now);
        self.add(address, Host::Honest(Box::new(node)))
    }

    fn add(&mut self, address: SocketAddr, host: Host) -> usize {
        self.hosts.push(host);
        self.addresses.push(address);
        self.timers.push(None);
        self.by_address.insert(address, self.hosts.len() - 1);
        self.settle(self.hosts.len() - 1);
        self.hosts.len() - 1
    }

    fn node(&self, at: usize) -> &Node {
        match &self.hosts[at] {
            Host::Honest(node) => node,
            _ => panic!("seed {:#x}: host {at} is no node", self.seed),
        }
    }

    fn with<T>(&mut self, at: usize, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
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
            std::net::IpAddr::V4(v4) => u64::from(v4.to_bits()),
            std::net::IpAddr::V6(v6) => v6.to_bits() as u64,
        };
        Duration::from_millis(5 + Random(self.seed ^ (bits(a) + bits(b))).next() % 146)
    }

    fn run(&mut self, duration: Duration) {
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
    fn finish(&mut self, look_ups: &[(usize, LookUp)]) -> Vec<Found> {
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

    fn announce(&mut self, at: usize, info_hash: Id) -> Found {
        let look_up = self.with(at, |node, now| node.announce(info_hash, 9979, now));
        self.finish(&[(at, look_up)]).remove(0)
    }

    fn find(&mut self, at: usize, info_hash: Id) -> Found {
        let look_up = self.with(at, |node, now| node.find_peers(info_hash, Urgency::Now, now));
        self.finish(&[(at, look_up)]).remove(0)
    }

    /// Where the peer of host `at` is.
    fn peer(&self, at: usize) -> SocketAddr {
        SocketAddr::new(self.addresses[at].ip(), 9979)
    }

    /// Some of these hosts, none twice.
    fn choose(&mut self, hosts: std::ops::Range<usize>, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = hosts.collect();
        (0..count).map(|_| all.swap_remove(self.random.below(all.len()))).collect()
    }
}

#[derive(Debug, Default)]
struct Found {
    first: Option<Duration>,
    ended: Duration,
    peers: Vec<SocketAddr>,
    items: Vec<OwnedItem>,
    outcome: Ended,
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
fn beside(target: &Id, random: &mut Random) -> Id {
    let mut bytes = *target.as_bytes();
    bytes[12..].copy_from_slice(&random.next().to_be_bytes());
    Id::new(bytes)
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn mean(values: impl Iterator<Item = u32>) -> f64 {
    let values: Vec<f64> = values.map(f64::from).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// 20 announce, everybody looks for one of the 20.
#[test]
fn every_node_finds_what_any_other_announced() {
    let mut net = Net::of(200, SEED);
    let known: Vec<usize> = (0..200).map(|at| net.node(at).status(net.now).good_nodes).collect();
    println!(
        "200 nodes after two minutes: tables of {} to {} good nodes",
        known.iter().min().unwrap(),
        known.iter().max().unwrap()
    );
    assert!(known.iter().all(|known| *known >= 16), "seed {SEED:#x}: {known:?}");
    for at in 0..200 {
        let status = net.node(at).status(net.now);
        assert_eq!(status.external, Some(net.addresses[at].ip()), "seed {SEED:#x}");
        assert!(status.id.fits_address(net.addresses[at].ip()), "seed {SEED:#x}: BEP 42");
    }

    let announcers = net.choose(0..200, 20);
    let hashes: Vec<Id> = announcers.iter().map(|_| net.random.id()).collect();
    let announced: Vec<Found> =
        announcers.iter().zip(&hashes).map(|(at, hash)| net.announce(*at, *hash)).collect();
    assert!(announced.iter().all(|found| found.outcome.stored == 8), "seed {SEED:#x}: {announced:?}");

    let look_ups: Vec<(usize, LookUp)> = (0..200)
        .map(|at| (at, net.with(at, |node, now| node.find_peers(hashes[at % 20], Urgency::Now, now))))
        .collect();
    let found = net.finish(&look_ups);
    for (at, found) in found.iter().enumerate() {
        assert_eq!(found.peers, [net.peer(announcers[at % 20])], "seed {SEED:#x}: node {at}: {found:?}");
    }
    let firsts: Vec<Duration> = found.iter().map(|found| found.first.unwrap()).collect();
    let (announce, look_up) = (
        mean(announced.iter().map(|found| found.outcome.datagrams)),
        mean(found.iter().map(|found| found.outcome.datagrams)),
    );
    println!(
        "200 nodes, all well: {announce:.0} datagrams an announce, {look_up:.0} a look-up; first value after {:?} \
         (median), {:?} (worst); end after {:?} (median)",
        median(firsts.clone()),
        firsts.iter().max().unwrap(),
        median(found.iter().map(|found| found.ended).collect()),
    );
    assert!(announce < 70.0 && look_up < 50.0, "seed {SEED:#x}");
    assert!(firsts.iter().all(|first| *first < Duration::from_millis(1500)), "seed {SEED:#x}");
}

#[test]
fn announcing_again_is_cheap_and_so_is_rest() {
    let mut net = Net::of(60, SEED + 13);
    let hash = net.random.id();
    let first = net.announce(5, hash);
    let again = net.announce(5, hash);
    net.run(seconds(25 * 60));
    let later = net.announce(5, hash);
    net.run(seconds(90 * 60));
    let anew = net.announce(5, hash);
    let all = [&first, &again, &later, &anew];
    let [first, again, later, anew] = all.map(|found| found.outcome.datagrams);
    println!(
        "60 nodes: {first} datagrams an announce; {again} for another at once, {later} after 25 minutes, {anew} after \
         two hours"
    );
    assert!(all.iter().all(|found| found.outcome.stored == 8), "seed {:#x}: {all:?}", net.seed);
    assert!(again <= 16 && later <= 40, "seed {:#x}", net.seed);

    let sent = |net: &Net| (0..60).map(|at| net.node(at).status(net.now).sent).sum::<u64>();
    let before = sent(&net);
    net.run(seconds(1800));
    let each = (sent(&net) - before) as f64 / 60.0 / 1800.0;
    println!("60 nodes at rest: each sends {each:.2} datagrams a second");
    assert!(each < 0.5, "seed {:#x}", net.seed);
}

#[test]
fn what_was_announced_is_found_in_time_with_two_fifths_of_the_nodes_dead() {
    let mut net = Net::of(200, SEED + 1);
    let announcers = net.choose(0..100, 20);
    let hashes: Vec<Id> = announcers.iter().map(|_| net.random.id()).collect();
    announcers.iter().zip(&hashes).for_each(|(at, hash)| {
        net.announce(*at, *hash);
    });
    for at in net.choose(100..200, 80) {
        net.hosts[at] = Host::Dead;
    }
    let seekers: Vec<usize> = (0..100).collect();
    let mut found = Vec::new();
    for at in seekers {
        found.push((at, net.find(at, hashes[at % 20])));
    }
    for (at, found) in &found {
        assert_eq!(
            found.peers,
            [net.peer(announcers[at % 20])],
            "seed {:#x}: node {at}: {found:?}",
            net.seed
        );
        assert!(found.first.unwrap() < Duration::from_millis(1500), "seed {:#x}: {found:?}", net.seed);
        assert!(found.ended < seconds(6), "seed {:#x}: {found:?}", net.seed);
    }
    let firsts: Vec<Duration> = found.iter().map(|(_, found)| found.first.unwrap()).collect();
    println!(
        "200 nodes, 80 of them just dead: {:.0} datagrams a look-up; first value after {:?} (median), {:?} (worst); \
         end after {:?} (median), {:?} (worst)",
        mean(found.iter().map(|(_, found)| found.outcome.datagrams)),
        median(firsts.clone()),
        firsts.iter().max().unwrap(),
        median(found.iter().map(|(_, found)| found.ended).collect()),
        found.iter().map(|(_, found)| found.ended).max().unwrap(),
    );
}

#[test]
fn one_datagram_in_ten_may_be_lost() {
    let mut net = Net::of(100, SEED + 2);
    net.loss = 10;
    let mut stored = Vec::new();
    for at in 0..100 {
        let hash = net.random.id();
        stored.push(net.announce(at, hash).outcome.stored);
        let found = net.find((at + 37) % 100, hash);
        assert_eq!(found.peers, [net.peer(at)], "seed {:#x}: {found:?}", net.seed);
    }
    println!("100 nodes, 10 % lost: {:.1} of 8 nodes take an announce", mean(stored.into_iter()));
}

#[test]
fn liars_lead_nobody_about() {
    let mut net = Net::of(100, SEED + 3);
    for (n, at) in net.choose(50..100, 20).into_iter().enumerate() {
        net.hosts[at] = Host::Liar(if n % 2 == 0 { Liar::Inventor } else { Liar::Narcissus });
    }
    let mut found = Vec::new();
    for at in 0..50 {
        let hash = net.random.id();
        net.announce(at, hash);
        found.push(net.find((at + 7) % 50, hash));
        let last = found.last().unwrap();
        assert_eq!(last.peers, [net.peer(at)], "seed {:#x}: {last:?}", net.seed);
        assert!(last.outcome.asked <= 80 && last.ended < seconds(20), "seed {:#x}: {last:?}", net.seed);
    }
    println!(
        "100 nodes, 20 of them liars: {:.0} datagrams a look-up, {:?} (median) to its end",
        mean(found.iter().map(|found| found.outcome.datagrams)),
        median(found.iter().map(|found| found.ended).collect()),
    );
}

/// 24 nodes of one mind sit right at the info-hash before anything is announced. They give no values and take
/// announces only to drop them.
#[test]
fn whoever_surrounds_an_info_hash_does_not_hide_it() {
    let mut net = Net::of(100, SEED + 4);
    let hash = net.random.id();
    let friends: Vec<Contact> = (0..24)
        .map(|_| Contact { id: beside(&hash, &mut net.random), address: net.random.address(Family::V4) })
        .collect();
    for friend in &friends {
        let friends = friends.iter().take(16).copied().collect();
        net.add(friend.address, Host::Liar(Liar::Conspirator { id: friend.id, friends }));
    }
    let addresses: Vec<SocketAddr> = friends.iter().map(|friend| friend.address).collect();
    for at in 0..100 {
        let addresses = addresses.clone();
        net.with(at, |node, now| node.add_nodes(addresses, now));
    }
    net.run(seconds(60));
    let announced = net.announce(3, hash);
    let mut lucky = 0;
    for at in 10..60 {
        lucky += usize::from(net.find(at, hash).peers.contains(&net.peer(3)));
    }
    println!(
        "100 nodes, 24 conspirators around the target: announced to {}, found by {lucky} of 50",
        announced.outcome.stored
    );
    assert_eq!(lucky, 50, "seed {:#x}", net.seed);
}

#[test]
fn a_node_with_saved_nodes_needs_no_bootstrap_node() {
    let mut net = Net::of(60, SEED + 5);
    let saved: Vec<SocketAddr> = net.node(30).good_nodes().iter().map(|node| node.address).collect();
    let hash = net.random.id();
    net.announce(7, hash);
    net.hosts[0] = Host::Dead;
    net.hosts[30] = Host::Dead;
    for address in saved.iter().take(saved.len() / 3) {
        let at = net.by_address[address];
        if at != 7 {
            net.hosts[at] = Host::Dead;
        }
    }
    let again = net.add_node();
    net.with(again, |node, now| node.add_nodes(saved, now));
    let found = net.find(again, hash);
    assert_eq!(found.peers, [net.peer(7)], "seed {:#x}: at once: {found:?}", net.seed);
    net.run(seconds(30));
    assert!(net.node(again).status(net.now).good_nodes >= 16, "seed {:#x}", net.seed);
}

#[test]
fn a_network_that_went_away_is_found_again_without_help() {
    let mut net = Net::of(40, SEED + 6);
    let hash = net.random.id();
    net.announce(7, hash);
    net.loss = 100;
    for _ in 0..3 {
        let found = net.find(20, hash);
        assert!(found.peers.is_empty() && found.ended < seconds(60), "seed {:#x}: {found:?}", net.seed);
    }
    net.run(seconds(3600));
    assert_eq!(net.node(20).status(net.now).good_nodes, 0, "seed {:#x}", net.seed);
    assert!(net.node(20).good_nodes().len() >= 8, "seed {:#x}: they are still worth saving", net.seed);
    let before = net.node(20).status(net.now).sent;
    net.run(seconds(3600));
    let sent = net.node(20).status(net.now).sent - before;
    println!("alone for the second hour: {sent} datagrams");
    assert!(sent < 3600, "seed {:#x}: {sent}", net.seed);
    net.loss = 0;
    net.run(seconds(360));
    let good = net.node(20).status(net.now).good_nodes;
    assert!(good >= 8, "seed {:#x}: {good}", net.seed);
    net.announce(7, hash);
    assert_eq!(net.find(20, hash).peers, [net.peer(7)], "seed {:#x}", net.seed);
}

#[test]
fn a_first_look_up_goes_by_the_bootstrap_node_alone() {
    let mut net = Net::of(60, SEED + 7);
    let hash = net.random.id();
    net.announce(7, hash);
    let new = net.add_node();
    let first = net.addresses[0];
    net.with(new, |node, now| node.add_nodes([first], now));
    let found = net.find(new, hash);
    assert_eq!(found.peers, [net.peer(7)], "seed {:#x}: {found:?}", net.seed);
}

#[test]
fn ipv6_is_a_network_of_its_own() {
    let mut net = Net::grown(Net { family: Family::V6, ..Net::new(SEED + 14) }, 40);
    for at in 0..40 {
        let status = net.node(at).status(net.now);
        assert!(status.id.fits_address(net.addresses[at].ip()), "seed {:#x}: BEP 42", net.seed);
        assert!(status.good_nodes >= 8, "seed {:#x}: {status:?}", net.seed);
    }
    let hash = net.random.id();
    net.announce(7, hash);
    assert_eq!(net.find(20, hash).peers, [net.peer(7)], "seed {:#x}", net.seed);
    let before = net.node(20).status(net.now).sent;
    net.with(20, |node, now| node.add_nodes(["60.1.1.1:1".parse().unwrap()], now));
    assert_eq!(net.node(20).status(net.now).sent, before, "IPv4 is no concern of it");
}

/// BEP 43.
#[test]
fn a_read_only_node_asks_but_is_asked_by_nobody() {
    let mut net = Net::of(40, SEED + 15);
    let hash = net.random.id();
    net.announce(7, hash);
    let config = NodeConfig { read_only: true, ..net.config() };
    let reader = net.add_node_with(config);
    let first = net.addresses[0];
    net.with(reader, |node, now| node.add_nodes([first], now));
    net.run(seconds(300));
    assert_eq!(net.find(reader, hash).peers, [net.peer(7)], "seed {:#x}", net.seed);
    let own = net.addresses[reader];
    for at in 0..40 {
        let knows = net.node(at).good_nodes().iter().any(|node| node.address == own);
        assert!(!knows, "seed {:#x}: node {at}", net.seed);
    }
    let ping = Query { id: Id::new([1; 20]), read_only: false, ask: Ask::Ping, want: None }.encode(b"xy");
    let before = net.node(reader).status(net.now).sent;
    net.with(reader, |node, now| node.handle_datagram("60.1.1.1:1".parse().unwrap(), &ping, now));
    assert!(net.node(reader).status(net.now).sent <= before + 1, "a ping at most, no answer");
}

/// Nodes that only ever hear of each other because one asked the other.
#[test]
fn nodes_learn_from_those_who_ask_them() {
    let mut net = Net::new(SEED + 16);
    let first = net.add_node();
    let address = net.addresses[first];
    for _ in 0..8 {
        let node = net.add_node();
        net.with(node, |node, now| node.add_nodes([address], now));
    }
    net.run(seconds(30));
    assert_eq!(net.node(first).status(net.now).good_nodes, 8, "seed {:#x}", net.seed);
    net.run(seconds(600));
    for at in 0..9 {
        assert_eq!(net.node(at).status(net.now).good_nodes, 8, "seed {:#x}: node {at}", net.seed);
    }
}

#[test]
fn many_look_ups_at_once_are_answered_as_soon_as_one() {
    let mut net = Net::of(60, SEED + 17);
    for at in net.choose(30..60, 20) {
        net.hosts[at] = Host::Dead;
    }
    let hashes: Vec<Id> = (0..64).map(|_| net.random.id()).collect();
    for (n, hash) in hashes.iter().enumerate() {
        net.announce(n % 30, *hash);
    }
    let look_ups: Vec<(usize, LookUp)> = hashes
        .iter()
        .map(|hash| (9, net.with(9, |node, now| node.find_peers(*hash, Urgency::Now, now))))
        .collect();
    let found = net.finish(&look_ups);
    let firsts: Vec<Duration> = found.iter().map(|found| found.first.unwrap()).collect();
    println!(
        "60 nodes, 20 of them dead, 64 look-ups at once: first value after {:?} (median), {:?} (worst)",
        median(firsts.clone()),
        firsts.iter().max().unwrap()
    );
    assert!(firsts.iter().all(|first| *first < Duration::from_millis(1500)), "seed {:#x}", net.seed);
}

#[test]
fn who_knows_nobody_is_told_so_at_once() {
    let mut net = Net::new(SEED + 8);
    let alone = net.add_node();
    let hash = net.random.id();
    let found = net.find(alone, hash);
    assert_eq!((found.outcome, found.ended), (Ended::default(), Duration::ZERO));
    let announced = net.announce(alone, hash);
    assert_eq!(announced.outcome, Ended::default());
}

#[test]
fn values_are_stored_and_found_by_others_only_if_they_are_right() {
    let mut net = Net::of(60, SEED + 9);
    let immutable = OwnedItem::immutable(b"5:hello").unwrap();
    let signer = Signer::from_seed(&[7; 32]).unwrap();
    let mutable = signer.sign(b"5:world", b"salt", 3).unwrap();
    for item in [&immutable, &mutable] {
        let look_up = net.with(5, |node, now| node.store_item(item.clone(), now));
        let stored = net.finish(&[(5, look_up)]).remove(0);
        assert_eq!(stored.outcome.stored, 8, "seed {:#x}: {stored:?}", net.seed);
        println!("60 nodes: {} datagrams a store", stored.outcome.datagrams);
    }
    let find = |net: &mut Net, target, salt: &[u8]| {
        let look_up = net.with(40, |node, now| node.find_item(target, salt.to_vec(), Urgency::Now, now));
        net.finish(&[(40, look_up)]).remove(0)
    };
    assert_eq!(find(&mut net, immutable.target(), b"").items, [immutable], "seed {SEED:#x}");
    assert_eq!(
        find(&mut net, mutable.target(), b"salt").items,
        std::slice::from_ref(&mutable),
        "seed {SEED:#x}"
    );
    assert!(find(&mut net, mutable.target(), b"pepper").items.is_empty(), "seed {SEED:#x}");
}

#[test]
fn look_ups_of_one_info_hash_do_not_disturb_each_other() {
    let mut net = Net::of(60, SEED + 10);
    let hash = net.random.id();
    net.announce(7, hash);
    let at = 33;
    let mut look_ups = vec![(at, net.with(at, |node, now| node.announce(hash, 1234, now)))];
    for urgency in [Urgency::Now, Urgency::Background, Urgency::Now] {
        look_ups.push((at, net.with(at, |node, now| node.find_peers(hash, urgency, now))));
    }
    let cancelled = net.with(at, |node, now| node.find_peers(hash, Urgency::Now, now));
    net.with(at, |node, _| node.cancel(cancelled));
    let found = net.finish(&look_ups);
    assert!(found.iter().all(|found| found.peers.contains(&net.peer(7))), "seed {:#x}: {found:?}", net.seed);
    assert_eq!(found[0].outcome.stored, 8, "seed {:#x}", net.seed);
    assert!(net.events.iter().all(|(host, _, event)| *host != at || event.look_up() != cancelled));
}

#[test]
fn no_more_look_ups_than_the_limit_are_under_way() {
    let mut net = Net::of(20, SEED + 11);
    let look_ups: Vec<(usize, LookUp)> = (0..100)
        .map(|_| {
            let hash = net.random.id();
            (3, net.with(3, |node, now| node.find_peers(hash, Urgency::Background, now)))
        })
        .collect();
    assert!(net.node(3).status(net.now).look_ups <= 64);
    let begun = net.now;
    let found = net.finish(&look_ups);
    let refused = found.iter().filter(|found| found.outcome == Ended::default()).count();
    assert!((1..=36).contains(&refused), "seed {:#x}: {refused}", net.seed);
    let sent: u32 = found.iter().map(|found| found.outcome.datagrams.div_ceil(2)).sum();
    let rate = f64::from(sent) / net.now.duration_since(begun).as_secs_f64();
    assert!(rate <= f64::from(BACKGROUND_RATE) * 1.1, "seed {:#x}: {rate} a second", net.seed);
}

/// Strangers by the thousand: queries with made-up senders, answers that nobody asked for, rubbish.
#[test]
fn a_flood_fills_nothing() {
    let mut net = Net::of(20, SEED + 12);
    let hash = net.random.id();
    net.announce(7, hash);
    let mut look_up = None;
    let mut random = Random(SEED + 12);
    let (known, sent) = (net.node(3).status(net.now).known_nodes, net.node(3).status(net.now).sent);
    let mut pings = 0;
    for n in 0..20_000 {
        let from = random.address(Family::V4);
        let ask = match n % 3 {
            0 => Ask::Ping,
            1 => Ask::FindNode { target: random.id() },
            _ => Ask::GetPeers { info_hash: random.id() },
        };
        let query = Query { id: random.id(), read_only: n % 7 == 0, ask, want: None };
        let datagram = match n % 5 {
            0 => Reply::default().encode(&random.id(), &random.next().to_be_bytes()[..4], from),
            1 => b"A\x01\x00\x00utp".to_vec(),
            _ => query.encode(&random.next().to_be_bytes()[..2]),
        };
        let now = net.now;
        let Host::Honest(node) = &mut net.hosts[3] else { unreachable!() };
        node.handle_datagram(from, &datagram, now);
        while let Some(transmit) = node.poll_transmit() {
            let packet = Packet::parse(&transmit.payload).unwrap();
            pings += u32::from(matches!(packet.body, Body::Query(_)));
        }
        if n % 100 == 0 {
            net.run(Duration::from_millis(50));
        }
        if n == 10_000 {
            look_up = Some(net.with(3, |node, now| node.find_peers(hash, Urgency::Now, now)));
        }
    }
    let found = net.finish(&[(3, look_up.unwrap())]).remove(0);
    assert_eq!(found.peers, [net.peer(7)], "a flood does not keep our own answers out");
    let status = net.node(3).status(net.now);
    println!("after a flood of 20,000 in 10 s: {status:?}");
    assert!(pings <= 40, "{pings} strangers were pinged");
    assert_eq!(status.known_nodes, known, "who answers no ping does not enter");
    assert!(status.queries <= 256 && status.rubbish + status.refused > 15_000, "{status:?}");
    assert!(status.sent - sent < 3_000, "250 answers a second at most: {status:?}");
}
