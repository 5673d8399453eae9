//! What the tests of this folder share.

use std::path::Path;
use std::process::{Command, Output};

use aptpeer::digest::Sha256;

use crate::support::daemon::Daemon;
use crate::support::http::Wire;
use crate::support::mirror::Mirror;
use crate::support::repository::{Repository, native};

/// Runs a command of the program to its end.
pub(crate) fn aptpeer(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("APTPEER_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().unwrap()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Gives a daemon an object to offer.
pub(crate) fn seed(daemon: &Daemon, bytes: &[u8], more: &[&str]) -> Sha256 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, bytes).unwrap();
    let config = daemon.config();
    let arguments = [&["--config", path(&config), "seed", "import"], more, &[path(&file)]].concat();
    let imported = aptpeer(&arguments);
    assert!(imported.status.success(), "{imported:?}");
    Sha256::of(bytes)
}

/// What the catalog says of an object of a daemon.
pub(crate) fn entry(daemon: &Daemon, object: Sha256) -> serde_json::Value {
    let listed = aptpeer(&["--config", path(&daemon.config()), "cache", "list", "--json"]);
    let list: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let found = list.into_iter().find(|entry| entry["sha256"] == object.to_string());
    found.unwrap_or(serde_json::Value::Null)
}

/// Fetches a file of the repository through a daemon.
#[track_caller]
pub(crate) fn fetch(daemon: &Daemon, mirror: &Mirror, path: &str) -> Vec<u8> {
    let mut wire = Wire::connect(daemon.proxy());
    wire.ask("GET", &format!("{}/debian/{path}", mirror.url()), &[("Connection", "close")]);
    let head = wire.head().unwrap();
    assert_eq!(head.status, 200, "{path}: {}", head.head);
    let body = wire.rest().unwrap();
    assert_eq!(head.header("content-length"), Some(&*body.len().to_string()), "it ended early");
    body
}

/// Lets a daemon read the repository's indexes, as apt's update would.
pub(crate) fn learn(daemon: &Daemon, mirror: &Mirror) {
    fetch(daemon, mirror, "dists/test/InRelease");
    fetch(daemon, mirror, &format!("dists/test/main/binary-{}/Packages.xz", native()));
}

/// Fetches a package through a daemon; its digest.
#[track_caller]
pub(crate) fn install(daemon: &Daemon, mirror: &Mirror, repository: &Repository, name: &str) -> Sha256 {
    let bytes = repository.bytes(name);
    assert!(fetch(daemon, mirror, &repository.package(name).filename) == bytes);
    Sha256::of(&bytes)
}
