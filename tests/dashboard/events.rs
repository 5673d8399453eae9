//! `/events`: what becomes of the page, for a bounded number of listeners.

use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::mirror::Mirror;
use crate::support::wait_for;
use crate::world::{Ear, fetch, learn, repository};

/// As many as the daemon bears.
const LISTENERS: usize = 16;

#[test]
fn who_listens_is_told_what_has_become_of_the_page() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let daemon = Daemon::start();
    for address in [daemon.status(), daemon.proxy()] {
        let mut ear = Ear::open(address).unwrap();
        let first = ear.next().unwrap();
        assert!(first["parts"]["recent"].is_string() && first["parts"]["state"].is_string());
        let before = first["snapshot"]["requests"].as_u64().unwrap();
        learn(daemon.proxy(), &mirror);
        fetch(&daemon, &mirror, &repository, "one");
        // Earlier ones may be of moments in between.
        let told =
            std::iter::from_fn(|| ear.next()).find(|event| event["snapshot"]["requests"] == before + 3);
        let told = told.unwrap();
        assert!(told["parts"]["run"].as_str().unwrap().contains("requests from apt"));
        assert!(told["parts"].get("state").is_none(), "nothing has become of that: {told:#}");
        assert!(told["snapshot"]["recent"][0]["name"].as_str().unwrap().starts_with("one_"));
    }
}

#[test]
fn events_come_once_a_second() {
    let daemon = Daemon::start();
    let mut ear = Ear::open(daemon.status()).unwrap();
    ear.next().unwrap();
    let first = Instant::now();
    ear.next().unwrap();
    ear.next().unwrap();
    assert!(first.elapsed() > Duration::from_millis(1500), "{:?}", first.elapsed());
}

#[test]
fn listeners_are_bounded_and_one_who_leaves_makes_room() {
    let mut daemon = Daemon::start();
    let mut ears: Vec<Ear> = (0..LISTENERS).map(|_| Ear::open(daemon.status()).unwrap()).collect();
    assert_eq!(Ear::open(daemon.status()).err(), Some(503));
    assert_eq!(Ear::open(daemon.proxy()).err(), Some(503), "all count, wherever they listen");
    ears.pop();
    let room = wait_for(Duration::from_secs(30), || Ear::open(daemon.status()).ok());
    ears.extend(room);
    assert_eq!(ears.len(), LISTENERS);

    // Nobody who listens keeps a daemon from ending: answers in flight may take 30 s.
    let asked = Instant::now();
    assert!(daemon.terminate().success());
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert!(ears.iter_mut().all(|ear| std::iter::from_fn(|| ear.next()).count() < 60), "streams end");
}
