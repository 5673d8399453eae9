//! `aptpeer bootstrap`: what it says of itself, and of what stands in its way.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, ChildStderr, Stdio};

use crate::{Ended, Place, has_all};

/// Nothing of the machine's own, whichever the test is about.
fn variables(place: &Place) -> Vec<(&'static str, String)> {
    vec![
        ("APTPEER_STATE_PATH", place.path("state").display().to_string()),
        ("APTPEER_STATUS_LISTEN", "127.0.0.1:0".to_owned()),
        ("APTPEER_DHT_BOOTSTRAP", String::new()),
    ]
}

fn bootstrap(place: &Place, listen: &str, more: &[(&'static str, String)]) -> Ended {
    let mut command = place.command(&["bootstrap", "--listen", listen]);
    Ended::from(command.envs(variables(place)).envs(more.iter().cloned()).output().unwrap())
}

/// A node that runs until this is dropped.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    fn start(place: &Place) -> Self {
        let mut command = place.command(&["bootstrap", "--listen", "127.0.0.1:0"]);
        let mut child = command.envs(variables(place)).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn help_says_what_it_listens_for_and_where_to_look() {
    let help = Place::new().run(&["bootstrap", "--help"]).good();
    // The width of the terminal decides where lines end.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    has_all(&help, &["--listen", "UDP", "separated by commas", "network.listen", "/stats", "state.path"]);
    has_all(&help, &["dht.bootstrap is empty", "network.allow_private_peers"]);
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key_and_what_to_do() {
    let place = Place::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let stderr = bootstrap(&place, &address, &[]).bad(1);
    has_all(&stderr, &["cannot listen", &address, "network.listen", "another program", "ss -lntup"]);

    let status = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = status.local_addr().unwrap().to_string();
    let stderr = bootstrap(&place, "127.0.0.1:0", &[("APTPEER_STATUS_LISTEN", address.clone())]).bad(1);
    has_all(&stderr, &["cannot listen", &address, "status.listen", "another program"]);
}

#[test]
fn an_address_of_another_machine_is_told_from_one_that_is_taken() {
    // For documentation (RFC 5737): nobody has it.
    let stderr = bootstrap(&Place::new(), "192.0.2.1:9979", &[]).bad(1);
    has_all(&stderr, &["192.0.2.1:9979", "network.listen", "does not have that address", "ip address"]);
    assert!(!stderr.contains("another program"), "{stderr}");
}

#[test]
fn a_value_that_is_no_address_is_bad_usage() {
    for listen in ["127.0.0.1", "localhost:9979", "127.0.0.1:99999", "9979"] {
        let stderr = bootstrap(&Place::new(), listen, &[]).bad(2);
        has_all(&stderr, &[listen, "--listen", "network.listen", "IP addresses with ports", "0.0.0.0:9979"]);
    }
    let stderr = bootstrap(&Place::new(), "", &[]).bad(1);
    has_all(&stderr, &["network.listen is empty", "address"]);
}

#[test]
fn the_state_of_another_that_runs_is_left_alone() {
    let place = Place::new();
    let mut running = Running::start(&place);
    assert!(running.line().contains("listening"));
    let stderr = bootstrap(&place, "127.0.0.1:0", &[]).bad(1);
    let state = place.path("state").display().to_string();
    has_all(&stderr, &["another aptpeer", &state, "state.path", "stop it", "of its own"]);
    let stderr = Ended::from(place.command(&["daemon"]).envs(variables(&place)).output().unwrap()).bad(1);
    has_all(&stderr, &[&state, "state.path"]);
}

#[test]
fn a_state_that_cannot_be_written_is_named() {
    let place = Place::new();
    let path = place.file("file", "").join("state").display().to_string();
    let stderr = bootstrap(&place, "127.0.0.1:0", &[("APTPEER_STATE_PATH", path.clone())]).bad(1);
    has_all(&stderr, &[&path, "state.path", "Not a directory"]);
}
