//! Objects that enter the store together, and small ones that have no file before.

use aptpeer::store::{Finished, Scope, StoreError};

use super::*;

const MIB: u64 = 1 << 20;

fn small(store: &Store, bytes: &[u8]) -> Assembly {
    let assembly = store.assemble_small(Sha256::of(bytes), geometry(bytes)).unwrap();
    assembly.write_at(0, bytes).unwrap();
    assembly
}

fn finished<'a>(assembly: &'a Assembly, bytes: &[u8]) -> Finished<'a> {
    Finished::new(assembly, states(bytes), Some("a date".to_owned()), Scope::Local)
}

#[test]
fn a_small_object_gets_its_file_when_it_is_whole() {
    let cache = Cache::new();
    let store = cache.open();
    let (bytes, long, empty) = (sample(100_000, 1), sample(piece() + 7, 2), Vec::new());
    let assembly = small(&store, &bytes);
    assert!(assembly.is_in_memory() && assembly.is_publishable() && cache.partials().is_empty());
    let (other, nothing) = (assemble(&store, &long), small(&store, &empty));
    let together = vec![
        finished(&assembly, &bytes),
        finished(&other, &long),
        finished(&nothing, &empty),
        finished(&assembly, &bytes),
    ];
    assert!(store.publish_all(together).iter().all(Result::is_ok));
    assert!(cache.partials().is_empty());
    for wanted in [&bytes, &long, &empty] {
        let id = Sha256::of(wanted);
        let object = store.get(&id).unwrap().unwrap();
        assert!(object.is_verified(0..object.length()), "nothing is hashed again");
        assert_eq!(object.last_modified(), Some("a date"));
        assert_eq!(store.scope(&id).unwrap(), Some(Scope::Local));
        assert!(std::fs::read(cache.object(&id)).unwrap() == *wanted);
    }
    assert!(assembly.bytes(0..u64::MAX) == bytes, "whoever reads it goes on");
    assert!(matches!(assembly.write_at(0, b"x"), Err(StoreError::Misuse { .. })));
    drop((assembly, other, nothing, store));
    let store = cache.open();
    assert!(read(&store, &Sha256::of(&bytes)) == bytes && read(&store, &Sha256::of(&long)) == long);
}

#[test]
fn small_objects_have_a_bound() {
    let cache = Cache::new();
    let store = cache.open();
    let of = |length| store.assemble_small(Sha256::of(b"any"), Geometry::new(length).unwrap());
    assert!(of(MIB / 2 + 1).is_none(), "not small");
    let mut held: Vec<_> = (0..96).map(|_| of(MIB / 2).unwrap()).collect();
    assert!(of(1).is_none(), "48 MiB are taken");
    drop(held.pop());
    assert!(of(1).is_some());
}

#[test]
fn one_that_has_no_room_does_not_keep_out_the_others() {
    let cache = Cache::new();
    let store = cache.open_with(1000, 0);
    let all: Vec<_> = [600, 601, 300].map(|length| sample(length, 3)).into();
    let assemblies: Vec<_> = all.iter().map(|bytes| small(&store, bytes)).collect();
    let together = assemblies.iter().zip(&all).map(|(assembly, bytes)| finished(assembly, bytes));
    let results = store.publish_all(together.collect());
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(matches!(results[1], Err(StoreError::Full { length: 601, .. })), "{results:?}");
    assert!(read(&store, &Sha256::of(&all[0])) == all[0] && read(&store, &Sha256::of(&all[2])) == all[2]);
    assert_eq!(objects_on_disk(cache.path()).len(), 2);
    assert!(cache.partials().is_empty());
}

#[test]
fn one_that_cannot_be_moved_into_place_does_not_keep_out_the_others() {
    let cache = Cache::new();
    let store = cache.open();
    let all: Vec<_> = (0..4).map(|seed| sample(2000, seed)).collect();
    let in_the_way = cache.object(&Sha256::of(&all[2])).parent().unwrap().to_owned();
    std::fs::write(&in_the_way, "no directory").unwrap();
    let assemblies: Vec<_> = all.iter().map(|bytes| small(&store, bytes)).collect();
    let together = assemblies.iter().zip(&all).map(|(assembly, bytes)| finished(assembly, bytes));
    let results = store.publish_all(together.collect());
    let failed: Vec<bool> = results.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, false, true, false], "{results:?}");
    assert!(!store.contains(&Sha256::of(&all[2])));
    for bytes in [&all[0], &all[1], &all[3]] {
        assert!(read(&store, &Sha256::of(bytes)) == *bytes);
    }
    assert_eq!(store.stats().unwrap().objects, 3);
    drop(assemblies);
    assert!(cache.partials().is_empty());
    std::fs::remove_file(in_the_way).unwrap();
    assert_eq!(objects_on_disk(cache.path()).len(), 3);
}
