//! In a crowd of strangers: who is asked for which piece.

use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use aptpeer::pieces::{Geometry, PIECE_LENGTH, PieceIndex, PieceList, PieceSet, State};
use aptpeer::swarm::{Download, Order, PeerKind, Prefer, SourceId, Standing};

const PIECES: PieceIndex = 24;

fn object() -> Geometry {
    Geometry::new(u64::from(PIECES) * PIECE_LENGTH).unwrap()
}

/// What a stranger says who has so many pieces from the start.
fn tells(count: PieceIndex) -> (PieceList, PieceSet) {
    let mut list = PieceList::unknown(object());
    (1..=count).for_each(|piece| list.set(piece, State::from_bytes(&[u8::try_from(piece).unwrap(); 32])));
    (list, PieceSet::from_ranges(PIECES, [0..=count - 1]))
}

/// A download among strangers who have so many pieces from the start: who is asked for what.
fn asked(with_mirror: bool, counts: &[PieceIndex]) -> Vec<(SourceId, PieceIndex, usize)> {
    let start = Instant::now();
    let mut machine = Download::new(Sha256::of(b"x"), object(), Prefer::Speed, start);
    if with_mirror {
        machine.add_mirror(None);
    }
    let (mut now, mut peers) = (start, Vec::new());
    for (network, count) in (1..).zip(counts) {
        let address = [11, 0, network, 1].into();
        let standing = Standing { doubtful: with_mirror, ..Standing::default() };
        peers.push((machine.add_peer(PeerKind::Stranger, address, standing, now), *count));
    }
    machine.handle_timeout(now);
    now += Duration::from_millis(50);
    for (peer, count) in &peers {
        let (list, have) = tells(*count);
        machine.handle_list(*peer, list, have, now);
    }
    machine.handle_timeout(now);
    let mut asked = Vec::new();
    while let Some(order) = machine.poll_order() {
        if let Order::FetchPiece { source, piece, .. } = order {
            let place = peers.iter().position(|(peer, _)| *peer == source).unwrap();
            asked.push((source, piece, place));
        }
    }
    asked
}

#[test]
fn a_stranger_who_is_ahead_is_asked_for_what_the_others_lack() {
    for ahead in 0..5 {
        let counts: Vec<PieceIndex> = (0..5).map(|place| if place == ahead { 6 } else { 2 }).collect();
        let asked = asked(false, &counts);
        let of_it: Vec<_> = asked.iter().filter(|(.., place)| *place == ahead).collect();
        assert!(!of_it.is_empty() && of_it.iter().all(|(_, piece, _)| *piece >= 2), "{asked:?}");
        assert!(asked.iter().any(|(_, piece, _)| *piece == 0), "apt waits for that: {asked:?}");
    }
}

#[test]
fn one_who_has_the_whole_object_is_asked_for_its_end_however_alone_he_is() {
    let asked = asked(true, &[2, 2, 2, 2, PIECES]);
    let end: Vec<_> = asked.iter().filter(|(.., place)| *place == 4).map(|(_, piece, _)| *piece).collect();
    assert!(end.contains(&(PIECES - 1)), "the digest proves it: {asked:?}");
    assert!(end.iter().all(|piece| *piece + 8 >= PIECES), "no further than one voice may lead: {asked:?}");
}
