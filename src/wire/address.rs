//! Which addresses are whose: those of a local network, and those that nobody can have.

use std::net::{IpAddr, SocketAddr};

/// Whether an address is loopback, private, link-local, unique-local or shared by a provider's customers: nothing that
/// a node elsewhere could reach.
pub fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether an address can be anybody's at all: no port 0, nothing unspecified, multicast, broadcast, reserved or for
/// documentation.
pub fn is_dialable(address: SocketAddr) -> bool {
    let reserved = match address.ip().to_canonical() {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.octets()[0] >= 224 || v4.is_documentation() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast() || v6.segments()[..2] == [0x2001, 0xdb8],
    };
    address.port() != 0 && !reserved
}
