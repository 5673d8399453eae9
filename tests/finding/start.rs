//! Entering the network: late, again, and not at all.

use std::net::UdpSocket;

use crate::support::daemon::Setup;
use crate::support::{http, wait_for};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_node_that_starts_before_its_entrance_gets_in_when_that_appears() {
    // A port that nobody has now, and the entrance later.
    let place = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    let daemon = Setup::new().dht(&[address]).start();
    let waits = || daemon.stats()["dht"]["waiting_for"].is_string().then_some(());
    assert!(wait_for(LIMIT, waits).is_some(), "{}", daemon.stats());
    let reason = daemon.stats()["dht"]["waiting_for"].as_str().unwrap().to_owned();
    let page = http::get(daemon.status(), "/").text();
    assert!(page.contains(&format!("waits for {reason}")), "{page}");
    drop(place);
    let entrance = Setup::bootstrap().with(&format!("[network]\nlisten = [\"{address}\"]\n")).start();
    daemon.wait_for_dht();
    let works = || daemon.stats()["dht"]["waiting_for"].is_null().then_some(());
    assert!(wait_for(LIMIT, works).is_some(), "{}", daemon.stats());
    let page = http::get(daemon.status(), "/").text();
    assert!(!page.contains("waits for"), "{page}");
    drop(entrance);
}

#[test]
fn a_node_comes_back_by_the_nodes_that_it_knew_and_under_its_own_id() {
    let entrance = Setup::bootstrap().start();
    let mut daemon = Setup::new().dht(&[entrance.dht()]).start();
    daemon.wait_for_dht();
    let id = daemon.stats()["dht"]["ids"][0].clone();
    assert!(daemon.terminate().success());
    // The names are gone: what it saved must do.
    daemon.reconfigure(Setup::new().dht(&[]));
    daemon.restart();
    daemon.wait_for_dht();
    assert_eq!(daemon.stats()["dht"]["ids"][0], id);
}

#[test]
fn nothing_listens_for_datagrams_where_the_dht_is_off() {
    for off in ["[dht]\nenabled = false\n", "[dht]\nenabled = true\n[privacy]\nlan_only = true\n"] {
        let daemon = Setup::new().with(off).start();
        assert_eq!(daemon.addresses().dht, None);
        assert_eq!(datagram_sockets(daemon.pid()), 0);
        assert!(daemon.stats()["dht"].is_null());
    }
}

/// How many of a process's sockets are for datagrams.
fn datagram_sockets(pid: u32) -> usize {
    let tables =
        ["udp", "udp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap());
    let inodes: Vec<&str> = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(inode).collect();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = files.filter_map(|file| Some(std::fs::read_link(file.path()).ok()?.to_str()?.to_owned()));
    targets.filter(|target| inodes.iter().any(|inode| *target == format!("socket:[{inode}]"))).count()
}

/// The inode of a socket in /proc/net/udp (proc(5)).
fn inode(line: &str) -> Option<&str> {
    line.split_whitespace().nth(9)
}

#[test]
fn the_count_of_datagram_sockets_sees_those_of_a_node() {
    assert!(datagram_sockets(Setup::bootstrap().start().pid()) > 0);
}

#[test]
fn a_bootstrap_node_answers_for_the_dht_and_nothing_else() {
    let node = Setup::bootstrap().start();
    assert_eq!(http::get(node.status(), "/health").status, 200);
    assert!(node.addresses().peers.is_empty());
    let json = std::fs::read_to_string(node.state().join("daemon.json")).unwrap();
    assert!(json.contains("\"proxy\":null"), "{json}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    for rubbish in [&b""[..], b"x", b"d", b"d1:ad2:id", &[0xff; 1500], b"\x13BitTorrent protocol", b"le"] {
        socket.send_to(rubbish, node.dht()).unwrap();
    }
    // A transaction id of 2 bytes, as libtorrent sends.
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    socket.send_to(ping, node.dht()).unwrap();
    // It asks back, too: who answers gets into its table.
    let mut datagrams = (0..2).map(|_| {
        let mut datagram = [0; 1500];
        let (length, from) = socket.recv_from(&mut datagram).unwrap();
        assert_eq!(from, node.dht());
        datagram[..length].escape_ascii().to_string()
    });
    assert!(datagrams.any(|text| text.contains("1:t2:aa") && text.contains("1:y1:r")));
}
