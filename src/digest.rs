//! SHA-256 digests: parsed once at the edge, never carried as strings.

use std::fmt;
use std::str::FromStr;

/// The SHA-256 digest of a whole object (FIPS 180-4), which is also the object's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

/// A text that is not a SHA-256 digest in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest: expected 64 hexadecimal digits, got {got:?}")]
pub struct DigestError {
    got: String,
}

impl Sha256 {
    /// The digest made of these 32 bytes, most significant first as FIPS 180-4 writes them.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of `bytes`, computed now.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 32 bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The name of an object in the BitTorrent DHT: the first 20 bytes of its SHA-256, as BEP 52 truncates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InfoHash([u8; 20]);

impl InfoHash {
    /// The name of these 20 bytes.
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl From<Sha256> for InfoHash {
    fn from(digest: Sha256) -> Self {
        let mut bytes = [0; 20];
        bytes.copy_from_slice(&digest.as_bytes()[..20]);
        Self(bytes)
    }
}

impl From<[u8; 32]> for Sha256 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Sha256 {
    type Error = DigestError;

    fn try_from(bytes: &[u8]) -> Result<Self, DigestError> {
        let array = bytes.try_into().map_err(|_| DigestError { got: format!("{} bytes", bytes.len()) })?;
        Ok(Self(array))
    }
}

impl FromStr for Sha256 {
    type Err = DigestError;

    /// Accepts exactly 64 hexadecimal digits, in either case.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        parse_hex(text).map(Self).ok_or_else(|| DigestError { got: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

/// `N` bytes from exactly twice as many hexadecimal digits, `None` for anything else.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(out)
}

/// Lower-case hexadecimal, two digits a byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    // Writing to a text does not fail.
    let _ = write_hex(bytes, &mut text);
    text
}

/// The same, into something else.
pub(crate) fn write_hex(bytes: &[u8], f: &mut impl fmt::Write) -> fmt::Result {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half & 15)];
    // A digest at a time: digit by digit costs more than all else that a small answer is made of.
    bytes.chunks(32).try_for_each(|chunk| {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(chunk) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(*byte)]);
        }
        f.write_str(std::str::from_utf8(&digits[..2 * chunk.len()]).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_reads_what_it_prints() {
        let digest = Sha256::of(b"abc");
        let text = digest.to_string();
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(text.parse::<Sha256>(), Ok(digest));
        assert_eq!(text.to_uppercase().parse::<Sha256>(), Ok(digest));
    }

    #[test]
    fn hexadecimal_is_read_as_it_is_written() {
        let bytes = [0x00, 0x0f, 0xa0, 0xff];
        assert_eq!(to_hex(&bytes), "000fa0ff");
        assert_eq!(parse_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!(parse_hex("000FA0FF"), Some(bytes));
        assert_eq!(parse_hex::<4>("000fa0f"), None);
    }

    #[test]
    fn digest_refuses_other_texts() {
        for text in ["", "ba78", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"é".repeat(32)] {
            assert!(text.parse::<Sha256>().is_err(), "{text:?} was accepted");
        }
        assert!(Sha256::try_from(&[0_u8; 31][..]).is_err());
    }
}
