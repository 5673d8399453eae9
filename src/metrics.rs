//! Counters and histograms: counted once here, shown as `/metrics` (OpenMetrics text) and as `/stats`.
//!
//! Every label is an enum of ours: no series exists that a stranger could add. All series exist from the start, at 0.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::swarm::Recent;

/// The content type of [`Metrics::text`] (OpenMetrics 1.0.0, "Protocol Negotiation").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Other peers.
    Peer,
    /// The mirror.
    Mirror,
    /// Our own disk.
    Cache,
}

/// Why bytes were found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerificationFailure {
    /// A piece from a peer did not fit the chain.
    Piece,
    /// A peer's list of states was contradicted by the object's digest.
    PieceList,
    /// What a mirror sent has another digest than its index says.
    Mirror,
    /// A stored object was found changed on disk.
    Stored,
    /// An index carries a bad signature.
    Signature,
}

/// Who came to the peer port and asked for nothing that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visitor {
    /// A BitTorrent client, by its plain handshake.
    BitTorrent,
    /// Somebody who begins TLS.
    Tls,
    /// HTTP for something else: a browser, a crawler, a scanner.
    Http,
    /// Anything else, encrypted BitTorrent included, and whoever says nothing.
    Other,
}

impl Source {
    const ALL: [Self; 3] = [Self::Peer, Self::Mirror, Self::Cache];

    /// The value of the label `source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Mirror => "mirror",
            Self::Cache => "cache",
        }
    }
}

impl VerificationFailure {
    const ALL: [Self; 5] = [Self::Piece, Self::PieceList, Self::Mirror, Self::Stored, Self::Signature];

    /// The value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Piece => "piece",
            Self::PieceList => "piece_list",
            Self::Mirror => "mirror",
            Self::Stored => "stored",
            Self::Signature => "signature",
        }
    }
}

impl Visitor {
    const ALL: [Self; 4] = [Self::BitTorrent, Self::Tls, Self::Http, Self::Other];

    /// The value of the label `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BitTorrent => "bittorrent",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Other => "other",
        }
    }
}

impl EncodeLabelValue for Visitor {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for Source {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for VerificationFailure {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

/// The figures of one node. Clones count into the same figures.
#[derive(Clone)]
pub struct Metrics(Arc<Series>);

struct Series {
    started: Instant,
    registry: Registry,
    requests: Counter,
    downloads: Family<BySource, Counter>,
    bytes_downloaded: Family<BySource, Counter>,
    bytes_uploaded: Counter,
    bytes_resumed: Counter,
    bytes_rehashed: Counter,
    cache_hits: Counter,
    cache_misses: Counter,
    verification_failures: Family<ByReason, Counter>,
    visitors: Family<ByKind, Counter>,
    look_ups: Counter,
    announces: Counter,
    failed_announces: Counter,
    connected_peers: Gauge,
    recent: Mutex<Recent<IpAddr>>,
    routing_table_size: Gauge,
    cache_size_bytes: Gauge,
    cache_count: Gauge,
    active_downloads: Gauge,
    active_uploads: Gauge,
    chunk_download: Histogram,
    dht_lookup: Histogram,
    peer_latency: Histogram,
    time_to_first_byte: Family<BySource, Histogram, fn() -> Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: VerificationFailure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: Visitor,
}

impl Metrics {
    /// Figures that begin at zero. `started` is when the node started, for its uptime.
    pub fn new(started: Instant) -> Self {
        let mut registry = Registry::with_prefix("aptpeer");
        let series = Series {
            started,
            requests: counter(&mut registry, "requests", "Requests from apt"),
            downloads: family(
                &mut registry,
                "downloads",
                "Objects given to apt, by where most of their bytes came from",
            ),
            bytes_downloaded: family(
                &mut registry,
                "bytes_downloaded",
                "Bytes of objects, by where they came from",
            ),
            bytes_uploaded: counter(&mut registry, "bytes_uploaded", "Bytes of objects served to peers"),
            bytes_resumed: counter(
                &mut registry,
                "bytes_resumed",
                "Bytes of broken off downloads that were not fetched again",
            ),
            bytes_rehashed: counter(
                &mut registry,
                "bytes_rehashed",
                "Bytes of broken off downloads that were hashed again before their first use",
            ),
            cache_hits: counter(
                &mut registry,
                "cache_hits",
                "Objects that apt asked for and that were on disk",
            ),
            cache_misses: counter(
                &mut registry,
                "cache_misses",
                "Objects that apt asked for and that were not on disk",
            ),
            verification_failures: family(
                &mut registry,
                "verification_failures",
                "Times that bytes were found wrong",
            ),
            visitors: family(
                &mut registry,
                "visitors",
                "Connections to the peer port that asked for nothing it serves",
            ),
            look_ups: counter(
                &mut registry,
                "object_look_ups",
                "Downloads that asked the DHT who has the object",
            ),
            announces: counter(&mut registry, "announces", "Announces in the DHT that some node took"),
            failed_announces: counter(
                &mut registry,
                "failed_announces",
                "Announces in the DHT that no node took",
            ),
            connected_peers: gauge(
                &mut registry,
                "connected_peers",
                "Addresses with which bytes of objects were exchanged in the last five minutes",
            ),
            recent: Mutex::default(),
            routing_table_size: gauge(&mut registry, "routing_table_size", "Nodes in the DHT routing table"),
            cache_size_bytes: gauge(&mut registry, "cache_size_bytes", "Bytes of all stored objects"),
            cache_count: gauge(&mut registry, "cache_count", "Stored objects"),
            active_downloads: gauge(&mut registry, "active_downloads", "Downloads in progress"),
            active_uploads: gauge(&mut registry, "active_uploads", "Uploads to peers in progress"),
            chunk_download: histogram(
                &mut registry,
                "chunk_download_seconds",
                "Seconds to fetch one piece from a peer",
            ),
            dht_lookup: histogram(&mut registry, "dht_lookup_seconds", "Seconds of one DHT look-up"),
            peer_latency: histogram(
                &mut registry,
                "peer_latency_seconds",
                "Seconds from a request to a peer to its first byte",
            ),
            time_to_first_byte: {
                let family = Family::new_with_constructor(seconds as fn() -> Histogram);
                let help = "Seconds from apt's request to our first byte, by where that came from";
                registry.register("time_to_first_byte_seconds", help, family.clone());
                family
            },
            registry,
        };
        for source in Source::ALL {
            let _ = series.downloads.get_or_create(&BySource { source });
            let _ = series.bytes_downloaded.get_or_create(&BySource { source });
            let _ = series.time_to_first_byte.get_or_create(&BySource { source });
        }
        for reason in VerificationFailure::ALL {
            let _ = series.verification_failures.get_or_create(&ByReason { reason });
        }
        for kind in Visitor::ALL {
            let _ = series.visitors.get_or_create(&ByKind { kind });
        }
        Self(Arc::new(series))
    }

    /// apt asked for something.
    pub fn request_received(&self) {
        self.0.requests.inc();
    }

    /// An object was given to apt whole; `source` is where most of its bytes came from.
    pub fn object_delivered(&self, source: Source) {
        self.0.downloads.get_or_create(&BySource { source }).inc();
    }

    /// So many bytes of objects came from `source`. Count each byte once, where it came from first.
    pub fn bytes_received(&self, source: Source, bytes: u64) {
        self.0.bytes_downloaded.get_or_create(&BySource { source }).inc_by(bytes);
    }

    /// So many bytes of objects were served to peers.
    pub fn bytes_uploaded(&self, bytes: u64) {
        self.0.bytes_uploaded.inc_by(bytes);
    }

    /// A download goes on from so many bytes that an earlier one has left.
    pub fn bytes_resumed(&self, bytes: u64) {
        self.0.bytes_resumed.inc_by(bytes);
    }

    /// So many bytes that an earlier download has left were hashed again.
    pub fn bytes_rehashed(&self, bytes: u64) {
        self.0.bytes_rehashed.inc_by(bytes);
    }

    /// An object that apt asked for was on disk.
    pub fn cache_hit(&self) {
        self.0.cache_hits.inc();
    }

    /// An object that apt asked for was not on disk.
    pub fn cache_miss(&self) {
        self.0.cache_misses.inc();
    }

    /// Bytes were found wrong.
    pub fn verification_failed(&self, reason: VerificationFailure) {
        self.0.verification_failures.get_or_create(&ByReason { reason }).inc();
    }

    /// A connection to the peer port ended that asked for nothing it serves.
    pub fn visitor_left(&self, kind: Visitor) {
        self.0.visitors.get_or_create(&ByKind { kind }).inc();
    }

    /// A download asks the DHT who has its object.
    pub fn look_up_started(&self) {
        self.0.look_ups.inc();
    }

    /// Bytes of an object went to a peer at `address`, or came from there.
    pub fn exchanged_with(&self, address: IpAddr, now: Instant) {
        self.recent().note(address.to_canonical(), now);
    }

    fn recent(&self) -> MutexGuard<'_, Recent<IpAddr>> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those with whom bytes were exchanged lately. A count, for whoever looks: nobody is told when one is forgotten.
    fn count_peers(&self, now: Instant) -> u64 {
        let peers = self.recent().count(now) as u64;
        self.0.connected_peers.set(signed(peers));
        peers
    }

    /// An object was announced in the DHT; `taken` says whether any node noted it.
    pub fn announced(&self, taken: bool) {
        let count = if taken { &self.0.announces } else { &self.0.failed_announces };
        count.inc();
    }

    /// How many nodes the DHT routing table holds.
    pub fn set_routing_table_size(&self, nodes: usize) {
        self.0.routing_table_size.set(signed(nodes as u64));
    }

    /// How much is stored.
    pub fn set_cache(&self, bytes: u64, objects: u64) {
        self.0.cache_size_bytes.set(signed(bytes));
        self.0.cache_count.set(signed(objects));
    }

    /// A download is in progress until the answer is dropped.
    pub fn download_started(&self) -> InProgress {
        InProgress::new(&self.0.active_downloads)
    }

    /// An upload is in progress until the answer is dropped.
    pub fn upload_started(&self) -> InProgress {
        InProgress::new(&self.0.active_uploads)
    }

    /// A piece was fetched from a peer.
    pub fn piece_fetched(&self, took: Duration) {
        self.0.chunk_download.observe(took.as_secs_f64());
    }

    /// A DHT look-up ended.
    pub fn dht_looked_up(&self, took: Duration) {
        self.0.dht_lookup.observe(took.as_secs_f64());
    }

    /// A peer's first byte came.
    pub fn peer_answered(&self, took: Duration) {
        self.0.peer_latency.observe(took.as_secs_f64());
    }

    /// apt got its first byte; `source` is where that came from.
    pub fn first_byte(&self, source: Source, took: Duration) {
        self.0.time_to_first_byte.get_or_create(&BySource { source }).observe(took.as_secs_f64());
    }

    /// Everything at `now` as OpenMetrics text, of type [`CONTENT_TYPE`].
    pub fn text(&self, now: Instant) -> String {
        self.count_peers(now);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0.registry);
        text
    }

    /// The figures of `/stats` at `now`.
    pub fn stats(&self, now: Instant) -> Stats {
        let by =
            |family: &Family<BySource, Counter>, source| family.get_or_create(&BySource { source }).get();
        let series = &self.0;
        let bytes_from_p2p = by(&series.bytes_downloaded, Source::Peer);
        let bytes_from_mirror = by(&series.bytes_downloaded, Source::Mirror);
        Stats {
            requests_total: series.requests.get(),
            requests_p2p: by(&series.downloads, Source::Peer),
            requests_mirror: by(&series.downloads, Source::Mirror),
            requests_cache: by(&series.downloads, Source::Cache),
            bytes_from_p2p,
            bytes_from_mirror,
            bytes_from_cache: by(&series.bytes_downloaded, Source::Cache),
            bytes_uploaded: series.bytes_uploaded.get(),
            p2p_ratio_percent: percent(bytes_from_p2p, bytes_from_mirror),
            uptime_seconds: now.saturating_duration_since(series.started).as_secs(),
            peers: self.count_peers(now),
            cache_bytes: unsigned(&series.cache_size_bytes),
            cache_files: unsigned(&series.cache_count),
            dht_nodes: unsigned(&series.routing_table_size),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The figures of `/stats`; the names of the fields are part of the interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Requests from apt.
    pub requests_total: u64,
    /// Objects given to apt that came mostly from peers.
    pub requests_p2p: u64,
    /// Objects given to apt that came mostly from the mirror.
    pub requests_mirror: u64,
    /// Objects given to apt that were on disk.
    pub requests_cache: u64,
    /// Bytes from peers.
    pub bytes_from_p2p: u64,
    /// Bytes from mirrors.
    pub bytes_from_mirror: u64,
    /// Bytes from disk.
    pub bytes_from_cache: u64,
    /// Bytes served to peers.
    pub bytes_uploaded: u64,
    /// The peers' share of the bytes that came from outside, in percent with one decimal; 0 where none came.
    pub p2p_ratio_percent: f64,
    /// Whole seconds since the start.
    pub uptime_seconds: u64,
    /// Addresses of peers to which bytes of objects went, or from which they came, within the last five minutes. Several peers
    /// behind one address count as one: the port that a visitor calls from says nothing.
    pub peers: u64,
    /// Bytes of all stored objects.
    pub cache_bytes: u64,
    /// Stored objects.
    pub cache_files: u64,
    /// Nodes in the DHT routing table.
    pub dht_nodes: u64,
    /// The version of this program.
    pub version: &'static str,
}

/// Something in progress, counted until this is dropped, however it ends.
#[must_use = "it is counted only as long as this lives"]
pub struct InProgress(Gauge);

impl InProgress {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn histogram(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = seconds();
    registry.register(name, help, histogram.clone());
    histogram
}

fn family<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Counter>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + fmt::Debug + Send + Sync + 'static,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// Buckets from half a millisecond (a neighbour on the same switch) to 33 seconds (where apt has given up).
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

fn percent(part: u64, rest: u64) -> f64 {
    let whole = part.saturating_add(rest);
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64 * 1000.0).round() / 10.0
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(gauge: &Gauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start() {
        let text = Metrics::new(Instant::now()).text(Instant::now());
        for series in [
            "aptpeer_requests_total 0",
            "aptpeer_downloads_total{source=\"peer\"} 0",
            "aptpeer_downloads_total{source=\"mirror\"} 0",
            "aptpeer_bytes_downloaded_total{source=\"cache\"} 0",
            "aptpeer_bytes_uploaded_total 0",
            "aptpeer_cache_hits_total 0",
            "aptpeer_cache_misses_total 0",
            "aptpeer_verification_failures_total{reason=\"piece\"} 0",
            "aptpeer_verification_failures_total{reason=\"signature\"} 0",
            "aptpeer_visitors_total{kind=\"bittorrent\"} 0",
            "aptpeer_visitors_total{kind=\"other\"} 0",
            "aptpeer_announces_total 0",
            "aptpeer_failed_announces_total 0",
            "aptpeer_connected_peers 0",
            "aptpeer_routing_table_size 0",
            "aptpeer_cache_size_bytes 0",
            "aptpeer_cache_count 0",
            "aptpeer_active_downloads 0",
            "aptpeer_active_uploads 0",
            "aptpeer_chunk_download_seconds_count 0",
            "aptpeer_dht_lookup_seconds_count 0",
            "aptpeer_peer_latency_seconds_count 0",
            "aptpeer_time_to_first_byte_seconds_count{source=\"mirror\"} 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_counted_is_shown_in_both_places() {
        let start = Instant::now();
        let metrics = Metrics::new(start);
        metrics.request_received();
        metrics.clone().request_received();
        metrics.object_delivered(Source::Peer);
        metrics.bytes_received(Source::Peer, 2_000);
        metrics.bytes_received(Source::Mirror, 1_000);
        metrics.bytes_received(Source::Cache, 7);
        metrics.bytes_uploaded(5);
        metrics.set_cache(9_000, 3);
        for (host, after) in [(1, 0), (2, 0), (1, 1), (3, 61), (4, 61)] {
            metrics.exchanged_with([192, 0, 2, host].into(), start + Duration::from_secs(after));
        }
        metrics.verification_failed(VerificationFailure::PieceList);
        let stats = metrics.stats(start + Duration::from_millis(61_500));
        assert_eq!((stats.requests_total, stats.requests_p2p, stats.requests_mirror), (2, 1, 0));
        assert_eq!(
            (stats.bytes_from_p2p, stats.bytes_from_mirror, stats.bytes_from_cache),
            (2_000, 1_000, 7)
        );
        assert_eq!(
            (stats.cache_bytes, stats.cache_files, stats.peers, stats.bytes_uploaded),
            (9_000, 3, 4, 5)
        );
        assert_eq!(stats.p2p_ratio_percent, 66.7);
        assert_eq!(stats.uptime_seconds, 61);
        let text = metrics.text(start + Duration::from_secs(359));
        assert!(text.contains("aptpeer_connected_peers 2\n"), "{text}");
        assert!(text.contains("aptpeer_bytes_downloaded_total{source=\"peer\"} 2000\n"), "{text}");
        assert!(text.contains("aptpeer_verification_failures_total{reason=\"piece_list\"} 1\n"), "{text}");
    }

    #[test]
    fn what_is_in_progress_is_counted_until_it_ends() {
        let metrics = Metrics::new(Instant::now());
        let first = metrics.download_started();
        let second = metrics.download_started();
        assert!(metrics.text(Instant::now()).contains("aptpeer_active_downloads 2\n"));
        drop((first, second));
        assert!(metrics.text(Instant::now()).contains("aptpeer_active_downloads 0\n"));
    }

    #[test]
    fn small_times_keep_their_digits() {
        let metrics = Metrics::new(Instant::now());
        metrics.first_byte(Source::Cache, Duration::from_micros(1_300));
        let text = metrics.text(Instant::now());
        assert!(text.contains("time_to_first_byte_seconds_sum{source=\"cache\"} 0.0013\n"), "{text}");
        assert!(text.contains("_bucket{le=\"0.001\",source=\"cache\"} 0\n"), "{text}");
        assert!(text.contains("_bucket{le=\"0.002\",source=\"cache\"} 1\n"), "{text}");
    }

    #[test]
    fn stats_have_exactly_the_fields_of_the_interface() {
        let stats = serde_json::to_value(Metrics::new(Instant::now()).stats(Instant::now())).unwrap();
        let mut names: Vec<_> = stats.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut wanted = [
            "requests_total",
            "requests_p2p",
            "requests_mirror",
            "requests_cache",
            "bytes_from_p2p",
            "bytes_from_mirror",
            "bytes_from_cache",
            "bytes_uploaded",
            "p2p_ratio_percent",
            "uptime_seconds",
            "peers",
            "cache_bytes",
            "cache_files",
            "dht_nodes",
            "version",
        ];
        wanted.sort_unstable();
        assert_eq!(names, wanted);
    }
}
