//! The task behind the handle: sockets, time, names and the saved file for the machines; answers for those who asked.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::Provider;
use super::super::look_up::{Asked, Finder, Found};
use super::lane::Lane;
use super::quest::{Key, Lists, Step};
use super::saved::Saved;
use super::{Command, DhtConfig, DhtStatus, Names, WAITING};
use crate::clock;
use crate::dht::{
    Ended, Event, Family, Id, LookUp, Node, NodeConfig, OwnedItem, Signer, Urgency, mutable_target,
};
use crate::digest::{InfoHash, Sha256};
use crate::metrics::Metrics;
use crate::swarm::PeerKind;
use crate::wire::{list_seed, listed_states};

/// How often the status is told, and what nobody waits for any more is given up.
const UPKEEP: Duration = Duration::from_secs(1);

/// How often the good nodes are saved.
const SAVE: Duration = Duration::from_secs(300);

/// The pause before names are resolved again while no node answers; it doubles each time.
const FIRST_RESOLVE: Duration = Duration::from_secs(2);
const LAST_RESOLVE: Duration = Duration::from_secs(120);
const LAST_RESOLVE_OF_ONE: Duration = Duration::from_secs(3600);

/// Chunks of one list that are asked for at a time.
const CHUNKS_AT_ONCE: usize = 4;

/// The task of the DHT; [`Driver::run`] is to be awaited by whoever owns it.
pub struct Driver {
    lanes: Vec<Lane>,
    inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<Arc<DhtStatus>>,
    bootstrap: Names,
    state: Option<PathBuf>,
    saved: Vec<SocketAddr>,
    knows_a_way: bool,
    publishers: Vec<[u8; 32]>,
    metrics: Metrics,
    /// The port that is announced as ours; before the first announce that of the socket, which is meant to be the same.
    own_port: Option<u16>,
    /// How often our address turned out to be another.
    moves: watch::Sender<u64>,
    /// The last address of each lane as others see it.
    external: Vec<Option<IpAddr>>,
    /// The addresses that the system sends from, when it was asked last.
    local: [Option<IpAddr>; 2],
    /// What each look-up of each lane is for.
    purposes: HashMap<(usize, LookUp), Purpose>,
    /// What was asked before there was anybody to ask; at most [`WAITING`].
    waiting: Vec<Command>,
    jobs: HashMap<u64, Job>,
    next_job: u64,
    resolving: JoinSet<Vec<SocketAddr>>,
    resolve_at: Instant,
    resolve_pause: Duration,
    resolved_none: bool,
    upkeep_at: Instant,
    save_at: Instant,
}

/// What a look-up of a machine is for.
#[derive(Debug, Clone, Copy)]
struct Purpose {
    job: u64,
    part: Part,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Peers,
    Head(Key),
    Chunk { quest: usize, index: usize },
    Done,
}

/// What somebody asked for.
#[derive(Debug)]
struct Job {
    /// Look-ups of machines that still run for it.
    open: usize,
    began: Instant,
    want: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Object { finder: Finder, lists: Lists },
    Peers(mpsc::Sender<Vec<SocketAddr>>),
    Done { done: Option<oneshot::Sender<Ended>>, sum: Ended },
}

impl Wanted {
    fn is_given_up(&self) -> bool {
        match self {
            Self::Object { finder, .. } => finder.is_cancelled(),
            Self::Peers(found) => found.is_closed(),
            Self::Done { done, .. } => done.as_ref().is_none_or(oneshot::Sender::is_closed),
        }
    }
}

impl Driver {
    pub(super) fn new(
        config: DhtConfig,
        inbox: mpsc::Receiver<Command>,
        publish: watch::Sender<Arc<DhtStatus>>,
        moves: watch::Sender<u64>,
    ) -> io::Result<Self> {
        let now = clock::now();
        let saved = config.state.as_deref().and_then(Saved::read);
        let own = saved.as_ref().filter(|_| !config.read_only);
        let id = own.map_or_else(|| random().map(Id::new), |saved| Ok(saved.id))?;
        let lanes = config.sockets.into_iter().map(|socket| {
            let is_ipv6 = socket.local_addr()?.is_ipv6();
            let node = Node::new(
                NodeConfig {
                    id,
                    family: if is_ipv6 { Family::V6 } else { Family::V4 },
                    seed: random()?,
                    read_only: config.read_only,
                    allow_local: config.allow_local,
                    background_rate: config.background_rate,
                    limits: config.limits,
                },
                now,
            );
            Ok(Lane::new(socket, node))
        });
        let lanes = lanes.collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            own_port: lanes.first().and_then(Lane::port),
            moves,
            external: vec![None; lanes.len()],
            local: local_addresses(),
            lanes,
            inbox,
            publish,
            state: config.state.filter(|_| !config.read_only),
            knows_a_way: !config.bootstrap.is_empty() || saved.is_some(),
            bootstrap: config.bootstrap,
            saved: saved.map(|saved| saved.nodes).unwrap_or_default(),
            publishers: config.publishers,
            metrics: config.metrics,
            purposes: HashMap::new(),
            waiting: Vec::new(),
            jobs: HashMap::new(),
            next_job: 0,
            resolving: JoinSet::new(),
            resolve_at: now,
            resolve_pause: FIRST_RESOLVE,
            resolved_none: false,
            upkeep_at: now,
            save_at: now + SAVE,
        })
    }

    /// Takes part in the DHT until `shutdown`, then saves what it knows.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let saved = std::mem::take(&mut self.saved);
        self.add_nodes(&saved);
        if !saved.is_empty() {
            // Those who were here before should get on by themselves; the names are for when none of them answers.
            self.resolve_at = clock::now() + FIRST_RESOLVE;
        }
        loop {
            self.turn();
            let deadline = self.next_timeout();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = receive(&mut self.lanes) => {}
                Some(command) = self.inbox.recv() => self.handle_command(command),
                Some(resolved) = self.resolving.join_next() => self.handle_resolved(&resolved.unwrap_or_default()),
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
        self.save();
    }

    /// Lets the machines go on and carries out what they say.
    fn turn(&mut self) {
        let now = clock::now();
        for lane in &mut self.lanes {
            lane.handle_timeout(now);
        }
        for at in 0..self.lanes.len() {
            while let Some(event) = self.lanes[at].poll_event() {
                self.handle_event(at, event, now);
            }
        }
        if !self.waiting.is_empty() && !self.is_lost() {
            std::mem::take(&mut self.waiting).into_iter().for_each(|command| self.carry_out(command));
        }
        if now >= self.upkeep_at {
            self.upkeep_at = now + UPKEEP;
            self.give_up_unwanted();
            self.look_after_our_address(now);
            self.look_after_the_entrance(now);
            self.tell_status(now);
            if now >= self.save_at {
                self.save_at = now + SAVE;
                self.save();
            }
        }
        self.lanes.iter_mut().for_each(Lane::flush);
    }

    fn next_timeout(&self) -> Instant {
        self.lanes.iter().filter_map(Lane::next_timeout).fold(self.upkeep_at, Instant::min)
    }

    fn handle_command(&mut self, command: Command) {
        if self.is_lost() && self.waiting.len() < WAITING {
            self.waiting.push(command);
        } else {
            self.carry_out(command);
        }
    }

    fn carry_out(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::LookUp(asked) => self.look_up_object(asked, now),
            Command::FindPeers { info_hash, found } => {
                let job = self.new_job(Wanted::Peers(found), now);
                self.start(job, Part::Peers, |node, now| {
                    node.find_peers(info_hash.into(), Urgency::Now, now)
                });
            }
            Command::Announce { info_hash, port, done } => {
                self.own_port = Some(port);
                let job = self.new_job(Wanted::Done { done: Some(done), sum: Ended::default() }, now);
                self.start(job, Part::Done, |node, now| node.announce(info_hash.into(), port, now));
            }
            Command::Store { item, done } => {
                let job = self.new_job(Wanted::Done { done: Some(done), sum: Ended::default() }, now);
                self.start(job, Part::Done, |node, now| node.store_item(item.clone(), now));
            }
        }
    }

    /// Asks for the peers of an object, and for its list where it has one.
    fn look_up_object(&mut self, asked: Asked, now: Instant) {
        let Asked { object, geometry, finder } = asked;
        let job = self.new_job(Wanted::Object { finder, lists: Lists::new(geometry) }, now);
        let info_hash = InfoHash::from(object);
        self.start(job, Part::Peers, |node, now| node.find_peers(info_hash.into(), Urgency::Now, now));
        if listed_states(geometry.length()).is_none() {
            return;
        }
        for (target, salt, key) in self.heads(&object) {
            self.start(job, Part::Head(key), |node, now| {
                node.find_item(target, salt.clone(), Urgency::Now, now)
            });
        }
    }

    /// Where heads of an object's list are: under the key that everybody can derive, and under those of publishers.
    fn heads(&self, object: &Sha256) -> Vec<(Id, Vec<u8>, Key)> {
        let own = Signer::from_seed(&list_seed(object)).map(|signer| signer.target(b""));
        let salt = object.as_bytes().to_vec();
        let signed = self.publishers.iter().enumerate();
        let signed = signed.map(|(at, key)| (mutable_target(key, &salt), salt.clone(), Key::Publisher(at)));
        own.into_iter().map(|target| (target, Vec::new(), Key::Derived)).chain(signed).collect()
    }

    fn new_job(&mut self, want: Wanted, now: Instant) -> u64 {
        self.next_job += 1;
        self.jobs.insert(self.next_job, Job { open: 0, began: now, want });
        self.next_job
    }

    /// Starts a look-up for `job` on every lane.
    fn start(&mut self, job: u64, part: Part, mut begin: impl FnMut(&mut Node, Instant) -> LookUp) {
        for lane in 0..self.lanes.len() {
            self.start_on(lane, job, part, &mut begin);
        }
    }

    fn start_on(
        &mut self,
        lane: usize,
        job: u64,
        part: Part,
        begin: &mut impl FnMut(&mut Node, Instant) -> LookUp,
    ) {
        let (Some(on), Some(open)) = (self.lanes.get_mut(lane), self.jobs.get_mut(&job)) else { return };
        let look_up = begin(&mut on.node, clock::now());
        open.open += 1;
        self.purposes.insert((lane, look_up), Purpose { job, part });
    }

    fn handle_event(&mut self, lane: usize, event: Event, now: Instant) {
        match event {
            Event::Peers { look_up, peers } => {
                let job = self.purposes.get(&(lane, look_up)).and_then(|purpose| self.jobs.get(&purpose.job));
                if let Some(job) = job {
                    hand_on_peers(job, self.others(lane, peers));
                }
            }
            Event::Item { look_up, item } => self.handle_item(lane, look_up, &item),
            Event::Ended { look_up, outcome } => self.handle_ended(lane, look_up, outcome, now),
        }
    }

    /// Those of these peers that are not ourselves, as far as we know who we are.
    fn others(&self, lane: usize, mut peers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let ip = self.external.get(lane).copied().flatten();
        let own = ip.zip(self.own_port).map(SocketAddr::from);
        peers.retain(|peer| Some(*peer) != own);
        peers
    }

    fn handle_item(&mut self, lane: usize, look_up: LookUp, item: &OwnedItem) {
        let Some(Purpose { job, part }) = self.purposes.get(&(lane, look_up)).copied() else { return };
        let Some(Job { want: Wanted::Object { finder, lists }, .. }) = self.jobs.get_mut(&job) else {
            return;
        };
        match part {
            // One without a number is immutable, and no head.
            Part::Head(key) => match lists.handle_head(key, item.seq().unwrap_or_default(), item.value()) {
                Ok(Step::List(list)) => {
                    finder.tell(Found::List { list, signed: key.is_signed() });
                }
                Ok(Step::Quest(quest)) => {
                    (0..CHUNKS_AT_ONCE).for_each(|_| self.ask_next_chunk(lane, job, quest));
                }
                Ok(Step::Nothing) => {}
                Err(error) => debug!(%error, "a piece list in the DHT is no list"),
            },
            Part::Chunk { quest, index } => {
                if let Some((list, key)) = lists.handle_chunk(quest, index, item.value()) {
                    finder.tell(Found::List { list, signed: key.is_signed() });
                }
                // An immutable value has no second version: the next chunk may have its turn.
                self.lanes[lane].node.cancel(look_up);
                self.finish(lane, look_up);
            }
            Part::Peers | Part::Done => {}
        }
    }

    fn ask_next_chunk(&mut self, lane: usize, job: u64, quest: usize) {
        let Some(Job { want: Wanted::Object { lists, .. }, .. }) = self.jobs.get_mut(&job) else { return };
        let Some((index, target)) = lists.next_chunk(quest) else { return };
        self.start_on(lane, job, Part::Chunk { quest, index }, &mut |node, now| {
            node.find_item(Id::new(target), Vec::new(), Urgency::Now, now)
        });
    }

    fn handle_ended(&mut self, lane: usize, look_up: LookUp, outcome: Ended, now: Instant) {
        let Some(purpose) = self.purposes.get(&(lane, look_up)) else { return };
        if let Some(job) = self.jobs.get_mut(&purpose.job) {
            match &mut job.want {
                Wanted::Done { sum, .. } => add(sum, &outcome),
                _ if matches!(purpose.part, Part::Peers) => {
                    self.metrics.dht_looked_up(now.saturating_duration_since(job.began));
                }
                _ => {}
            }
        }
        self.finish(lane, look_up);
    }

    /// A look-up of a machine is over; so is what it was for, when it was the last.
    fn finish(&mut self, lane: usize, look_up: LookUp) {
        let Some(Purpose { job, part }) = self.purposes.remove(&(lane, look_up)) else { return };
        if let Part::Chunk { quest, .. } = part {
            self.ask_next_chunk(lane, job, quest);
        }
        let Some(open) = self.jobs.get_mut(&job) else { return };
        open.open = open.open.saturating_sub(1);
        if open.open > 0 {
            return;
        }
        if let Some(Job { want: Wanted::Done { done: Some(done), sum }, .. }) = self.jobs.remove(&job) {
            // Who does not wait any more does not want to know.
            let _ = done.send(sum);
        }
    }

    /// Whether there is nobody to ask yet, or any more.
    fn is_lost(&self) -> bool {
        let now = clock::now();
        self.lanes.iter().all(|lane| lane.good_nodes(now) == 0)
    }

    fn give_up_unwanted(&mut self) {
        self.waiting.retain(|command| !command.is_given_up());
        self.jobs.retain(|_, job| !job.want.is_given_up());
        let jobs = &self.jobs;
        let lanes = &mut self.lanes;
        self.purposes.retain(|(lane, look_up), purpose| {
            let wanted = jobs.contains_key(&purpose.job);
            if !wanted {
                lanes[*lane].node.cancel(*look_up);
            }
            wanted
        });
    }

    /// Learns whether we are somewhere else now: by what the system sends from, and by what others see.
    ///
    /// The first is known at once, and says nothing of an address behind a router; so the nodes are asked anew, from
    /// whom the second comes.
    fn look_after_our_address(&mut self, now: Instant) {
        let before = std::mem::replace(&mut self.local, local_addresses());
        let is_new = self.local.iter().zip(before).any(|(ip, before)| ip.is_some() && *ip != before);
        if is_new {
            debug!(addresses = ?self.local, "another network");
            self.resolve_at = now;
            self.resolve_pause = FIRST_RESOLVE;
            self.lanes.iter_mut().for_each(|lane| lane.node.handle_new_network(now));
        }
        for (lane, known) in self.lanes.iter().zip(&mut self.external) {
            let Some(external) = lane.node.status(now).external else { continue };
            if let Some(before) = known.replace(external).filter(|before| *before != external) {
                info!(%before, now = %external, "our address changed");
                self.moves.send_modify(|moves| *moves += 1);
            }
        }
    }

    /// While no node answers, the names are resolved again and again: the network may come late, or come back.
    fn look_after_the_entrance(&mut self, now: Instant) {
        let lost = self.lanes.iter().any(|lane| lane.good_nodes(now) == 0);
        if !lost {
            self.resolve_pause = FIRST_RESOLVE;
            return;
        }
        if now < self.resolve_at || self.bootstrap.is_empty() || !self.resolving.is_empty() {
            return;
        }
        self.resolve_at = now + self.resolve_pause;
        // Many machines have no IPv6: while the other family works, nothing is urgent.
        let longest = if self.is_lost() { LAST_RESOLVE } else { LAST_RESOLVE_OF_ONE };
        self.resolve_pause = (self.resolve_pause * 2).min(longest);
        self.resolving.spawn(self.bootstrap.clone().resolve());
    }

    fn handle_resolved(&mut self, addresses: &[SocketAddr]) {
        self.resolved_none = addresses.is_empty();
        self.add_nodes(addresses);
    }

    fn add_nodes(&mut self, addresses: &[SocketAddr]) {
        let now = clock::now();
        for lane in &mut self.lanes {
            lane.node.add_nodes(addresses.iter().copied(), now);
        }
    }

    fn tell_status(&self, now: Instant) {
        let mut told = DhtStatus::default();
        for lane in &self.lanes {
            let status = lane.node.status(now);
            told.good_nodes += status.good_nodes;
            told.known_nodes += status.known_nodes;
            told.external = told.external.or(status.external);
            told.ids.push(status.id);
            told.stored.info_hashes += status.stored.info_hashes;
            told.stored.peers += status.stored.peers;
            told.stored.items += status.stored.items;
            told.stored.bytes += status.stored.bytes;
            told.datagrams[0] += lane.received;
            told.datagrams[1] += lane.sent;
            told.datagrams[2] += status.rubbish;
        }
        told.waiting_for = self.waiting_for(told.good_nodes);
        self.metrics.set_routing_table_size(told.good_nodes);
        let before = self.publish.borrow().waiting_for.clone();
        if before != told.waiting_for {
            match &told.waiting_for {
                Some(what) => info!(waiting_for = what, "the DHT does not work yet"),
                None => info!(nodes = told.good_nodes, "the DHT works"),
            }
        }
        self.publish.send_replace(Arc::new(told));
    }

    fn waiting_for(&self, good_nodes: usize) -> Option<String> {
        if good_nodes > 0 {
            return None;
        }
        let what = if !self.knows_a_way {
            "a node to enter the network by: dht.bootstrap is empty, and no node of an earlier run is known"
        } else if self.resolved_none {
            "the names in dht.bootstrap to resolve: is there a network, does DNS work?"
        } else {
            "an answer from any DHT node: does something block UDP?"
        };
        Some(what.to_owned())
    }

    fn save(&self) {
        let Some(folder) = &self.state else { return };
        let mut good: Vec<Vec<SocketAddr>> = self
            .lanes
            .iter()
            .map(|lane| lane.node.good_nodes().into_iter().map(|contact| contact.address).collect())
            .collect();
        let nodes: Vec<_> = good.iter_mut().flat_map(|nodes| nodes.drain(..)).collect();
        let Some(id) = self.lanes.first().map(|lane| lane.node.status(clock::now()).id) else { return };
        // A network that is gone is no reason to forget whom we knew.
        if nodes.is_empty() {
            return;
        }
        if let Err(error) = (Saved { id, nodes }).write(folder) {
            warn!(folder = %folder.display(), %error, "the DHT's nodes cannot be saved (state.path)");
        }
    }
}

/// The addresses that datagrams to the world would be sent from, of both families; `None` without a way there. Nothing
/// is sent.
fn local_addresses() -> [Option<IpAddr>; 2] {
    // Addresses that nobody has (RFC 5737, RFC 3849) go where all the others go.
    let somewhere: [(SocketAddr, SocketAddr); 2] = [
        (([0; 4], 0).into(), ([192, 0, 2, 1], 9).into()),
        (([0; 16], 0).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into()),
    ];
    somewhere.map(|(any, there)| {
        let socket = std::net::UdpSocket::bind(any).ok()?;
        socket.connect(there).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// What both address families came to together.
const fn add(sum: &mut Ended, more: &Ended) {
    sum.asked += more.asked;
    sum.answered += more.answered;
    sum.stored += more.stored;
    sum.datagrams += more.datagrams;
    sum.peers += more.peers;
}

fn hand_on_peers(job: &Job, peers: Vec<SocketAddr>) {
    if peers.is_empty() {
        return;
    }
    match &job.want {
        Wanted::Object { finder, .. } => {
            for address in peers {
                finder.tell(Found::Provider(Provider { address, kind: PeerKind::Stranger }));
            }
        }
        // Who reads too slowly loses what is beyond the queue; it is bounded for that.
        Wanted::Peers(found) => drop(found.try_send(peers)),
        Wanted::Done { .. } => {}
    }
}

/// Waits until something was received on any lane, and takes it.
async fn receive(lanes: &mut [Lane]) {
    std::future::poll_fn(|context| {
        let now = clock::now();
        let mut any = std::task::Poll::Pending;
        for lane in lanes.iter_mut() {
            if lane.poll_receive(context, now).is_ready() {
                any = std::task::Poll::Ready(());
            }
        }
        any
    })
    .await;
}

/// Random bytes of the system.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}
