//! Nobody is charged for what somebody else did.

use std::time::Duration;

use aptpeer::swarm::{Fact, Outcome, PeerFault, Prefer};

use crate::world::{Behaviour, LARGE, MB, World, mirror, neighbour, stranger};

#[test]
fn whoever_is_overtaken_in_the_endgame_is_not_charged() {
    let slow = Behaviour { latency: Duration::from_millis(200), ..neighbour(3.0 * MB) };
    let mut world = World::with(LARGE, &[neighbour(40.0 * MB), slow], Prefer::Offload);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.carried[1] > 0, "it had something to do");
    assert_eq!(world.faults(), []);
    assert!(!world.facts.iter().any(|fact| matches!(fact, Fact::PeerLate(_))), "{:?}", world.facts);
}

#[test]
fn whoever_is_overtaken_by_the_mirror_is_late_at_most() {
    for rate in [0.05, 0.5, 2.0] {
        for latency in [5, 500, 1500] {
            let slow = Behaviour { latency: Duration::from_millis(latency), ..neighbour(rate * MB) };
            for length in [50_000, LARGE] {
                let mut world = World::new(length, &[mirror(50.0 * MB), slow.clone()]);
                assert_eq!(world.run(), Outcome::Closed);
                assert_eq!(world.faults(), [], "{rate} MB/s after {latency} ms");
            }
        }
    }
}

#[test]
fn nobody_is_charged_for_the_list_of_another() {
    let liar = Behaviour { list: Some(|_| 1), ..stranger(2, 40.0 * MB) };
    // One without a list of its own, one with the true one.
    let plain = Behaviour { list: None, ..stranger(3, 40.0 * MB) };
    for others in [vec![plain.clone()], vec![stranger(4, 40.0 * MB)], vec![plain, stranger(4, 40.0 * MB)]] {
        let sources = [vec![mirror(10.0 * MB), liar.clone()], others].concat();
        let mut world = World::new(LARGE, &sources);
        assert_eq!(world.run(), Outcome::Closed);
        let charged = world.faults();
        assert!(charged.iter().all(|(who, _)| *who == 0), "{charged:?}");
    }
}

#[test]
fn peers_are_not_charged_when_the_mirror_has_another_file() {
    let changed = Behaviour { variant: |piece| u8::from(piece == 3), ..mirror(30.0 * MB) };
    for peer in [neighbour(3.0 * MB), stranger(2, 3.0 * MB)] {
        let mut world = World::new(LARGE, &[changed.clone(), peer]);
        assert_eq!(world.run(), Outcome::Closed);
        assert_eq!(world.faults(), []);
        assert!(world.facts.contains(&Fact::MirrorDiffers));
    }
}

#[test]
fn a_liar_is_charged_all_the_same() {
    let liar = Behaviour { variant: |piece| u8::from(piece == 10), ..neighbour(40.0 * MB) };
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), liar, neighbour(4.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.faults(), [(0, PeerFault::WrongPiece)]);
}
