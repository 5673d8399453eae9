//! Seeding: files and pools that a person adds, copied, linked or served where they are, as peers see it.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod importing;
mod in_place;
mod reading;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aptpeer::digest::Sha256;
use aptpeer::wire::HaveSet;
use support::daemon::Daemon;
use support::http::{self, Wire};

/// What has not happened by then never will, even in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// How a command ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|_| panic!("no JSON: {}{}", self.stdout, self.stderr))
    }

    /// Numbers of the JSON document.
    #[track_caller]
    fn counts<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        let json = self.json();
        names.map(|name| json[name].as_u64().unwrap_or_else(|| panic!("no {name} in {json}")))
    }
}

fn command(config: &Path, arguments: &[&str], paths: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
    command.args(arguments).args(paths).arg("--config").arg(config).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("APTPEER_")) {
        command.env_remove(name);
    }
    command
}

fn run(config: &Path, arguments: &[&str], paths: &[&Path]) -> Ended {
    let output = command(config, arguments, paths).output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `seed import` with `--json`, beside a daemon.
fn import(daemon: &Daemon, options: &[&str], path: &Path) -> Ended {
    run(&daemon.config(), &[&["seed", "import", "--json"], options].concat(), &[path])
}

/// A configuration with a cache and a state of its own, for commands without a daemon.
fn configure(folder: &Path) -> PathBuf {
    let config = folder.join("config.toml");
    let (cache, state) = (folder.join("cache"), folder.join("state"));
    let text = format!(
        "[cache]\npath = \"{}\"\nmin_free_space = \"0\"\n[state]\npath = \"{}\"\n",
        cache.display(),
        state.display()
    );
    fs::write(&config, text).unwrap();
    config
}

/// A file of a pool.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// What a peer gets for the digest of `bytes`: the status, and the body where it came whole.
fn ask(daemon: &Daemon, bytes: &[u8]) -> (u16, Option<Vec<u8>>) {
    let mut wire = Wire::connect(daemon.peer());
    wire.ask("GET", &format!("/hash/{}", Sha256::of(bytes)), &[]);
    let head = wire.head().unwrap();
    let length = head.header("content-length").unwrap().parse().unwrap();
    (head.status, wire.bytes(length).ok())
}

/// Whether a peer gets `bytes`, and nothing else, for their digest.
#[track_caller]
fn is_served(daemon: &Daemon, bytes: &[u8]) -> bool {
    match ask(daemon, bytes) {
        (200, Some(body)) => {
            assert!(body == bytes, "other bytes under this digest");
            true
        }
        (200, None) => false,
        (status, _) => {
            assert_eq!(status, 404);
            false
        }
    }
}

fn have(daemon: &Daemon) -> HaveSet {
    HaveSet::parse(&http::get(daemon.peer(), "/have").body).unwrap()
}

/// The objects that lie in the cache itself.
fn copies(cache: &Path) -> usize {
    let Ok(shards) = fs::read_dir(cache.join("v1/objects")) else { return 0 };
    shards.map(|shard| fs::read_dir(shard.unwrap().path()).unwrap().count()).sum()
}
