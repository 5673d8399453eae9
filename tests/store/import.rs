//! Local files become objects.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use aptpeer::store::{Import, Origin, StoreError, Way};

fn file(cache: &Cache, name: &str, bytes: &[u8]) -> PathBuf {
    let path = cache.path().join(name);
    // As whatever keeps a pool does it: by a new file.
    let new = cache.path().join("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, &path).unwrap();
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
fn a_linked_file_that_is_written_over_is_noticed_and_left_alone() {
    let cache = Cache::new();
    let store = cache.open();
    let bytes = sample(2 * piece() + 100, 5);
    let path = file(&cache, "f", &bytes);
    let all = Import { origin: Origin::Seed, way: Way::Link };
    let sum = store.import([path.clone()].into_iter(), all, |_| {}).unwrap();
    assert_eq!((sum.files, sum.linked), (1, 1));
    let id = Sha256::of(&bytes);
    assert!(read(&store, &id) == bytes);
    // Its second piece, with the times that it had.
    let times = fs::FileTimes::new().set_modified(path.metadata().unwrap().modified().unwrap());
    let written = fs::File::options().write(true).open(&path).unwrap();
    written.write_all_at(b"other", piece() as u64 + 7).unwrap();
    written.set_times(times).unwrap();
    let object = store.get(&id).unwrap().unwrap();
    assert_eq!(object.bytes(0..100).unwrap(), bytes[..100], "the first piece is what it was");
    assert!(matches!(object.bytes(object.geometry().range(1)), Err(StoreError::Damaged { .. })));
    assert!(store.get(&id).unwrap().is_none());
    assert!(!cache.object(&id).exists() && path.exists(), "only the cache's name is gone");
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
