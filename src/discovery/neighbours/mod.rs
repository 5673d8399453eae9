//! Neighbours and archive swarms: who has an object, answered from the have-sets that a few peers told us.
//!
//! [`Neighbours`] answers from memory; its [`Neighbours::run`] is the task that asks. What is decided is decided in
//! [`crate::swarm::neighbourhood`] and [`crate::swarm::meetings`].

mod driver;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Dht, Discovery, Fixed, Outlook, Provider};
use crate::clock;
use crate::digest::{InfoHash, Sha256};
use crate::metrics::Metrics;
use crate::swarm::neighbourhood::{Neighbour, Neighbourhood, Refusal, Told};

/// An answer that is being waited for.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// The part of the peer protocol that neighbours are asked by.
pub trait Ask: Send + Sync {
    /// What a peer holds, unless that is what the tag `known` names.
    fn objects(&self, peer: SocketAddr, known: Option<String>) -> Reply<'_, Told>;

    /// Whom a peer knows.
    fn neighbours(&self, peer: SocketAddr) -> Reply<'_, Vec<SocketAddr>>;
}

/// An archive that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archive {
    /// Its name.
    pub name: Sha256,
    /// Under what those who use it meet in the DHT.
    pub info_hash: InfoHash,
}

/// What the neighbours are made of.
pub struct NeighboursConfig {
    /// What distinguishes our times from those of others.
    pub seed: u64,
    /// Strangers may be at addresses that the internet does not reach.
    pub allow_local: bool,
    /// Where we serve peers ourselves: not to be asked.
    pub own: Vec<SocketAddr>,
    /// The peers that the configuration names.
    pub fixed: Arc<Fixed>,
    /// Where strangers meet; `None` where none are wanted.
    pub dht: Option<Dht>,
    /// How often to tell that we use an archive; `None` for never.
    pub announce: Option<Duration>,
    /// Whether strangers are taken at all (`privacy.lan_only`).
    pub strangers: bool,
    /// Where it is shown how many neighbours answer.
    pub metrics: Metrics,
    /// The archives that are used now. It is asked again every few seconds.
    pub archives: Box<dyn Fn() -> Vec<Archive> + Send + Sync>,
}

/// The neighbours: made here, at work in [`Neighbours::run`].
pub struct Neighbours {
    config: NeighboursConfig,
    ask: Arc<dyn Ask>,
    machine: Mutex<Neighbourhood>,
    /// There may be something to ask sooner.
    wake: Notify,
}

impl Neighbours {
    /// Neighbours that are asked by `ask`.
    pub fn new(config: NeighboursConfig, ask: Arc<dyn Ask>) -> Self {
        let machine = Neighbourhood::new(config.seed, config.allow_local, clock::now());
        let machine = if config.strangers { machine } else { machine.without_strangers() };
        Self { config, ask, machine: Mutex::new(machine), wake: Notify::new() }
    }

    /// The neighbours that `asker` may be told of.
    pub fn introduced_to(&self, asker: IpAddr) -> Vec<SocketAddr> {
        self.lock().introduced_to(asker, clock::now())
    }

    /// All of them, with what they told.
    pub fn list(&self) -> Vec<Neighbour> {
        self.lock().neighbours(clock::now()).collect()
    }

    /// How many neighbours there are, and how many of them are strangers.
    pub fn counts(&self) -> (usize, usize) {
        self.lock().counts()
    }

    fn lock(&self) -> MutexGuard<'_, Neighbourhood> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery for Neighbours {
    fn providers(&self, object: &Sha256) -> Vec<Provider> {
        let holders = self.lock().who_has(object, clock::now());
        holders.into_iter().map(|holder| Provider { address: holder.address, kind: holder.kind }).collect()
    }

    fn outlook(&self, object: &Sha256, archive: Option<&Sha256>) -> Outlook {
        let (mut machine, now) = (self.lock(), clock::now());
        if machine.want(object, now) {
            self.wake.notify_one();
        }
        let holders = machine.who_has(object, now);
        Outlook {
            named_by: holders.into_iter().map(|holder| (holder.address, holder.answer)).collect(),
            lacking: machine.lacking(object, now),
            covered: archive.is_some_and(|archive| machine.is_covered(archive, now)),
        }
    }

    fn tried(&self, object: &Sha256, peer: SocketAddr, had_it: bool) {
        self.lock().handle_tried(object, peer, had_it, clock::now());
        if !had_it {
            self.wake.notify_one();
        }
    }
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neighbours").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
