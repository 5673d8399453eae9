//! Peers that meet by the archives they use and tell each other what they hold: real daemons, real datagrams, a real apt.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod liars;
mod port;
mod tracker;
mod upgrade;

use std::time::Duration;

use aptpeer::digest::Sha256;
use support::daemon::{Daemon, Setup};
use support::mirror::Mirror;
use support::repository::{Package, Repository};
use support::{apt::Apt, wait_for};

/// What happens by itself within this time, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Peers come before the mirror, so that what they give shows in the figures.
const PATIENT: &str = "[transfer]\nprefer = \"offload\"\n";

/// A repository of so many small packages.
fn packages(count: usize) -> Repository {
    let package =
        |number: usize| Package::new(&format!("small{number}"), "1.0", 2_000 + 1_500 * number % 90_000);
    Repository::with(&(0..count).map(package).collect::<Vec<_>>())
}

/// The name of the archive that the repository of a test is.
fn archive() -> Sha256 {
    aptpeer::wire::archive_name("test", "test")
}

/// A daemon that trusts the repository's key and enters the DHT by `tracker`.
fn node(repository: &Repository, tracker: &tracker::Tracker) -> Setup {
    let keyring = format!("[mirrors]\nkeyrings = [\"{}\"]", repository.keyring().display());
    Setup::new().with(&keyring).dht(&[tracker.address()])
}

fn through(daemon: &Daemon, mirror: &Mirror, repository: &Repository) -> Apt {
    Apt::new().proxy(daemon.proxy()).one_line(&mirror.url(), repository)
}

fn names(repository: &Repository) -> Vec<&str> {
    repository.built().iter().map(|built| &*built.package.name).collect()
}

/// apt downloads everything, without a word of complaint, and it is what it should be.
#[track_caller]
fn install(apt: &Apt, repository: &Repository) {
    apt.install(&names(repository)).succeeded();
    let archives: Vec<_> = apt.archives().into_iter().map(|(_, digest)| digest).collect();
    assert!(repository.built().iter().all(|built| archives.contains(&built.sha256)));
}

/// Waits until the daemon has been told so many have-sets.
#[track_caller]
fn wait_for_sets(daemon: &Daemon, count: usize) {
    let told = || daemon.log().matches("a neighbour told what it holds").count();
    assert!(wait_for(SOON, || (told() >= count).then_some(())).is_some(), "only {} sets came", told());
}

/// The value of a series of `/metrics`.
#[track_caller]
fn metric(daemon: &Daemon, series: &str) -> u64 {
    let text = daemon.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
}
