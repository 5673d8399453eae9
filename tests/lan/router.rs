//! `network.port_mapping`: whether the network's router hears of us.

use std::net::{SocketAddr, UdpSocket};

use crate::network::{LIMIT, MIRROR, ip, on_a_network};

/// Where a router listens for NAT-PMP and PCP (RFC 6886, section 1.1; RFC 6887, section 19.1).
const PORT: u16 = 5351;

#[test]
fn the_router_is_asked_for_a_port_by_those_who_may_and_by_nobody_else() {
    on_a_network("router::the_router_is_asked_for_a_port_by_those_who_may_and_by_nobody_else", |network| {
        let router = UdpSocket::bind((MIRROR, PORT)).unwrap();
        router.set_read_timeout(Some(LIMIT)).unwrap();
        let daemons = [(2, false), (3, true)].map(|(number, may)| {
            let host = network.host(number);
            assert!(ip(&format!("-n {} route add default via {MIRROR}", host.namespace())));
            let daemon = host.setup().with(&format!("[network]\nport_mapping = {may}\n")).start();
            (host.peer().ip(), daemon)
        });
        let mut space = [0; 2048];
        // The first one has had all the time that the second one took to start.
        for _ in 0..2 {
            let (_, from): (usize, SocketAddr) = router.recv_from(&mut space).expect("somebody asks");
            assert_eq!(from.ip(), daemons[1].0);
        }
    });
}
