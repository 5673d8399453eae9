//! What apt gets from nodes that found each other.

use crate::support::apt::Apt;
use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::repository::{Repository, dozen};

/// Peers come before the mirror, so that what they give shows in the figures.
const PATIENT: &str = "[transfer]\nprefer = \"offload\"\n";

fn names(repository: &Repository) -> Vec<&str> {
    repository.built().iter().map(|built| &*built.package.name).collect()
}

/// apt updates and downloads everything, without a word of complaint.
fn everything(daemon: &Daemon, mirror: &Mirror, repository: &Repository) {
    let apt = Apt::new().proxy(daemon.proxy()).deb822(&mirror.url(), repository);
    apt.update().succeeded();
    apt.install(&names(repository)).succeeded();
    let archives: Vec<_> = apt.archives().into_iter().map(|(_, digest)| digest).collect();
    for built in repository.built() {
        assert!(archives.contains(&built.sha256), "{} is missing", built.package.name);
    }
}

#[test]
fn each_node_gets_everything_from_one_that_it_found_on_the_dht() {
    let repository = Repository::with(&dozen(5_000_000, 14_000_000));
    let count = names(&repository).len() as u64;
    let mirror = Mirror::start(&repository.root());
    let entrance = Setup::bootstrap().start();
    let node = || {
        let daemon = Setup::new().dht(&[entrance.dht()]).with(PATIENT).start();
        daemon.wait_for_dht();
        daemon
    };
    let first = node();
    everything(&first, &mirror, &repository);
    first.wait_for_announced(count);

    mirror.forget_records();
    let second = node();
    everything(&second, &mirror, &repository);
    assert_eq!(mirror.bytes("*/pool/*"), 0, "{:?}", mirror.records());
    second.wait_for_announced(count);

    drop(first);
    mirror.forget_records();
    let third = node();
    everything(&third, &mirror, &repository);
    assert_eq!(mirror.bytes("*/pool/*"), 0, "{:?}", mirror.records());
}

/// The usual case, and the one that must not get worse: nobody has anything, half the network is gone, and the mirror
/// is there.
#[test]
fn a_dht_that_does_not_answer_costs_apt_nothing() {
    let repository = Repository::with(&dozen(5_000_000, 14_000_000)[..8]);
    let mirror = Mirror::start(&repository.root());
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let daemon = Setup::new().dht(&[silent.local_addr().unwrap()]).start();
    everything(&daemon, &mirror, &repository);
    let stats = daemon.stats();
    assert_eq!(stats["dht_nodes"], 0, "{stats}");
    assert!(stats["dht"]["waiting_for"].as_str().unwrap().contains("answer"), "{stats}");
}
