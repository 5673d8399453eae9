//! One copy from the mirror for a whole network: machines that install the same at the same moment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;

use crate::network::{Host, LIMIT, MIRROR, Network, on_a_network};
use crate::support::apt::Apt;
use crate::support::daemon::Daemon;
use crate::support::mirror::Mirror;
use crate::support::repository::{Package, Repository};
use crate::support::wait_for;

/// What a network is to install.
struct Plan {
    hosts: u8,
    small: usize,
    large: usize,
    large_bytes: usize,
    /// Machines that are switched off when the mirror has sent half of one copy.
    killed: usize,
    megabits: u32,
}

/// A machine: a daemon, and an apt that uses it.
struct Machine<'a> {
    host: Host<'a>,
    daemon: Daemon,
    apt: Apt,
}

/// What came of it.
struct Report {
    alone: Duration,
    slowest: Duration,
    /// Of the packages, and of the indexes of apt's update.
    copies: f64,
    index_copies: f64,
}

fn machine<'a>(network: &'a Network, number: u8, mirror: &Mirror, repository: &Repository) -> Machine<'a> {
    let host = network.host(number);
    let level = if logs().is_some() { "debug" } else { "info" };
    let daemon = host.setup().with(&format!("[log]\nlevel = \"{level}\"\n")).start();
    let apt = Apt::new().within(&host.namespace()).proxy("127.0.0.1:9977".parse().unwrap());
    Machine { host, daemon, apt: apt.one_line(&mirror.url(), repository) }
}

/// Where the logs of all machines go, if anywhere.
fn logs() -> Option<PathBuf> {
    std::env::var_os("LAN_TEST_LOGS").map(PathBuf::from)
}

/// A number from the environment, or the usual one.
fn figure<T: FromStr>(name: &str, usual: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// How the mirror's line was used over a time.
#[derive(Debug, Default)]
struct Line {
    /// What had been sent at the end of each [`TICK`], since it began.
    sent: Vec<u64>,
}

const TICK: Duration = Duration::from_millis(100);

/// What the mirror's interface has sent ever.
fn sent_by_line() -> u64 {
    std::fs::read_to_string("/sys/class/net/eth0/statistics/tx_bytes").unwrap().trim().parse().unwrap()
}

impl Line {
    /// Watches the line while `within` runs.
    fn watch<T>(within: impl FnOnce() -> T) -> (Self, T) {
        let (ended, over) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let watching = scope.spawn(move || {
                let (from, mut sent) = (sent_by_line(), Vec::new());
                while over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    sent.push(sent_by_line() - from);
                }
                Self { sent }
            });
            let result = within();
            drop(ended);
            (watching.join().unwrap(), result)
        })
    }

    /// Prints what it did, in parts of what it could.
    #[allow(clippy::cast_precision_loss)]
    fn tell(&self, megabits: u32) {
        let most = f64::from(megabits) * 125_000.0 * TICK.as_secs_f64();
        let steps = self.sent.iter().scan(0, |before, sent| Some(sent - std::mem::replace(before, *sent)));
        let used: Vec<f64> = steps.map(|bytes| bytes as f64 / most).collect();
        let last = used.iter().rposition(|part| *part > 0.05).map_or(0, |last| last + 1);
        let idle: f64 = used[..last].iter().map(|part| (1.0 - part).max(0.0)).sum();
        let tail = used.len() - last;
        println!(
            "the line: {last} ticks, of which it was idle for {idle:.1}; {tail} more until the last was done"
        );
        let text: Vec<String> = used.iter().map(|part| format!("{:.0}", part * 10.0)).collect();
        println!("{}", text.join(" "));
    }
}

impl Machine<'_> {
    fn install(&self, names: &[&str]) -> Duration {
        let began = Instant::now();
        self.apt.install(names).succeeded();
        began.elapsed()
    }
}

fn packages(plan: &Plan) -> Vec<Package> {
    let small = (0..plan.small).map(|n| Package::new(&format!("small{n}"), "1", 20_000 + n * 397 % 60_000));
    let large = (0..plan.large).map(|n| Package::new(&format!("large{n}"), "1", plan.large_bytes));
    small.chain(large).collect()
}

/// The bytes of packages, and of indexes, that the mirror has sent.
fn sent(mirror: &Mirror) -> (u64, u64) {
    (mirror.bytes("*.deb"), mirror.bytes("*Packages*") + mirror.bytes("*by-hash*"))
}

#[allow(clippy::cast_precision_loss)]
fn ratio(bytes: u64, of: u64) -> f64 {
    bytes as f64 / of as f64
}

/// Prints what the mirror has sent more than once.
fn tell_duplicates(mirror: &Mirror, repository: &Repository, packages: &[Package]) {
    let (mut files, mut bytes) = (0, 0);
    let mut asked: BTreeMap<usize, usize> = BTreeMap::new();
    for package in packages {
        let built = repository.package(&package.name);
        let path = format!("*{}", built.filename);
        let sent = mirror.bytes(&path);
        *asked.entry(mirror.requests(&path)).or_default() += 1;
        if sent > built.size {
            files += 1;
            bytes += sent - built.size;
            if built.size > 1_000_000 {
                println!("{}: {:.2} copies", package.name, ratio(sent, built.size));
            }
        }
    }
    println!("{files} files more than once, {bytes} bytes too many; files by requests: {asked:?}");
}

#[track_caller]
fn wait_until_all_know_each_other(machines: &[Machine<'_>]) {
    for machine in machines {
        let others = || (machine.host.peers().len() >= machines.len() - 1).then_some(());
        assert!(wait_for(LIMIT, others).is_some(), "{:?}", machine.host.peers());
    }
}

fn run(network: &Network, plan: &Plan) -> Report {
    let repository = Repository::with(&packages(plan));
    let packages = packages(plan);
    let names: Vec<&str> = packages.iter().map(|package| &*package.name).collect();
    let mirror = Mirror::start_on(MIRROR, &repository.root());
    network.limit_mirror(plan.megabits);

    // One machine by itself: what all are measured by.
    let mut lone = machine(network, 2, &mirror, &repository);
    lone.apt.update().succeeded();
    let (line, alone) = Line::watch(|| lone.install(&names));
    line.tell(plan.megabits);
    let (one_copy, one_index) = sent(&mirror);
    lone.daemon.terminate();
    drop(lone);
    mirror.forget_records();

    let machines: Vec<Machine<'_>> =
        (0..plan.hosts).map(|n| machine(network, 3 + n, &mirror, &repository)).collect();
    wait_until_all_know_each_other(&machines);
    std::thread::scope(|scope| {
        let updates: Vec<_> = machines.iter().map(|machine| scope.spawn(|| machine.apt.update())).collect();
        updates.into_iter().for_each(|update| _ = update.join().unwrap().succeeded());
    });
    let (_, index_bytes) = sent(&mirror);
    let (killed, living) = machines.split_at(plan.killed);
    let (line, slowest) = Line::watch(|| {
        std::thread::scope(|scope| {
            let dying: Vec<_> =
                killed.iter().map(|machine| scope.spawn(|| machine.apt.install(&names))).collect();
            let installs: Vec<_> =
                living.iter().map(|machine| scope.spawn(|| machine.install(&names))).collect();
            if !killed.is_empty() {
                assert!(wait_for(LIMIT, || (sent(&mirror).0 >= one_copy / 2).then_some(())).is_some());
                for machine in killed {
                    machine.daemon.signal(rustix::process::Signal::KILL);
                }
            }
            dying.into_iter().for_each(|install| drop(install.join()));
            installs.into_iter().map(|install| install.join().unwrap()).max().unwrap()
        })
    });
    line.tell(plan.megabits);
    if let Some(folder) = logs() {
        for (number, machine) in machines.iter().enumerate() {
            std::fs::write(folder.join(format!("{number}.log")), machine.daemon.log()).unwrap();
        }
    }
    for machine in living {
        let have = machine.apt.archives();
        assert_eq!(have.len(), packages.len());
        let right = |(name, digest): &(String, Sha256)| {
            let package = name.split('_').next().unwrap();
            *digest == Sha256::of(&repository.bytes(package))
        };
        assert!(have.iter().all(right));
    }
    let copies = ratio(sent(&mirror).0, one_copy);
    tell_duplicates(&mirror, &repository, &packages);
    if std::env::var_os("LAN_TEST_CACHED").is_some() {
        living.iter().for_each(|machine| machine.apt.clean());
        let again = std::thread::scope(|scope| {
            let installs: Vec<_> =
                living.iter().map(|machine| scope.spawn(|| machine.install(&names))).collect();
            installs.into_iter().map(|install| install.join().unwrap()).max().unwrap()
        });
        println!("the same from their own caches, all at once: {again:.1?}");
    }

    mirror.forget_records();
    if plan.killed == 0 {
        let late = machine(network, 3 + plan.hosts, &mirror, &repository);
        let others = || (late.host.peers().len() >= machines.len()).then_some(());
        assert!(wait_for(LIMIT, others).is_some(), "{:?}", late.host.peers());
        late.apt.update().succeeded();
        late.install(&names);
        assert_eq!(sent(&mirror).0, 0, "the network has all of it already");
    }
    let report = Report { alone, slowest, copies, index_copies: ratio(index_bytes, one_index) };
    println!(
        "{} hosts ({} killed), {:.1} MB: alone {:.1?}, the slowest of all {:.1?} ({:.2}); {:.3} copies, {:.3} of the indexes",
        plan.hosts,
        plan.killed,
        ratio(one_copy, 1_000_000),
        report.alone,
        report.slowest,
        report.slowest.as_secs_f64() / report.alone.as_secs_f64(),
        report.copies,
        report.index_copies
    );
    report
}

#[test]
fn a_network_takes_one_copy_from_the_mirror() {
    on_a_network("scenario::a_network_takes_one_copy_from_the_mirror", |network| {
        let plan = Plan { hosts: 4, small: 40, large: 1, large_bytes: 12_000_000, killed: 0, megabits: 100 };
        let report = run(network, &plan);
        assert!(report.copies <= 1.15, "{} copies", report.copies);
    });
}

#[test]
fn a_network_that_loses_machines_takes_little_more() {
    on_a_network("scenario::a_network_that_loses_machines_takes_little_more", |network| {
        let plan = Plan { hosts: 4, small: 40, large: 1, large_bytes: 28_000_000, killed: 1, megabits: 100 };
        let report = run(network, &plan);
        assert!(report.copies <= 1.5, "{} copies", report.copies);
    });
}

#[test]
#[ignore = "takes minutes, and a machine with nothing else to do"]
fn eight_machines_take_one_copy() {
    on_a_network("scenario::eight_machines_take_one_copy", |network| {
        let plan = Plan {
            hosts: figure("LAN_TEST_HOSTS", 8),
            small: figure("LAN_TEST_SMALL", 200),
            large: figure("LAN_TEST_LARGE", 2),
            large_bytes: figure("LAN_TEST_LARGE_BYTES", 50_000_000),
            killed: 0,
            megabits: figure("LAN_TEST_MEGABITS", 100),
        };
        let report = run(network, &plan);
        assert!(report.copies <= 1.15, "{} copies", report.copies);
        assert!(report.slowest <= report.alone.mul_f64(1.25), "{:?} and {:?}", report.slowest, report.alone);
    });
}

#[test]
#[ignore = "takes minutes, and a machine with nothing else to do"]
fn eight_machines_of_which_two_are_lost() {
    on_a_network("scenario::eight_machines_of_which_two_are_lost", |network| {
        let plan = Plan { hosts: 8, small: 200, large: 2, large_bytes: 50_000_000, killed: 2, megabits: 100 };
        let report = run(network, &plan);
        assert!(report.copies <= 1.5, "{} copies", report.copies);
    });
}
