//! The announcer between a real store and a DHT in memory; and what peers see of an object that was evicted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aptpeer::announcer::{
    Announce, Announced, Announcer, AnnouncerConfig, Answer, Downloading, List, OnItsWay, Published,
};
use aptpeer::digest::Sha256;
use aptpeer::pieces::{Geometry, PIECE_LENGTH};
use aptpeer::store::{Origin, Store, StoreConfig};
use aptpeer::swarm::announce::Plan;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use support::daemon::Setup;
use support::{http, noise, peers};

/// What never takes as long on the busiest machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A DHT that remembers what it was told.
struct Network {
    told: watch::Sender<Vec<(Sha256, u16)>>,
    lists: watch::Sender<Vec<List>>,
    /// Whether it never answers.
    deaf: AtomicBool,
    moves: watch::Sender<u64>,
}

impl Network {
    fn new() -> Arc<Self> {
        let deaf = AtomicBool::new(false);
        let (told, lists, moves) =
            (watch::Sender::default(), watch::Sender::default(), watch::Sender::default());
        Arc::new(Self { told, lists, deaf, moves })
    }

    fn count(&self, id: Sha256) -> usize {
        self.told.borrow().iter().filter(|(object, _)| *object == id).count()
    }

    /// Waits until object `id` was announced so many times.
    async fn wait_for(&self, id: Sha256, count: usize) {
        let enough =
            |told: &Vec<(Sha256, u16)>| told.iter().filter(|(object, _)| *object == id).count() >= count;
        tokio::time::timeout(LIMIT, self.told.subscribe().wait_for(enough)).await.unwrap().unwrap();
    }
}

impl Announce for Network {
    fn announce(&self, object: Sha256, port: u16) -> Answer<'_, Announced> {
        Box::pin(async move {
            self.told.send_modify(|told| told.push((object, port)));
            if self.deaf.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            Announced { stored: 8, others: 3, datagrams: 60 }
        })
    }

    fn publish(&self, list: List) -> Answer<'_, Published> {
        self.lists.send_modify(|lists| lists.push(list));
        Box::pin(std::future::ready(Published { stored: 8, datagrams: 60 }))
    }

    fn moves(&self) -> Option<watch::Receiver<u64>> {
        Some(self.moves.subscribe())
    }
}

/// Downloads that are told of.
#[derive(Default)]
struct Begun(watch::Sender<u64>, Mutex<Vec<OnItsWay>>);

impl Begun {
    fn set(&self, objects: Vec<OnItsWay>) {
        *self.1.lock().unwrap() = objects;
        self.0.send_modify(|count| *count += 1);
    }
}

impl Downloading for Begun {
    fn on_their_way(&self) -> Vec<OnItsWay> {
        self.1.lock().unwrap().clone()
    }

    fn begun(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// A running announcer.
struct Running {
    announcer: Arc<Announcer>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(store: &Store, network: &Arc<Network>, config: AnnouncerConfig) -> Self {
        Self::with(store, network, config, Arc::default())
    }

    fn with(store: &Store, network: &Arc<Network>, config: AnnouncerConfig, begun: Arc<Begun>) -> Self {
        let announcer = Arc::new(Announcer::new(store.clone(), network.clone(), config).and_of(begun));
        let shutdown = CancellationToken::new();
        let (runs, token) = (announcer.clone(), shutdown.clone());
        Self { announcer, shutdown, task: tokio::spawn(async move { runs.run(token).await }) }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(LIMIT, self.task).await.unwrap().unwrap();
    }
}

fn config(interval: Duration) -> AnnouncerConfig {
    let plan = Plan { interval, list_interval: Duration::from_secs(3600), budget: 50_000.0 };
    AnnouncerConfig { announce: true, port: Some(9979), plan }
}

const SECOND: Duration = Duration::from_secs(1);
const USUAL: Duration = Duration::from_secs(25 * 60);

fn open(path: &Path, max_size: u64) -> Store {
    Store::open(StoreConfig { path: path.to_owned(), max_size, min_free_space: 0 }).unwrap()
}

fn publish(store: &Store, bytes: &[u8]) -> Sha256 {
    let id = Sha256::of(bytes);
    let assembly = store.assemble(id, Geometry::new(bytes.len() as u64).unwrap()).unwrap();
    assembly.write_at(0, bytes).unwrap();
    assembly.publish(peers::states(bytes), None).unwrap();
    id
}

#[tokio::test]
async fn at_another_address_everything_is_announced_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let ids = [1, 2, 3].map(|seed| publish(&store, &noise(seed, 1000)));
    let network = Network::new();
    let running = Running::start(&store, &network, config(USUAL));
    for id in ids {
        network.wait_for(id, 1).await;
    }
    network.moves.send_modify(|moves| *moves += 1);
    for id in ids {
        network.wait_for(id, 2).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn what_the_store_holds_is_announced_with_the_port_of_the_peers() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let ids = [1, 2, 3].map(|seed| publish(&store, &noise(seed, 1000)));
    let network = Network::new();
    let running = Running::start(&store, &network, config(USUAL));
    for id in ids {
        network.wait_for(id, 1).await;
    }
    assert_eq!((running.announcer.summary().held, running.announcer.summary().kept), (3, 3));
    running.stop().await;
    assert!(network.told.borrow().iter().all(|(_, port)| *port == 9979));
    assert_eq!(network.told.borrow().len(), 3);
}

#[tokio::test]
async fn what_is_published_later_is_announced_soon_and_what_is_not_to_be_announced_never() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let file = folder.path().join("silent.deb");
    std::fs::write(&file, b"nobody is told of this").unwrap();
    let silent = store.import_file(&file, Origin::SilentSeed).unwrap().id;
    let first = publish(&store, &noise(1, 1000));
    let network = Network::new();
    let running = Running::start(&store, &network, config(USUAL));
    network.wait_for(first, 1).await;
    let second = publish(&store, &noise(2, 1000));
    network.wait_for(second, 1).await;
    running.stop().await;
    assert_eq!(network.count(silent), 0);
}

#[tokio::test]
async fn what_was_announced_lately_is_not_announced_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let first = publish(&store, &noise(1, 1000));
    let network = Network::new();
    let running = Running::start(&store, &network, config(USUAL));
    network.wait_for(first, 1).await;
    running.stop().await;
    let known = store.offers().unwrap()[0];
    assert!(known.announced.is_some() && known.others == 3, "{known:?}");
    drop(store);

    let store = open(folder.path(), u64::MAX);
    let second = publish(&store, &noise(2, 1000));
    let running = Running::start(&store, &network, config(USUAL));
    network.wait_for(second, 1).await;
    running.stop().await;
    assert_eq!(network.count(first), 1);
}

#[tokio::test]
async fn the_list_of_a_large_object_is_published_as_the_store_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let bytes = noise(1, usize::try_from(PIECE_LENGTH).unwrap() * 2 + 1);
    let id = publish(&store, &bytes);
    let small = publish(&store, &noise(2, 1000));
    let network = Network::new();
    let running = Running::start(&store, &network, config(USUAL));
    let mut lists = network.lists.subscribe();
    tokio::time::timeout(LIMIT, lists.wait_for(|lists| !lists.is_empty())).await.unwrap().unwrap();
    network.wait_for(small, 1).await;
    running.stop().await;
    let geometry = Geometry::new(bytes.len() as u64).unwrap();
    assert_eq!(*lists.borrow(), [List { id, geometry, states: peers::states(&bytes) }]);
}

#[tokio::test]
async fn what_is_on_its_way_is_announced_and_again_with_its_list_when_it_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let (network, begun) = (Network::new(), Arc::new(Begun::default()));
    let running = Running::with(&store, &network, config(USUAL), begun.clone());
    let bytes = noise(1, usize::try_from(PIECE_LENGTH).unwrap() * 2 + 1);
    let object = |bytes: &[u8], since| OnItsWay { id: Sha256::of(bytes), length: bytes.len() as u64, since };
    let (now, dropped) = (Instant::now(), noise(2, 9_000_000));
    begun.set(vec![object(&bytes, now), object(&dropped, now)]);
    network.wait_for(Sha256::of(&bytes), 1).await;
    network.wait_for(Sha256::of(&dropped), 1).await;
    assert!(now.elapsed() >= Duration::from_secs(2), "what is whole soon is announced then");
    assert!(network.lists.borrow().is_empty());

    let id = publish(&store, &bytes);
    begun.set(Vec::new());
    network.wait_for(id, 2).await;
    let mut lists = network.lists.subscribe();
    tokio::time::timeout(LIMIT, lists.wait_for(|lists| !lists.is_empty())).await.unwrap().unwrap();
    let held = || running.announcer.summary().held;
    assert_eq!((held(), network.count(Sha256::of(&dropped))), (1, 1));
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_announced_without_a_port_or_without_leave() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    publish(&store, &noise(1, 1000));
    let network = Network::new();
    let no_port = AnnouncerConfig { port: None, ..config(USUAL) };
    let no_leave = AnnouncerConfig { announce: false, ..config(USUAL) };
    for config in [no_port, no_leave] {
        let running = Running::start(&store, &network, config);
        tokio::time::timeout(LIMIT, running.task).await.unwrap().unwrap();
    }
    assert!(network.told.borrow().is_empty());
}

#[tokio::test]
async fn it_stops_at_once_while_announces_are_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let ids = [1, 2].map(|seed| publish(&store, &noise(seed, 1000)));
    let network = Network::new();
    network.deaf.store(true, Ordering::Relaxed);
    let running = Running::start(&store, &network, config(USUAL));
    for id in ids {
        network.wait_for(id, 1).await;
    }
    let stopping = Instant::now();
    running.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(15), "{:?}", stopping.elapsed());
    assert_eq!(store.offers().unwrap().iter().filter(|offer| offer.announced.is_some()).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_object_is_not_announced_again_and_peers_get_404_at_once() {
    let daemon = Setup::new().with("[cache]\nmax_size = \"1500\"\n").start();
    let store = open(&daemon.cache(), 1500);
    let old = publish(&store, &noise(1, 1000));
    let target = format!("/hash/{old}");
    assert_eq!(http::get(daemon.peer(), &target).body.len(), 1000);

    let network = Network::new();
    let running = Running::start(&store, &network, config(SECOND));
    network.wait_for(old, 2).await;
    let new = publish(&store, &noise(2, 1000));
    assert_eq!(http::get(daemon.peer(), &target).status, 404);
    // One that was on its way to the network when its object left.
    let before = network.count(old);
    network.wait_for(new, 3).await;
    assert!(network.count(old) <= before + 1, "{} and then {}", before, network.count(old));
    running.stop().await;
    assert_eq!(http::get(daemon.peer(), &format!("/hash/{new}")).body.len(), 1000);
}
