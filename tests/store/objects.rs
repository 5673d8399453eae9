//! Objects are served as they were published, or not at all.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use super::*;
use aptpeer::store::{StoreError, Verdict};

const DATE: &str = "Sat, 21 Nov 2026  13:53:00 GMT";

/// A cache with one object of two pieces and a bit, and a store that has just been opened on it.
fn published() -> (Cache, Store, Vec<u8>, Sha256) {
    let cache = Cache::new();
    let bytes = sample(2 * piece() + 777, 1);
    let id = publish(&cache.open(), &bytes);
    let store = cache.open();
    (cache, store, bytes, id)
}

fn overwrite(cache: &Cache, id: &Sha256, at: u64, bytes: &[u8]) {
    File::options().write(true).open(cache.object(id)).unwrap().write_all_at(bytes, at).unwrap();
}

/// The object has left the catalog and the disk, for this store and for one opened later.
fn assert_gone(cache: &Cache, store: &Store, id: &Sha256) {
    assert!(!store.contains(id));
    assert!(store.get(id).unwrap().is_none());
    assert!(!cache.object(id).exists());
    assert!(cache.open().get(id).unwrap().is_none());
    assert_eq!(store.stats().unwrap().bytes, 0);
}

#[test]
fn an_object_survives_a_restart_with_all_that_is_known_of_it() {
    let cache = Cache::new();
    let bytes = sample(2 * piece() + 777, 1);
    let id = Sha256::of(&bytes);
    assemble(&cache.open(), &bytes).publish(states(&bytes), Some(DATE.to_owned())).unwrap();

    let store = cache.open();
    assert!(read(&store, &id) == bytes);
    let object = store.get(&id).unwrap().unwrap();
    assert_eq!((object.id(), object.length()), (id, bytes.len() as u64));
    assert_eq!(object.states(), states(&bytes));
    assert_eq!(object.last_modified(), Some(DATE), "byte for byte, also the second space");
    assert_eq!(store.last_modified(&id).as_deref(), Some(DATE));
    assert_eq!(store.length_of(&id), Some(bytes.len() as u64));
}

#[test]
fn an_empty_object_is_an_object() {
    let cache = Cache::new();
    let id = publish(&cache.open(), b"");
    let store = cache.open();
    assert!(store.contains(&id));
    assert_eq!(store.length_of(&id), Some(0));
    assert!(store.get(&id).unwrap().unwrap().bytes(0..0).unwrap().is_empty());
    assert_eq!(store.verify(&id).unwrap(), Verdict::Whole);
    assert_eq!(store.stats().unwrap().objects, 1);
}

#[test]
fn what_was_never_there_is_absent() {
    let cache = Cache::new();
    let store = cache.open();
    let id = Sha256::of(b"nobody has this");
    assert!(store.get(&id).unwrap().is_none());
    assert!(!store.contains(&id));
    assert_eq!(store.verify(&id).unwrap(), Verdict::Absent);
    assert!(!store.remove(&id).unwrap() && !store.pin(&id).unwrap() && !store.unpin(&id).unwrap());
}

#[test]
fn pieces_are_verified_once_after_a_restart_and_not_at_all_after_a_publish() {
    let (_cache, store, bytes, id) = published();
    let object = store.get(&id).unwrap().unwrap();
    let first = object.geometry().range(0);
    let second = object.geometry().range(1);
    assert!(!object.is_verified(first.clone()));
    object.bytes(100..200).unwrap();
    assert!(object.is_verified(first), "the whole piece was read for its first hundred bytes");
    assert!(!object.is_verified(second));
    assert_eq!(object.bytes(50..150).unwrap(), bytes[50..150]);

    let fresh = sample(piece() + 1, 2);
    let id = publish(&store, &fresh);
    let object = store.get(&id).unwrap().unwrap();
    assert!(object.is_verified(0..object.length()), "whoever published it verified it");
}

#[test]
fn a_range_is_cut_off_at_the_end() {
    let (_cache, store, bytes, id) = published();
    let object = store.get(&id).unwrap().unwrap();
    let length = object.length();
    assert_eq!(object.bytes(length - 3..length + 50).unwrap(), bytes[bytes.len() - 3..]);
    assert!(object.bytes(length + 5..length + 9).unwrap().is_empty());
    #[allow(clippy::reversed_empty_ranges, reason = "a range from outside may be anything")]
    let backwards = object.bytes(9..5).unwrap();
    assert!(backwards.is_empty());
    assert!(object.bytes(0..u64::MAX).unwrap() == bytes);
}

#[test]
fn a_reader_sees_the_whole_object() {
    let (_cache, store, bytes, id) = published();
    let mut read = Vec::new();
    store.get(&id).unwrap().unwrap().reader().read_to_end(&mut read).unwrap();
    assert!(read == bytes);
}

#[test]
fn a_changed_byte_is_noticed_before_it_is_served() {
    let (cache, store, bytes, id) = published();
    let at = piece() as u64 + 5;
    overwrite(&cache, &id, at, &[bytes[piece() + 5] ^ 1]);
    let object = store.get(&id).unwrap().unwrap();
    assert!(object.bytes(0..10).is_ok(), "the first piece is what it was");
    let wrong = object.bytes(at + 100..at + 200).unwrap_err();
    assert!(matches!(wrong, StoreError::Damaged { id: found, .. } if found == id), "{wrong}");
    assert_gone(&cache, &store, &id);
}

#[test]
fn a_byte_changed_after_it_was_verified_is_noticed() {
    let (cache, store, bytes, id) = published();
    let object = store.get(&id).unwrap().unwrap();
    object.bytes(0..10).unwrap();
    overwrite(&cache, &id, 4, &[bytes[4] ^ 1]);
    assert!(matches!(object.bytes(0..10), Err(StoreError::Damaged { .. })));
    assert_gone(&cache, &store, &id);
}

#[test]
fn a_file_truncated_while_it_is_open_is_noticed() {
    let (cache, store, _, id) = published();
    let object = store.get(&id).unwrap().unwrap();
    object.bytes(0..10).unwrap();
    File::options().write(true).open(cache.object(&id)).unwrap().set_len(1000).unwrap();
    assert!(matches!(object.bytes(0..10), Err(StoreError::Damaged { .. })));
    assert_gone(&cache, &store, &id);
}

#[test]
fn a_file_truncated_before_it_is_opened_is_absent() {
    let (cache, store, _, id) = published();
    File::options().write(true).open(cache.object(&id)).unwrap().set_len(1000).unwrap();
    assert!(store.get(&id).unwrap().is_none());
    assert_gone(&cache, &store, &id);
}

#[test]
fn a_slice_of_a_truncated_file_fails_its_write_and_nothing_else() {
    let (cache, store, _, id) = published();
    let object = store.get(&id).unwrap().unwrap();
    let slice = object.bytes(0..4096).unwrap();
    File::options().write(true).open(cache.object(&id)).unwrap().set_len(0).unwrap();
    let (mut socket, _other_end) = UnixStream::pair().unwrap();
    let error = socket.write(&slice).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::FAULT.raw_os_error()));
}

#[test]
fn a_file_that_was_only_touched_is_served_after_another_look() {
    let (cache, store, bytes, id) = published();
    let object = store.get(&id).unwrap().unwrap();
    object.bytes(0..10).unwrap();
    fs::hard_link(cache.object(&id), cache.path().join("somebody's backup")).unwrap();
    assert!(!object.is_verified(0..10), "its stamp is another");
    assert_eq!(object.bytes(0..10).unwrap(), bytes[0..10]);
    assert!(object.is_verified(0..10));
    assert!(store.contains(&id));
}

#[test]
fn an_object_whose_file_is_gone_leaves_the_catalog() {
    let (cache, store, _, id) = published();
    let object = store.get(&id).unwrap().unwrap();
    fs::remove_file(cache.object(&id)).unwrap();
    assert!(store.get(&id).unwrap().is_none(), "although it was kept open");
    assert_gone(&cache, &store, &id);
    assert!(object.bytes(0..10).is_ok(), "whoever has it keeps it");
}

#[test]
fn a_file_that_was_exchanged_is_noticed() {
    let (cache, store, bytes, id) = published();
    store.get(&id).unwrap().unwrap().bytes(0..10).unwrap();
    let other = cache.path().join("other");
    fs::write(&other, sample(bytes.len(), 99)).unwrap();
    fs::rename(&other, cache.object(&id)).unwrap();
    let object = store.get(&id).unwrap().unwrap();
    assert!(matches!(object.bytes(0..10), Err(StoreError::Damaged { .. })));
    assert_gone(&cache, &store, &id);
}

#[test]
fn a_symbolic_link_in_place_of_an_object_is_not_followed() {
    let (cache, store, bytes, id) = published();
    let elsewhere = cache.path().join("elsewhere");
    fs::write(&elsewhere, &bytes).unwrap();
    fs::remove_file(cache.object(&id)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, cache.object(&id)).unwrap();
    assert!(store.get(&id).is_err());
}

#[test]
fn whoever_reads_a_removed_object_keeps_it() {
    let (cache, store, bytes, id) = published();
    let object = store.get(&id).unwrap().unwrap();
    let slice = object.bytes(0..1000).unwrap();
    assert!(store.remove(&id).unwrap());
    assert!(!cache.object(&id).exists());
    assert_eq!(slice, bytes[..1000]);
    assert!(object.bytes(0..object.length()).unwrap() == bytes, "also what was not read before");
    assert!(store.get(&id).unwrap().is_none());
}

#[test]
fn a_damaged_object_that_was_published_anew_stays() {
    let (cache, store, bytes, id) = published();
    let old = store.get(&id).unwrap().unwrap();
    overwrite(&cache, &id, 4, &[bytes[4] ^ 1]);
    publish(&cache.open(), &bytes);
    assert!(matches!(old.bytes(0..10), Err(StoreError::Damaged { .. })));
    assert!(read(&store, &id) == bytes, "the new file was not dropped with the old one");
}

#[test]
fn verifying_finds_what_is_damaged_and_drops_it() {
    let (cache, store, bytes, id) = published();
    let good = publish(&store, b"good");
    let gone = publish(&store, b"gone");
    store.get(&id).unwrap().unwrap().bytes(0..10).unwrap();
    let stamps = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let before = stamps(&cache.object(&id));
    overwrite(&cache, &id, 4, &[bytes[4] ^ 1]);
    File::options().write(true).open(cache.object(&id)).unwrap().set_modified(before).unwrap();
    fs::remove_file(cache.object(&gone)).unwrap();

    let mut seen = Vec::new();
    let sum = store.verify_all(|entry, verdict| seen.push((entry.id, verdict))).unwrap();
    assert_eq!((sum.whole, sum.whole_bytes, sum.damaged, sum.absent), (1, 4, 1, 1));
    seen.sort_by_key(|(id, _)| *id);
    let mut wanted = vec![(id, Verdict::Damaged), (good, Verdict::Whole), (gone, Verdict::Absent)];
    wanted.sort_by_key(|(id, _)| *id);
    assert_eq!(seen, wanted);
    assert_eq!(store.list().unwrap().iter().map(|entry| entry.id).collect::<Vec<_>>(), [good]);
}

#[test]
fn two_stores_on_one_path_see_the_same_objects() {
    let cache = Cache::new();
    let (daemon, command) = (cache.open(), cache.open());
    let id = publish(&command, b"imported by a command");
    assert_eq!(read(&daemon, &id), b"imported by a command");
    assert_eq!(daemon.stats().unwrap(), command.stats().unwrap());
    assert!(command.remove(&id).unwrap());
    assert!(daemon.get(&id).unwrap().is_none(), "although the daemon had it open");
    assert_eq!(daemon.stats().unwrap().objects, 0);
}
