//! Keeps our announcements in the DHT alive: what the store holds, and what is on its way there, goes through the schedule to a handle of the DHT.
//!
//! The schedule decides, the store remembers, the DHT acts; this room only carries between them. All its tasks belong to
//! [`Announcer::run`], which waits for them.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::causes::Causes;
use crate::clock;
use crate::digest::Sha256;
use crate::pieces::{Geometry, State};
use crate::store::{Offer, Scope, Store, StoreError};
use crate::swarm::announce::{Candidate, Last, ListOutcome, Outcome, Plan, Schedule, Start, Summary};
use crate::wire::CHUNK_STATES;

/// How often the store is listed although it told of no change: another process may have changed it, and objects were
/// used meanwhile. What was announced is written down just as often.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// How long a change of the store may wait, so that many changes are one list.
const LIST_LEAST: Duration = Duration::from_secs(5);

/// How long one announce may take, and each value of a list that is published. A walk among dead nodes takes some ten
/// seconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long an object is on its way before it is announced: most downloads are over by then, and are announced whole.
const EARLY: Duration = Duration::from_secs(2);

/// The machine slept, or its clock was set, where the wall clock went so much further than the monotonic one.
const SLEPT: Duration = Duration::from_secs(60);

/// An answer that is being waited for.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The part of a DHT that the announcer needs.
pub trait Announce: Send + Sync {
    /// Looks for the peers of `object`, and tells the nodes nearest to it that we are one, at TCP port `port`.
    fn announce(&self, object: Sha256, port: u16) -> Answer<'_, Announced>;

    /// Publishes the piece list of an object.
    fn publish(&self, list: List) -> Answer<'_, Published>;

    /// Changes whenever we have another address than the one that was announced; `None` where nobody would know.
    fn moves(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// An object of several pieces of which a part can be given to others already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnItsWay {
    /// The object.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// Since when it is on its way.
    pub since: Instant,
}

/// Who knows what is on its way.
pub trait Downloading: Send + Sync {
    /// Every such object. One that is whole must be in the store before it is left out here.
    fn on_their_way(&self) -> Vec<OnItsWay>;

    /// Changes whenever there is another one.
    fn begun(&self) -> watch::Receiver<u64>;
}

/// How an announce ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// How many nodes took it; none is a failure.
    pub stored: u32,
    /// How many other providers the walk saw.
    pub others: u32,
    /// How many datagrams were sent for it.
    pub datagrams: u32,
}

/// How the publishing of a list ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// How many nodes took it; none is a failure.
    pub stored: u32,
    /// How many datagrams were sent for it.
    pub datagrams: u32,
}

/// The piece list of an object of more than one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The object.
    pub id: Sha256,
    /// How it is cut.
    pub geometry: Geometry,
    /// The chain's state after each piece but the last.
    pub states: Vec<State>,
}

/// What the announcer has to keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnnouncerConfig {
    /// Whether anything is announced (`privacy.announce`).
    pub announce: bool,
    /// The TCP port at which peers reach us; nothing is announced where none is known.
    pub port: Option<u16>,
    /// Periods and budget.
    pub plan: Plan,
}

/// The announcer: made here, at work in [`Announcer::run`].
pub struct Announcer {
    store: Store,
    downloads: Option<Arc<dyn Downloading>>,
    dht: Arc<dyn Announce>,
    config: AnnouncerConfig,
    summary: RwLock<Summary>,
}

impl Announcer {
    /// An announcer of what `store` holds.
    pub fn new(store: Store, dht: Arc<dyn Announce>, config: AnnouncerConfig) -> Self {
        Self { store, downloads: None, dht, config, summary: RwLock::default() }
    }

    /// Lets it announce what `downloads` have a part of, too.
    #[must_use]
    pub fn and_of(mut self, downloads: Arc<dyn Downloading>) -> Self {
        self.downloads = Some(downloads);
        self
    }

    /// What is announced, in figures that are at most a minute old.
    pub fn summary(&self) -> Summary {
        *self.summary.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces until `shutdown`, then gives up what is in flight and writes down what was done.
    pub async fn run(&self, shutdown: CancellationToken) {
        let Some(port) = self.config.port.filter(|_| self.config.announce) else { return };
        let mut round = Round::new(self, port);
        loop {
            round.start_due().await;
            self.show(round.schedule.summary());
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep_until(round.next_event().into()) => {}
                changed = round.changes.changed(), if !round.changed => round.changed = changed.is_ok(),
                () = told(&mut round.moves) => round.move_on(),
                () = told(&mut round.begun) => round.look_at = round.look_at.or(Some(clock::now() + EARLY)),
                Some(ended) = round.flights.join_next_with_id() => round.end(ended),
            }
        }
        round.flights.shutdown().await;
        round.write_down().await;
        self.show(Summary::default());
    }

    fn show(&self, summary: Summary) {
        *self.summary.write().unwrap_or_else(PoisonError::into_inner) = summary;
    }
}

/// One run of the announcer.
struct Round<'a> {
    announcer: &'a Announcer,
    port: u16,
    schedule: Schedule,
    flights: JoinSet<Outcome>,
    /// Which flight is of which object.
    flying: HashMap<Id, Sha256>,
    /// What was announced and is not written down yet: when, and how many others were seen. No more than fit between two
    /// lists of the store.
    done: HashMap<Sha256, (u64, u32)>,
    changes: watch::Receiver<u64>,
    changed: bool,
    moves: Option<watch::Receiver<u64>>,
    begun: Option<watch::Receiver<u64>>,
    /// When to look at what is on its way.
    look_at: Option<Instant>,
    listed: Option<Instant>,
    clocks: (Instant, u64),
}

impl<'a> Round<'a> {
    fn new(announcer: &'a Announcer, port: u16) -> Self {
        let now = clock::now();
        Self {
            announcer,
            port,
            schedule: Schedule::new(announcer.config.plan, now),
            flights: JoinSet::new(),
            flying: HashMap::new(),
            done: HashMap::new(),
            changes: announcer.store.changes(),
            changed: false,
            moves: announcer.dht.moves(),
            begun: announcer.downloads.as_ref().map(|downloads| downloads.begun()),
            look_at: None,
            listed: None,
            clocks: (now, clock::unix_seconds()),
        }
    }

    /// When there is something to do although nothing happens.
    fn next_event(&self) -> Instant {
        let now = clock::now();
        let start = self.schedule.next_timeout(now);
        start.into_iter().chain(self.look_at).chain([self.list_at().unwrap_or(now)]).min().unwrap_or(now)
    }

    fn list_at(&self) -> Option<Instant> {
        let pause = if self.changed { LIST_LEAST } else { LIST_EVERY };
        self.listed.map(|at| at + pause)
    }

    async fn start_due(&mut self) {
        if self.list_at().is_none_or(|at| at <= clock::now()) {
            self.write_down().await;
            self.list().await;
        }
        if self.look_at.is_some_and(|at| at <= clock::now()) {
            for candidate in self.growing() {
                self.schedule.handle_held(&candidate, clock::now());
            }
        }
        while let Some(start) = self.schedule.poll_start(clock::now()) {
            self.start(start);
        }
    }

    /// Learns from the store what is held.
    async fn list(&mut self) {
        self.listed = Some(clock::now());
        self.changed = false;
        self.changes.mark_unchanged();
        self.note_sleep();
        let store = self.announcer.store.clone();
        // First, so that what becomes whole meanwhile is in one of them.
        let mut candidates = self.growing();
        let Some(offers) = in_background("list what is held", move || store.offers()).await else { return };
        let wall = clock::unix_seconds();
        candidates.extend(offers.iter().map(|offer| candidate(offer, wall)));
        self.schedule.handle_list(&candidates, clock::now());
    }

    /// What is on its way for a while now. The next look is when more of it will be.
    fn growing(&mut self) -> Vec<Candidate> {
        let Some(downloads) = &self.announcer.downloads else { return Vec::new() };
        let now = clock::now();
        let (old, young): (Vec<_>, Vec<_>) =
            downloads.on_their_way().into_iter().partition(|object| object.since + EARLY <= now);
        self.look_at = young.iter().map(|object| object.since + EARLY).min();
        let candidate = |OnItsWay { id, length, .. }| Candidate {
            id,
            length,
            unused: Duration::ZERO,
            last: None,
            announce: true,
            whole: false,
        };
        old.into_iter().map(candidate).collect()
    }

    /// Whether there is anything of the object to give away. The list may be a minute old; this is one question to the
    /// catalog.
    fn holds(&self, id: &Sha256) -> bool {
        let is_on_its_way =
            |downloads: &Arc<dyn Downloading>| downloads.on_their_way().iter().any(|object| object.id == *id);
        self.announcer.store.contains(id) || self.announcer.downloads.as_ref().is_some_and(is_on_its_way)
    }

    /// The monotonic clock stands still while the machine sleeps, the nodes forget us all the same.
    fn note_sleep(&mut self) {
        let (before, wall_before) =
            std::mem::replace(&mut self.clocks, (clock::now(), clock::unix_seconds()));
        let wall = Duration::from_secs(self.clocks.1.saturating_sub(wall_before));
        let slept = wall.saturating_sub(self.clocks.0 - before);
        if slept > SLEPT {
            debug!(seconds = slept.as_secs(), "the clock went ahead, announcements may be forgotten");
            self.schedule.handle_slept(slept);
        }
    }

    /// Our address is another. What was done before is forgotten, so that nothing of it is written down as good.
    fn move_on(&mut self) {
        debug!("announcing everything again, for our address is another");
        self.done.clear();
        self.schedule.handle_moved(clock::now());
    }

    /// Writes down what was announced. What cannot be written is announced again early after a restart, no more.
    async fn write_down(&mut self) {
        let done: Vec<_> = self.done.drain().map(|(id, (when, others))| (id, when, others)).collect();
        let store = self.announcer.store.clone();
        in_background("write down what was announced", move || store.announced(&done)).await;
    }

    fn start(&mut self, start: Start) {
        if !self.holds(&start.id) {
            self.schedule.handle_skipped(&start.id);
            return;
        }
        let (store, dht, port) = (self.announcer.store.clone(), Arc::clone(&self.announcer.dht), self.port);
        let flight = self.flights.spawn(announce(store, dht, start, port));
        self.flying.insert(flight.id(), start.id);
    }

    fn end(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (flight, outcome) = match ended {
            Ok((flight, outcome)) => (flight, outcome),
            Err(error) => {
                warn!(%error, "an announce broke down");
                (error.id(), Outcome { stored: 0, others: 0, datagrams: None, list: None })
            }
        };
        let Some(id) = self.flying.remove(&flight) else { return };
        if outcome.stored > 0 {
            self.done.insert(id, (clock::unix_seconds(), outcome.others));
        }
        self.schedule.handle_done(&id, &outcome, clock::now());
    }
}

/// Waits for the next change; for ever where there is none to come.
async fn told(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    *changes = None;
    std::future::pending::<()>().await;
}

/// Announces one object and publishes its list where that is due; each within its time.
async fn announce(store: Store, dht: Arc<dyn Announce>, start: Start, port: u16) -> Outcome {
    let announced = timeout(CALL_LIMIT, dht.announce(start.id, port)).await.ok();
    debug!(object = %start.id, ?announced, "announced");
    let stored = announced.map_or(0, |announced| announced.stored);
    let list = if start.list && stored > 0 { publish(store, &*dht, start.id).await } else { None };
    Outcome {
        stored,
        others: announced.map_or(0, |announced| announced.others),
        datagrams: announced.map(|announced| announced.datagrams),
        list,
    }
}

/// Publishes the list of an object, `None` where there is none to publish.
async fn publish(store: Store, dht: &dyn Announce, id: Sha256) -> Option<ListOutcome> {
    let (geometry, states) = in_background("read a piece list", move || store.states(&id)).await??;
    // The head, and the chunks that it may name.
    let values = 1 + states.len().div_ceil(CHUNK_STATES);
    let limit = CALL_LIMIT.saturating_mul(u32::try_from(values).unwrap_or(u32::MAX));
    let published = timeout(limit, dht.publish(List { id, geometry, states })).await.ok();
    debug!(object = %id, ?published, "published its piece list");
    Some(ListOutcome {
        stored: published.map_or(0, |published| published.stored),
        datagrams: published.map(|published| published.datagrams),
    })
}

/// What the store says of an object, as the schedule sees it at `wall` seconds. Times that lie ahead, because the clock
/// was set back, are taken for now and for never.
fn candidate(offer: &Offer, wall: u64) -> Candidate {
    let ago = |when: u64| wall.checked_sub(when).map(Duration::from_secs);
    Candidate {
        id: offer.id,
        length: offer.length,
        unused: ago(offer.used).unwrap_or_default(),
        last: offer.announced.and_then(ago).map(|ago| Last { ago, others: offer.others }),
        announce: offer.origin.is_announced() && offer.scope == Scope::Public,
        whole: true,
    }
}

/// Asks the store where waiting for the disk holds up nobody; `None` where it fails to do `what`, which is logged.
async fn in_background<T: Send + 'static>(
    what: &'static str,
    ask: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Option<T> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => warn!(error = %Causes(&error), "cannot {what}"),
        Err(error) => warn!(%error, "cannot {what}"),
    }
    None
}
