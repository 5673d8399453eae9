//! `aptpeer seed import` against `sha256sum` over the same files: they are hashed on all cores, and nothing else is to take long.

use std::fs::{self, Permissions};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::Folder;
use crate::process::run as run_to_end;
use crate::rounds::{Better, Contender, Figure, Goal, Scale, compare};
use crate::support::noise;

const FIGURES: &[Figure] = &[
    Figure { name: "bytes per second", unit: "GB/s", better: Better::More },
    Figure { name: "CPU per GB", unit: "s/GB", better: Better::Less },
];

const EVERY_CORE: &str = "sha256sum on every core";
const ONE: &str = "sha256sum";
const LINKED: &str = "seed import --hard-link";
const COPIED: &str = "seed import, copied";
const IN_PLACE: &str = "seed import --in-place";

/// On tmpfs, where nobody waits for a disk.
const GOALS: &[Goal<'_>] = &[
    Goal { contender: LINKED, against: EVERY_CORE, figure: 0, ratio: 0.8 },
    Goal { contender: IN_PLACE, against: EVERY_CORE, figure: 0, ratio: 0.8 },
];

/// A pool of equally long files.
struct Pool {
    title: &'static str,
    files: usize,
    length: usize,
    /// How many of them `xargs` gives to one `sha256sum`.
    at_once: usize,
}

const POOLS: [Pool; 2] = [
    Pool { title: "2000 files of 100 KB", files: 2000, length: 100_000, at_once: 50 },
    Pool { title: "8 files of 50 MB", files: 8, length: 50_000_000, at_once: 1 },
];

pub fn run(scale: &Scale) {
    for pool in &POOLS {
        measure(pool, "on tmpfs", scale, &Folder::in_memory(), GOALS);
        measure(pool, "on the disk, page cache warm", scale, &Folder::on_disk(), &[]);
    }
}

/// A pool as it lies in a folder, with a list of its files that `xargs` reads.
struct Laid<'a> {
    pool: &'a Pool,
    root: &'a Folder,
    list: PathBuf,
}

fn measure(pool: &Pool, place: &str, scale: &Scale, root: &Folder, goals: &[Goal<'_>]) {
    let laid = Laid::new(pool, root);
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let hash = |processes: usize, at_once: usize| {
        let laid = &laid;
        move || laid.figures(laid.sha256sum(processes, at_once))
    };
    let import = |options: &'static [&'static str], way: &'static str| {
        let laid = &laid;
        move || laid.import(options, way)
    };
    let contenders = vec![
        Contender::new(EVERY_CORE, hash(cores, pool.at_once)),
        Contender::new(ONE, hash(1, pool.files)),
        Contender::new(LINKED, import(&["--hard-link"], "linked_files")),
        Contender::new(COPIED, import(&[], "copied_files")),
        Contender::new(IN_PLACE, import(&["--in-place"], "in_place_files")),
    ];
    compare(&format!("seed: {}, {place}", pool.title), scale, FIGURES, contenders, goals);
}

impl<'a> Laid<'a> {
    fn new(pool: &'a Pool, root: &'a Folder) -> Self {
        let folder = root.fresh("pool");
        let mut list = Vec::new();
        let mut bytes = noise(7, pool.length);
        for number in 0..pool.files {
            let path = folder.join(format!("{:02}/bench_{number}_all.deb", number % 32));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            fs::write(&path, &bytes).unwrap();
            // Others than root may write it: so it is copied unless something else is asked for.
            fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
            list.extend_from_slice(path.to_str().unwrap().as_bytes());
            list.push(0);
        }
        rustix::fs::sync();
        let path = root.join("list");
        fs::write(&path, list).unwrap();
        Self { pool, root, list: path }
    }

    fn sha256sum(&self, processes: usize, at_once: usize) -> Command {
        let mut command = Command::new("xargs");
        command.arg("-0").arg("-a").arg(&self.list);
        command.args(["-P", &processes.to_string(), "-n", &at_once.to_string(), "sha256sum"]);
        command
    }

    /// Imports the pool into an empty cache, every file in this `way`.
    fn import(&self, options: &[&str], way: &str) -> Vec<f64> {
        let work = self.root.fresh("work");
        let config = work.join("config.toml");
        let text = format!(
            "[cache]\npath = \"{0}/cache\"\nmin_free_space = \"0\"\n[state]\npath = \"{0}/state\"\n",
            work.display()
        );
        fs::write(&config, text).unwrap();
        // What another has left to be written is not to slow this one.
        rustix::fs::sync();
        let aptpeer = |options: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
            command.arg("--config").arg(&config).args(["seed", "import", "-r", "--json"]).args(options);
            command.arg(self.root.join("pool"));
            command
        };
        let figures = self.figures(aptpeer(options));
        self.check(way, aptpeer(options), &work);
        figures
    }

    /// Everything must be there by then, and in that way; not part of the time.
    fn check(&self, way: &str, mut again: Command, work: &Path) {
        let told = again.output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["unchanged_files"], self.pool.files, "{told:#}");
        let objects = work.join("cache/v1/objects");
        let kept = walk(&objects);
        let linked = kept.iter().filter(|length| **length > 1).count();
        let expected = match way {
            "linked_files" => (self.pool.files, self.pool.files),
            "copied_files" => (self.pool.files, 0),
            _ => (0, 0),
        };
        assert_eq!((kept.len(), linked), expected, "{way} in {}", objects.display());
    }

    #[allow(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
    fn figures(&self, command: Command) -> Vec<f64> {
        let usage = run_to_end(vec![command]);
        let gigabytes = (self.pool.files * self.pool.length) as f64 / 1e9;
        vec![gigabytes / usage.wall, usage.cpu / gigabytes]
    }
}

/// How many names each file below `folder` has.
fn walk(folder: &Path) -> Vec<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.map(Result::unwrap);
    entries
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path()),
            false => vec![entry.metadata().unwrap().nlink()],
        })
        .collect()
}
