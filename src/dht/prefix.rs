//! Addresses that share their leading bits: the smallest and the larger blocks that one stranger may hold.

use std::net::IpAddr;

/// A block of addresses. An IPv4 address mapped into IPv6 counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    v6: bool,
    bits: u64,
}

impl Prefix {
    /// What one customer has at least: a single IPv4 address, or a /64 of IPv6 (RFC 6177).
    pub(super) fn host(address: IpAddr) -> Self {
        Self::of(address, 32, 64)
    }

    /// What one customer may easily have: a /24 of IPv4, a /48 of IPv6 (RFC 6177).
    pub(super) fn network(address: IpAddr) -> Self {
        Self::of(address, 24, 48)
    }

    /// What one provider has at least: a /24 of IPv4 (nothing longer is routed), a /32 of IPv6. A /48 would be too
    /// little here: somebody with a /32 has 65,536 of them.
    pub(super) fn provider(address: IpAddr) -> Self {
        Self::of(address, 24, 32)
    }

    /// Its bytes, the same for the same block only.
    pub(super) fn to_bytes(self) -> [u8; 9] {
        let [a, b, c, d, e, f, g, h] = self.bits.to_be_bytes();
        [u8::from(self.v6), a, b, c, d, e, f, g, h]
    }

    fn of(address: IpAddr, v4_length: u32, v6_length: u32) -> Self {
        let (v6, bits, length) = match address.to_canonical() {
            IpAddr::V4(v4) => (false, u64::from(v4.to_bits()) << 32, v4_length),
            IpAddr::V6(v6) => (true, (v6.to_bits() >> 64) as u64, v6_length),
        };
        Self { v6, bits: bits & (u64::MAX << (64 - length)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_share_a_block_and_strangers_do_not() {
        assert_eq!(Prefix::network(ip("1.2.3.4")), Prefix::network(ip("1.2.3.200")));
        assert_eq!(Prefix::network(ip("1.2.3.4")), Prefix::network(ip("::ffff:1.2.3.4")));
        assert_ne!(Prefix::network(ip("1.2.3.4")), Prefix::network(ip("1.2.4.4")));
        assert_ne!(Prefix::host(ip("1.2.3.4")), Prefix::host(ip("1.2.3.5")));
        assert_eq!(Prefix::host(ip("2a00:1:2:3::1")), Prefix::host(ip("2a00:1:2:3:4::1")));
        assert_ne!(Prefix::host(ip("2a00:1:2:3::1")), Prefix::host(ip("2a00:1:2:4::1")));
        assert_eq!(Prefix::network(ip("2a00:1:2:3::1")), Prefix::network(ip("2a00:1:2:4::1")));
        assert_eq!(Prefix::provider(ip("2a00:1:2::1")), Prefix::provider(ip("2a00:1:3::1")));
        assert_ne!(Prefix::provider(ip("2a00:1::1")), Prefix::provider(ip("2a00:2::1")));
        let (v4, v6) = (Prefix::host(ip("1.2.3.4")), Prefix::host(ip("102:304::")));
        assert_ne!(v4.to_bytes(), v6.to_bytes());
    }
}
