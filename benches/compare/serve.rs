//! Giving away what is cached: large ranges, whole files and small files.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::cacher::Cacher;
use crate::fixture::{Folder, Thing, lay_out};
use crate::load::{Requests, Source, drive, request};
use crate::nginx::{Nginx, OpenFiles};
use crate::node;
use crate::process::cpu;
use crate::rounds::{Better, Contender, Figure, Goal, Scale, compare};

const LARGE: usize = 200_000_000;
const SMALL: usize = 20_000;

/// How many small files there are: more than one, few enough to be hot.
const SMALL_FILES: u64 = PERIOD as u64;

const PIECE: u64 = 4 << 20;

const FIGURES: &[Figure] = &[
    Figure { name: "bytes per second", unit: "GB/s", better: Better::More },
    Figure { name: "server CPU per GB", unit: "s/GB", better: Better::Less },
];

const NGINX: &str = "nginx";
const TUNED: &str = "nginx, open_file_cache";
const APTPEER: &str = "aptpeer, peer port";
const CACHER: &str = "apt-cacher-ng";
const BOUND: &str = "(generator against memory)";

/// Who is asked, and how it names a file.
struct Rival {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    naming: Naming,
}

enum Naming {
    ByHash,
    /// By the name it has on the mirror, in prefix form.
    ByName {
        mirror: SocketAddr,
    },
}

impl Naming {
    fn target(&self, thing: &Thing) -> String {
        match self {
            Self::ByHash => format!("/hash/{}", thing.id),
            Self::ByName { mirror } => format!("/{mirror}/debian/{}", thing.pool_path()),
        }
    }
}

/// The file, by its place among all, and the range that a request asks for.
type Pick = fn(usize) -> (usize, Option<(u64, u64)>);

/// After so many requests the same come again: every piece of the large file, every small file.
const PERIOD: usize = 100;

/// How much is asked of everybody.
struct Load {
    title: &'static str,
    connections: usize,
    count: usize,
    /// The number of a request gives the file and the range.
    pick: Pick,
    /// What one answer is long.
    answer: usize,
    /// What aptpeer is to reach against nginx.
    goal: Option<f64>,
}

const LOADS: &[Load] = &[
    Load {
        title: "serve: 4 MiB ranges of a 200 MB object, one connection",
        connections: 1,
        count: 400,
        pick: |number| (0, Some(range(number))),
        answer: 4 << 20,
        goal: Some(1.4),
    },
    Load {
        title: "serve: 4 MiB ranges of a 200 MB object, 16 connections",
        connections: 16,
        count: 600,
        pick: |number| (0, Some(range(number))),
        answer: 4 << 20,
        goal: None,
    },
    Load {
        title: "serve: the whole 200 MB object, one connection",
        connections: 1,
        count: 10,
        pick: |_| (0, None),
        answer: LARGE,
        goal: None,
    },
    Load {
        title: "serve: 20 KB objects, 64 connections",
        connections: 64,
        count: 40_000,
        pick: |number| (1 + number % PERIOD, None),
        answer: SMALL,
        goal: Some(1.0),
    },
];

/// The `number`th piece of the large file, round and round, whole pieces only.
fn range(number: usize) -> (u64, u64) {
    let first = (number as u64 % (LARGE as u64 / PIECE)) * PIECE;
    (first, first + PIECE - 1)
}

pub fn run(scale: &Scale) {
    let folder = Folder::in_memory();
    let mut things = vec![Thing::noise(folder.join("large"), 1, LARGE)];
    things.extend((0..SMALL_FILES).map(|n| Thing::noise(folder.join(&format!("small{n}")), 100 + n, SMALL)));
    lay_out(folder.path(), &things);

    let local = [127, 0, 0, 1];
    let nginx = Nginx::start(local, folder.path(), &folder.fresh("nginx"), OpenFiles::Forgotten);
    let tuned = Nginx::start(local, folder.path(), &folder.fresh("tuned"), OpenFiles::Kept);
    let daemon = node::holding(&folder.fresh("cache"), None, &things);
    let cacher = Cacher::start(&folder.fresh("cacher"));

    let rival = |name, address, pid| Rival { name, address, pid, naming: Naming::ByHash };
    let mut rivals = vec![
        rival(NGINX, nginx.address(), nginx.pid()),
        rival(TUNED, tuned.address(), tuned.pid()),
        rival(APTPEER, daemon.peer(), daemon.pid()),
    ];
    if let Some(cacher) = &cacher {
        let naming = Naming::ByName { mirror: nginx.address() };
        let cacher = Rival { name: CACHER, address: cacher.address(), pid: cacher.pid(), naming };
        // Each file once, so that it is in the cache.
        let first = requests(&cacher, &things, |number| (number, None), things.len());
        drive(cacher.address, 1, things.len(), &first);
        rivals.push(cacher);
    }
    for load in LOADS {
        measure(scale, load, &rivals, &things);
    }
}

fn measure(scale: &Scale, load: &Load, rivals: &[Rival], things: &[Thing]) {
    let mut contenders: Vec<Contender<'_>> = rivals
        .iter()
        .map(|rival| {
            let requests = requests(rival, things, load.pick, PERIOD);
            // 44 ms for every small answer: it would take half an hour.
            let slow = rival.name == CACHER && load.answer == SMALL;
            let count = if slow { load.count / 100 } else { load.count };
            Contender::new(rival.name, move || {
                let before = cpu(rival.pid);
                let received = drive(rival.address, load.connections, count, &requests);
                assert_eq!(received.bytes, (count * load.answer) as u64);
                figures(received.bytes, received.seconds, cpu(rival.pid) - before)
            })
        })
        .collect();
    let source = Source::start(load.answer);
    let one = request("/", "memory", None);
    let requests: Requests = Arc::new(move |_| one.clone());
    contenders.push(Contender::new(BOUND, move || {
        let received = drive(source.address(), load.connections, load.count, &requests);
        figures(received.bytes, received.seconds, f64::NAN)
    }));
    let goal = load.goal.map(|ratio| Goal { contender: APTPEER, against: NGINX, figure: 0, ratio });
    compare(load.title, scale, FIGURES, contenders, goal.as_slice());
}

/// What `pick` gives for the numbers below `period`, again and again.
fn requests(rival: &Rival, things: &[Thing], pick: Pick, period: usize) -> Requests {
    let host = rival.address.to_string();
    let one = |number| {
        let (thing, range) = pick(number);
        request(&rival.naming.target(&things[thing]), &host, range)
    };
    // Made beforehand: a generator that formats strings is slower than some servers.
    let made: Vec<Bytes> = (0..period).map(one).collect();
    Arc::new(move |number| made[number % period].clone())
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
fn figures(bytes: u64, seconds: f64, cpu: f64) -> Vec<f64> {
    let gigabytes = bytes as f64 / 1e9;
    vec![gigabytes / seconds, cpu / gigabytes]
}
