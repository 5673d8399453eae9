//! Room: both limits hold, what was used longest ago leaves, what is pinned stays.

use super::*;
use aptpeer::store::StoreError;

/// Three objects of 1000 bytes in a cache of 3500.
fn three() -> (Cache, Store, [Sha256; 3]) {
    let cache = Cache::new();
    let store = cache.open_with(3500, 0);
    let ids = [1, 2, 3].map(|seed| publish(&store, &sample(1000, seed)));
    (cache, store, ids)
}

fn listed(store: &Store) -> Vec<Sha256> {
    store.list().unwrap().iter().map(|entry| entry.id).collect()
}

#[test]
fn the_least_recently_used_leaves_first() {
    let (cache, store, [a, b, c]) = three();
    store.get(&a).unwrap().unwrap();
    let d = publish(&store, &sample(1000, 4));
    assert_eq!(listed(&store), [c, a, d]);
    assert!(!cache.object(&b).exists() && store.get(&b).unwrap().is_none());
    let e = publish(&store, &sample(1400, 5));
    assert_eq!(listed(&store), [a, d, e]);
}

#[test]
fn uses_survive_a_restart() {
    let (cache, store, [a, b, c]) = three();
    store.get(&a).unwrap();
    store.get(&b).unwrap();
    drop(store);
    assert_eq!(listed(&cache.open()), [c, a, b]);
}

#[test]
fn uses_of_one_process_count_for_another_once_they_are_saved() {
    let (cache, store, [a, b, c]) = three();
    store.get(&a).unwrap();
    store.save_uses().unwrap();
    assert_eq!(listed(&cache.open()), [b, c, a]);
}

#[test]
fn pinned_objects_are_never_evicted() {
    let (_cache, store, [a, b, c]) = three();
    store.pin(&a).unwrap();
    let d = publish(&store, &sample(1000, 4));
    assert_eq!(listed(&store), [a, c, d]);
    assert!(store.get(&b).unwrap().is_none());
    store.pin(&c).unwrap();
    store.unpin(&a).unwrap();
    let e = publish(&store, &sample(2000, 5));
    assert_eq!(listed(&store), [c, e]);
}

#[test]
fn nothing_is_evicted_where_everything_would_not_be_enough() {
    let (_cache, store, [a, b, c]) = three();
    store.pin(&a).unwrap();
    let too_much = store.assemble(Sha256::of(b"x"), Geometry::new(2501).unwrap());
    let text = too_much.unwrap_err().to_string();
    assert_eq!(text, "no room in the cache for 2501 bytes more: cache.max_size stands in the way");
    let never = store.assemble(Sha256::of(b"x"), Geometry::new(3501).unwrap());
    assert!(matches!(never, Err(StoreError::Full { length: 3501, .. })));
    assert_eq!(listed(&store), [a, b, c]);
}

#[test]
fn what_is_being_assembled_takes_room() {
    let (cache, store, [_, b, c]) = three();
    let growing = store.assemble(Sha256::of(b"x"), Geometry::new(1500).unwrap()).unwrap();
    assert_eq!(listed(&store), [b, c]);
    assert_eq!(store.stats().unwrap().assembling_bytes, 1500);
    let other = cache.open_with(3500, 0);
    assert!(other.assemble(Sha256::of(b"y"), Geometry::new(2001).unwrap()).is_err(), "also for others");
    drop(growing);
    assert!(other.assemble(Sha256::of(b"y"), Geometry::new(2001).unwrap()).is_ok());
}

#[test]
fn a_cache_that_became_too_large_shrinks_at_the_next_publish() {
    let (cache, store, [_, _, c]) = three();
    drop(store);
    let smaller = cache.open_with(2000, 0);
    let d = publish(&smaller, &sample(10, 4));
    assert_eq!(listed(&smaller), [c, d]);
}

#[test]
fn free_space_is_left_free() {
    let (cache, store, ids) = three();
    drop(store);
    let store = cache.open_with(u64::MAX, u64::MAX / 2);
    let error = store.assemble(Sha256::of(b"x"), Geometry::new(10).unwrap()).unwrap_err();
    assert!(matches!(error, StoreError::Full { limit: "cache.min_free_space", .. }), "{error}");
    assert_eq!(listed(&store), ids, "evicting them would not have helped");
}

#[test]
fn an_object_that_cannot_be_evicted_is_passed_over() {
    let (cache, store, [a, b, c]) = three();
    std::fs::remove_file(cache.object(&a)).unwrap();
    std::fs::create_dir(cache.object(&a)).unwrap();
    let d = publish(&store, &sample(1000, 4));
    assert_eq!(listed(&store), [a, c, d]);
    assert!(!cache.object(&b).exists());
}

#[test]
fn totals_are_exact_after_everything() {
    let (cache, store, [a, b, c]) = three();
    let exact = |objects, bytes, pinned| {
        let stats = store.stats().unwrap();
        assert_eq!((stats.objects, stats.bytes, stats.pinned_objects), (objects, bytes, pinned));
        let on_disk = objects_on_disk(cache.path());
        let sizes = on_disk.iter().map(|id| std::fs::metadata(cache.object(id)).unwrap().len());
        assert_eq!((on_disk.len() as u64, sizes.sum::<u64>()), (objects, bytes));
    };
    exact(3, 3000, 0);
    publish(&store, &sample(1000, 1));
    exact(3, 3000, 0);
    store.pin(&b).unwrap();
    publish(&store, &sample(1500, 4));
    exact(3, 3500, 1);
    assert!(!store.remove(&c).unwrap(), "it was evicted");
    assert!(store.remove(&a).unwrap());
    exact(2, 2500, 1);
    let cleared = store.clear().unwrap();
    assert_eq!((cleared.objects, cleared.bytes, cleared.failed), (1, 1500, 0));
    exact(1, 1000, 1);
    store.remove(&b).unwrap();
    exact(0, 0, 0);
}

#[test]
fn clearing_a_large_cache_takes_it_all() {
    let cache = Cache::new();
    let store = cache.open();
    // More than one transaction takes, empty ones among them.
    let rows = rusqlite::Connection::open(cache.path().join("v1/catalog.sqlite")).unwrap();
    let insert = "INSERT INTO objects (id, length, states, added, used, turn)
                  WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
                  SELECT randomblob(32), i % 3, x'', 0, 0, i FROM n";
    rows.execute_batch(insert).unwrap();
    assert_eq!(store.stats().unwrap().objects, 1000);
    assert_eq!(store.clear().unwrap().objects, 1000);
    assert_eq!((store.stats().unwrap().objects, store.stats().unwrap().bytes), (0, 0));
}
