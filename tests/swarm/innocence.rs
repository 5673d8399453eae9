//! Nobody is charged for what somebody else did.

use std::time::Duration;

use aptpeer::pieces::PIECE_LENGTH;
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

/// Less than its sources: some of them help others.
const SHORT: u64 = 3 * PIECE_LENGTH;

#[test]
fn who_sends_a_wrong_part_of_a_piece_is_charged_and_those_who_sent_the_others_are_not() {
    let mut mixed = 0;
    for wrong in [|piece| u8::from(piece == 0), |piece| u8::from(piece == 1), |piece| u8::from(piece == 2)] {
        for place in 0..4 {
            let mut sources = vec![neighbour(4.0 * MB); 4];
            sources[place].variant = wrong;
            let mut world = World::new(SHORT, &sources);
            assert_eq!(world.run(), Outcome::Closed);
            assert!(world.parts > 0, "nobody helped");
            assert!(world.faults().iter().all(|charged| *charged == (place, PeerFault::WrongPiece)));
            mixed += world.mixtures;
            assert!(
                world.mixtures == 0 || world.faults().len() == 1,
                "the liar gets away: {:?}",
                world.facts
            );
            assert!(world.mixtures <= 1, "those who were mixed once are mixed again");
        }
    }
    assert!(mixed > 0, "no part was wrong");
}

#[test]
fn a_liar_among_those_who_help_costs_little_time() {
    let mut honest = World::new(SHORT, &[neighbour(4.0 * MB), neighbour(4.0 * MB), neighbour(4.0 * MB)]);
    assert_eq!(honest.run(), Outcome::Closed);
    for wrong in [|_| 1, |piece| u8::from(piece == 1)] {
        let liar = Behaviour { variant: wrong, ..neighbour(4.0 * MB) };
        let sources = [neighbour(4.0 * MB), liar, neighbour(4.0 * MB), neighbour(4.0 * MB)];
        let mut world = World::new(SHORT, &sources);
        assert_eq!(world.run(), Outcome::Closed);
        // Two pieces more, of which one was put together.
        let limit = honest.elapsed() + Duration::from_secs_f64(2.0 * PIECE_LENGTH as f64 / (2.0 * MB));
        assert!(world.elapsed() <= limit, "{:?}, {:?} without", world.elapsed(), honest.elapsed());
    }
}

#[test]
fn who_will_not_give_a_part_of_a_piece_is_done_without() {
    for place in 0..4 {
        let mut sources = vec![neighbour(4.0 * MB); 4];
        sources[place].whole_only = true;
        let mut world = World::new(SHORT, &sources);
        assert_eq!(world.run(), Outcome::Closed);
        assert_eq!(world.faults(), []);
    }
}

#[test]
fn nobody_is_charged_for_a_part_of_a_piece_that_another_list_is_to_blame_for() {
    let liar = Behaviour { list: Some(|_| 1), ..neighbour(4.0 * MB) };
    let sources = [liar, neighbour(4.0 * MB), neighbour(4.0 * MB), neighbour(4.0 * MB)];
    let mut world = World::new(SHORT, &sources);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.faults().iter().all(|(who, _)| *who == 0), "{:?}", world.faults());
}
