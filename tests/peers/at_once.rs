//! Neighbours that want the same object in the same moment, behind one line to the mirror.

use std::net::{SocketAddr, TcpListener};
use std::sync::Barrier;
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::world::{fetch, learn, repository, url};

const NEIGHBOURS: u8 = 4;

/// What the line carries, in bytes a second.
const RATE: u64 = 10_000_000;

/// An address of this process alone, with a port that nobody has now.
fn place(host: u8) -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    TcpListener::bind(SocketAddr::from(([127, high.max(1), low, host], 0))).unwrap().local_addr().unwrap()
}

/// Four daemons, each of which knows the three others.
fn neighbours() -> Vec<Daemon> {
    let places: Vec<SocketAddr> = (1..=NEIGHBOURS).map(place).collect();
    let start = |own: &SocketAddr| {
        let others = places.iter().filter(|place| *place != own);
        let setup = others.fold(Setup::new(), |setup, other| setup.peer(*other));
        setup.with(&format!("[network]\nlisten = [\"{own}\"]\n")).start()
    };
    places.iter().map(start).collect()
}

/// All come to their end, and share the line so that none waits for longer than if each took all of it by himself.
#[test]
fn neighbours_that_begin_in_the_same_moment_all_come_through() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*twelve*", Fault::RateInAll(RATE)));
    let daemons = neighbours();
    daemons.iter().for_each(|daemon| learn(daemon.proxy(), &mirror));
    let (object, url) = (repository.bytes("twelve"), url(&mirror, &repository, "twelve"));
    let start = Barrier::new(daemons.len());
    let come_through = |daemon: &Daemon| {
        start.wait();
        let fetched = fetch(daemon.proxy(), &url, &[]);
        assert!(fetched.body == object, "{}", fetched.head.head);
        fetched.took
    };
    let come_through = &come_through;
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let fetching: Vec<_> =
            daemons.iter().map(|daemon| scope.spawn(move || come_through(daemon))).collect();
        fetching.into_iter().map(|one| one.join().unwrap()).collect()
    });
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let of_line = |bytes: u64| bytes as f64 / RATE as f64;
    let (length, sent) = (object.len() as u64, mirror.bytes("*twelve*"));
    let (copies, alone) = (of_line(sent) / of_line(length), Duration::from_secs_f64(of_line(length)));
    println!("the mirror gave {copies:.2} copies, they took {times:.2?}, one alone {alone:.2?}");
    // One after the other; and what a busy machine needs.
    let all = alone * u32::from(NEIGHBOURS) + Duration::from_secs(10);
    assert!(times.iter().all(|took| *took < all), "{times:?}");
}
