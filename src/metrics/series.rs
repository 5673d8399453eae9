//! What is counted, under which name, and with which words.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::labels::{ByKind, ByReason, BySource, Source, VerificationFailure, Visitor};

/// Every series of a node; the names are part of the interface.
pub(super) struct Series {
    registry: Registry,
    pub(super) requests: Counter,
    pub(super) downloads: Family<BySource, Counter>,
    pub(super) bytes_downloaded: Family<BySource, Counter>,
    pub(super) bytes_uploaded: Counter,
    pub(super) bytes_resumed: Counter,
    pub(super) bytes_rehashed: Counter,
    pub(super) cache_hits: Counter,
    pub(super) cache_misses: Counter,
    pub(super) verification_failures: Family<ByReason, Counter>,
    pub(super) visitors: Family<ByKind, Counter>,
    pub(super) look_ups: Counter,
    pub(super) announces: Counter,
    pub(super) failed_announces: Counter,
    pub(super) connected_peers: Gauge,
    pub(super) routing_table_size: Gauge,
    pub(super) cache_size_bytes: Gauge,
    pub(super) cache_count: Gauge,
    pub(super) active_downloads: Gauge,
    pub(super) active_uploads: Gauge,
    pub(super) chunk_download: Histogram,
    pub(super) dht_lookup: Histogram,
    pub(super) peer_latency: Histogram,
    pub(super) time_to_first_byte: Family<BySource, Histogram, fn() -> Histogram>,
}

impl Series {
    /// All of them, at zero.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("aptpeer");
        let series = Self {
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
        series.begin_at_zero();
        series
    }

    /// No series appears only when it is counted for the first time: a rate over it would miss the first.
    fn begin_at_zero(&self) {
        for source in Source::ALL {
            let _ = self.downloads.get_or_create(&BySource { source });
            let _ = self.bytes_downloaded.get_or_create(&BySource { source });
            let _ = self.time_to_first_byte.get_or_create(&BySource { source });
        }
        for reason in VerificationFailure::ALL {
            let _ = self.verification_failures.get_or_create(&ByReason { reason });
        }
        for kind in Visitor::ALL {
            let _ = self.visitors.get_or_create(&ByKind { kind });
        }
    }

    /// Everything as OpenMetrics text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
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
