//! Downloads that go on where an earlier one was broken off.

use std::time::Duration;

use aptpeer::pieces::{Geometry, PIECE_LENGTH};
use aptpeer::swarm::{Outcome, PeerKind};

use crate::world::{Behaviour, LARGE, MB, Random, World, mirror, neighbour, peer, right, stranger};

#[test]
fn only_the_rest_is_fetched_and_the_beginning_is_there_at_once() {
    for from_mirror in [true, false] {
        let mut world =
            World::new(LARGE, &[mirror(5.0 * MB)]).resumed((0..4).chain([10]), right, from_mirror);
        assert_eq!(world.run(), Outcome::Closed);
        assert_eq!(world.mirror_bytes, 6 * PIECE_LENGTH);
        assert_eq!(world.first_byte, Some(Duration::ZERO));
        let kept = world.machine.worth_keeping(world.now);
        assert_eq!(kept.len(), 11, "all of it is worth keeping now");
    }
}

#[test]
fn what_is_whole_needs_nobody() {
    let mut world = World::new(LARGE, &[]).resumed(0..11, right, true);
    assert_eq!(world.run(), Outcome::Closed);
}

#[test]
fn a_piece_that_is_damaged_is_fetched_anew() {
    let mut world = World::new(LARGE, &[mirror(5.0 * MB)]).resumed(0..5, right, true);
    assert!(world.machine.handle_damaged(2) && !world.machine.handle_damaged(2));
    assert!(!world.machine.handle_damaged(7), "it was not kept");
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.mirror_bytes, LARGE - 4 * PIECE_LENGTH);
}

#[test]
fn a_list_that_says_less_takes_nothing_away() {
    let quiet = Behaviour { grows: Some((0.0, 0.0)), ..neighbour(5.0 * MB) };
    let mut world = World::new(LARGE, &[mirror(5.0 * MB), quiet]).resumed(0..6, right, false);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.mirror_bytes, LARGE - 6 * PIECE_LENGTH);
}

#[test]
fn what_is_not_worth_keeping_is_not_kept() {
    let lone = Behaviour { stalls_at: Some(3), ..stranger(1, 20.0 * MB) };
    let mut world = World::new(LARGE, &[Behaviour { silent: true, ..mirror(1.0) }, lone]);
    let kept = |world: &World| world.machine.worth_keeping(world.now).iter().map(|kept| kept.piece).collect();
    assert_eq!(kept(&world), Vec::<u32>::new());
    world.run_for(Duration::from_secs(2));
    let kept: Vec<u32> = kept(&world);
    assert!(!kept.is_empty() && kept.iter().all(|piece| *piece >= world.machine.ledger().proven_from()));
}

/// Whatever an earlier download believed and left: with a right mirror it comes to a good end, and apt completes no wrong file.
#[test]
fn false_leftovers_do_no_lasting_harm() {
    for seed in 0..1000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 11);
        let length = 1 + random.below(12 * PIECE_LENGTH);
        let pieces = Geometry::new(length).unwrap().pieces();
        let lies: [fn(u32) -> u8; 4] =
            [|_| 1, |p| u8::from(p == 2), |p| u8::from(p < 2), |p| 2 * u8::from(p % 2 == 1)];
        let mut sources = vec![Behaviour { rate: 1.0 * MB + random.unit() * 20.0 * MB, ..mirror(1.0) }];
        for network in 0..random.below(4) {
            let kind = if random.below(2) == 0 { PeerKind::Neighbour } else { PeerKind::Stranger };
            let lie = lies[usize::try_from(random.below(4)).unwrap()];
            let lying = random.below(3) == 0;
            sources.push(Behaviour {
                variant: if lying { lie } else { right },
                list: (random.below(4) > 0).then_some(if lying { lie } else { right }),
                ..peer(kind, u8::try_from(network).unwrap(), 0.2 * MB + random.unit() * 60.0 * MB)
            });
        }
        let left = lies[usize::try_from(random.below(4)).unwrap()];
        let kept: Vec<u32> = (0..pieces).filter(|_| random.below(2) == 0).collect();
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(length, &sources).resumed(kept.iter().copied(), left, false);
            (world.run(), world.facts)
        });
        let (outcome, facts) = result.unwrap_or_else(|_| panic!("seed {seed} failed"));
        assert_eq!(outcome, Outcome::Closed, "seed {seed}: {facts:?}");
    }
}
