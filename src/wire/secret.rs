//! The secret that the members of a private swarm share, and what it makes of the names that others can read.
//!
//! docs/protocol.md, section 13. A stranger who knows an object's digest can derive neither under which info-hash its
//! holders announce themselves nor where its piece list is, nor can he tell from a list what it is a list of.

use std::fmt;
use std::sync::Arc;

use ring::hmac;

use super::list_seed;
use crate::digest::{InfoHash, Sha256, parse_hex, to_hex};

/// The bytes of a secret: as many as HMAC-SHA-256 has strength for (RFC 2104, section 3).
const BYTES: usize = 32;

/// Distinct bytes that a secret has at least. Of 32 random ones some 30 are distinct, and fewer than 16 never.
const DISTINCT: usize = 16;

/// What the messages begin with whose codes are names. The info-hash of an object has no such beginning: its message has
/// the 32 bytes of a digest, and all others are longer.
const LIST: &[u8] = b"aptpeer piece list 1";
const SIGNED_LIST: &[u8] = b"aptpeer signed list 1";
const LENGTH: &[u8] = b"aptpeer veiled length 1";
const STATE: &[u8] = b"aptpeer veiled state 1";

/// The bits of a length that are veiled: those of the longest object (docs/protocol.md, section 5).
const LENGTH_BITS: u32 = 40;

/// The shared secret of a private swarm. It is never printed.
#[derive(Clone)]
pub struct Secret {
    bytes: [u8; BYTES],
    key: hmac::Key,
}

/// Why a text holds no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// Less than 64 hexadecimal digits.
    #[error("it is too short: it has {0} characters, a secret has 64 hexadecimal digits")]
    Short(usize),
    /// Something else.
    #[error("it is no secret: expected one line of 64 hexadecimal digits, and lines that begin with #")]
    Shape,
    /// Digits that nobody has drawn by lot.
    #[error("it is no random secret, and could be guessed")]
    Guessable,
}

impl Secret {
    /// The secret of these bytes, which must be random.
    ///
    /// # Errors
    /// [`SecretProblem::Guessable`] where they are certainly not.
    pub fn new(bytes: [u8; BYTES]) -> Result<Self, SecretProblem> {
        let mut seen = [false; 256];
        bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        if seen.iter().filter(|seen| **seen).count() < DISTINCT {
            return Err(SecretProblem::Guessable);
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes })
    }

    /// Reads the text of a secret file: lines that begin with `#`, and one of 64 hexadecimal digits.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SecretProblem> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<_> = lines.collect();
        match lines[..] {
            [] => Err(SecretProblem::Empty),
            [line] if line.len() < 2 * BYTES => Err(SecretProblem::Short(line.chars().count())),
            [line] => Self::new(parse_hex(line).ok_or(SecretProblem::Shape)?),
            _ => Err(SecretProblem::Shape),
        }
    }

    /// The text of a secret file, which [`Secret::parse`] reads.
    pub fn to_text(&self) -> String {
        format!("# The secret of an aptpeer swarm. Whoever knows it is a member.\n{}\n", to_hex(&self.bytes))
    }

    /// The key of its codes.
    pub(super) const fn key(&self) -> &hmac::Key {
        &self.key
    }

    /// HMAC-SHA-256 (RFC 2104) over these parts, one after the other.
    fn code(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        parts.iter().for_each(|part| context.update(part));
        let mut code = [0; 32];
        code.copy_from_slice(context.sign().as_ref());
        code
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The swarm that a node is in: the public one, or that of those who share a secret. Clones are cheap.
#[derive(Debug, Clone, Default)]
pub struct Swarm {
    secret: Option<Arc<Secret>>,
}

impl Swarm {
    /// The swarm of all who have no secret.
    pub const PUBLIC: Self = Self { secret: None };

    /// The swarm of those who share `secret`.
    pub fn private(secret: Secret) -> Self {
        Self { secret: Some(Arc::new(secret)) }
    }

    /// What its members share; `None` in the public swarm.
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_deref()
    }

    /// Whether it has a secret.
    pub const fn is_private(&self) -> bool {
        self.secret.is_some()
    }

    /// How it is called where neighbours look for each other (the TXT key `swarm` of DNS-SD): `public`, or the first 8
    /// hexadecimal digits of the SHA-256 of the secret.
    pub fn tag(&self) -> String {
        match self.secret() {
            None => "public".to_owned(),
            Some(secret) => Sha256::of(&secret.bytes).to_string().chars().take(8).collect(),
        }
    }

    /// Under which info-hash holders of `object` announce themselves: the first 20 bytes of the digest, or of its code.
    pub fn info_hash(&self, object: &Sha256) -> InfoHash {
        match self.secret() {
            None => (*object).into(),
            Some(secret) => Sha256::new(secret.code(&[object.as_bytes()])).into(),
        }
    }

    /// Under which info-hash the users of an archive meet that has this name (docs/protocol.md, section 12).
    pub fn archive(&self, name: &Sha256) -> InfoHash {
        match self.secret() {
            None => (*name).into(),
            Some(secret) => Sha256::new(secret.code(&[name.as_bytes()])).into(),
        }
    }

    /// The Ed25519 seed of the item that holds the list of `object`: in a private swarm only members can derive it.
    pub fn list_seed(&self, object: &Sha256) -> [u8; 32] {
        match self.secret() {
            None => list_seed(object),
            Some(secret) => secret.code(&[LIST, object.as_bytes()]),
        }
    }

    /// The salt of the list of `object` under a publisher's key.
    pub fn list_salt(&self, object: &Sha256) -> [u8; 32] {
        match self.secret() {
            None => *object.as_bytes(),
            Some(secret) => secret.code(&[SIGNED_LIST, object.as_bytes()]),
        }
    }

    /// What lies over the length and the states of the list of `object`.
    pub fn veil(&self, object: &Sha256) -> Veil {
        Veil { secret: self.secret.clone(), object: *object }
    }
}

/// What lies over the values of one list in the DHT: nothing, or in a private swarm codes that only members know. Put on
/// twice it is off.
#[derive(Debug, Clone)]
pub struct Veil {
    secret: Option<Arc<Secret>>,
    object: Sha256,
}

impl Veil {
    /// The length with the veil put on, or taken off.
    pub fn length(&self, length: u64) -> u64 {
        let Some(secret) = &self.secret else { return length };
        let code = secret.code(&[LENGTH, self.object.as_bytes()]);
        let bits = code.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        length ^ (bits >> (u64::BITS - LENGTH_BITS))
    }

    /// The same for inner states, of which `first` (counted from 0) is the first.
    pub fn states(&self, first: usize, states: &mut [[u8; 32]]) {
        let Some(secret) = &self.secret else { return };
        for (index, state) in (first as u64..).zip(states) {
            let code = secret.code(&[STATE, self.object.as_bytes(), &index.to_be_bytes()]);
            state.iter_mut().zip(code).for_each(|(byte, pad)| *byte ^= pad);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swarm(first: u8) -> Swarm {
        let bytes = std::array::from_fn(|at| first.wrapping_add(u8::try_from(at).unwrap()));
        Swarm::private(Secret::new(bytes).unwrap())
    }

    #[test]
    fn a_secret_is_read_as_it_is_written_and_never_shown() {
        let swarm = swarm(7);
        let text = swarm.secret().unwrap().to_text();
        let read = Swarm::private(Secret::parse(&text).unwrap());
        assert_eq!(read.tag(), swarm.tag());
        assert!(Secret::parse(text.lines().last().unwrap()).is_ok(), "the digits alone are enough");
        assert!(!format!("{swarm:?} {:?}", swarm.veil(&Sha256::of(b""))).contains("07"));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let problem = |text: &str| Secret::parse(text).unwrap_err();
        assert_eq!(problem(""), SecretProblem::Empty);
        assert_eq!(problem("# only this\n\n"), SecretProblem::Empty);
        assert_eq!(problem("password\n"), SecretProblem::Short(8));
        assert_eq!(problem(&"0123456789abcdef".repeat(4)[1..]), SecretProblem::Short(63));
        assert_eq!(problem(&"g".repeat(64)), SecretProblem::Shape);
        assert_eq!(problem(&"é".repeat(32)), SecretProblem::Shape);
        let digits: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(problem(&format!("{digits}\n{digits}\n")), SecretProblem::Shape);
        assert_eq!(problem(&format!("{digits}0")), SecretProblem::Shape);
        assert_eq!(problem(&"0".repeat(64)), SecretProblem::Guessable);
        assert_eq!(problem(&"0123456789abcdef".repeat(4)), SecretProblem::Guessable);
    }

    #[test]
    fn names_of_another_swarm_are_others() {
        let object = Sha256::of(b"object");
        let names = |swarm: &Swarm| {
            let (hash, archive) =
                (swarm.info_hash(&object), swarm.archive(&Sha256::of(b"aptpeer archive 1Debian\0trixie")));
            let mut states = [[1; 32], [1; 32]];
            swarm.veil(&object).states(0, &mut states);
            let length = swarm.veil(&object).length(9_000_000);
            (hash, archive, swarm.list_seed(&object), swarm.list_salt(&object), swarm.tag(), length, states)
        };
        let (public, one, two) = (names(&Swarm::PUBLIC), names(&swarm(1)), names(&swarm(2)));
        for (a, b) in [(&public, &one), (&public, &two), (&one, &two)] {
            assert!(a.0 != b.0 && a.1 != b.1 && a.2 != b.2 && a.3 != b.3 && a.4 != b.4 && a.5 != b.5);
            assert!(a.6 != b.6);
        }
        assert_ne!(one.6[0], one.6[1], "equal states do not show");
        assert_eq!((public.0, public.4.as_str(), public.5), (object.into(), "public", 9_000_000));
        assert_eq!((public.2, public.3), (list_seed(&object), *object.as_bytes()));
    }

    #[test]
    fn a_veil_that_is_put_on_twice_is_off() {
        let veil = swarm(3).veil(&Sha256::of(b"object"));
        for length in [0, 1, 9_000_000, 1 << 40] {
            assert_eq!(veil.length(veil.length(length)), length);
            assert!(veil.length(length) < 1 << 41);
        }
        let states = [[1; 32], [2; 32], [3; 32]];
        let mut veiled = states;
        veil.states(0, &mut veiled);
        let (head, tail) = veiled.split_at_mut(1);
        veil.states(0, head);
        veil.states(1, tail);
        assert_eq!(veiled, states);
    }
}
