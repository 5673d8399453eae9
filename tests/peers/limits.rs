//! The limits of `transfer`: how fast, and how much for whom.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::server::{Holder, connect_from};
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::Wire;
use crate::support::mirror::Mirror;
use crate::support::peers::Peer;
use crate::world::{self, faults_in, fetch, learn, objects, slices, url};

/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(5);

/// How far a measured rate may be from the limit.
const WITHIN: f64 = 0.15;

/// The bytes a second that come in answer to a request for `target`, from the answer's head on. It must not end.
fn rate(address: SocketAddr, target: &str) -> f64 {
    let mut wire = Wire::connect(address);
    wire.ask("GET", target, &[]);
    assert_eq!(wire.head().unwrap().status, 200);
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < MEASURED {
        count += wire.bytes(1_000).unwrap().len();
    }
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / started.elapsed().as_secs_f64()
}

#[track_caller]
fn check_rate(measured: f64, limit: f64) {
    println!("{measured:.0} bytes a second, the limit is {limit}");
    assert!((measured / limit - 1.0).abs() < WITHIN, "{measured} instead of {limit}");
}

#[test]
fn uploads_are_as_fast_as_their_limit_and_share_it_evenly() {
    let holder = Holder::with(Setup::new().with("[transfer]\nmax_upload_rate = \"1MB/s\"\n"), 40_000_000);
    let rates = std::thread::scope(|scope| {
        let client = || rate(holder.address(), &holder.target());
        [scope.spawn(client), scope.spawn(client)].map(|client| client.join().unwrap())
    });
    check_rate(rates[0], 500e3);
    check_rate(rates[1], 500e3);
    check_rate(rates[0] + rates[1], 1e6);
}

#[test]
fn a_very_small_limit_lets_an_upload_through_bit_by_bit() {
    let holder = Holder::with(Setup::new().with("[transfer]\nmax_upload_rate = \"10KB/s\"\n"), 300_000);
    let mut wire = Wire::connect(holder.address());
    // A client of ours gives up a peer of which nothing comes for so long.
    wire.patience(Duration::from_secs(3));
    wire.ask("GET", &holder.target(), &[("Range", "bytes=0-39999")]);
    let started = Instant::now();
    let response = wire.response().unwrap();
    assert!(response.body == holder.object[..40_000]);
    let took = started.elapsed();
    assert!(took > Duration::from_secs(3), "{took:?}");
    // What is no object is no upload.
    let started = Instant::now();
    for _ in 0..100 {
        holder.ask("HEAD", &[]);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

fn limited(rate: &str) -> Setup {
    Setup::new().with(&format!("[transfer]\nmax_download_rate = \"{rate}\"\n"))
}

/// Nobody was slow who waited for us.
#[track_caller]
fn check_innocence(daemon: &Daemon) {
    assert_eq!(faults_in(&daemon.log()), [""; 0]);
}

#[test]
fn downloads_are_as_fast_as_their_limit_and_share_it_evenly() {
    let repository = world::repository();
    let mirror = Mirror::start(&repository.root());
    let daemon = limited("1MB/s").start();
    learn(daemon.proxy(), &mirror);
    // One is kept and shared, the other handed through: no index names it.
    let named = url(&mirror, &repository, "twelve");
    let unnamed = format!("{}/unknown.deb", mirror.url());
    std::fs::write(repository.root().join("unknown.deb"), crate::support::noise(3, 20_000_000)).unwrap();
    let rates = std::thread::scope(|scope| {
        let proxy = daemon.proxy();
        let client = |url: String| scope.spawn(move || rate(proxy, &url));
        [client(named), client(unnamed)].map(|client| client.join().unwrap())
    });
    check_rate(rates[0] + rates[1], 1e6);
    check_rate(rates[0], 500e3);
}

#[test]
fn peers_at_our_limit_are_neither_slow_nor_helped_by_the_mirror() {
    let repository = world::repository();
    let objects = objects(&repository);
    let (one, other) = (Peer::honest(&slices(&objects)), Peer::honest(&slices(&objects)));
    let mirror = Mirror::start(&repository.root());
    let daemon = limited("2MB/s").peer(one.address()).peer(other.address()).start();
    learn(daemon.proxy(), &mirror);
    let fetched = fetch(daemon.proxy(), &url(&mirror, &repository, "three"), &[]);
    assert!(fetched.body == objects[1]);
    #[allow(clippy::cast_precision_loss)]
    let rate = objects[1].len() as f64 / fetched.took.as_secs_f64();
    check_rate(rate, 2e6);
    // It is asked for the first bytes, and left alone when peers turn out to wait for us.
    assert!(mirror.bytes("*.deb") < objects[1].len() as u64 / 2, "{}", mirror.bytes("*.deb"));
    check_innocence(&daemon);
}

#[test]
fn apt_hears_of_a_file_within_its_patience_however_small_the_limit() {
    let repository = world::repository();
    let objects = objects(&repository);
    let peer = Peer::honest(&slices(&objects));
    let mirror = Mirror::start(&repository.root());
    let daemon = limited("20KB/s").peer(peer.address()).start();
    learn(daemon.proxy(), &mirror);
    let mut wire = Wire::connect(daemon.proxy());
    wire.patience(Duration::from_secs(20));
    wire.ask("GET", &url(&mirror, &repository, "twelve"), &[]);
    assert_eq!(wire.head().unwrap().status, 200);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(12) {
        wire.patience(Duration::from_secs(5));
        wire.bytes(1_000).unwrap();
    }
    check_innocence(&daemon);
}

#[test]
fn one_address_cannot_take_all_upload_slots() {
    let holder = Holder::with(Setup::new().with("[transfer]\nmax_concurrent_uploads = 10\n"), 48_000_000);
    let ask = |from: [u8; 4]| {
        let mut wire = Wire::over(connect_from(from.into(), holder.address()));
        wire.ask("GET", &holder.target(), &[]);
        let head = wire.head().unwrap();
        if head.status != 200 {
            assert_eq!((head.status, head.header("retry-after").is_some()), (503, true), "{}", head.head);
            return None;
        }
        Some(wire)
    };
    let greedy: Vec<Wire> = (0..20).filter_map(|_| ask([127, 0, 0, 2])).collect();
    assert_eq!(greedy.len(), 8, "of 10 slots");
    let (one, other) = (ask([127, 0, 0, 3]), ask([127, 0, 0, 4]));
    assert!(one.is_some() && other.is_some(), "two were left for others");
    assert!(ask([127, 0, 0, 5]).is_none() && ask([127, 0, 0, 2]).is_none(), "more than there are");
    drop(greedy);
    let freed = crate::support::wait_for(Duration::from_secs(10), || ask([127, 0, 0, 5]));
    assert!(freed.is_some(), "the slots of whoever hung up are not given back");
}
