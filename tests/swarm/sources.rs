//! Sources that are slow, silent, dead or lying, known from the start.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use aptpeer::pieces::{End, Geometry, PIECE_LENGTH, PieceIndex, PieceList, PieceSet, State};
use aptpeer::swarm::{Download, Fact, Order, Outcome, PeerFault, PeerKind, Prefer, Standing};

use crate::world::{Behaviour, LARGE, MB, Variant, World, mirror, neighbour, stranger};

#[test]
fn a_mirror_alone_gives_the_object_and_its_first_byte_at_once() {
    for length in [1, 50_000, PIECE_LENGTH, LARGE] {
        let mut world = World::new(length, &[mirror(10.0 * MB)]);
        assert_eq!(world.run(), Outcome::Closed);
        let limit = Duration::from_millis(if length > 1 { 160 } else { 60 });
        assert!(world.first_byte.unwrap() <= limit, "{:?}", world.first_byte);
    }
}

#[test]
fn an_empty_object_needs_nobody() {
    let mut world = World::new(0, &[]);
    world.machine = {
        let digest = Sha256::of(b"");
        Download::new(digest, world.geometry, Prefer::Speed, world.start)
    };
    assert_eq!(world.run(), Outcome::Closed);
}

#[test]
fn neighbours_that_hold_it_spare_the_mirror() {
    let swarm = [mirror(10.0 * MB), neighbour(50.0 * MB), neighbour(50.0 * MB)];
    for length in [50_000, PIECE_LENGTH + 1, LARGE] {
        for prefer in [Prefer::Speed, Prefer::Offload] {
            let mut world = World::with(length, &swarm, prefer);
            assert_eq!(world.run(), Outcome::Closed);
            // Of a large one apt has the mirror's first bytes, until peers are ahead.
            let opening = if prefer == Prefer::Speed && length > PIECE_LENGTH { PIECE_LENGTH / 2 } else { 0 };
            assert!(world.mirror_bytes <= opening, "{length} bytes, {prefer:?}: {}", world.mirror_bytes);
            assert!(world.faults().is_empty());
        }
    }
}

#[test]
fn apt_has_the_first_bytes_of_a_large_object_about_as_soon_as_from_the_mirror_alone() {
    let first = |swarm: &[Behaviour]| {
        let mut world = World::new(LARGE, swarm);
        assert_eq!(world.run(), Outcome::Closed);
        world.first_byte.unwrap()
    };
    let direct = first(&[mirror(10.0 * MB)]);
    let silent = Behaviour { silent: true, ..neighbour(50.0 * MB) };
    let slow = neighbour(0.1 * MB);
    for peer in [neighbour(50.0 * MB), slow, silent, stranger(1, 5.0 * MB)] {
        let later = first(&[mirror(10.0 * MB), peer]).saturating_sub(direct);
        assert!(later <= Duration::from_millis(20), "{later:?} later");
    }
}

#[test]
fn a_mirror_that_trickles_does_not_keep_the_last_piece() {
    // It joins, for the peer is slower than mirrors usually are.
    let mut world = World::new(LARGE, &[mirror(0.1 * MB), neighbour(5.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    let alone = Duration::from_secs_f64(LARGE as f64 / (5.0 * MB));
    assert!(
        world.elapsed() < alone + Duration::from_secs(3),
        "{:?}, the peer alone {alone:?}",
        world.elapsed()
    );
}

#[test]
fn four_equal_peers_each_carry_about_a_quarter() {
    let length = 40 * PIECE_LENGTH;
    let mut world = World::new(
        length,
        &[neighbour(20.0 * MB), neighbour(20.0 * MB), neighbour(20.0 * MB), neighbour(20.0 * MB)],
    );
    assert_eq!(world.run(), Outcome::Closed);
    for carried in &world.carried {
        let pieces = carried / PIECE_LENGTH;
        assert!((8..=12).contains(&pieces), "{:?}", world.carried);
    }
}

#[test]
fn a_small_object_is_asked_of_one_peer_at_a_time() {
    let mut world = World::new(50_000, &[neighbour(20.0 * MB), neighbour(20.0 * MB), neighbour(20.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.carried.iter().sum::<u64>(), 50_000);
}

#[test]
fn a_dead_neighbour_costs_no_time() {
    let dead = Behaviour { dead: true, ..neighbour(1.0) };
    for length in [50_000, LARGE] {
        let mut alone = World::new(length, &[mirror(10.0 * MB)]);
        alone.run();
        let mut world = World::new(length, &[mirror(10.0 * MB), dead.clone()]);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(world.elapsed() <= alone.elapsed() + Duration::from_millis(20));
        assert_eq!(world.faults(), [(0, PeerFault::Unreachable)]);
    }
}

#[test]
fn a_silent_neighbour_costs_the_hedge_and_no_more() {
    let silent = Behaviour { silent: true, ..neighbour(1.0) };
    for length in [50_000, LARGE] {
        let mut alone = World::new(length, &[mirror(10.0 * MB)]);
        alone.run();
        let mut world = World::new(length, &[mirror(10.0 * MB), silent.clone()]);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(world.elapsed() <= alone.elapsed() + Duration::from_millis(1100), "{:?}", world.elapsed());
    }
}

#[test]
fn who_keeps_the_mirror_waiting_is_late_and_who_delivers_is_not() {
    let silent = Behaviour { silent: true, ..neighbour(1.0) };
    for length in [50_000, LARGE] {
        let mut world = World::new(length, &[mirror(10.0 * MB), silent.clone()]);
        assert_eq!(world.run(), Outcome::Closed);
        let late: Vec<_> = world.facts.iter().filter(|fact| matches!(fact, Fact::PeerLate(_))).collect();
        assert_eq!(late.len(), 1, "{:?}", world.facts);
        let mut world = World::new(length, &[mirror(10.0 * MB), neighbour(50.0 * MB)]);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(!world.facts.iter().any(|fact| matches!(fact, Fact::PeerLate(_))), "{:?}", world.facts);
    }
}

#[test]
fn a_slow_neighbour_does_not_keep_the_mirror_waiting() {
    let mut alone = World::new(LARGE, &[mirror(10.0 * MB)]);
    alone.run();
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), neighbour(0.1 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.elapsed() <= alone.elapsed() + Duration::from_millis(1200), "{:?}", world.elapsed());
}

#[test]
fn a_stalling_neighbour_is_replaced() {
    let stalling = Behaviour { stalls_at: Some(3), ..neighbour(40.0 * MB) };
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), stalling, neighbour(40.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.elapsed() < Duration::from_secs(6), "{:?}", world.elapsed());
}

#[test]
fn a_flipped_bit_is_pinned_to_its_sender_and_fetched_again() {
    let liar = Behaviour { variant: |piece| u8::from(piece == 4), ..neighbour(40.0 * MB) };
    let mut world = World::new(LARGE, &[liar, neighbour(40.0 * MB), neighbour(40.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.faults().iter().all(|(who, fault)| *who == 0 && *fault == PeerFault::WrongPiece));
    assert_eq!(world.taints, 0, "apt saw nothing of it");
}

#[test]
fn a_wrong_small_object_convicts_its_sender_at_once() {
    let liar = Behaviour { variant: |_| 1, ..neighbour(40.0 * MB) };
    let mut world = World::new(50_000, &[mirror(10.0 * MB), liar]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.faults(), [(0, PeerFault::WrongPiece)]);
    assert!(world.elapsed() < Duration::from_millis(200));
}

#[test]
fn a_lone_neighbour_that_lies_throughout_is_found_out() {
    // List and bytes agree with each other, so they link; they cannot lead to the digest.
    let liar = Behaviour { variant: |_| 1, list: Some(|_| 1), ..neighbour(40.0 * MB) };
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), liar]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.faults().len(), 1, "{:?}", world.facts);
    assert!(world.faults()[0].1.is_lie());
}

#[test]
fn a_liar_with_a_true_tail_taints_and_apt_recovers() {
    let liar = Behaviour {
        variant: |piece| u8::from(piece < 3),
        list: Some(|piece| u8::from(piece < 3)),
        ..neighbour(40.0 * MB)
    };
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), liar]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.faults().iter().all(|(_, fault)| fault.is_lie()) && !world.faults().is_empty());
}

#[test]
fn a_lone_stranger_and_the_mirror_meet() {
    let mut alone = World::new(LARGE, &[mirror(10.0 * MB)]);
    alone.run();
    let mut world = World::new(LARGE, &[mirror(10.0 * MB), stranger(1, 10.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    let total = world.geometry.length();
    assert!(world.mirror_bytes < total * 7 / 10, "the mirror gave {} of {total}", world.mirror_bytes);
    assert!(world.elapsed() < alone.elapsed().mul_f64(0.8));
    assert_eq!(world.taints, 0);
}

#[test]
fn nothing_a_lone_stranger_says_reaches_apt() {
    let lies: [fn(PieceIndex) -> Variant; 3] =
        [|_| 1, |piece| u8::from(piece > 5), |piece| u8::from(piece < 5)];
    for lie in lies {
        let liar = Behaviour { variant: lie, list: Some(lie), ..stranger(1, 30.0 * MB) };
        let mut world = World::new(LARGE, &[mirror(10.0 * MB), liar]);
        assert_eq!(world.run(), Outcome::Closed);
        assert_eq!(world.taints, 0);
    }
}

#[test]
fn corroborating_strangers_do_the_work() {
    let mut world = World::new(LARGE, &[mirror(5.0 * MB), stranger(1, 40.0 * MB), stranger(2, 40.0 * MB)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.mirror_bytes < world.geometry.length() / 2);
}

#[test]
fn a_conspiracy_taints_and_the_mirror_saves_the_day() {
    // Two networks, one false list, one set of false bytes, a true tail: the worst there is.
    let lie: fn(PieceIndex) -> Variant = |piece| u8::from((2..6).contains(&piece));
    let liar = |network| Behaviour { variant: lie, list: Some(lie), ..stranger(network, 60.0 * MB) };
    let mut world = World::new(LARGE, &[mirror(2.0 * MB), liar(1), liar(2), liar(3)]);
    assert_eq!(world.run(), Outcome::Closed);
    assert!(world.faults().iter().all(|(_, fault)| fault.is_lie()));
}

#[test]
fn peers_alone_finish_when_the_mirror_is_down() {
    let down = Behaviour { dead: true, ..mirror(1.0) };
    for sources in [vec![down.clone(), stranger(1, 10.0 * MB)], vec![down, neighbour(10.0 * MB)]] {
        let mut world = World::new(LARGE, &sources);
        assert_eq!(world.run(), Outcome::Closed);
    }
}

#[test]
fn a_plain_file_server_is_a_peer() {
    let plain = Behaviour { list: None, ..neighbour(20.0 * MB) };
    for length in [50_000, LARGE] {
        let mut world = World::new(length, std::slice::from_ref(&plain));
        assert_eq!(world.run(), Outcome::Closed, "{length}");
    }
    let wrong = Behaviour { variant: |piece| u8::from(piece == 3), ..plain.clone() };
    let mut world = World::new(LARGE, &[wrong, plain]);
    assert_eq!(world.run(), Outcome::Closed);
    assert_eq!(world.faults(), [(0, PeerFault::WrongPiece)]);
}

#[test]
fn a_peer_without_the_object_does_not_keep_a_download_alive() {
    let down = Behaviour { dead: true, ..mirror(1.0) };
    let without = Behaviour { list: None, empty_handed: true, ..neighbour(1.0 * MB) };
    for length in [50_000, LARGE] {
        let mut world = World::new(length, &[down.clone(), without.clone()]);
        assert_eq!(world.run(), Outcome::Failed);
        assert!(world.elapsed() < Duration::from_secs(1));
    }
    let hollow = Behaviour { hollow: true, ..neighbour(1.0 * MB) };
    let mut world = World::new(LARGE, &[down, hollow]);
    assert_eq!(world.run(), Outcome::Failed);
    assert!(world.elapsed() < Duration::from_secs(40), "{:?}", world.elapsed());
}

#[test]
fn a_mirror_whose_file_is_not_the_index_s_is_another_source_s_problem() {
    let other = Behaviour { variant: |piece| u8::from(piece == 1 || piece == 0), ..mirror(10.0 * MB) };
    for length in [50_000, LARGE] {
        let mut world = World::new(length, std::slice::from_ref(&other));
        assert_eq!(world.run(), Outcome::Failed);
        assert!(world.facts.contains(&Fact::MirrorDiffers));
        let mut world = World::new(length, &[other.clone(), neighbour(10.0 * MB)]);
        assert_eq!(world.run(), Outcome::Closed, "the neighbour has it, {length} bytes");
        assert!(world.faults().is_empty());
        let mut world = World::new(length, &[other.clone(), stranger(3, 0.5 * MB)]);
        assert_eq!(world.run(), Outcome::Closed, "even a stranger has it, {length} bytes");
        assert!(world.faults().is_empty(), "and nobody innocent is charged: {:?}", world.faults());
    }
}

#[test]
fn quarrelling_neighbours_are_judged_by_the_end() {
    let liar = Behaviour { variant: |_| 1, list: Some(|_| 1), ..neighbour(40.0 * MB) };
    for sources in [vec![liar.clone(), neighbour(40.0 * MB)], vec![neighbour(40.0 * MB), liar.clone()]] {
        let honest = usize::from(sources[0].list.unwrap()(0) == 1);
        let mut world = World::new(LARGE, &sources);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(world.faults().iter().all(|(who, _)| *who != honest), "{:?}", world.faults());
    }
}

#[test]
fn offload_waits_for_slow_peers() {
    let slow = [mirror(50.0 * MB), neighbour(4.0 * MB)];
    let mut speed = World::new(LARGE, &slow);
    assert_eq!(speed.run(), Outcome::Closed);
    assert!(speed.mirror_bytes > 0);
    let mut offload = World::with(LARGE, &slow, Prefer::Offload);
    assert_eq!(offload.run(), Outcome::Closed);
    assert_eq!(offload.mirror_bytes, 0);
}

#[test]
fn a_linked_piece_that_is_written_over_is_fetched_again() {
    for when in [500, 1000, 3000, 5000] {
        let mut world = World::new(LARGE, &[mirror(8.0 * MB)]);
        world.run_for(Duration::from_millis(when));
        for piece in [0, 2] {
            if world.machine.ledger().is_linked(piece) {
                world.overwrite(piece, 1);
            }
        }
        assert_eq!(world.run(), Outcome::Closed, "after {when} ms");
    }
}

#[test]
fn apt_is_fed_by_the_mirror_before_it_starves_on_peers_that_are_too_slow_for_a_whole_piece() {
    for limit in [0.11, 0.15, 0.3] {
        let sources = [mirror(50.0 * MB), neighbour(limit * MB)];
        let mut world = World::with(LARGE, &sources, Prefer::Offload);
        assert_eq!(world.run(), Outcome::Closed);
        assert!(world.first_byte.unwrap() <= Duration::from_secs(11), "{:?}", world.first_byte);
    }
}

#[test]
fn a_peer_that_waits_for_us_is_neither_silent_nor_stalled_nor_late() {
    let (start, later) = (Instant::now(), Duration::from_secs(60));
    let mut machine =
        Download::new(Sha256::of(b"x"), Geometry::new(PIECE_LENGTH).unwrap(), Prefer::Speed, start);
    machine.add_mirror(None);
    let standing = Standing { first_byte: Some(Duration::from_millis(5)), ..Standing::default() };
    machine.add_peer(PeerKind::Neighbour, Ipv4Addr::LOCALHOST.into(), standing, start);
    machine.handle_timeout(start);
    let Some(Order::FetchPiece { fetch, .. }) = machine.poll_order() else { panic!("nobody was asked") };
    // For a place among those who ask.
    machine.handle_timeout(start + later);
    // For a place among those who are read.
    machine.handle_begun(fetch, start + later);
    machine.handle_answered(fetch);
    machine.handle_timeout(start + 2 * later);
    // For its turn under a limit.
    machine.handle_begun(fetch, start + 2 * later);
    machine.handle_progress(fetch, 0, 1000, start + 2 * later);
    machine.handle_held_back(fetch, start + 2 * later);
    machine.handle_timeout(start + 3 * later);
    machine.handle_begun(fetch, start + 3 * later);
    machine.handle_timeout(start + 3 * later);
    let blamed = |fact: &Fact| matches!(fact, Fact::PeerFaulted(..) | Fact::PeerLate(_));
    assert!(std::iter::from_fn(|| machine.poll_fact()).all(|fact| !blamed(&fact)));
    // From now on it is the peer's own time.
    machine.handle_timeout(start + 3 * later + Duration::from_secs(10));
    let facts: Vec<Fact> = std::iter::from_fn(|| machine.poll_fact()).collect();
    assert!(facts.iter().any(|fact| matches!(fact, Fact::PeerFaulted(_, PeerFault::Stalled))), "{facts:?}");
}

#[test]
fn a_crowd_that_gives_little_makes_nobody_later() {
    // A mirror that gives little, and peers of many networks: some have little yet, all are slow.
    for (length, rate, slow) in [
        (LARGE, 0.5 * MB, 0.01 * MB),
        (LARGE, 0.5 * MB, 0.2 * MB),
        (LARGE, 5.0 * MB, 0.01 * MB),
        (40 * PIECE_LENGTH, 1.5 * MB, 0.13 * MB),
    ] {
        let mut alone = World::new(length, &[mirror(rate)]);
        alone.run();
        let mut sources = vec![mirror(rate)];
        let few = Some((2.0 * PIECE_LENGTH as f64, 0.2 * MB));
        sources.extend((1..7).map(|network| Behaviour { grows: few, ..stranger(network, slow) }));
        sources.extend((7..11).map(|network| stranger(network, slow)));
        for prefer in [Prefer::Speed, Prefer::Offload] {
            let mut world = World::with(length, &sources, prefer);
            assert_eq!(world.run(), Outcome::Closed);
            let (took, alone) = (world.elapsed(), alone.elapsed());
            eprintln!("{prefer:?} {rate} {slow}: {took:?}, {alone:?} alone");
            let limit = alone.mul_f64(1.1) + Duration::from_secs(12);
            assert!(took <= limit, "{prefer:?}: {took:?}, {alone:?} alone");
        }
    }
}

/// Whether a crowd makes a download do without a mirror that gives it 50 kB/s.
fn gives_way_to_a_crowd(held_back: bool) -> bool {
    let (mut now, geometry) = (Instant::now(), Geometry::new(LARGE).unwrap());
    let mut machine = Download::new(Sha256::of(b"x"), geometry, Prefer::Speed, now);
    machine.add_mirror(None);
    for network in 1..=5 {
        let peer = machine.add_peer(PeerKind::Stranger, [11, 0, network, 1].into(), Standing::default(), now);
        let have = PieceSet::from_ranges(geometry.pieces(), [9..=9]);
        machine.handle_list(peer, PieceList::unknown(geometry), have, now);
    }
    let (mut walk, mut at) = (None, 0);
    for _ in 0..16 {
        machine.handle_timeout(now);
        while let Some(order) = machine.poll_order() {
            match order {
                Order::Walk { fetch, .. } => walk = Some(fetch),
                Order::Cancel(fetch) if walk == Some(fetch) => return true,
                _ => {}
            }
        }
        now += Duration::from_millis(500);
        let Some(fetch) = walk else { continue };
        if held_back {
            machine.handle_held_back(fetch, now);
            machine.handle_begun(fetch, now);
        }
        at += 25_000;
        machine.handle_progress(fetch, at, 25_000, now);
        if at == 100_000 {
            // The rest of the first piece came in no time.
            at = PIECE_LENGTH;
            machine.handle_walked(fetch, End::State(State::from_bytes(&[1; 32])), true);
        }
    }
    assert!(walk.is_some());
    false
}

#[test]
fn a_crowd_that_gives_nothing_is_waited_for_a_few_times_only() {
    let (start, geometry) = (Instant::now(), Geometry::new(100 * PIECE_LENGTH).unwrap());
    let mut machine = Download::new(Sha256::of(b"x"), geometry, Prefer::Speed, start);
    machine.add_mirror(None);
    let mut peer = |network| {
        machine.add_peer(PeerKind::Stranger, [11, 0, network, 1].into(), Standing::default(), start)
    };
    let peers: Vec<_> = (1..=5).map(&mut peer).collect();
    let (mut walk, mut walked, mut rests) = (None, 0, 0);
    for second in 0..600 {
        let now = start + Duration::from_secs(1) * second;
        if second % 5 == 0 {
            // They grow, and have nothing that could be fetched.
            let have = PieceSet::from_ranges(geometry.pieces(), [50..=50 + (second / 20).min(40)]);
            let list = || PieceList::unknown(geometry);
            peers.iter().for_each(|peer| machine.handle_list(*peer, list(), have.clone(), now));
        }
        machine.handle_timeout(now);
        while let Some(order) = machine.poll_order() {
            match order {
                Order::Walk { fetch, range, .. } => walk = Some((fetch, range.start)),
                Order::Cancel(fetch) if walk.is_some_and(|(of, _)| of == fetch) => {
                    (walk, rests) = (None, rests + 1);
                }
                _ => {}
            }
        }
        let Some((fetch, at)) = &mut walk else { continue };
        walked += 1;
        let end = geometry.range(geometry.piece_at(*at)).end;
        *at = (*at + 400_000).min(end);
        machine.handle_progress(*fetch, *at, 400_000, now);
        if *at == end {
            machine.handle_walked(*fetch, End::State(State::from_bytes(&[1; 32])), true);
        }
    }
    // Without the limit on rests in vain there are seven.
    assert!((1..=4).contains(&rests), "{rests} rests");
    assert!(walked > 540, "{walked} s of 600, {rests} rests");
}

#[test]
fn who_walks_a_mirror_slowly_for_his_own_limit_takes_it_from_nobody() {
    assert!(gives_way_to_a_crowd(false));
    assert!(!gives_way_to_a_crowd(true));
}
