//! The daemon as its users meet it: the built program between a real apt-get and mirrors that fail on demand.
//!
//! Golden rule of all of it: apt never fails, and never complains, where it would have succeeded without us.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod change;
mod crash;
mod faults;
mod peers;
mod pipeline;
mod private;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod wire;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aptpeer::digest::Sha256;
use support::apt::{Apt, Run};
use support::daemon::{Daemon, Setup};
use support::http::{self, Response};
use support::mirror::Mirror;
use support::repository::{Package, Repository};
use support::wait_for;

/// A daemon that trusts the key of `repository`.
fn trusting(repository: &Repository) -> Setup {
    Setup::new().with(&format!("[mirrors]\nkeyrings = [\"{}\"]", repository.keyring().display()))
}

/// An apt that reaches `mirror` through `daemon` as its proxy.
fn through(daemon: &Daemon, mirror: &Mirror, repository: &Repository) -> Apt {
    Apt::new().proxy(daemon.proxy()).one_line(&mirror.url(), repository)
}

/// A few small packages, quickly made.
fn few() -> Repository {
    Repository::with(&[
        Package::new("plain", "1.0", 1_000).all().flat(),
        Package::new("libgreet++1", "1:2.0+dfsg-1~deb12u1", 40_000),
        Package::new("native", "12.4+deb12u5", 300_000),
    ])
}

/// The names of all binary packages.
fn names(repository: &Repository) -> Vec<&str> {
    repository.built().iter().map(|built| &*built.package.name).collect()
}

/// The digests of the packages with these names, sorted.
fn digests(repository: &Repository, names: &[&str]) -> Vec<Sha256> {
    let mut found: Vec<_> = names.iter().map(|name| repository.package(name).sha256).collect();
    found.sort();
    found
}

/// The digests of the packages that apt has, sorted.
fn downloaded(apt: &Apt) -> Vec<Sha256> {
    let mut found: Vec<_> = apt.archives().into_iter().map(|(_, digest)| digest).collect();
    found.sort();
    found
}

/// Fails unless apt has exactly these packages, byte for byte.
#[track_caller]
fn has(apt: &Apt, repository: &Repository, names: &[&str]) {
    assert_eq!(downloaded(apt), digests(repository, names), "{:?}", apt.archives());
}

/// The path of a package below the mirror's root, spelled as apt does.
fn path_of(repository: &Repository, name: &str) -> String {
    let filename = &repository.package(name).filename;
    format!("/debian/{}", filename.replace('+', "%2b").replace('~', "%7e"))
}

/// What the daemon answers, as a proxy, to a GET of `path` at the mirror.
fn fetch(daemon: &Daemon, mirror: &Mirror, path: &str) -> Response {
    http::get(daemon.proxy(), &format!("{}{path}", mirror.url()))
}

/// The `Cache-Status` of an answer.
fn cache_status(response: &Response) -> &str {
    response.header("cache-status").unwrap_or("none")
}

/// Runs `aptpeer` with the daemon's configuration, beside it.
fn command(daemon: &Daemon, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
    let output = command.args(arguments).arg("--config").arg(daemon.config()).output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The digests of all objects in the daemon's cache, sorted.
fn cached(daemon: &Daemon) -> Vec<Sha256> {
    let run = command(daemon, &["cache", "list", "--json"]);
    assert_eq!(run.code, 0, "{run}");
    let list: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let digest = |entry: &serde_json::Value| entry["sha256"].as_str().unwrap().parse().unwrap();
    let mut found: Vec<Sha256> = list.as_array().unwrap().iter().map(digest).collect();
    found.sort();
    found
}

/// Waits until these packages are in the cache: apt has their last bytes a moment before the disk does.
#[track_caller]
fn until_cached(daemon: &Daemon, repository: &Repository, names: &[&str]) {
    let wanted = digests(repository, names);
    let kept = wait_for(Duration::from_secs(30), || {
        let cached = cached(daemon);
        wanted.iter().all(|digest| cached.contains(digest)).then_some(())
    });
    assert!(kept.is_some(), "not all of {names:?} came into the cache");
}

/// Waits until the cache holds that many objects; more are a failure.
#[track_caller]
fn until_cached_files(daemon: &Daemon, count: u64) {
    let kept = wait_for(Duration::from_secs(30), || (daemon.stat("cache_files") >= count).then_some(()));
    assert!(kept.is_some() && daemon.stat("cache_files") == count, "{}", daemon.stats());
}

/// Fails when the cache holds bytes that are not what they are called.
#[track_caller]
fn cache_is_whole(daemon: &Daemon) {
    let run = command(daemon, &["cache", "verify"]);
    assert_eq!(run.code, 0, "{run}");
}

/// Every file below `folder`, with its content.
fn files_below(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// Whether `bytes` contain `needle`.
fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}
