//! Networks that come late and change under a running daemon: network namespaces with a wire between them.
//!
//! The test runs itself again within a namespace of its own, where it may do as it likes with addresses and names.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;

use crate::nodes::Network;
use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::namespaces::{NOT_ALLOWED, Namespace, must};
use crate::support::repository::{Package, Repository};
use crate::support::wait_for;
use crate::world::{fetch, learn, url};

/// Set in the run within the namespace: the name of the other end's.
const FAR: &str = "FINDING_FAR_NAMESPACE";

/// What happens by itself within this time, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Nodes that the DHT consists of, each in a network of its own, and with addresses as the world has them: how we are
/// seen counts only from there. Nothing of this leaves the namespaces.
const NODES: [&str; 4] = ["11.1.0.1", "11.2.0.1", "11.3.0.1", "11.4.0.1"];

/// Our own addresses, one after the other, and the far end's beside them.
const FIRST: (&str, &str) = ("12.1.0.2", "12.1.0.1");
const SECOND: (&str, &str) = ("12.2.0.2", "12.2.0.1");

#[test]
fn a_network_that_comes_late_or_changes_is_followed() {
    if let Ok(far) = std::env::var(FAR) {
        within(&far);
        return;
    }
    let (Some(near), Some(far)) = (Namespace::new("near"), Namespace::new("far")) else {
        println!("{NOT_ALLOWED}");
        return;
    };
    let test = "networks::a_network_that_comes_late_or_changes_is_followed";
    let ran = Command::new("ip")
        .args(["netns", "exec", near.name()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FAR, far.name())
        .status();
    assert!(ran.unwrap().success(), "see above");
}

/// Programs that run in the namespace `far`, by a wrapper around the daemon.
fn far_program(folder: &std::path::Path, far: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let script = folder.join("far");
    let program = env!("CARGO_BIN_EXE_aptpeer");
    std::fs::write(&script, format!("#!/bin/sh\nexec ip netns exec {far} {program} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// The DHT at the far end: nodes that know each other, at addresses that are not reachable yet.
fn far_nodes(program: &std::path::Path, far: &str) -> Vec<Daemon> {
    for node in NODES {
        must(&format!("-n {far} addr add {node}/32 dev lo"));
    }
    let entrance = format!("{}:9979", NODES[0]).parse().unwrap();
    NODES
        .iter()
        .map(|node| {
            let listen = format!("[network]\nlisten = [\"{node}:9979\"]\nallow_private_peers = false\n");
            let setup = Setup::bootstrap().program(program).dht(&[entrance]);
            setup.with(&listen).with("[status]\nlisten = \"127.0.0.1:0\"\n").start()
        })
        .collect()
}

/// Our end of the wire has these addresses now, and no others.
fn move_to(far: &str, (own, gateway): (&str, &str)) {
    must("addr flush dev near0");
    must(&format!("addr add {own}/24 dev near0"));
    must(&format!("-n {far} addr replace {gateway}/24 dev far0"));
    must(&format!("route replace default via {gateway}"));
}

fn dht(daemon: &Daemon, member: &str) -> serde_json::Value {
    daemon.stats()["dht"][member].clone()
}

#[track_caller]
fn wait_for_external(daemon: &Daemon, address: &str) {
    let seen = || (dht(daemon, "external_address") == address).then_some(());
    assert!(wait_for(LIMIT, seen).is_some(), "not seen at {address}: {}\n{}", daemon.stats(), daemon.log());
}

fn within(far: &str) {
    let folder = tempfile::tempdir().unwrap();
    let _nodes = far_nodes(&far_program(folder.path(), far), far);

    // Names that nobody resolves yet, and a machine without a network: its only interface is lo.
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let bound = Command::new("mount").arg("--bind").arg(&hosts).arg("/etc/hosts").status().unwrap();
    assert!(bound.success(), "this mount namespace is ours");
    let repository = Repository::with(&["held", "later"].map(|name| Package::new(name, "1", 9_000_000)));
    let mirror = Mirror::start(&repository.root());
    let config = "[network]\nlisten = [\"0.0.0.0:9979\"]\nallow_private_peers = false\n\
                  [dht]\nenabled = true\nbootstrap = [\"entrance.test:9979\"]\n";
    let daemon = Setup::new().with(config).start();
    let waits = || dht(&daemon, "waiting_for").as_str().filter(|what| what.contains("resolve")).map(|_| ());
    assert!(wait_for(LIMIT, waits).is_some(), "{}", daemon.stats());
    // apt gets what it wants all the same.
    learn(&daemon, &mirror);
    fetch(daemon.proxy(), &url(&mirror, &repository, "held"), || {});

    must(&format!("link add near0 type veth peer name far0 netns {far}"));
    must("link set near0 up");
    must(&format!("-n {far} link set far0 up"));
    move_to(far, FIRST);
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{} entrance.test\n", NODES[0])).unwrap();
    let came = Instant::now();
    daemon.wait_for_dht();
    println!("in the DHT {:.1?} after the network came", came.elapsed());
    assert!(dht(&daemon, "waiting_for").is_null(), "{}", daemon.stats());
    wait_for_external(&daemon, FIRST.0);
    println!("its address is known after {:.1?}", came.elapsed());
    let object = Sha256::of(&repository.bytes("held"));
    wait_for_provider(object, FIRST.0);
    println!("what it holds is found after {:.1?}", came.elapsed());

    let moved = Instant::now();
    move_to(far, SECOND);
    wait_for_external(&daemon, SECOND.0);
    println!("the new address is known {:.1?} after the move", moved.elapsed());
    wait_for_provider(object, SECOND.0);
    println!("what it holds is found there after {:.1?}", moved.elapsed());

    // The network goes, apt gets what it wants, and the network is back.
    must("link set near0 down");
    fetch(daemon.proxy(), &url(&mirror, &repository, "later"), || {});
    must("link set near0 up");
    must(&format!("route replace default via {}", SECOND.1));
    let back = Instant::now();
    wait_for_provider(Sha256::of(&repository.bytes("later")), SECOND.0);
    println!("what came meanwhile is found {:.1?} after the network is back", back.elapsed());
}

/// Waits until others find the object at this address.
#[track_caller]
fn wait_for_provider(object: Sha256, address: &str) {
    let entrance = format!("{}:9979", NODES[0]).parse().unwrap();
    let provider: SocketAddr = format!("{address}:9979").parse().unwrap();
    let node = Network::one_within(entrance);
    let found = || node.look_up(0, object).contains(&provider).then_some(());
    assert!(wait_for(LIMIT, found).is_some(), "it is not found at {provider}");
}
