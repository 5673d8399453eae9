//! Objects while they grow, and the moment they are published.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Barrier};
use std::thread;

use super::*;
use aptpeer::store::StoreError;

const MIB: u64 = 1 << 20;

#[test]
fn pieces_are_written_in_any_order_and_read_while_others_are_missing() {
    let cache = Cache::new();
    let store = cache.open();
    let bytes = sample(3 * piece() + 9, 3);
    let assembly = store.assemble(Sha256::of(&bytes), geometry(&bytes)).unwrap();
    for index in [2, 0, 3, 1] {
        let range = assembly.geometry().range(index);
        let mine = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert!(assembly.differs(range.start, mine));
        assembly.write_at(range.start, mine).unwrap();
        assert!(!assembly.differs(range.start, mine));
        assert!(assembly.bytes(range) == mine);
    }
    assert!(!store.contains(&assembly.id()), "nobody else sees it yet");
    assembly.publish(states(&bytes), None).unwrap();
    assert!(read(&store, &assembly.id()) == bytes);
}

#[test]
fn slices_stay_valid_when_the_assembly_and_the_object_are_gone() {
    let cache = Cache::new();
    let store = cache.open();
    let bytes = sample(100_000, 4);
    let assembly = assemble(&store, &bytes);
    let before = assembly.bytes(0..50_000);
    assembly.publish(Vec::new(), None).unwrap();
    let after = assembly.bytes(50_000..100_000);
    store.remove(&assembly.id()).unwrap();
    drop((assembly, store));
    assert!([before, after].concat() == bytes);
}

#[test]
fn writes_beyond_the_end_are_refused() {
    let cache = Cache::new();
    let store = cache.open();
    let assembly = store.assemble(Sha256::of(b"abc"), geometry(b"abc")).unwrap();
    for (offset, bytes) in [(0, &b"abcd"[..]), (3, b"d"), (u64::MAX, b"abc")] {
        assert!(matches!(assembly.write_at(offset, bytes), Err(StoreError::Misuse { .. })), "at {offset}");
        assert!(assembly.differs(offset, bytes));
    }
    assert!(assembly.write_at(3, b"").is_ok());
    assert!(assembly.bytes(2..99).len() == 1 && assembly.bytes(99..100).is_empty());
}

#[test]
fn a_published_object_is_not_written_any_more() {
    let cache = Cache::new();
    let store = cache.open();
    let assembly = assemble(&store, b"abc");
    assembly.publish(Vec::new(), None).unwrap();
    assert!(matches!(assembly.write_at(0, b"x"), Err(StoreError::Misuse { .. })));
    assert_eq!(read(&store, &Sha256::of(b"abc")), b"abc");
}

#[test]
fn an_assembly_that_is_given_up_leaves_nothing() {
    let cache = Cache::new();
    let store = cache.open();
    let assembly = assemble(&store, &sample(1000, 5));
    assert_eq!(cache.partials().len(), 1);
    assert_eq!(store.stats().unwrap().assembling_bytes, 1000);
    drop(assembly);
    assert!(cache.partials().is_empty());
    assert_eq!(store.stats().unwrap().assembling_bytes, 0);
}

#[test]
fn a_list_of_the_wrong_length_is_refused() {
    let cache = Cache::new();
    let store = cache.open();
    let bytes = sample(piece() + 1, 6);
    let assembly = assemble(&store, &bytes);
    assert!(matches!(assembly.publish(Vec::new(), None), Err(StoreError::Misuse { .. })));
    assert!(!store.contains(&assembly.id()));
    assembly.publish(states(&bytes), None).unwrap();
    assert!(store.contains(&assembly.id()));
}

#[test]
fn a_header_that_is_no_date_is_not_kept() {
    let cache = Cache::new();
    let store = cache.open();
    let assembly = assemble(&store, b"abc");
    assembly.publish(Vec::new(), Some("x".repeat(10_000))).unwrap();
    assert_eq!(store.last_modified(&assembly.id()), None);
}

#[test]
fn an_object_is_readable_by_everybody_and_no_partial_file_remains() {
    let cache = Cache::new();
    let id = publish(&cache.open(), b"abc");
    let mode = std::fs::metadata(cache.object(&id)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    assert!(cache.partials().is_empty());
}

#[test]
fn publishing_twice_changes_nothing() {
    let cache = Cache::new();
    let store = cache.open();
    let assembly = assemble(&store, b"abc");
    assembly.publish(Vec::new(), Some("then".to_owned())).unwrap();
    assembly.publish(Vec::new(), None).unwrap();
    assemble(&cache.open(), b"abc").publish(Vec::new(), None).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.objects, stats.bytes, stats.assembling_bytes), (1, 3, 0));
    assert_eq!(
        store.last_modified(&assembly.id()).as_deref(),
        Some("then"),
        "kept, where the second had none"
    );
    assert!(cache.partials().is_empty());
}

#[test]
fn many_publish_the_same_object_at_once() {
    let cache = Cache::new();
    let bytes = Arc::new(sample(piece() + 100, 7));
    let id = Sha256::of(&bytes);
    let start = Arc::new(Barrier::new(4));
    let publishers: Vec<_> = (0..4)
        .map(|_| {
            let (store, bytes, start) = (cache.open(), Arc::clone(&bytes), Arc::clone(&start));
            thread::spawn(move || {
                let assembly = assemble(&store, &bytes);
                start.wait();
                assembly.publish(states(&bytes), None).unwrap();
                assert!(read(&store, &id) == *bytes);
            })
        })
        .collect();
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert!(read(&cache.open(), &id) == *bytes);
    assert_eq!(cache.open().stats().unwrap().objects, 1);
    assert_eq!(objects_on_disk(cache.path()), [id]);
}

#[test]
fn a_pin_survives_another_publish() {
    let cache = Cache::new();
    let store = cache.open();
    let id = publish(&store, b"abc");
    assert!(store.pin(&id).unwrap());
    publish(&store, b"abc");
    assert!(store.list().unwrap()[0].pinned);
}

#[test]
fn an_object_in_memory_is_read_like_any_other_but_not_published() {
    let cache = Cache::new();
    let store = cache.open();
    let bytes = sample(piece() + 5, 8);
    let assembly = store.assemble_in_memory(Sha256::of(&bytes), geometry(&bytes)).unwrap();
    assert!(assembly.is_in_memory() && cache.partials().is_empty());
    assembly.write_at(0, &bytes).unwrap();
    assert!(!assembly.differs(0, &bytes));
    assert!(assembly.bytes(0..u64::MAX) == bytes);
    let refused = assembly.publish(states(&bytes), None);
    assert!(matches!(refused, Err(StoreError::InMemory(id)) if id == assembly.id()));
    assert!(!store.contains(&assembly.id()));
}

#[test]
fn objects_in_memory_have_a_bound() {
    let cache = Cache::new();
    let store = cache.open();
    let of = |length| store.assemble_in_memory(Sha256::of(b"any"), Geometry::new(length).unwrap());
    assert!(matches!(of(16 * MIB + 1), Err(StoreError::Full { .. })), "too long for one");
    let mut held: Vec<_> = (0..4).map(|_| of(16 * MIB).unwrap()).collect();
    assert!(matches!(of(1), Err(StoreError::Full { .. })), "64 MiB are taken");
    assert!(of(0).is_ok());
    let slice = held[0].bytes(0..1);
    held.remove(0);
    assert!(matches!(of(1), Err(StoreError::Full { .. })), "a slice still holds the memory");
    drop(slice);
    assert!(of(16 * MIB).is_ok());
}

#[test]
fn a_cache_that_was_deleted_under_the_store_is_made_anew() {
    let cache = Cache::new();
    let store = cache.open();
    publish(&store, b"before");
    std::fs::remove_dir_all(cache.path().join("v1")).unwrap();
    let id = publish(&store, b"after");
    assert_eq!(read(&store, &id), b"after");
    assert!(store.get(&Sha256::of(b"before")).unwrap().is_none());
}

#[test]
fn a_scratch_store_takes_room_as_the_bytes_come() {
    use std::os::unix::fs::MetadataExt as _;
    let cache = Cache::new();
    let store = Store::open_scratch(cache.path().to_owned()).unwrap();
    let bytes = sample(3 * piece() + 9, 5);
    let assembly = store.assemble(Sha256::of(&bytes), geometry(&bytes)).unwrap();
    let partial = std::fs::metadata(&cache.partials()[0]).unwrap();
    assert_eq!((partial.len(), partial.blocks()), (bytes.len() as u64, 0));
    assembly.write_at(0, &bytes).unwrap();
    assembly.publish(states(&bytes), None).unwrap();
    assert!(read(&store, &assembly.id()) == bytes);
}
