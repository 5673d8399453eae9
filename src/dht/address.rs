//! Addresses as the DHT writes them, and those that no stranger can have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::id::Id;
pub use crate::wire::{is_dialable, is_local};

/// A node: its id and where it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contact {
    /// Its name.
    pub id: Id,
    /// Its UDP address.
    pub address: SocketAddr,
}

/// Reads a compact address (BEP 5, "Contact Encoding"; BEP 32 for IPv6): 4 or 16 bytes and a port, big-endian.
pub(super) fn from_compact(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    let ip = match ip.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Writes a compact address. An IPv4 address mapped into IPv6 is written as IPv4.
pub(super) fn to_compact(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes
}

/// Reads compact node lists: 26 bytes each for IPv4 (`nodes`), 38 for IPv6 (`nodes6`, BEP 32). A rest that is no whole
/// entry is ignored.
pub(super) fn contacts(bytes: &[u8], address_length: usize) -> impl Iterator<Item = Contact> {
    bytes.chunks_exact(Id::LENGTH + address_length + 2).filter_map(|entry| {
        let (id, address) = entry.split_at(Id::LENGTH);
        Some(Contact { id: Id::from_slice(id)?, address: from_compact(address)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_addresses_survive_the_way_there_and_back() {
        for text in ["1.2.3.4:5678", "[2001:db8::1]:65535", "127.0.0.1:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(from_compact(&to_compact(address)), Some(address));
        }
        let mapped: SocketAddr = "[::ffff:1.2.3.4]:80".parse().unwrap();
        assert_eq!(to_compact(mapped), [1, 2, 3, 4, 0, 80]);
        for wrong in [0, 1, 5, 7, 17, 19, 26] {
            assert_eq!(from_compact(&vec![1; wrong]), None);
        }
    }

    #[test]
    fn what_nobody_can_be_is_known() {
        let local = |text: &str| is_local(text.parse().unwrap());
        for text in
            ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "100.64.0.1", "::1", "fd00::1", "fe80::1"]
        {
            assert!(local(text), "{text}");
        }
        for text in ["8.8.8.8", "100.128.0.1", "2a00::1"] {
            assert!(!local(text), "{text}");
        }
        let dialable = |text: &str| is_dialable(text.parse().unwrap());
        for text in [
            "0.0.0.0:1",
            "8.8.8.8:0",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "192.0.2.1:1",
            "[::]:1",
            "[ff02::1]:1",
        ] {
            assert!(!dialable(text), "{text}");
        }
        assert!(dialable("8.8.8.8:6881") && dialable("[2a00::1]:6881"));
    }
}
