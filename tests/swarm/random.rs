//! Random mixtures of everything.

use std::time::Duration;

use aptpeer::pieces::{Geometry, PIECE_LENGTH, PieceIndex};
use aptpeer::swarm::{Outcome, PeerKind};

use crate::world::{Behaviour, MB, Random, Variant, World, mirror, peer, right};

/// Random swarms: whatever the mixture, a right mirror or one right peer is enough, and apt never completes a wrong
/// file. The seed is printed when a run fails.
#[test]
fn random_swarms_always_end_well() {
    for seed in 0..1500_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        let length = match random.below(3) {
            0 => 1 + random.below(PIECE_LENGTH),
            1 => PIECE_LENGTH * (1 + random.below(4)),
            _ => 1 + random.below(12 * PIECE_LENGTH),
        };
        let lies: [fn(PieceIndex) -> Variant; 5] =
            [right, |_| 1, |p| u8::from(p == 2), |p| u8::from(p < 2), |p| 2 * u8::from(p % 2 == 1)];
        let mut sources = vec![Behaviour { rate: 1.0 * MB + random.unit() * 20.0 * MB, ..mirror(1.0) }];
        for network in 0..random.below(5) {
            let kind = if random.below(2) == 0 { PeerKind::Neighbour } else { PeerKind::Stranger };
            let bytes = lies[usize::try_from(random.below(5)).unwrap()];
            let list = match random.below(4) {
                0 => None,
                1 => Some(bytes),
                2 => Some(right as fn(PieceIndex) -> Variant),
                _ => Some(lies[usize::try_from(random.below(5)).unwrap()]),
            };
            sources.push(Behaviour {
                variant: bytes,
                list,
                silent: random.below(8) == 0,
                dead: random.below(8) == 0,
                hollow: random.below(10) == 0,
                empty_handed: random.below(10) == 0,
                latency: Duration::from_millis(1 + random.below(700)),
                found_after: (random.below(3) == 0).then(|| Duration::from_millis(random.below(3000))),
                stalls_at: (random.below(6) == 0).then(|| u32::try_from(random.below(5)).unwrap()),
                ..peer(kind, u8::try_from(network).unwrap() % 3, 0.2 * MB + random.unit() * 60.0 * MB)
            });
        }
        let lists: Vec<_> = (0..random.below(3))
            .map(|_| {
                let after = Duration::from_millis(random.below(2000));
                (after, lies[usize::try_from(random.below(5)).unwrap()], random.below(5) == 0)
            })
            .collect();
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(length, &sources);
            for (after, list, signed) in lists {
                world = world.list_found(after, list, signed);
            }
            (world.run(), world.faults(), world.facts)
        });
        let (outcome, faults, facts) = result.unwrap_or_else(|_| panic!("seed {seed} failed"));
        assert_eq!(outcome, Outcome::Closed, "seed {seed}: {facts:?}");
        for (who, fault) in faults.iter().filter(|(_, fault)| fault.is_lie()) {
            let source = &sources[who + 1];
            let pieces = Geometry::new(length).unwrap().pieces();
            let honest =
                (0..pieces).all(|p| (source.variant)(p) == 0 && source.list.is_none_or(|list| list(p) == 0));
            assert!(!honest, "seed {seed}: innocent peer {who} was charged with {fault}");
        }
    }
}

/// Random honest swarms, quick and slow, with and without lists of their own, whole or failing: what a look-up finds
/// that is false makes none of them later.
#[test]
fn no_random_swarm_is_later_for_a_poisoned_list() {
    for seed in 0..1000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 7);
        let length = 1 + random.below(14 * PIECE_LENGTH);
        let lies: [fn(PieceIndex) -> Variant; 4] =
            [|_| 1, |p| u8::from(p == 2), |p| u8::from(p < 2), |p| 2 * u8::from(p % 2 == 1)];
        let mut sources = vec![Behaviour { rate: 1.0 * MB + random.unit() * 20.0 * MB, ..mirror(1.0) }];
        for network in 0..random.below(5) {
            let kind = if random.below(3) == 0 { PeerKind::Neighbour } else { PeerKind::Stranger };
            sources.push(Behaviour {
                list: (random.below(2) == 0).then_some(right as fn(PieceIndex) -> Variant),
                silent: random.below(8) == 0,
                dead: random.below(8) == 0,
                empty_handed: random.below(10) == 0,
                latency: Duration::from_millis(1 + random.below(300)),
                found_after: (random.below(2) == 0).then(|| Duration::from_millis(random.below(3000))),
                ..peer(kind, u8::try_from(network).unwrap() % 3, 0.2 * MB + random.unit() * 60.0 * MB)
            });
        }
        let (after, lie) =
            (Duration::from_millis(random.below(2000)), lies[usize::try_from(random.below(4)).unwrap()]);
        let last = Geometry::new(length).unwrap().last();
        if (0..last).all(|piece| lie(piece) == 0) {
            // The states of so short an object are those of the right one.
            continue;
        }
        let mut without = World::new(length, &sources);
        assert_eq!(without.run(), Outcome::Closed, "seed {seed}");
        let mut world = World::new(length, &sources).list_found(after, lie, false);
        assert_eq!(world.run(), Outcome::Closed, "seed {seed}");
        let lost = world.elapsed().saturating_sub(without.elapsed());
        // A peer that tries the list may lack for a moment where it would have helped.
        let limit = without.elapsed() / 100;
        assert!(lost <= limit, "seed {seed}: {lost:?} of {:?} lost", without.elapsed());
    }
}
