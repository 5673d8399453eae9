//! The task behind the handle: sockets, time, names and the saved file for the machines; answers for those who asked.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::jobs::Jobs;
use super::lane::Lane;
use super::saved::Saved;
use super::whereabouts::{Whereabouts, local_addresses};
use super::{Command, DhtConfig, DhtStatus, Names, WAITING};
use crate::clock;
use crate::dht::{Family, Id, Node, NodeConfig};
use crate::metrics::Metrics;

/// How often the status is told, and what nobody waits for any more is given up.
const UPKEEP: Duration = Duration::from_secs(1);

/// How often it is looked at which addresses this machine has: a laptop that comes home is in the DHT this soon.
const LOOK_AT_ADDRESSES: Duration = Duration::from_secs(5);

/// How often the good nodes are saved.
const SAVE: Duration = Duration::from_secs(300);

/// The pause before names are resolved again while no node answers; it doubles each time.
const FIRST_RESOLVE: Duration = Duration::from_secs(2);
const LAST_RESOLVE: Duration = Duration::from_secs(120);
const LAST_RESOLVE_OF_ONE: Duration = Duration::from_secs(3600);

/// The task of the DHT; [`Driver::run`] is to be awaited by whoever owns it.
pub struct Driver {
    lanes: Vec<Lane>,
    inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<Arc<DhtStatus>>,
    bootstrap: Names,
    state: Option<PathBuf>,
    saved: Vec<SocketAddr>,
    knows_a_way: bool,
    metrics: Metrics,
    whereabouts: Whereabouts,
    /// What was asked before there was anybody to ask; at most [`WAITING`].
    waiting: Vec<Command>,
    jobs: Jobs,
    resolving: JoinSet<Vec<SocketAddr>>,
    resolve_at: Instant,
    resolve_pause: Duration,
    resolved_none: bool,
    upkeep_at: Instant,
    addresses_at: Instant,
    save_at: Instant,
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
        let bound = lanes.iter().map(Lane::address).collect::<io::Result<Vec<_>>>()?;
        let before = own.map(|saved| saved.external.clone()).unwrap_or_default();
        Ok(Self {
            whereabouts: Whereabouts::new(moves, bound, local_addresses(), before),
            lanes,
            inbox,
            publish,
            state: config.state.filter(|_| !config.read_only),
            knows_a_way: !config.bootstrap.is_empty() || saved.is_some(),
            bootstrap: config.bootstrap,
            saved: saved.map(|saved| saved.nodes).unwrap_or_default(),
            jobs: Jobs::new(config.publishers, config.swarm, config.metrics.clone()),
            metrics: config.metrics,
            waiting: Vec::new(),
            resolving: JoinSet::new(),
            resolve_at: now,
            resolve_pause: FIRST_RESOLVE,
            resolved_none: false,
            upkeep_at: now,
            addresses_at: now,
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
                self.jobs.handle_event(&mut self.lanes, at, event, &self.whereabouts, now);
            }
        }
        if !self.waiting.is_empty() && !self.is_lost() {
            std::mem::take(&mut self.waiting).into_iter().for_each(|command| self.carry_out(command));
        }
        if now >= self.upkeep_at {
            self.upkeep_at = now + UPKEEP;
            self.waiting.retain(|command| !command.is_given_up());
            self.jobs.give_up_unwanted(&mut self.lanes);
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
        if let Command::Announce { port, .. } = &command {
            self.whereabouts.announced(*port);
        }
        self.jobs.begin(&mut self.lanes, command, clock::now());
    }

    /// Whether there is nobody to ask yet, or any more.
    fn is_lost(&self) -> bool {
        let now = clock::now();
        self.lanes.iter().all(|lane| lane.good_nodes(now) == 0)
    }

    /// Learns whether we are somewhere else now.
    fn look_after_our_address(&mut self, now: Instant) {
        let due = now >= self.addresses_at;
        if due {
            self.addresses_at = now + LOOK_AT_ADDRESSES;
        }
        if due && self.whereabouts.note_local(local_addresses()) {
            self.resolve_at = now;
            self.resolve_pause = FIRST_RESOLVE;
            self.lanes.iter_mut().for_each(|lane| lane.node.handle_new_network(now));
        }
        for (at, lane) in self.lanes.iter().enumerate() {
            if let Some(external) = lane.node.status(now).external {
                self.whereabouts.note_external(at, external);
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
            told.datagrams[3] += status.refused;
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
        if let Err(error) = (Saved { id, nodes, external: self.whereabouts.to_remember() }).write(folder) {
            warn!(folder = %folder.display(), %error, "the DHT's nodes cannot be saved (state.path)");
        }
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
