//! Looks ahead: after an update of apt's indexes, who has the packages that this machine will upgrade to.
//!
//! What is worth a look-up, and when, is decided in [`crate::swarm::lookahead`]. What is found waits in a [`Remembered`] for
//! the downloads. Where the user wants it, the bytes are fetched, too, while nobody else fetches (`idle`).

mod idle;
mod metered;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use self::idle::MakeDownloads;
use crate::clock;
use crate::digest::Sha256;
use crate::discovery::{Dht, Discovery, Found, LookUp, Remembered};
use crate::download::{Downloads, Want};
use crate::index::{Index, Upgrade};
use crate::mirror::{Mirror, Target};
use crate::pieces::Geometry;
use crate::store::Store;
use crate::swarm::lookahead::{Candidate, Lookahead as Machine, Sight};

/// How long nothing more is learnt before it is looked at what is new: an update brings many indexes, one after the other.
const QUIET: Duration = Duration::from_secs(1);

/// How long the reading of indexes may take, once no more come.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether apt's lists have changed, where no request asks for it: the update went another way.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How soon it is looked again whether the DHT works.
const DHT_EVERY: Duration = Duration::from_secs(2);

/// How long one look-up may take. Nobody waits for it.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(30);

/// What the look-ahead is made of.
pub struct LookaheadConfig {
    /// What is new, and what is installed ([`crate::index::Options::status`]).
    pub index: Index,
    /// What need not be looked for.
    pub store: Store,
    /// Tells which mirrors are not for everybody.
    pub mirror: Mirror,
    /// Files of repositories on private addresses are for everybody (`privacy.share_private_mirrors`).
    pub share_private: bool,
    /// Who is known, and what they hold.
    pub known: Arc<dyn Discovery>,
    /// Where to look for others; without it nobody is looked for.
    pub dht: Option<Dht>,
    /// Where to keep who is found. The downloads know it, too.
    pub remembered: Arc<Remembered>,
    /// The downloads of apt, which come first.
    pub downloads: Downloads,
    /// What announcing and upkeep may take, in datagrams a second; this takes far less.
    pub budget: u32,
    /// Makes the downloads that fetch while nobody else does; without them nothing is fetched.
    pub fetching: Option<MakeDownloads>,
}

/// The look-ahead: made here, at work in [`Lookahead::run`].
pub struct Lookahead {
    config: Arc<LookaheadConfig>,
}

/// What will be wanted, and what is known of it.
struct Wanted {
    config: Arc<LookaheadConfig>,
    upgrades: HashMap<Sha256, Upgrade>,
    /// Those that are not for everybody.
    local: HashSet<Sha256>,
}

/// One run of the driver.
struct Round {
    wanted: Wanted,
    machine: Machine,
    look_ups: JoinSet<()>,
    /// At most one; it is given up when something else is wanted.
    fetching: JoinSet<()>,
    /// Gives it up.
    stop: CancellationToken,
    is_to_fetch: bool,
}

impl Lookahead {
    /// A look-ahead that has seen nothing yet.
    pub fn new(config: LookaheadConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    /// Looks ahead after each update until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut round = Round::new(self.config.clone());
        let mut learnt = self.config.index.learnt();
        // What was learnt before may have news as well.
        let mut due = Some(clock::now() + QUIET);
        let mut look_at = clock::now() + LOOK_EVERY;
        loop {
            round.start_due();
            let next = round.next_event();
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = learnt.changed() => match changed {
                    Ok(()) => due = Some(clock::now() + QUIET),
                    Err(_) => break,
                },
                Some(_) = round.look_ups.join_next() => round.machine.handle_end(),
                Some(_) = round.fetching.join_next() => {}
                () = sleep_until(next) => {}
                () = sleep_until(due) => {
                    due = None;
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = round.plan() => {}
                    }
                }
                () = sleep_until(Some(look_at)) => {
                    look_at = clock::now() + LOOK_EVERY;
                    self.config.index.refresh();
                }
            }
        }
        round.end().await;
    }
}

impl Wanted {
    /// These, and nothing else any more.
    async fn replace(&mut self, upgrades: HashMap<Sha256, Upgrade>) {
        let mut local = HashSet::new();
        for upgrade in upgrades.values().filter(|_| !self.config.share_private) {
            let private = match Target::parse(&upgrade.url) {
                Ok(target) => self.config.mirror.find_private(&target).await,
                Err(_) => true,
            };
            if private {
                local.insert(upgrade.id);
            }
        }
        (self.upgrades, self.local) = (upgrades, local);
    }

    fn sight(&self, one: &Candidate) -> Sight {
        if self.local.contains(&one.id) {
            return Sight::Local;
        }
        if self.config.store.contains(&one.id) {
            return Sight::Held;
        }
        let archive = self.upgrades.get(&one.id).and_then(|upgrade| upgrade.archive);
        let outlook = self.config.known.outlook(&one.id, archive.as_ref());
        match outlook.named_by.is_empty() {
            false => Sight::Named,
            true if outlook.covered => Sight::Covered,
            true => Sight::Unknown,
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        self.upgrades.values().map(|upgrade| Candidate { id: upgrade.id, length: upgrade.length }).collect()
    }

    /// The largest first.
    fn wants(&self) -> Vec<Want> {
        let mut upgrades: Vec<_> = self.upgrades.values().collect();
        upgrades.sort_unstable_by_key(|upgrade| Reverse((upgrade.length, upgrade.id)));
        upgrades.into_iter().map(want).collect()
    }
}

impl Round {
    fn new(config: Arc<LookaheadConfig>) -> Self {
        Self {
            machine: Machine::new(config.budget),
            wanted: Wanted { config, upgrades: HashMap::new(), local: HashSet::new() },
            look_ups: JoinSet::new(),
            fetching: JoinSet::new(),
            stop: CancellationToken::new(),
            is_to_fetch: false,
        }
    }

    /// Looks at what this machine would upgrade now.
    async fn plan(&mut self) {
        let index = &self.wanted.config.index;
        index.settled(SETTLE_LIMIT).await;
        let upgrades = index.upgrades().await.into_iter().map(|upgrade| (upgrade.id, upgrade)).collect();
        if upgrades == self.wanted.upgrades {
            return;
        }
        self.wanted.replace(upgrades).await;
        let candidates = self.wanted.candidates();
        self.machine.set_wanted(&candidates, clock::now());
        debug!(upgrades = candidates.len(), "looking ahead");
        self.stop.cancel();
        self.is_to_fetch = true;
    }

    fn start_due(&mut self) {
        let dht = self.usable_dht();
        if let Some(dht) = &dht {
            while let Some(next) = self.machine.poll(|one| self.wanted.sight(one), clock::now()) {
                self.look_up(dht, &next);
            }
        }
        if self.is_to_fetch && (dht.is_none() || self.machine.is_done()) && self.fetching.is_empty() {
            self.is_to_fetch = false;
            self.fetch();
        }
    }

    /// The DHT, once it works: before, everything would be in vain.
    fn usable_dht(&self) -> Option<Dht> {
        self.wanted.config.dht.clone().filter(|dht| dht.status().good_nodes > 0)
    }

    fn look_up(&mut self, dht: &Dht, next: &Candidate) {
        let (object, remembered) = (next.id, self.wanted.config.remembered.clone());
        let look_up = Geometry::new(next.length).ok().and_then(|geometry| dht.look_up(&object, geometry));
        self.look_ups.spawn(async move {
            let Some(look_up) = look_up else { return };
            let found = timeout(LOOK_UP_LIMIT, remember(look_up, &object, &remembered)).await;
            debug!(%object, ?found, "looked ahead for peers");
        });
    }

    /// Begins to fetch what is wanted.
    fn fetch(&mut self) {
        let config = &self.wanted.config;
        if config.fetching.is_some() {
            self.stop = CancellationToken::new();
            self.fetching.spawn(idle::fetch(config.clone(), self.wanted.wants(), self.stop.clone()));
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let now = clock::now();
        self.wanted.config.dht.as_ref()?;
        let next = self.machine.next_timeout(now)?;
        Some(if self.usable_dht().is_some() { next } else { now + DHT_EVERY })
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.look_ups.shutdown().await;
        while self.fetching.join_next().await.is_some() {}
    }
}

fn want(upgrade: &Upgrade) -> Want {
    let name = upgrade.url.rsplit('/').next().unwrap_or_default().to_owned();
    let mirror = Target::parse(&upgrade.url).ok();
    Want { id: upgrade.id, length: upgrade.length, mirror, name, archive: upgrade.archive, prompt: true }
}

/// Keeps whom a look-up finds; says how many that were.
async fn remember(mut look_up: LookUp, object: &Sha256, remembered: &Remembered) -> usize {
    let mut count = 0;
    while let Some(found) = look_up.next().await {
        if let Found::Provider(provider) = found {
            remembered.add(object, provider.address);
            count += 1;
        }
    }
    count
}

/// Waits until then; for ever, where nothing is to come.
async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
