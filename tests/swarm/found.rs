//! Peers and piece lists that a look-up finds while the download runs.

use std::time::Duration;

use aptpeer::pieces::{PIECE_LENGTH, PieceIndex};
use aptpeer::swarm::{Fact, Outcome, PeerFault};

use crate::world::{Behaviour, LARGE, MB, Variant, World, mirror, neighbour, right, stranger};

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The same source, found by a look-up after this time.
fn found(after: Duration, mut source: Behaviour) -> Behaviour {
    source.found_after = Some(after);
    source
}

/// Without a piece list of its own.
fn plain(mut source: Behaviour) -> Behaviour {
    source.list = None;
    source
}

const WRONG: fn(PieceIndex) -> Variant = |_| 1;

#[test]
fn a_peer_found_in_the_middle_takes_its_share() {
    let mut alone = World::new(LARGE, &[mirror(10.0 * MB)]);
    alone.run();
    let sources = [mirror(10.0 * MB), found(milliseconds(1000), stranger(1, 20.0 * MB))];
    let mut world = World::new(LARGE, &sources);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.carried[0] > LARGE / 4, "it carried {}", world.carried[0]);
    assert!(world.elapsed() < alone.elapsed().mul_f64(0.8), "{:?}", world.elapsed());
    assert_eq!(world.first_byte, alone.first_byte);
    let mut sources = vec![neighbour(5.0 * MB)];
    sources.extend((1..=3).map(|network| found(milliseconds(500), stranger(network, 5.0 * MB))));
    let mut world = World::new(8 * LARGE, &sources);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.carried.iter().all(|carried| *carried > LARGE), "{:?}", world.carried);
}

#[test]
fn apt_s_first_byte_waits_for_no_look_up() {
    for length in [1, 50_000, PIECE_LENGTH, LARGE] {
        let mut alone = World::new(length, &[mirror(10.0 * MB)]);
        alone.run();
        let silent = Behaviour { silent: true, ..stranger(1, 1.0) };
        let sources = [mirror(10.0 * MB), found(Duration::ZERO, silent)];
        let mut world = World::new(length, &sources).looking(None, Duration::from_secs(10));
        assert_eq!(world.run(), Outcome::Closed);
        assert_eq!(world.first_byte, alone.first_byte, "{length} bytes");
        assert_eq!(world.elapsed(), alone.elapsed(), "{length} bytes");
    }
}

#[test]
fn forty_bogus_peers_cost_nothing() {
    let kinds = [
        Behaviour { dead: true, ..stranger(0, 1.0 * MB) },
        Behaviour { silent: true, ..stranger(0, 1.0 * MB) },
        Behaviour { list: None, empty_handed: true, ..stranger(0, 1.0 * MB) },
        Behaviour { variant: WRONG, list: None, ..stranger(0, 30.0 * MB) },
    ];
    for length in [50_000, LARGE] {
        let mut alone = World::new(length, &[mirror(10.0 * MB)]);
        alone.run();
        for kind in &kinds {
            let bogus = (0..40).map(|network| Behaviour { network, ..kind.clone() });
            let bogus = bogus.map(|source| found(milliseconds(u64::from(source.network) * 20), source));
            let sources: Vec<_> = std::iter::once(mirror(10.0 * MB)).chain(bogus).collect();
            let mut world = World::new(length, &sources);
            assert_eq!(world.run(), Outcome::Closed);
            assert_eq!(world.elapsed(), alone.elapsed(), "{length} bytes");
        }
    }
}

#[test]
fn bogus_peers_do_not_keep_a_right_one_from_being_walked() {
    // No mirror and no list: somebody must be walked, and many say that they will tell their list in a moment.
    let silent = Behaviour { silent: true, ..stranger(0, 1.0) };
    let bogus = (0..40).map(|network| Behaviour { network, ..silent.clone() });
    let bogus = bogus.map(|source| found(milliseconds(u64::from(source.network) * 100), source));
    let right = found(milliseconds(50), plain(stranger(99, 20.0 * MB)));
    let sources: Vec<_> = std::iter::once(right).chain(bogus).collect();
    let mut world = World::new(LARGE, &sources).looking(None, Duration::from_secs(10));
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.first_byte.unwrap() < milliseconds(500), "{:?}", world.first_byte);
}

#[test]
fn a_found_peer_that_fails_is_charged_once_and_left_alone() {
    let dead = Behaviour { dead: true, ..stranger(1, 1.0 * MB) };
    let liar = Behaviour { variant: WRONG, ..stranger(2, 30.0 * MB) };
    let sources = [mirror(5.0 * MB), found(milliseconds(300), dead), found(milliseconds(600), liar)];
    let mut world = World::new(LARGE, &sources);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.faults(), [(0, PeerFault::Unreachable), (1, PeerFault::WrongPiece)]);
    assert!(world.carried[1] <= 2 * PIECE_LENGTH, "{}", world.carried[1]);
    assert_eq!(world.taints, 0);
}

#[test]
fn without_a_mirror_a_download_waits_for_the_look_up_but_not_for_ever() {
    let down = Behaviour { dead: true, ..mirror(1.0) };
    let limit = Duration::from_secs(10);
    for length in [50_000, LARGE] {
        for before in
            [vec![], vec![down.clone()], vec![Behaviour { empty_handed: true, ..plain(neighbour(1.0)) }]]
        {
            let late = found(Duration::from_secs(3), stranger(1, 20.0 * MB));
            let sources: Vec<_> = before.iter().cloned().chain([late]).collect();
            let mut world = World::new(length, &sources).looking(Some(Duration::from_secs(4)), limit);
            assert_eq!(world.run(), Outcome::Closed, "{length} bytes");
            let mut world = World::new(length, &before).looking(Some(Duration::from_secs(4)), limit);
            assert_eq!(world.run(), Outcome::Failed);
            assert_eq!(world.elapsed(), Duration::from_secs(4), "it ends with the look-up");
            let mut world = World::new(length, &before).looking(None, limit);
            assert_eq!(world.run(), Outcome::Failed);
            assert_eq!(world.elapsed(), limit, "or when its time is over");
        }
    }
}

#[test]
fn a_poisoned_list_costs_no_time_and_nobody_is_charged() {
    let lies: [fn(PieceIndex) -> Variant; 4] =
        [WRONG, |piece| u8::from(piece == 9), |piece| u8::from(piece < 5), |piece| u8::from(piece == 0)];
    let swarms = [
        vec![mirror(10.0 * MB)],
        vec![mirror(10.0 * MB), stranger(1, 10.0 * MB)],
        vec![mirror(10.0 * MB), plain(stranger(1, 10.0 * MB)), plain(stranger(2, 10.0 * MB))],
        vec![mirror(5.0 * MB), stranger(1, 40.0 * MB), stranger(2, 40.0 * MB)],
        vec![mirror(10.0 * MB), neighbour(50.0 * MB), neighbour(50.0 * MB)],
        vec![stranger(1, 10.0 * MB), stranger(1, 10.0 * MB)],
        vec![mirror(10.0 * MB), found(milliseconds(400), stranger(1, 10.0 * MB))],
    ];
    for (number, swarm) in swarms.iter().enumerate() {
        let mut without = World::new(LARGE, swarm);
        assert_eq!(without.run(), Outcome::Closed);
        for lie in lies {
            for after in [0, 2, 300, 900] {
                let mut world = World::new(LARGE, swarm).list_found(milliseconds(after), lie, false);
                assert_eq!(world.run(), Outcome::Closed);
                let lost = world.elapsed().saturating_sub(without.elapsed());
                assert!(lost <= milliseconds(1), "swarm {number}, after {after} ms: {lost:?} lost");
                assert!(world.faults().is_empty(), "swarm {number}: {:?}", world.faults());
                assert_eq!(world.taints, 0);
            }
        }
    }
}

#[test]
fn a_poisoned_list_costs_one_piece_where_nobody_else_has_a_list() {
    let down = Behaviour { dead: true, ..mirror(1.0) };
    let swarm = [down, plain(stranger(1, 10.0 * MB)), plain(stranger(2, 10.0 * MB))];
    let mut world = World::new(LARGE, &swarm).list_found(milliseconds(20), WRONG, false);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.facts.contains(&Fact::ListDiscarded));
    let carried: u64 = world.carried.iter().sum();
    assert!(carried <= LARGE + PIECE_LENGTH, "{carried} bytes carried");
    assert!(world.faults().is_empty());
}

#[test]
fn an_honest_list_sets_peers_to_work_that_have_none() {
    let swarm = [mirror(5.0 * MB), plain(stranger(1, 20.0 * MB)), plain(stranger(2, 20.0 * MB))];
    let mut without = World::new(LARGE, &swarm);
    without.run();
    let mut world = World::new(LARGE, &swarm).list_found(milliseconds(200), right, false);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.elapsed() < without.elapsed() / 2, "{:?} of {:?}", world.elapsed(), without.elapsed());
}

/// Whoever announces himself as a peer can write the list as well.
#[test]
fn a_list_and_a_stranger_who_agree_are_no_two_witnesses() {
    let conspirator = Behaviour { variant: WRONG, list: Some(WRONG), ..stranger(1, 60.0 * MB) };
    let mut world =
        World::new(LARGE, &[mirror(5.0 * MB), conspirator]).list_found(milliseconds(1), WRONG, false);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.taints, 0, "nothing of it reached apt");
}

#[test]
fn a_stranger_cannot_make_two_witnesses_of_found_lists() {
    // Whoever may write one list may write many.
    let conspirator = Behaviour { variant: WRONG, list: None, ..stranger(1, 60.0 * MB) };
    let other: fn(PieceIndex) -> Variant = |piece| if piece == 10 { 2 } else { 1 };
    let mut world = World::new(LARGE, &[mirror(5.0 * MB), conspirator])
        .list_found(milliseconds(1), WRONG, false)
        .list_found(milliseconds(2), other, false);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.taints, 0, "nothing of it reached apt");
}

#[test]
fn a_signed_list_releases_at_once() {
    // Two of one network, so that their own lists are one witness's.
    let swarm = [mirror(5.0 * MB), stranger(1, 40.0 * MB), stranger(1, 40.0 * MB)];
    let mut unsigned = World::new(LARGE, &swarm);
    assert_eq!(unsigned.run(), Outcome::Closed);
    assert!(unsigned.mirror_bytes > 0, "somebody had to walk the front");
    let mut world = World::new(LARGE, &swarm).list_found(milliseconds(1), right, true);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.mirror_bytes <= PIECE_LENGTH / 2, "nothing but the first bytes, as with neighbours");
    assert!(!world.facts.contains(&Fact::PublisherWrong) && world.faults().is_empty());
}

#[test]
fn a_liar_under_a_signed_list_is_charged_and_the_list_stands() {
    let liar = Behaviour { variant: |piece| u8::from(piece == 6), ..stranger(1, 40.0 * MB) };
    let conspirator = Behaviour { list: Some(WRONG), variant: WRONG, ..stranger(2, 40.0 * MB) };
    for bad in [liar, conspirator] {
        let swarm = [mirror(5.0 * MB), bad, found(milliseconds(900), plain(stranger(3, 40.0 * MB)))];
        let mut world = World::new(LARGE, &swarm).list_found(milliseconds(1), right, true);
        assert_eq!(world.run(), Outcome::Closed);
        assert_eq!(world.taints, 0);
        assert!(
            world.faults().iter().all(|(who, _)| *who == 0) && world.faults().len() == 1,
            "{:?}",
            world.faults()
        );
        assert!(world.carried[1] > 2 * PIECE_LENGTH, "the other worked under it: {:?}", world.carried);
    }
}

#[test]
fn a_list_of_a_peer_that_is_gone_does_not_keep_others_from_delivering() {
    // Its word still counts; but where nobody who agrees with it is left, it is worth nothing.
    let gone = Behaviour { list: Some(WRONG), empty_handed: true, ..neighbour(1.0 * MB) };
    let mut world = World::new(LARGE, &[gone, stranger(2, 20.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed, "{:?}", world.facts);
}

#[test]
fn a_signed_list_that_is_false_is_given_up_with_a_warning() {
    let lies: [fn(PieceIndex) -> Variant; 3] =
        [WRONG, |piece| u8::from(piece == 3), |piece| u8::from(piece < 4)];
    for lie in lies {
        for swarm in [
            vec![mirror(10.0 * MB)],
            vec![mirror(10.0 * MB), neighbour(40.0 * MB)],
            vec![mirror(10.0 * MB), plain(stranger(1, 40.0 * MB)), stranger(2, 40.0 * MB)],
            vec![stranger(1, 40.0 * MB), stranger(2, 40.0 * MB)],
            vec![plain(neighbour(40.0 * MB))],
        ] {
            let mut world = World::new(LARGE, &swarm).list_found(milliseconds(1), lie, true);
            assert_eq!(world.run(), Outcome::Closed, "{} sources: {:?}", swarm.len(), world.facts);
            assert!(world.facts.contains(&Fact::PublisherWrong));
            assert!(world.faults().is_empty(), "{:?}", world.faults());
        }
    }
}
