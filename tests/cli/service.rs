//! What a service manager gives the daemon and hears from it; and what apt hears.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{BINARY, Place};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A daemon with a socket that outlives it, and with somebody to tell how it is.
struct Service {
    place: Place,
    listener: TcpListener,
    told: UnixDatagram,
    child: Option<Child>,
}

impl Service {
    fn new() -> Self {
        let place = Place::new();
        place.file(
            "config.toml",
            "[network]\nlisten = []\n[dht]\nenabled = false\n[lan]\nenabled = false\n[mirrors]\nlists_dir = \"\"\n\
             [status]\nlisten = \"127.0.0.1:0\"\n",
        );
        let told = UnixDatagram::bind(place.path("notify")).unwrap();
        told.set_read_timeout(Some(LIMIT)).unwrap();
        Self { place, listener: TcpListener::bind("127.0.0.1:0").unwrap(), told, child: None }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Starts it as systemd would (sd_listen_fds(3)): the socket is descriptor 3, `LISTEN_PID` says that it is for this process.
    fn start(&mut self) {
        let socket: OwnedFd = self.listener.try_clone().unwrap().into();
        let pass = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", pass, "sh", BINARY, "daemon", "--config"]).arg(self.place.path("config.toml"));
        command.env_clear().env("HOME", self.place.path("")).env("WATCHDOG_USEC", "40000");
        command
            .env("STATE_DIRECTORY", self.place.path("state"))
            .env("CACHE_DIRECTORY", self.place.path("cache"));
        command.env("NOTIFY_SOCKET", self.place.path("notify"));
        self.child = Some(command.stdin(socket).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        self.hear("READY=1");
    }

    /// Waits until the daemon says this.
    fn hear(&self, what: &str) {
        let mut buffer = [0; 256];
        loop {
            let count = self.told.recv(&mut buffer).expect(what);
            if std::str::from_utf8(&buffer[..count]).unwrap().lines().any(|line| line == what) {
                return;
            }
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.child.take().unwrap().wait().unwrap().success());
    }

    /// What apt is told.
    fn detect(&self, variables: &[(&str, &str)]) -> String {
        let mut command =
            self.place.command(&["detect", "http://mirror.example.org/debian/dists/x/InRelease"]);
        command.env("STATE_DIRECTORY", self.place.path("state")).envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "apt would fail");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn whoever_asks_between_two_daemons_is_answered_by_the_second() {
    let mut service = Service::new();
    service.start();
    service.hear("WATCHDOG=1");
    service.hear("WATCHDOG=1");
    service.stop();
    service.hear("STOPPING=1");

    let mut between = TcpStream::connect(service.address()).unwrap();
    between.set_read_timeout(Some(LIMIT)).unwrap();
    between.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    service.start();
    let mut answer = String::new();
    between.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn apt_is_told_of_a_daemon_that_is_well_and_of_nothing_else() {
    let mut service = Service::new();
    assert_eq!(service.detect(&[]), "", "none was ever there");
    service.start();
    // Busy cores may let a healthy daemon miss its quarter of a second now and then.
    let expected = format!("http://{}\n", service.address());
    assert!((0..100).any(|_| service.detect(&[]) == expected));
    assert_eq!(service.detect(&[("APTPEER_MIRRORS_ALLOW", "other.example.org")]), "", "it would refuse");

    service.signal(rustix::process::Signal::STOP);
    let proxy = [("http_proxy", "http://proxy.example.org:3128")];
    assert_eq!(service.detect(&proxy), "", "apt goes on by the proxy that it knows");
    service.signal(rustix::process::Signal::CONT);
    service.signal(rustix::process::Signal::KILL);
    service.child.take().unwrap().wait().unwrap();
    assert_eq!(service.detect(&[]), "", "its record is left, and nobody answers");
}
