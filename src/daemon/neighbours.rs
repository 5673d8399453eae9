//! Neighbours as the settings want them: asked by the peer client, met by the archives that the index has seen.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::{Announcing, Settings};
use crate::discovery::{Archive, Ask, Dht, Fixed, Neighbours, NeighboursConfig, Reply};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::peer::{Acquaintances, PeerClient, PeerError};
use crate::swarm::PeerFault;
use crate::swarm::neighbourhood::{Refusal, Told};
use crate::wire::Swarm;

/// What the neighbours of a daemon are wired to.
pub(super) struct Wiring {
    pub(super) fixed: Arc<Fixed>,
    pub(super) dht: Option<Dht>,
    pub(super) index: Index,
    pub(super) client: PeerClient,
    pub(super) metrics: Metrics,
    /// Where we serve peers ourselves.
    pub(super) own: Vec<SocketAddr>,
    pub(super) swarm: Swarm,
}

/// The neighbours; their task is [`Neighbours::run`].
pub(super) fn open(settings: &Settings, wiring: Wiring) -> Arc<Neighbours> {
    let Wiring { fixed, dht, index, client, metrics, own, swarm } = wiring;
    let allow_local = settings.network.allow_private_peers;
    let announce = settings.privacy.announce != Announcing::Never;
    let config = NeighboursConfig {
        // Every `RandomState` has keys of its own: enough to do things at another time than others.
        seed: RandomState::new().build_hasher().finish(),
        allow_local,
        own,
        fixed,
        dht,
        announce: announce.then(|| settings.dht.announce_interval.get()),
        strangers: !settings.privacy.lan_only,
        metrics,
        archives: Box::new(move || {
            let names = index.archives(allow_local).into_iter();
            names.map(|name| Archive { name, info_hash: swarm.archive(&name) }).collect()
        }),
    };
    Arc::new(Neighbours::new(config, Arc::new(Asking(client))))
}

/// The peer client as the neighbours see it.
struct Asking(PeerClient);

impl Ask for Asking {
    fn objects(&self, peer: SocketAddr, known: Option<String>) -> Reply<'_, Told> {
        Box::pin(async move { self.0.have(peer, known).await.map_err(|error| refusal(&error)) })
    }

    fn neighbours(&self, peer: SocketAddr) -> Reply<'_, Vec<SocketAddr>> {
        Box::pin(async move { self.0.neighbours(peer).await.map_err(|error| refusal(&error)) })
    }
}

fn refusal(error: &PeerError) -> Refusal {
    tracing::debug!(%error, "a neighbour's answer");
    match error {
        PeerError::Busy => Refusal::Busy,
        PeerError::NotHeld => Refusal::Silent,
        PeerError::Fault { fault, .. } => match fault {
            PeerFault::BadList | PeerFault::Long | PeerFault::Rubbish | PeerFault::WrongRange => {
                Refusal::Wrong
            }
            _ => Refusal::Silent,
        },
    }
}

/// The neighbours as the peer port sees them.
pub(super) struct Known(pub(super) Arc<Neighbours>);

impl Acquaintances for Known {
    fn introduced_to(&self, asker: IpAddr) -> Vec<SocketAddr> {
        self.0.introduced_to(asker)
    }
}
