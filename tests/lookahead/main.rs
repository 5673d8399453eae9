//! Looking ahead: real daemons, real datagrams, a real apt, and a status file such as dpkg has.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../neighbours/tracker.rs"]
mod tracker;

mod data;
mod sources;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use support::daemon::{Daemon, Setup};
use support::http::Wire;
use support::mirror::Mirror;
use support::repository::{Package, Repository, native};
use support::wait_for;

/// What happens by itself within this time, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A package of which the repository has version 2.
fn package(name: &str, length: usize) -> Package {
    Package::new(name, "2", length)
}

/// dpkg's folder: what is installed, as name, version and what is wanted of it.
struct Dpkg(tempfile::TempDir);

impl Dpkg {
    fn new(installed: &[(&str, &str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("dpkg").tempdir().unwrap();
        let mut status = String::new();
        for (name, version, wanted) in installed {
            writeln!(
                status,
                "Package: {name}\nStatus: {wanted} ok installed\nArchitecture: {}\nVersion: {version}\n",
                native()
            )
            .unwrap();
        }
        std::fs::write(folder.path().join("status"), status).unwrap();
        Self(folder)
    }

    /// A daemon of this machine that looks ahead as `prefetch` says.
    fn node(&self, repository: &Repository, prefetch: &str) -> Setup {
        let keyring = format!("[mirrors]\nkeyrings = [\"{}\"]", repository.keyring().display());
        let how = format!("[transfer]\nprefer = \"offload\"\nprefetch = \"{prefetch}\"\n");
        let folder = self.0.path().to_str().unwrap();
        Setup::new().with(&keyring).with(&how).environment("DPKG_ADMINDIR", folder)
    }
}

/// Asks for `url` through the proxy at `proxy` and gives the body.
#[track_caller]
fn fetch(proxy: SocketAddr, url: &str) -> Vec<u8> {
    let mut wire = Wire::connect(proxy);
    wire.ask("GET", url, &[("Connection", "close")]);
    let head = wire.head().unwrap();
    assert_eq!(head.status, 200, "{}", head.head);
    let body = wire.rest().unwrap();
    assert_eq!(head.header("content-length"), Some(&*body.len().to_string()), "it ended early");
    body
}

/// Lets a daemon read the repository's indexes, as apt's update would.
#[track_caller]
fn update(daemon: &Daemon, mirror: &Mirror) {
    let packages = format!("main/binary-{}/Packages.xz", native());
    for file in ["InRelease", &packages] {
        fetch(daemon.proxy(), &format!("{}/debian/dists/test/{file}", mirror.url()));
    }
}

/// Fetches a package as apt would.
#[track_caller]
fn upgrade(daemon: &Daemon, mirror: &Mirror, repository: &Repository, name: &str) {
    let url = format!("{}/debian/{}", mirror.url(), repository.package(name).filename);
    assert_eq!(fetch(daemon.proxy(), &url), repository.bytes(name));
}

/// Waits until the log has `text` so many times.
#[track_caller]
fn wait_for_log(daemon: &Daemon, text: &str, times: usize) {
    let found = wait_for(SOON, || (daemon.log().matches(text).count() >= times).then_some(()));
    assert!(found.is_some(), "{text:?} did not come {times} times:\n{}", daemon.log());
}
