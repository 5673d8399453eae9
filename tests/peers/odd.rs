//! Peers that are odd in ways of HTTP: redirects, endless heads, endless bodies; and what all of them cost in memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::peers::{Fault, Peer};
use crate::support::server::{Connection, Server};
use crate::world::{faults_in, fetch, give_peers_time, learn, objects, repository, slices, url};

/// As in the other tests of single peers: bounded by how long a busy machine takes.
const LIMIT: Duration = Duration::from_secs(5);

/// A peer that does the same with every connection, once it has read a request.
fn odd(act: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Server {
    Server::start(move |connection| {
        while connection.next_request()?.is_some() {
            act(connection)?;
        }
        Ok(())
    })
}

/// Fetches a package of one piece and one of three past this peer, each with a daemon of its own.
#[track_caller]
fn check(what: &str, peer: SocketAddr, names: &[&str]) {
    let repository = repository();
    let objects = objects(&repository);
    for (at, name) in ["one", "three"].into_iter().enumerate() {
        let mirror = Mirror::start(&repository.root());
        let daemon = Setup::new().peer(peer).start();
        learn(daemon.proxy(), &mirror);
        give_peers_time(&mirror);
        let fetched = fetch(daemon.proxy(), &url(&mirror, &repository, name), &[]);
        assert_eq!(fetched.head.status, 200, "{what}, {name}: {}", fetched.head.head);
        assert!(fetched.body == objects[at], "{what}, {name}: {} bytes", fetched.body.len());
        println!("{what}: {name} in {:.2?}", fetched.took);
        assert!(fetched.took < LIMIT, "{what}, {name}: {:?}", fetched.took);
        let faults = faults_in(&daemon.log());
        assert!(names.iter().any(|name| faults.iter().any(|fault| fault == name)), "{what}: {faults:?}");
    }
}

#[test]
fn a_redirect_is_a_fault_and_never_followed() {
    let visits = Arc::new(AtomicUsize::new(0));
    let victim = Server::start({
        let visits = Arc::clone(&visits);
        move |_| {
            visits.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let to = victim.address();
        let peer = odd(move |connection| {
            let head =
                format!("HTTP/1.1 {status}\r\nLocation: http://{to}/secret\r\nContent-Length: 0\r\n\r\n");
            connection.send(head.as_bytes())
        });
        check(status, peer.address(), &["wrong-range", "server-error"]);
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0, "a peer sent us somewhere");
}

#[test]
fn interim_answers_without_end() {
    let peer = odd(|connection| {
        let many = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(200);
        loop {
            connection.send(many.as_bytes())?;
            connection.pause(Duration::from_millis(10))?;
        }
    });
    check("interim answers", peer.address(), &["late", "silent", "rubbish"]);
}

#[test]
fn a_head_that_drips() {
    let peer = odd(|connection| {
        connection.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")?;
        loop {
            connection.send(b"a")?;
            connection.pause(Duration::from_millis(50))?;
        }
    });
    check("a dripping head", peer.address(), &["late", "silent"]);
}

#[test]
fn a_body_without_a_length_and_without_an_end() {
    let peer = odd(|connection| {
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let mut chunk = b"10000\r\n".to_vec();
        chunk.extend(vec![b'x'; 0x10000]);
        chunk.extend(b"\r\n");
        loop {
            connection.send(&chunk)?;
        }
    });
    check("an endless body", peer.address(), &["long", "bad-list", "wrong-piece"]);
}

#[test]
fn what_peers_send_never_fills_the_memory() {
    let repository = repository();
    let objects = objects(&repository);
    let faults = [Fault::HugeHeader, Fault::HugeHeader, Fault::HugeList, Fault::HugeList, Fault::HugeList];
    let peers = faults.map(|fault| Peer::start(&slices(&objects), &[fault]));
    let mirror = Mirror::start(&repository.root());
    let daemon = peers.iter().fold(Setup::new(), |setup, peer| setup.peer(peer.address())).start();
    learn(daemon.proxy(), &mirror);
    let before = peak(&daemon);
    let fetched = fetch(daemon.proxy(), &url(&mirror, &repository, "three"), &[]);
    assert!(fetched.body == objects[1]);
    let after = peak(&daemon);
    println!("{before} MB at most before, {after} MB after five peers with 100 MB each");
    assert!(after < before + 60, "{after} MB instead of {before} MB");
}

/// The most memory that a daemon ever had, in MB (proc(5), `VmHWM`).
fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1000
}
