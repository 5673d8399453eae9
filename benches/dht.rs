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
use aptpeer::discovery::{Dht, DhtConfig, Names};
use aptpeer::metrics::Metrics;
use mainline::{Id, MutableItem, SigningKey, Testnet};
use tokio::net::UdpSocket;
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
    let nodes = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(200);
    let network = Testnet::builder(nodes).build().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let theirs = mainline::Dht::builder().bootstrap(&network.bootstrap[..4]).build().unwrap();
    assert!(theirs.bootstrapped(), "the crate's client found no way in");
    let shutdown = CancellationToken::new();
    let (ours, running) = runtime.block_on(start(&network.bootstrap[..4], shutdown.clone()));

    let mut rows = Vec::new();
    let mut measure = |what,
                       mut crate_: Box<dyn FnMut(usize) -> Cost + '_>,
                       mut ours: Box<dyn FnMut(usize) -> Cost + '_>| {
        let mut row = Row { what, crate_: Vec::new(), ours: Vec::new() };
        for object in 0..OBJECTS {
            row.crate_.push(crate_(object));
            row.ours.push(ours(object));
        }
        rows.push(row);
    };
    let block = &runtime;
    let (t, o) = (&theirs, &ours);
    let announce_theirs = |object| {
        cost(|| {
            t.announce_peer(id("crate", object), Some(1)).unwrap();
            None
        })
    };
    let announce_ours = |object| {
        cost(|| {
            let ended = block.block_on(o.announce(InfoHash::new(id("ours", object).into()), 2)).unwrap();
            assert!(ended.stored > 0, "{ended:?}");
            None
        })
    };
    measure("announce", Box::new(announce_theirs), Box::new(announce_ours));
    measure("announce again", Box::new(announce_theirs), Box::new(announce_ours));
    let find_theirs = |whose: &'static str| {
        move |object| {
            cost(|| {
                let began = Instant::now();
                let mut first = None;
                for _peers in t.get_peers(id(whose, object)) {
                    first.get_or_insert_with(|| began.elapsed());
                }
                first
            })
        }
    };
    let find_ours = |whose: &'static str| {
        move |object| {
            cost(|| {
                let began = Instant::now();
                let mut found = o.find_peers(InfoHash::new(id(whose, object).into())).unwrap();
                let mut first = None;
                while block.block_on(found.recv()).is_some() {
                    first.get_or_insert_with(|| began.elapsed());
                }
                first
            })
        }
    };
    // Each looks for what the other announced, so that nothing it remembers helps.
    measure("find peers", Box::new(find_theirs("ours")), Box::new(find_ours("crate")));
    measure("find nobody", Box::new(find_theirs("nobody")), Box::new(find_ours("nobody too")));
    let put_theirs = |object| {
        cost(|| {
            let key = SigningKey::from_bytes(Sha256::of(format!("crate {object}").as_bytes()).as_bytes());
            t.put_mutable(MutableItem::new(key, b"a piece list", 1, None), None).unwrap();
            None
        })
    };
    let put_ours = |object| {
        cost(|| {
            let stored = block.block_on(o.store(item(object))).unwrap();
            assert!(stored.stored > 0, "{stored:?}");
            None
        })
    };
    measure("store a value", Box::new(put_theirs), Box::new(put_ours));

    println!("{nodes} nodes, medians of {OBJECTS}: datagrams, first finding, end\n");
    println!("| | crate | | | ours | | |\n| --- | --- | --- | --- | --- | --- | --- |");
    for row in &rows {
        println!("| {} | {} | {} |", row.what, median(&row.crate_), median(&row.ours));
    }
    shutdown.cancel();
    runtime.block_on(running).unwrap();
}

async fn start(bootstrap: &[String], shutdown: CancellationToken) -> (Dht, tokio::task::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (dht, driver) = Dht::new(DhtConfig {
        sockets: vec![socket],
        bootstrap: Names::new(bootstrap.to_vec()),
        state: None,
        read_only: false,
        allow_local: true,
        background_rate: 10_000,
        limits: Limits::daemon(),
        publishers: Vec::new(),
        metrics: Metrics::new(Instant::now()),
    })
    .unwrap();
    let running = tokio::spawn(driver.run(shutdown));
    assert!(dht.ready(Duration::from_secs(20)).await, "our node found no way in");
    // Its own neighbourhood is looked up first; that is no cost of what is measured.
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
    tokio::time::timeout(Duration::from_secs(20), quiet).await.unwrap();
    (dht, running)
}

fn id(whose: &str, object: usize) -> Id {
    let digest = Sha256::of(format!("{whose} {object}").as_bytes());
    Id::from_bytes(&digest.as_bytes()[..20]).unwrap()
}

fn item(object: usize) -> OwnedItem {
    let signer = Signer::from_seed(Sha256::of(format!("ours {object}").as_bytes()).as_bytes()).unwrap();
    signer.sign(b"12:a piece list", b"", 1).unwrap()
}

fn cost(mut work: impl FnMut() -> Option<Duration>) -> Cost {
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
