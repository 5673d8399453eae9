//! One static peer with one fault, for each fault: beside a mirror, and beside an honest peer without a mirror.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::apt::Apt;
use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::peers::{self, Fault, Peer};
use crate::support::repository::Repository;
use crate::world::{self, PACKAGES, faults_in, fetch, learn, lies_noticed, objects, slices, url};

/// How much longer a bad peer may make a download than the mirror alone takes, on a machine that does other things too.
/// Of it, 3 s are the mirror's own: see `give_peers_time`.
const SLACK: Duration = Duration::from_secs(7);

/// A peer that does not go by the rules, and what must be noticed of it.
struct Case<'a> {
    faults: &'a [Fault],
    /// For each of the packages: the names of faults of which one at least must be in the log; none where the peer
    /// does nothing wrong there, or nobody needs to have noticed.
    named: [&'a [&'a str]; 3],
    /// Whether it sends what is not so.
    lies: bool,
}

impl Case<'_> {
    fn check(&self) {
        let repository = world::repository();
        let objects = objects(&repository);
        let peer = Peer::start(&slices(&objects), self.faults);
        let honest = Peer::honest(&slices(&objects));
        self.check_beside(&repository, &objects, peer.address(), &honest);
    }

    /// What takes its time is mostly waiting: all at once.
    fn check_beside(&self, repository: &Repository, objects: &[Vec<u8>], peer: SocketAddr, honest: &Peer) {
        // Measured before the others make everything slower.
        alone(repository);
        std::thread::scope(|scope| {
            scope.spawn(|| self.check_with_mirror(repository, objects, peer));
            scope.spawn(|| self.check_apt(repository, peer));
            scope.spawn(|| self.check_without_mirror(repository, objects, &[peer, honest.address()]));
        });
    }

    /// One daemon for each package: after a fault, a peer is left alone for a while.
    fn check_with_mirror(&self, repository: &Repository, objects: &[Vec<u8>], peer: SocketAddr) {
        for (at, name) in PACKAGES.into_iter().enumerate() {
            let mirror = Mirror::start(&repository.root());
            let daemon = Setup::new().peer(peer).start();
            learn(daemon.proxy(), &mirror);
            world::give_peers_time(&mirror);
            let fetched = fetch(daemon.proxy(), &url(&mirror, repository, name), &[]);
            let alone = alone(repository)[at];
            println!(
                "{:?} and a mirror: {name} in {:.2?}, without the peer {alone:.2?}",
                self.faults, fetched.took
            );
            assert_eq!(fetched.head.status, 200, "{name}: {}", fetched.head.head);
            assert!(fetched.body == objects[at], "{name}: {} bytes came, or wrong ones", fetched.body.len());
            assert!(fetched.took < alone + SLACK, "{name} took {:?}", fetched.took);
            let asked = mirror.bytes("*.deb");
            assert!(asked <= 2 * objects[at].len() as u64, "{name}: the mirror was asked for {asked} bytes");
            self.check_notes(&daemon, name, self.named[at]);
        }
    }

    #[track_caller]
    fn check_notes(&self, daemon: &Daemon, name: &str, named: &[&str]) {
        let faults = faults_in(&daemon.log());
        let expected = named.is_empty() || named.iter().any(|name| faults.iter().any(|fault| fault == name));
        assert!(expected, "{:?}, {name}: none of {named:?} in {faults:?}", self.faults);
        if self.lies && !named.is_empty() {
            assert!(lies_noticed(&daemon.metrics()) > 0, "{:?}, {name}: no failure was counted", self.faults);
        }
    }

    fn check_apt(&self, repository: &Repository, peer: SocketAddr) {
        let mirror = Mirror::start(&repository.root());
        let daemon = Setup::new().peer(peer).start();
        let apt = Apt::new().proxy(daemon.proxy()).one_line(&mirror.url(), repository);
        apt.update().succeeded();
        apt.install(&PACKAGES).succeeded();
        check_archives(&apt, repository, &PACKAGES);
    }

    fn check_without_mirror(&self, repository: &Repository, objects: &[Vec<u8>], peers: &[SocketAddr]) {
        for (at, name) in PACKAGES.into_iter().enumerate() {
            let mirror = Mirror::start(&repository.root());
            let daemon = peers.iter().fold(Setup::new(), |setup, peer| setup.peer(*peer)).start();
            learn(daemon.proxy(), &mirror);
            let url = url(&mirror, repository, name);
            drop(mirror);
            let fetched = fetch(daemon.proxy(), &url, &[]);
            println!("{:?} and an honest peer, no mirror: {name} in {:.2?}", self.faults, fetched.took);
            assert_eq!(fetched.head.status, 200, "{name}: {}", fetched.head.head);
            assert!(fetched.body == objects[at], "{name}: {} bytes came, or wrong ones", fetched.body.len());
        }
    }
}

/// How long the mirror alone takes for each of the packages, through a daemon that knows no peer.
fn alone(repository: &Repository) -> [Duration; 3] {
    static ALONE: OnceLock<[Duration; 3]> = OnceLock::new();
    *ALONE.get_or_init(|| {
        let mirror = Mirror::start(&repository.root());
        let daemon = Daemon::start();
        learn(daemon.proxy(), &mirror);
        PACKAGES.map(|name| fetch(daemon.proxy(), &url(&mirror, repository, name), &[]).took)
    })
}

/// Fails unless apt has exactly these packages, byte by byte.
#[track_caller]
pub(crate) fn check_archives(apt: &Apt, repository: &Repository, names: &[&str]) {
    let mut expected: Vec<_> = names.iter().map(|name| repository.package(name).sha256).collect();
    let mut got: Vec<_> = apt.archives().into_iter().map(|(_, digest)| digest).collect();
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
}

const NOTHING: [&[&str]; 3] = [&[]; 3];

/// The same names for every package.
const fn always<'a>(names: &'a [&'a str]) -> [&'a [&'a str]; 3] {
    [names; 3]
}

/// Names for the packages of more than one piece.
const fn in_pieces<'a>(names: &'a [&'a str]) -> [&'a [&'a str]; 3] {
    [&[], names, names]
}

#[test]
fn wrong_bytes_in_the_first_piece() {
    Case { faults: &[Fault::WrongPiece(0)], named: always(&["wrong-piece"]), lies: true }.check();
}

#[test]
fn wrong_bytes_in_a_later_piece() {
    Case { faults: &[Fault::WrongPiece(1)], named: in_pieces(&["wrong-piece"]), lies: true }.check();
}

#[test]
fn wrong_bytes_in_the_last_piece() {
    let faults = &[Fault::WrongPiece(2), Fault::WrongPiece(11)];
    Case { faults, named: in_pieces(&["wrong-piece"]), lies: true }.check();
}

#[test]
fn wrong_bytes_everywhere() {
    Case { faults: &[Fault::WrongEverywhere], named: always(&["wrong-piece"]), lies: true }.check();
}

#[test]
fn a_body_that_is_too_short() {
    Case { faults: &[Fault::ShortBody(1)], named: always(&["wrong-range"]), lies: false }.check();
}

#[test]
fn a_body_that_is_too_long() {
    Case { faults: &[Fault::LongBody(1)], named: always(&["wrong-range"]), lies: false }.check();
}

#[test]
fn a_body_that_drips() {
    Case { faults: &[Fault::Slow(50_000)], named: NOTHING, lies: false }.check();
}

#[test]
fn a_peer_that_says_nothing() {
    Case { faults: &[Fault::Silent], named: always(&["silent", "late"]), lies: false }.check();
}

#[test]
fn a_peer_that_does_not_speak_http() {
    Case { faults: &[Fault::Rubbish], named: always(&["rubbish"]), lies: false }.check();
}

#[test]
fn a_peer_that_resets() {
    Case { faults: &[Fault::Reset], named: always(&["short"]), lies: false }.check();
}

#[test]
fn a_header_of_a_hundred_megabytes() {
    Case { faults: &[Fault::HugeHeader], named: always(&["rubbish"]), lies: false }.check();
}

#[test]
fn a_peer_whose_slots_are_taken() {
    Case { faults: &[Fault::Busy], named: always(&["busy"]), lies: false }.check();
}

#[test]
fn whoever_is_busy_is_asked_again_for_the_next_object_and_not_blamed() {
    let repository = world::repository();
    let objects = objects(&repository);
    let peer = Peer::start(&slices(&objects), &[Fault::Busy]);
    let mirror = Mirror::start(&repository.root());
    let daemon = Setup::new().peer(peer.address()).start();
    learn(daemon.proxy(), &mirror);
    for (name, object) in PACKAGES.into_iter().zip(&objects) {
        let fetched = fetch(daemon.proxy(), &url(&mirror, &repository, name), &[]);
        assert!(fetched.body == *object, "{name}: {}", fetched.head.head);
    }
    let faults = faults_in(&daemon.log());
    assert!(faults.iter().all(|fault| fault == "busy"), "{faults:?}");
    assert!(faults.len() >= PACKAGES.len(), "it was asked for each: {faults:?}");
}

#[test]
fn a_content_range_from_elsewhere() {
    Case { faults: &[Fault::WrongContentRange(5)], named: in_pieces(&["wrong-range"]), lies: false }.check();
}

#[test]
fn a_server_without_ranges() {
    Case { faults: &[Fault::NoRanges], named: in_pieces(&["wrong-range"]), lies: false }.check();
}

#[test]
fn a_body_that_breaks_off() {
    Case { faults: &[Fault::CloseAfter(100_000)], named: always(&["short"]), lies: false }.check();
}

#[test]
fn a_body_that_stops() {
    Case { faults: &[Fault::SilentAfter(100_000)], named: always(&["stalled", "late"]), lies: false }.check();
}

#[test]
fn a_peer_without_a_list() {
    Case { faults: &[Fault::NoList], named: NOTHING, lies: false }.check();
}

#[test]
fn a_list_that_is_rubbish() {
    Case { faults: &[Fault::RubbishList], named: in_pieces(&["bad-list"]), lies: false }.check();
}

#[test]
fn a_list_that_lies() {
    let named = in_pieces(&["wrong-list", "wrong-piece"]);
    Case { faults: &[Fault::FalseStates], named, lies: true }.check();
}

#[test]
fn a_list_of_a_hundred_megabytes() {
    Case { faults: &[Fault::HugeList], named: in_pieces(&["bad-list"]), lies: false }.check();
}

#[test]
fn a_list_of_nulls() {
    Case { faults: &[Fault::NullStates], named: NOTHING, lies: false }.check();
}

#[test]
fn a_list_for_another_length() {
    for by in [-1, 1] {
        Case { faults: &[Fault::WrongLength(by)], named: in_pieces(&["bad-list"]), lies: false }.check();
    }
}

#[test]
fn a_peer_that_is_not_there() {
    let (address, _kept) = peers::dead();
    let repository = world::repository();
    let objects = objects(&repository);
    let case = Case { faults: &[], named: always(&["unreachable"]), lies: false };
    case.check_beside(&repository, &objects, address, &Peer::honest(&slices(&objects)));
}
