//! Everything that the page shows, as it stands at one moment: what `/snapshot` and `/events` tell, and what the page is made of.

use serde::Serialize;

use super::health::Health;
use super::history::{HOURS, History, Totals};
use super::peers::{PeerDocument, PeersDocument};
use super::{Cache, View};
use crate::download::{Delivered, Ongoing, Who};
use crate::reach::Reachable;
use crate::swarm::PieceStage;

/// The most peers that are shown; `/peers` has them all.
const MAX_PEERS: usize = 50;

/// What the page shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The version of this program.
    pub version: &'static str,
    /// Whole seconds since the start.
    pub uptime_seconds: u64,
    /// Requests from apt since the start.
    pub requests: u64,
    /// `well`, `attention` or `ailing`.
    pub state: &'static str,
    /// What stands in the way.
    pub health: Health,
    /// What came in the last 24 hours.
    pub day: Totals,
    /// What came in each of them, the present one last.
    pub hours: [Totals; HOURS],
    /// What came since the first start.
    pub ever: Totals,
    /// Since when that is counted, in seconds since 1970-01-01 UTC.
    pub since: Option<u64>,
    /// Downloads under way.
    pub downloads: Vec<OngoingDocument>,
    /// How many there are.
    pub downloads_total: usize,
    /// The peers that matter most.
    pub peers: Vec<PeerDocument>,
    /// How many are known.
    pub peers_total: usize,
    /// With how many bytes were exchanged in the last five minutes.
    pub peers_lately: u64,
    /// The cache; `None` for a node that keeps nothing.
    pub cache: Option<CacheDocument>,
    /// The DHT; `None` where it is switched off.
    pub dht: Option<DhtBrief>,
    /// `yes`, `no` or `unknown`; `None` for a node that serves no peers.
    pub reachable: Option<&'static str>,
    /// How we know.
    pub reachable_because: Option<&'static str>,
    /// The port at which peers are served.
    pub port: Option<u16>,
    /// The objects that apt got last, the newest first.
    pub recent: Vec<RecentDocument>,
}

/// A download under way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OngoingDocument {
    /// The object.
    pub object: String,
    /// What it is called.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// Bytes that are here.
    pub held: u64,
    /// Bytes that apt has got, or may have.
    pub released: u64,
    /// Pieces.
    pub pieces: u32,
    /// Those that are here.
    pub linked: u32,
    /// Those that are being fetched.
    pub under_way: u32,
    /// Those that an earlier download has left.
    pub resumed: u32,
    /// The pieces in order, a letter each: `-` missing, `u` under way, `l` linked, `r` released. 200 letters at most: then each
    /// stands for several.
    pub map: String,
    /// Whole seconds since it began.
    pub seconds: u64,
    /// Bytes from peers.
    pub from_peers: u64,
    /// Bytes from the mirror.
    pub from_mirror: u64,
    /// Who gives, the most first.
    pub sources: Vec<GiverDocument>,
    /// How many more there are.
    pub further_sources: usize,
}

/// A source of a download.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GiverDocument {
    /// `mirror` or `peer`.
    pub kind: &'static str,
    /// Its host, or its address.
    pub who: String,
    /// Bytes that came from it.
    pub bytes: u64,
    /// Whether it is asked for something now.
    pub active: bool,
}

/// The cache.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CacheDocument {
    /// Stored objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most bytes that may be stored.
    pub limit: u64,
    /// Bytes free on the disk.
    pub free: u64,
}

/// The DHT, in short.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DhtBrief {
    /// Nodes that answered lately.
    pub good_nodes: usize,
    /// Nodes that are known.
    pub known_nodes: usize,
    /// Our address as others see it.
    pub external_address: Option<String>,
    /// What it waits for; `None` when it works.
    pub waiting_for: Option<String>,
    /// How many objects are announced; `None` where nothing is.
    pub announced: Option<usize>,
}

/// An object that apt got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecentDocument {
    /// The object.
    pub object: String,
    /// What it was called.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// `cache`, `peers`, `mirror` or `both`.
    pub from: &'static str,
    /// How many percent of what was fetched came from peers; `None` where it was in the cache.
    pub peers_percent: Option<u64>,
    /// Whole seconds since.
    pub seconds_ago: u64,
}

impl Snapshot {
    /// What a view shows.
    pub fn of(view: &View<'_>) -> Self {
        let stats = view.metrics.stats(view.now);
        let health = Health::of(view);
        let mut peers = PeersDocument::new(view.peers).peers;
        peers.truncate(MAX_PEERS);
        let nothing = History::default();
        let history = view.history.unwrap_or(&nothing);
        let (ongoing, downloads_total) = view.ongoing;
        Self {
            version: stats.version,
            uptime_seconds: stats.uptime_seconds,
            requests: stats.requests_total,
            state: health.as_str(),
            health,
            day: history.last_day(view.unix),
            hours: history.last_hours(view.unix),
            ever: history.ever(),
            since: history.since(),
            downloads: ongoing.iter().map(|download| OngoingDocument::of(download, view)).collect(),
            downloads_total,
            peers,
            peers_total: view.peers.len(),
            peers_lately: stats.peers,
            cache: view.cache.and_then(CacheDocument::of),
            dht: view.dht.map(|status| DhtBrief {
                good_nodes: status.good_nodes,
                known_nodes: status.known_nodes,
                external_address: status.external.map(|address| address.to_string()),
                waiting_for: status.waiting_for.clone(),
                announced: view.announcing.map(|summary| summary.kept),
            }),
            reachable: view.reachable.map(Reachable::as_str),
            reachable_because: view.reachable.and_then(Reachable::why),
            port: view.port,
            recent: view.delivered.iter().map(|delivered| RecentDocument::of(delivered, view)).collect(),
        }
    }
}

impl OngoingDocument {
    fn of(download: &Ongoing, view: &View<'_>) -> Self {
        let letter = |stage: &PieceStage| match stage {
            PieceStage::Missing => '-',
            PieceStage::UnderWay => 'u',
            PieceStage::Linked => 'l',
            PieceStage::Released => 'r',
        };
        let giver = |giver: &crate::download::Giver| GiverDocument {
            kind: if matches!(giver.who, Who::Mirror(_)) { "mirror" } else { "peer" },
            who: match &giver.who {
                Who::Mirror(host) => host.clone(),
                Who::Peer(address) => address.to_string(),
            },
            bytes: giver.bytes,
            active: giver.active,
        };
        let picture = &download.picture;
        Self {
            object: download.id.to_string(),
            name: download.name.clone(),
            length: download.length,
            held: picture.held,
            released: picture.released,
            pieces: picture.pieces,
            linked: picture.linked,
            under_way: picture.under_way,
            resumed: picture.resumed,
            map: picture.cells.iter().map(letter).collect(),
            seconds: view.now.saturating_duration_since(download.began).as_secs(),
            from_peers: download.tally.peers,
            from_mirror: download.tally.mirror,
            sources: download.givers.iter().map(giver).collect(),
            further_sources: download.further,
        }
    }
}

impl CacheDocument {
    fn of(cache: &Cache) -> Option<Self> {
        let Cache::Usable(stats) = cache else { return None };
        Some(Self {
            objects: stats.objects,
            bytes: stats.bytes.saturating_add(stats.assembling_bytes),
            limit: stats.max_size,
            free: stats.free_space,
        })
    }
}

impl RecentDocument {
    fn of(delivered: &Delivered, view: &View<'_>) -> Self {
        let percent = |tally: crate::download::Tally| {
            let all = tally.peers.saturating_add(tally.mirror);
            tally.peers.saturating_mul(100).checked_div(all).unwrap_or(0)
        };
        let from = match delivered.tally {
            None => "cache",
            Some(tally) if tally.mirror == 0 && tally.peers > 0 => "peers",
            Some(tally) if tally.peers == 0 => "mirror",
            Some(_) => "both",
        };
        Self {
            object: delivered.id.to_string(),
            name: delivered.name.clone(),
            length: delivered.length,
            from,
            peers_percent: delivered.tally.map(percent),
            seconds_ago: view.now.saturating_duration_since(delivered.at).as_secs(),
        }
    }
}
