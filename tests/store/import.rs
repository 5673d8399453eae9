//! Local files become objects.

use std::fs;

use super::*;
use aptpeer::store::{Origin, StoreError};

fn file(cache: &Cache, name: &str, bytes: &[u8]) -> PathBuf {
    let path = cache.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_file_becomes_an_object_with_its_states() {
    let cache = Cache::new();
    let store = cache.open();
    for (seed, length) in [(1, 0), (2, 1), (3, piece()), (4, 2 * piece() + 100)] {
        let bytes = sample(length, seed);
        let path = file(&cache, "package.deb", &bytes);
        let imported = store.import_file(&path, Origin::Seed).unwrap();
        assert_eq!((imported.id, imported.length), (Sha256::of(&bytes), length as u64));
        assert!(!imported.was_there);
        let object = cache.open().get(&imported.id).unwrap().unwrap();
        assert_eq!(object.states(), states(&bytes));
        assert!(read(&cache.open(), &imported.id) == bytes);
        assert!(path.exists(), "it is copied, not moved");
    }
}

#[test]
fn importing_again_changes_only_the_origin() {
    let cache = Cache::new();
    let store = cache.open();
    let path = file(&cache, "package.deb", b"package");
    publish(&store, b"package");
    assert_eq!(store.list().unwrap()[0].origin, Origin::Download);
    let imported = store.import_file(&path, Origin::SilentSeed).unwrap();
    assert!(imported.was_there);
    let entry = &store.list().unwrap()[0];
    assert!(entry.origin.is_seed() && !entry.origin.is_announced());
    store.import_file(&path, Origin::Seed).unwrap();
    assert!(store.list().unwrap()[0].origin.is_announced());
    publish(&store, b"package");
    assert_eq!(store.list().unwrap()[0].origin, Origin::Seed, "a download makes it no less a seed");
    assert_eq!(store.stats().unwrap().objects, 1);
}

#[test]
fn a_changed_file_is_another_object() {
    let cache = Cache::new();
    let store = cache.open();
    let first = store.import_file(&file(&cache, "f", b"first"), Origin::Seed).unwrap();
    let second = store.import_file(&file(&cache, "f", b"second"), Origin::Seed).unwrap();
    assert_eq!(read(&store, &first.id), b"first");
    assert_eq!(read(&store, &second.id), b"second");
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let cache = Cache::new();
    let store = cache.open();
    let error = store.import_file(cache.path(), Origin::Seed).unwrap_err();
    assert!(error.to_string().contains(cache.path().to_str().unwrap()), "{error}");
    assert!(store.import_file(&cache.path().join("nothing"), Origin::Seed).is_err());
}

#[test]
fn an_absurd_length_is_refused_before_it_is_read() {
    let cache = Cache::new();
    let path = cache.path().join("sparse");
    fs::File::create(&path).unwrap().set_len((1 << 40) + 1).unwrap();
    assert!(matches!(cache.open().import_file(&path, Origin::Seed), Err(StoreError::TooLong(_))));
}

#[test]
fn a_file_without_room_leaves_nothing() {
    let cache = Cache::new();
    let store = cache.open_with(1000, 0);
    let path = file(&cache, "large", &sample(1001, 1));
    assert!(matches!(store.import_file(&path, Origin::Seed), Err(StoreError::Full { .. })));
    assert!(cache.partials().is_empty());
}
