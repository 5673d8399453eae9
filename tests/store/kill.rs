//! `kill -9` at any moment: at most the download in flight is lost, and nothing wrong is ever seen.
//!
//! The test runs itself as a child process that publishes and evicts in a loop, kills it, and looks at what it left.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use aptpeer::store::{Finished, Scope, Verdict};

/// Tells the child where its cache is, and where its numbers start.
const CACHE: &str = "APTPEER_TEST_KILL_CACHE";
const SEED: &str = "APTPEER_TEST_KILL_SEED";

const ROUNDS: u64 = 25;

/// Twenty objects or so: eviction is going on all the time.
const MAX_SIZE: u64 = 4_000_000;

/// As many at most enter the store at once.
const TOGETHER: usize = 3;

fn random(below: u64) -> u64 {
    RandomState::new().build_hasher().finish() % below
}

fn open(cache: &Path) -> Store {
    Store::open(StoreConfig { path: cache.to_owned(), max_size: MAX_SIZE, min_free_space: 0 }).unwrap()
}

/// The child: not a test by itself, and passing at once where it is run as one.
#[test]
fn kill_child() {
    let Some(cache) = std::env::var_os(CACHE) else { return };
    let first: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = open(Path::new(&cache));
    for seed in (first..).step_by(TOGETHER) {
        let together = (0..1 + random(TOGETHER as u64)).map(|other| {
            let bytes = sample(usize::try_from(random(400_000)).unwrap(), seed + other);
            let id = Sha256::of(&bytes);
            // Small ones in memory, but for the first.
            let in_memory = (other > 0).then(|| store.assemble_small(id, geometry(&bytes))).flatten();
            let assembly = in_memory.unwrap_or_else(|| store.assemble(id, geometry(&bytes)).unwrap());
            for (index, part) in bytes.chunks(100_000).enumerate() {
                assembly.write_at(index as u64 * 100_000, part).unwrap();
            }
            assembly
        });
        let together: Vec<Assembly> = together.collect();
        let finished =
            together.iter().map(|assembly| Finished::new(assembly, Vec::new(), None, Scope::Public));
        for (assembly, published) in together.iter().zip(store.publish_all(finished.collect())) {
            published.unwrap();
            println!("published {}", assembly.id());
        }
    }
}

fn spawn_child(cache: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["kill::kill_child", "--exact", "--nocapture"])
        .env(CACHE, cache)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a child publish `count` objects, then kills it a random moment later. The last object it told us of.
fn kill_after(mut child: Child, count: usize) -> Sha256 {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut published = lines.map_while(|line| {
        let line = line.unwrap();
        Some(line.split("published ").nth(1).map(|id| id.parse::<Sha256>().unwrap()))
    });
    let mut last = None;
    for _ in 0..count {
        last = Some(published.by_ref().find_map(|id| id).expect("the child publishes until it is killed"));
    }
    // Not to wait for something: the moment of the kill is what the test varies.
    std::thread::sleep(Duration::from_micros(random(30_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    published.flatten().last().or(last).unwrap()
}

#[test]
fn a_kill_at_any_moment_leaves_only_whole_objects() {
    let cache = Cache::new();
    for round in 0..ROUNDS {
        // Every fifth round two processes share the cache and die one after the other.
        let other = (round % 5 == 0).then(|| spawn_child(cache.path(), round * 1_000_000 + 500_000));
        let child = spawn_child(cache.path(), round * 1_000_000);
        let last = kill_after(child, 2 + usize::try_from(random(8)).unwrap());
        let alone = other.is_none();
        if let Some(other) = other {
            kill_after(other, 1);
        }

        let store = open(cache.path());
        if alone {
            assert!(store.get(&last).unwrap().is_some(), "round {round}: what was published is there");
        }
        store
            .verify_all(|entry, verdict| assert_ne!(verdict, Verdict::Damaged, "round {round}: {}", entry.id))
            .unwrap();
        let recovery = store.recover().unwrap();
        let most = 2 * TOGETHER as u64;
        assert!(recovery.partials <= most && recovery.files <= most, "round {round}: {recovery:?}");
        assert!(cache.partials().is_empty());
        let mut rows: Vec<Sha256> = store.list().unwrap().iter().map(|entry| entry.id).collect();
        rows.sort();
        assert_eq!(rows, objects_on_disk(cache.path()), "round {round}: rows and files agree");
        for id in rows {
            assert_eq!(store.verify(&id).unwrap(), Verdict::Whole, "round {round}");
        }
        let stats = store.stats().unwrap();
        assert!(stats.bytes <= MAX_SIZE && stats.assembling_bytes == 0, "round {round}: {stats:?}");
    }
}
