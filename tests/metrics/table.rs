//! No series without a test that moves it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::daemon::Setup;

/// Every series of `/metrics` (of a histogram its count), and the test that moves it: a file of this folder, and a function.
const MOVED_BY: &[(&str, &str, &str)] = &[
    ("aptpeer_requests_total", "transfers.rs", "what_the_mirror_gives_is_counted"),
    ("aptpeer_downloads_total{source=\"mirror\"}", "transfers.rs", "what_the_mirror_gives_is_counted"),
    ("aptpeer_downloads_total{source=\"peer\"}", "transfers.rs", PEERS),
    ("aptpeer_downloads_total{source=\"cache\"}", "transfers.rs", PEERS),
    ("aptpeer_bytes_downloaded_total{source=\"mirror\"}", "transfers.rs", "what_the_mirror_gives_is_counted"),
    ("aptpeer_bytes_downloaded_total{source=\"peer\"}", "transfers.rs", PEERS),
    ("aptpeer_bytes_downloaded_total{source=\"cache\"}", "transfers.rs", PEERS),
    ("aptpeer_bytes_uploaded_total", "transfers.rs", PEERS),
    ("aptpeer_bytes_resumed_total", "transfers.rs", "what_is_left_of_a_download_and_hashed_again_is_counted"),
    (
        "aptpeer_bytes_rehashed_total",
        "transfers.rs",
        "what_is_left_of_a_download_and_hashed_again_is_counted",
    ),
    ("aptpeer_cache_hits_total", "transfers.rs", PEERS),
    ("aptpeer_cache_misses_total", "transfers.rs", "what_the_mirror_gives_is_counted"),
    ("aptpeer_cache_count", "transfers.rs", "what_the_mirror_gives_is_counted"),
    ("aptpeer_cache_size_bytes", "transfers.rs", "what_the_mirror_gives_is_counted"),
    ("aptpeer_connected_peers", "transfers.rs", PEERS),
    ("aptpeer_active_downloads", "transfers.rs", "what_is_under_way_is_counted_until_it_ends"),
    ("aptpeer_active_uploads", "transfers.rs", "what_is_under_way_is_counted_until_it_ends"),
    ("aptpeer_chunk_download_seconds_count", "transfers.rs", PEERS),
    ("aptpeer_peer_latency_seconds_count", "transfers.rs", PEERS),
    (
        "aptpeer_time_to_first_byte_seconds_count{source=\"mirror\"}",
        "transfers.rs",
        "what_the_mirror_gives_is_counted",
    ),
    ("aptpeer_time_to_first_byte_seconds_count{source=\"peer\"}", "transfers.rs", PEERS),
    ("aptpeer_time_to_first_byte_seconds_count{source=\"cache\"}", "transfers.rs", PEERS),
    (
        "aptpeer_verification_failures_total{reason=\"piece\"}",
        "failures.rs",
        "a_wrong_piece_of_a_peer_is_counted",
    ),
    (
        "aptpeer_verification_failures_total{reason=\"piece_list\"}",
        "failures.rs",
        "a_peers_false_list_is_counted",
    ),
    (
        "aptpeer_verification_failures_total{reason=\"mirror\"}",
        "failures.rs",
        "a_file_of_the_mirror_that_is_another_is_counted",
    ),
    (
        "aptpeer_verification_failures_total{reason=\"stored\"}",
        "failures.rs",
        "a_file_that_was_changed_on_disk_is_counted",
    ),
    (
        "aptpeer_verification_failures_total{reason=\"signature\"}",
        "failures.rs",
        "a_release_with_a_bad_signature_is_counted",
    ),
    (
        "aptpeer_visitors_total{kind=\"bittorrent\"}",
        "failures.rs",
        "strangers_at_the_peer_port_are_counted_by_kind",
    ),
    ("aptpeer_visitors_total{kind=\"tls\"}", "failures.rs", "strangers_at_the_peer_port_are_counted_by_kind"),
    (
        "aptpeer_visitors_total{kind=\"http\"}",
        "failures.rs",
        "strangers_at_the_peer_port_are_counted_by_kind",
    ),
    (
        "aptpeer_visitors_total{kind=\"other\"}",
        "failures.rs",
        "strangers_at_the_peer_port_are_counted_by_kind",
    ),
    ("aptpeer_routing_table_size", "discovered.rs", DHT),
    ("aptpeer_object_look_ups_total", "discovered.rs", DHT),
    ("aptpeer_dht_lookup_seconds_count", "discovered.rs", DHT),
    ("aptpeer_announces_total", "discovered.rs", DHT),
    ("aptpeer_failed_announces_total", "discovered.rs", DHT),
];

const PEERS: &str = "what_a_peer_gives_and_what_the_cache_has_is_counted_on_both_sides";
const DHT: &str = "what_the_dht_is_asked_and_told_is_counted";

/// The series of a page, but for the parts of histograms that move with their counts.
fn series(text: &str) -> BTreeSet<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let names = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0));
    names.filter(|name| !name.contains("_seconds_bucket{") && !name.contains("_seconds_sum")).collect()
}

/// The words of a test: from its name to the end of its function.
fn body(file: &str, test: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics").join(file);
    let text = fs::read_to_string(path).unwrap();
    let head = format!("#[test]\nfn {test}() {{\n");
    let (_, rest) = text.split_once(&head).unwrap_or_else(|| panic!("{file} has no test {test}"));
    rest.split("\n}\n").next().unwrap().replace('\\', "")
}

#[test]
fn every_series_is_moved_by_a_test() {
    let text = Setup::new().start().metrics();
    let listed: BTreeSet<&str> = MOVED_BY.iter().map(|(series, ..)| *series).collect();
    assert_eq!(series(&text), listed, "what a daemon shows, and the table of tests");
    for (series, file, test) in MOVED_BY {
        assert!(body(file, test).contains(&format!("\"{series}\"")), "{test} does not look at {series}");
    }
}

#[test]
fn whoever_wants_openmetrics_gets_it() {
    let daemon = Setup::new().start();
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")];
    let answer = crate::support::http::request(daemon.status(), "GET", "/metrics", &accept);
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(answer.text().ends_with("# EOF\n"));
    assert_eq!(series(answer.text().trim_end()), series(&daemon.metrics()));
}
