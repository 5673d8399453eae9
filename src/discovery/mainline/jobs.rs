//! What was asked of the handle, and which look-ups of which machine are under way for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::super::Provider;
use super::super::look_up::{Asked, Finder, Found};
use super::Command;
use super::lane::Lane;
use super::quest::{Key, Lists, Step};
use super::whereabouts::Whereabouts;
use crate::clock;
use crate::dht::{Ended, Event, Id, LookUp, Node, OwnedItem, Signer, Urgency, mutable_target};
use crate::digest::Sha256;
use crate::metrics::Metrics;
use crate::swarm::PeerKind;
use crate::wire::{Swarm, listed_states};

/// Chunks of one list that are asked for at a time.
const CHUNKS_AT_ONCE: usize = 4;

/// Everything that somebody waits for.
pub(super) struct Jobs {
    /// What each look-up of each lane is for.
    purposes: HashMap<(usize, LookUp), Purpose>,
    jobs: HashMap<u64, Job>,
    next: u64,
    publishers: Vec<[u8; 32]>,
    swarm: Swarm,
    metrics: Metrics,
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
    Object {
        finder: Finder,
        lists: Lists,
    },
    Peers(mpsc::Sender<Vec<SocketAddr>>),
    /// `own` counts how often we were among the peers.
    Done {
        done: Option<oneshot::Sender<Ended>>,
        sum: Ended,
        own: u32,
    },
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

impl Jobs {
    /// Nothing yet. `publishers` are the keys whose signed lists are looked for, under the names that `swarm`
    /// has for objects.
    pub(super) fn new(publishers: Vec<[u8; 32]>, swarm: Swarm, metrics: Metrics) -> Self {
        Self { purposes: HashMap::new(), jobs: HashMap::new(), next: 0, publishers, swarm, metrics }
    }

    /// Begins what somebody asked for.
    pub(super) fn begin(&mut self, lanes: &mut [Lane], command: Command, now: Instant) {
        match command {
            Command::LookUp(asked) => self.look_up_object(lanes, asked, now),
            Command::FindPeers { info_hash, found } => {
                let job = self.new_job(Wanted::Peers(found), now);
                self.start(lanes, job, Part::Peers, |node, now| {
                    node.find_peers(info_hash.into(), Urgency::Now, now)
                });
            }
            Command::Announce { info_hash, port, done } => {
                let job = self.new_job(Wanted::Done { done: Some(done), sum: Ended::default(), own: 0 }, now);
                self.start(lanes, job, Part::Done, |node, now| node.announce(info_hash.into(), port, now));
            }
            Command::Store { item, done } => {
                let job = self.new_job(Wanted::Done { done: Some(done), sum: Ended::default(), own: 0 }, now);
                self.start(lanes, job, Part::Done, |node, now| node.store_item(item.clone(), now));
            }
        }
    }

    /// Asks for the peers of an object, and for its list where it is wanted and it has one.
    fn look_up_object(&mut self, lanes: &mut [Lane], asked: Asked, now: Instant) {
        let Asked { object, geometry, list, finder } = asked;
        let lists = Lists::new(geometry, self.swarm.veil(&object));
        let job = self.new_job(Wanted::Object { finder, lists }, now);
        let info_hash = self.swarm.info_hash(&object);
        self.start(lanes, job, Part::Peers, |node, now| node.find_peers(info_hash.into(), Urgency::Now, now));
        if !list || listed_states(geometry.length()).is_none() {
            return;
        }
        for (target, salt, key) in self.heads(&object) {
            self.start(lanes, job, Part::Head(key), |node, now| {
                node.find_item(target, salt.clone(), Urgency::Now, now)
            });
        }
    }

    /// Where heads of an object's list are: under the key that everybody can derive, and under those of publishers.
    fn heads(&self, object: &Sha256) -> Vec<(Id, Vec<u8>, Key)> {
        let own = Signer::from_seed(&self.swarm.list_seed(object)).map(|signer| signer.target(b""));
        let salt = self.swarm.list_salt(object).to_vec();
        let signed = self.publishers.iter().enumerate();
        let signed = signed.map(|(at, key)| (mutable_target(key, &salt), salt.clone(), Key::Publisher(at)));
        own.into_iter().map(|target| (target, Vec::new(), Key::Derived)).chain(signed).collect()
    }

    fn new_job(&mut self, want: Wanted, now: Instant) -> u64 {
        self.next += 1;
        self.jobs.insert(self.next, Job { open: 0, began: now, want });
        self.next
    }

    /// Starts a look-up for `job` on every lane.
    fn start(
        &mut self,
        lanes: &mut [Lane],
        job: u64,
        part: Part,
        mut begin: impl FnMut(&mut Node, Instant) -> LookUp,
    ) {
        for lane in 0..lanes.len() {
            self.start_on(lanes, lane, job, part, &mut begin);
        }
    }

    fn start_on(
        &mut self,
        lanes: &mut [Lane],
        lane: usize,
        job: u64,
        part: Part,
        begin: &mut impl FnMut(&mut Node, Instant) -> LookUp,
    ) {
        let (Some(on), Some(open)) = (lanes.get_mut(lane), self.jobs.get_mut(&job)) else { return };
        let look_up = begin(&mut on.node, clock::now());
        open.open += 1;
        self.purposes.insert((lane, look_up), Purpose { job, part });
    }

    /// A machine has found something.
    pub(super) fn handle_event(
        &mut self,
        lanes: &mut [Lane],
        lane: usize,
        event: Event,
        whereabouts: &Whereabouts,
        now: Instant,
    ) {
        match event {
            Event::Peers { look_up, peers } => {
                let (own, others): (Vec<_>, Vec<_>) =
                    peers.into_iter().partition(|peer| whereabouts.is_ourselves(lane, *peer));
                let purpose = self.purposes.get(&(lane, look_up));
                if let Some(job) = purpose.and_then(|purpose| self.jobs.get_mut(&purpose.job)) {
                    hand_on_peers(job, others, own.len());
                }
            }
            Event::Item { look_up, item } => self.handle_item(lanes, lane, look_up, &item),
            Event::Ended { look_up, outcome } => self.handle_ended(lanes, lane, look_up, outcome, now),
        }
    }

    fn handle_item(&mut self, lanes: &mut [Lane], lane: usize, look_up: LookUp, item: &OwnedItem) {
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
                    (0..CHUNKS_AT_ONCE).for_each(|_| self.ask_next_chunk(lanes, lane, job, quest));
                }
                Ok(Step::Nothing) => {}
                Err(error) => debug!(%error, "a piece list in the DHT is no list"),
            },
            Part::Chunk { quest, index } => {
                if let Some((list, key)) = lists.handle_chunk(quest, index, item.value()) {
                    finder.tell(Found::List { list, signed: key.is_signed() });
                }
                // An immutable value has no second version: the next chunk may have its turn.
                if let Some(on) = lanes.get_mut(lane) {
                    on.node.cancel(look_up);
                }
                self.finish(lanes, lane, look_up);
            }
            Part::Peers | Part::Done => {}
        }
    }

    fn ask_next_chunk(&mut self, lanes: &mut [Lane], lane: usize, job: u64, quest: usize) {
        let Some(Job { want: Wanted::Object { lists, .. }, .. }) = self.jobs.get_mut(&job) else { return };
        let Some((index, target)) = lists.next_chunk(quest) else { return };
        self.start_on(lanes, lane, job, Part::Chunk { quest, index }, &mut |node, now| {
            node.find_item(Id::new(target), Vec::new(), Urgency::Now, now)
        });
    }

    fn handle_ended(
        &mut self,
        lanes: &mut [Lane],
        lane: usize,
        look_up: LookUp,
        outcome: Ended,
        now: Instant,
    ) {
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
        self.finish(lanes, lane, look_up);
    }

    /// A look-up of a machine is over; so is what it was for, when it was the last.
    fn finish(&mut self, lanes: &mut [Lane], lane: usize, look_up: LookUp) {
        let Some(Purpose { job, part }) = self.purposes.remove(&(lane, look_up)) else { return };
        if let Part::Chunk { quest, .. } = part {
            self.ask_next_chunk(lanes, lane, job, quest);
        }
        let Some(open) = self.jobs.get_mut(&job) else { return };
        open.open = open.open.saturating_sub(1);
        if open.open > 0 {
            return;
        }
        if let Some(Job { want: Wanted::Done { done: Some(done), sum, own }, .. }) = self.jobs.remove(&job) {
            // Who does not wait any more does not want to know.
            let _ = done.send(Ended { peers: sum.peers.saturating_sub(own), ..sum });
        }
    }

    /// Ends what nobody waits for any more.
    pub(super) fn give_up_unwanted(&mut self, lanes: &mut [Lane]) {
        self.jobs.retain(|_, job| !job.want.is_given_up());
        let jobs = &self.jobs;
        self.purposes.retain(|(lane, look_up), purpose| {
            let wanted = jobs.contains_key(&purpose.job);
            if !wanted {
                lanes[*lane].node.cancel(*look_up);
            }
            wanted
        });
    }
}

/// What both address families came to together.
const fn add(sum: &mut Ended, more: &Ended) {
    sum.asked += more.asked;
    sum.answered += more.answered;
    sum.stored += more.stored;
    sum.datagrams += more.datagrams;
    sum.peers += more.peers;
}

/// Peers were found, and so often ourselves.
fn hand_on_peers(job: &mut Job, peers: Vec<SocketAddr>, ourselves: usize) {
    match &mut job.want {
        Wanted::Object { finder, .. } => {
            for address in peers {
                finder.tell(Found::Provider(Provider { address, kind: PeerKind::Stranger }));
            }
        }
        // Who reads too slowly loses what is beyond the queue; it is bounded for that.
        Wanted::Peers(found) if !peers.is_empty() => drop(found.try_send(peers)),
        Wanted::Peers(_) => {}
        Wanted::Done { own, .. } => *own += u32::try_from(ourselves).unwrap_or(u32::MAX),
    }
}
