//! A machine behind a router: whether it tells strangers of itself, and by which port, seen by the nodes that it tells.
//!
//! The test runs itself again within a namespace of its own. Another one is the router, and the world behind it.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aptpeer::digest::InfoHash;

use crate::router::{Open, natpmp};
use crate::support::daemon::{Daemon, Setup};
use crate::support::http;
use crate::support::mirror::Mirror;
use crate::support::namespaces::{NOT_ALLOWED, Namespace, must};
use crate::support::repository::{Package, Repository};
use crate::support::wait_for;
use crate::tracker::Tracker;
use crate::world::{aptpeer, install, learn, path};

/// Set in the run within the namespace: the name of the router's.
const ROUTER: &str = "SHARING_ROUTER_NAMESPACE";

/// Where the daemon is, as the nodes of these tests see it: nothing is translated.
const HOME: ([u8; 4], u16) = ([192, 168, 77, 2], OWN);

/// What happens by itself within this time, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Nodes of the DHT, each in a network of its own: fewer are not believed about where we are.
const NODES: [&str; 3] = ["11.1.0.1:6881", "11.2.0.1:6881", "11.3.0.1:6881"];

/// Where they see us: at the router's address.
const SEEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(8, 8, 4, 4), 40000);

/// The port of our own, and that which the router of [`natpmp`] opens.
const OWN: u16 = 9979;
const MAPPED: u16 = 12345;

#[test]
fn who_cannot_be_reached_is_announced_only_where_the_user_insists() {
    if let Ok(router) = std::env::var(ROUTER) {
        within(&router);
        return;
    }
    let (Some(home), Some(router)) = (Namespace::new("home"), Namespace::new("router")) else {
        println!("{NOT_ALLOWED}");
        return;
    };
    let test = "unreachable::who_cannot_be_reached_is_announced_only_where_the_user_insists";
    let ran = Command::new("ip")
        .args(["netns", "exec", home.name()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROUTER, router.name())
        .status();
    assert!(ran.unwrap().success(), "see above");
}

/// A router that refuses ("not authorized", RFC 6887 and RFC 6886), until it is told to open ports.
fn start_router(namespace: &str) -> Arc<AtomicBool> {
    let socket = Namespace::visit(namespace, || UdpSocket::bind("192.168.77.1:5351").unwrap());
    let opens = Arc::new(AtomicBool::new(false));
    let told = opens.clone();
    std::thread::spawn(move || {
        let (mut space, open) = ([0; 2048], Open::default());
        while let Ok((length, from)) = socket.recv_from(&mut space) {
            let answer = match &space[..length] {
                question if told.load(Ordering::SeqCst) => natpmp(question, &open),
                [2, ..] => [&[2, 0x81, 0, 2], &[0; 56][..]].concat(),
                [0, opcode, ..] => vec![0, 128 + opcode, 0, 2, 0, 0, 0, 1],
                _ => continue,
            };
            socket.send_to(&answer, from).unwrap();
        }
    });
    opens
}

/// The ports that a daemon told the nodes, for the archive and for the package that it has, by the time that it has tried;
/// `reachable` is what is to come out.
fn told(router: &str, announce: &str, reachable: &str, repository: &Repository) -> [Vec<u16>; 2] {
    let nodes = NODES.map(|node| Namespace::visit(router, || Tracker::at(node, Some(SEEN))));
    let config = format!(
        "[network]\nlisten = [\"0.0.0.0:{OWN}\"]\nport_mapping = true\n[privacy]\nannounce = {announce}\n\
         [mirrors]\nkeyrings = [\"{}\"]\n",
        repository.keyring().display()
    );
    let mirror = Mirror::start(&repository.root());
    let daemon = Setup::new().dht(&NODES.map(|node| node.parse().unwrap())).with(&config).start();
    wait(&daemon, || daemon.stats()["reachable"] == reachable);
    learn(&daemon, &mirror);
    if reachable == "no" {
        is_told(&daemon);
    }
    let package = InfoHash::from(install(&daemon, &mirror, repository, "one"));
    let archive = InfoHash::from(aptpeer::wire::archive_name("test", "test"));
    let told = || {
        let all: Vec<_> = nodes.iter().flat_map(Tracker::announced).collect();
        let of = |what| all.iter().filter(move |(announced, _)| *announced == what).map(|(_, port)| *port);
        [archive, package].map(|what| of(what).collect::<Vec<_>>())
    };
    // The turn of both has come, whatever they did with it.
    let log = |text: &str| daemon.log().contains(text);
    wait(&daemon, || log("\"announced\"") && log("looked for users of an archive"));
    if reachable == "yes" || announce != "true" {
        wait(&daemon, || told().iter().all(|ports| !ports.is_empty()));
    }
    let looked = nodes.iter().flat_map(|node| node.asked_by(HOME.into()));
    assert!(looked.into_iter().any(|what| what == archive), "it looks for others in any case");
    told()
}

/// Whoever asks what is wrong hears of it, and what to do.
fn is_told(daemon: &Daemon) {
    let remedy = format!("forward port {OWN}, TCP and UDP, to this machine");
    let health = http::get(daemon.status(), "/health").text();
    assert!(health.contains(&remedy), "{health}");
    let output = aptpeer(&["--config", path(&daemon.config()), "doctor", "--json"]);
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let outside = findings.iter().find(|finding| finding["about"] == "outside").unwrap();
    assert_eq!(outside["verdict"], "warning");
    assert!(outside["remedy"].as_str().unwrap().contains(&remedy), "{outside}");
}

#[track_caller]
fn wait(daemon: &Daemon, until: impl Fn() -> bool) {
    assert!(wait_for(LIMIT, || until().then_some(())).is_some(), "{}\n{}", daemon.stats(), daemon.log());
}

fn within(router: &str) {
    must(&format!("link add home0 type veth peer name router0 netns {router}"));
    must("addr add 192.168.77.2/24 dev home0");
    must("link set home0 up");
    must(&format!("-n {router} addr add 192.168.77.1/24 dev router0"));
    must(&format!("-n {router} link set router0 up"));
    must("route add default via 192.168.77.1");
    for node in NODES {
        let address = node.split(':').next().unwrap();
        must(&format!("-n {router} addr add {address}/32 dev lo"));
    }
    let repository = Repository::with(&[Package::new("one", "1", 9_000)]);
    let opens = start_router(router);
    assert_eq!(told(router, "true", "no", &repository), [Vec::<u16>::new(), Vec::new()]);
    let insisted = told(router, "\"always\"", "no", &repository);
    assert!(insisted.iter().flatten().all(|port| *port == OWN), "{insisted:?}");
    opens.store(true, Ordering::SeqCst);
    let opened = told(router, "true", "yes", &repository);
    assert!(opened.iter().flatten().all(|port| *port == MAPPED), "{opened:?}");
}
