//! What the tests of this folder share: a repository whose packages have one, three and twelve pieces, and a client
//! that keeps what it got, however it ended.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use aptpeer::pieces::Geometry;

use crate::support::http::{Response, Wire};
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::repository::{Package, Repository, native};

/// The packages, smallest first.
pub(crate) const PACKAGES: [&str; 3] = ["one", "three", "twelve"];

/// A repository, shared by the tests that run at the same time and gone with the last of them.
pub(crate) fn repository() -> Arc<Repository> {
    static SHARED: Mutex<Weak<Repository>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(repository) = shared.upgrade() {
        return repository;
    }
    let package = |name: &str, payload| Package::new(name, "1.0+b1", payload).all();
    let packages = [package("one", 1_500_000), package("three", 9_000_000), package("twelve", 48_000_000)];
    let repository = Arc::new(Repository::with(&packages));
    let pieces = PACKAGES.map(|name| Geometry::new(repository.package(name).size).unwrap().pieces());
    assert_eq!(pieces, [1, 3, 12]);
    *shared = Arc::downgrade(&repository);
    repository
}

/// The bytes of each of the packages.
pub(crate) fn objects(repository: &Repository) -> Vec<Vec<u8>> {
    PACKAGES.iter().map(|name| repository.bytes(name)).collect()
}

/// The same as what peers are made of.
pub(crate) fn slices(objects: &[Vec<u8>]) -> Vec<&[u8]> {
    objects.iter().map(Vec::as_slice).collect()
}

/// An answer as far as it came.
pub(crate) struct Fetched {
    pub(crate) head: Response,
    /// What came before the connection was closed.
    pub(crate) body: Vec<u8>,
    pub(crate) took: Duration,
}

impl Fetched {
    /// Whether as much came as the head promised.
    pub(crate) fn is_whole(&self) -> bool {
        self.head.header("content-length") == Some(&self.body.len().to_string())
    }
}

/// Asks for `url` through the proxy at `proxy`, and takes what comes.
pub(crate) fn fetch(proxy: SocketAddr, url: &str, headers: &[(&str, &str)]) -> Fetched {
    let started = Instant::now();
    let mut wire = Wire::connect(proxy);
    wire.ask("GET", url, &[headers, &[("Connection", "close")]].concat());
    let head = wire.head().unwrap();
    let body = wire.rest().unwrap();
    Fetched { head, body, took: started.elapsed() }
}

/// Lets a daemon read the repository's indexes, as apt's update would.
pub(crate) fn learn(proxy: SocketAddr, mirror: &Mirror) {
    let packages = format!("main/binary-{}/Packages.xz", native());
    for file in ["InRelease", &packages] {
        let fetched = fetch(proxy, &format!("{}/debian/dists/test/{file}", mirror.url()), &[]);
        assert!(fetched.head.status == 200 && fetched.is_whole(), "{file}: {}", fetched.head.head);
    }
}

/// Lets packages come from the mirror a while after they were asked for. It is asked for the first bytes of large ones at once,
/// and could give everything before peers have shown what they are.
pub(crate) fn give_peers_time(mirror: &Mirror) {
    mirror.script(Rule::new("*.deb", Fault::Latency(Duration::from_millis(1500))));
}

/// Where the mirror has a package.
pub(crate) fn url(mirror: &Mirror, repository: &Repository, name: &str) -> String {
    format!("{}/debian/{}", mirror.url(), repository.package(name).filename)
}

/// The value of a series of `/metrics`, with its labels as they are written there.
#[track_caller]
pub(crate) fn metric(text: &str, series: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

/// How often bytes of peers, or their lists, were found wrong.
pub(crate) fn lies_noticed(metrics: &str) -> u64 {
    let reason =
        |reason| metric(metrics, &format!("aptpeer_verification_failures_total{{reason=\"{reason}\"}}"));
    reason("piece") + reason("piece_list")
}

/// The faults that a log in JSON charges peers with; `late` is one for us.
pub(crate) fn faults_in(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let name = |line: serde_json::Value| match line["fields"]["message"].as_str()? {
        "peer faulted" => line["fields"]["fault"].as_str().map(str::to_owned),
        "peer is late" => Some("late".to_owned()),
        "a peer is busy" => Some("busy".to_owned()),
        _ => None,
    };
    lines.filter_map(name).collect()
}
