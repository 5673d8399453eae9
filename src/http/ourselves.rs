//! Whether an address leads back to us: others name us by addresses that no listener was bound to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses that no machine has: one of a class that was never given out (RFC 1112, section 4), one that is only for what is to be
/// thrown away (RFC 6666).
const NOBODYS_V4: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
const NOBODYS_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);

/// Whether whoever connects to `address` comes to one of `listeners`, which are addresses as they were bound. One that is bound
/// to all addresses is at each of this machine's. Nothing is sent.
///
/// What a router makes of its own address is not known here.
pub fn leads_to(listeners: &[SocketAddr], address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    listeners.iter().filter(|own| own.port() == address.port()).any(|own| {
        let bound = own.ip().to_canonical();
        bound == ip || (bound.is_unspecified() && (ip.is_loopback() || is_of_this_machine(ip)))
    })
}

/// Whether this machine has the address: no socket can be bound to one of another machine (ip(7)), unless the kernel was told to
/// allow any. Then nobody knows, and nothing is taken for ours.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let binds = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    let nobodys: IpAddr = if ip.is_ipv4() { NOBODYS_V4.into() } else { NOBODYS_V6.into() };
    !ip.is_unspecified() && !ip.is_multicast() && binds(ip) && !binds(nobodys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_listener_is_where_it_is_bound_and_nowhere_else() {
        let own = [at("192.0.2.7:9979"), at("[2001:db8::7]:9979")];
        for here in ["192.0.2.7:9979", "[::ffff:192.0.2.7]:9979", "[2001:db8::7]:9979"] {
            assert!(leads_to(&own, at(here)), "{here}");
        }
        for elsewhere in ["192.0.2.7:9977", "192.0.2.8:9979", "127.0.0.1:9979", "0.0.0.0:9979"] {
            assert!(!leads_to(&own, at(elsewhere)), "{elsewhere}");
        }
        assert!(!leads_to(&[], at("127.0.0.1:9979")));
    }

    #[test]
    fn a_listener_on_all_addresses_is_on_each_of_this_machine() {
        let own = [at("0.0.0.0:9979")];
        // All of 127.0.0.0/8 is this machine's.
        for here in ["127.0.0.1:9979", "127.9.9.9:9979", "[::ffff:127.0.0.1]:9979"] {
            assert!(leads_to(&own, at(here)), "{here}");
        }
        // An address of another machine, multicast, and one that only an interface gives a meaning.
        for elsewhere in
            ["240.0.0.1:9979", "[100::1]:9979", "127.0.0.1:9978", "224.0.0.251:9979", "[fe80::1]:9979"]
        {
            assert!(!leads_to(&own, at(elsewhere)), "{elsewhere}");
        }
        assert!(is_of_this_machine([127, 0, 0, 2].into()));
        // Where there is a way to the world, there is an address of ours on it.
        let way = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        if way.connect(("192.0.2.1", 9)).is_ok() {
            let ours = way.local_addr().unwrap().ip();
            assert!(leads_to(&own, SocketAddr::new(ours, 9979)), "{ours}");
        }
    }
}
