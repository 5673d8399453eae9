//! Bytes that are wrong, whoever sends them, and callers that want nothing we have.

use std::fs;
use std::os::unix::fs::FileExt as _;

use crate::support::daemon::Setup;
use crate::support::http::{Wire, get};
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::peers::{Fault as Sin, Peer};
use crate::world::{
    PATIENT, fetch, fetch_whole, learn, metric, node, repository, url, wait_for_metric, wait_for_none,
};

#[test]
fn a_wrong_piece_of_a_peer_is_counted() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let object = repository.bytes("one");
    let liar = Peer::start(&[&object], &[Sin::WrongEverywhere]);
    let daemon = node(&repository).peer(liar.address()).with(PATIENT).start();
    learn(&daemon, &mirror);
    let series = "aptpeer_verification_failures_total{reason=\"piece\"}";
    assert_eq!(metric(&daemon, series), 0);
    assert!(fetch_whole(&daemon, &url(&mirror, &repository, "one")) == object);
    assert_eq!(metric(&daemon, series), 1);
}

#[test]
fn a_peers_false_list_is_counted() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    // Time for the list to come; its bytes do not.
    mirror.script(Rule::new("*three*", Fault::Rate(6_000_000)));
    let object = repository.bytes("three");
    let liar = Peer::start(&[&object], &[Sin::FalseStates, Sin::Slow(1_000)]);
    let daemon = node(&repository).peer(liar.address()).start();
    learn(&daemon, &mirror);
    assert!(fetch_whole(&daemon, &url(&mirror, &repository, "three")) == object);
    wait_for_metric(&daemon, "aptpeer_verification_failures_total{reason=\"piece_list\"}", 1);
}

#[test]
fn a_file_of_the_mirror_that_is_another_is_counted() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*one*", Fault::FlipBit(700_000)));
    let daemon = node(&repository).start();
    learn(&daemon, &mirror);
    // apt gets a part of it, or what the mirror itself would have given: that is for apt to refuse.
    fetch(&daemon, &url(&mirror, &repository, "one"));
    wait_for_metric(&daemon, "aptpeer_verification_failures_total{reason=\"mirror\"}", 1);
}

#[test]
fn a_file_that_was_changed_on_disk_is_counted() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let daemon = node(&repository).start();
    learn(&daemon, &mirror);
    let object = fetch_whole(&daemon, &url(&mirror, &repository, "one"));
    let id = repository.package("one").sha256.to_string();
    let kept = daemon.cache().join("v1/objects").join(&id[..2]).join(&id);
    // Until then what was just verified is not looked at again.
    wait_for_none(&daemon, "aptpeer_active_downloads");
    let file = fs::File::options().write(true).open(kept).unwrap();
    file.write_all_at(&[object[1000] ^ 1], 1000).unwrap();
    let before = metric(&daemon, "aptpeer_verification_failures_total{reason=\"stored\"}");
    assert_eq!(before, 0);
    let mut wire = Wire::connect(daemon.proxy());
    wire.ask("GET", &url(&mirror, &repository, "one"), &[("Connection", "close")]);
    let answer = wire.rest().unwrap_or_default();
    assert!(answer.len() < object.len(), "{} bytes came", answer.len());
    wait_for_metric(&daemon, "aptpeer_verification_failures_total{reason=\"stored\"}", 1);
    assert!(fetch_whole(&daemon, &url(&mirror, &repository, "one")) == object, "it is not downloaded again");
    assert_eq!(metric(&daemon, "aptpeer_verification_failures_total{reason=\"stored\"}"), 1, "found once");
}

#[test]
fn a_release_with_a_bad_signature_is_counted() {
    let repository = repository();
    let folder = tempfile::tempdir().unwrap();
    let signed = fs::read_to_string(repository.root().join("debian/dists/test/InRelease")).unwrap();
    let forged = signed.replace("Label: test", "Label: tent");
    assert_ne!(signed, forged);
    fs::create_dir_all(folder.path().join("debian/dists/test")).unwrap();
    fs::write(folder.path().join("debian/dists/test/InRelease"), forged).unwrap();
    let mirror = Mirror::start(folder.path());
    let daemon = node(&repository).start();
    fetch_whole(&daemon, &format!("{}/debian/dists/test/InRelease", mirror.url()));
    wait_for_metric(&daemon, "aptpeer_verification_failures_total{reason=\"signature\"}", 1);
}

#[test]
fn strangers_at_the_peer_port_are_counted_by_kind() {
    let daemon = Setup::new().start();
    let handshake = [b"\x13BitTorrent protocol".as_slice(), &[0; 48]].concat();
    for words in
        [&handshake[..], b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", b"\0\0\0\0 nothing known \xff"]
    {
        let mut wire = Wire::connect(daemon.peer());
        wire.send(words);
        // A reset is an answer, too.
        let _ = wire.rest();
    }
    assert_eq!(get(daemon.peer(), "/favicon.ico").status, 404);
    for series in [
        "aptpeer_visitors_total{kind=\"bittorrent\"}",
        "aptpeer_visitors_total{kind=\"tls\"}",
        "aptpeer_visitors_total{kind=\"http\"}",
        "aptpeer_visitors_total{kind=\"other\"}",
    ] {
        wait_for_metric(&daemon, series, 1);
    }
}
