//! Who is found, and who is not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aptpeer::discovery::{Discovery as _, Lan, LanConfig, LanDriver, LanPeer};
use aptpeer::swarm::NodeId;
use tokio_util::sync::CancellationToken;

use crate::network::{LIMIT, on_a_network};
use crate::support::wait_for;

/// Within what time somebody who says good-bye is forgotten by all.
const SECONDS: Duration = Duration::from_secs(10);

#[test]
fn nodes_find_each_other_and_forget_who_leaves() {
    on_a_network("discovery::nodes_find_each_other_and_forget_who_leaves", |network| {
        let (one, two) = (network.host(2), network.host(3));
        let began = Instant::now();
        let first = one.setup().start();
        let mut second = two.setup().start();
        one.wait_for_peers(&first, &[two.peer()]);
        two.wait_for_peers(&second, &[one.peer()]);
        println!("both found after {:.1?}", began.elapsed());
        assert!(first.log().contains("eth0"), "it says where it looks:\n{}", first.log());

        let left = Instant::now();
        second.terminate();
        let gone = wait_for(SECONDS, || one.peers().is_empty().then_some(()));
        assert!(gone.is_some(), "{:?}\n{}", one.peers(), first.log());
        println!("forgotten {:.1?} after the good-bye", left.elapsed());

        second.restart();
        one.wait_for_peers(&first, &[two.peer()]);
    });
}

/// What the test itself hears on the mirror's host, as a node of this swarm.
fn listener(tag: &str) -> (Lan, LanDriver) {
    let (id, tag) = (NodeId::new([9; 8]), tag.to_owned());
    Lan::new(LanConfig { id, tag, listen: Vec::new(), interfaces: Vec::new() })
}

/// Waits until the listener sees these and no others.
async fn wait_until_seen(lan: &Lan, expected: &[SocketAddr]) {
    let same = |peers: &Arc<[LanPeer]>| {
        let seen: BTreeSet<_> = peers.iter().map(|peer| peer.address).collect();
        seen == expected.iter().copied().collect()
    };
    let mut peers = lan.watch();
    let seen = tokio::time::timeout(LIMIT, peers.wait_for(same)).await;
    assert!(seen.is_ok(), "{:?} instead of {expected:?}", lan.peers());
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future);
}

#[test]
fn peers_of_another_swarm_are_not_seen() {
    on_a_network("discovery::peers_of_another_swarm_are_not_seen", |network| {
        let (one, two) = (network.host(2), network.host(3));
        let _daemons = (one.setup().start(), two.setup().start());
        block_on(async {
            let (ours, other) = (listener("public"), listener("0123abcd"));
            let shutdown = CancellationToken::new();
            let seen = async {
                wait_until_seen(&ours.0, &[one.peer(), two.peer()]).await;
                // What the one has heard, the other has heard as well.
                assert_eq!(other.0.peers(), []);
                shutdown.cancel();
            };
            tokio::join!(ours.1.run(shutdown.clone()), other.1.run(shutdown.clone()), seen);
        });
    });
}

#[test]
fn a_network_that_comes_later_is_used() {
    on_a_network("discovery::a_network_that_comes_later_is_used", |network| {
        let (one, late) = (network.host(2), network.unplugged(3));
        let first = one.setup().start();
        let second = late.setup().start();
        assert_eq!(one.peers(), Vec::<String>::new());
        late.plug();
        one.wait_for_peers(&first, &[late.peer()]);
        late.wait_for_peers(&second, &[one.peer()]);
    });
}

#[test]
fn a_crashed_node_is_given_up_and_taken_back() {
    on_a_network("discovery::a_crashed_node_is_given_up_and_taken_back", |network| {
        let host = network.host(2);
        let mut daemon = host.setup().start();
        block_on(async {
            let (lan, driver) = listener("public");
            let shutdown = CancellationToken::new();
            let seen = async {
                wait_until_seen(&lan, &[host.peer()]).await;
                daemon.kill();
                assert_eq!(lan.peers().len(), 1, "it has not said good-bye");
                (0..3).for_each(|_| lan.note_unreachable(host.peer()));
                // It has another address, which is tried next, and nobody answers there either.
                let others: Vec<SocketAddr> = lan.peers().iter().map(|peer| peer.address).collect();
                others.iter().for_each(|other| (0..3).for_each(|_| lan.note_unreachable(*other)));
                assert_eq!(lan.peers(), [], "nothing of what it told has run out yet");
                daemon.restart();
                wait_until_seen(&lan, &[host.peer()]).await;
                shutdown.cancel();
            };
            tokio::join!(driver.run(shutdown.clone()), seen);
        });
    });
}
