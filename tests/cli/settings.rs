//! Keys of the configuration whose effect no other test shows: a real daemon with the key, and one without.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{self, Response};
use crate::support::mirror::Mirror;
use crate::support::peers::{Fault, Peer};
use crate::support::repository::{Package, Repository, native};
use crate::support::server::Server;
use crate::support::wait_for;
use crate::{has_all, seeded};

/// Whatever a test waits for comes within this time, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A file of the repository through a daemon.
fn fetch(daemon: &Daemon, mirror: &Mirror, path: &str) -> Response {
    let answer = http::get(daemon.proxy(), &format!("{}/debian/{path}", mirror.url()));
    assert_eq!(answer.status, 200, "{path}: {}", answer.head);
    answer
}

/// Lets a daemon read the repository's indexes, as apt's update would.
fn learn(daemon: &Daemon, mirror: &Mirror) {
    fetch(daemon, mirror, "dists/test/InRelease");
    fetch(daemon, mirror, &format!("dists/test/main/binary-{}/Packages.xz", native()));
}

#[test]
fn every_listener_is_where_its_key_says() {
    let setup = Setup::new().with(
        "[proxy]\nlisten = \"127.0.0.2:0\"\n[status]\nlisten = \"127.0.0.3:0\"\n\
         [network]\nlisten = [\"127.0.0.4:0\", \"127.0.0.5:0\"]\n",
    );
    let daemon = setup.start();
    let addresses = daemon.addresses();
    let ips: Vec<String> = [addresses.proxy, addresses.status.unwrap()]
        .iter()
        .chain(&addresses.peers)
        .map(|address| address.ip().to_string())
        .collect();
    assert_eq!(ips, ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]);
    has_all(&http::get(addresses.proxy, "/").head, &["200"]);
    assert!(daemon.stats()["version"].is_string());
    for peer in &addresses.peers {
        has_all(&http::get(*peer, "/").text(), &["aptpeer"]);
        assert_eq!(http::get(*peer, "/stats").status, 404, "that one is for peers");
    }
}

#[test]
fn cache_and_state_are_where_their_keys_say() {
    let usual = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let repository = Repository::with(&[Package::new("one", "1", 1_000)]);
    let mirror = Mirror::start(&repository.root());
    let cache = elsewhere.path().join("cache");
    let setup = Setup::new()
        .environment("CACHE_DIRECTORY", usual.path().join("cache").to_str().unwrap())
        .environment("STATE_DIRECTORY", usual.path().join("state").to_str().unwrap())
        .with(&format!("[cache]\npath = \"{}\"\n", cache.display()));
    let daemon = setup.start();
    assert!(daemon.state().join("daemon.json").exists());
    learn(&daemon, &mirror);
    fetch(&daemon, &mirror, &repository.package("one").filename);
    let id = aptpeer::digest::Sha256::of(&repository.bytes("one")).to_string();
    let object = cache.join("v1/objects").join(&id[..2]).join(&id);
    assert!(wait_for(LIMIT, || object.exists().then_some(())).is_some(), "{}", daemon.log());
    assert_eq!(fs::read_dir(usual.path()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(daemon.cache()).unwrap().count(), 0);
}

#[test]
fn the_log_is_as_loud_and_has_the_form_that_its_keys_say() {
    let log_of = |level: &str, format: &str| {
        let log = format!("[log]\nlevel = \"{level}\"\nformat = \"{format}\"\n");
        let mut daemon = Setup::new().with(&log).start();
        assert!(daemon.terminate().success());
        daemon.log()
    };
    assert_eq!(log_of("error", "text"), "");
    let is_json = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    let (text, json) = (log_of("info", "text"), log_of("debug", "json"));
    has_all(&text, &["INFO", "listening"]);
    assert!(!text.lines().any(is_json) && !text.contains("DEBUG"), "{text}");
    has_all(&json, &["\"INFO\"", "listening"]);
    assert!(json.lines().all(is_json), "{json}");
}

/// Whether a daemon with these settings knows the hash of a package once apt has updated through it.
fn learns(mirrors: &str, mirror: &Mirror, repository: &Repository) -> bool {
    let daemon = Setup::new().with(&format!("[mirrors]\n{mirrors}")).start();
    learn(&daemon, mirror);
    let answer = fetch(&daemon, mirror, &repository.package("one").filename);
    assert!(answer.body == repository.bytes("one"), "apt gets it in any case");
    let status = answer.header("cache-status").unwrap_or_default().to_owned();
    assert!(status.contains("fwd=miss") || status.contains("fwd=bypass"), "{status}");
    status.contains("fwd=miss")
}

#[test]
fn a_signature_counts_by_the_keyrings_and_as_strictly_as_the_keys_say() {
    let repository = Repository::with(&[Package::new("one", "1", 1_000)]);
    let mirror = Mirror::start(&repository.root());
    let ours = format!("keyrings = [\"{}\"]\n", repository.keyring().display());
    let none = "keyrings = [\"/nonexistent\"]\n";
    let learns = |keyrings: &str, mode: &str| {
        learns(&format!("{keyrings}verify_signatures = \"{mode}\"\n"), &mirror, &repository)
    };
    assert!(learns(&ours, "enforce"));
    assert!(!learns(none, "enforce"), "nobody vouches for it");
    assert!(learns(none, "auto"), "nobody can tell");

    let release = fs::read_dir(repository.root()).unwrap().map(|entry| entry.unwrap().path());
    let release = release.map(|path| path.join("dists/test/InRelease")).find(|path| path.exists());
    spoil(&release.expect("the repository has an InRelease"));
    assert!(!learns(&ours, "auto"), "the signature is bad");
    assert!(learns(&ours, "off"));
}

/// Changes a word of a clear-signed text that nobody needs.
fn spoil(release: &Path) {
    let text = fs::read_to_string(release).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    fs::write(release, format!("{head}\n\nDescription: another\n{body}")).unwrap();
}

#[test]
fn mirrors_are_asked_through_the_proxy_that_the_key_names() {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let targets = Arc::clone(&asked);
    let proxy = Server::start(move |connection| {
        while let Some(head) = connection.next_request()? {
            targets.lock().unwrap().push(head.target);
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    // Nobody else has a mirror of that name (RFC 2606).
    let target = "http://mirror.test/debian/pool/x.deb";
    let setup = Setup::new().with(&format!("[mirrors]\nproxy = \"http://{}\"\n", proxy.address()));
    let answer = http::get(setup.start().proxy(), target);
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{}", answer.head);
    assert_eq!(*asked.lock().unwrap(), [target]);
}

#[test]
fn room_that_is_to_stay_free_is_not_taken() {
    let (place, _) = seeded();
    let file = place.path("files/Packages");
    let import = ["seed", "import", file.to_str().unwrap()];
    let stderr = place.run_with(&import, &[("APTPEER_CACHE_MIN_FREE_SPACE", "9000TB")]).bad(1);
    has_all(&stderr, &["no room", "cache.min_free_space"]);
    place.run(&import).good();
}

/// The most pieces that a daemon asks for at a time which reads one at a time: the next is asked for meanwhile.
const ASKED_FOR_ONE: usize = 2;

/// How many pieces are asked for at a time.
#[derive(Default)]
struct Crowd {
    /// Now, and at most so far.
    counts: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Crowd {
    /// Counts one more until `work` is done. Where `patient`, they wait until there are more than one
    /// place is worth.
    fn with<T>(&self, patient: bool, work: impl FnOnce() -> T) -> T {
        let mut counts = self.counts.lock().unwrap();
        counts.0 += 1;
        counts.1 = counts.1.max(counts.0);
        self.changed.notify_all();
        if patient {
            counts =
                self.changed.wait_timeout_while(counts, LIMIT, |counts| counts.1 <= ASKED_FOR_ONE).unwrap().0;
        }
        drop(counts);
        let done = work();
        self.counts.lock().unwrap().0 -= 1;
        done
    }
}

/// The most pieces that a daemon asks for at a time, of an object of six. The peers wait for more than one place is worth
/// where `patient`.
fn most_pieces_at_once(setting: &str, patient: bool) -> usize {
    let repository = Repository::with(&[Package::new("six", "1", 23_000_000)]);
    let mirror = Mirror::start(&repository.root());
    let holder = Peer::honest(&[&repository.bytes("six")]);
    let (crowd, address) = (Arc::<Crowd>::default(), holder.address());
    // One peer alone is asked for two pieces at a time.
    let fronts = [(); 2].map(|()| {
        let crowd = Arc::clone(&crowd);
        Server::start(move |connection| {
            while let Some(head) = connection.next_request()? {
                let ask = || exchange(address, &head.method, &head.target, head.header("range"));
                let piece = head.header("range").is_some();
                let answer = if piece { crowd.with(patient, ask)? } else { ask()? };
                connection.send(&answer)?;
            }
            Ok(())
        })
    });
    let config = format!("[transfer]\nprefer = \"offload\"\n{setting}");
    let daemon = Setup::new().with(&config).peer(fronts[0].address()).peer(fronts[1].address()).start();
    learn(&daemon, &mirror);
    let answer = fetch(&daemon, &mirror, &repository.package("six").filename);
    assert!(answer.body == repository.bytes("six"));
    crowd.counts.lock().unwrap().1
}

/// One request and its whole answer, as bytes.
fn exchange(to: SocketAddr, method: &str, target: &str, range: Option<&str>) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{range}\r\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn no_more_pieces_are_fetched_at_a_time_than_the_key_says() {
    assert!(most_pieces_at_once("", true) > ASKED_FOR_ONE);
    assert!(most_pieces_at_once("max_concurrent_downloads = 1\n", false) <= ASKED_FOR_ONE);
}

#[test]
fn a_mirror_is_asked_beside_peers_for_speed_and_spared_to_offload_it() {
    let repository = Repository::with(&[Package::new("three", "1", 9_000_000)]);
    let holder = Peer::start(&[&repository.bytes("three")], &[Fault::Slow(20_000_000)]);
    let asked = |prefer: &str| {
        let mirror = Mirror::start(&repository.root());
        let setup = Setup::new().with(&format!("[transfer]\nprefer = \"{prefer}\"\n"));
        let daemon = setup.peer(holder.address()).start();
        learn(&daemon, &mirror);
        let answer = fetch(&daemon, &mirror, &repository.package("three").filename);
        assert!(answer.body == repository.bytes("three"));
        mirror.requests("*.deb")
    };
    assert!(asked("speed") > 0);
    assert_eq!(asked("offload"), 0);
}

/// A node of the DHT that announces with these settings, and has the packages of the repository, and an index, to announce.
fn announcer(entrance: &Daemon, mirror: &Mirror, repository: &Repository, dht: &str) -> Daemon {
    let always = Setup::new().dht(&[entrance.dht()]).with("[privacy]\nannounce = \"always\"\n");
    let daemon = always.with("[dht]\nannounce_budget = \"10000/s\"\n").with(&format!("[dht]\n{dht}")).start();
    daemon.wait_for_dht();
    learn(&daemon, mirror);
    for package in repository.built() {
        fetch(&daemon, mirror, &package.filename);
    }
    daemon
}

/// How many announces of a daemon the DHT took.
fn announced(daemon: &Daemon) -> u64 {
    let metrics = daemon.metrics();
    let counts: HashMap<&str, &str> = metrics.lines().filter_map(|line| line.split_once(' ')).collect();
    counts["aptpeer_announces_total"].parse().unwrap()
}

#[test]
fn a_file_is_announced_again_as_often_as_the_key_says() {
    let repository = Repository::with(&[Package::new("one", "1", 1_000)]);
    let (mirror, entrance) = (Mirror::start(&repository.root()), Setup::bootstrap().start());
    let usual = announcer(&entrance, &mirror, &repository, "");
    let often = announcer(&entrance, &mirror, &repository, "announce_interval = \"1s\"\n");
    often.wait_for_announced(5);
    usual.wait_for_announced(1);
    assert!(announced(&usual) <= 2, "the index and the package, once: {}", announced(&usual));
}

#[test]
fn announcing_takes_no_more_packets_than_its_budget() {
    let packages: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|name| Package::new(name, "1", 1_000)).into();
    let repository = Repository::with(&packages);
    let (mirror, entrance) = (Mirror::start(&repository.root()), Setup::bootstrap().start());
    let frugal = announcer(&entrance, &mirror, &repository, "announce_budget = \"1/s\"\n");
    let lavish = announcer(&entrance, &mirror, &repository, "");
    lavish.wait_for_announced(6);
    let wants = || (frugal.stats()["announcing"]["held"].as_u64() >= Some(6)).then_some(());
    assert!(wait_for(LIMIT, wants).is_some(), "{}", frugal.stats());
    // An announce is taken to cost sixteen packets at the least: six of them take a minute and a half.
    assert!(announced(&frugal) < 6, "{}", announced(&frugal));
}

#[test]
fn nodes_on_private_addresses_are_asked_only_where_the_key_allows_it() {
    let entrance = Setup::bootstrap().start();
    let strict = Setup::new().dht(&[entrance.dht()]).with("[network]\nallow_private_peers = false\n").start();
    let lenient = Setup::new().dht(&[entrance.dht()]).start();
    lenient.wait_for_dht();
    assert_eq!(strict.stat("dht_nodes"), 0);
}
