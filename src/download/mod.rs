//! Downloads: one flight per object however many ask for it, each fed by peers and the mirror, read while it grows.

mod admission;
mod canvas;
mod fetch;
mod findings;
mod flight;
mod origin;
mod places;
mod reader;
mod seeding;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::Borders;
use self::canvas::Canvas;
use self::fetch::{Queue, Timing};
use self::findings::LookUps;
use self::flight::{Flight, Shared};
pub use self::origin::OriginError;
pub use self::reader::{Chunks, Download};
use crate::clock;
use crate::digest::Sha256;
use crate::discovery::{Discovery, Provider};
use crate::metrics::{Metrics, Source};
use crate::mirror::{Mirror, Target};
use crate::peer::PeerClient;
use crate::pieces::{Geometry, TooLong};
use crate::store::{Object, Store, StoreError};
use crate::swarm::{PeerFault, Prefer, Scoreboard, Standing};

/// How long a reader that comes back after a taint gets the whole object instead of the rest: longer than apt's retries
/// take together.
const TAINT_MEMORY: Duration = Duration::from_secs(600);

/// The most taints and mirror rates that are remembered.
const MEMORIES: usize = 1024;

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
    /// What the user prefers.
    pub prefer: Prefer,
    /// Strangers may be at addresses that the internet does not reach (`network.allow_private_peers`).
    pub allow_private_peers: bool,
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
    prefer: Prefer,
    /// What distinguishes our choice among equals from that of others.
    seed: u64,
    borders: Borders,
    look_ups: Arc<LookUps>,
    scores: Mutex<Scoreboard<SocketAddr>>,
    memory: Mutex<Memory>,
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
        let context = Context {
            store,
            mirror,
            peers,
            discovery,
            metrics,
            queue: Arc::new(Queue::new(config.max_pieces)),
            prefer: config.prefer,
            // Every `RandomState` has keys of its own: random enough for a choice among equals.
            seed: RandomState::new().build_hasher().finish(),
            borders: Borders { own: config.own_addresses, allow_private: config.allow_private_peers },
            look_ups: Arc::new(LookUps::new()),
            scores: Mutex::default(),
            memory: Mutex::default(),
        };
        Self {
            context: Arc::new(context),
            flights: Arc::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        }
    }

    /// The object, from the store or from a download that is under way or starts now. Never waits.
    ///
    /// # Errors
    /// Where the length is absurd.
    pub fn open(&self, want: Want) -> Result<Download, DownloadError> {
        let geometry = Geometry::new(want.length)?;
        if let Some(object) = self.held(&want.id, want.length) {
            return Ok(Download::held(object));
        }
        let mut flights = lock(&self.flights);
        if let Some(shared) = flights.get(&want.id)
            && shared.want.length == want.length
            && (shared.want.mirror.is_some() || want.mirror.is_none())
        {
            let progress = shared.progress.subscribe();
            if !matches!(progress.borrow().stage, Stage::Failed(_)) {
                return Ok(Download::flying(want.id, geometry, progress));
            }
        }
        let shared = Arc::new(Shared::new(want, geometry));
        let progress = shared.progress.subscribe();
        let id = shared.want.id;
        flights.insert(id, shared.clone());
        drop(flights);
        self.tasks.spawn(self.clone().fly(shared, geometry));
        Ok(Download::flying(id, geometry, progress))
    }

    /// The whole object, if it is stored.
    pub fn held(&self, id: &Sha256, length: u64) -> Option<Arc<Object>> {
        match self.context.store.get(id) {
            Ok(object) => object.filter(|object| object.length() == length),
            Err(error) => {
                tracing::warn!(object = %id, %error, "a stored object could not be opened");
                self.context.metrics.verification_failed(crate::metrics::VerificationFailure::Stored);
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

    /// Stops every download and waits until all have ended.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn fly(self, shared: Arc<Shared>, geometry: Geometry) {
        let id = shared.want.id;
        // Making room may wait for the disk.
        let canvas = tokio::task::block_in_place(|| flight::canvas(&self.context, id, geometry));
        match canvas {
            Ok(canvas) => {
                let flight = Flight::new(self.context.clone(), shared.clone(), canvas);
                flight.run(self.shutdown.clone()).await;
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
        }
    }
}

impl Context {
    fn providers(&self, id: &Sha256) -> Vec<Provider> {
        self.discovery.iter().flat_map(|discovery| discovery.providers(id)).collect()
    }

    fn standing(&self, peer: SocketAddr, now: Instant) -> Option<Standing> {
        lock(&self.scores).standing(&peer, now)
    }

    fn note_success(&self, peer: SocketAddr, timing: Timing, now: Instant) {
        let transfer = timing.transfer;
        // A transfer of a few packets says nothing of the throughput.
        #[allow(clippy::cast_precision_loss, reason = "a piece has 2^22 bytes")]
        let rate = (timing.bytes >= 1 << 18 && !transfer.is_zero())
            .then(|| timing.bytes as f64 / transfer.as_secs_f64());
        lock(&self.scores).succeeded(&peer, timing.first_byte, rate, now);
    }

    fn note_fault(&self, peer: SocketAddr, fault: PeerFault) {
        lock(&self.scores).faulted(&peer, fault, clock::now());
    }

    fn note_late(&self, peer: SocketAddr) {
        lock(&self.scores).late(&peer, clock::now());
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
