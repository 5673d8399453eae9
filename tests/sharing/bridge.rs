//! Machines on one bridge, of which every datagram is read: what a private swarm shows to whoever has a wire there.
//!
//! The test runs itself again in the bridge's namespace, where it has an address that all machines reach.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use aptpeer::dht::Signer;
use aptpeer::digest::Sha256;
use aptpeer::wire::list_seed;

use crate::secret::Place;
use crate::support::capture::{Capture, Frames};
use crate::support::daemon::{Daemon, Setup};
use crate::support::http;
use crate::support::namespaces::{NOT_ALLOWED, Namespace, must};
use crate::support::noise;
use crate::support::peers::states;
use crate::world::{path, seed};

/// Set in the run within the bridge's namespace: the names of the machines', in the order of [`ALL`].
const MACHINES: &str = "SHARING_MACHINES";

/// The machines, by the last number of their addresses.
const ENTRANCE: u8 = 2;
const HOLDER: u8 = 3;
const SEEKER: u8 = 4;
const STRANGER: u8 = 5;
const ALL: [u8; 4] = [ENTRANCE, HOLDER, SEEKER, STRANGER];

/// Queries as they stand in a datagram (BEP 5; BEP 44).
const QUERIES: [&[u8]; 4] = [b"9:get_peers", b"13:announce_peer", b"1:q3:get", b"1:q3:put"];

#[test]
fn nothing_on_the_bridge_names_what_a_private_swarm_has_and_a_stranger_there_gets_nothing() {
    if let Ok(machines) = std::env::var(MACHINES) {
        within(&machines.split(',').collect::<Vec<_>>());
        return;
    }
    let machines: Option<Vec<Namespace>> = ALL.iter().map(|_| Namespace::new("machine")).collect();
    let (Some(bridge), Some(machines)) = (Namespace::new("bridge"), machines) else {
        println!("{NOT_ALLOWED}");
        return;
    };
    let names: Vec<&str> = machines.iter().map(Namespace::name).collect();
    let test =
        "bridge::nothing_on_the_bridge_names_what_a_private_swarm_has_and_a_stranger_there_gets_nothing";
    let ran = Command::new("ip")
        .args(["netns", "exec", bridge.name()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MACHINES, names.join(","))
        .status();
    assert!(ran.unwrap().success(), "see above");
}

/// The machines, from within.
struct Bridge {
    folder: tempfile::TempDir,
}

impl Bridge {
    fn new(machines: &[&str]) -> Self {
        must("link add br0 type bridge mcast_snooping 0");
        must("addr add 10.77.0.1/24 dev br0");
        must("link set br0 up");
        let folder = tempfile::tempdir().unwrap();
        for (machine, number) in machines.iter().zip(ALL) {
            must(&format!("-n {machine} link add eth0 type veth peer name port{number} netns {}", own_pid()));
            must(&format!("link set port{number} master br0 up"));
            must(&format!("-n {machine} addr add {}/24 dev eth0", ip(number)));
            must(&format!("-n {machine} link set eth0 up"));
            let script = folder.path().join(number.to_string());
            let program = env!("CARGO_BIN_EXE_aptpeer");
            std::fs::write(&script, format!("#!/bin/sh\nexec ip netns exec {machine} {program} \"$@\"\n"))
                .unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    /// The program as it runs on a machine.
    fn program(&self, number: u8) -> PathBuf {
        self.folder.path().join(number.to_string())
    }

    /// A daemon, or a node, of that machine.
    fn start(&self, number: u8, setup: Setup) -> Daemon {
        let (peers, status) = (at(number, 9979), at(number, 9978));
        let listen = format!("[network]\nlisten = [\"{peers}\"]\n[status]\nlisten = \"{status}\"\n");
        setup.program(&self.program(number)).with(&listen).start()
    }

    /// `aptpeer get` on a machine, with the configuration of its daemon.
    fn get(&self, number: u8, daemon: &Daemon, object: Sha256) -> (Output, Option<Vec<u8>>) {
        let file = self.folder.path().join("got");
        let mut command = Command::new(self.program(number));
        command.args(["--config", path(&daemon.config()), "get", &object.to_string(), "-o", path(&file)]);
        let output = command.output().unwrap();
        let got = std::fs::read(&file).ok();
        let _ = std::fs::remove_file(&file);
        (output, got)
    }
}

const fn ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

fn at(number: u8, port: u16) -> SocketAddr {
    (ip(number), port).into()
}

fn own_pid() -> u32 {
    std::process::id()
}

fn within(machines: &[&str]) {
    let bridge = Bridge::new(machines);
    let entrance = bridge.start(ENTRANCE, Setup::bootstrap());
    let entrance = entrance.dht();
    let names = Names::of(&noise(31, 9_000_000));

    let (frames, holder) = swarm(&bridge, entrance, &Setup::new, &names);
    assert!(frames.from(ip(SEEKER), &names.key) > 0, "it is looked up by the name that everybody knows");
    drop(holder);
    for (what, bytes) in names.of_the_public_swarm() {
        assert!(frames.with(bytes) > 0, "{what} would not be seen");
    }

    let place = Place::new();
    let (frames, holder) = swarm(&bridge, entrance, &|| place.member(), &names);
    let private = *place.swarm().info_hash(&names.object).as_bytes();
    assert!(frames.from(ip(HOLDER), &private) > 0 && frames.from(ip(SEEKER), &private) > 0);
    for (what, bytes) in names.of_the_public_swarm().into_iter().chain(names.others()) {
        assert_eq!(frames.with(bytes), 0, "{what} was on the wire");
    }

    // Somebody else on the same bridge, who knows what it is called, where it is, and how the local network finds it.
    let stranger = Setup::new().dht(&[entrance]).with("[lan]\nenabled = true\n").peer(holder.peer());
    let stranger = bridge.start(STRANGER, stranger);
    let (output, got) = bridge.get(STRANGER, &stranger, names.object);
    assert!(!output.status.success() && got.is_none(), "{output:?}");
    for asked in
        [format!("/hash/{}", names.object), format!("/hash/{}/pieces", names.object), "/have".to_owned()]
    {
        assert_eq!(http::get(holder.peer(), &asked).status, 404, "{asked}");
    }
}

/// One machine of a swarm has the object and announces it with its list, another looks it up and gets it: what was on the
/// wires meanwhile.
fn swarm(
    bridge: &Bridge,
    entrance: SocketAddr,
    member: &dyn Fn() -> Setup,
    names: &Names,
) -> (Frames, Daemon) {
    let capture = Capture::start();
    let holder = member().dht(&[entrance]).with("[lan]\nenabled = true\n");
    let mut holder = bridge.start(HOLDER, holder);
    holder.terminate();
    assert_eq!(seed(&holder, &names.bytes, &[]), names.object);
    holder.restart();
    holder.wait_for_announced(1);
    holder.wait_for_log("published its piece list");
    let seeker = bridge.start(SEEKER, member().dht(&[entrance]));
    seeker.wait_for_dht();
    let (output, got) = bridge.get(SEEKER, &seeker, names.object);
    assert!(got.as_ref() == Some(&names.bytes), "{output:?}");
    let frames = capture.finish();
    for query in QUERIES {
        assert!(frames.with(query) > 0, "no {}", String::from_utf8_lossy(query));
    }
    (frames, holder)
}

/// An object, and everything by which whoever knows it would know it again.
struct Names {
    bytes: Vec<u8>,
    object: Sha256,
    key: Vec<u8>,
    /// Where its list is, and what is in it.
    target: Vec<u8>,
    states: Vec<[u8; 32]>,
    length: String,
    hex: String,
}

impl Names {
    fn of(bytes: &[u8]) -> Self {
        let object = Sha256::of(bytes);
        Self {
            bytes: bytes.to_vec(),
            object,
            key: object.as_bytes()[..20].to_vec(),
            target: Signer::from_seed(&list_seed(&object)).unwrap().target(b"").as_bytes().to_vec(),
            states: states(bytes).into_iter().map(aptpeer::pieces::State::to_bytes).collect(),
            // Bencoded (BEP 3).
            length: format!("1:li{}e", bytes.len()),
            hex: object.to_string(),
        }
    }

    /// What the public swarm shows.
    fn of_the_public_swarm(&self) -> Vec<(&'static str, &[u8])> {
        let states = self.states.iter().map(|state| ("a state of its list", &state[..]));
        let others = [
            ("its info-hash", &self.key[..]),
            ("the place of its list", &self.target),
            ("its length", self.length.as_bytes()),
        ];
        others.into_iter().chain(states).collect()
    }

    /// What nobody shows.
    fn others(&self) -> [(&'static str, &[u8]); 3] {
        let digest: &[u8] = self.object.as_bytes();
        [
            ("its digest", digest),
            ("its digest, as text", self.hex.as_bytes()),
            ("its name, as text", &self.hex.as_bytes()[..40]),
        ]
    }
}
