//! The figures of `/stats`.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;

use super::labels::{BySource, Source};
use super::series::Series;

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

impl Stats {
    /// The figures of `series`, with `peers` and the uptime, which are no counters.
    pub(super) fn of(series: &Series, peers: u64, uptime: Duration) -> Self {
        let by =
            |family: &Family<BySource, Counter>, source| family.get_or_create(&BySource { source }).get();
        let bytes_from_p2p = by(&series.bytes_downloaded, Source::Peer);
        let bytes_from_mirror = by(&series.bytes_downloaded, Source::Mirror);
        Self {
            requests_total: series.requests.get(),
            requests_p2p: by(&series.downloads, Source::Peer),
            requests_mirror: by(&series.downloads, Source::Mirror),
            requests_cache: by(&series.downloads, Source::Cache),
            bytes_from_p2p,
            bytes_from_mirror,
            bytes_from_cache: by(&series.bytes_downloaded, Source::Cache),
            bytes_uploaded: series.bytes_uploaded.get(),
            p2p_ratio_percent: percent(bytes_from_p2p, bytes_from_mirror),
            uptime_seconds: uptime.as_secs(),
            peers,
            cache_bytes: unsigned(&series.cache_size_bytes),
            cache_files: unsigned(&series.cache_count),
            dht_nodes: unsigned(&series.routing_table_size),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn percent(part: u64, rest: u64) -> f64 {
    let whole = part.saturating_add(rest);
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64 * 1000.0).round() / 10.0
}

fn unsigned(gauge: &Gauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_have_exactly_the_fields_of_the_interface() {
        let stats = serde_json::to_value(Stats::of(&Series::new(), 0, Duration::ZERO)).unwrap();
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
