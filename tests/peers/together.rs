//! A real apt behind a daemon whose static peers are bad in different ways at once.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::faults::check_archives;
use crate::support::apt::Apt;
use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::peers::{self, Fault, Peer};
use crate::support::repository::{Repository, dozen};
use crate::world::{faults_in, fetch, learn, lies_noticed, url};

/// A dozen packages, one of 30 MB.
fn archive() -> Repository {
    Repository::with(&dozen(5_000_000, 30_000_000))
}

fn names(repository: &Repository) -> Vec<&str> {
    repository.built().iter().map(|built| &*built.package.name).collect()
}

fn whole(repository: &Repository) -> Vec<Vec<u8>> {
    names(repository).iter().map(|name| repository.bytes(name)).collect()
}

/// apt updates and downloads everything, without a word of complaint; how many seconds the download took.
fn everything(daemon: &Daemon, mirror: &Mirror, repository: &Repository) -> f64 {
    let apt = Apt::new().proxy(daemon.proxy()).deb822(&mirror.url(), repository);
    apt.update().succeeded();
    let started = Instant::now();
    apt.install(&names(repository)).succeeded();
    let took = started.elapsed().as_secs_f64();
    check_archives(&apt, repository, &names(repository));
    took
}

#[test]
fn apt_succeeds_beside_a_liar_a_sleeper_and_a_corpse() {
    let repository = archive();
    let objects = whole(&repository);
    let objects: Vec<&[u8]> = objects.iter().map(Vec::as_slice).collect();
    let mirror = Mirror::start(&repository.root());
    let alone = everything(&Daemon::start(), &mirror, &repository);

    let liar = Peer::start(&objects, &[Fault::WrongEverywhere]);
    let sleeper = Peer::start(&objects, &[Fault::SilentAfter(1000)]);
    let (corpse, _kept) = peers::dead();
    let setup = Setup::new().peer(liar.address()).peer(sleeper.address()).peer(corpse);
    let daemon = setup.start();
    let took = everything(&daemon, &mirror, &repository);
    println!("twelve packages in {took:.2} s, without the peers {alone:.2} s");
    assert!(took < alone + 4.0, "{took:.2} s instead of {alone:.2} s");
    let faults = faults_in(&daemon.log());
    for names in [&["wrong-piece"][..], &["stalled", "late"], &["unreachable"]] {
        assert!(faults.iter().any(|fault| names.contains(&&**fault)), "none of {names:?} in {faults:?}");
    }
    assert!(lies_noticed(&daemon.metrics()) > 0);
}

/// One package after another, as a user does who installs one thing at a time: how many seconds they take together.
fn one_by_one(daemon: &Daemon, mirror: &Mirror, repository: &Repository) -> f64 {
    learn(daemon.proxy(), mirror);
    let started = Instant::now();
    for name in names(repository) {
        let fetched = fetch(daemon.proxy(), &url(mirror, repository, name), &[]);
        assert!(fetched.body == repository.bytes(name), "{name}: {}", fetched.head.head);
    }
    started.elapsed().as_secs_f64()
}

#[test]
fn a_peer_that_is_switched_off_costs_its_wait_once_and_not_for_every_package() {
    let repository = archive();
    let mirror = Mirror::start(&repository.root());
    let alone = one_by_one(&Daemon::start(), &mirror, &repository);
    let silent = Peer::start(&[], &[Fault::Silent]);
    let off = SwitchedOff::new();
    for (what, address) in [("silent", silent.address()), ("switched off", off.address)] {
        let daemon = Setup::new().peer(address).start();
        let took = one_by_one(&daemon, &mirror, &repository);
        println!("twelve packages one by one beside a {what} peer: {took:.2} s, without it {alone:.2} s");
        assert!(took < alone + 4.0, "{what}: {took:.2} s instead of {alone:.2} s");
    }
}

/// A machine that is off, as near as loopback comes to it: a listener whose queue is full, so that the kernel drops
/// whoever tries to connect.
struct SwitchedOff {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queue: Vec<TcpStream>,
}

impl SwitchedOff {
    fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
        }
        Self { address, _listener: listener, _queue: queue }
    }
}
