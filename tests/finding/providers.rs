//! Whom the DHT may name as a provider: the dead, liars, and crowds.

use std::net::{IpAddr, SocketAddr};

use aptpeer::digest::Sha256;

use crate::nodes::Network;
use crate::support::daemon::Setup;
use crate::support::mirror::Mirror;
use crate::support::peers::{Fault, Peer};
use crate::support::repository::{Package, Repository};
use crate::world::{fetch, learn, url};

/// Peers come before the mirror, so that what they give shows.
const PATIENT: &str = "[transfer]\nprefer = \"offload\"\n";

/// Strangers of one network that one download takes (docs/architecture.md).
const OF_ONE_NETWORK: usize = 4;

const FILES: usize = 8;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(number: usize) -> String {
    format!("file{number:02}")
}

fn repository() -> Repository {
    let packages: Vec<_> =
        (0..FILES).map(|number| Package::new(&name(number), "1", 9_000_000 + number)).collect();
    Repository::with(&packages)
}

#[test]
fn the_dead_and_the_liars_are_left_alone_soon_and_the_honest_serve() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let objects: Vec<Vec<u8>> = (0..FILES).map(|number| repository.bytes(&name(number))).collect();
    let slices: Vec<&[u8]> = objects.iter().map(Vec::as_slice).collect();
    let honest = Peer::start_on(ip("127.1.2.3"), &slices, &[]);
    let liar = Peer::start_on(ip("127.4.5.6"), &slices, &[Fault::WrongEverywhere]);
    let gone = Peer::start_on(ip("127.7.8.9"), &[], &[]);

    let mut network = Network::new(4);
    let nodes = [honest.address(), liar.address(), gone.address()].map(|provider| {
        let node = network.add(SocketAddr::new(provider.ip(), 0));
        (node, provider.port())
    });
    network.settle();
    for object in &objects {
        for (node, port) in nodes {
            network.announce(node, Sha256::of(object), port);
        }
    }
    drop(gone);

    let daemon = Setup::new().dht(&[network.entrance()]).with(PATIENT).start();
    daemon.wait_for_dht();
    learn(&daemon, &mirror);
    mirror.forget_records();
    for (number, object) in objects.iter().enumerate() {
        let before = (honest.records().len(), liar.records().len(), mirror.bytes("*/pool/*"));
        let fetched = fetch(daemon.proxy(), &url(&mirror, &repository, &name(number)), || {});
        assert!(fetched.body == *object, "wrong bytes");
        println!(
            "file {number}: whole in {:.1?}; requests to the honest one {}, to the liar {}; {} bytes from the mirror",
            fetched.whole,
            honest.records().len() - before.0,
            liar.records().len() - before.1,
            mirror.bytes("*/pool/*") - before.2,
        );
    }
    assert!(honest.bytes() > 0);
    let asked_of_liar = liar.records().len();
    assert!(asked_of_liar < 3 * FILES, "{asked_of_liar} requests to somebody who lies");
    assert!(!daemon.log().contains("handed out proved wrong"), "a lie was believed");
}

#[test]
fn of_forty_providers_of_one_network_a_download_takes_a_few() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let object = repository.bytes(&name(0));
    let mut network = Network::new(4);
    // Fourteen machines of one /24, three ports each: a node keeps no more of one address.
    let crowd: Vec<Vec<Peer>> = (1..=14)
        .map(|host| (0..3).map(|_| Peer::start_on(ip(&format!("127.9.9.{host}")), &[], &[])).collect())
        .collect();
    let nodes: Vec<usize> =
        crowd.iter().map(|peers| network.add(SocketAddr::new(peers[0].address().ip(), 0))).collect();
    network.settle();
    for (node, peers) in nodes.iter().zip(&crowd) {
        for peer in peers {
            network.announce(*node, Sha256::of(&object), peer.address().port());
        }
    }

    let daemon = Setup::new().dht(&[network.entrance()]).with(PATIENT).start();
    daemon.wait_for_dht();
    learn(&daemon, &mirror);
    let fetched = fetch(daemon.proxy(), &url(&mirror, &repository, &name(0)), || {});
    assert!(fetched.body == object, "wrong bytes");
    let asked = crowd.iter().flatten().filter(|peer| !peer.records().is_empty()).count();
    println!("whole in {:.1?}, {asked} of 42 asked", fetched.whole);
    assert!((1..=OF_ONE_NETWORK).contains(&asked), "{asked} of one network were asked");
}

#[test]
fn a_node_does_not_find_itself() {
    let mut network = Network::new(4);
    let [ours, others] = [ip("127.1.1.1"), ip("127.2.2.2")].map(|ip| network.add(SocketAddr::new(ip, 0)));
    network.settle();
    let object = Sha256::of(b"an object");
    assert_eq!(network.announce(ours, object, 9979).peers, 0);
    assert_eq!(network.announce(others, object, 9979).peers, 1, "the others are counted");
    let at = |text| SocketAddr::new(ip(text), 9979);
    assert_eq!(network.look_up(ours, object), [at("127.2.2.2")]);
    assert_eq!(network.look_up(others, object), [at("127.1.1.1")]);
    assert_eq!(network.look_up(0, object).len(), 2, "others find both");
}
