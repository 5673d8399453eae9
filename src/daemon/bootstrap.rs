//! A node that does nothing but take part in the DHT, for others to enter it by.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::dht::{self, Role};
use super::events::Audience;
use super::record::Claim;
use super::site::StatusSite;
use super::{DaemonError, Record, listeners, systemd};
use crate::clock;
use crate::config::Settings;
use crate::discovery::{Dht, Driver};
use crate::http::{Limits, serve};
use crate::metrics::Metrics;
use crate::wire::Swarm;

/// A DHT-only node that is set up and bound, not yet running: no cache, no proxy, no apt.
pub struct BootstrapNode {
    claim: Claim,
    settings: Settings,
    record: Record,
    status: tokio::net::TcpListener,
    dht: Dht,
    driver: Driver,
    metrics: Metrics,
}

impl BootstrapNode {
    /// Binds the sockets of `network.listen`, for datagrams only, and the status port.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn new(settings: Settings) -> Result<Self, DaemonError> {
        let claim = Claim::of(&settings.state.path)?;
        let metrics = Metrics::new(clock::now());
        let status = listeners::bind(settings.status.listen, "status.listen")?;
        let sockets = listeners::udp(&settings.network.listen)?;
        let record = Record::of_bootstrap(&status, &sockets);
        let (dht, driver) = dht::open(&settings, sockets, Role::Bootstrap, &Swarm::PUBLIC, &metrics)?
            .ok_or(DaemonError::Nowhere)?;
        Ok(Self { claim, settings, record, status, dht, driver, metrics })
    }

    /// Where it listens.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Takes part until `shutdown`.
    ///
    /// # Errors
    /// Where `daemon.json` cannot be written.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), DaemonError> {
        let Self { claim: _claim, settings, record, status, dht, driver, metrics } = self;
        let state = settings.state.path;
        record.write(&state).map_err(|source| DaemonError::State { path: state.clone(), source })?;
        info!(dht = ?record.dht, status = ?record.status, "listening");
        systemd::say_ready();
        let site = StatusSite {
            metrics,
            store: None,
            dht: Some(dht),
            announcer: None,
            reach: None,
            peers: None,
            mirror: None,
            totals: None,
            audience: Audience::new(shutdown.clone()),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(systemd::keep_watchdog(shutdown.clone()));
        tasks.spawn(serve(status, Limits::local(), site.into_site(), shutdown.clone()));
        tasks.spawn(driver.run(shutdown.clone()));
        while let Some(ended) = tasks.join_next().await {
            if let Err(failed) = ended {
                error!(error = %failed, "a part of the node ended");
                shutdown.cancel();
            }
        }
        Record::remove(&state);
        Ok(())
    }
}
