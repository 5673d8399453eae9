//! What a broken off download leaves, and who goes on with it.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::*;
use aptpeer::pieces::{End, Kept, Link, PieceIndex};
use aptpeer::store::{Check, StoreError};

/// An object of four pieces.
fn object() -> Vec<u8> {
    sample(3 * piece() + 1000, 7)
}

fn kept(bytes: &[u8], pieces: impl IntoIterator<Item = PieceIndex>) -> Vec<Kept> {
    let (states, last) = (states(bytes), geometry(bytes).last());
    let kept = |piece: PieceIndex| {
        let start = piece.checked_sub(1).map_or(State::INITIAL, |before| states[before as usize]);
        let end =
            if piece == last { End::Digest(Sha256::of(bytes)) } else { End::State(states[piece as usize]) };
        Kept { piece, link: Link { start, end }, from_mirror: piece.is_multiple_of(2) }
    };
    pieces.into_iter().map(kept).collect()
}

fn write(assembly: &Assembly, bytes: &[u8], piece: PieceIndex) {
    let range = assembly.geometry().range(piece);
    let part = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
    assembly.write_at(range.start, part).unwrap();
}

/// A download that was broken off after these pieces.
fn leave(store: &Store, bytes: &[u8], pieces: &[PieceIndex]) {
    let assembly = store.assemble(Sha256::of(bytes), geometry(bytes)).unwrap();
    pieces.iter().for_each(|piece| write(&assembly, bytes, *piece));
    assembly.leave(&kept(bytes, pieces.iter().copied())).unwrap();
}

#[test]
fn a_download_goes_on_where_it_was_left_without_hashing() {
    let (cache, bytes) = (Cache::new(), object());
    let id = Sha256::of(&bytes);
    leave(&cache.open(), &bytes, &[0, 1, 3]);
    let store = cache.open();
    assert_eq!(store.recover().unwrap().partials, 0);
    let assembly = store.assemble(id, geometry(&bytes)).unwrap();
    assert_eq!(assembly.resumed(), kept(&bytes, [0, 1, 3]));
    assert!(!assembly.is_checked(1) && assembly.is_checked(2));
    assert_eq!(assembly.check(1), Check::Rehashed(4 << 20), "at its first use");
    assert_eq!((assembly.check(1), assembly.check(2)), (Check::Known, Check::Known));
    write(&assembly, &bytes, 2);
    assembly.publish(states(&bytes), None).unwrap();
    assert!(cache.partials().is_empty());
    assert!(read(&store, &id) == bytes);
    let again = store.assemble(id, geometry(&bytes)).unwrap();
    assert!(again.resumed().is_empty(), "what is published is no leftover");
}

#[test]
fn what_a_killed_process_had_written_down_is_kept() {
    let (cache, bytes) = (Cache::new(), object());
    let assembly = cache.open().assemble(Sha256::of(&bytes), geometry(&bytes)).unwrap();
    write(&assembly, &bytes, 0);
    assembly.checkpoint(&kept(&bytes, [0])).unwrap();
    write(&assembly, &bytes, 1);
    // As a kill would: the lock ends, the file stays.
    let path = cache.partials().remove(0);
    let copy = cache.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    drop(assembly);
    assert!(cache.partials().is_empty(), "whoever ends in order and leaves nothing takes it along");
    fs::rename(&copy, &path).unwrap();
    let assembly = cache.open().assemble(Sha256::of(&bytes), geometry(&bytes)).unwrap();
    assert_eq!(assembly.resumed(), kept(&bytes, [0]));
}

#[test]
fn damage_is_found_at_the_first_use() {
    let (cache, bytes) = (Cache::new(), object());
    let id = Sha256::of(&bytes);
    leave(&cache.open(), &bytes, &[0, 1]);
    let file = fs::File::options().write(true).open(&cache.partials()[0]).unwrap();
    file.write_all_at(b"x", piece() as u64 + 77).unwrap();
    let store = cache.open();
    let assembly = store.assemble(id, geometry(&bytes)).unwrap();
    assert_eq!((assembly.check(0), assembly.check(1)), (Check::Rehashed(4 << 20), Check::Damaged));
    assembly.renew(1);
    (1..4).for_each(|piece| write(&assembly, &bytes, piece));
    assert_eq!(assembly.check(1), Check::Known);
    assembly.publish(states(&bytes), None).unwrap();
    assert!(read(&store, &id) == bytes);
}

#[test]
fn damage_that_nobody_noticed_does_not_leave_the_store() {
    let (cache, bytes) = (Cache::new(), object());
    let id = Sha256::of(&bytes);
    leave(&cache.open(), &bytes, &[0, 1, 2, 3]);
    let file = fs::File::options().write(true).open(&cache.partials()[0]).unwrap();
    file.write_all_at(b"x", piece() as u64 + 77).unwrap();
    let store = cache.open();
    store.assemble(id, geometry(&bytes)).unwrap().publish(states(&bytes), None).unwrap();
    let found = store.get(&id).unwrap().unwrap();
    assert!(found.bytes(0..1000).unwrap() == bytes[..1000]);
    let wrong = found.bytes(piece() as u64..piece() as u64 + 1000);
    assert!(matches!(wrong, Err(StoreError::Damaged { .. })), "{wrong:?}");
    assert!(!store.contains(&id));
}

#[test]
fn a_leftover_that_does_not_fit_is_removed() {
    let (cache, bytes) = (Cache::new(), object());
    let id = Sha256::of(&bytes);
    leave(&cache.open(), &bytes, &[0]);
    let store = cache.open();
    let other = store.assemble(id, Geometry::new(5_000_000).unwrap()).unwrap();
    assert!(other.resumed().is_empty() && cache.partials().len() == 1);
    drop(other);
    leave(&store, &bytes, &[0]);
    fs::File::options().write(true).open(&cache.partials()[0]).unwrap().set_len(100).unwrap();
    assert!(store.assemble(id, geometry(&bytes)).unwrap().resumed().is_empty());
}

#[test]
fn a_leftover_has_one_heir() {
    let (cache, bytes) = (Cache::new(), object());
    let id = Sha256::of(&bytes);
    leave(&cache.open(), &bytes, &[0]);
    let store = cache.open();
    let first = store.assemble(id, geometry(&bytes)).unwrap();
    let second = cache.open().assemble(id, geometry(&bytes)).unwrap();
    assert_eq!((first.resumed().len(), second.resumed().len()), (1, 0));
    assert_eq!(store.recover().unwrap().partials, 0, "both live");
}

#[test]
fn leftovers_give_way_before_objects_do_the_oldest_first() {
    let (cache, bytes) = (Cache::new(), object());
    let length = bytes.len() as u64;
    let store = cache.open_with(2 * length + length / 2, 0);
    let kept = publish(&store, &sample(1000, 1));
    leave(&store, &bytes, &[0]);
    publish(&store, &sample(bytes.len(), 2));
    assert_eq!(cache.partials().len(), 1, "there was room");
    publish(&store, &sample(bytes.len() - 2000, 3));
    assert!(cache.partials().is_empty() && store.contains(&kept));
}

#[test]
fn a_few_leftovers_are_kept_and_clearing_takes_them_all() {
    let cache = Cache::new();
    let store = cache.open();
    for seed in 0..40 {
        leave(&store, &sample(piece() + 1, seed), &[1]);
    }
    assert_eq!(cache.partials().len(), 32);
    store.clear().unwrap();
    assert!(cache.partials().is_empty());
}
