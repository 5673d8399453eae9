//! What the tests of this folder share: a repository, a daemon's snapshot, and a client that listens to its events.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::http::{self, Wire};
use crate::support::mirror::Mirror;
use crate::support::repository::{Package, Repository, native};
use crate::support::wait_for;

/// What has not come by then never will, on a busy machine either.
const LIMIT: Duration = Duration::from_secs(60);

/// Packages of one piece and of three.
pub(crate) fn repository() -> Repository {
    Repository::with(&[
        Package::new("one", "1.0", 300_000).all(),
        Package::new("three", "1.0", 9_000_000).all(),
    ])
}

/// Lets a daemon read the repository's indexes, as apt's update would.
pub(crate) fn learn(proxy: SocketAddr, mirror: &Mirror) {
    let packages = format!("main/binary-{}/Packages.xz", native());
    for file in ["InRelease", &packages] {
        let answer = http::get(proxy, &format!("{}/debian/dists/test/{file}", mirror.url()));
        assert_eq!(answer.status, 200, "{file}: {}", answer.text());
    }
}

/// Where the mirror has a package.
pub(crate) fn url(mirror: &Mirror, repository: &Repository, name: &str) -> String {
    format!("{}/debian/{}", mirror.url(), repository.package(name).filename)
}

/// Fetches a package through a daemon, whole.
#[track_caller]
pub(crate) fn fetch(daemon: &Daemon, mirror: &Mirror, repository: &Repository, name: &str) {
    let answer = http::get(daemon.proxy(), &url(mirror, repository, name));
    assert!(answer.status == 200 && answer.body == repository.bytes(name), "{}", answer.head);
}

/// `/snapshot`.
pub(crate) fn snapshot(daemon: &Daemon) -> Value {
    let answer = http::get(daemon.status(), "/snapshot");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// Waits until the snapshot is as wanted.
#[track_caller]
pub(crate) fn wait_until(daemon: &Daemon, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = wait_for(LIMIT, || Some(snapshot(daemon)).filter(&wanted));
    found.unwrap_or_else(|| panic!("it stays as it is: {:#}", snapshot(daemon)))
}

/// One who listens to `/events`.
pub(crate) struct Ear(Wire);

impl Ear {
    /// Begins to listen; the status where one may not.
    pub(crate) fn open(address: SocketAddr) -> Result<Self, u16> {
        let mut wire = Wire::connect(address);
        wire.ask("GET", "/events", &[]);
        let head = wire.head().unwrap();
        if head.status != 200 {
            return Err(head.status);
        }
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        Ok(Self(wire))
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            text += &String::from_utf8(self.chunk()?).unwrap();
        }
        Some(serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap())
    }

    /// RFC 9112, section 7.1.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            line.push(char::from(self.0.bytes(1).ok()?[0]));
        }
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let bytes = self.0.bytes(size + 2).ok()?;
        (size > 0).then(|| bytes[..size].to_vec())
    }
}
