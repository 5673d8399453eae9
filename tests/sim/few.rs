//! One download and a few sources that have the whole object: who carries how much.

use std::time::Duration;

use aptpeer::swarm::Prefer;

use crate::world::{MBIT, Plan, World};

fn sources(up: &[f64]) -> World {
    let seeds = up.iter().map(|up| up * MBIT).collect();
    let plan = Plan {
        length: 400_000_000,
        joining: Duration::from_millis(1),
        mirror: None,
        down: 1000.0 * MBIT,
        neighbours: Some(8),
        seeds,
        ..Plan::crowd(1, Prefer::Speed)
    };
    World::new(&plan)
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
    assert!(shares.iter().all(|share| (0.2..0.3).contains(share)), "{shares:?}");
}

#[test]
fn a_source_that_is_twice_as_fast_carries_twice_as_much() {
    let mut world = sources(&[100.0, 50.0, 50.0, 50.0]);
    world.run();
    let shares = shares(&world, 4, Duration::ZERO);
    let others = (shares[1] + shares[2] + shares[3]) / 3.0;
    assert!((1.6..2.4).contains(&(shares[0] / others)), "{shares:?}");
}

#[test]
fn a_source_that_slows_down_loses_its_share_within_seconds() {
    let mut world = sources(&[50.0; 4]);
    world.slower(0, Duration::from_secs(4), 5.0 * MBIT);
    world.run();
    // What was under way then arrives late.
    let shares = shares(&world, 4, Duration::from_secs(7));
    assert!(shares[0] < 0.08, "{shares:?}");
}
