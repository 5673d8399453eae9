//! The whole node: wires the rooms together, owns their tasks, and ends them in order.

mod bans;
mod bootstrap;
mod dht;
mod events;
mod lan;
mod listeners;
mod lookahead;
mod neighbours;

mod reach;
mod record;
mod secret;
mod seeding;
mod site;
mod systemd;
mod totals;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::bans::BansFile;
pub use self::bootstrap::BootstrapNode;
use self::dht::Role;
use self::events::Audience;
use self::listeners::Listeners;
use self::reach::Reach;
use self::record::Claim;
pub use self::record::Record;
pub use self::secret::{SecretError, create_secret, swarm_of};
use self::site::{KnownPeers, StatusSite};
use self::totals::Totals;
use crate::causes::Causes;
use crate::clock;
use crate::config::{Announcing, Prefer, Settings, Signatures, UpstreamProxy};
use crate::discovery::{Dht, Discovery, Driver, Fixed, Lan, LanDriver, LanPeer, Neighbours, Remembered};
use crate::download::{Downloads, DownloadsConfig};
use crate::http::{Limits, serve};
use crate::index::{self, Index, Verification};
use crate::lookahead::Lookahead;
use crate::metrics::Metrics;
use crate::mirror::{Mirror, MirrorConfig, MirrorConfigError, Pattern, UpstreamSetting};
use crate::peer::{External, Guard, PeerClient, PeerSite, PeerSiteConfig};
use crate::proxy::{ProxyConfig, ProxySite};
use crate::reach::Mapper;
use crate::store::{Store, StoreConfig, StoreError};
use crate::swarm;
use crate::wire::Swarm;

/// How often the daemon writes down what it only remembered, and looks at the size of the cache.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// How long a command that works once reads apt's lists.
const LISTS_LIMIT: Duration = Duration::from_secs(60);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A listener.
    #[error("cannot listen on {address} ({key}): {source}; {}", remedy(.source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The key that sets it.
        key: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The cache.
    #[error("cannot open the cache in {path} (cache.path): {}", Causes(.source))]
    Store {
        /// Where.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The state directory.
    #[error("cannot write to {path} (state.path): {source}")]
    State {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon.
    #[error(
        "another aptpeer daemon uses {0} (state.path): stop it, or give this one a state.path of its own"
    )]
    Claimed(PathBuf),
    /// A node without an address.
    #[error("network.listen is empty: a bootstrap node needs an address to be reached at")]
    Nowhere,
    /// The node's name on the local network.
    #[error("cannot read or write the node's name, node.id in {path} (state.path): {source}")]
    Identity {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The DHT.
    #[error("cannot start the DHT (dht.enabled): {0}")]
    Dht(#[source] io::Error),
    /// The file of the private swarm's secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The mirror client.
    #[error(transparent)]
    Mirror(#[from] MirrorConfigError),
}

/// What to do about an address that cannot be had.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "is another program there, or another aptpeer? `ss -lntup` shows it",
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: `ip address` shows those it has"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 are for root",
        _ => "another address may do",
    }
}

/// A node that is set up and bound, not yet serving.
pub struct Node {
    claim: Claim,
    settings: Settings,
    listeners: Listeners,
    record: Record,
    store: Store,
    index: Index,
    mirror: Mirror,
    downloads: Downloads,
    fixed: Arc<Fixed>,
    dht: Option<(Dht, Driver)>,
    lan: Option<(Lan, LanDriver)>,
    neighbours: Arc<Neighbours>,
    lookahead: Option<Lookahead>,
    swarm: Swarm,
    metrics: Metrics,
}

impl Node {
    /// Opens the cache, binds every listener and writes `daemon.json`. `more` are further ways to find peers.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn new(settings: Settings, more: Vec<Arc<dyn Discovery>>) -> Result<Self, DaemonError> {
        raise_file_limit();
        let swarm = swarm_of(&settings)?;
        let claim = Claim::of(&settings.state.path)?;
        let metrics = Metrics::new(clock::now());
        let store = open_store(&settings)?;
        store.count_damage_in(metrics.clone());
        let mut listeners = Listeners::bind(&settings).await?;
        let record = Record::new(&listeners);
        let sockets = std::mem::take(&mut listeners.dht);
        let role = if listeners.peers.is_empty() { Role::Client } else { Role::Daemon };
        let dht = dht::open(&settings, sockets, role, &swarm, &metrics)?;
        let mirror = Mirror::new(mirror_config(&settings, listeners.all()))?;
        let index = open_index(&settings, &store);
        let fixed = Arc::new(Fixed::new(settings.network.peers.iter().map(ToString::to_string).collect()));
        let own_addresses: Vec<SocketAddr> =
            listeners.peers.iter().filter_map(|peer| peer.local_addr().ok()).collect();
        let client = PeerClient::of(swarm.clone());
        let lan = lan::open(&settings, &record.peers, &swarm)?;
        let wiring = neighbours::Wiring {
            fixed: fixed.clone(),
            dht: dht.as_ref().map(|(dht, _)| dht.clone()),
            index: index.clone(),
            client: client.clone(),
            metrics: metrics.clone(),
            own: own_addresses.clone(),
            swarm: swarm.clone(),
        };
        let neighbours = neighbours::open(&settings, wiring);
        let found_on_dht = dht.iter().map(|(dht, _)| Arc::new(dht.clone()) as Arc<dyn Discovery>);
        let on_lan = lan.iter().map(|(lan, _)| Arc::new(lan.clone()) as Arc<dyn Discovery>);
        let remembered = Arc::new(Remembered::default());
        let known = [fixed.clone() as Arc<dyn Discovery>, neighbours.clone(), remembered.clone()];
        let own = known.into_iter().chain(on_lan).chain(found_on_dht);
        let discovery = own.chain(more).collect();
        let config = DownloadsConfig {
            max_pieces: NonZeroUsize::new(settings.transfer.max_concurrent_downloads.get() as usize)
                .unwrap_or(NonZeroUsize::MIN),
            max_rate: settings.transfer.max_download_rate.bytes_per_second(),
            prefer: preference(&settings),
            allow_private_peers: settings.network.allow_private_peers,
            lan_only: settings.privacy.lan_only,
            share_private: settings.privacy.share_private_mirrors,
            own_addresses,
        };
        let (handle, mirrors, figures) = (store.clone(), mirror.clone(), metrics.clone());
        let parts =
            lookahead::Parts { store: handle, mirror: mirrors, client, discovery, metrics: figures, config };
        let downloads = parts.clone().downloads();
        let wiring = lookahead::Wiring {
            index: index.clone(),
            dht: dht.as_ref().map(|(dht, _)| dht.clone()),
            neighbours: neighbours.clone(),
            remembered,
            downloads: downloads.clone(),
            parts,
        };
        let lookahead = lookahead::open(&settings, wiring);
        Ok(Self {
            claim,
            settings,
            listeners,
            record,
            store,
            index,
            mirror,
            downloads,
            fixed,
            dht,
            lan,
            neighbours,
            lookahead,
            swarm,
            metrics,
        })
    }

    /// Where it listens.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Serves until `shutdown`, then finishes what is being read and stops.
    ///
    /// # Errors
    /// Where `daemon.json` cannot be written.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), DaemonError> {
        let Self {
            claim: _claim,
            settings,
            listeners,
            record,
            store,
            index,
            mirror,
            downloads,
            fixed,
            dht,
            lan,
            neighbours,
            lookahead,
            swarm,
            metrics,
        } = self;
        let state = settings.state.path.clone();
        record.write(&state).map_err(|source| DaemonError::State { path: state.clone(), source })?;
        info!(proxy = ?record.proxy, status = ?record.status, peers = ?record.peers, dht = ?record.dht, "listening");

        systemd::say_ready();

        let mut tasks = JoinSet::new();
        let quiet = CancellationToken::new();
        tasks.spawn(systemd::keep_watchdog(quiet.clone()));
        spawn_recovery(&mut tasks, store.clone());
        let (reading, stop) = (index.clone(), quiet.clone());
        tasks.spawn(async move { reading.run(stop).await });
        let (resolving, stop) = (fixed.clone(), quiet.clone());
        tasks.spawn(async move { resolving.run(stop).await });
        let (bans, banned) = BansFile::open(&state, clock::unix_seconds());
        downloads.restore_bans(&banned);
        tasks.spawn(bans::keep(downloads.clone(), bans, quiet.clone()));
        let seeding = seeding::Seeding {
            store: store.clone(),
            index: index.clone(),
            mirror: mirror.clone(),
            archives: settings.seed.apt_archives.clone(),
            share_private: settings.privacy.share_private_mirrors,
        };
        tasks.spawn(seeding.run(quiet.clone()));
        tasks.spawn(housekeeping(store.clone(), metrics.clone(), quiet.clone()));
        let totals = Totals::open(&state, metrics.clone());
        tasks.spawn(totals::keep(totals.clone(), quiet.clone()));

        let (dht, driver) = dht.unzip();
        if let Some(driver) = driver {
            tasks.spawn(driver.run(quiet.clone()));
        }
        let (lan, driver) = lan.unzip();
        if let Some(driver) = driver {
            tasks.spawn(driver.run(shutdown.clone()));
        }
        let (asking, judging, stop) = (neighbours.clone(), downloads.clone(), quiet.clone());
        let banned = move || judging.bans().into_iter().map(|ban| ban.peer).collect();
        let nobody = || watch::channel(Arc::from([])).1;
        let on_lan = lan.as_ref().map_or_else(nobody, Lan::watch);
        let addresses = |peers: &Arc<[LanPeer]>| peers.iter().map(|peer| peer.address).collect();
        if let Some(lookahead) = lookahead {
            tasks.spawn(lookahead.run(shutdown.clone()));
        }
        let peer_config = PeerSiteConfig {
            max_uploads: settings.transfer.max_concurrent_uploads.get() as usize,
            max_rate: settings.transfer.max_upload_rate.bytes_per_second(),
        };
        let parts = Arc::new(downloads.clone());
        let mut peer_site =
            PeerSite::new(store.clone(), parts, metrics.clone(), &peer_config, shutdown.clone())
                .introducing(Arc::new(neighbours::Known(neighbours.clone())))
                .near_only(settings.privacy.lan_only);
        if settings.privacy.announce == Announcing::Never {
            peer_site = peer_site.reticent();
        }
        if swarm.is_private() {
            peer_site = peer_site.guarded(Guard::new(swarm.clone(), external(dht.clone())));
        }
        let peer_site = Arc::new(peer_site);
        let mapper = reach::mapper(&settings, &record.peers);
        let reach = Reach {
            site: peer_site.clone(),
            dht: dht.clone(),
            port: record.peers.first().map(SocketAddr::port),
            mapped: mapper.as_ref().map(Mapper::mapped),
            announce: settings.privacy.announce,
        };
        if let Some(pinhole) = reach::pinhole(&settings, &record.peers) {
            tasks.spawn(pinhole.run(quiet.clone()));
        }
        let announced = reach.clone();
        tasks.spawn(
            async move { asking.run(on_lan, addresses, banned, || announced.announced(), stop).await },
        );
        if let Some(mapper) = mapper {
            tasks.spawn(mapper.run(quiet.clone()));
        }
        let announcer = dht.clone().map(|dht| {
            let (store, downloads, metrics) = (store.clone(), downloads.clone(), metrics.clone());
            let (swarm, reach) = (swarm.clone(), reach.clone());
            Arc::new(dht::announcer(&settings, store, downloads, dht, swarm, metrics, reach))
        });
        if let Some(announcer) = announcer.clone() {
            let stop = quiet.clone();
            tasks.spawn(async move { announcer.run(stop).await });
        }

        let mut servers = JoinSet::new();
        for listener in listeners.peers {
            servers.spawn(serve(listener, Limits::public(), peer_site.clone(), shutdown.clone()));
        }
        let status = StatusSite {
            metrics: metrics.clone(),
            store: Some(store.clone()),
            dht,
            announcer,
            reach: Some(reach),
            peers: Some(KnownPeers {
                downloads: downloads.clone(),
                fixed: fixed.clone(),
                lan,
                neighbours: neighbours.clone(),
            }),
            mirror: Some(mirror.clone()),
            totals: Some(totals),
            audience: Audience::new(shutdown.clone()),
        };
        let page = {
            let status = status.clone();
            Box::new(move |method: &Method, path: &str| status.answer(method, path, ""))
        };
        let proxy_config = ProxyConfig { allow_clients: settings.proxy.allow_clients.clone() };
        let proxy_site =
            Arc::new(ProxySite::new(downloads.clone(), mirror, index, metrics.clone(), page, proxy_config));
        servers.spawn(serve(listeners.proxy, Limits::local(), proxy_site.clone(), shutdown.clone()));
        servers.spawn(serve(listeners.status, Limits::local(), status.into_site(), shutdown.clone()));

        let stopping = shutdown.clone();
        tasks.spawn(async move {
            stopping.cancelled().await;
            systemd::say_stopping();
        });
        // Each server ends by itself after a shutdown, once what it was answering is through.
        while let Some(ended) = servers.join_next().await {
            if let Err(failed) = ended {
                error!(error = %failed, "a server ended");
                shutdown.cancel();
            }
        }
        info!("stopping");
        downloads.stop().await;
        proxy_site.finish().await;
        quiet.cancel();
        while tasks.join_next().await.is_some() {}
        if let Err(error) = store.save_uses() {
            warn!(%error, "the last uses of objects are lost");
        }
        Record::remove(&state);
        Ok(())
    }
}

fn open_store(settings: &Settings) -> Result<Store, DaemonError> {
    let path = settings.cache.path.clone();
    let config = StoreConfig {
        path: path.clone(),
        max_size: settings.cache.max_size.bytes(),
        min_free_space: settings.cache.min_free_space.bytes(),
    };
    Store::open(config).map_err(|source| DaemonError::Store { path, source })
}

fn open_index(settings: &Settings, store: &Store) -> Index {
    let index = Index::new(index::Options {
        lists_dir: settings.mirrors.lists_dir.clone(),
        state_dir: Some(settings.state.path.clone()),
        keyrings: settings.mirrors.keyrings.clone(),
        verification: match settings.mirrors.verify_signatures {
            Signatures::Auto => Verification::Auto,
            Signatures::Enforce => Verification::Enforce,
            Signatures::Off => Verification::Off,
        },
        status: lookahead::status(settings),
    });
    let store = store.clone();
    index.replay(Box::new(move |id| {
        let object = store.get(id).ok()??;
        Some(Box::new(object.reader()) as Box<dyn io::Read + Send>)
    }));
    index
}

/// The DHT for a command that works once; its driver is to be run beside the work. `None` where it is switched off, or
/// has no socket.
pub fn dht_client(settings: &Settings, swarm: &Swarm, metrics: &Metrics) -> Option<(Dht, Driver)> {
    if !listeners::takes_part(settings) {
        return None;
    }
    let opened = listeners::unannounced()
        .and_then(|sockets| dht::open(settings, sockets, Role::Client, swarm, metrics));
    opened.unwrap_or_else(|error| {
        warn!(%error, "going on without the DHT");
        None
    })
}

/// What apt's own lists say, read now; nothing where `mirrors.lists_dir` is off.
pub async fn read_lists(settings: &Settings) -> Index {
    let lists_dir = settings.mirrors.lists_dir.clone();
    let index = Index::new(index::Options { lists_dir, ..index::Options::default() });
    let shutdown = CancellationToken::new();
    let read = async {
        index.settled(LISTS_LIMIT).await;
        shutdown.cancel();
    };
    tokio::join!(index.clone().run(shutdown.clone()), read);
    index
}

/// How willingly the settings let a download ask the mirror.
pub fn preference(settings: &Settings) -> swarm::Prefer {
    match settings.transfer.prefer {
        Prefer::Speed => swarm::Prefer::Speed,
        Prefer::Offload => swarm::Prefer::Offload,
    }
}

/// What the settings say of mirrors. `own` are addresses where we listen ourselves.
pub fn mirror_config(settings: &Settings, own: Vec<SocketAddr>) -> MirrorConfig {
    let mirrors = &settings.mirrors;
    MirrorConfig {
        allow: mirrors.allow.iter().filter_map(|pattern| pattern.as_str().parse::<Pattern>().ok()).collect(),
        allow_private: mirrors.allow_private,
        own,
        upstream: match &mirrors.proxy {
            UpstreamProxy::Auto => UpstreamSetting::Auto,
            UpstreamProxy::None => UpstreamSetting::None,
            UpstreamProxy::Url(url) => url.parse().unwrap_or(UpstreamSetting::None),
        },
        ca_file: mirrors.ca_file.clone(),
        ..MirrorConfig::default()
    }
}

/// By which address others see us, as nodes of the DHT tell.
fn external(dht: Option<Dht>) -> External {
    Arc::new(move || dht.iter().filter_map(|dht| dht.status().external).collect())
}

/// Clears away what a crash left behind, beside the work.
fn spawn_recovery(tasks: &mut JoinSet<()>, store: Store) {
    tasks.spawn(async move {
        match tokio::task::spawn_blocking(move || store.recover()).await {
            Ok(Ok(recovery)) => info!(?recovery, "the cache is in order"),
            Ok(Err(error)) => warn!(%error, "the cache could not be put in order"),
            Err(failed) => error!(error = %failed, "putting the cache in order failed"),
        }
    });
}

/// Looks after what is kept on disk until `shutdown`, and once more then.
async fn housekeeping(store: Store, metrics: Metrics, shutdown: CancellationToken) {
    loop {
        let stopping = shutdown.is_cancelled();
        if stopping {
            return;
        }
        let store = store.clone();
        let kept = tokio::task::spawn_blocking(move || {
            store.save_uses()?;
            store.stats()
        });
        match kept.await {
            Ok(Ok(stats)) => metrics.set_cache(stats.bytes, stats.objects),
            Ok(Err(error)) => warn!(%error, "the cache cannot be looked after"),
            Err(failed) => error!(error = %failed, "looking after the cache failed"),
        }
        // Over or cancelled: looked at above.
        let _ = tokio::time::timeout(HOUSEKEEPING, shutdown.cancelled()).await;
    }
}

/// Each connection and each kept mapping takes a file descriptor; the usual soft limit of 1024 is soon used up.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit on open files stays as it is");
    }
}
