//! What announcing, looking up and storing cost in datagrams and in time, for our node and for the `mainline` crate's,
//! each as a client of the same network.
//!
//! `cargo bench --bench dht [NODES]`. The network is the crate's own test network on loopback. Datagrams are those that
//! the kernel counts, so nothing else should be using UDP.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its figures, or fails")]
#![allow(deprecated, reason = "the blocking calls of the crate are what is simplest to time")]

use std::time::{Duration, Instant};

use aptpeer::dht::{Limits, OwnedItem, Signer};
use aptpeer::digest::{InfoHash, Sha256};
use aptpeer::discovery::{Dht, DhtConfig, Driver, Names};
use aptpeer::metrics::Metrics;
use mainline::{Id, MutableItem, SigningKey, Testnet};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How many objects each figure is the median of.
const OBJECTS: usize = 15;

/// A median of datagrams, of the time to the first finding and of the time to the end.
struct Row {
    what: &'static str,
    crate_: Vec<Cost>,
    ours: Vec<Cost>,
}

#[derive(Clone, Copy)]
struct Cost {
    datagrams: u64,
    first: Option<Duration>,
    end: Duration,
}

fn main() {
    let nodes: usize = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(200);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{nodes} nodes, medians of {OBJECTS}: datagrams, first finding, end");
    {
        let network = Testnet::builder(nodes).build().unwrap();
        println!("\nA network of the crate's nodes, which take no values from others:\n");
        // Without its own client's puts there is nothing to compare there.
        compare(&runtime, &network.bootstrap[..4], false);
    }
    let shutdown = CancellationToken::new();
    let (bootstrap, running) = runtime.block_on(network_of_ours(nodes, &shutdown));
    println!("\nA network of our nodes:\n");
    compare(&runtime, &bootstrap, true);
    shutdown.cancel();
    runtime.block_on(running.join_all());
}

/// Both clients enter the network by `bootstrap`, and do the same in turn.
fn compare(runtime: &tokio::runtime::Runtime, bootstrap: &[String], values: bool) {
    let theirs = mainline::Dht::builder().bootstrap(bootstrap).build().unwrap();
    assert!(theirs.bootstrapped(), "the crate's client found no way in");
    let shutdown = CancellationToken::new();
    let (ours, running) = runtime.block_on(async {
        let (dht, driver) = node(bootstrap.to_vec()).await;
        let running = tokio::spawn(driver.run(shutdown.clone()));
        assert!(dht.ready(Duration::from_secs(20)).await, "our node found no way in");
        quiet().await;
        (dht, running)
    });
    let (theirs, ours) = (Theirs(theirs), Ours { dht: ours, runtime });
    let mut rows = Vec::new();
    let mut measure = |what, crate_: &dyn Fn(usize) -> Cost, ours: &dyn Fn(usize) -> Cost| {
        let (crate_, ours) = (0..OBJECTS).map(|object| (crate_(object), ours(object))).unzip();
        rows.push(Row { what, crate_, ours });
    };
    measure("announce", &|object| theirs.announce(object), &|object| ours.announce(object));
    measure("announce again", &|object| theirs.announce(object), &|object| ours.announce(object));
    // Each looks for what the other announced, so that nothing it remembers helps.
    measure("find peers", &|object| theirs.find("ours", object), &|object| ours.find("crate", object));
    measure("find nobody", &|object| theirs.find("nobody", object), &|object| {
        ours.find("nobody too", object)
    });
    if values {
        measure("store a value", &|object| theirs.store(object), &|object| ours.store(object));
    }
    println!("| | crate: datagrams | first | end | ours: datagrams | first | end |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for row in &rows {
        println!("| {} | {} | {} |", row.what, median(&row.crate_), median(&row.ours));
    }
    shutdown.cancel();
    runtime.block_on(running).unwrap();
}

/// The crate's client.
struct Theirs(mainline::Dht);

impl Theirs {
    fn announce(&self, object: usize) -> Cost {
        cost(|| {
            self.0.announce_peer(id("crate", object), Some(1)).unwrap();
            None
        })
    }

    fn find(&self, whose: &str, object: usize) -> Cost {
        cost(|| {
            let (began, mut first) = (Instant::now(), None);
            for _peers in self.0.get_peers(id(whose, object)) {
                first.get_or_insert_with(|| began.elapsed());
            }
            first
        })
    }

    fn store(&self, object: usize) -> Cost {
        cost(|| {
            let key = SigningKey::from_bytes(Sha256::of(format!("crate {object}").as_bytes()).as_bytes());
            self.0.put_mutable(MutableItem::new(key, b"a piece list", 1, None), None).unwrap();
            None
        })
    }
}

/// Our node.
struct Ours<'a> {
    dht: Dht,
    runtime: &'a tokio::runtime::Runtime,
}

impl Ours<'_> {
    fn announce(&self, object: usize) -> Cost {
        cost(|| {
            let announce = self.dht.announce(InfoHash::new(id("ours", object).into()), 2);
            let ended = self.runtime.block_on(announce).unwrap();
            assert!(ended.stored > 0, "{ended:?}");
            None
        })
    }

    fn find(&self, whose: &str, object: usize) -> Cost {
        cost(|| {
            let (began, mut first) = (Instant::now(), None);
            let mut found = self.dht.find_peers(InfoHash::new(id(whose, object).into())).unwrap();
            while self.runtime.block_on(found.recv()).is_some() {
                first.get_or_insert_with(|| began.elapsed());
            }
            first
        })
    }

    fn store(&self, object: usize) -> Cost {
        cost(|| {
            let ended = self.runtime.block_on(self.dht.store(item(object))).unwrap();
            assert!(ended.stored > 0, "{ended:?}");
            None
        })
    }
}

/// Nodes of ours, and the way in; each enters by the first.
async fn network_of_ours(nodes: usize, shutdown: &CancellationToken) -> (Vec<String>, JoinSet<()>) {
    let mut running = JoinSet::new();
    let mut bootstrap = Vec::new();
    let mut all = Vec::new();
    for _ in 0..nodes {
        let (dht, driver, address) = node_at(bootstrap.clone()).await;
        running.spawn(driver.run(shutdown.clone()));
        if bootstrap.is_empty() {
            bootstrap.push(address);
        } else {
            all.push(dht);
        }
    }
    for dht in all {
        assert!(dht.ready(Duration::from_secs(60)).await);
    }
    quiet().await;
    (bootstrap, running)
}

async fn node(bootstrap: Vec<String>) -> (Dht, Driver) {
    let (dht, driver, _) = node_at(bootstrap).await;
    (dht, driver)
}

async fn node_at(bootstrap: Vec<String>) -> (Dht, Driver, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (dht, driver) = Dht::new(DhtConfig {
        sockets: vec![socket],
        bootstrap: Names::new(bootstrap),
        state: None,
        read_only: false,
        allow_local: true,
        background_rate: 10_000,
        limits: Limits::daemon(),
        publishers: Vec::new(),
        swarm: aptpeer::wire::Swarm::PUBLIC,
        metrics: Metrics::new(Instant::now()),
    })
    .unwrap();
    (dht, driver, address)
}

/// Waits until nothing much is being said: a new node's own neighbourhood is no cost of what is measured.
async fn quiet() {
    let quiet = async {
        let mut last = datagrams();
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = datagrams();
            if now - last < 20 {
                return;
            }
            last = now;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), quiet).await.is_err() {
        println!("(the network did not become quiet)");
    }
}

fn id(whose: &str, object: usize) -> Id {
    let digest = Sha256::of(format!("{whose} {object}").as_bytes());
    Id::from_bytes(&digest.as_bytes()[..20]).unwrap()
}

fn item(object: usize) -> OwnedItem {
    let signer = Signer::from_seed(Sha256::of(format!("ours {object}").as_bytes()).as_bytes()).unwrap();
    signer.sign(b"12:a piece list", b"", 1).unwrap()
}

fn cost(work: impl FnOnce() -> Option<Duration>) -> Cost {
    let (before, began) = (datagrams(), Instant::now());
    let first = work();
    let end = began.elapsed();
    // Answers to what was asked last are still on their way.
    std::thread::sleep(Duration::from_millis(100));
    Cost { datagrams: datagrams() - before, first, end }
}

/// Datagrams that were sent on this machine so far.
fn datagrams() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "OutDatagrams").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

fn median(costs: &[Cost]) -> String {
    let middle = |mut values: Vec<u128>| {
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    let time =
        |value: Option<u128>| value.map_or("-".to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1e3));
    let datagrams = middle(costs.iter().map(|cost| u128::from(cost.datagrams)).collect()).unwrap_or(0);
    let first = middle(costs.iter().filter_map(|cost| Some(cost.first?.as_micros())).collect());
    let end = middle(costs.iter().map(|cost| cost.end.as_micros()).collect());
    format!("{datagrams} | {} | {}", time(first), time(end))
}
