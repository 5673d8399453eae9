//! Fetching through a daemon, as apt does it, with an eye on the clock.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::http::Wire;
use crate::support::mirror::Mirror;
use crate::support::repository::{Repository, native};

/// An answer, and how long it took.
pub(crate) struct Fetched {
    pub(crate) body: Vec<u8>,
    /// To the first byte of the body.
    pub(crate) first: Duration,
    /// To the last one.
    pub(crate) whole: Duration,
}

/// Asks for `url` through the proxy at `proxy`. `meanwhile` happens between the first byte and the others.
#[track_caller]
pub(crate) fn fetch(proxy: SocketAddr, url: &str, meanwhile: impl FnOnce()) -> Fetched {
    let began = Instant::now();
    let mut wire = Wire::connect(proxy);
    wire.ask("GET", url, &[("Connection", "close")]);
    let head = wire.head().unwrap();
    assert_eq!(head.status, 200, "{}", head.head);
    let mut body = wire.bytes(1).unwrap();
    let first = began.elapsed();
    meanwhile();
    body.extend(wire.rest().unwrap());
    assert_eq!(head.header("content-length"), Some(&*body.len().to_string()), "it ended early");
    Fetched { body, first, whole: began.elapsed() }
}

/// Lets a daemon read the repository's indexes, as apt's update would.
pub(crate) fn learn(daemon: &Daemon, mirror: &Mirror) {
    let packages = format!("main/binary-{}/Packages.xz", native());
    for file in ["InRelease", &packages] {
        fetch(daemon.proxy(), &format!("{}/debian/dists/test/{file}", mirror.url()), || {});
    }
}

/// Where the mirror has a package.
pub(crate) fn url(mirror: &Mirror, repository: &Repository, name: &str) -> String {
    format!("{}/debian/{}", mirror.url(), repository.package(name).filename)
}

/// The value of a series of `/metrics`.
#[track_caller]
pub(crate) fn metric(daemon: &Daemon, series: &str) -> u64 {
    let text = daemon.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

/// The middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
