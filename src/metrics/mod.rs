//! Counters and histograms: counted once here, shown as `/metrics` and as `/stats`.
//!
//! Every label is an enum of ours: no series exists that a stranger could add. All series exist from the start, at 0.

mod labels;
mod series;
mod stats;
mod text;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;

use crate::swarm::Recent;
use labels::{ByKind, ByReason, BySource};
use series::Series;

pub use labels::{Source, VerificationFailure, Visitor};
pub use stats::Stats;
pub use text::Format;

/// The figures of one node. Clones count into the same figures.
#[derive(Clone)]
pub struct Metrics(Arc<Figures>);

struct Figures {
    started: Instant,
    series: Series,
    recent: Mutex<Recent<IpAddr>>,
}

impl Metrics {
    /// Figures that begin at zero. `started` is when the node started, for its uptime.
    pub fn new(started: Instant) -> Self {
        Self(Arc::new(Figures { started, series: Series::new(), recent: Mutex::default() }))
    }

    /// apt asked for something.
    pub fn request_received(&self) {
        self.0.series.requests.inc();
    }

    /// An object was given to apt whole; `source` is where most of its bytes came from.
    pub fn object_delivered(&self, source: Source) {
        self.0.series.downloads.get_or_create(&BySource { source }).inc();
    }

    /// So many bytes of objects came from `source`. Count each byte once, where it came from first.
    pub fn bytes_received(&self, source: Source, bytes: u64) {
        self.0.series.bytes_downloaded.get_or_create(&BySource { source }).inc_by(bytes);
    }

    /// So many bytes of objects were served to peers.
    pub fn bytes_uploaded(&self, bytes: u64) {
        self.0.series.bytes_uploaded.inc_by(bytes);
    }

    /// A download goes on from so many bytes that an earlier one has left.
    pub fn bytes_resumed(&self, bytes: u64) {
        self.0.series.bytes_resumed.inc_by(bytes);
    }

    /// So many bytes that an earlier download has left were hashed again.
    pub fn bytes_rehashed(&self, bytes: u64) {
        self.0.series.bytes_rehashed.inc_by(bytes);
    }

    /// An object that apt asked for was on disk.
    pub fn cache_hit(&self) {
        self.0.series.cache_hits.inc();
    }

    /// An object that apt asked for was not on disk.
    pub fn cache_miss(&self) {
        self.0.series.cache_misses.inc();
    }

    /// Bytes were found wrong.
    pub fn verification_failed(&self, reason: VerificationFailure) {
        self.0.series.verification_failures.get_or_create(&ByReason { reason }).inc();
    }

    /// A connection to the peer port ended that asked for nothing it serves.
    pub fn visitor_left(&self, kind: Visitor) {
        self.0.series.visitors.get_or_create(&ByKind { kind }).inc();
    }

    /// A download asks the DHT who has its object.
    pub fn look_up_started(&self) {
        self.0.series.look_ups.inc();
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
        self.0.series.connected_peers.set(signed(peers));
        peers
    }

    /// An object was announced in the DHT; `taken` says whether any node noted it.
    pub fn announced(&self, taken: bool) {
        let count = if taken { &self.0.series.announces } else { &self.0.series.failed_announces };
        count.inc();
    }

    /// How many nodes the DHT routing table holds.
    pub fn set_routing_table_size(&self, nodes: usize) {
        self.0.series.routing_table_size.set(signed(nodes as u64));
    }

    /// How much is stored.
    pub fn set_cache(&self, bytes: u64, objects: u64) {
        self.0.series.cache_size_bytes.set(signed(bytes));
        self.0.series.cache_count.set(signed(objects));
    }

    /// A download is in progress until the answer is dropped.
    pub fn download_started(&self) -> InProgress {
        InProgress::new(&self.0.series.active_downloads)
    }

    /// An upload is in progress until the answer is dropped.
    pub fn upload_started(&self) -> InProgress {
        InProgress::new(&self.0.series.active_uploads)
    }

    /// A piece was fetched from a peer.
    pub fn piece_fetched(&self, took: Duration) {
        self.0.series.chunk_download.observe(took.as_secs_f64());
    }

    /// A DHT look-up ended.
    pub fn dht_looked_up(&self, took: Duration) {
        self.0.series.dht_lookup.observe(took.as_secs_f64());
    }

    /// A peer's first byte came.
    pub fn peer_answered(&self, took: Duration) {
        self.0.series.peer_latency.observe(took.as_secs_f64());
    }

    /// apt got its first byte; `source` is where that came from.
    pub fn first_byte(&self, source: Source, took: Duration) {
        self.0.series.time_to_first_byte.get_or_create(&BySource { source }).observe(took.as_secs_f64());
    }

    /// Everything at `now`, as [`Format::content_type`] says.
    pub fn text(&self, format: Format, now: Instant) -> String {
        self.count_peers(now);
        format.write(self.0.series.text())
    }

    /// The figures of `/stats` at `now`.
    pub fn stats(&self, now: Instant) -> Stats {
        let uptime = now.saturating_duration_since(self.0.started);
        Stats::of(&self.0.series, self.count_peers(now), uptime)
    }
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

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start() {
        let text = Metrics::new(Instant::now()).text(Format::Classic, Instant::now());
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
        let text = metrics.text(Format::Classic, start + Duration::from_secs(359));
        assert!(text.contains("aptpeer_connected_peers 2\n"), "{text}");
        assert!(text.contains("aptpeer_bytes_downloaded_total{source=\"peer\"} 2000\n"), "{text}");
        assert!(text.contains("aptpeer_verification_failures_total{reason=\"piece_list\"} 1\n"), "{text}");
    }

    #[test]
    fn what_is_in_progress_is_counted_until_it_ends() {
        let metrics = Metrics::new(Instant::now());
        let first = metrics.download_started();
        let second = metrics.download_started();
        assert!(metrics.text(Format::Classic, Instant::now()).contains("aptpeer_active_downloads 2\n"));
        drop((first, second));
        assert!(metrics.text(Format::Classic, Instant::now()).contains("aptpeer_active_downloads 0\n"));
    }

    #[test]
    fn small_times_keep_their_digits() {
        let metrics = Metrics::new(Instant::now());
        metrics.first_byte(Source::Cache, Duration::from_micros(1_300));
        let text = metrics.text(Format::Classic, Instant::now());
        assert!(text.contains("time_to_first_byte_seconds_sum{source=\"cache\"} 0.0013\n"), "{text}");
        assert!(text.contains("_bucket{le=\"0.001\",source=\"cache\"} 0\n"), "{text}");
        assert!(text.contains("_bucket{le=\"0.002\",source=\"cache\"} 1\n"), "{text}");
    }
}
