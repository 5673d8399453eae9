//! How much of their wires' rates peers give together.

use crate::support::switch::Host;
use crate::world::{RATE, alone, client, download, got_from, holder, mirror, repository, switch};

/// The mirror's rate, in bytes a second: too slow to be of help.
const SLOW_MIRROR: u64 = 100_000;

/// The shares of the peers, and how many times a single wire's rate came.
struct Swarm {
    equal: (Vec<f64>, f64),
    /// The first of the peers is twice as fast.
    unequal: (Vec<f64>, f64),
}

/// An object of this length from four peers.
fn swarm(length: usize) -> Option<Swarm> {
    let _alone = alone();
    let switch = switch()?;
    let repository = repository(&["object"], length);
    let (near, far) = (switch.host(), switch.host());
    let mirror = mirror(&far, &repository, Some(SLOW_MIRROR));
    let hosts: [Host; 4] = std::array::from_fn(|_| switch.host());
    let holders: Vec<_> = hosts.iter().map(|host| holder(host, &repository)).collect();
    let peers: Vec<_> = holders.iter().map(|holder| holder.peer()).collect();
    hosts.iter().for_each(|host| host.send_at_most(RATE));

    let once = |label: &str| {
        let mut daemon = client(&near, &mirror, &peers);
        let fetched = download(&mut daemon, &mirror, &repository, "object", |_| {});
        #[allow(clippy::cast_precision_loss)]
        let times = fetched.length as f64 / fetched.whole.as_secs_f64() / RATE as f64;
        let got: Vec<f64> = hosts.iter().map(|host| got_from(&mut daemon, host)).collect();
        let all: f64 = got.iter().sum();
        let shares: Vec<f64> = got.iter().map(|got| got / all).collect();
        println!(
            "{label}: {} bytes in {:.2?}, {times:.2} times the rate of one peer, first byte after {:.2?}; shares {shares:.3?}",
            fetched.length, fetched.whole, fetched.first
        );
        (shares, times)
    };
    let equal = once("four equal peers");
    hosts[0].send_at_most(2 * RATE);
    let unequal = once("one twice as fast");
    Some(Swarm { equal, unequal })
}

#[test]
fn four_peers_give_almost_four_times_as_much_as_one_each_a_quarter() {
    let Some(swarm) = swarm(100_000_000) else { return };
    // Bounds for a busy machine; the strict ones are below.
    let (shares, times) = swarm.equal;
    assert!(times > 2.4, "only {times} times the rate of one");
    assert!(shares.iter().all(|share| (0.12..0.40).contains(share)), "{shares:?}");
    let (shares, times) = swarm.unequal;
    assert!(times > 2.8, "only {times} times the rate of one");
    assert!(shares[1..].iter().all(|share| shares[0] > 1.2 * share), "{shares:?}");
}

#[test]
#[ignore = "half a minute, on a machine that does nothing else"]
fn four_peers_give_400_mb_at_nine_tenths_of_their_rates_or_more() {
    let Some(swarm) = swarm(400_000_000) else { return };
    let (shares, times) = swarm.equal;
    assert!(times >= 3.6, "only {times} times the rate of one");
    assert!(shares.iter().all(|share| (0.20..0.30).contains(share)), "{shares:?}");
    let (shares, times) = swarm.unequal;
    assert!(times >= 4.5, "only {times} times the rate of one");
    assert!(shares[1..].iter().all(|share| (1.5..2.6).contains(&(shares[0] / share))), "{shares:?}");
}
