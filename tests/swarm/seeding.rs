//! What a download gives to others while it lasts.

use std::time::Duration;

use aptpeer::pieces::PIECE_LENGTH;
use aptpeer::swarm::{Outcome, PeerKind};

use crate::world::{Behaviour, LARGE, MB, Random, World, mirror, neighbour, peer, right, stranger};

/// The pieces that could be had before the end.
fn offered(sources: &[Behaviour]) -> Vec<u32> {
    let mut world = World::new(LARGE, sources);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(!world.offered_wrong);
    (0..11).filter(|piece| world.offered.contains(*piece)).collect()
}

#[test]
fn what_the_mirror_has_sent_is_given_at_once() {
    assert_eq!(offered(&[mirror(5.0 * MB)]), Vec::from_iter(0..10));
}

#[test]
fn what_one_neighbour_says_is_given_only_when_it_is_proven() {
    // Forward, the end first: only that is proven before the whole is.
    assert_eq!(offered(&[neighbour(20.0 * MB)]), [10]);
}

#[test]
fn what_two_networks_say_is_given_as_it_comes() {
    let given = offered(&[stranger(1, 20.0 * MB), stranger(2, 20.0 * MB)]);
    assert!(given.len() >= 9, "{given:?}");
}

#[test]
fn what_a_publisher_says_is_given_as_it_comes() {
    let no_list = Behaviour { list: None, ..neighbour(20.0 * MB) };
    let mut world = World::new(LARGE, &[no_list]).list_found(Duration::ZERO, right, true);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(!world.offered_wrong && (0..9).all(|piece| world.offered.contains(piece)));
}

/// Whatever liars of one network tell, and whoever else is there: nothing false is passed on.
#[test]
fn one_network_of_liars_puts_nothing_false_into_our_mouth() {
    let mut early = 0;
    for seed in 0..1500_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 3);
        let length = 1 + random.below(12 * PIECE_LENGTH);
        let lies = [|_| 1, |p| u8::from(p == 2), |p| u8::from(p < 2), |p| 2 * u8::from(p % 2 == 1)];
        let mut sources = vec![Behaviour { rate: 1.0 * MB + random.unit() * 20.0 * MB, ..mirror(1.0) }];
        for number in 0..random.below(5) {
            let kind = if random.below(2) == 0 { PeerKind::Neighbour } else { PeerKind::Stranger };
            let lies: fn(u32) -> u8 = lies[usize::try_from(random.below(4)).unwrap()];
            let lying = number % 2 == 1;
            sources.push(Behaviour {
                variant: if lying { lies } else { right },
                list: if random.below(4) == 0 {
                    None
                } else if lying && random.below(2) == 0 {
                    Some(lies)
                } else {
                    Some(right)
                },
                latency: Duration::from_millis(1 + random.below(700)),
                stalls_at: (random.below(6) == 0).then(|| u32::try_from(random.below(5)).unwrap()),
                ..peer(kind, if lying { 1 } else { 2 }, 0.2 * MB + random.unit() * 60.0 * MB)
            });
        }
        let mut world = World::new(length, &sources);
        assert_eq!(world.run(), Outcome::Closed, "seed {seed}");
        assert!(!world.offered_wrong, "seed {seed}: {:?}", world.facts);
        early += u32::from(!world.offered.ranges().is_empty());
    }
    assert!(early > 500, "{early}");
}
