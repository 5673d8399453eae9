//! Names of nodes and of what is stored, and the distance between them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::digest::{InfoHash, parse_hex, write_hex};

/// A point of the DHT's space: a node, an info-hash or a BEP 44 target (BEP 5, "DHT": 160 bits, XOR metric).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; Id::LENGTH]);

/// How far two points are apart: their XOR, read as a number. Smaller is closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; Id::LENGTH]);

impl Id {
    /// In bytes.
    pub const LENGTH: usize = 20;

    /// The point of these 20 bytes.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The point that `bytes` spell, `None` where they are not exactly 20.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// How far it is from `other`.
    pub fn distance(&self, other: &Self) -> Distance {
        let mut distance = self.0;
        distance.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine ^= theirs);
        Distance(distance)
    }

    /// The id that BEP 42 wants of a node at `address`: 21 bits follow from the address and from the lowest 3 bits of
    /// `random`'s last byte, the others are those of `random`.
    pub fn of_address(address: IpAddr, random: Self) -> Self {
        let seed = random.0[Self::LENGTH - 1];
        let crc = prefix(address, seed);
        let mut id = random.0;
        id[0] = (crc >> 24) as u8;
        id[1] = (crc >> 16) as u8;
        id[2] = ((crc >> 8) as u8 & 0xf8) | (random.0[2] & 0x07);
        Self(id)
    }

    /// Whether a node at `address` may have this id by BEP 42. Addresses of local networks may have any.
    pub fn fits_address(&self, address: IpAddr) -> bool {
        super::address::is_local(address) || Self::of_address(address, *self) == *self
    }
}

impl Distance {
    /// How many leading bits the two points share: 160 for one and the same.
    pub fn common_bits(&self) -> u32 {
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        let rest = self.0.get(zeros).map_or(0, |byte| byte.leading_zeros());
        #[allow(clippy::cast_possible_truncation, reason = "at most 20")]
        let whole = zeros as u32 * 8;
        whole + rest
    }
}

impl From<InfoHash> for Id {
    fn from(hash: InfoHash) -> Self {
        Self(*hash.as_bytes())
    }
}

/// A text that is not 40 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the DHT: expected 40 hexadecimal digits")]
pub struct IdError;

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self).ok_or(IdError)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// BEP 42, "node IDs": CRC32-C over the masked address, the 3 bits of `seed` at its top.
fn prefix(address: IpAddr, seed: u8) -> u32 {
    const V4_MASK: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
    const V6_MASK: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];
    let mask = |bytes: &[u8], mask: &[u8]| {
        let mut masked: Vec<u8> = bytes.iter().zip(mask).map(|(byte, mask)| byte & mask).collect();
        masked[0] |= (seed & 0x7) << 5;
        crc32c(&masked)
    };
    match address.to_canonical() {
        IpAddr::V4(v4) => mask(&v4.octets(), &V4_MASK),
        IpAddr::V6(v6) => mask(&v6.octets()[..8], &V6_MASK),
    }
}

/// CRC32-C (RFC 3720, appendix B.4), bit by bit: it is over 8 bytes at most, once for each node that we meet.
fn crc32c(bytes: &[u8]) -> u32 {
    const REFLECTED: u32 = 0x82f6_3b78;
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ REFLECTED } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(hex: &str) -> Id {
        hex.parse().unwrap()
    }

    #[test]
    fn an_id_survives_the_way_to_text_and_back() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(id(text).to_string(), text);
        for wrong in ["", "0123", &text[1..], &format!("{}g", &text[1..]), &format!("{text}0")] {
            assert_eq!(wrong.parse::<Id>(), Err(IdError), "{wrong}");
        }
    }

    /// The table of BEP 42, "node IDs".
    #[test]
    fn the_test_vectors_of_bep_42() {
        for (address, seed, prefix) in [
            ("124.31.75.21", 1, "5fbfbf"),
            ("21.75.31.124", 86, "5a3ce9"),
            ("65.23.51.170", 22, "a5d432"),
            ("84.124.73.14", 65, "1b0321"),
            ("43.213.53.83", 90, "e56f6c"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let mut random = [0xff; 20];
            random[19] = seed;
            let made = Id::of_address(address, Id::new(random));
            let wanted = id(&format!("{prefix}{}", "00".repeat(17)));
            assert!(made.distance(&wanted).common_bits() >= 21, "{address}: {made}");
            assert_eq!(made.as_bytes()[19], seed);
            assert!(made.fits_address(address));
            assert!(!made.fits_address("8.8.8.8".parse().unwrap()));
            assert!(made.fits_address("192.168.1.1".parse().unwrap()), "anything goes in a local network");
        }
    }

    #[test]
    fn closeness_is_by_xor() {
        let target = id(&"00".repeat(20));
        let (near, far) = (id(&format!("{}01", "00".repeat(19))), id(&format!("80{}", "00".repeat(19))));
        assert!(target.distance(&near) < target.distance(&far));
        assert_eq!(target.distance(&near).common_bits(), 159);
        assert_eq!(target.distance(&far).common_bits(), 0);
        assert_eq!(target.distance(&target).common_bits(), 160);
    }
}
