//! A swarm in virtual time: nodes that all want one object, their lines, one mirror, and a tracker in the DHT's place.

mod pieces;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use aptpeer::pieces::{PieceList, PieceSet};
use aptpeer::swarm::{FetchId, Group, PeerFault, PeerKind, Prefer, SourceId, Standing};

use crate::net::{Due, FlowId, Host, Net};
use crate::node::{Fetch, From, Nature, Node};
use crate::object::{Object, Variant};
use crate::plan::Plan;
use crate::random::Random;

/// The variant of a piece that was put together of several.
const MIXED: Variant = Variant::MAX;

/// What a look-up tells, and how many strangers a download has at a time, and of one network.
const TOLD: usize = 32;
const KNOWN: usize = 32;
const PER_NETWORK: usize = 4;

/// A download that knows few looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// After how long a node vanishes or its line slows down, at the earliest and at the latest, and for how long: more than any
/// question waits.
const TROUBLE_AFTER: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(40)];
const TROUBLE_FOR: Duration = Duration::from_secs(20);

/// When a download hears of the first bytes of a walk.
const FIRST_BYTES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(500)];

/// How long a node's download is under way before it is announced.
const EARLY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Event {
    Join(Host),
    LookUpEnds(Host),
    ListComes(Host, SourceId),
    NewsAsked(u64, Host, SourceId, Duration),
    NewsEnds(u64, Host, SourceId),
    Answer(Host, FetchId),
    FlowEnds(Due),
    Heartbeat(Host),
    Tick(Host),
    Announced(Host),
    Hear(Host, FetchId),
    Slower(Host, f64),
    Vanish(Host),
    Return(Host),
}

#[derive(Debug)]
struct Timed(Instant, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) object: Object,
    pub(crate) nodes: Vec<Node>,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    net: Net,
    mirror: Host,
    queue: BinaryHeap<Reverse<Timed>>,
    sequence: u64,
    flows: HashMap<FlowId, (Host, FetchId)>,
    /// Who can be found.
    announced: Vec<Host>,
    random: Random,
    pub(crate) mirror_bytes: f64,
    /// Bytes that peers sent and that came to nothing.
    pub(crate) wasted: f64,
    pub(crate) busy: usize,
    pub(crate) lists: usize,
    pub(crate) events: usize,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let start = Instant::now();
        let mut random = Random(plan.seed);
        let mut world = Self {
            object: Object::new(plan.length),
            nodes: Vec::new(),
            start,
            now: start,
            net: Net::default(),
            mirror: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            flows: HashMap::new(),
            announced: Vec::new(),
            random: Random(random.next()),
            mirror_bytes: 0.0,
            wasted: 0.0,
            busy: 0,
            lists: 0,
            events: 0,
            plan: plan.clone(),
        };
        for host in 0..plan.seeds.len() + plan.nodes {
            let seed = plan.seeds.get(host).copied();
            let (up, down) = (seed.unwrap_or(plan.up), plan.down);
            world.net.add(up, down);
            let nature = if seed.is_some() {
                Nature::Seed
            } else if random.unit() < plan.liars {
                let lie = u32::try_from(host + 1).unwrap();
                if random.below(2) == 0 { Nature::WrongPieces(lie) } else { Nature::WrongList(lie) }
            } else {
                Nature::Honest
            };
            let joins = if seed.is_some() { start } else { start + plan.joining.mul_f64(random.unit()) };
            let network = u32::try_from(if plan.neighbours.is_some() { 0 } else { host + 1 }).unwrap();
            let address =
                Ipv4Addr::from(0x0b00_0000 + network * 256 + u32::try_from(host % 250 + 1).unwrap());
            let leaves = seed.is_none() && random.unit() < plan.leavers;
            world.nodes.push(Node::new(nature, IpAddr::V4(address), joins, leaves, &world.object));
            world.at(joins, Event::Join(host));
        }
        world.plan_troubles();
        world.mirror = world.net.add(plan.mirror.unwrap_or(1.0), 1.0);
        world
    }

    fn plan_troubles(&mut self) {
        let (mut random, [least, most]) = (Random(!self.plan.seed), TROUBLE_AFTER);
        for host in self.plan.seeds.len()..self.nodes.len() {
            let at = self.nodes[host].joins + random.between(least, most);
            if random.unit() < self.plan.vanishing {
                self.at(at, Event::Vanish(host));
            }
            if random.unit() < self.plan.halving {
                self.at(at, Event::Slower(host, self.plan.up / 2.0));
                self.at(at + TROUBLE_FOR, Event::Slower(host, self.plan.up));
            }
        }
    }

    /// After this time the host sends at most so many bytes a second.
    pub(crate) fn slower(&mut self, host: Host, after: Duration, capacity: f64) {
        self.at(self.start + after, Event::Slower(host, capacity));
    }

    /// Runs until everybody who wants the object has it, or the plan's time is over.
    pub(crate) fn run(&mut self) {
        let end = self.start + self.plan.limit;
        let mut missing = self.nodes.iter().filter(|node| node.wants()).count();
        while missing > 0 {
            let Some(Reverse(Timed(when, _, event))) = self.queue.pop() else { return };
            if when > end {
                return;
            }
            self.now = when;
            self.events += 1;
            if let Some(host) = self.happen(event) {
                self.pump(host);
                if self.nodes[host].has_just_finished() {
                    missing -= 1;
                    self.finish(host);
                }
            }
            for due in std::mem::take(&mut self.net.due) {
                self.at(due.at, Event::FlowEnds(due));
            }
        }
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Timed(when, self.sequence, event)));
    }

    /// The time from a question to its answer: 20 to 200 ms, the same for a pair whenever they meet.
    fn round_trip(&self, a: Host, b: Host) -> Duration {
        let pair = (a.min(b) as u64) << 32 | a.max(b) as u64;
        let longest = if self.plan.neighbours.is_some() { 2 } else { 200 };
        let least = longest / 10;
        Duration::from_millis(least + Random(self.plan.seed ^ pair).next() % (longest - least))
    }

    /// Does what happens; says whose download has to decide anew.
    fn happen(&mut self, event: Event) -> Option<Host> {
        match event {
            Event::Join(host) => self.join(host),
            Event::LookUpEnds(host) => self.look_up_ends(host),
            Event::ListComes(host, source) => self.list_comes(host, source),
            Event::NewsAsked(question, host, source, wait) => {
                self.news_asked(question, host, source, wait);
                None
            }
            Event::NewsEnds(question, host, source) => self.news_end(question, host, source),
            Event::Answer(host, fetch) => self.answer(host, fetch),
            Event::FlowEnds(due) => self.flow_ends(due),
            Event::Heartbeat(host) => self.heartbeat(host),
            Event::Tick(host) => {
                let node = &mut self.nodes[host];
                if node.tick != Some(self.now) {
                    return None;
                }
                node.tick = None;
                Some(host)
            }
            Event::Announced(host) => {
                self.announced.push(host);
                None
            }
            Event::Hear(host, fetch) => {
                self.hear(host, fetch);
                self.nodes[host].machine.is_some().then_some(host)
            }
            Event::Slower(host, capacity) => {
                self.net.set_up(host, capacity, self.now);
                None
            }
            Event::Vanish(host) => {
                self.vanish(host);
                None
            }
            Event::Return(host) => {
                self.nodes[host].come_back();
                Some(self.begin(host))
            }
        }
    }

    fn join(&mut self, host: Host) -> Option<Host> {
        if !self.nodes[host].nature.is_honest() {
            self.announced.push(host);
            return None;
        }
        self.at(self.now + self.plan.heartbeat, Event::Heartbeat(host));
        Some(self.begin(host))
    }

    /// Starts a download, where there was one before with what that has left.
    fn begin(&mut self, host: Host) -> Host {
        let seed = self.random.next();
        let mut download = self.nodes[host].start(&self.object, self.plan.prefer, seed, self.now);
        if self.plan.mirror.is_some() {
            download.add_mirror(None);
        }
        download.expect_findings(self.now + Duration::from_secs(10));
        self.nodes[host].machine = Some(download);
        let looks = if self.plan.neighbours.is_some() {
            self.announced.push(host);
            Duration::ZERO
        } else {
            self.random.between(Duration::from_millis(300), Duration::from_secs(2))
        };
        self.at(self.now + looks, Event::LookUpEnds(host));
        host
    }

    fn look_up_ends(&mut self, host: Host) -> Option<Host> {
        if self.nodes[host].finished.is_some() || self.nodes[host].gone {
            return None;
        }
        let candidates = if let Some(most) = self.plan.neighbours {
            (0..self.nodes.len())
                .filter(|other| self.nodes[*other].is_here(self.now))
                .take(most + 1)
                .collect()
        } else {
            let mut told: Vec<Host> = Vec::new();
            for _ in 0..TOLD.min(self.announced.len()) {
                let one = self.announced[self.random.below(self.announced.len())];
                if !told.contains(&one) {
                    told.push(one);
                }
            }
            told
        };
        let alive = self.nodes[host].alive();
        let mut room = KNOWN.max(self.plan.neighbours.unwrap_or(0)).saturating_sub(alive);
        for other in candidates {
            if room > 0 && other != host && self.introduce(host, other) {
                room -= 1;
            }
        }
        let node = &mut self.nodes[host];
        node.machine.as_mut().unwrap().handle_findings_end();
        let again = if self.plan.neighbours.is_some() { Duration::from_secs(1) } else { LOOK_AGAIN };
        self.at(self.now + again, Event::LookUpEnds(host));
        Some(host)
    }

    fn introduce(&mut self, host: Host, other: Host) -> bool {
        let (address, stranger) = (self.nodes[other].address, self.plan.neighbours.is_none());
        let network = Group::of(address);
        let node = &mut self.nodes[host];
        let network = node.networks.entry(network).or_default();
        if node.known.contains_key(&other) || (stranger && *network >= PER_NETWORK) {
            return false;
        }
        *network += 1;
        let kind = if stranger { PeerKind::Stranger } else { PeerKind::Neighbour };
        // As the driver does it: nothing waits for a stranger, unless the mirror is to be spared.
        let doubtful = stranger && self.plan.prefer == Prefer::Speed;
        let standing = Standing { doubtful, ..Standing::default() };
        let source = node.machine.as_mut().unwrap().add_peer(kind, address, standing, self.now);
        node.known.insert(other, source);
        node.peers.insert(source, other);
        true
    }

    fn list_comes(&mut self, host: Host, source: SourceId) -> Option<Host> {
        self.lists += 1;
        let other = *self.nodes[host].peers.get(&source)?;
        let offer = self.offer(other);
        let version = self.nodes[other].version();
        self.nodes[host].told.insert(source, version);
        let machine = self.nodes[host].machine.as_mut()?;
        match offer {
            Some((list, have)) => machine.handle_list(source, list, have, self.now),
            None => machine.handle_list_failure(source, PeerFault::Unreachable),
        }
        Some(host)
    }

    /// A question for news has arrived: it is answered at once where there are any, or waits.
    fn news_asked(&mut self, question: u64, host: Host, source: SourceId, wait: Duration) {
        let Some(other) = self.nodes[host].peers.get(&source).copied() else { return };
        let half = self.round_trip(host, other) / 2;
        let told = self.nodes[host].told.get(&source).copied();
        if !self.nodes[other].is_here(self.now) || Some(self.nodes[other].version()) != told {
            self.at(self.now + half, Event::ListComes(host, source));
        } else {
            self.nodes[other].waiting.push((question, host, source));
            self.at(self.now + wait, Event::NewsEnds(question, host, source));
        }
    }

    fn news_end(&mut self, question: u64, host: Host, source: SourceId) -> Option<Host> {
        let other = *self.nodes[host].peers.get(&source)?;
        let waiting = &mut self.nodes[other].waiting;
        let at = waiting.iter().position(|(of, ..)| *of == question)?;
        waiting.swap_remove(at);
        self.nodes[host].machine.as_mut()?.handle_no_news(source);
        Some(host)
    }

    /// Answers everybody who waits for news of this node.
    fn tell_news(&mut self, host: Host) {
        for (_, who, source) in std::mem::take(&mut self.nodes[host].waiting) {
            self.at(self.now + self.round_trip(host, who) / 2, Event::ListComes(who, source));
        }
    }

    /// What a node says that it has; `None` where it does not answer.
    fn offer(&mut self, host: Host) -> Option<(PieceList, PieceSet)> {
        if !self.nodes[host].is_here(self.now) {
            return None;
        }
        let all = || PieceSet::all(self.object.geometry.pieces());
        match self.nodes[host].nature {
            Nature::WrongList(lie) => Some((self.object.list(lie), all())),
            Nature::Seed | Nature::WrongPieces(_) => Some((self.object.list(0), all())),
            Nature::Honest => Some(self.nodes[host].offer()),
        }
    }

    /// The first byte of what was asked for is due: does it come?
    fn answer(&mut self, host: Host, fetch: FetchId) -> Option<Host> {
        let who = self.nodes[host].fetches.get(&fetch)?.from;
        let (from, length) = match who {
            From::Mirror => (self.mirror, self.nodes[host].fetches[&fetch].left_of_piece(&self.object)),
            From::Node(other) => {
                let piece = self.nodes[host].fetches[&fetch].piece;
                let range = self.nodes[host].fetches[&fetch].range.clone();
                let here = self.nodes[other].is_here(self.now);
                let held = here && self.nodes[other].holds(piece);
                let busy = self.nodes[other].uploads >= self.plan.slots;
                if !held || busy {
                    self.refuse(host, fetch, here, busy);
                    return Some(host);
                }
                self.nodes[other].uploads += 1;
                (other, range.end - range.start)
            }
        };
        let flow = self.net.start(from, host, length, self.now);
        self.flows.insert(flow, (host, fetch));
        let node = &mut self.nodes[host];
        let entry = node.fetches.get_mut(&fetch).unwrap();
        entry.flow = Some(flow);
        let (walk, offset) = (entry.walk.is_some(), entry.offset);
        if walk {
            for after in FIRST_BYTES {
                self.at(self.now + after, Event::Hear(host, fetch));
            }
        }
        let node = &mut self.nodes[host];
        let machine = node.machine.as_mut().unwrap();
        if !walk {
            machine.handle_answered(fetch);
            machine.handle_begun(fetch, self.now);
        }
        machine.handle_progress(fetch, offset, 0, self.now);
        Some(host)
    }

    fn refuse(&mut self, host: Host, fetch: FetchId, here: bool, busy: bool) {
        let node = &mut self.nodes[host];
        node.fetches.remove(&fetch);
        let machine = node.machine.as_mut().unwrap();
        if !here {
            machine.handle_piece_failure(fetch, PeerFault::Unreachable);
        } else if busy {
            self.busy += 1;
            machine.handle_busy(fetch, self.now);
        } else {
            machine.handle_piece_not_held(fetch);
        }
    }

    fn flow_ends(&mut self, due: Due) -> Option<Host> {
        if !self.net.is_due(due) {
            return None;
        }
        let (host, fetch) = self.flows[&due.flow];
        self.hear(host, fetch);
        self.stop_flow(host, fetch);
        let node = &mut self.nodes[host];
        let entry = node.fetches.get_mut(&fetch)?;
        entry.flow = None;
        if entry.walk.is_some() {
            self.walked(host, fetch);
        } else {
            self.piece_came(host, fetch);
        }
        Some(host)
    }

    /// A walk came to the end of a piece.
    fn walked(&mut self, host: Host, fetch: FetchId) {
        let (object, now) = (&self.object, self.now);
        let node = &mut self.nodes[host];
        let Some(entry) = node.fetches.get_mut(&fetch) else { return };
        let variant = match entry.from {
            From::Mirror => 0,
            From::Node(_) => unreachable!("nobody walks peers here"),
        };
        let piece = entry.piece;
        let led = object.led(entry.start, piece, variant);
        let whole = !node.machine.as_ref().unwrap().ledger().is_linked(piece);
        if whole {
            node.content[piece as usize] = Some(variant);
        }
        entry.offset = object.geometry.range(piece).end;
        let goes_on = entry.offset < entry.walk.unwrap();
        if goes_on {
            entry.piece += 1;
            if let aptpeer::pieces::End::State(next) = led {
                entry.start = next;
            }
        }
        let (offset, piece) = (entry.offset, entry.piece);
        let machine = node.machine.as_mut().unwrap();
        machine.handle_progress(fetch, offset, 0, now);
        machine.handle_walked(fetch, led, whole);
        if !goes_on {
            node.fetches.remove(&fetch);
            return;
        }
        let range = object.geometry.range(piece);
        let flow = self.net.start(self.mirror, host, range.end - range.start, now);
        node.fetches.get_mut(&fetch).unwrap().flow = Some(flow);
        self.flows.insert(flow, (host, fetch));
    }

    fn heartbeat(&mut self, host: Host) -> Option<Host> {
        if self.nodes[host].finished.is_some() {
            return None;
        }
        let running: Vec<FetchId> = self.nodes[host].fetches.keys().copied().collect();
        running.into_iter().for_each(|fetch| self.hear(host, fetch));
        self.at(self.now + self.plan.heartbeat, Event::Heartbeat(host));
        Some(host)
    }

    /// Tells the download how far a fetch has come.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn hear(&mut self, host: Host, fetch: FetchId) {
        let node = &mut self.nodes[host];
        let Some(Fetch { flow: Some(flow), told, offset, .. }) = node.fetches.get_mut(&fetch) else { return };
        let done = self.net.done(*flow, self.now) as u64;
        let new = done.saturating_sub(*told);
        if new > 0 {
            *told = done;
            let offset = *offset + done;
            node.machine.as_mut().unwrap().handle_progress(fetch, offset, new, self.now);
        }
    }

    /// Ends the transfer behind a fetch, done or not.
    fn stop_flow(&mut self, host: Host, fetch: FetchId) {
        let Some(entry) = self.nodes[host].fetches.get_mut(&fetch) else { return };
        let Some(flow) = entry.flow.take() else { return };
        entry.told = 0;
        let (from, range) = (entry.from, entry.range.clone());
        self.flows.remove(&flow);
        let bytes = self.net.end(flow, self.now);
        match from {
            From::Mirror => self.mirror_bytes += bytes,
            From::Node(other) => {
                self.nodes[other].uploads -= 1;
                #[allow(clippy::cast_precision_loss)]
                if bytes + 1.0 < (range.end - range.start) as f64 {
                    self.wasted += bytes;
                }
            }
        }
    }

    /// Lets a download decide, and does what it orders.
    fn pump(&mut self, host: Host) {
        self.tell_positions(host);
        let Some(machine) = self.nodes[host].machine.as_mut() else { return };
        machine.handle_timeout(self.now);
        while let Some(order) = self.nodes[host].machine.as_mut().unwrap().poll_order() {
            self.carry_out(host, order);
        }
        let node = &mut self.nodes[host];
        node.note(self.now);
        let machine = node.machine.as_mut().unwrap();
        if let Some(at) = machine.next_timeout(self.now) {
            let at = at.max(self.now + Duration::from_millis(1));
            if node.tick.is_none_or(|before| before > at || before <= self.now) {
                node.tick = Some(at);
                self.at(at, Event::Tick(host));
            }
        }
        let node = &mut self.nodes[host];
        let version = node.version();
        if std::mem::replace(&mut node.shown, version) != version {
            self.tell_news(host);
        }
        let node = &mut self.nodes[host];
        if self.plan.neighbours.is_none() && !node.announced {
            node.announced = true;
            let takes = EARLY + self.random.between(Duration::from_millis(500), Duration::from_secs(2));
            self.at(self.now + takes, Event::Announced(host));
        }
    }

    fn carry_out(&mut self, host: Host, order: aptpeer::swarm::Order) {
        use aptpeer::swarm::{Order, Walker};
        match order {
            Order::AskList(source) => {
                let other = self.nodes[host].peers[&source];
                self.at(self.now + self.round_trip(host, other), Event::ListComes(host, source));
            }
            Order::AwaitNews(source, wait) => {
                let other = self.nodes[host].peers[&source];
                let arrives = self.now + self.round_trip(host, other) / 2;
                self.sequence += 1;
                self.at(arrives, Event::NewsAsked(self.sequence, host, source, wait));
            }
            Order::FetchPart { fetch, source, piece, helps, cut, range } => {
                let other = self.nodes[host].peers[&source];
                self.start_part(host, fetch, cut, Fetch::part(other, piece, helps, range));
            }
            Order::Compare { source, range, digest } => {
                let piece = self.object.geometry.piece_at(range.start);
                let here = self.nodes[host].content[piece as usize].unwrap();
                if self.object.digest_of(&range, here) != digest {
                    self.nodes[host].machine.as_mut().unwrap().handle_other_bytes(source);
                }
            }
            Order::FetchPiece { fetch, source, piece, range, start, expected } => {
                let other = self.nodes[host].peers[&source];
                let entry = Fetch::piece(other, piece, range, start, expected);
                self.nodes[host].fetches.insert(fetch, entry);
                self.nodes[host].machine.as_mut().unwrap().handle_begun(fetch, self.now);
                self.at(self.now + self.round_trip(host, other), Event::Answer(host, fetch));
            }
            Order::Walk { fetch, walker: Walker::Mirror, range, start } => {
                let piece = self.object.geometry.piece_at(range.start);
                self.nodes[host].fetches.insert(fetch, Fetch::walk(piece, range, start));
                self.at(self.now + self.round_trip(host, self.mirror), Event::Answer(host, fetch));
            }
            Order::Walk { fetch, .. } => {
                // For want of a list and a mirror; no plan has that.
                let machine = self.nodes[host].machine.as_mut().unwrap();
                machine.handle_walk_failure(fetch, PeerFault::ServerError);
            }
            Order::Cancel(fetch) => {
                self.stop_flow(host, fetch);
                self.nodes[host].fetches.remove(&fetch);
            }
            Order::Reopen(piece) => self.nodes[host].content[piece as usize] = None,
        }
    }

    fn finish(&mut self, host: Host) {
        let node = &mut self.nodes[host];
        assert!(
            node.content.iter().all(|variant| *variant == Some(0)),
            "seed {}: a wrong file",
            self.plan.seed
        );
        if !node.leaves {
            return;
        }
        node.gone = true;
        self.cut_off(host);
    }

    /// The node goes away in the middle of its download, and keeps what it can go on with.
    fn vanish(&mut self, host: Host) {
        if self.nodes[host].machine.is_none() || self.nodes[host].finished.is_some() {
            return;
        }
        let fetches: Vec<FetchId> = self.nodes[host].fetches.keys().copied().collect();
        fetches.into_iter().for_each(|fetch| self.stop_flow(host, fetch));
        self.nodes[host].go_away(TROUBLE_FOR, self.now);
        self.cut_off(host);
        self.at(self.now + TROUBLE_FOR, Event::Return(host));
    }

    /// Ends whatever the node sends.
    fn cut_off(&mut self, host: Host) {
        self.tell_news(host);
        let mut lost: Vec<(Host, FetchId)> = self.flows.values().copied().collect();
        lost.retain(|(host_of, fetch)| self.nodes[*host_of].fetches[fetch].from == From::Node(host));
        lost.sort_unstable();
        for (receiver, fetch) in lost {
            self.stop_flow(receiver, fetch);
            let node = &mut self.nodes[receiver];
            node.fetches.remove(&fetch);
            node.machine.as_mut().unwrap().handle_piece_failure(fetch, PeerFault::Short);
            self.pump(receiver);
        }
    }
}
