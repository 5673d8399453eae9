//! A local network of namespaces: each host has an `eth0` on one bridge, and the mirror is a host among them.
//!
//! A test runs itself again within the mirror's namespace, where it has an address that all hosts reach.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::wait_for;

/// Set in the run within a namespace: how the names of this network's namespaces begin.
const NETWORK: &str = "LAN_TEST_NETWORK";

/// What happens by itself within this time, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Where the mirror is, and the test.
pub(crate) const MIRROR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));

/// A bridge with hosts on it, from within.
pub(crate) struct Network {
    name: String,
    folder: tempfile::TempDir,
}

/// A host of the network; its number is the last of its address.
pub(crate) struct Host<'a> {
    network: &'a Network,
    number: u8,
}

/// Namespaces that go with it.
struct Namespaces(String);

impl Drop for Namespaces {
    fn drop(&mut self) {
        let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names = listed.lines().filter_map(|line| line.split(' ').next());
        for name in names.filter(|name| name.starts_with(&format!("{}-", self.0))) {
            ip(&format!("netns del {name}"));
        }
    }
}

/// Whether `ip` did it.
pub(crate) fn ip(words: &str) -> bool {
    let output = Command::new("ip").args(words.split(' ')).output();
    output.is_ok_and(|output| {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        output.status.success()
    })
}

#[track_caller]
fn must(words: &str) {
    assert!(ip(words), "ip {words}");
}

/// Runs `within` in a network of its own; `test` is the full name of the calling test.
#[track_caller]
pub(crate) fn on_a_network(test: &str, within: impl FnOnce(&Network)) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if let Ok(name) = std::env::var(NETWORK) {
        if std::env::var("LAN_TEST_NAME").as_deref() == Ok(test) {
            within(&Network { name, folder: tempfile::tempdir().unwrap() });
        }
        return;
    }
    let name = format!("lan{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let (switch, mirror) = (format!("{name}-switch"), format!("{name}-mirror"));
    if !ip(&format!("netns add {switch}")) {
        println!("skipped: this needs leave to make network namespaces (ip netns add), as root has it");
        return;
    }
    let _namespaces = Namespaces(name.clone());
    must(&format!("netns add {mirror}"));
    must(&format!("-n {switch} link add br0 type bridge mcast_snooping 0"));
    must(&format!("-n {switch} link set br0 up"));
    plug(&name, "mirror", 1);
    let ran = Command::new("ip")
        .args(["netns", "exec", &mirror])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(NETWORK, &name)
        .env("LAN_TEST_NAME", test)
        .status();
    assert!(ran.unwrap().success(), "see above");
}

/// Gives a namespace its wire to the bridge, and the address with this number.
fn plug(network: &str, host: &str, number: u8) {
    let (host, switch) = (format!("{network}-{host}"), format!("{network}-switch"));
    must(&format!("-n {host} link set lo up"));
    must(&format!("-n {host} link add eth0 type veth peer name port{number} netns {switch}"));
    must(&format!("-n {switch} link set port{number} master br0 up"));
    must(&format!("-n {host} addr add 10.77.0.{number}/24 dev eth0"));
    must(&format!("-n {host} addr add fd77::{number:x}/64 dev eth0 nodad"));
    must(&format!("-n {host} link set eth0 up"));
}

impl Network {
    /// A host with a network.
    pub(crate) fn host(&self, number: u8) -> Host<'_> {
        let host = self.unplugged(number);
        host.plug();
        host
    }

    /// A host without any.
    pub(crate) fn unplugged(&self, number: u8) -> Host<'_> {
        assert!(number > 1, "1 is the mirror");
        must(&format!("netns add {}-{number}", self.name));
        must(&format!("-n {}-{number} link set lo up", self.name));
        Host { network: self, number }
    }

    /// Lets the mirror send no more than so many Mbit a second, all hosts together.
    pub(crate) fn limit_mirror(&self, megabits: u32) {
        let shaped = Command::new("tc")
            .args("qdisc replace dev eth0 root tbf latency 100ms burst 64kb rate".split(' '))
            .arg(format!("{megabits}mbit"))
            .status();
        assert!(shaped.unwrap().success());
    }
}

impl Host<'_> {
    pub(crate) fn namespace(&self) -> String {
        format!("{}-{}", self.network.name, self.number)
    }

    pub(crate) fn plug(&self) {
        plug(&self.network.name, &self.number.to_string(), self.number);
    }

    /// Where its daemon serves peers.
    pub(crate) fn peer(&self) -> SocketAddr {
        format!("10.77.0.{}:9979", self.number).parse().unwrap()
    }

    /// A daemon on this host, as it is installed: served on all addresses, with the local network on.
    pub(crate) fn setup(&self) -> Setup {
        let script = self.network.folder.path().join(format!("aptpeer-{}", self.number));
        let (namespace, program) = (self.namespace(), env!("CARGO_BIN_EXE_aptpeer"));
        let text = format!("#!/bin/sh\nexec ip netns exec {namespace} {program} \"$@\"\n");
        if !script.exists() {
            std::fs::write(&script, text).unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let config = "[proxy]\nlisten = \"127.0.0.1:9977\"\n\
                      [network]\nlisten = [\"0.0.0.0:9979\", \"[::]:9979\"]\nallow_private_peers = false\n\
                      [status]\nlisten = \"0.0.0.0:9978\"\n[lan]\nenabled = true\n";
        Setup::new().program(&script).with(config)
    }

    /// The address of a page of its status.
    pub(crate) fn status(&self) -> SocketAddr {
        format!("10.77.0.{}:9978", self.number).parse().unwrap()
    }

    /// The peers that its daemon knows.
    pub(crate) fn peers(&self) -> Vec<String> {
        let response = crate::support::http::get(self.status(), "/peers");
        let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let peers = json["peers"].as_array().unwrap().iter();
        let mut peers: Vec<String> = peers.map(|peer| peer["address"].as_str().unwrap().to_owned()).collect();
        peers.sort();
        peers
    }

    /// Waits until its daemon knows these peers and no others.
    #[track_caller]
    pub(crate) fn wait_for_peers(&self, daemon: &Daemon, expected: &[SocketAddr]) {
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        let found = wait_for(LIMIT, || (self.peers() == expected).then_some(()));
        assert!(found.is_some(), "{:?} instead of {expected:?}\n{}", self.peers(), daemon.log());
    }
}
