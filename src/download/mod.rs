//! Downloads: one flight per object however many ask for it, each fed by peers and the mirror, read while it grows.

mod admission;
mod canvas;
mod entrance;
mod fetch;
mod findings;
mod flight;
mod liars;
mod lull;
mod origin;
mod pictures;
mod places;
mod reader;
mod seeding;
mod sheet;
mod trials;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::Borders;
use self::canvas::Canvas;
use self::entrance::Entrance;
use self::fetch::{Queue, Timing};
use self::findings::LookUps;
use self::flight::{Flight, Shared};
pub use self::origin::OriginError;
use self::pictures::Deliveries;
pub use self::pictures::{Delivered, Giver, Ongoing, Who};
pub use self::reader::{Chunks, Download};
pub use self::seeding::Growing;
use self::trials::Trials;
use crate::clock;
use crate::digest::Sha256;
use crate::discovery::{Discovery, Outlook, Provider};
use crate::http::Throttle;
use crate::metrics::{Metrics, Source};
use crate::mirror::{Mirror, Target};
use crate::peer::{PeerClient, is_near};
use crate::pieces::{Geometry, TooLong};
use crate::store::{Object, Scope, Store, StoreError};
use crate::swarm::{Ban, Kin, NodeId, PeerFault, PeerKind, Prefer, Reputation, Scoreboard, Standing};
use crate::wire::Intent;

/// How long a reader that comes back after a taint gets the whole object instead of the rest: longer than apt's retries
/// take together.
const TAINT_MEMORY: Duration = Duration::from_secs(600);

/// The least rate, in bytes a second, that a piece gets of a limit where several are fetched at a time: it takes 16 s then.
/// Nothing of a piece can be used before all of it is there, and a peer whose body nobody reads hangs up after a minute.
const LEAST_PER_PIECE: u64 = 256 << 10;

/// The most taints and mirror rates that are remembered.
const MEMORIES: usize = 1024;

/// How long a flight waits for somebody who fetches the same object ahead: he stops at once, and has only to write down what
/// is there. A disk that takes longer for that is not to hold up apt.
const HAND_OVER: Duration = Duration::from_secs(1);

/// An object that somebody wants.
#[derive(Debug, Clone)]
pub struct Want {
    /// Its digest.
    pub id: Sha256,
    /// Its length in bytes, as a signed index says.
    pub length: u64,
    /// Where the mirror has it.
    pub mirror: Option<Target>,
    /// What it is called, for the log.
    pub name: String,
    /// The name of the archive that it belongs to ([`crate::wire::archive_name`]).
    pub archive: Option<Sha256>,
    /// It is needed from the store as soon as it is whole: it enters before others that can wait.
    pub prompt: bool,
}

/// Why a download came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DownloadError {
    /// Neither a peer nor the mirror can give what is missing.
    #[error("no source has it")]
    NoSource,
    /// There is no room for it, neither on disk nor in memory.
    #[error("no room for it: {0}")]
    NoRoom(Arc<StoreError>),
    /// Longer than any object may be.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Nobody reads it any more.
    #[error("nobody wants it any more")]
    Unwanted,
    /// Bytes that were handed out proved wrong: start over.
    #[error("bytes that were handed out proved wrong")]
    Tainted,
    /// The object was damaged on disk.
    #[error("the stored object is damaged")]
    Damaged,
    /// The program ends.
    #[error("aptpeer is stopping")]
    ShuttingDown,
}

/// Bytes of an object by where they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// From peers.
    pub peers: u64,
    /// From the mirror.
    pub mirror: u64,
}

impl Tally {
    fn add(&mut self, source: Source, bytes: u64) {
        match source {
            Source::Mirror => self.mirror += bytes,
            Source::Peer | Source::Cache => self.peers += bytes,
        }
    }
}

/// How a flight stands, as its readers see it.
#[derive(Debug, Clone, Default)]
enum Stage {
    #[default]
    Running,
    Closed,
    Failed(DownloadError),
}

#[derive(Debug, Clone, Default)]
struct Progress {
    canvas: Option<Arc<Canvas>>,
    released: u64,
    taints: u32,
    tally: Tally,
    stage: Stage,
    last_modified: Option<String>,
    mirror_error: Option<OriginError>,
    mirror_differs: bool,
}

/// What downloads need.
#[derive(Debug, Clone)]
pub struct DownloadsConfig {
    /// Pieces in flight from peers, all downloads together; each takes a buffer of 4 MiB.
    pub max_pieces: NonZeroUsize,
    /// How fast peers and mirrors together may be read, in bytes a second.
    pub max_rate: Option<NonZeroU64>,
    /// What the user prefers.
    pub prefer: Prefer,
    /// Strangers may be at addresses that the internet does not reach (`network.allow_private_peers`).
    pub allow_private_peers: bool,
    /// Only peers on the local network are asked, and those that the user has named (`privacy.lan_only`).
    pub lan_only: bool,
    /// Files of repositories on private addresses are for everybody (`privacy.share_private_mirrors`).
    pub share_private: bool,
    /// Where we serve peers ourselves, and as whom others see us: not to be asked.
    pub own_addresses: Vec<SocketAddr>,
}

/// All downloads of the program. Clones share them.
#[derive(Clone)]
pub struct Downloads {
    context: Arc<Context>,
    flights: Arc<Mutex<HashMap<Sha256, Arc<Shared>>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// What every flight uses.
struct Context {
    store: Store,
    mirror: Mirror,
    peers: PeerClient,
    discovery: Vec<Arc<dyn Discovery>>,
    metrics: Metrics,
    queue: Arc<Queue>,
    throttle: Throttle,
    prefer: Prefer,
    /// What distinguishes our choice among equals from that of others.
    seed: u64,
    /// What we are on the local network; `None` where nobody there is to wait for us: our own limit would slow them down.
    node: Option<NodeId>,
    borders: Borders,
    share_private: bool,
    look_ups: Arc<LookUps>,
    entrance: Entrance,
    /// How many flights there are.
    under_way: watch::Sender<usize>,
    /// Counts the objects of several pieces of which something can be given away.
    growing: watch::Sender<u64>,
    convictions: watch::Sender<u64>,
    /// What others fetch ahead into our store, and stop fetching when anything is wanted here.
    ahead: watch::Sender<Option<Sha256>>,
    scores: Mutex<Scoreboard<SocketAddr>>,
    trials: Mutex<Trials>,
    memory: Mutex<Memory>,
    deliveries: Mutex<Deliveries>,
}

#[derive(Default)]
struct Memory {
    tainted: HashMap<Sha256, Instant>,
    mirror_rates: HashMap<String, f64>,
}

impl Downloads {
    /// Downloads into `store`, from `mirror` and from the peers that `discovery` knows.
    pub fn new(
        store: Store,
        mirror: Mirror,
        peers: PeerClient,
        discovery: Vec<Arc<dyn Discovery>>,
        metrics: Metrics,
        config: DownloadsConfig,
    ) -> Self {
        let shutdown = CancellationToken::new();
        let known_as = discovery.iter().find_map(|discovery| discovery.own_node());
        let context = Context {
            node: known_as.filter(|_| config.max_rate.is_none()),
            store,
            mirror,
            peers,
            discovery,
            metrics,
            queue: Arc::new(Queue::new(places(config.max_pieces, config.max_rate))),
            throttle: Throttle::new(config.max_rate),
            prefer: config.prefer,
            // Every `RandomState` has keys of its own: random enough for a choice among equals.
            seed: RandomState::new().build_hasher().finish(),
            borders: Borders {
                own: config.own_addresses,
                allow_private: config.allow_private_peers,
                lan_only: config.lan_only,
            },
            share_private: config.share_private,
            look_ups: Arc::new(LookUps::new()),
            entrance: Entrance::new(shutdown.clone()),
            under_way: watch::Sender::default(),
            growing: watch::Sender::default(),
            convictions: watch::Sender::default(),
            ahead: watch::Sender::default(),
            scores: Mutex::default(),
            trials: Mutex::default(),
            memory: Mutex::default(),
            deliveries: Mutex::default(),
        };
        Self { context: Arc::new(context), flights: Arc::default(), tasks: TaskTracker::new(), shutdown }
    }

    /// The object, from the store or from a download that is under way or starts now. Never waits.
    ///
    /// # Errors
    /// Where the length is absurd.
    pub fn open(&self, want: Want) -> Result<Download, DownloadError> {
        let geometry = Geometry::new(want.length)?;
        if let Some(object) = self.held(&want.id, want.length) {
            self.context.note_wanted(&want);
            return Ok(Download::held(object));
        }
        let mut flights = lock(&self.flights);
        if let Some(shared) = flights.get(&want.id)
            && shared.want.length == want.length
            && (shared.want.mirror.is_some() || want.mirror.is_none())
        {
            let progress = shared.progress.subscribe();
            let closed = match progress.borrow().stage {
                Stage::Running => Some(false),
                Stage::Closed => Some(true),
                Stage::Failed(_) => None,
            };
            if let Some(closed) = closed {
                return Ok(Download::flying(want.id, geometry, progress, closed));
            }
        }
        // A flight that ended between the two looks has put it into the store by then.
        if let Some(object) = self.held(&want.id, want.length) {
            return Ok(Download::held(object));
        }
        let intent = self.context.node.map(|_| Intent::Undecided);
        let shared = Arc::new(Shared::new(want, geometry, intent));
        let progress = shared.progress.subscribe();
        let id = shared.want.id;
        flights.insert(id, shared.clone());
        self.context.under_way.send_replace(flights.len());
        drop(flights);
        self.tasks.spawn(self.clone().fly(shared, geometry));
        Ok(Download::flying(id, geometry, progress, false))
    }

    /// The whole object, if it is stored.
    pub fn held(&self, id: &Sha256, length: u64) -> Option<Arc<Object>> {
        match self.context.store.get(id) {
            Ok(object) => object.filter(|object| object.length() == length),
            Err(error) => {
                tracing::warn!(object = %id, %error, "a stored object could not be opened");
                None
            }
        }
    }

    /// Whether bytes of this object that were handed out lately proved wrong, so that whoever comes back for the rest
    /// must get the whole.
    pub fn was_tainted(&self, id: &Sha256) -> bool {
        let now = clock::now();
        lock(&self.context.memory).tainted.get(id).is_some_and(|at| now < *at + TAINT_MEMORY)
    }

    /// The limit that all downloads keep to, for what is read of mirrors beside them.
    pub fn throttle(&self) -> &Throttle {
        &self.context.throttle
    }

    /// How many objects are being downloaded.
    pub fn under_way(&self) -> watch::Receiver<usize> {
        self.context.under_way.subscribe()
    }

    /// Others fetch this object ahead into the same store now, or nothing any more. Whoever says so stops when
    /// [`Self::under_way`] changes; a flight for the object waits for that, and goes on with what is there.
    pub fn set_ahead(&self, object: Option<Sha256>) {
        self.context.ahead.send_replace(object);
    }

    /// What is known of every peer that has been asked for something, or is banned.
    pub fn reputations(&self) -> Vec<(SocketAddr, Reputation)> {
        lock(&self.context.scores).reputations(clock::now()).collect()
    }

    /// The peers that are banned for lies, to be remembered over a restart.
    pub fn bans(&self) -> Vec<Ban<SocketAddr>> {
        lock(&self.context.scores).bans(clock::now()).collect()
    }

    /// Changes whenever somebody is banned.
    pub fn convictions(&self) -> watch::Receiver<u64> {
        self.context.convictions.subscribe()
    }

    /// Takes bans over from before a restart.
    pub fn restore_bans(&self, bans: &[Ban<SocketAddr>]) {
        let (mut scores, now) = (lock(&self.context.scores), clock::now());
        bans.iter().for_each(|ban| scores.restore(ban, now));
    }

    /// Stops every download and waits until all have ended.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn fly(self, shared: Arc<Shared>, geometry: Geometry) {
        let id = shared.want.id;
        let mut ahead = self.context.ahead.subscribe();
        // Too late: it begins anew.
        let _ = tokio::time::timeout(HAND_OVER, ahead.wait_for(|ahead| *ahead != Some(id))).await;
        let canvas = match self.context.store.assemble_small(id, geometry) {
            Some(assembly) => Ok(Canvas::new(assembly, self.context.metrics.clone())),
            // Making room may wait for the disk.
            None => tokio::task::block_in_place(|| flight::canvas(&self.context, id, geometry)),
        };
        match canvas {
            Ok(canvas) => {
                // Until it is in the store: whoever waits for that sees the end of it.
                let _active = self.context.metrics.download_started();
                let flight = Flight::new(self.context.clone(), shared.clone(), canvas);
                if let Some(whole) = flight.run(self.shutdown.clone()).await {
                    self.context.entrance.enter(&self.context.store, whole).await;
                }
            }
            Err(error) => {
                tracing::warn!(object = %id, %error, "no room for a download");
                let why = DownloadError::NoRoom(Arc::new(error));
                shared.progress.send_modify(|progress| progress.stage = Stage::Failed(why));
            }
        }
        let mut flights = lock(&self.flights);
        if flights.get(&id).is_some_and(|current| Arc::ptr_eq(current, &shared)) {
            flights.remove(&id);
            self.context.under_way.send_replace(flights.len());
        }
    }
}

/// How many pieces are worth fetching at a time under a limit.
fn places(most: NonZeroUsize, rate: Option<NonZeroU64>) -> NonZeroUsize {
    let Some(rate) = rate else { return most };
    let worthwhile = usize::try_from(rate.get() / LEAST_PER_PIECE).unwrap_or(usize::MAX);
    NonZeroUsize::new(worthwhile).unwrap_or(NonZeroUsize::MIN).min(most)
}

impl Context {
    fn providers(&self, id: &Sha256) -> Vec<Provider> {
        self.discovery.iter().flat_map(|discovery| discovery.providers(id)).collect()
    }

    fn node_at(&self, address: SocketAddr) -> Option<NodeId> {
        self.discovery.iter().find_map(|discovery| discovery.node_at(address))
    }

    /// What is known of who has the object; it is wanted.
    fn outlook(&self, want: &Want) -> Outlook {
        let mut all = Outlook::default();
        for outlook in self.discovery.iter().map(|way| way.outlook(&want.id, want.archive.as_ref())) {
            all.named_by.extend(outlook.named_by);
            all.lacking.extend(outlook.lacking);
            all.covered |= outlook.covered;
        }
        all
    }

    /// A peer had the object, or had it not.
    fn note_tried(&self, id: &Sha256, peer: &Provider, had_it: bool) {
        self.discovery.iter().for_each(|way| way.tried(id, peer.address, had_it));
    }

    /// Whether the mirror may wait a moment for a stranger that never delivered anything to us.
    fn take_trial(&self, now: Instant) -> bool {
        lock(&self.trials).take(now)
    }

    /// Whether what is wanted is not for everybody, as far as that is known.
    fn is_local(&self, want: &Want) -> Option<bool> {
        match &want.mirror {
            Some(target) if !self.share_private => self.mirror.is_private(target),
            _ => Some(false),
        }
    }

    /// What is held of a private repository and now wanted of a public one is public.
    fn note_wanted(&self, want: &Want) {
        let public = want.mirror.is_some() && self.is_local(want) == Some(false);
        if public
            && let Ok(Some(Scope::Local)) = self.store.scope(&want.id)
            && let Err(error) = self.store.make_public(&want.id)
        {
            tracing::warn!(object = %want.id, %error, "that an object is public could not be written down");
        }
    }

    fn standing(&self, peer: &Provider, now: Instant) -> Option<Standing> {
        let scores = lock(&self.scores);
        if liars::is_den(&scores, peer, now) {
            return None;
        }
        scores.standing_among(&peer.address, kin(peer), now)
    }

    fn note_success(&self, peer: &Provider, timing: Timing, now: Instant) {
        let transfer = timing.transfer;
        // A transfer of a few packets says nothing of the throughput.
        #[allow(clippy::cast_precision_loss, reason = "a piece has 2^22 bytes")]
        let rate = (timing.bytes >= 1 << 18 && !transfer.is_zero() && !timing.held_back)
            .then(|| timing.bytes as f64 / transfer.as_secs_f64());
        let mut scores = lock(&self.scores);
        scores.succeeded(&peer.address, timing.first_byte, rate, timing.bytes, now);
        scores.answered_among(kin(peer), timing.first_byte);
        scores.known_as(&peer.address, peer.kind);
        drop(scores);
        self.note_answer(peer);
    }

    fn note_fault(&self, peer: &Provider, fault: PeerFault) {
        let mut scores = lock(&self.scores);
        scores.faulted(&peer.address, fault, clock::now());
        scores.known_as(&peer.address, peer.kind);
        drop(scores);
        if fault.is_lie() {
            self.convictions.send_modify(|count| *count = count.wrapping_add(1));
        }
        if fault == PeerFault::Unreachable {
            self.discovery.iter().for_each(|discovery| discovery.note_unreachable(peer.address));
        }
    }

    /// Whoever named this peer learns that it is there.
    fn note_answer(&self, peer: &Provider) {
        self.discovery.iter().for_each(|discovery| discovery.note_answer(peer.address));
    }

    fn note_late(&self, peer: &Provider) {
        let mut scores = lock(&self.scores);
        scores.late(&peer.address, clock::now());
        scores.known_as(&peer.address, peer.kind);
    }

    fn note_taint(&self, id: Sha256) {
        let now = clock::now();
        let mut memory = lock(&self.memory);
        memory.tainted.retain(|_, at| now < *at + TAINT_MEMORY);
        if memory.tainted.len() < MEMORIES {
            memory.tainted.insert(id, now);
        }
    }

    fn mirror_rate(&self, target: &Target) -> Option<f64> {
        lock(&self.memory).mirror_rates.get(&target.authority()).copied()
    }

    fn note_mirror_rate(&self, target: &Target, bytes: u64, took: Duration) {
        if bytes < 1 << 20 || took.is_zero() {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
        let rate = bytes as f64 / took.as_secs_f64();
        let (host, mut memory) = (target.authority(), lock(&self.memory));
        if memory.mirror_rates.len() < MEMORIES || memory.mirror_rates.contains_key(&host) {
            memory.mirror_rates.insert(host, rate);
        }
    }
}

/// Which peers this one is like.
fn kin(peer: &Provider) -> Kin {
    match peer.kind {
        _ if is_near(peer.address.ip()) => Kin::Local,
        PeerKind::Neighbour => Kin::Chosen,
        PeerKind::Stranger => Kin::Stranger,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
