//! Each switch of `[privacy]`, and who is trusted as a publisher, by what is on the wire.

use std::time::Duration;

use aptpeer::dht::mutable_target;

use crate::support::daemon::Setup;
use crate::support::mirror::Mirror;
use crate::support::peers::Peer;
use crate::support::repository::{Package, Repository};
use crate::support::wait_for;
use crate::tap::Tap;
use crate::world::{install, learn};

const SOON: Duration = Duration::from_secs(60);

/// Queries as they stand in a datagram (BEP 5, "announce_peer"; BEP 44, "put").
const ANNOUNCE: &[u8] = b"1:q13:announce_peer";
const PUT: &[u8] = b"1:q3:put";
const GET_PEERS: &[u8] = b"1:q9:get_peers";

#[test]
fn lan_only_sends_no_datagram_and_still_downloads_from_named_peers() {
    let repository = Repository::with(&[Package::new("three", "1", 9_000_000)]);
    let mirror = Mirror::start(&repository.root());
    let peer = Peer::honest(&[&repository.bytes("three")]);
    let (silent, usual) = (Tap::to(None), Tap::to(None));
    let daemon =
        Setup::new().dht(&[silent.address()]).with("[privacy]\nlan_only = true\n").peer(peer.address());
    let daemon = daemon.start();
    learn(&daemon, &mirror);
    install(&daemon, &mirror, &repository, "three");
    assert!(!peer.records().is_empty());
    // One that takes part would have knocked by then.
    let _other = Setup::new().dht(&[usual.address()]).start();
    assert!(wait_for(SOON, || (usual.count() > 0).then_some(())).is_some());
    assert_eq!(silent.count(), 0);
}

#[test]
fn who_does_not_announce_looks_for_peers_all_the_same() {
    let repository = Repository::with(&[Package::new("three", "1", 9_000_000)]);
    let mirror = Mirror::start(&repository.root());
    let entrance = Setup::bootstrap().start();
    let (quiet, loud) = (Tap::to(Some(entrance.dht())), Tap::to(Some(entrance.dht())));
    let silent = Setup::new().dht(&[quiet.address()]).with("[privacy]\nannounce = false\n").start();
    let teller = Setup::new().dht(&[loud.address()]).with("[privacy]\nannounce = \"always\"\n").start();
    for daemon in [&silent, &teller] {
        daemon.wait_for_dht();
        learn(daemon, &mirror);
        install(daemon, &mirror, &repository, "three");
    }
    teller.wait_for_announced(1);
    assert!(loud.with(ANNOUNCE) > 0);
    assert!(quiet.with(GET_PEERS) > 0, "it looks");
    assert_eq!((quiet.with(ANNOUNCE), quiet.with(PUT)), (0, 0));
    assert!(silent.stats()["announcing"]["held"].as_u64().unwrap_or(0) == 0, "{}", silent.stats());
}

#[test]
fn lists_are_looked_for_under_the_keys_of_those_publishers_that_are_named() {
    let repository = Repository::with(&[Package::new("three", "1", 9_000_000)]);
    let mirror = Mirror::start(&repository.root());
    let entrance = Setup::bootstrap().start();
    let key = [7; 32];
    let named = format!("[dht]\npublishers = [\"{}\"]\n", "07".repeat(32));
    let [with, without] = [named.as_str(), ""].map(|publishers| {
        let tap = Tap::to(Some(entrance.dht()));
        let daemon = Setup::new().dht(&[tap.address()]).with(publishers).start();
        daemon.wait_for_dht();
        learn(&daemon, &mirror);
        let object = install(&daemon, &mirror, &repository, "three");
        assert!(
            wait_for(SOON, || (tap.with(b"1:q3:get1:") > 0).then_some(())).is_some(),
            "it looks for lists"
        );
        (tap, object, daemon)
    });
    let target = mutable_target(&key, with.1.as_bytes());
    assert!(wait_for(SOON, || (with.0.with(target.as_bytes()) > 0).then_some(())).is_some());
    assert_eq!(without.0.with(target.as_bytes()), 0);
}
