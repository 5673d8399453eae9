//! The limits of `transfer`: how fast, and how much for whom.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::server::Holder;
use crate::support::daemon::Setup;
use crate::support::http::Wire;

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
