//! One 400 MB file from four peers, verified, against other downloaders that use the same four servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use aptpeer::digest::Sha256;

use crate::fixture::{Folder, Thing, lay_out};
use crate::load::{Requests, drive, request};
use crate::nginx::{Nginx, OpenFiles};
use crate::process::{Usage, run as run_to_end};
use crate::rounds::{Better, Contender, Figure, Goal, Scale, compare};
use crate::torrent::Seeds;

const LENGTH: usize = 400_000_000;

/// Four peers, each at an address of its own: whoever has one address counts as one.
const PEERS: [[u8; 4]; 4] = [[127, 0, 0, 2], [127, 0, 0, 3], [127, 0, 0, 4], [127, 0, 0, 5]];

const FIGURES: &[Figure] = &[
    Figure { name: "bytes per second", unit: "GB/s", better: Better::More },
    Figure { name: "client CPU per GB", unit: "s/GB", better: Better::Less },
];

const ARIA2: &str = "aria2c with checksum";
const ARIA2_TUNED: &str = "aria2c, large disk cache";
const CURL: &str = "curl | sha256sum (writes no file)";
const LIBTORRENT: &str = "libtorrent";
const APTPEER: &str = "aptpeer get";
const BOUND: &str = "(bytes thrown away)";

/// Onto tmpfs, where nobody waits for a disk.
const GOALS: &[Goal<'_>] = &[
    Goal { contender: APTPEER, against: ARIA2, figure: 0, ratio: 1.8 },
    Goal { contender: APTPEER, against: CURL, figure: 0, ratio: 2.2 },
    Goal { contender: APTPEER, against: LIBTORRENT, figure: 0, ratio: 2.4 },
];

pub fn run(scale: &Scale) {
    let sources = Folder::in_memory();
    let thing = Thing::noise(sources.join("bench.bin"), 4, LENGTH);
    lay_out(sources.path(), std::slice::from_ref(&thing));
    let servers: Vec<Nginx> = PEERS
        .iter()
        .map(|ip| {
            Nginx::start(
                *ip,
                sources.path(),
                &sources.fresh(&format!("nginx{}", ip[3])),
                OpenFiles::Forgotten,
            )
        })
        .collect();
    let seeds = Seeds::start(&thing.path, &sources.fresh("torrent"), &PEERS);
    let swarm = Swarm { thing, servers, seeds };

    measure("download: 400 MB from four peers, onto tmpfs", scale, &swarm, &Folder::in_memory(), GOALS);
    measure("download: 400 MB from four peers, onto the disk", scale, &swarm, &Folder::on_disk(), &[]);
}

/// One file and those who have it.
struct Swarm {
    thing: Thing,
    servers: Vec<Nginx>,
    seeds: Option<Seeds>,
}

fn measure(title: &str, scale: &Scale, swarm: &Swarm, to: &Folder, goals: &[Goal<'_>]) {
    let Swarm { thing, servers, seeds } = swarm;
    let urls: Vec<String> =
        servers.iter().map(|server| format!("http://{}/hash/{}", server.address(), thing.id)).collect();
    let into = |command: fn(&Thing, &[Nginx], &[String], &Path) -> Vec<Command>| {
        let urls = urls.clone();
        move || {
            let folder = clean(to);
            let usage = run_to_end(command(thing, servers, &urls, &folder));
            check(thing, &folder);
            figures(usage)
        }
    };
    let mut contenders = vec![
        Contender::new(ARIA2, into(|thing, _, urls, folder| vec![aria2(thing, urls, folder)])),
        Contender::new(
            ARIA2_TUNED,
            into(|thing, _, urls, folder| {
                let mut command = aria2(thing, urls, folder);
                command.args(["--disk-cache=64M", "--file-allocation=falloc"]);
                vec![command]
            }),
        ),
        Contender::new(CURL, into(|_, _, urls, _| curl(&urls[0]))),
        Contender::new(APTPEER, into(|thing, servers, _, folder| vec![aptpeer(thing, servers, folder)])),
    ];
    if let Some(seeds) = seeds {
        contenders.push(Contender::new(LIBTORRENT, move || {
            let folder = clean(to);
            let usage = seeds.get(&folder);
            check(thing, &folder);
            figures(usage)
        }));
    }
    contenders.push(Contender::new(BOUND, move || thrown_away(thing, servers)));
    compare(title, scale, FIGURES, contenders, goals);
    let _ = to.fresh("out");
}

/// An empty folder on a disk that has nothing more to write: what one leaves behind must not slow the next.
fn clean(to: &Folder) -> PathBuf {
    let folder = to.fresh("out");
    rustix::fs::sync();
    folder
}

fn aria2(thing: &Thing, urls: &[String], folder: &Path) -> Command {
    let mut command = Command::new("aria2c");
    command.args(["--no-conf=true", "--quiet=true", "-x4", "-s4", "-o", "bench.bin", "-d"]).arg(folder);
    command.arg(format!("--checksum=sha-256={}", thing.id)).args(urls);
    command
}

fn curl(url: &str) -> Vec<Command> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", url]);
    vec![curl, Command::new("sha256sum")]
}

fn aptpeer(thing: &Thing, servers: &[Nginx], folder: &Path) -> Command {
    let config = folder.join("config.toml");
    let text = format!(
        "[network]\nallow_private_peers = true\n[cache]\npath = \"{0}/cache\"\nmin_free_space = \"0\"\n\
         [state]\npath = \"{0}/state\"\n[mirrors]\nlists_dir = \"\"\n[dht]\nenabled = false\n[lan]\nenabled = false\n",
        folder.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
    command
        .args(["get", &thing.id.to_string(), "-o"])
        .arg(folder.join("bench.bin"))
        .arg("--config")
        .arg(config);
    for server in servers {
        command.arg("--peer").arg(server.address().to_string());
    }
    command
}

/// What is there must be right, whoever brought it; not part of the time.
fn check(thing: &Thing, folder: &Path) {
    if let Ok(bytes) = fs::read(folder.join("bench.bin")) {
        assert_eq!(Sha256::of(&bytes), thing.id);
    }
}

/// The same bytes over four connections, as ranges of 4 MiB, and nothing done with them.
fn thrown_away(thing: &Thing, servers: &[Nginx]) -> Vec<f64> {
    const PIECE: u64 = 4 << 20;
    let before = own_cpu();
    let began = std::time::Instant::now();
    let bytes = std::thread::scope(|scope| {
        let share = (thing.length / PIECE + 1) / servers.len() as u64;
        let threads: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(at, server)| {
                let (target, host, length) =
                    (format!("/hash/{}", thing.id), server.address().to_string(), thing.length);
                let first = at as u64 * share * PIECE;
                let requests: Requests = Arc::new(move |number| {
                    let start = first + number as u64 * PIECE;
                    request(&target, &host, Some((start, (start + PIECE).min(length) - 1)))
                });
                let count = usize::try_from(share).unwrap();
                scope.spawn(move || drive(server.address(), 1, count, &requests).bytes)
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
    });
    assert!(bytes + 4 * PIECE > thing.length);
    let wall = began.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
    let gigabytes = bytes as f64 / 1e9;
    vec![gigabytes / wall, (own_cpu() - before) / gigabytes]
}

fn own_cpu() -> f64 {
    crate::process::cpu_of_one(std::process::id()).unwrap_or(f64::NAN)
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
fn figures(usage: Usage) -> Vec<f64> {
    let gigabytes = LENGTH as f64 / 1e9;
    vec![gigabytes / usage.wall, usage.cpu / gigabytes]
}
