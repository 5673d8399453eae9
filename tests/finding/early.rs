//! Nodes that want the same at the same time, and find each other before anybody has all of it.

use std::time::Duration;

use aptpeer::digest::Sha256;

use crate::support::daemon::Setup;
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::repository::{Package, Repository};
use crate::world::{fetch, learn, url};

/// What the mirror gives each at most, in bytes a second.
const RATE: u64 = 2_500_000;

/// The object: twelve seconds of that.
const LENGTH: usize = 30_000_000;

/// Peers come before the mirror, so that what they give shows in the figures.
const PATIENT: &str = "[transfer]\nprefer = \"offload\"\n";

/// The first is told of as soon as it has a piece to give and is not about to end; the others find it by the DHT only.
#[test]
fn a_node_that_is_still_downloading_is_found_and_serves() {
    let repository = Repository::with(&[Package::new("large", "1", LENGTH)]);
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*/pool/*", Fault::Rate(RATE)));
    let entrance = Setup::bootstrap().start();
    let [first, second, third] = [(); 3].map(|()| {
        let daemon = Setup::new().dht(&[entrance.dht()]).with(PATIENT).start();
        daemon.wait_for_dht();
        learn(&daemon, &mirror);
        daemon
    });
    let (object, url) = (repository.bytes("large"), url(&mirror, &repository, "large"));
    let fetched = std::thread::scope(|scope| {
        let leader = scope.spawn(|| fetch(first.proxy(), &url, || {}));
        first.wait_for_log(&format!("\"announced\",\"object\":\"{}\"", Sha256::of(&object)));
        assert!(!leader.is_finished(), "it was announced when it was whole");
        let followers = [&second, &third].map(|daemon| scope.spawn(|| fetch(daemon.proxy(), &url, || {})));
        [leader].into_iter().chain(followers).map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(fetched.iter().all(|fetched| fetched.body == object));
    let times: Vec<Duration> = fetched.iter().map(|fetched| fetched.whole).collect();
    let sent = mirror.bytes("*/pool/*");
    println!("the mirror sent {sent} bytes of an object of {}, they took {times:?}", object.len());
    assert!(sent < object.len() as u64 * 2, "the mirror sent {sent} bytes");
    assert!(first.stat("bytes_uploaded") > 0);
}
