//! Who is found, and who is not.

use std::time::{Duration, Instant};

use crate::network::on_a_network;
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
