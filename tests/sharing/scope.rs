//! Files of a repository that not everybody reaches stay on the local network.

use std::net::SocketAddr;
use std::process::Command;

use aptpeer::digest::Sha256;
use aptpeer::wire::HaveSet;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http;
use crate::support::mirror::Mirror;
use crate::support::noise;
use crate::support::repository::{Package, Repository};
use crate::tap::Tap;
use crate::world::{entry, install, learn, seed};

/// As a user has it: what comes from a mirror at a private address is not for everybody.
const USUAL: &str = "[privacy]\nshare_private_mirrors = false\n";

/// Says that the test runs in a network namespace of its own.
const INSIDE: &str = "SHARING_INSIDE";

#[test]
fn what_a_private_mirror_has_is_never_announced_nor_looked_up() {
    let repository = Repository::with(&[Package::new("three", "1", 9_000_000)]);
    let mirror = Mirror::start(&repository.root());
    let entrance = Setup::bootstrap().start();
    let tap = Tap::to(Some(entrance.dht()));
    let mut daemon = Setup::new().dht(&[tap.address()]).with(USUAL).start();
    daemon.wait_for_dht();
    learn(&daemon, &mirror);
    let local = install(&daemon, &mirror, &repository, "three");
    // What a person offers is announced, and the other would have been by then.
    daemon.terminate();
    let (offered, silent) = (noise(21, 1000), noise(22, 1000));
    let public = seed(&daemon, &offered, &[]);
    let silent = seed(&daemon, &silent, &["--no-announce"]);
    daemon.restart();
    daemon.wait_for_announced(1);
    assert!(tap.with(&public.as_bytes()[..20]) > 0);
    for object in [local, silent] {
        assert_eq!(tap.with(&object.as_bytes()[..20]), 0, "{object} was on the wire");
        assert_eq!(entry(&daemon, object)["scope"], "local");
        assert_eq!(entry(&daemon, object)["announce"], false);
    }
    assert_eq!(entry(&daemon, public)["scope"], "public");
    assert_eq!(daemon.stats()["announcing"]["held"], 1, "{}", daemon.stats());
    // Once a person offers it, it is for everybody.
    let again = seed(&daemon, &repository.bytes("three"), &[]);
    assert_eq!((again, entry(&daemon, again)["scope"].as_str()), (local, Some("public")));
}

/// A network namespace, gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Option<Self> {
        let name = format!("sharing-{}", std::process::id());
        ip(&format!("netns add {name}")).then_some(Self(name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
    }
}

fn ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).status().is_ok_and(|status| status.success())
}

#[test]
fn local_objects_are_given_to_the_local_network_and_nobody_else() {
    if std::env::var_os(INSIDE).is_some() {
        return within();
    }
    let Some(namespace) = Namespace::new() else {
        println!("skipped: this needs leave to make network namespaces (ip netns add), as root has it");
        return;
    };
    let ran = Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "scope::local_objects_are_given_to_the_local_network_and_nobody_else",
            "--nocapture",
        ])
        .env(INSIDE, "1")
        .status();
    assert!(ran.unwrap().success(), "see above");
}

/// The status for `path` at each address. Whoever connects to an address of this machine comes from that address.
fn asked_from(daemon: &Daemon, path: &str, addresses: &[&str]) -> Vec<u16> {
    let port = daemon.peer().port();
    let at = |address: &&str| SocketAddr::new(address.parse().unwrap(), port);
    addresses.iter().map(|address| http::get(at(address), path).status).collect()
}

/// Whether the have-set that is told at each address names the object.
fn told_at(daemon: &Daemon, object: Sha256, addresses: &[&str]) -> Vec<bool> {
    let port = daemon.peer().port();
    let at = |address: &&str| SocketAddr::new(address.parse().unwrap(), port);
    let set = |address| HaveSet::parse(&http::get(at(address), "/have").body).unwrap();
    addresses.iter().map(|address| set(address).contains(&object)).collect()
}

fn within() {
    for words in [
        "link set lo up",
        "link add near0 type veth peer name near1",
        "link set near1 up",
        "link set near0 up",
        "addr add 10.77.0.1/24 dev near0",
        // Private, but of no network that is connected; and one that the world knows.
        "addr add 10.88.0.1/32 dev lo",
        "addr add 9.9.9.9/32 dev lo",
    ] {
        assert!(ip(words), "ip {words}");
    }
    let everywhere = ["127.0.0.1", "10.77.0.1", "10.88.0.1", "9.9.9.9"];
    let listen = "[network]\nlisten = [\"0.0.0.0:0\"]\n";
    let repository = Repository::with(&[Package::new("three", "1", 9_000_000)]);
    let mirror = Mirror::start(&repository.root());
    let daemon = Setup::new().with(USUAL).with(listen).start();
    learn(&daemon, &mirror);
    let local = install(&daemon, &mirror, &repository, "three");
    let stored = || (entry(&daemon, local)["scope"] == "local").then_some(());
    assert!(crate::support::wait_for(std::time::Duration::from_secs(30), stored).is_some());
    let public = seed(&daemon, &noise(23, 1000), &[]);
    let silent = seed(&daemon, &noise(25, 1000), &["--no-announce"]);
    assert_eq!(told_at(&daemon, public, &everywhere), [true; 4]);
    for object in [local, silent] {
        assert_eq!(told_at(&daemon, object, &everywhere), [true, true, false, false], "{object}");
    }
    for path in [format!("/hash/{local}"), format!("/hash/{local}/pieces")] {
        assert_eq!(asked_from(&daemon, &path, &everywhere), [200, 200, 404, 404], "{path}");
    }
    let port = daemon.peer().port();
    let far = |object: Sha256| http::get(SocketAddr::from(([9, 9, 9, 9], port)), &format!("/hash/{object}"));
    assert_eq!(far(local).body, far(Sha256::of(b"nobody has it")).body, "it does not show that it is here");
    assert_eq!(asked_from(&daemon, &format!("/hash/{public}"), &everywhere), [200; 4]);

    let daemon = Setup::new().with("[privacy]\nlan_only = true\n").with(listen).start();
    let public = seed(&daemon, &noise(24, 1000), &[]);
    for path in [format!("/hash/{public}"), "/".to_owned()] {
        assert_eq!(asked_from(&daemon, &path, &everywhere), [200, 200, 404, 404], "{path}");
    }
}
