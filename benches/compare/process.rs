//! Rivals as processes, and what the kernel says of them.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::support::wait_for;

/// A server that does not listen by then never will.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A server that has not gone by then is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A running server; dropping it stops it and waits for it.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts `command` and waits until it accepts connections at `address`; what it says goes to the file `log`.
    pub fn start(mut command: Command, address: SocketAddr, log: &Path) -> Self {
        let file = File::create(log).unwrap();
        let spawned = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn();
        let child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Self { child };
        let listens = wait_for(START_LIMIT, || match server.child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => TcpStream::connect(address).is_ok().then_some(true),
        });
        let said = || fs::read_to_string(log).unwrap_or_default();
        assert_eq!(listens, Some(true), "{command:?} does not listen at {address}:\n{}", said());
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if wait_for(STOP_LIMIT, || self.child.try_wait().unwrap()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How long a client took, and what it used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub wall: f64,
    pub cpu: f64,
}

/// Runs the commands as a pipeline (each reads what the one before writes; the last one's output is thrown away) and
/// waits for all of them. Fails if any fails.
pub fn run(mut commands: Vec<Command>) -> Usage {
    let began = Instant::now();
    let mut children: Vec<Child> = Vec::new();
    let last = commands.len() - 1;
    for (at, command) in commands.iter_mut().enumerate() {
        let input =
            children.last_mut().and_then(|child| child.stdout.take()).map_or(Stdio::null(), Stdio::from);
        let output = if at == last { Stdio::null() } else { Stdio::piped() };
        let spawned = command.stdin(input).stdout(output).stderr(Stdio::piped()).spawn();
        children.push(spawned.unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }
    let mut cpu = 0.0;
    for child in &mut children {
        // Ended but not yet waited for: its times can still be read.
        waitid(WaitId::Pid(Pid::from_child(child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        cpu += ticks(child.id(), 4).unwrap();
    }
    let wall = began.elapsed().as_secs_f64();
    for (child, command) in children.into_iter().zip(&commands) {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    }
    Usage { wall, cpu }
}

/// Seconds of processor time that a process and its children have used so far.
pub fn cpu(pid: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below: f64 = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(cpu).sum();
    cpu_of_one(pid).unwrap_or(0.0) + below
}

/// The same without its children.
pub fn cpu_of_one(pid: u32) -> Option<f64> {
    ticks(pid, 2)
}

/// Of utime and stime, and of cutime and cstime for those of its children that it has waited for, the first `count`: fields 14 to
/// 17 of proc(5)'s `/proc/pid/stat`, in clock ticks.
fn ticks(pid: u32, count: usize) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may contain anything; the fields behind it are counted from the third.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 =
        fields.split_ascii_whitespace().skip(11).take(count).filter_map(|n| n.parse::<u64>().ok()).sum();
    #[allow(clippy::cast_precision_loss, reason = "a count of ticks")]
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes of anonymous memory of a process now: what it owns, without mapped files.
pub fn anonymous(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib * 1024
}

/// An address at `ip` where nobody listens now. Somebody may take it before it is used; then the start fails.
///
/// Below the ports that the kernel gives to connections, and below 32768, beyond which apt-cacher-ng cannot count.
pub fn free_address(ip: [u8; 4]) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let address = SocketAddr::from((ip, NEXT.fetch_add(1, Ordering::Relaxed)));
        assert!(address.port() < 32_000, "no free port at {address}");
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
