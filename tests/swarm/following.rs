//! Behind peers that are still downloading themselves.

use std::time::Duration;

use aptpeer::pieces::PIECE_LENGTH;
use aptpeer::swarm::{Outcome, Prefer};

use crate::world::{Behaviour, LARGE, MB, World, mirror, neighbour};

/// A neighbour on the same network that is some megabytes ahead and gets the rest at this rate.
fn leader(ahead: f64, rate: f64) -> Behaviour {
    Behaviour { grows: Some((ahead * MB, rate)), ..neighbour(100.0 * MB) }
}

#[test]
fn a_follower_leaves_the_mirror_to_the_leader() {
    for (prefer, ahead) in [(Prefer::Speed, 14.0), (Prefer::Offload, 5.0)] {
        let mut world =
            World::with(LARGE, &[mirror(8.0 * MB), leader(ahead, 8.0 * MB)], prefer).mirror_known(8.2 * MB);
        assert_eq!(world.run(), Outcome::Closed);
        // The first bytes come from the mirror where time is what counts.
        let opening = if prefer == Prefer::Speed { PIECE_LENGTH / 2 } else { 0 };
        assert!(world.mirror_bytes <= opening, "{prefer:?}: {} {:?}", world.mirror_bytes, world.facts);
        let leader_is_through = (LARGE as f64 / MB - ahead) / 8.0;
        let took = world.elapsed().as_secs_f64();
        assert!(took < leader_is_through + 0.5, "{took} s, the leader {leader_is_through} s");
    }
}

#[test]
fn a_follower_asks_once_for_each_piece() {
    let mut world = World::with(LARGE, &[leader(5.0, 2.0 * MB)], Prefer::Offload);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.questions <= 12, "{} questions", world.questions);
    let impatient = Behaviour { impatient: true, ..leader(5.0, 2.0 * MB) };
    let mut world = World::with(LARGE, &[impatient], Prefer::Offload);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.questions <= 60, "{} questions to one that does not wait", world.questions);
}

#[test]
fn a_follower_is_never_much_later_than_without_the_leader() {
    let mut alone = World::new(LARGE, &[mirror(8.0 * MB)]);
    assert_eq!(alone.run(), Outcome::Closed);
    let cases = [(0.0, 8.0), (4.5, 8.0), (14.0, 1.0), (30.0, 0.5), (20.0, 0.0), (0.0, 0.0), (9.0, 4.0)];
    for ((ahead, rate), known) in cases.into_iter().flat_map(|case| [(case, false), (case, true)]) {
        let mut world = World::new(LARGE, &[mirror(8.0 * MB), leader(ahead, rate * MB)]);
        if known {
            world = world.mirror_known(8.0 * MB);
        }
        assert_eq!(world.run(), Outcome::Closed);
        let (took, without) = (world.elapsed(), alone.elapsed());
        println!(
            "{ahead} MB ahead at {rate} MB/s: {took:?}, alone {without:?}, mirror {}",
            world.mirror_bytes
        );
        assert!(took <= without + Duration::from_millis(500), "{ahead} MB, {rate} MB/s: {took:?}");
    }
}

#[test]
fn two_that_have_the_same_beginning_do_not_wait_for_each_other() {
    let stuck = leader((2 * PIECE_LENGTH + 1) as f64 / MB, 0.0);
    let mut world = World::new(LARGE, &[mirror(8.0 * MB), stuck.clone()]);
    assert_eq!(world.run(), Outcome::Closed);
    let mut world = World::new(LARGE, &[leader(0.0, 0.0)]);
    assert_eq!(world.run(), Outcome::Failed);
    assert!(world.elapsed() < Duration::from_secs(4), "{:?}", world.elapsed());
    let mut world = World::new(LARGE, &[stuck]);
    assert_eq!(world.run(), Outcome::Failed);
    assert!(world.elapsed() < Duration::from_secs(40), "{:?}", world.elapsed());
}
