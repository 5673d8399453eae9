//! Values of BEP 44 that are what they claim to be: verified, or signed here.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::id::Id;
use super::message::{Item, MAX_SALT, MAX_VALUE, Signed};
use crate::bencode::{BencodeError, Value, Writer};

/// A value of BEP 44 with all that proves it. There is none that does not fit its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedItem {
    value: Box<[u8]>,
    /// Boxed: most values of others are immutable.
    proof: Option<Box<Proof>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof {
    key: [u8; 32],
    salt: Box<[u8]>,
    seq: i64,
    signature: [u8; 64],
}

/// Why a value is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Longer than [`MAX_VALUE`].
    #[error("a value of more than {MAX_VALUE} bencoded bytes")]
    TooLong,
    /// The salt is longer than [`MAX_SALT`].
    #[error("a salt of more than {MAX_SALT} bytes")]
    SaltTooLong,
    /// The value is not bencoded.
    #[error("a value that is {0}")]
    NotBencoded(#[from] BencodeError),
    /// It is the value of another target.
    #[error("a value that does not belong to its target")]
    WrongTarget,
    /// The signature is not that of its key.
    #[error("a value with a wrong signature")]
    BadSignature,
    /// BEP 44: "A client MAY also reject any message with a negative sequence number."
    #[error("a negative sequence number")]
    NegativeSequence,
}

/// The target of an immutable value: the SHA-1 of its bencoded bytes (BEP 44, "Immutable Items").
pub fn immutable_target(value: &[u8]) -> Id {
    sha1(&[value])
}

/// The target of a mutable value: the SHA-1 of the public key and the salt (BEP 44, "Mutable Items").
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> Id {
    sha1(&[key, salt])
}

impl OwnedItem {
    /// An immutable value of these bencoded bytes.
    ///
    /// # Errors
    /// Where they are more than [`MAX_VALUE`] or not one bencoded value.
    pub fn immutable(value: &[u8]) -> Result<Self, ItemError> {
        check_value(value)?;
        Ok(Self { value: value.into(), proof: None })
    }

    /// What an answer to a `get` of `target` carries, if it is what was asked for. The answer does not tell the salt:
    /// whoever asks knows it, and it is empty for immutable values. The salt within `item` is not looked at.
    ///
    /// # Errors
    /// Where the value, its salt or its number break a limit, it belongs to another target, or its signature is wrong.
    pub fn verify(item: &Item<'_>, target: &Id, salt: &[u8]) -> Result<Self, ItemError> {
        check_value(item.value)?;
        let Some(signed) = item.signed else {
            let fits = immutable_target(item.value) == *target;
            return if fits { Self::immutable(item.value) } else { Err(ItemError::WrongTarget) };
        };
        let signed = Signed { salt, ..signed };
        check_limits(&signed)?;
        // BEP 44: the key "MUST be verified to hash to the target ID the lookup was made for".
        if mutable_target(signed.key, salt) != *target {
            return Err(ItemError::WrongTarget);
        }
        // BEP 44: "the signature MUST be verified before accepting the store command".
        UnparsedPublicKey::new(&ED25519, signed.key)
            .verify(&signed_bytes(salt, signed.seq, item.value), signed.signature)
            .map_err(|_| ItemError::BadSignature)?;
        let proof =
            Proof { key: *signed.key, salt: salt.into(), seq: signed.seq, signature: *signed.signature };
        Ok(Self { value: item.value.into(), proof: Some(Box::new(proof)) })
    }

    /// Where it is to be found.
    pub fn target(&self) -> Id {
        target_of(&self.as_message())
    }

    /// Its bencoded bytes.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Its number, where it is mutable.
    pub fn seq(&self) -> Option<i64> {
        self.proof.as_ref().map(|proof| proof.seq)
    }

    /// As it travels in a `put`; the salt is left out of the answer to a `get` by [`super::message::Reply`].
    pub fn as_message(&self) -> Item<'_> {
        let signed = self.proof.as_ref().map(|proof| Signed {
            key: &proof.key,
            salt: &proof.salt,
            seq: proof.seq,
            signature: &proof.signature,
        });
        Item { value: &self.value, signed }
    }

    /// What it takes in memory, in bytes, but for the allocator's own part.
    pub(super) fn size(&self) -> usize {
        let proof = self.proof.as_ref().map_or(0, |proof| size_of::<Proof>() + proof.salt.len());
        size_of::<Self>() + self.value.len() + proof
    }
}

/// Where a value that is to be put belongs; it is not verified by this.
pub(super) fn target_of(item: &Item<'_>) -> Id {
    item.signed.map_or_else(|| immutable_target(item.value), |signed| mutable_target(signed.key, signed.salt))
}

/// Signs mutable values with one Ed25519 key.
#[derive(Debug)]
pub struct Signer {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl Signer {
    /// The key pair of a seed (RFC 8032, section 5.1.5, the "private key").
    ///
    /// `None` where the crypto library refuses, which it does for no seed of 32 bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, public })
    }

    /// What others verify with.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    /// Where the values of this key and salt are to be found.
    pub fn target(&self, salt: &[u8]) -> Id {
        mutable_target(&self.public, salt)
    }

    /// A mutable value of these bencoded bytes. The same arguments make the same signature (RFC 8032).
    ///
    /// # Errors
    /// Where the value, the salt or the number break a limit of BEP 44.
    pub fn sign(&self, value: &[u8], salt: &[u8], seq: i64) -> Result<OwnedItem, ItemError> {
        check_value(value)?;
        let signature = self.pair.sign(&signed_bytes(salt, seq, value));
        let signature = signature.as_ref().try_into().map_err(|_| ItemError::BadSignature)?;
        check_limits(&Signed { key: &self.public, salt, seq, signature: &signature })?;
        let proof = Proof { key: self.public, salt: salt.into(), seq, signature };
        Ok(OwnedItem { value: value.into(), proof: Some(Box::new(proof)) })
    }
}

fn check_value(value: &[u8]) -> Result<(), ItemError> {
    if value.len() > MAX_VALUE {
        return Err(ItemError::TooLong);
    }
    Value::parse(value)?;
    Ok(())
}

const fn check_limits(signed: &Signed<'_>) -> Result<(), ItemError> {
    if signed.salt.len() > MAX_SALT {
        return Err(ItemError::SaltTooLong);
    }
    if signed.seq < 0 { Err(ItemError::NegativeSequence) } else { Ok(()) }
}

/// What the signature is over (BEP 44, "Signature Verification"): the members of a dictionary without its ends, the
/// salt left out where it is empty.
fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    if !salt.is_empty() {
        writer.key("salt").bytes(salt);
    }
    writer.key("seq").integer(seq).key("v").raw(value);
    writer.finish()
}

fn sha1(parts: &[&[u8]]) -> Id {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    let mut id = [0; Id::LENGTH];
    id.copy_from_slice(context.finish().as_ref());
    Id::new(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
    const HELLO: &[u8] = b"12:Hello World!";

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        assert_eq!(text.len(), 2 * N);
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }

    #[test]
    fn the_mutable_test_vectors_of_bep_44() {
        for (salt, target, signature) in [
            (
                &b""[..],
                "4a533d47ec9c7d95b1ad75f576cffc641853b750",
                "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
                 1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
            ),
            (
                b"foobar",
                "411eba73b6f087ca51a3795d9c8c938d365e32c1",
                "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
                 df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
            ),
        ] {
            let (key, signature, target) = (hex(KEY), hex(signature), Id::new(hex(target)));
            let signed = Signed { key: &key, salt: b"", seq: 1, signature: &signature };
            let item = Item { value: HELLO, signed: Some(signed) };
            let owned = OwnedItem::verify(&item, &target, salt).unwrap();
            assert_eq!((owned.target(), owned.value(), owned.seq()), (target, HELLO, Some(1)));
            assert_eq!(owned.as_message().signed.unwrap().salt, salt);

            let newer = Item { signed: Some(Signed { seq: 2, ..signed }), ..item };
            assert_eq!(OwnedItem::verify(&newer, &target, salt), Err(ItemError::BadSignature));
            let other = Item { value: b"12:Hello world!", ..item };
            assert_eq!(OwnedItem::verify(&other, &target, salt), Err(ItemError::BadSignature));
            assert_eq!(OwnedItem::verify(&item, &target, b"other"), Err(ItemError::WrongTarget));
            let elsewhere = Id::new([7; 20]);
            assert_eq!(OwnedItem::verify(&item, &elsewhere, salt), Err(ItemError::WrongTarget));
        }
        assert_eq!(signed_bytes(b"", 1, HELLO), b"3:seqi1e1:v12:Hello World!");
        assert_eq!(signed_bytes(b"foobar", 1, HELLO), b"4:salt6:foobar3:seqi1e1:v12:Hello World!");
    }

    #[test]
    fn the_immutable_test_vector_of_bep_44() {
        let target = Id::new(hex("e5f96f6f38320f0f33959cb4d3d656452117aadb"));
        let item = Item { value: HELLO, signed: None };
        let owned = OwnedItem::verify(&item, &target, b"").unwrap();
        assert_eq!((owned.target(), owned.seq(), owned.as_message()), (target, None, item));
        let other = Item { value: b"le", signed: None };
        assert_eq!(OwnedItem::verify(&other, &target, b""), Err(ItemError::WrongTarget));
    }

    /// RFC 8032, section 7.1, test 1.
    #[test]
    fn the_public_key_is_that_of_the_seed() {
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key: [u8; 32] = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(Signer::from_seed(&seed).unwrap().public_key(), &key);
    }

    #[test]
    fn what_is_signed_here_is_verified_elsewhere_and_always_the_same() {
        let signer = Signer::from_seed(&[9; 32]).unwrap();
        for salt in [&b""[..], &[5; MAX_SALT]] {
            let item = signer.sign(b"d1:ai1ee", salt, 7).unwrap();
            assert_eq!(item.target(), signer.target(salt));
            assert_eq!(OwnedItem::verify(&item.as_message(), &item.target(), salt).as_ref(), Ok(&item));
            assert_eq!(signer.sign(b"d1:ai1ee", salt, 7).unwrap(), item);
            assert_ne!(signer.sign(b"d1:ai1ee", salt, 8).unwrap(), item);
        }
    }

    #[test]
    fn limits_hold_for_our_own_values_too() {
        let signer = Signer::from_seed(&[9; 32]).unwrap();
        let longest = [b"996:".to_vec(), vec![b'x'; 996]].concat();
        assert_eq!(longest.len(), MAX_VALUE);
        assert!(OwnedItem::immutable(&longest).is_ok() && signer.sign(&longest, b"", 0).is_ok());
        let longer = [b"997:".to_vec(), vec![b'x'; 997]].concat();
        assert_eq!(OwnedItem::immutable(&longer), Err(ItemError::TooLong));
        assert_eq!(signer.sign(&longer, b"", 0), Err(ItemError::TooLong));
        assert_eq!(signer.sign(b"le", &[0; MAX_SALT + 1], 0), Err(ItemError::SaltTooLong));
        assert_eq!(signer.sign(b"le", b"", -1), Err(ItemError::NegativeSequence));
        assert!(matches!(OwnedItem::immutable(b"hello"), Err(ItemError::NotBencoded(_))));
    }
}
