//! A command at a pseudo-terminal: what a person would see of it.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::wait_for;

/// Whatever a test waits for at a terminal comes within this time, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A running command whose standard error, and standard output unless it is piped, is a terminal.
pub struct AtTerminal {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl AtTerminal {
    /// Starts `command` with all but its input at a terminal.
    pub fn start(command: &mut Command) -> Self {
        let (terminal, screen) = open();
        command.stdout(terminal.try_clone().unwrap());
        Self::on(command, terminal, screen)
    }

    /// The same, but standard output goes to `output`.
    pub fn start_with_output(command: &mut Command, output: File) -> Self {
        let (terminal, screen) = open();
        command.stdout(output);
        Self::on(command, terminal, screen)
    }

    fn on(command: &mut Command, terminal: OwnedFd, mut screen: File) -> Self {
        let child = command.stdin(Stdio::null()).stderr(terminal).spawn().unwrap();
        // The command keeps copies of the terminal: as long as one is open, the screen does not end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let reading = std::thread::spawn({
            let shown = Arc::clone(&shown);
            move || {
                let mut block = [0; 4096];
                // When nobody has the terminal open any more, reading fails with EIO (pty(7)).
                while let Ok(count @ 1..) = screen.read(&mut block) {
                    shown.lock().unwrap().extend_from_slice(&block[..count]);
                }
            }
        });
        Self { child, shown, reading }
    }

    /// What was sent to the screen so far, escape codes and all.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until the screen was sent `text` this many times.
    #[track_caller]
    pub fn wait_for(&self, text: &str, times: usize) {
        let seen = || (self.shown().matches(text).count() >= times).then_some(());
        assert!(wait_for(LIMIT, seen).is_some(), "{text:?} was not shown {times} times: {:?}", self.shown());
    }

    /// Waits until what the screen was sent gives something.
    #[track_caller]
    pub fn wait_until<T>(&self, mut look: impl FnMut(&str) -> Option<T>) -> T {
        let seen = wait_for(LIMIT, || look(&self.shown()));
        seen.unwrap_or_else(|| panic!("it was not shown: {:?}", self.shown()))
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    /// Waits for the end; how the command ended and all that was shown.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = wait_for(LIMIT, || self.child.try_wait().unwrap());
        if status.is_none() {
            self.child.kill().unwrap();
        }
        self.child.wait().unwrap();
        self.reading.join().unwrap();
        let shown = String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned();
        (status.unwrap_or_else(|| panic!("it did not end: {shown:?}")), shown)
    }
}

/// A new terminal and its screen.
fn open() -> (OwnedFd, File) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        options.read(true).write(true),
        OFlags::NOCTTY.bits().cast_signed(),
    );
    (options.open(path).unwrap().into(), screen.into())
}
