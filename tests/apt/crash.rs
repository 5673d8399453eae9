//! Stops, crashes, full disks and damaged ones: apt gets its files all the same, and the right ones.

use super::*;
use rustix::process::Signal;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use support::mirror::{Fault, Rule};

/// A repository whose one package takes three seconds at [`RATE`].
fn one_large() -> Repository {
    Repository::with(&[Package::new("large", "5.0~beta2-1", 9_000_000).all()])
}

const RATE: u64 = 3_000_000;

/// Waits until the mirror has sent the first megabyte of the large package.
fn until_it_flows(mirror: &Mirror) {
    let flows = wait_for(Duration::from_secs(30), || (mirror.bytes("*/large_*") > 1_000_000).then_some(()));
    assert!(flows.is_some(), "nothing flows: {:?}", mirror.records());
}

#[test]
fn a_stop_lets_apt_finish_what_it_reads() {
    let repository = one_large();
    let mirror = Mirror::start(&repository.root());
    let mut daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    mirror.script(Rule::new("*/large_*", Fault::Rate(RATE)));
    std::thread::scope(|scope| {
        let installing = scope.spawn(|| apt.install(&["large"]));
        until_it_flows(&mirror);
        daemon.signal(Signal::TERM);
        installing.join().unwrap().succeeded();
    });
    has(&apt, &repository, &["large"]);
    assert!(daemon.wait().success(), "{}", daemon.log());
    assert_eq!(mirror.requests("*/large_*"), 1, "{:?}", mirror.records());
    daemon.restart();
    assert_eq!(cache_status(&fetch(&daemon, &mirror, &path_of(&repository, "large"))), "aptpeer; hit");
}

#[test]
fn small_packages_that_wait_for_the_disk_are_hits_and_outlive_a_stop() {
    let small: Vec<_> = (0..5).map(|number| Package::new(&format!("small{number}"), "1.0", 5_000)).collect();
    let repository = Repository::with(&small);
    let mirror = Mirror::start(&repository.root());
    let mut daemon = trusting(&repository).start();
    through(&daemon, &mirror, &repository).update().succeeded();
    let fetched = |daemon: &Daemon, package: &Package| {
        let answer = fetch(daemon, &mirror, &path_of(&repository, &package.name));
        assert!(answer.body == repository.bytes(&package.name));
        cache_status(&answer).to_owned()
    };
    for package in &small {
        assert_ne!(fetched(&daemon, package), "aptpeer; hit");
        assert_eq!(fetched(&daemon, package), "aptpeer; hit");
    }
    assert!(daemon.terminate().success(), "{}", daemon.log());
    daemon.restart();
    for package in &small {
        assert_eq!(fetched(&daemon, package), "aptpeer; hit");
    }
    assert_eq!(mirror.requests("*/small*"), 5, "{:?}", mirror.records());
    cache_is_whole(&daemon);
}

#[test]
fn a_kill_in_mid_download_leaves_nothing_wrong_behind() {
    let repository = one_large();
    let mirror = Mirror::start(&repository.root());
    let mut daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    mirror.script(Rule::new("*/large_*", Fault::Rate(RATE)));
    std::thread::scope(|scope| {
        // The proxy is gone for the rest of apt's run: it may well fail.
        let installing = scope.spawn(|| apt.install(&["large"]));
        until_it_flows(&mirror);
        daemon.kill();
        assert_ne!(installing.join().unwrap().code, 0);
    });
    mirror.behave();
    daemon.restart();
    let apt = apt.proxy(daemon.proxy());
    apt.install(&["large"]).succeeded();
    has(&apt, &repository, &["large"]);
    cache_is_whole(&daemon);
    // The object's half of before the kill is gone, or went into the whole.
    assert!(wait_for(Duration::from_secs(10), || partials(&daemon).is_empty().then_some(())).is_some());
}

fn partials(daemon: &Daemon) -> Vec<(String, Vec<u8>)> {
    files_below(&daemon.cache().join("v1/partial"))
}

#[test]
fn a_full_disk_is_no_concern_of_apt() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    for megabytes in [1, 12] {
        let Some(disk) = SmallDisk::mount(megabytes) else { return };
        let cache = format!("[cache]\npath = \"{}\"", disk.path.display());
        let daemon = trusting(&repository).with(&cache).start();
        let apt = through(&daemon, &mirror, &repository);
        apt.update().succeeded();
        apt.install(&names(&repository)).succeeded();
        has(&apt, &repository, &names(&repository));
        cache_is_whole(&daemon);
    }
}

#[test]
fn a_full_disk_for_the_state_is_no_concern_of_apt() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let Some(disk) = SmallDisk::mount_over(&daemon.state(), 1) else { return };
    disk.fill();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    apt.install(&names(&repository)).succeeded();
    has(&apt, &repository, &names(&repository));
}

/// What happens to the file of an object.
type Damage = fn(&Path);

#[test]
fn a_cached_object_that_changed_on_disk_never_reaches_apt() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    let damages: [(&str, Damage); 4] = [
        ("a flipped bit", |path| flip(path, 1_000)),
        ("a flipped bit near the end", |path| flip(path, std::fs::metadata(path).unwrap().len() - 1_000)),
        ("cut in half", |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("removed", |path| std::fs::remove_file(path).unwrap()),
    ];
    let all = ["large", "hello", "libgreet++1", "greet-data", "one-piece"];
    for (what, damage) in damages {
        for restart in [false, true] {
            let mut daemon = trusting(&repository).start();
            let mut apt = through(&daemon, &mirror, &repository);
            apt.update().succeeded();
            apt.install(&all).succeeded();
            until_cached(&daemon, &repository, &all);
            if restart {
                daemon.terminate();
            }
            for name in all {
                let hex = repository.package(name).sha256.to_string();
                damage(&daemon.cache().join("v1/objects").join(&hex[..2]).join(&hex));
            }
            if restart {
                daemon.restart();
                apt = apt.proxy(daemon.proxy());
            }
            apt.clean();
            let run = apt.install(&all);
            assert_eq!(run.code, 0, "{what}, restart: {restart}: {run}");
            has(&apt, &repository, &all);
        }
    }
}

/// Changes a bit behind the back of everybody.
fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

/// A tmpfs, unmounted in the end.
struct SmallDisk {
    path: PathBuf,
    /// Removed after it is unmounted.
    folder: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// A disk in a place of its own; `None`, with the reason printed, where this process may not mount.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Self::mount_over(folder.path(), megabytes)?;
        disk.folder = Some(folder);
        Some(disk)
    }

    /// A disk in the place of what is in `path`.
    fn mount_over(path: &Path, megabytes: u32) -> Option<Self> {
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(path).status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Self { path: path.to_owned(), folder: None });
        }
        eprintln!("skipped: mounting a tmpfs needs root and CAP_SYS_ADMIN");
        None
    }

    /// Leaves not a byte of room.
    fn fill(&self) {
        let hog = std::fs::File::create(self.path.join("hog")).unwrap();
        let block = vec![0; 4096];
        let mut at = 0;
        while hog.write_all_at(&block, at).is_ok() {
            at += block.len() as u64;
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount {}", self.path.display());
    }
}
