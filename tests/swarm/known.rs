//! What is known of peers from earlier downloads decides whom to ask, and how long to wait.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use aptpeer::pieces::{Geometry, PIECE_LENGTH};
use aptpeer::swarm::{Download, Order, PeerKind, Prefer, SourceId, Standing, Walker};

fn machine(start: Instant) -> Download {
    let mut machine =
        Download::new(Sha256::of(b"x"), Geometry::new(PIECE_LENGTH).unwrap(), Prefer::Speed, start);
    machine.add_mirror(None);
    machine
}

fn meet(machine: &mut Download, standing: Standing, now: Instant) -> SourceId {
    machine.add_peer(PeerKind::Neighbour, Ipv4Addr::LOCALHOST.into(), standing, now)
}

#[test]
fn the_peer_with_the_best_score_is_asked_first() {
    let now = Instant::now();
    for best in 0..3 {
        let mut machine = machine(now);
        let scored = |score| Standing { score, ..Standing::default() };
        let peers: Vec<SourceId> =
            (0..3).map(|at| meet(&mut machine, scored(if at == best { 0.9 } else { 0.3 }), now)).collect();
        machine.handle_timeout(now);
        let Some(Order::FetchPiece { source, .. }) = machine.poll_order() else { panic!("nobody is asked") };
        assert_eq!(source, peers[best]);
    }
}

/// How long the mirror is spared for one peer that says nothing, and when that peer is given up.
fn waits(overdue: Option<u64>) -> (Duration, Duration) {
    let start = Instant::now();
    let mut machine = machine(start);
    let standing = Standing { overdue: overdue.map(Duration::from_millis), ..Standing::default() };
    meet(&mut machine, standing, start);
    let (mut now, mut joined) = (start, None);
    machine.handle_timeout(now);
    loop {
        while let Some(order) = machine.poll_order() {
            match order {
                Order::FetchPiece { fetch, .. } => machine.handle_begun(fetch, now),
                Order::Walk { walker: Walker::Mirror, .. } => joined = Some(now - start),
                Order::Cancel(_) => return (joined.unwrap(), now - start),
                _ => {}
            }
        }
        now = machine.next_timeout(now).unwrap().max(now + Duration::from_millis(1));
        machine.handle_timeout(now);
    }
}

#[test]
fn each_peer_has_the_time_that_it_usually_needs() {
    for (overdue, hedge, stall) in [
        (None, 1000, 3000),
        (Some(5), 5, 2000),
        (Some(400), 400, 2000),
        (Some(700), 700, 2800),
        (Some(1500), 1000, 6000),
        (Some(60_000), 1000, 8000),
    ] {
        let (joined, given_up) = waits(overdue);
        let near = |time: Duration, expected: u64| {
            let expected = Duration::from_millis(expected);
            (expected..expected + Duration::from_millis(50)).contains(&time)
        };
        assert!(near(joined, hedge), "{overdue:?}: the mirror joined after {joined:?}");
        assert!(near(given_up, stall), "{overdue:?}: given up after {given_up:?}");
    }
}
