//! Network namespaces: machines of their own, as far as addresses and wires go. They go with their owner, and those that
//! a dead run has left go before the first is made.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What all our names begin with; the process that made it follows.
const PREFIX: &str = "aptpeer-test";

/// What to print where [`Namespace::new`] gives none.
pub const NOT_ALLOWED: &str =
    "skipped: this needs leave to make network namespaces (ip netns add), as root has it";

/// A namespace whose loopback is up; dropping it removes it, with its ends of wires.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one; `None` where we may not make any.
    pub fn new(label: &str) -> Option<Self> {
        static SWEPT: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = Self { name: format!("{PREFIX}-{}-{number}-{label}", std::process::id()) };
        (ip(&format!("netns add {}", own.name)) && ip(&format!("-n {} link set lo up", own.name)))
            .then_some(own)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does it in a thread that is in this namespace. Sockets, threads and processes that are made there stay there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        Self::visit(&self.name, work)
    }

    /// The same in the namespace of that name, which may be another process's.
    pub fn visit<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = File::open(format!("/run/netns/{name}")).unwrap();
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                drop(namespace);
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.name));
    }
}

/// Removes what runs have left that ended without their destructors, and ends what still runs in it.
fn sweep() {
    let names = Command::new("ip").args(["netns", "list"]).output();
    let names = names.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for name in names.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.trim_start_matches('-').split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else { continue };
        if std::path::Path::new(&format!("/proc/{owner}")).exists() {
            continue;
        }
        let left = Command::new("ip").args(["netns", "pids", name]).output();
        let left =
            left.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for pid in left.lines().filter_map(|pid| Pid::from_raw(pid.trim().parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        ip(&format!("netns del {name}"));
    }
}

/// Whether `ip` did it.
pub fn ip(words: &str) -> bool {
    did("ip", words)
}

/// Has `ip` do it.
#[track_caller]
pub fn must(words: &str) {
    assert!(ip(words), "ip {words}");
}

/// Has `tc` do it: rates and the like.
#[track_caller]
pub fn must_tc(words: &str) {
    assert!(did("tc", words), "tc {words}");
}

fn did(program: &str, words: &str) -> bool {
    let output = Command::new(program).args(words.split(' ')).output();
    output.is_ok_and(|output| {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        output.status.success()
    })
}
