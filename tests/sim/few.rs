//! One download and a few sources that have the whole object: who carries how much.

use std::time::Duration;

use aptpeer::pieces::PIECE_LENGTH;
use aptpeer::swarm::Prefer;

use crate::plan::{MBIT, Plan};
use crate::world::World;

fn sources(up: &[f64]) -> World {
    World::new(&plan(up))
}

/// One who downloads from these, with uplinks in Mbit/s.
fn plan(up: &[f64]) -> Plan {
    let seeds = up.iter().map(|up| up * MBIT).collect();
    Plan {
        length: 400_000_000,
        joining: Duration::from_millis(1),
        mirror: None,
        down: 1000.0 * MBIT,
        neighbours: Some(8),
        heartbeat: Duration::from_millis(200),
        seeds,
        ..Plan::crowd(1, Prefer::Speed)
    }
}

/// Which part of the object each source carried from `from` on.
fn shares(world: &World, count: usize, from: Duration) -> Vec<f64> {
    let node = world.nodes.last().unwrap();
    assert!(node.finished.is_some(), "{:?}", node.facts);
    let since = world.start + from;
    let carried = |host| -> f64 {
        let pieces = node.carried.get(&host).into_iter().flatten();
        pieces.filter(|(at, _)| *at >= since).map(|(_, bytes)| bytes).sum()
    };
    let all: f64 = (0..count).map(carried).sum();
    (0..count).map(|host| carried(host) / all).collect()
}

#[test]
fn four_equal_sources_carry_a_quarter_each() {
    let mut world = sources(&[50.0; 4]);
    world.run();
    let shares = shares(&world, 4, Duration::ZERO);
    assert!(shares.iter().all(|share| (0.23..0.27).contains(share)), "{shares:?}");
}

#[test]
fn a_source_that_is_twice_as_fast_carries_twice_as_much() {
    let mut world = sources(&[100.0, 50.0, 50.0, 50.0]);
    world.run();
    let shares = shares(&world, 4, Duration::ZERO);
    let others = (shares[1] + shares[2] + shares[3]) / 3.0;
    assert!((1.8..2.2).contains(&(shares[0] / others)), "{shares:?}");
}

#[test]
fn a_source_that_slows_down_loses_its_share_within_seconds() {
    let mut world = sources(&[50.0; 4]);
    world.slower(0, Duration::from_secs(4), 5.0 * MBIT);
    world.run();
    // What was under way then arrives late.
    let shares = shares(&world, 4, Duration::from_secs(7));
    assert!(shares[0] < 0.05, "{shares:?}");
}

/// How long a short object takes from these, and what its bytes would take if each source sent to the end.
fn takes(length: u64, up: &[f64]) -> (f64, f64) {
    let mut world = World::new(&Plan { length, ..plan(up) });
    world.run();
    let node = world.nodes.last().unwrap();
    #[allow(clippy::cast_precision_loss)]
    let least = length as f64 / (up.iter().sum::<f64>() * MBIT);
    ((node.finished.unwrap() - node.joins).as_secs_f64(), least)
}

/// Lets an object come from these and holds the time against what they need at least.
fn check(length: u64, up: &[f64], times: f64) {
    let (took, least) = takes(length, up);
    let ratio = took / least;
    eprintln!("{length} bytes from {up:?} Mbit/s: {took:.2} s, at least {least:.2} s, {ratio:.2}");
    assert!(ratio <= times, "{length} bytes from {up:?}: {took} s, {least} s at least, {ratio:.2}");
}

#[test]
fn a_short_object_takes_little_longer_than_its_sources_could_send_it() {
    for pieces in 2..=8 {
        for sources in 2..=4 {
            for short in [0, 1_000_000] {
                let mut up = vec![50.0; sources];
                check(pieces * PIECE_LENGTH - short, &up, 1.15);
                up[0] = 100.0;
                check(pieces * PIECE_LENGTH - short, &up, 1.15);
            }
        }
    }
}

#[test]
fn an_object_takes_little_longer_however_slow_one_of_its_sources_is() {
    for (length, up) in [
        (12_000_000, [50.0; 4]),
        (100_000_000, [50.0; 4]),
        (12_000_000, [50.0, 50.0, 50.0, 5.0]),
        (100_000_000, [50.0, 50.0, 50.0, 5.0]),
    ] {
        check(length, &up, 1.1);
    }
}
