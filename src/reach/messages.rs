//! What a router is asked by datagrams: PCP (RFC 6887), and NAT-PMP (RFC 6886) where it is older.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port of both protocols (RFC 6886, section 3; RFC 6887, section 19.1).
pub(super) const PORT: u16 = 5351;

/// The longest answer that is read, in bytes: a PCP message (RFC 6887, section 7).
pub(super) const LONGEST: usize = 1100;

/// What is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// A port that a router keeps open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) port: u16,
    /// In seconds; 0 is none.
    pub(super) lifetime: u32,
    /// By which others reach it, where the answer tells.
    pub(super) address: Option<IpAddr>,
}

/// What a router said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Granted(Granted),
    /// No, by this result code.
    Refused(u16),
    /// Something else than was asked.
    Other,
}

/// A request to keep `port` open for `lifetime` seconds; 0 closes it. `external` is the port that we should like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) transport: Transport,
    pub(super) port: u16,
    pub(super) external: u16,
    pub(super) lifetime: u32,
}

impl Wish {
    /// As NAT-PMP has it (RFC 6886, section 3.3).
    pub(super) fn natpmp(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[1] = self.opcode();
        bytes[4..6].copy_from_slice(&self.port.to_be_bytes());
        // Closing asks for port 0 (section 3.4).
        let external = if self.lifetime == 0 { 0 } else { self.external };
        bytes[6..8].copy_from_slice(&external.to_be_bytes());
        bytes[8..].copy_from_slice(&self.lifetime.to_be_bytes());
        bytes
    }

    /// Reads the answer to it.
    pub(super) fn natpmp_answer(&self, bytes: &[u8]) -> Answer {
        let Some((head, rest)) = bytes.split_at_checked(4) else { return Answer::Other };
        if head[0] != 0 || head[1] != 128 + self.opcode() {
            return Answer::Other;
        }
        match (u16_at(head, 2), u16_at(rest, 4), u16_at(rest, 6), u32_at(rest, 8)) {
            (Some(0), Some(port), Some(external), Some(lifetime)) if port == self.port => {
                Answer::Granted(Granted { port: external, lifetime, address: None })
            }
            (Some(0) | None, ..) => Answer::Other,
            (Some(code), ..) => Answer::Refused(code),
        }
    }

    /// As PCP has it (RFC 6887, sections 7.1 and 11.1), asked from the address `client`.
    pub(super) fn pcp(&self, client: IpAddr, nonce: &[u8; 12]) -> [u8; 60] {
        // All zeros, of the same family: any address will do (section 11.1).
        let (client, any) = match client {
            IpAddr::V4(client) => (client.to_ipv6_mapped(), Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()),
            IpAddr::V6(client) => (client, Ipv6Addr::UNSPECIFIED),
        };
        let mut bytes = [0; 60];
        bytes[..2].copy_from_slice(&[2, 1]);
        bytes[4..8].copy_from_slice(&self.lifetime.to_be_bytes());
        bytes[8..24].copy_from_slice(&client.octets());
        bytes[24..36].copy_from_slice(nonce);
        bytes[36] = self.protocol();
        bytes[40..42].copy_from_slice(&self.port.to_be_bytes());
        bytes[42..44].copy_from_slice(&self.external.to_be_bytes());
        bytes[44..].copy_from_slice(&any.octets());
        bytes
    }

    /// Reads the answer to it.
    pub(super) fn pcp_answer(&self, bytes: &[u8], nonce: &[u8; 12]) -> Answer {
        if bytes.len() < 4 || bytes[0] != 2 || bytes[1] != 0x81 {
            // An older router says that it does not know this version (RFC 6886, section 3.5).
            return if bytes.first() == Some(&0) { Answer::Refused(1) } else { Answer::Other };
        }
        if bytes[3] != 0 {
            return Answer::Refused(u16::from(bytes[3]));
        }
        let ours = bytes.len() >= 60
            && bytes[24..36] == *nonce
            && bytes[36] == self.protocol()
            && u16_at(bytes, 40) == Some(self.port);
        let (Some(lifetime), Some(port), true) = (u32_at(bytes, 4), u16_at(bytes, 42), ours) else {
            return Answer::Other;
        };
        let mut address = [0; 16];
        address.copy_from_slice(&bytes[44..60]);
        let address = IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
        Answer::Granted(Granted { port, lifetime, address: (!address.is_unspecified()).then_some(address) })
    }

    const fn opcode(&self) -> u8 {
        match self.transport {
            Transport::Udp => 1,
            Transport::Tcp => 2,
        }
    }

    /// By IANA's protocol numbers.
    const fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Udp => 17,
            Transport::Tcp => 6,
        }
    }
}

/// The question for the address by which others see us (RFC 6886, section 3.2).
pub(super) const ADDRESS: [u8; 2] = [0, 0];

/// Reads the answer to [`ADDRESS`].
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if bytes.len() < 12 || bytes[..4] != [0, 128, 0, 0] {
        return None;
    }
    Some(Ipv4Addr::new(bytes[8], bytes[9], bytes[10], bytes[11]).into())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish { transport: Transport::Tcp, port: 9979, external: 9979, lifetime: 3600 };

    #[test]
    fn natpmp_is_written_and_read_as_the_rfc_has_it() {
        assert_eq!(WISH.natpmp(), [0, 2, 0, 0, 0x26, 0xfb, 0x26, 0xfb, 0, 0, 0x0e, 0x10]);
        assert_eq!(Wish { lifetime: 0, ..WISH }.natpmp()[6..8], [0, 0]);
        let answer = [0, 130, 0, 0, 0, 0, 0, 9, 0x26, 0xfb, 0x30, 0x39, 0, 0, 0x0e, 0x10];
        let granted = Granted { port: 12345, lifetime: 3600, address: None };
        assert_eq!(WISH.natpmp_answer(&answer), Answer::Granted(granted));
        assert_eq!(WISH.natpmp_answer(&[0, 130, 0, 2, 0, 0, 0, 9]), Answer::Refused(2));
        for other in [&answer[..15], &[], &[0, 129], &[1; 16]] {
            assert_eq!(WISH.natpmp_answer(other), Answer::Other, "{other:?}");
        }
        assert_eq!(address(&[0, 128, 0, 0, 0, 0, 0, 1, 8, 8, 4, 4]), Some([8, 8, 4, 4].into()));
        assert_eq!(address(&[0, 128, 0, 3, 0, 0, 0, 1, 8, 8, 4, 4]), None);
    }

    #[test]
    fn pcp_is_written_and_read_as_the_rfc_has_it() {
        let nonce = [7; 12];
        let mut bytes = WISH.pcp([192, 168, 1, 5].into(), &nonce);
        assert_eq!(bytes[44..], Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
        assert_eq!(
            (bytes[0], bytes[1], bytes[36], &bytes[18..24]),
            (2, 1, 6, &[255, 255, 192, 168, 1, 5][..])
        );
        let own: Ipv6Addr = "2001:db8::5".parse().unwrap();
        let six = WISH.pcp(own.into(), &nonce);
        assert_eq!((&six[8..24], &six[44..]), (&own.octets()[..], &[0; 16][..]));
        bytes[1] = 0x81;
        bytes[44..].copy_from_slice(&Ipv4Addr::new(8, 8, 4, 4).to_ipv6_mapped().octets());
        let granted = Granted { port: 9979, lifetime: 3600, address: Some([8, 8, 4, 4].into()) };
        assert_eq!(WISH.pcp_answer(&bytes, &nonce), Answer::Granted(granted));
        assert_eq!(WISH.pcp_answer(&bytes, &[8; 12]), Answer::Other);
        assert_eq!(WISH.pcp_answer(&[0, 128, 0, 1, 0, 0, 0, 0], &nonce), Answer::Refused(1), "NAT-PMP only");
        bytes[3] = 2;
        assert_eq!(WISH.pcp_answer(&bytes, &nonce), Answer::Refused(2));
        for length in 0..60 {
            assert!(!matches!(WISH.pcp_answer(&bytes[..length], &nonce), Answer::Granted(_)));
        }
    }
}
