//! The harness tested by itself: a real apt against the support mirror without a daemon between them. What passes here
//! directly must pass through the daemon too.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use support::apt::Apt;
use support::daemon::Setup;
use support::http::{self, Wire};
use support::mirror::{Fault, Mirror, Rule};
use support::noise;
use support::peers::{self, Fault as Sin, Peer};
use support::repository::{Package, Repository};

/// The digests of the packages with these names, sorted.
fn digests(repository: &Repository, names: &[&str]) -> Vec<Sha256> {
    let mut found: Vec<_> = names.iter().map(|name| repository.package(name).sha256).collect();
    found.sort();
    found
}

fn downloaded(apt: &Apt) -> Vec<Sha256> {
    let mut found: Vec<_> = apt.archives().into_iter().map(|(_, digest)| digest).collect();
    found.sort();
    found
}

#[test]
fn apt_updates_and_downloads_from_the_mirror_in_both_styles() {
    let repository = Repository::small();
    for deb822 in [false, true] {
        let mirror = Mirror::start(&repository.root());
        let apt = Apt::new();
        let apt = if deb822 {
            apt.deb822(&mirror.url(), &repository)
        } else {
            apt.one_line(&mirror.url(), &repository)
        };
        apt.update().succeeded();
        assert!(mirror.requests("/debian/dists/test/*/by-hash/SHA256/*") >= 2, "by-hash was not used");

        let all: Vec<&str> = repository.built().iter().map(|built| &*built.package.name).collect();
        apt.install(&all).succeeded();
        assert_eq!(downloaded(&apt), digests(&repository, &all));
        assert!(mirror.bytes("/debian/pool/*") > 18_000_000);

        apt.source("greet").succeeded();
        assert_eq!(apt.sources().len(), 3);
    }
}

#[test]
fn apt_goes_through_a_proxy_and_through_a_prefix() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());

    // A server that takes absolute request targets is proxy enough for its own files (RFC 9112, section 3.2.2).
    let apt = Apt::new().proxy(mirror.address()).one_line("http://mirror.example.org", &repository);
    apt.update().succeeded();
    apt.install(&["plain"]).succeeded();
    assert!(
        mirror
            .records()
            .iter()
            .all(|record| record.head.target.starts_with("http://mirror.example.org/debian/"))
    );

    std::os::unix::fs::symlink(".", repository.root().join("mirror.example.org:8080")).unwrap();
    mirror.forget_records();
    let prefix = format!("{}/mirror.example.org:8080", mirror.url());
    let apt = Apt::new().deb822(&prefix, &repository);
    apt.update().succeeded();
    apt.install(&["plain"]).succeeded();
    assert_eq!(mirror.records().len(), mirror.requests("/mirror.example.org:8080/debian/*"));
}

#[test]
fn apt_takes_the_flat_repository() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    let apt = Apt::new().flat(&mirror.url(), &repository);
    apt.update().succeeded();
    apt.install(&["tilde", "plain"]).succeeded();
    assert_eq!(downloaded(&apt), digests(&repository, &["plain", "tilde"]));
    assert_eq!(mirror.requests("/flat/./*.deb"), 2, "{:?}", mirror.records());
}

#[test]
fn apt_asks_for_odd_names_percent_encoded_and_one_by_one_in_a_pipeline() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    let apt = Apt::new().one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    mirror.forget_records();
    apt.install(&["hello", "g++-tool"]).succeeded();
    let records = mirror.records();
    assert!(
        records.iter().any(|record| record.head.target.contains("libgreet%2b%2b1_2.0%2bdfsg-1%7edeb12u1"))
    );
    assert!(records.iter().all(|record| record.connection == records[0].connection));
}

#[test]
fn apt_sees_a_new_version_and_new_bytes_under_an_old_name() {
    let mut repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    let apt = Apt::new().one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    apt.install(&["plain", "empty"]).succeeded();
    let before = repository.package("plain").clone();

    repository.put(before.package.clone().reseeded(1));
    repository.put(Package::new("empty", "2", 10).all());
    repository.publish();
    assert_ne!(repository.package("plain").sha256, before.sha256);
    assert_eq!(repository.package("plain").filename, before.filename);

    apt.update().succeeded();
    apt.clean();
    apt.install(&["plain", "empty"]).succeeded();
    assert_eq!(downloaded(&apt), digests(&repository, &["plain", "empty"]));
}

#[test]
fn the_same_seed_makes_the_same_packages() {
    let packages = [Package::new("twin", "1.0~a+b", 10_000)];
    let (one, other) = (Repository::with(&packages), Repository::with(&packages));
    assert_eq!(one.package("twin").sha256, other.package("twin").sha256);
}

#[test]
fn apt_sees_the_scripted_faults() {
    let repository = Repository::small();
    let target = "/debian/pool/*/one-piece_*";
    let cases: &[(Fault, bool, bool)] = &[
        // The fault, whether apt succeeds in the end, whether it has to try again.
        (Fault::Status(404), false, false),
        (Fault::Status(503), true, true),
        (Fault::EmptyStatus(503), false, false),
        (Fault::CutBody(1_000_000), true, true),
        (Fault::StallBody(1_000_000), true, true),
        (Fault::Reset, true, false),
        (Fault::Close, true, false),
        (Fault::StallHead, true, false),
        (Fault::FlipBit(2_000_000), false, false),
        (Fault::WrongLength(-5), false, false),
        (Fault::NoLastModified, true, false),
        (Fault::Latency(Duration::from_millis(300)), true, false),
        (Fault::Rate(8_000_000), true, false),
        (Fault::Redirect("/debian/elsewhere.deb".to_owned()), true, false),
    ];
    let elsewhere = repository.root().join("debian/elsewhere.deb");
    std::fs::write(elsewhere, repository.bytes("one-piece")).unwrap();
    for (fault, succeeds, retries) in cases {
        let mirror = Mirror::start(&repository.root());
        let apt = Apt::new().option("Acquire::http::Timeout", "2").one_line(&mirror.url(), &repository);
        apt.update().succeeded();
        mirror.script(Rule::new(target, fault.clone()).once());
        let run = apt.install(&["one-piece"]);
        assert_eq!(run.code == 0, *succeeds, "{fault:?}: {run}");
        assert_eq!(!run.retries().is_empty(), *retries, "{fault:?}: {run}");
        assert_eq!(apt.archives().len(), usize::from(*succeeds), "{fault:?}: {run}");
    }
}

#[test]
fn a_cut_download_is_resumed_by_range_with_the_date_as_it_was_sent() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    let apt = Apt::new().one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    mirror.forget_records();
    mirror.script(Rule::new("*/one-piece_*", Fault::CutBody(1_000_000)).once());
    assert_eq!(apt.install(&["one-piece"]).code, 0);
    let records = mirror.records();
    let (first, second) = (&records[0], &records[1]);
    assert_eq!((first.status, first.body), (200, 1_000_000));
    assert_eq!(second.status, 206, "{second:?}");
    assert_eq!(second.head.header("range"), Some("bytes=1000000-"));
    assert_eq!(second.body, repository.package("one-piece").size - 1_000_000);
    assert!(second.head.header("if-range").is_some());
}

#[test]
fn apt_takes_only_a_right_answer_to_its_range() {
    let repository = Repository::small();
    let target = "*/one-piece_*";
    let cases: &[(&[Fault], bool)] = &[
        // What befalls the second request, after the first was cut; whether apt succeeds.
        (&[], true),
        (&[Fault::NoRanges], true),
        (&[Fault::WrongRange(7)], false),
        (&[Fault::Status(404)], false),
    ];
    for (faults, succeeds) in cases {
        let mirror = Mirror::start(&repository.root());
        let apt = Apt::new().one_line(&mirror.url(), &repository);
        apt.update().succeeded();
        mirror.script(Rule::new(target, Fault::CutBody(1_000_000)).once());
        for fault in *faults {
            mirror.script(Rule::new(target, fault.clone()).after(1));
        }
        let run = apt.install(&["one-piece"]);
        assert_eq!(run.code == 0, *succeeds, "{faults:?}: {run}");
    }
}

/// The recovery rule of a proxy that has handed on wrong bytes: cut, then answer the range with everything.
#[test]
fn apt_forgives_a_poisoned_beginning_when_its_range_is_answered_with_everything() {
    let repository = Repository::small();
    let target = "*/one-piece_*";
    for (whole, succeeds) in [(true, true), (false, false)] {
        let mirror = Mirror::start(&repository.root());
        let apt = Apt::new().one_line(&mirror.url(), &repository);
        apt.update().succeeded();
        mirror.script(Rule::new(target, Fault::FlipBit(500_000)).once());
        mirror.script(Rule::new(target, Fault::CutBody(1_000_000)).once());
        if whole {
            mirror.script(Rule::new(target, Fault::NoRanges));
        }
        let run = apt.install(&["one-piece"]);
        assert_eq!(run.code == 0, succeeds, "{run}");
    }
}

#[test]
fn apt_complains_of_a_captive_portal() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*/InRelease", Fault::Html("<html>please log in</html>")));
    let apt = Apt::new().one_line(&mirror.url(), &repository);
    let run = apt.update();
    assert!(run.to_string().contains("NOSPLIT"), "{run}");
    mirror.behave();
    apt.update().succeeded();
}

#[test]
fn the_mirror_keeps_the_rules_of_http() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"0123456789").unwrap();
    let mirror = Mirror::start(folder.path());
    let mut wire = Wire::connect(mirror.address());
    wire.ask("GET", "/file", &[]);
    wire.ask("HEAD", "/file", &[]);
    wire.ask("GET", "/file", &[("Range", "bytes=2-4")]);
    wire.ask("GET", "/file", &[("Range", "bytes=-3")]);
    wire.ask("GET", "/file", &[("Range", "bytes=10-")]);
    wire.ask("GET", "/../etc/passwd", &[]);
    let whole = wire.response().unwrap();
    assert_eq!((whole.status, &*whole.body), (200, &b"0123456789"[..]));
    let head = wire.response_to("HEAD").unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    let part = wire.response().unwrap();
    assert_eq!(
        (part.status, &*part.body, part.header("content-range")),
        (206, &b"234"[..], Some("bytes 2-4/10"))
    );
    assert_eq!(wire.response().unwrap().body, b"789");
    assert_eq!(wire.response().unwrap().header("content-range"), Some("bytes */10"));
    assert_eq!(wire.response().unwrap().status, 404);

    let date = whole.header("last-modified").unwrap();
    assert_eq!(http::request(mirror.address(), "GET", "/file", &[("If-Modified-Since", date)]).status, 304);
    let asked = [("Range", "bytes=2-"), ("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT")];
    assert_eq!(http::request(mirror.address(), "GET", "/file", &asked).status, 200);
    assert_eq!((mirror.requests("/fi*"), mirror.bytes("/file")), (7, 10 + 3 + 3 + 10));
}

#[test]
fn peers_sin_as_they_are_told() {
    let piece = 4 << 20;
    let object = noise(1, 2 * piece + 1000);
    let target = format!("/hash/{}", Sha256::of(&object));
    let list = |peer: &Peer| -> serde_json::Value {
        serde_json::from_slice(&http::get(peer.address(), &format!("{target}/pieces")).body).unwrap()
    };
    let body = |peer: &Peer| http::get(peer.address(), &target).body;

    let honest = Peer::honest(&[&object]);
    assert!(body(&honest) == object);
    let states = list(&honest);
    assert_eq!((states["length"].as_u64(), &states["have"]), (Some(object.len() as u64), &"0-2".into()));
    assert_eq!(states["states"].as_array().unwrap().len(), 2);
    assert_eq!(honest.bytes(), object.len() as u64);

    let wrong = Peer::start(&[&object], &[Sin::WrongPiece(1)]);
    let bytes = body(&wrong);
    assert!(
        bytes[..piece] == object[..piece] && bytes[2 * piece..] == object[2 * piece..] && bytes != object
    );
    assert_eq!(list(&wrong), states, "its list is true");

    let conspirator = Peer::start(&[&object], &[Sin::WrongPiece(0), Sin::Conspiracy]);
    assert_ne!(list(&conspirator)["states"], states["states"]);
    let partial = Peer::honest(&[&object]);
    partial.hold_first(1);
    let asked = [("Range", "bytes=4194304-4194400")];
    assert_eq!(http::request(partial.address(), "GET", &target, &asked).status, 416);
    assert_eq!(list(&partial)["have"], "0");
    assert_eq!(list(&partial)["states"], serde_json::json!([states["states"][0], null]));

    let (address, _kept) = peers::dead();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn every_sin_of_a_peer_can_be_seen() {
    let object = noise(2, (4 << 20) + 1000);
    let target = format!("/hash/{}", Sha256::of(&object));
    let sinner = |sin: &Sin| Peer::start(&[&object], std::slice::from_ref(sin));
    let tail = [("Range", "bytes=4194304-")];

    for sin in [Sin::Silent, Sin::SilentAfter(10), Sin::CloseAfter(10), Sin::Reset, Sin::Rubbish] {
        let peer = sinner(&sin);
        let mut wire = Wire::connect(peer.address());
        wire.patience(Duration::from_millis(300));
        wire.ask("GET", &target, &[]);
        assert!(wire.response().is_err(), "{sin:?}");
    }

    let answer = |sin: &Sin| {
        let peer = sinner(sin);
        http::request(peer.address(), "GET", &target, &tail)
    };
    assert_eq!(answer(&Sin::WrongPiece(0)).body, object[4 << 20..]);
    assert_eq!(answer(&Sin::ShortBody(1)).body.len(), 999);
    assert_eq!(answer(&Sin::LongBody(1)).body.len(), 1001);
    assert_eq!(answer(&Sin::NoRanges).status, 200);
    assert_eq!(answer(&Sin::Busy).header("retry-after"), Some("1"));
    let elsewhere = answer(&Sin::WrongContentRange(5));
    assert_eq!(elsewhere.header("content-range"), Some("bytes 4194309-4195308/4195304"));
    assert_ne!(answer(&Sin::WrongEverywhere).body, object[4 << 20..]);
    let started = Instant::now();
    assert_eq!(answer(&Sin::Slow(5000)).body.len(), 1000);
    assert!(started.elapsed() >= Duration::from_millis(150), "{:?}", started.elapsed());

    let peer = sinner(&Sin::HugeHeader);
    let mut wire = Wire::connect(peer.address());
    wire.ask("GET", &target, &[]);
    assert_eq!(wire.bytes(70_000_000).unwrap().len(), 70_000_000);

    let list = |sin: &Sin| {
        let peer = sinner(sin);
        http::get(peer.address(), &format!("{target}/pieces"))
    };
    let json = |sin: &Sin| serde_json::from_slice::<serde_json::Value>(&list(sin).body);
    assert_eq!(list(&Sin::NoList).status, 404);
    assert!(json(&Sin::RubbishList).is_err());
    assert_eq!(list(&Sin::HugeList).body.len(), 100_000_000);
    assert_eq!(json(&Sin::NullStates).unwrap()["states"], serde_json::json!([null]));
    assert_eq!(json(&Sin::WrongLength(-4)).unwrap()["length"], 4_195_300);
    let truth = json(&Sin::WrongPiece(0)).unwrap();
    assert_ne!(json(&Sin::FalseStates).unwrap()["states"], truth["states"]);
    assert_eq!(truth["states"][0], peers::states(&object)[0].to_string());
}

/// The daemon's side of daemon.json, in a few lines.
const STAND_IN: &str = r#"#!/bin/bash
[ "$1 $2" = "daemon --config" ] || { echo "bad usage"; exit 2; }
state=$(sed -n '/^\[state\]/,/^$/s/^path = "\(.*\)"/\1/p' "$3")
grep -q 'die = true' "$3" && { echo "dying as told"; exit 1; }
trap 'rm "$state/daemon.json"; echo drained; exit 0' TERM
echo '{"pid": '$$', "proxy": "127.0.0.1:1", "status": null, "peers": ["127.0.0.1:2"]}' > "$state/new"
mv "$state/new" "$state/daemon.json"
echo started
while :; do read -r -t 1 <> <(:) || :; done
"#;

#[test]
fn a_daemon_is_started_stopped_killed_and_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("stand-in");
    std::fs::write(&program, STAND_IN).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let mut daemon = Setup::new().program(&program).with("[cache]\nmax_size = \"1GB\"").start();
    assert_eq!((daemon.proxy().port(), daemon.peer().port()), (1, 2));
    daemon.kill();
    assert!(daemon.state().join("daemon.json").exists(), "a killed daemon cleans nothing up");
    daemon.restart();
    assert!(daemon.terminate().success());
    assert!(daemon.log().ends_with("drained\n") && !daemon.state().join("daemon.json").exists());

    let log = Setup::new().program(&program).with("[test]\ndie = true").try_start().err().unwrap();
    assert!(log.contains("dying as told"), "{log}");
}
