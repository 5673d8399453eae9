//! What the tests of this folder share: a repository of two packages, and a look at one series.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Response, Wire};
use crate::support::mirror::Mirror;
use crate::support::repository::{Package, Repository, native};
use crate::support::wait_for;

/// What is not counted by then never is.
const LIMIT: Duration = Duration::from_secs(60);

/// Peers come before the mirror, so that what they give shows.
pub(crate) const PATIENT: &str = "[transfer]\nprefer = \"offload\"\n";

/// A repository with `one` of one piece and `three` of three, shared by the tests that run at the same time.
pub(crate) fn repository() -> Arc<Repository> {
    static SHARED: Mutex<Weak<Repository>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(repository) = shared.upgrade() {
        return repository;
    }
    let package = |name: &str, payload| Package::new(name, "1.0", payload).all();
    let repository = Arc::new(Repository::with(&[package("one", 1_500_000), package("three", 9_000_000)]));
    *shared = Arc::downgrade(&repository);
    repository
}

/// A daemon that trusts the repository's key.
pub(crate) fn node(repository: &Repository) -> Setup {
    Setup::new().with(&format!("[mirrors]\nkeyrings = [\"{}\"]\n", repository.keyring().display()))
}

/// The value of a series, with its labels as they are written at `/metrics`.
#[track_caller]
pub(crate) fn metric(daemon: &Daemon, series: &str) -> u64 {
    let text = daemon.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

/// Waits until a series has this value or more.
#[track_caller]
pub(crate) fn wait_for_metric(daemon: &Daemon, series: &str, least: u64) {
    let found = wait_for(LIMIT, || (metric(daemon, series) >= least).then_some(()));
    assert!(found.is_some(), "{series} is {}, never {least}", metric(daemon, series));
}

/// Waits until a series is 0 again.
#[track_caller]
pub(crate) fn wait_for_none(daemon: &Daemon, series: &str) {
    let found = wait_for(LIMIT, || (metric(daemon, series) == 0).then_some(()));
    assert!(found.is_some(), "{series} is {}, never 0 again", metric(daemon, series));
}

/// Asks for `url` through the daemon, and takes what comes: the head, and as much of the body as there is.
pub(crate) fn fetch(daemon: &Daemon, url: &str) -> (Response, Vec<u8>) {
    let mut wire = Wire::connect(daemon.proxy());
    wire.ask("GET", url, &[("Connection", "close")]);
    let head = wire.head().unwrap();
    // A body that breaks off is part of some of these tests.
    let body = wire.rest().unwrap_or_default();
    (head, body)
}

/// The same where all of it is to come.
#[track_caller]
pub(crate) fn fetch_whole(daemon: &Daemon, url: &str) -> Vec<u8> {
    let (head, body) = fetch(daemon, url);
    assert_eq!(head.status, 200, "{}", head.head);
    assert_eq!(head.header("content-length"), Some(&*body.len().to_string()), "it ended early");
    body
}

/// Lets a daemon read the repository's indexes, as apt's update would.
pub(crate) fn learn(daemon: &Daemon, mirror: &Mirror) {
    for file in ["InRelease".to_owned(), format!("main/binary-{}/Packages.xz", native())] {
        fetch_whole(daemon, &format!("{}/debian/dists/test/{file}", mirror.url()));
    }
}

/// Where the mirror has a package.
pub(crate) fn url(mirror: &Mirror, repository: &Repository, name: &str) -> String {
    format!("{}/debian/{}", mirror.url(), repository.package(name).filename)
}
