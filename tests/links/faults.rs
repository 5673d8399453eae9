//! Peers that die, lie and fall silent beside honest ones, over wires with a rate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::daemon::Daemon;
use crate::support::peers::{Fault, Peer};
use crate::support::switch::{Host, Placed};
use crate::world::{RATE, alone, client, download, faults, holder, mirror, repository, switch};

/// The mirror's rate, in bytes a second: too slow to be of help.
const SLOW_MIRROR: u64 = 100_000;

/// One way to fail beside honest peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Its process is killed half-way.
    Killed,
    /// Its wire is cut half-way.
    Cut,
    /// One byte of each piece is another.
    WrongBytes,
    /// The states of its list are false.
    WrongList,
    /// Its process stops half-way, as if the machine slept: connections stay, and nothing comes.
    Stopped,
}

impl Failure {
    const ALL: [Self; 5] = [Self::Killed, Self::Cut, Self::WrongBytes, Self::WrongList, Self::Stopped];
}

/// Who fails, on a host of his own.
#[allow(clippy::large_enum_variant, reason = "there are three of them")]
enum Bad<'a> {
    Daemon(Failure, &'a Host, Placed<'a, Daemon>),
    Liar(Placed<'a, Peer>),
}

impl Bad<'_> {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Daemon(_, _, daemon) => daemon.peer(),
            Self::Liar(peer) => peer.address(),
        }
    }

    /// What happens to it half-way.
    fn fail(&mut self) {
        match self {
            Self::Daemon(Failure::Cut, host, _) => host.cut(),
            Self::Daemon(Failure::Stopped, _, daemon) => daemon.signal(Signal::STOP),
            Self::Daemon(_, _, daemon) => daemon.signal(Signal::KILL),
            Self::Liar(_) => {}
        }
    }
}

/// Times with each of these failures at once beside three honest peers, as often as the honest ones alone take.
fn times(length: usize, runs: &[&[Failure]]) -> Option<Vec<f64>> {
    let _alone = alone();
    let switch = switch()?;
    let repository = repository(&["object"], length);
    let bytes = repository.bytes("object");
    let (near, far) = (switch.host(), switch.host());
    let mirror = mirror(&far, &repository, Some(SLOW_MIRROR));
    let hosts: [Host; 3] = std::array::from_fn(|_| switch.host());
    let holders: Vec<_> = hosts.iter().map(|host| holder(host, &repository)).collect();
    let honest: Vec<_> = holders.iter().map(|holder| holder.peer()).collect();
    hosts.iter().for_each(|host| host.send_at_most(RATE));

    let once = |failures: &[Failure]| -> Duration {
        let hosts: Vec<Host> = failures.iter().map(|_| switch.host()).collect();
        let mut bad: Vec<Bad<'_>> = Vec::new();
        for (failure, host) in failures.iter().zip(&hosts) {
            let liar =
                |faults: &[Fault]| Bad::Liar(host.place(|| Peer::start_on(host.ip(), &[&bytes], faults)));
            bad.push(match failure {
                Failure::WrongBytes => liar(&[Fault::WrongEverywhere]),
                Failure::WrongList => liar(&[Fault::FalseStates]),
                _ => Bad::Daemon(*failure, host, holder(host, &repository)),
            });
            host.send_at_most(RATE);
        }
        // Those that fail come first: whoever trusts the first to answer trusts them.
        let peers: Vec<_> = bad.iter().map(Bad::address).chain(honest.iter().copied()).collect();
        let mut daemon = client(&near, &mirror, &peers);
        let failed = AtomicBool::new(false);
        let fetched = download(&mut daemon, &mirror, &repository, "object", |came| {
            if came >= length / 2 && !failed.swap(true, Ordering::Relaxed) {
                bad.iter_mut().for_each(Bad::fail);
            }
        });
        println!("{failures:?}: {:.2?}; {:?}", fetched.whole, faults(&daemon));
        fetched.whole
    };
    let alone = once(&[]);
    let times = runs.iter().map(|failures| {
        let times = once(failures).as_secs_f64() / alone.as_secs_f64();
        println!("  {times:.2} times as long as the honest ones alone");
        times
    });
    Some(times.collect())
}

#[test]
fn peers_that_die_lie_or_fall_silent_cost_little_beside_honest_ones() {
    use Failure::{Cut, Killed, Stopped, WrongBytes, WrongList};
    let runs: [&[Failure]; 2] = [&[Cut, WrongList], &[Killed, WrongBytes, Stopped]];
    // A bound for a busy machine; the strict one is below.
    for (failures, times) in runs.iter().zip(times(75_000_000, &runs).unwrap_or_default()) {
        assert!(times < 2.5, "{failures:?}: {times} times as long");
    }
}

#[test]
#[ignore = "a minute, on a machine that does nothing else"]
fn peers_that_die_lie_or_fall_silent_cost_half_as_much_again_at_most() {
    let alone = Failure::ALL.map(|failure| [failure]);
    let mut runs: Vec<&[Failure]> = alone.iter().map(|one| &one[..]).collect();
    runs.push(&[Failure::Killed, Failure::WrongBytes, Failure::Stopped]);
    runs.push(&[Failure::Cut, Failure::WrongList, Failure::Stopped]);
    for (failures, times) in runs.iter().zip(times(200_000_000, &runs).unwrap_or_default()) {
        assert!(times <= 1.5, "{failures:?}: {times} times as long");
    }
}
