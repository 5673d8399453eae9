//! What the tests of this folder share: a repository with one package, a mirror and peers on hosts of their own, and a
//! host on which apt asks its daemon.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Wire, get};
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::namespaces::NOT_ALLOWED;
use crate::support::repository::{Package, Repository, native};
use crate::support::switch::{Host, Placed, Switch};

/// What a wire of a peer lets through, in bytes a second, headers not counted.
pub(crate) const RATE: u64 = 8_000_000;

/// Held while something is measured.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A switch, or a word why there is none.
pub(crate) fn switch() -> Option<Switch> {
    let switch = Switch::new();
    if switch.is_none() {
        println!("{NOT_ALLOWED}");
    }
    switch
}

/// A repository with packages of about this length.
pub(crate) fn repository(packages: &[&str], length: usize) -> Repository {
    Repository::with(&packages.iter().map(|name| Package::new(name, "1.0", length)).collect::<Vec<_>>())
}

/// The repository's mirror on that host. Packages come from it at this rate, in bytes a second, where there is one.
pub(crate) fn mirror<'a>(host: &'a Host, repository: &Repository, rate: Option<u64>) -> Placed<'a, Mirror> {
    let mirror = host.place(|| Mirror::start_on(host.ip(), &repository.root()));
    if let Some(rate) = rate {
        mirror.script(Rule::new("*/pool/*", Fault::Rate(rate)));
    }
    mirror
}

/// A daemon on that host that has the packages and gives them to its peers.
pub(crate) fn holder<'a>(host: &'a Host, repository: &Repository) -> Placed<'a, Daemon> {
    host.place(|| {
        let listen = format!("[network]\nlisten = [\"{}:0\"]\n", host.ip());
        let daemon = Setup::new().with(&listen).start();
        let mut import = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
        import.arg("--config").arg(daemon.config()).args(["seed", "import"]);
        import.args(repository.built().iter().map(|built| path(repository, &built.filename)));
        let output = import.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        daemon
    })
}

fn path(repository: &Repository, filename: &str) -> std::path::PathBuf {
    let root: &Path = &repository.root();
    root.join("debian").join(filename)
}

/// A daemon on that host that knows these peers, has read the repository's indexes and holds nothing.
pub(crate) fn client<'a>(host: &'a Host, mirror: &Mirror, peers: &[SocketAddr]) -> Placed<'a, Daemon> {
    let setup = peers.iter().fold(Setup::new(), |setup, peer| setup.peer(*peer));
    host.place(|| {
        let daemon = setup.start();
        let packages = format!("main/binary-{}/Packages.xz", native());
        for file in ["InRelease", &packages] {
            fetch(daemon.proxy(), &format!("{}/debian/dists/test/{file}", mirror.url()), |_| {});
        }
        daemon
    })
}

/// An answer, and how long it took.
pub(crate) struct Fetched {
    pub(crate) digest: Sha256,
    pub(crate) length: u64,
    /// To the first byte of the body.
    pub(crate) first: Duration,
    /// To the last one.
    pub(crate) whole: Duration,
}

/// How much is read at once.
const STEP: usize = 1 << 20;

/// Asks `server` for `url`, as apt asks a proxy or a mirror. `meanwhile` hears how many bytes have come, every megabyte.
#[track_caller]
pub(crate) fn fetch(server: SocketAddr, url: &str, mut meanwhile: impl FnMut(usize)) -> Fetched {
    let began = Instant::now();
    let (mut wire, length) = ask(server, url);
    let mut body = wire.bytes(length.min(1)).unwrap();
    let first = began.elapsed();
    while body.len() < length {
        body.extend(wire.bytes((length - body.len()).min(STEP)).unwrap());
        meanwhile(body.len());
    }
    let whole = began.elapsed();
    Fetched { digest: Sha256::of(&body), length: length as u64, first, whole }
}

/// How long it takes to the first byte; the rest is not wanted.
#[track_caller]
pub(crate) fn first_byte(server: SocketAddr, url: &str) -> Duration {
    let began = Instant::now();
    let (mut wire, _) = ask(server, url);
    wire.bytes(1).unwrap();
    began.elapsed()
}

#[track_caller]
fn ask(server: SocketAddr, url: &str) -> (Wire, usize) {
    let mut wire = Wire::connect(server);
    wire.ask("GET", url, &[("Connection", "close")]);
    let head = wire.head().unwrap();
    assert_eq!(head.status, 200, "{}", head.head);
    (wire, head.header("content-length").unwrap().parse().unwrap())
}

/// Where the mirror has a package.
pub(crate) fn url(mirror: &Mirror, repository: &Repository, name: &str) -> String {
    format!("{}/debian/{}", mirror.url(), repository.package(name).filename)
}

/// Fetches a package through the daemon, whole and right.
#[track_caller]
pub(crate) fn download(
    daemon: &mut Placed<'_, Daemon>,
    mirror: &Mirror,
    repository: &Repository,
    name: &str,
    meanwhile: impl FnMut(usize) + Send,
) -> Fetched {
    let url = url(mirror, repository, name);
    let fetched = daemon.on(|daemon| fetch(daemon.proxy(), &url, meanwhile));
    assert_eq!(fetched.digest, repository.package(name).sha256, "wrong bytes");
    fetched
}

/// What the daemon knows of a peer: its row in `/peers`.
pub(crate) fn peer(daemon: &mut Placed<'_, Daemon>, ip: IpAddr) -> serde_json::Value {
    let document = daemon.on(|daemon| get(daemon.status(), "/peers").text());
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let of = |row: &&serde_json::Value| {
        row["address"]
            .as_str()
            .and_then(|address| address.parse().ok())
            .map(|address: SocketAddr| address.ip())
            == Some(ip)
    };
    document["peers"].as_array().unwrap().iter().find(of).cloned().unwrap_or_default()
}

/// How many bytes a daemon got from a peer.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn got_from(daemon: &mut Placed<'_, Daemon>, host: &Host) -> f64 {
    peer(daemon, host.ip())["bytes_received"].as_u64().unwrap_or(0) as f64
}

/// The faults that a daemon's log charges peers with, each with its peer.
pub(crate) fn faults(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let told = |line: serde_json::Value| match line["fields"]["message"].as_str()? {
        "peer faulted" => Some(format!("{} {}", line["fields"]["fault"], line["fields"]["peer"])),
        "peer is late" => Some(format!("late {}", line["fields"]["peer"])),
        _ => None,
    };
    lines.filter_map(told).collect()
}

/// The middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
