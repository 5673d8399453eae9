//! What our own peer port gives of an object that is still on its way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use base64::Engine as _;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Response, Wire, request};
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::repository::Repository;
use crate::support::{peers, wait_for};
use crate::world::{learn, repository, url};

const PIECE: usize = 4 << 20;

/// A piece that is not here by then never comes.
const LIMIT: Duration = Duration::from_secs(60);

/// The package of twelve pieces, at one daemon that has begun to download it.
struct Growing {
    daemon: Daemon,
    _mirror: Mirror,
    object: Vec<u8>,
    id: Sha256,
    apt: Wire,
}

impl Growing {
    fn new(setup: Setup, fault: Fault) -> Self {
        let repository = repository();
        let mirror = Mirror::start(&repository.root());
        mirror.script(Rule::new("*twelve*", fault));
        Self::behind(setup.start(), mirror, &repository)
    }

    fn behind(daemon: Daemon, mirror: Mirror, repository: &Repository) -> Self {
        learn(daemon.proxy(), &mirror);
        let mut apt = Wire::connect(daemon.proxy());
        apt.ask("GET", &url(&mirror, repository, "twelve"), &[]);
        let object = repository.bytes("twelve");
        let id = Sha256::of(&object);
        Self { daemon, _mirror: mirror, object, id, apt }
    }

    fn address(&self) -> SocketAddr {
        self.daemon.peer()
    }

    fn ask(&self, method: &str, headers: &[(&str, &str)]) -> Response {
        request(self.address(), method, &format!("/hash/{}", self.id), headers)
    }

    fn range(&self, range: std::ops::Range<usize>, headers: &[(&str, &str)]) -> Response {
        let range = format!("bytes={}-{}", range.start, range.end - 1);
        self.ask("GET", &[headers, &[("Range", &*range)]].concat())
    }

    fn list(&self) -> serde_json::Value {
        let response = request(self.address(), "GET", &format!("/hash/{}/pieces", self.id), &[]);
        serde_json::from_slice(&response.body).unwrap_or_default()
    }

    /// Waits until exactly these pieces are told to be here.
    #[track_caller]
    fn wait_for_have(&self, have: &str) {
        let found = wait_for(LIMIT, || (self.list()["have"] == have).then_some(()));
        assert!(found.is_some(), "{have} never came: {}", self.list());
    }
}

/// Two pieces and a bit come from the mirror, then nothing.
fn stuck() -> Growing {
    let growing = Growing::new(Setup::new(), Fault::StallBody(10_000_000));
    growing.wait_for_have("0-1");
    growing
}

#[test]
fn held_pieces_are_given_while_the_rest_is_on_its_way() {
    let growing = stuck();
    let (object, length) = (&growing.object, growing.object.len());
    let list = growing.list();
    let states: Vec<_> = peers::states(object).iter().map(ToString::to_string).collect();
    assert_eq!(
        (list["length"].as_u64(), list["states"].as_array().unwrap().len()),
        (Some(length as u64), 11)
    );
    assert_eq!(
        (&list["states"][0], &list["states"][1]),
        (&states[0].clone().into(), &states[1].clone().into())
    );
    assert!(list["states"].as_array().unwrap()[2..].iter().all(serde_json::Value::is_null), "{list}");

    let piece = growing.range(PIECE..2 * PIECE, &[]);
    assert_eq!(piece.status, 206);
    assert!(piece.body == object[PIECE..2 * PIECE]);
    let digest = base64::engine::general_purpose::STANDARD.encode(growing.id.as_bytes());
    for (name, value) in [
        ("content-range", format!("bytes {PIECE}-{}/{length}", 2 * PIECE - 1)),
        ("etag", format!("\"{}\"", growing.id)),
        ("repr-digest", format!("sha-256=:{digest}:")),
        ("accept-ranges", "bytes".to_owned()),
    ] {
        assert_eq!(piece.header(name), Some(&*value), "{}", piece.head);
    }
    let over = growing.range(PIECE + 7..3 * PIECE, &[]);
    let held = format!("bytes {}-{}/{length}", PIECE + 7, 2 * PIECE - 1);
    assert_eq!((over.status, over.header("content-range")), (206, Some(&*held)), "the held beginning");
    assert!(over.body == object[PIECE + 7..2 * PIECE]);
}

#[test]
fn what_is_not_here_yet_is_refused_at_once() {
    let growing = stuck();
    let length = growing.object.len();
    let unheld = growing.range(2 * PIECE..3 * PIECE, &[]);
    assert_eq!((unheld.status, unheld.header("content-range")), (416, Some(&*format!("bytes */{length}"))));
    assert_eq!(growing.ask("GET", &[("Range", "bytes=-5")]).status, 416);
    assert_eq!(growing.ask("GET", &[]).status, 404, "the whole");
    let head = growing.ask("HEAD", &[]);
    assert_eq!((head.status, head.header("content-length")), (200, Some(&*length.to_string())));
    let etag = format!("\"{}\"", growing.id);
    assert_eq!(growing.ask("GET", &[("If-None-Match", &etag)]).status, 304);
}

#[test]
fn waiting_has_an_end() {
    let growing = stuck();
    let started = Instant::now();
    let late = growing.range(2 * PIECE..3 * PIECE, &[("Prefer", "wait=1")]);
    assert_eq!((late.status, late.header("preference-applied")), (416, Some("wait=1")));
    assert!(started.elapsed() >= Duration::from_secs(1));
    let held = growing.range(0..PIECE, &[("Prefer", "wait=15")]);
    assert_eq!((held.status, held.header("preference-applied")), (206, None), "nothing to wait for");
}

#[test]
fn whoever_waits_gets_the_next_piece_when_it_is_here_and_the_whole_at_the_end() {
    let mut growing = Growing::new(Setup::new(), Fault::Rate(12_000_000));
    growing.wait_for_have("0");
    let next = growing.range(3 * PIECE..4 * PIECE, &[("Prefer", "wait=20")]);
    assert_eq!((next.status, next.header("preference-applied")), (206, Some("wait=20")));
    assert!(next.body == growing.object[3 * PIECE..4 * PIECE]);
    let whole = growing.ask("GET", &[("Prefer", "wait=20")]);
    assert_eq!((whole.status, whole.body == growing.object), (200, true));
    assert!(growing.apt.response().unwrap().body == growing.object);
}

#[test]
fn a_list_is_waited_for_until_there_is_more_in_it() {
    let growing = Growing::new(Setup::new(), Fault::Rate(12_000_000));
    growing.wait_for_have("0");
    let target = format!("/hash/{}/pieces", growing.id);
    let first = request(growing.address(), "GET", &target, &[]);
    let tag = first.header("etag").unwrap();
    let again = request(growing.address(), "GET", &target, &[("If-None-Match", tag), ("Prefer", "wait=20")]);
    assert_eq!((again.status, again.header("preference-applied")), (200, Some("wait=20")));
    assert_ne!((again.header("etag"), &again.body), (Some(tag), &first.body));
    let same =
        request(growing.address(), "GET", &target, &[("If-None-Match", again.header("etag").unwrap())]);
    assert!(same.status == 304 && same.body.is_empty() || same.status == 200 && same.body != again.body);
}

#[test]
fn what_only_one_neighbour_says_is_not_passed_on() {
    let repository = repository();
    let object = repository.bytes("twelve");
    let slow = peers::Peer::start(&[&object], &[peers::Fault::Slow(8_000_000)]);
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*twelve*", Fault::Status(404)));
    let growing = Growing::behind(Setup::new().peer(slow.address()).start(), mirror, &repository);
    // The last piece is fetched early and hangs on the digest.
    growing.wait_for_have("11");
    let first = growing.range(0..PIECE, &[("Prefer", "wait=2")]);
    assert!(first.status == 416 || growing.list()["have"] == "0-11", "{}", first.head);
}

#[test]
fn a_daemon_that_stops_keeps_nobody_waiting() {
    let mut growing = stuck();
    let mut wire = Wire::connect(growing.address());
    wire.ask("GET", &format!("/hash/{}", growing.id), &[("Range", "bytes=30000000-"), ("Prefer", "wait=20")]);
    let mut other = Wire::connect(growing.address());
    other.ask("GET", "/", &[]);
    assert_eq!(other.response().unwrap().status, 200);
    let started = Instant::now();
    growing.daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(wire.response().unwrap().status, 416);
    assert!(started.elapsed() < Duration::from_secs(10));
    drop(growing.apt);
    growing.daemon.wait();
}
