//! Private swarms: members find each other and believe each other; strangers see nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use aptpeer::dht::Signer;
use aptpeer::digest::Sha256;
use aptpeer::wire::{Secret, Swarm, list_seed};

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Response, Wire};
use crate::support::mirror::Mirror;
use crate::support::noise;
use crate::support::peers::Peer;
use crate::support::repository::{Package, Repository};
use crate::tap::Tap;
use crate::world::{aptpeer, install, learn, path, seed};

/// Where a swarm's secret lies.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// With the secret of a new swarm.
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let made = aptpeer(&["swarm", "create", place.secret().to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
        assert_eq!(String::from_utf8(made.stdout).unwrap().trim(), place.swarm().tag());
        place
    }

    fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    pub(crate) fn swarm(&self) -> Swarm {
        Swarm::private(Secret::parse(&std::fs::read_to_string(self.secret()).unwrap()).unwrap())
    }

    pub(crate) fn member(&self) -> Setup {
        Setup::new().with(&format!("[swarm]\nsecret_file = \"{}\"\n", self.secret().display()))
    }
}

/// `aptpeer get` of a member or a stranger, whose configuration is that of `daemon`.
fn get(daemon: &Daemon, object: Sha256, to: &Path) -> Output {
    aptpeer(&["--config", path(&daemon.config()), "get", &object.to_string(), "-o", path(to)])
}

/// What a stranger gets for these bytes, without the date.
fn raw(address: SocketAddr, head: &str) -> Response {
    let mut wire = Wire::connect(address);
    wire.send(head.as_bytes());
    let mut response = wire.response_to(head.split(' ').next().unwrap()).unwrap();
    response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
    let dated = |line: &&str| !line.to_ascii_lowercase().starts_with("date:");
    response.head = response.head.split("\r\n").filter(dated).collect::<Vec<_>>().join("\r\n");
    response
}

#[test]
fn members_find_and_serve_each_other_and_strangers_find_nothing() {
    let place = Place::new();
    let entrance = Setup::bootstrap().start();
    let (holders, seekers) = (Tap::to(Some(entrance.dht())), Tap::to(Some(entrance.dht())));
    let mut holder = place.member().dht(&[holders.address()]).start();
    let bytes = noise(11, 9_000_000);
    holder.terminate();
    let object = seed(&holder, &bytes, &[]);
    holder.restart();
    holder.wait_for_announced(1);
    let seeker = place.member().dht(&[seekers.address()]).start();
    seeker.wait_for_dht();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let got = get(&seeker, object, &file);
    assert!(got.status.success(), "{got:?}");
    assert!(std::fs::read(&file).unwrap() == bytes);

    let private = *place.swarm().info_hash(&object).as_bytes();
    assert!(holders.with(&private) > 0, "announced under the name that members know");
    for tap in [&holders, &seekers] {
        assert!(tap.count() > 0);
        assert_eq!(tap.with(&object.as_bytes()[..20]), 0, "the name that everybody knows was on the wire");
        let derived = Signer::from_seed(&list_seed(&object)).unwrap().target(b"");
        assert_eq!(tap.with(derived.as_bytes()), 0, "so was the place of its list");
    }
    let stranger = Setup::new().peer(holder.peer()).start();
    let lost = get(&stranger, object, &folder.path().join("lost"));
    assert!(!lost.status.success() && !folder.path().join("lost").exists(), "{lost:?}");
}

#[test]
fn strangers_get_one_and_the_same_answer_whatever_they_ask() {
    let place = Place::new();
    let holder = place.member().start();
    let object = seed(&holder, &noise(12, 5_000_000), &[]);
    let (address, other) = (holder.peer(), Sha256::of(b"nobody has this"));
    let ask = |line: &str, more: &str| {
        raw(address, &format!("{line} HTTP/1.1\r\nHost: {address}\r\n{more}Connection: close\r\n\r\n"))
    };
    let expected = ask(&format!("GET /hash/{other}"), "");
    assert_eq!(expected.status, 404);
    let forged = format!(
        "Authorization: Aptpeer-HMAC-SHA256 time=1800000000, nonce={}, code={}\r\n",
        "0".repeat(32),
        "0".repeat(64)
    );
    for line in [
        format!("GET /hash/{object}"),
        format!("GET /hash/{object}/pieces"),
        format!("GET /hash/{other}/pieces"),
        "GET /".to_owned(),
        "GET /have".to_owned(),
        format!("POST /hash/{object}"),
    ] {
        for more in ["", &forged, "Range: bytes=0-9\r\n", "Authorization: Basic eDp5\r\n"] {
            assert_eq!(ask(&line, more), expected, "{line} with {more}");
        }
    }
    let head = ask(&format!("HEAD /hash/{object}"), "");
    assert_eq!((head.status, head.head), (404, ask(&format!("HEAD /hash/{other}"), "").head));
}

#[test]
fn a_proof_is_good_once() {
    use aptpeer::wire::{ANSWER_PROOF, Answered, Asked, Proof};
    let place = Place::new();
    let holder = place.member().start();
    let bytes = noise(13, 1000);
    let object = seed(&holder, &bytes, &[]);
    let (swarm, host) = (place.swarm(), holder.peer().to_string());
    let secret = swarm.secret().unwrap();
    let target = format!("/hash/{object}");
    let asked = Asked { method: "GET", target: &target, host: &host };
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let ask = |proof: Proof, host: &str| {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
            proof.to_header()
        );
        raw(holder.peer(), &head)
    };
    let good = Proof::new(secret, &asked, now, [1; 16]);
    let response = ask(good, &host);
    assert!(response.status == 200 && response.body == bytes, "{}", response.head);
    let answered = Answered { asked, nonce: &[1; 16], status: 200, content: None };
    assert!(answered.holds(secret, response.header(ANSWER_PROOF).unwrap()));
    assert_eq!(ask(good, &host).status, 404, "overheard and used again");
    assert_eq!(ask(Proof::new(secret, &asked, now - 1000, [2; 16]), &host).status, 404, "outdated");
    let elsewhere = Asked { host: "203.0.113.1:9979", ..asked };
    let led_astray = Proof::new(secret, &elsewhere, now, [3; 16]);
    assert_eq!(ask(led_astray, &host).status, 404, "for another host than it says");
    assert_eq!(ask(Proof::new(secret, &asked, now, [4; 16]), &host).status, 200);
}

#[test]
fn the_mirror_never_sees_a_proof_and_a_stranger_is_not_believed() {
    let place = Place::new();
    let repository = Repository::with(&[Package::new("three", "1", 9_000_000)]);
    let mirror = Mirror::start(&repository.root());
    let bytes = repository.bytes("three");
    let stranger = Peer::honest(&[&bytes]);
    let member = place.member().start();
    let daemon = place.member().peer(stranger.address()).peer(member.peer()).start();
    learn(&daemon, &mirror);
    install(&daemon, &mirror, &repository, "three");
    assert!(!stranger.records().is_empty(), "it was asked");
    assert_eq!(daemon.stat("bytes_from_p2p"), 0, "{}", daemon.log());
    assert!(daemon.log().contains("\"fault\":\"unproven\""), "{}", daemon.log());
    for record in mirror.records() {
        let names: Vec<_> = record.head.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        assert!(!names.contains(&"authorization".to_owned()), "{names:?}");
    }
}

#[test]
fn a_daemon_does_not_start_without_its_secret() {
    let place = Place::new();
    let refused = |place: &Place| place.member().try_start().map(|_| ()).unwrap_err();
    std::fs::set_permissions(place.secret(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(refused(&place).contains("chmod 600"));
    std::fs::remove_file(place.secret()).unwrap();
    assert!(refused(&place).contains("aptpeer swarm create"));
}
