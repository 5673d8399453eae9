//! What comes and goes: from the mirror, from peers, from the cache, to peers, and from a download that was broken off.

use std::fs;
use std::os::unix::fs::FileExt as _;

use aptpeer::digest::Sha256;

use crate::support::daemon::Setup;
use crate::support::http::{Wire, request};
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::repository::{Package, Repository};
use crate::support::wait_for;
use crate::world::{
    PATIENT, fetch_whole, learn, metric, node, repository, url, wait_for_metric, wait_for_none,
};

#[test]
fn what_the_mirror_gives_is_counted() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let daemon = node(&repository).start();
    learn(&daemon, &mirror);
    let body = fetch_whole(&daemon, &url(&mirror, &repository, "three"));
    let length = body.len() as u64;

    assert_eq!(metric(&daemon, "aptpeer_requests_total"), 3, "InRelease, Packages and the package");
    assert_eq!(
        metric(&daemon, "aptpeer_cache_misses_total"),
        2,
        "a Release file is not looked for in the cache"
    );
    wait_for_metric(&daemon, "aptpeer_downloads_total{source=\"mirror\"}", 3);
    let bytes = metric(&daemon, "aptpeer_bytes_downloaded_total{source=\"mirror\"}");
    assert!((length..length + 100_000).contains(&bytes), "{bytes} for {length}");
    wait_for_metric(&daemon, "aptpeer_time_to_first_byte_seconds_count{source=\"mirror\"}", 1);
    wait_for_metric(&daemon, "aptpeer_cache_count", 2);
    let kept = metric(&daemon, "aptpeer_cache_size_bytes");
    assert!((length..=bytes).contains(&kept), "{kept} for {length}");
}

#[test]
fn what_a_peer_gives_and_what_the_cache_has_is_counted_on_both_sides() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let first = node(&repository).start();
    learn(&first, &mirror);
    let address = url(&mirror, &repository, "three");
    let length = fetch_whole(&first, &address).len() as u64;

    let second = node(&repository).peer(first.peer()).with(PATIENT).start();
    learn(&second, &mirror);
    // However busy this machine is: the peer gives all of it.
    mirror.script(Rule::new("*three*", Fault::Status(404)));
    let of_peers = "aptpeer_bytes_downloaded_total{source=\"peer\"}";
    let of_cache = "aptpeer_bytes_downloaded_total{source=\"cache\"}";
    fetch_whole(&second, &address);
    wait_for_metric(&second, "aptpeer_downloads_total{source=\"peer\"}", 1);
    wait_for_metric(&second, of_peers, length);
    assert!(metric(&second, "aptpeer_chunk_download_seconds_count") >= 3, "three pieces");
    assert!(metric(&second, "aptpeer_peer_latency_seconds_count") >= 3);
    assert!(metric(&second, "aptpeer_time_to_first_byte_seconds_count{source=\"peer\"}") >= 1);
    assert_eq!(metric(&second, "aptpeer_connected_peers"), 1);
    assert_eq!(metric(&first, "aptpeer_connected_peers"), 1);
    let given = metric(&first, "aptpeer_bytes_uploaded_total");
    assert!(given >= length, "{given} of {length}");

    // As long as it is not in the store, whoever asks follows the download.
    wait_for_none(&second, "aptpeer_active_downloads");
    assert_eq!(metric(&second, of_cache), 0);
    fetch_whole(&second, &address);
    wait_for_metric(&second, "aptpeer_downloads_total{source=\"cache\"}", 1);
    assert_eq!(metric(&second, of_cache), length);
    assert_eq!(metric(&second, "aptpeer_cache_hits_total"), 1);
    assert_eq!(metric(&second, "aptpeer_time_to_first_byte_seconds_count{source=\"cache\"}"), 1);
}

#[test]
fn what_is_under_way_is_counted_until_it_ends() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*three*", Fault::Rate(3_000_000)));
    let daemon = node(&repository).with("[transfer]\nmax_upload_rate = \"100kB/s\"\n").start();
    learn(&daemon, &mirror);
    wait_for_none(&daemon, "aptpeer_active_downloads");
    let mut apt = Wire::connect(daemon.proxy());
    apt.ask("GET", &url(&mirror, &repository, "three"), &[]);
    wait_for_metric(&daemon, "aptpeer_active_downloads", 1);
    assert_eq!(apt.response().unwrap().status, 200);
    wait_for_none(&daemon, "aptpeer_active_downloads");

    assert_eq!(metric(&daemon, "aptpeer_active_uploads"), 0);
    let mut peer = Wire::connect(daemon.peer());
    peer.ask("GET", &format!("/hash/{}", repository.package("three").sha256), &[]);
    assert_eq!(peer.head().unwrap().status, 200);
    wait_for_metric(&daemon, "aptpeer_active_uploads", 1);
    drop(peer);
    wait_for_none(&daemon, "aptpeer_active_uploads");
}

#[test]
fn what_is_left_of_a_download_and_hashed_again_is_counted() {
    let repository = Repository::with(&[Package::new("ten", "1.0", 40_000_000).all()]);
    let mirror = Mirror::start(&repository.root());
    // Half of it, and then nothing.
    mirror.script(Rule::new("*ten*", Fault::StallBody(22_000_000)).once());
    let mut daemon = Setup::new().start();
    learn(&daemon, &mirror);
    let (object, address) = (repository.bytes("ten"), url(&mirror, &repository, "ten"));
    let mut apt = Wire::connect(daemon.proxy());
    apt.ask("GET", &address, &[]);
    let list = format!("/hash/{}/pieces", Sha256::of(&object));
    let begun = wait_for(std::time::Duration::from_secs(60), || {
        let body = request(daemon.peer(), "GET", &list, &[]).body;
        let list: serde_json::Value = serde_json::from_slice(&body).ok()?;
        list["have"].as_str().filter(|have| have.starts_with("0-")).map(str::to_owned)
    });
    assert!(begun.is_some(), "nothing of it came");
    drop(apt);
    daemon.terminate();
    let folder = daemon.cache().join("v1/partial");
    let partial = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    // Somebody has written to it: what is there must be looked at again.
    let file = fs::File::options().read(true).write(true).open(partial).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5).unwrap();
    file.write_all_at(&byte, 5).unwrap();
    drop(file);
    daemon.restart();
    learn(&daemon, &mirror);
    assert!(fetch_whole(&daemon, &address) == object);
    let resumed = metric(&daemon, "aptpeer_bytes_resumed_total");
    let rehashed = metric(&daemon, "aptpeer_bytes_rehashed_total");
    assert!(resumed >= 4 << 20, "{resumed}");
    assert!((1..=resumed).contains(&rehashed), "{rehashed} of {resumed}");
}
