//! The DHT as the settings want it.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::DaemonError;
use super::reach::Reach;
use crate::announcer::{
    Announce, Announced, Announcer, AnnouncerConfig, Answer, Downloading, List, OnItsWay, Published,
};
use crate::config::{Announcing, Settings};
use crate::dht::{Ended, Limits};
use crate::digest::Sha256;
use crate::discovery::{Dht, DhtConfig, Driver, Names, list_items};
use crate::download::{Downloads, Growing};
use crate::metrics::Metrics;
use crate::pieces::State;
use crate::store::Store;
use crate::swarm::announce::Plan;
use crate::wire::Swarm;

/// How often a piece list is stored again: half the time after which nodes forget it (BEP 44, "expiration").
const LIST_INTERVAL: Duration = Duration::from_secs(3600);

/// What a node of ours is on the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A daemon's: it answers others beside its work.
    Daemon,
    /// A command's that works once: it asks, and answers nobody.
    Client,
    /// A node that many enter the network by.
    Bootstrap,
}

/// The DHT on `sockets`; `None` where there are none: it is switched off.
pub(super) fn open(
    settings: &Settings,
    sockets: Vec<UdpSocket>,
    role: Role,
    swarm: &Swarm,
    metrics: &Metrics,
) -> Result<Option<(Dht, Driver)>, DaemonError> {
    if sockets.is_empty() {
        return Ok(None);
    }
    let config = DhtConfig {
        sockets,
        bootstrap: Names::new(settings.dht.bootstrap.iter().map(ToString::to_string).collect()),
        state: Some(settings.state.path.clone()),
        read_only: role == Role::Client,
        allow_local: settings.network.allow_private_peers,
        background_rate: settings.dht.announce_budget.per_second().get(),
        limits: if role == Role::Bootstrap { Limits::bootstrap() } else { Limits::daemon() },
        publishers: settings.dht.publishers.iter().map(|key| *key.as_bytes()).collect(),
        swarm: swarm.clone(),
        metrics: metrics.clone(),
    };
    Dht::new(config).map(Some).map_err(DaemonError::Dht)
}

/// What keeps our announcements alive on `dht`. `port` is where peers reach us.
pub(super) fn announcer(
    settings: &Settings,
    store: Store,
    downloads: Downloads,
    dht: Dht,
    swarm: Swarm,
    metrics: Metrics,
    reach: Reach,
) -> Announcer {
    let plan = Plan {
        interval: settings.dht.announce_interval.get(),
        budget: f64::from(settings.dht.announce_budget.per_second().get()),
        list_interval: LIST_INTERVAL,
    };
    let config =
        AnnouncerConfig { announce: settings.privacy.announce != Announcing::Never, port: reach.port, plan };
    let mainline = Mainline { dht, swarm, metrics, reach };
    Announcer::new(store, Arc::new(mainline), config).and_of(Arc::new(downloads))
}

impl Downloading for Downloads {
    fn on_their_way(&self) -> Vec<OnItsWay> {
        let same = |Growing { id, length, since }| OnItsWay { id, length, since };
        self.growing().into_iter().map(same).collect()
    }

    fn begun(&self) -> watch::Receiver<u64> {
        self.begun()
    }
}

/// The DHT as the announcer sees it.
struct Mainline {
    dht: Dht,
    swarm: Swarm,
    metrics: Metrics,
    reach: Reach,
}

impl Announce for Mainline {
    fn announce(&self, object: Sha256, _: u16) -> Answer<'_, Announced> {
        Box::pin(async move {
            self.reach.settled().await;
            let Some(port) = self.reach.announced() else {
                // Asked again within minutes, as where the network is away: a router may open the port meanwhile.
                return Announced { stored: 0, others: 0, datagrams: 0 };
            };
            let object = self.swarm.info_hash(&object);
            let Ended { stored, peers, datagrams, .. } =
                self.dht.announce(object, port).await.unwrap_or_default();
            self.metrics.announced(stored > 0);
            Announced { stored, others: peers, datagrams }
        })
    }

    fn publish(&self, list: List) -> Answer<'_, Published> {
        Box::pin(async move {
            let states: Vec<_> = list.states.into_iter().map(State::to_bytes).collect();
            let items = list_items(&list.id, list.geometry.length(), &states, None, &self.swarm);
            let Some(items) = items else {
                return Published { stored: 0, datagrams: 0 };
            };
            let Ended { stored, datagrams, .. } = self.dht.store_list(items).await;
            Published { stored, datagrams }
        })
    }

    fn moves(&self) -> Option<watch::Receiver<u64>> {
        Some(self.dht.moves())
    }
}
