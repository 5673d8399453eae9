//! A network in which two nodes of five are gone: what a download pays for asking it.

use std::time::Duration;

use crate::nodes::Network;
use crate::support::daemon::Setup;
use crate::support::mirror::Mirror;
use crate::support::repository::{Package, Repository};
use crate::world::{fetch, learn, median, metric, url};

/// Look-ups of the daemon that came to an end by themselves.
const ENDED: &str = "aptpeer_dht_lookup_seconds_count";

/// Files of one piece, and of three.
const SMALL: usize = 60;
const LARGE: usize = 15;

#[test]
fn nobody_waits_for_a_network_of_which_much_is_dead() {
    let name = |kind: &str, number: usize| format!("{kind}{number:02}");
    let small = (0..SMALL).map(|number| Package::new(&name("small", number), "1", 50_000 + 1000 * number));
    let large = (0..LARGE).map(|number| Package::new(&name("large", number), "1", 9_000_000 + number));
    let repository = Repository::with(&small.chain(large).collect::<Vec<_>>());
    let mirror = Mirror::start(&repository.root());

    let mut network = Network::new(30);
    let with = Setup::new().dht(&[network.entrance()]).start();
    let without = Setup::new().start();
    with.wait_for_dht();
    let knows = || (with.stat("dht_nodes") >= 16).then_some(());
    assert!(crate::support::wait_for(Duration::from_secs(60), knows).is_some(), "{}", with.stats());
    network.kill_from(18);
    [&with, &without].into_iter().for_each(|daemon| learn(daemon, &mirror));

    let before = with.stats()["dht"]["datagrams_sent"].as_u64().unwrap();
    let fetches = [("small", SMALL), ("large", LARGE)];
    for (kind, count) in fetches {
        let (mut first, mut whole) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let mut did_not_wait = 0;
        for number in 0..count {
            let url = url(&mirror, &repository, &name(kind, number));
            // In turn, so that whatever else the machine does falls on both; and each goes first half of the time.
            let mut order = [(0, &with), (1, &without)];
            order.rotate_left(number % 2);
            for (column, daemon) in order {
                let ended = metric(&with, ENDED);
                let look = || {
                    // No look-up ended since it was asked for, so its own did not either.
                    did_not_wait += usize::from(column == 0 && metric(&with, ENDED) == ended);
                };
                let fetched = fetch(daemon.proxy(), &url, look);
                assert!(fetched.body == repository.bytes(&name(kind, number)), "wrong bytes");
                first[column].push(fetched.first);
                whole[column].push(fetched.whole);
            }
        }
        println!(
            "{kind}: {count} downloads each, medians: first byte {:.2?} with the DHT and {:.2?} without it, \
             whole {:.2?} and {:.2?}; {did_not_wait} had their first byte before any look-up ended",
            median(first[0].clone()),
            median(first[1].clone()),
            median(whole[0].clone()),
            median(whole[1].clone()),
        );
        println!(
            "  slowest first byte {:.2?} and {:.2?}",
            first[0].iter().max().unwrap(),
            first[1].iter().max().unwrap()
        );
        // In the others some look-up ended meanwhile, which may be that of an earlier one.
        assert!(did_not_wait >= count / 2, "{did_not_wait} of {count}");
    }
    let looked = with.stats()["dht"]["datagrams_sent"].as_u64().unwrap() - before;
    println!("{looked} datagrams");
    assert!(looked >= (SMALL + LARGE) as u64, "nobody was asked");
}
