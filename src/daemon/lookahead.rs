//! The look-ahead as the settings want it.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Prefetch, Settings};
use crate::discovery::{Dht, Discovery, Neighbours, Remembered};
use crate::download::{Downloads, DownloadsConfig};
use crate::index::Index;
use crate::lookahead::{Lookahead, LookaheadConfig, MakeDownloads};
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::peer::PeerClient;
use crate::store::Store;
use crate::swarm::Prefer;

/// How fast is fetched what nobody waits for, in bytes a second: a line of 10 Mbit/s stays usable.
const IDLE_RATE: u64 = 500_000;

/// What the look-ahead of a daemon is wired to.
pub(super) struct Wiring {
    pub(super) index: Index,
    pub(super) dht: Option<Dht>,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) remembered: Arc<Remembered>,
    pub(super) downloads: Downloads,
    /// What the downloads are made of.
    pub(super) parts: Parts,
}

/// What downloads are made of.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) mirror: Mirror,
    pub(super) client: PeerClient,
    pub(super) discovery: Vec<Arc<dyn Discovery>>,
    pub(super) metrics: Metrics,
    pub(super) config: DownloadsConfig,
}

impl Parts {
    pub(super) fn downloads(self) -> Downloads {
        Downloads::new(self.store, self.mirror, self.client, self.discovery, self.metrics, self.config)
    }
}

/// dpkg's status file; `None` where nothing is done ahead. dpkg(1): `DPKG_ADMINDIR` says where its files lie.
pub(super) fn status(settings: &Settings) -> Option<PathBuf> {
    let folder = std::env::var_os("DPKG_ADMINDIR").map_or_else(|| "/var/lib/dpkg".into(), PathBuf::from);
    (settings.transfer.prefetch != Prefetch::Off).then(|| folder.join("status"))
}

/// The look-ahead; its task is [`Lookahead::run`]. `None` where nothing is done ahead.
pub(super) fn open(settings: &Settings, wiring: Wiring) -> Option<Lookahead> {
    let Wiring { index, dht, neighbours, remembered, downloads, parts } = wiring;
    let (store, mirror) = (parts.store.clone(), parts.mirror.clone());
    let fetching = match settings.transfer.prefetch {
        Prefetch::Off => return None,
        Prefetch::Sources => None,
        Prefetch::Data => Some(at_leisure(parts)),
    };
    Some(Lookahead::new(LookaheadConfig {
        index,
        store,
        mirror,
        share_private: settings.privacy.share_private_mirrors,
        known: neighbours,
        dht,
        remembered,
        downloads,
        budget: settings.dht.announce_budget.per_second().get(),
        fetching,
    }))
}

/// The same downloads, but slow, and sparing the mirror: nobody waits for them.
fn at_leisure(mut parts: Parts) -> MakeDownloads {
    let config = &mut parts.config;
    config.max_pieces = NonZeroUsize::MIN;
    config.max_rate = [config.max_rate, NonZeroU64::new(IDLE_RATE)].into_iter().flatten().min();
    config.prefer = Prefer::Offload;
    Box::new(move || parts.clone().downloads())
}
