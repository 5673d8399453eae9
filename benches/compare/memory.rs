//! Anonymous memory of the daemon: idle, and with many downloads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::fixture::{Folder, Thing, lay_out, write_lists};
use crate::load::{Requests, drive, request};
use crate::nginx::{Nginx, OpenFiles};
use crate::node;
use crate::process::anonymous;
use crate::rounds::Scale;

const DOWNLOADS: u64 = 50;
const LENGTH: u64 = 100_000_000;

/// How often a busy daemon is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

const IDLE_GOAL: f64 = 16.0;
const PEAK_GOAL: f64 = 64.0;

pub fn run(_scale: &Scale) {
    println!("\n## memory: anonymous memory of the daemon (RssAnon)");
    let sources = Folder::on_disk();
    let things: Vec<Thing> =
        (0..DOWNLOADS).map(|n| Thing::hole(sources.join(&format!("file{n}")), n, LENGTH)).collect();
    lay_out(sources.path(), &things);
    let serve = |ip: [u8; 4]| {
        Nginx::start(ip, sources.path(), &sources.fresh(&format!("nginx{}", ip[3])), OpenFiles::Forgotten)
    };
    let (mirror, peers) = (serve([127, 0, 0, 1]), [serve([127, 0, 0, 2]), serve([127, 0, 0, 3])]);
    let lists = sources.fresh("lists");
    write_lists(&lists, &mirror.address().to_string(), &things);
    measure("mirror and two peers", &sources, &mirror, &peers, &things);
    measure("mirror only", &sources, &mirror, &[], &things);
}

fn measure(title: &str, sources: &Folder, mirror: &Nginx, peers: &[Nginx], things: &[Thing]) {
    let cache = Folder::on_disk();
    let setup = node::setup(&cache.fresh("cache"));
    let setup = setup.with(&format!("[mirrors]\nlists_dir = \"{}\"\n", sources.join("lists").display()));
    let setup = peers.iter().fold(setup, |setup, peer| setup.peer(peer.address()));
    let daemon = setup.start();
    let pid = daemon.pid();
    // One answer, so that what is made at the first use is there too.
    let _ = daemon.stats();
    verdict(&format!("idle, {title}"), anonymous(pid), IDLE_GOAL);

    let (peak, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watcher = std::thread::spawn({
        let (peak, done) = (peak.clone(), done.clone());
        move || {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(pid), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        }
    });
    let host = mirror.address().to_string();
    let targets: Vec<String> =
        things.iter().map(|thing| format!("http://{host}/debian/{}", thing.pool_path())).collect();
    let requests: Requests = Arc::new(move |number| request(&targets[number], &host, None));
    let received = drive(daemon.proxy(), things.len(), things.len(), &requests);
    assert_eq!(received.bytes, DOWNLOADS * LENGTH);
    done.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    verdict(
        &format!("peak, {DOWNLOADS} downloads of 100 MB, {title}"),
        peak.load(Ordering::Relaxed),
        PEAK_GOAL,
    );
    let stats = daemon.stats();
    println!(
        "  from peers {}, from the mirror {} bytes",
        stats["bytes_from_p2p"], stats["bytes_from_mirror"]
    );
    verdict(&format!("afterwards, {title}"), anonymous(pid), f64::INFINITY);
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
fn verdict(what: &str, bytes: u64, goal: f64) {
    let mib = bytes as f64 / f64::from(1 << 20);
    let verdict = match goal {
        f64::INFINITY => String::new(),
        goal if mib <= goal => format!("goal met: at most {goal} MiB"),
        goal => format!("goal MISSED: at most {goal} MiB"),
    };
    println!("  {what}: {mib:.1} MiB   {verdict}");
}
