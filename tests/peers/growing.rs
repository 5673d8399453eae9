//! What our own peer port gives of an object that is still on its way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use base64::Engine as _;

use crate::server::connect_from;
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
    mirror: Mirror,
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
        Self { daemon, mirror, object, id, apt }
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

/// A piece of the object on its way, asked for by a host of its own.
fn ask_from(host: u8, growing: &Growing, headers: &[(&str, &str)]) -> Wire {
    let mut wire = Wire::over(connect_from([127, 0, 9, host].into(), growing.address()));
    wire.ask("GET", &format!("/hash/{}", growing.id), headers);
    wire
}

/// A piece can be given on when it is whole: few at a time get theirs sooner than many.
#[test]
fn four_at_a_time_are_sent_what_is_on_its_way() {
    let slowly = Setup::new().with("[transfer]\nmax_upload_rate = \"400KB/s\"\n");
    let growing = Growing::new(slowly, Fault::StallBody(10_000_000));
    growing.wait_for_have("0-1");
    // Whoever waits for what is not here yet is in nobody's way.
    let ahead = format!("bytes={}-", 2 * PIECE);
    let _waiting: Vec<Wire> = (100..108)
        .map(|host| ask_from(host, &growing, &[("Range", &ahead), ("Prefer", "wait=20")]))
        .collect();
    let first = [("Range", "bytes=0-4194303")];
    let status = |mut wire: Wire| (wire.head().unwrap().status, wire);
    let mut served: Vec<_> = (1..5).map(|host| status(ask_from(host, &growing, &first))).collect();
    assert!(served.iter().all(|(status, _)| *status == 206));
    let mut fifth = ask_from(5, &growing, &first);
    let refused = fifth.response().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));

    served.pop();
    let next = wait_for(LIMIT, || (status(ask_from(6, &growing, &first)).0 == 206).then_some(()));
    assert!(next.is_some(), "whoever hung up keeps a place");
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

/// Three daemons want the same at about the same time, and the mirror is slow: it gives each byte about once, and all are
/// through about when the first is.
#[test]
fn downloaders_of_the_same_object_feed_each_other() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*twelve*", Fault::Rate(8_000_000)));
    let offload = || Setup::new().with("[transfer]\nprefer = \"offload\"\n");
    let first = offload().start();
    let second = offload().peer(first.peer()).start();
    let third = offload().peer(second.peer()).peer(first.peer()).start();
    let daemons = [first, second, third];
    assert!(daemons.iter().all(|daemon| daemon.stat("peers") == 0));
    daemons.iter().for_each(|daemon| learn(daemon.proxy(), &mirror));
    let (object, url) = (repository.bytes("twelve"), url(&mirror, &repository, "twelve"));
    let leading = |daemon: &Daemon| {
        let list = request(daemon.peer(), "GET", &format!("/hash/{}/pieces", Sha256::of(&object)), &[]);
        list.text().contains("\"have\":\"0\"").then_some(())
    };
    let fetch = |daemon: &Daemon| {
        let fetched = crate::world::fetch(daemon.proxy(), &url, &[]);
        assert!(fetched.body == object, "{}", fetched.head.head);
        Instant::now()
    };
    let ends: Vec<Instant> = std::thread::scope(|scope| {
        let leader = scope.spawn(|| fetch(&daemons[0]));
        assert!(wait_for(LIMIT, || leading(&daemons[0])).is_some());
        let followers: Vec<_> = daemons[1..].iter().map(|daemon| scope.spawn(|| fetch(daemon))).collect();
        [leader].into_iter().chain(followers).map(|one| one.join().unwrap()).collect()
    });
    let sent = mirror.bytes("*twelve*");
    let later = [1, 2].map(|follower: usize| ends[follower].saturating_duration_since(ends[0]));
    println!("the mirror sent {sent} of {} bytes, the followers were {later:?} later", object.len());
    assert!(sent <= object.len() as u64 * 11 / 10, "the mirror sent {sent} of {} bytes", object.len());
    assert!(later.iter().all(|later| *later < Duration::from_secs(3)), "{later:?}");
    // All at one address: whoever has given and whoever has got has met it.
    assert!(daemons.iter().all(|daemon| daemon.stat("peers") == 1));
    assert!(daemons.iter().all(|daemon| daemon.metrics().contains("aptpeer_connected_peers 1\n")));
}

/// Whoever knows what the mirror gives leaves it to a neighbour that is ahead and gets as much, also where speed is
/// preferred.
#[test]
fn a_follower_that_loses_nothing_spares_themirror() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*/pool/*", Fault::Rate(8_000_000)));
    let leader = Daemon::start();
    let follower = Setup::new().peer(leader.peer()).start();
    let three = url(&mirror, &repository, "three");
    learn(follower.proxy(), &mirror);
    assert!(crate::world::fetch(follower.proxy(), &three, &[]).body == repository.bytes("three"));
    let mut leading = Growing::behind(leader, mirror, &repository);
    leading.wait_for_have("0-2");
    let twelve = url(&leading.mirror, &repository, "twelve");
    assert!(crate::world::fetch(follower.proxy(), &twelve, &[]).body == leading.object);
    assert!(leading.apt.response().unwrap().body == leading.object);
    let sent = leading.mirror.bytes("*twelve*");
    println!("the mirror sent {sent} of {} bytes", leading.object.len());
    assert!(sent <= leading.object.len() as u64 * 11 / 10, "{sent} of {}", leading.object.len());
}
