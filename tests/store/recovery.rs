//! What a killed process leaves behind, and what others do meanwhile.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use aptpeer::store::Recovery;

#[test]
fn a_clean_cache_needs_nothing() {
    let cache = Cache::new();
    let store = cache.open();
    publish(&store, b"abc");
    assert_eq!(store.recover().unwrap(), Recovery::default());
    assert!(store.contains(&Sha256::of(b"abc")));
}

#[test]
fn leftovers_go_and_living_assemblies_stay() {
    let cache = Cache::new();
    let store = cache.open();
    let leftover = cache.path().join("v1/partial").join(format!("{}.0123456789abcdef", Sha256::of(b"old")));
    fs::write(&leftover, b"half an object").unwrap();
    let living = assemble(&store, b"living");
    let recovery = cache.open().recover().unwrap();
    assert_eq!(recovery, Recovery { partials: 1, partial_bytes: 14, ..Recovery::default() });
    assert!(!leftover.exists());
    assert_eq!(cache.partials().len(), 1);
    living.publish(Vec::new(), None).unwrap();
    assert_eq!(read(&store, &Sha256::of(b"living")), b"living");
}

#[test]
fn leftovers_go_also_when_room_is_needed() {
    let cache = Cache::new();
    let store = cache.open_with(3000, 0);
    let kept = publish(&store, &sample(1000, 1));
    fs::write(cache.path().join("v1/partial/anything"), sample(1500, 2)).unwrap();
    publish(&store, &sample(1000, 3));
    assert!(store.contains(&kept), "the leftover made room enough");
    assert!(cache.partials().is_empty());
}

#[test]
fn a_cache_that_is_larger_than_it_may_be_is_trimmed() {
    let cache = Cache::new();
    let first = publish(&cache.open_with(5000, 0), &sample(1000, 1));
    let last = publish(&cache.open_with(5000, 0), &sample(1500, 2));
    let store = cache.open_with(2000, 0);
    store.recover().unwrap();
    assert!(!store.contains(&first) && store.contains(&last));
}

#[test]
fn rows_without_a_file_and_files_without_a_row_go() {
    let cache = Cache::new();
    let store = cache.open();
    let [lost, kept] = [b"lost", b"kept"].map(|bytes| publish(&store, bytes));
    fs::remove_file(cache.object(&lost)).unwrap();
    let stray = Sha256::of(b"stray");
    fs::create_dir_all(cache.object(&stray).parent().unwrap()).unwrap();
    fs::write(cache.object(&stray), b"stray").unwrap();
    let foreign = cache.object(&stray).with_file_name("README");
    fs::write(&foreign, b"not ours to judge").unwrap();

    let recovery = store.recover().unwrap();
    assert_eq!(recovery, Recovery { rows: 1, files: 1, ..Recovery::default() });
    assert!(!cache.object(&stray).exists() && foreign.exists());
    assert_eq!(store.list().unwrap().iter().map(|entry| entry.id).collect::<Vec<_>>(), [kept]);
    assert_eq!(store.recover().unwrap(), Recovery::default());
}

#[test]
fn recovering_beside_others_takes_nothing_from_them() {
    let cache = Cache::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let recovering = scope.spawn(|| {
            let store = cache.open();
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                // A partial file that was made and not locked yet may go: its owner makes another.
                let recovery = store.recover().unwrap();
                assert_eq!(Recovery { partials: 0, ..recovery }, Recovery::default());
                rounds += 1;
            }
        });
        let store = cache.open();
        let ids: Vec<Sha256> = (0..40).map(|seed| publish(&store, &sample(5000, seed))).collect();
        done.store(true, Ordering::Relaxed);
        recovering.join().unwrap();
        for id in ids {
            assert!(store.get(&id).unwrap().is_some());
        }
    });
}

#[test]
fn a_lost_catalog_costs_the_objects_and_nothing_else() {
    let cache = Cache::new();
    let id = publish(&cache.open(), b"abc");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(cache.path().join(format!("v1/catalog.sqlite{suffix}")));
    }
    let store = cache.open();
    assert!(store.get(&id).unwrap().is_none(), "what no row vouches for is not served");
    assert_eq!(store.recover().unwrap().files, 1);
    publish(&store, b"abc");
    assert_eq!(read(&store, &id), b"abc");
}
