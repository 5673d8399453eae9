//! 300 small packages, as an upgrade has them: how many look-ups, and how long, against the mirror alone.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use aptpeer::digest::InfoHash;

use crate::support::apt::Apt;
use crate::support::repository::Repository;
use crate::tracker::Tracker;
use crate::{SOON, archive, install, metric, node, packages, wait_for, wait_for_sets};

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

fn timed(apt: &Apt, repository: &Repository) -> Duration {
    apt.clean();
    let began = Instant::now();
    install(apt, repository);
    began.elapsed()
}

#[test]
#[ignore = "300 packages and a real web server: some ten seconds on a quiet machine"]
fn an_upgrade_of_300_small_packages_takes_no_look_up_and_no_longer_than_from_the_mirror() {
    let repository = packages(300);
    let (mirror, tracker) = (Nginx::start(&repository.root()), Tracker::start());
    let first = node(&repository, &tracker).start();
    first.wait_for_dht();
    let apt = Apt::new().proxy(first.proxy()).one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    install(&apt, &repository);
    let met = || (!tracker.peers(InfoHash::from(archive())).is_empty()).then_some(());
    assert!(wait_for(SOON, met).is_some());

    let direct = Apt::new().one_line(&mirror.url(), &repository);
    direct.update().succeeded();
    // A machine that knows nobody: what the same costs by look-ups alone.
    let nobody = Tracker::start();
    let lonely = node(&repository, &nobody).start();
    lonely.wait_for_dht();
    let apt = Apt::new().proxy(lonely.proxy()).one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    let before = metric(&lonely, "aptpeer_object_look_ups_total");
    let alone = timed(&apt, &repository);
    let look_ups = metric(&lonely, "aptpeer_object_look_ups_total") - before;
    println!("nobody known: through aptpeer from the mirror {alone:.2?}, {look_ups} look-ups");
    drop(lonely);
    let mut ratios = Vec::new();
    for run in 0..5 {
        let alone = timed(&direct, &repository);
        // A new machine each time: its cache is empty.
        let second = node(&repository, &tracker).start();
        second.wait_for_dht();
        let apt = Apt::new().proxy(second.proxy()).one_line(&mirror.url(), &repository);
        apt.update().succeeded();
        wait_for_sets(&second, 1);
        let before = metric(&second, "aptpeer_object_look_ups_total");
        let ours = timed(&apt, &repository);
        let look_ups = metric(&second, "aptpeer_object_look_ups_total") - before;
        let ratio = ours.as_secs_f64() / alone.as_secs_f64();
        println!(
            "run {run}: direct {alone:.2?}, through aptpeer {ours:.2?}, {ratio:.2} times; {look_ups} look-ups; \
             {} files from peers, {} from the mirror",
            second.stat("requests_p2p"),
            second.stat("requests_mirror"),
        );
        assert_eq!(look_ups, 0);
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median {:.2}", ratios[2]);
    // A debug build on a busy machine: only what is beyond all reason fails.
    assert!(ratios[2] < 30.0, "{ratios:?}");
}
