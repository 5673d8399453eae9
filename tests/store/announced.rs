//! What the announcer reads and writes: it survives a restart, leaves with the object, and is no use of it.

use super::*;
use aptpeer::store::{Offer, Origin};

fn offer(store: &Store, id: &Sha256) -> Option<Offer> {
    store.offers().unwrap().into_iter().find(|offer| offer.id == *id)
}

#[test]
fn the_last_announce_survives_a_restart_and_a_new_publish() {
    let cache = Cache::new();
    let store = cache.open();
    let [a, b] = [1, 2].map(|seed| publish(&store, &sample(1000, seed)));
    assert_eq!(offer(&store, &a).unwrap().announced, None);
    store.announced(&[(a, 1_700_000_000, 3), (Sha256::of(b"left"), 5, 5)]).unwrap();
    drop(store);
    let store = cache.open();
    publish(&store, &sample(1000, 1));
    let known = offer(&store, &a).unwrap();
    assert_eq!((known.announced, known.others, known.length), (Some(1_700_000_000), 3, 1000));
    assert_eq!(known.origin, Origin::Download);
    assert_eq!(offer(&store, &b).unwrap().announced, None);
    assert_eq!(store.offers().unwrap().len(), 2);
}

#[test]
fn the_last_announce_leaves_with_the_object() {
    let cache = Cache::new();
    let store = cache.open_with(1500, 0);
    let a = publish(&store, &sample(1000, 1));
    store.announced(&[(a, 7, 7)]).unwrap();
    publish(&store, &sample(1000, 2));
    assert_eq!(offer(&store, &a), None);
    publish(&store, &sample(1000, 1));
    assert_eq!(offer(&store, &a).unwrap().announced, None);
}

#[test]
fn offers_are_complete_beyond_one_page_and_are_no_uses() {
    let cache = Cache::new();
    let store = cache.open();
    let mut ids: Vec<Sha256> = (0..2500).map(|seed| publish(&store, &sample(8, seed))).collect();
    let order = |store: &Store| store.list().unwrap().iter().map(|entry| entry.id).collect::<Vec<_>>();
    let before = order(&store);
    let mut offered: Vec<Sha256> = store.offers().unwrap().iter().map(|offer| offer.id).collect();
    for id in &ids {
        store.states(id).unwrap().unwrap();
    }
    store.announced(&ids.iter().map(|id| (*id, 9, 0)).collect::<Vec<_>>()).unwrap();
    assert_eq!(order(&store), before);
    ids.sort();
    offered.sort();
    assert_eq!(offered, ids);
}

#[test]
fn states_are_told_without_the_file() {
    let cache = Cache::new();
    let store = cache.open();
    let bytes = sample(piece() * 2 + 5, 3);
    let id = publish(&store, &bytes);
    assert_eq!(store.states(&id).unwrap(), Some((geometry(&bytes), states(&bytes))));
    assert_eq!(store.states(&Sha256::of(b"another")).unwrap(), None);
}

#[test]
fn whoever_watches_is_told_of_what_comes_and_what_leaves() {
    let cache = Cache::new();
    let store = cache.open_with(1500, 0);
    let mut changes = store.changes();
    let mut told = || {
        let changed = changes.has_changed().unwrap();
        changes.mark_unchanged();
        changed
    };
    assert!(!told());
    let a = publish(&store, &sample(1000, 1));
    assert!(told(), "published");
    store.get(&a).unwrap();
    assert!(!told(), "only used");
    let room = store.assemble(Sha256::of(b"x"), Geometry::new(1000).unwrap()).unwrap();
    assert!(told(), "evicted");
    drop(room);
    let b = publish(&store, &sample(100, 2));
    assert!(told());
    store.remove(&b).unwrap();
    assert!(told(), "removed");
}
