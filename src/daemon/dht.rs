//! The DHT as the settings want it.

use tokio::net::UdpSocket;

use super::DaemonError;
use crate::config::Settings;
use crate::dht::Limits;
use crate::discovery::{Dht, DhtConfig, Driver, Names};
use crate::metrics::Metrics;

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
        metrics: metrics.clone(),
    };
    Dht::new(config).map(Some).map_err(DaemonError::Dht)
}
