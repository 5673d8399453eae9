//! 300 small packages, as an upgrade has them: how many look-ups, and how long, against the mirror alone.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use aptpeer::digest::InfoHash;

use crate::support::apt::Apt;
use crate::support::daemon::Daemon;
use crate::support::http::Wire;
use crate::support::mirror::Mirror;
use crate::support::repository::Repository;
use crate::tracker::Tracker;
use crate::{PATIENT, SOON, archive, install, metric, node, packages, through, wait_for, wait_for_sets};

/// A real web server as the mirror.
struct Nginx {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start(root: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Nobody else asks for a free port between these two lines as a rule; the start is tried once.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = folder.path().display();
        let mut config =
            format!("daemon off;\nworker_processes 1;\npid {at}/pid;\nerror_log {at}/error;\nuser root;\n");
        write!(
            config,
            "events {{ }}\nhttp {{ access_log off; sendfile on;\nserver {{ listen {address}; root {}; }} }}\n",
            root.display()
        )
        .unwrap();
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("nginx").arg("-c").arg(&file).arg("-p").arg(folder.path()).spawn().unwrap();
        let up = || std::net::TcpStream::connect(address).ok();
        assert!(wait_for(SOON, up).is_some(), "no nginx");
        Self { child, address, _folder: folder }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// How often it is measured. An odd number: one of them is in the middle.
const RUNS: usize = 9;

fn timed(apt: &Apt, repository: &Repository) -> Duration {
    apt.clean();
    let began = Instant::now();
    install(apt, repository);
    began.elapsed()
}

/// The processor time that a daemon has taken by now, in the kernel too (proc_pid_stat(5): fields 14 and 15). A tick of Linux is
/// 10 ms.
fn processor_time(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ');
    let ticks: u32 = fields.skip(11).take(2).map(|field| field.parse::<u32>().unwrap()).sum();
    Duration::from_millis(10) * ticks
}

/// Waits until the daemon names somebody who has told it what he holds. What is asked is what one of another address
/// would be told; a log that told it would cost time in what is measured here.
fn wait_for_neighbour(daemon: &Daemon) {
    let told = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        socket.connect(&daemon.peer().into()).unwrap();
        let mut wire = Wire::over(socket.into());
        wire.ask("GET", "/neighbours", &[]);
        let text = wire.response_to("GET").unwrap().text();
        text.contains("127.0.0.1:").then_some(())
    };
    assert!(wait_for(SOON, told).is_some(), "nobody told what he holds");
}

/// Several times 300 small packages, directly and through a new machine that has one neighbour: how many times as long the
/// latter took, sorted.
fn measure() -> Vec<f64> {
    let repository = packages(300);
    let (mirror, tracker) = (Nginx::start(&repository.root()), Tracker::start());
    // As it is installed: what is written to the log at other levels costs time.
    let quiet = |tracker| node(&repository, tracker).with("[log]\nlevel = \"info\"\n");
    let first = quiet(&tracker).start();
    first.wait_for_dht();
    let apt = Apt::new().proxy(first.proxy()).one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    install(&apt, &repository);
    let met = || (!tracker.peers(InfoHash::from(archive())).is_empty()).then_some(());
    assert!(wait_for(SOON, met).is_some());

    let direct = Apt::new().one_line(&mirror.url(), &repository);
    direct.update().succeeded();
    // Nothing is read or written for the first time where it counts.
    timed(&direct, &repository);
    // A machine that knows nobody: what the same costs by look-ups alone.
    let nobody = Tracker::start();
    let lonely = quiet(&nobody).start();
    lonely.wait_for_dht();
    let apt = Apt::new().proxy(lonely.proxy()).one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    let before = metric(&lonely, "aptpeer_object_look_ups_total");
    let alone = timed(&apt, &repository);
    let look_ups = metric(&lonely, "aptpeer_object_look_ups_total") - before;
    println!("nobody known: through aptpeer from the mirror {alone:.2?}, {look_ups} look-ups");
    drop(lonely);
    let mut ratios = Vec::new();
    for run in 0..RUNS {
        // A new machine each time: its cache is empty.
        // It does not say that it is there: nobody takes more than a few neighbours of one address, and it is gone soon.
        let second = quiet(&tracker).with("[privacy]\nannounce = false\n").start();
        second.wait_for_dht();
        let apt = Apt::new().proxy(second.proxy()).one_line(&mirror.url(), &repository);
        apt.update().succeeded();
        wait_for_neighbour(&second);
        let before = metric(&second, "aptpeer_object_look_ups_total");
        let directly_first = (run % 2 == 0).then(|| timed(&direct, &repository));
        let times = [&second, &first].map(processor_time);
        let ours = timed(&apt, &repository);
        let taken = [&second, &first].map(processor_time);
        let alone = directly_first.unwrap_or_else(|| timed(&direct, &repository));
        let look_ups = metric(&second, "aptpeer_object_look_ups_total") - before;
        let ratio = ours.as_secs_f64() / alone.as_secs_f64();
        println!(
            "run {run}: direct {alone:.2?}, through aptpeer {ours:.2?}, {ratio:.2} times; {look_ups} look-ups; \
             {} files from peers, {} from the mirror; processor {:.0?} here, {:.0?} there",
            second.stat("requests_p2p"),
            second.stat("requests_mirror"),
            taken[0] - times[0],
            taken[1] - times[1],
        );
        assert_eq!(look_ups, 0);
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median {:.2}", ratios[RUNS / 2]);
    ratios
}

#[test]
#[ignore = "300 packages and a real web server: some ten seconds on a quiet machine"]
fn an_upgrade_of_300_small_packages_takes_no_look_up_and_not_much_longer_than_from_the_mirror() {
    // A debug build on a busy machine: only what is beyond all reason fails.
    let ratios = measure();
    assert!(ratios[RUNS / 2] < 30.0, "{ratios:?}");
}

#[test]
#[ignore = "a release build on a quiet machine"]
fn on_a_quiet_machine_300_small_packages_take_no_longer_than_from_the_mirror() {
    let ratios = measure();
    assert!(ratios[RUNS / 2] <= 1.1, "{ratios:?}");
}

#[test]
fn every_small_package_comes_from_the_neighbour_once_and_without_a_look_up() {
    let repository = packages(40);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let first = node(&repository, &tracker).start();
    first.wait_for_dht();
    let apt = through(&first, &mirror, &repository);
    apt.update().succeeded();
    install(&apt, &repository);
    let met = || (!tracker.peers(InfoHash::from(archive())).is_empty()).then_some(());
    assert!(wait_for(SOON, met).is_some());

    let second = node(&repository, &tracker).with(PATIENT).start();
    second.wait_for_dht();
    let apt = through(&second, &mirror, &repository);
    apt.update().succeeded();
    wait_for_sets(&second, 1);
    let figures = || {
        let of = |daemon, series| metric(daemon, series);
        [
            of(&second, "aptpeer_object_look_ups_total"),
            of(&second, "aptpeer_bytes_downloaded_total{source=\"mirror\"}"),
            of(&first, "aptpeer_bytes_uploaded_total"),
        ]
    };
    let before = figures();
    install(&apt, &repository);
    let [look_ups, mirrored, uploaded] = std::array::from_fn(|at| figures()[at] - before[at]);
    let bytes: u64 = repository.built().iter().map(|built| built.size).sum();
    assert_eq!((look_ups, mirrored, uploaded), (0, 0, bytes));
    // They are kept, if a moment later.
    let kept = || (metric(&second, "aptpeer_cache_count") >= 40).then_some(());
    assert!(wait_for(SOON, kept).is_some());
}
