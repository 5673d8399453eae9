//! Values that others left here (BEP 44).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::id::Id;
use super::item::{ItemError, OwnedItem, target_of};
use super::message::{
    BAD_SIGNATURE, CAS_MISMATCH, Item, PROTOCOL, SALT_TOO_BIG, SEQUENCE_TOO_OLD, VALUE_TOO_BIG,
};
use super::shelf::{Room, Shelf};

/// BEP 44, "Expiration": "Without re-announcement, these items MAY expire in 2 hours."
const EXPIRY: Duration = Duration::from_secs(2 * 60 * 60);

/// What each value takes beyond its own bytes: the search trees with its name, in bytes (measured: 620).
const OVERHEAD: usize = 640;

/// The values by their targets.
#[derive(Debug)]
pub(super) struct Items {
    shelf: Shelf<OwnedItem>,
}

/// Why a value is not taken: what the answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// One of BEP 5 and 44.
    pub(super) code: i64,
    /// In words.
    pub(super) why: &'static str,
}

impl Items {
    /// Room for so many values, and for so many bytes of them with what it takes to find them.
    pub(super) const fn new(items: usize, bytes: usize, now: Instant) -> Self {
        Self { shelf: Shelf::new(Room { entries: items, bytes }, now) }
    }

    /// The value of a target.
    pub(super) fn get(&self, target: &Id) -> Option<&OwnedItem> {
        self.shelf.get(target)
    }

    /// Takes a value (BEP 44, "put message"), or refreshes it where it is here already.
    ///
    /// # Errors
    /// What BEP 44 wants: 205 and 207 for lengths, 206 for a wrong signature, 301 where `cas` is not the number of the
    /// value that is here, 302 where its number is not less than the new one; 203 for what is not bencoded.
    pub(super) fn put(
        &mut self,
        item: &Item<'_>,
        cas: Option<i64>,
        from: IpAddr,
        now: Instant,
    ) -> Result<(), Refusal> {
        let target = target_of(item);
        if let Some(here) = self.shelf.get(&target) {
            // `cas` "only applies to mutable puts", and is the first thing that may fail: "An implementation MUST emit
            // 301 errors if the cas mismatches."
            if cas.is_some_and(|cas| here.seq().is_some_and(|seq| seq != cas)) {
                return Err(Refusal { code: CAS_MISMATCH, why: "the CAS hash mismatched" });
            }
            if here.as_message() == *item {
                // Every bit was verified when it came.
                self.shelf.refresh(&target, now);
                return Ok(());
            }
            check_sequence(here, item)?;
        }
        let salt = item.signed.map_or(&b""[..], |signed| signed.salt);
        let item = OwnedItem::verify(item, &target, salt).map_err(refusal)?;
        let size = item.size() + OVERHEAD;
        self.shelf.put(target, item, size, from, now);
        Ok(())
    }

    /// Forgets what nobody put again.
    pub(super) fn expire(&mut self, now: Instant) {
        self.shelf.expire(EXPIRY, now);
    }

    pub(super) fn len(&self) -> usize {
        self.shelf.len()
    }

    /// What all values take, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.shelf.bytes()
    }
}

/// A storing node "MUST not downgrade a list head from a higher sequence number to a lower one"; the same number is good
/// for the same value only.
fn check_sequence(here: &OwnedItem, new: &Item<'_>) -> Result<(), Refusal> {
    let (Some(ours), Some(theirs)) = (here.seq(), new.signed.map(|signed| signed.seq)) else { return Ok(()) };
    let same = ours == theirs && here.value() == new.value;
    if theirs > ours || same {
        return Ok(());
    }
    Err(Refusal { code: SEQUENCE_TOO_OLD, why: "sequence number less than current" })
}

fn refusal(error: ItemError) -> Refusal {
    let (code, why) = match error {
        ItemError::TooLong => (VALUE_TOO_BIG, "message (v field) too big"),
        ItemError::SaltTooLong => (SALT_TOO_BIG, "salt (salt field) too big"),
        ItemError::BadSignature => (BAD_SIGNATURE, "invalid signature"),
        ItemError::NotBencoded(_) => (PROTOCOL, "value is not bencoded"),
        ItemError::WrongTarget => (PROTOCOL, "wrong target"),
        ItemError::NegativeSequence => (PROTOCOL, "negative sequence number"),
    };
    Refusal { code, why }
}

#[cfg(test)]
mod tests {
    use super::super::item::Signer;
    use super::super::message::Signed;
    use super::*;

    fn from() -> IpAddr {
        IpAddr::from([8, 8, 8, 8])
    }

    fn signer() -> Signer {
        Signer::from_seed(&[3; 32]).unwrap()
    }

    fn code(result: Result<(), Refusal>) -> i64 {
        result.unwrap_err().code
    }

    #[test]
    fn a_value_is_kept_for_two_hours_after_the_last_put() {
        let start = Instant::now();
        let hours = |count: u64| start + Duration::from_secs(3600 * count);
        let mut items = Items::new(100, 100_000, start);
        let mutable = signer().sign(b"le", b"salt", 1).unwrap();
        let immutable = OwnedItem::immutable(b"5:hello").unwrap();
        for item in [&mutable, &immutable] {
            items.put(&item.as_message(), None, from(), start).unwrap();
            assert_eq!(items.get(&item.target()), Some(item));
        }
        items.put(&mutable.as_message(), None, from(), hours(1)).unwrap();
        items.expire(hours(2));
        assert_eq!((items.get(&mutable.target()), items.len()), (Some(&mutable), 1));
        items.expire(hours(3));
        assert_eq!((items.len(), items.bytes()), (0, 0));
    }

    #[test]
    fn a_newer_value_takes_the_place_and_an_older_one_does_not() {
        let now = Instant::now();
        let mut items = Items::new(100, 100_000, now);
        let mut put = |value: &[u8], seq| {
            let item = signer().sign(value, b"", seq).unwrap();
            let result = items.put(&item.as_message(), None, from(), now);
            (result.map_err(|refusal| refusal.code), items.get(&item.target()).unwrap().seq().unwrap())
        };
        assert_eq!(put(b"i1e", 5), (Ok(()), 5));
        assert_eq!(put(b"i2e", 4), (Err(SEQUENCE_TOO_OLD), 5));
        assert_eq!(put(b"i2e", 5), (Err(SEQUENCE_TOO_OLD), 5));
        assert_eq!(put(b"i1e", 5), (Ok(()), 5));
        assert_eq!(put(b"i2e", 6), (Ok(()), 6));
        assert_eq!(put(b"i2e", i64::MAX), (Ok(()), i64::MAX));
    }

    #[test]
    fn compare_and_swap_is_obeyed() {
        let now = Instant::now();
        let mut items = Items::new(100, 100_000, now);
        let item = |seq| signer().sign(b"le", b"", seq).unwrap();
        items.put(&item(1).as_message(), Some(77), from(), now).expect("nothing there to be compared");
        assert_eq!(code(items.put(&item(2).as_message(), Some(0), from(), now)), CAS_MISMATCH);
        items.put(&item(2).as_message(), Some(1), from(), now).unwrap();
        assert_eq!(items.get(&item(0).target()).unwrap().seq(), Some(2));
    }

    #[test]
    fn a_wrong_signature_changes_nothing() {
        let now = Instant::now();
        let mut items = Items::new(100, 100_000, now);
        let good = signer().sign(b"le", b"s", 1).unwrap();
        let message = good.as_message();
        let signed = message.signed.unwrap();
        let forged = [
            Item { value: b"de", ..message },
            Item { signed: Some(Signed { seq: 2, ..signed }), ..message },
            Item { signed: Some(Signed { signature: &[1; 64], ..signed }), ..message },
            Item { signed: Some(Signed { key: &[1; 32], ..signed }), ..message },
            Item { signed: Some(Signed { salt: b"", ..signed }), ..message },
        ];
        for forged in &forged {
            assert_eq!(code(items.put(forged, None, from(), now)), BAD_SIGNATURE, "{forged:?}");
        }
        assert_eq!(items.len(), 0);
        items.put(&message, None, from(), now).unwrap();
        // The first is refused by its number already.
        for forged in &forged[1..] {
            assert_eq!(code(items.put(forged, None, from(), now)), BAD_SIGNATURE, "{forged:?}");
        }
        assert_eq!((items.len(), items.get(&good.target())), (1, Some(&good)));
    }

    #[test]
    fn lengths_are_refused_with_their_own_errors() {
        let now = Instant::now();
        let mut items = Items::new(100, 100_000, now);
        let long = [b"997:".to_vec(), vec![0; 997]].concat();
        assert_eq!(code(items.put(&Item { value: &long, signed: None }, None, from(), now)), VALUE_TOO_BIG);
        let signed = Signed { key: &[1; 32], salt: &[0; 65], seq: 1, signature: &[2; 64] };
        let salted = Item { value: b"le", signed: Some(signed) };
        assert_eq!(code(items.put(&salted, None, from(), now)), SALT_TOO_BIG);
        assert_eq!(code(items.put(&Item { value: b"x", signed: None }, None, from(), now)), PROTOCOL);
        assert_eq!(items.len(), 0);
    }

    #[test]
    fn count_and_bytes_are_bounded_and_one_network_cannot_flush_them() {
        let now = Instant::now();
        let mut items = Items::new(1000, 100_000, now);
        let first = OwnedItem::immutable(b"5:first").unwrap();
        items.put(&first.as_message(), None, IpAddr::from([9, 9, 9, 9]), now).unwrap();
        let mut flood = |net: fn(u32) -> u8| {
            for number in 0..2000_u32 {
                let value = [b"504:".to_vec(), number.to_be_bytes().to_vec(), vec![0; 500]].concat();
                let from = IpAddr::from([8, 8, net(number), number as u8]);
                items.put(&Item { value: &value, signed: None }, None, from, now).unwrap();
                assert!(items.bytes() <= 100_000);
            }
            (items.get(&first.target()).is_some(), items.bytes())
        };
        let (kept, bytes) = flood(|_| 8);
        assert!(kept && bytes < 15_000, "{bytes}");
        let (_, bytes) = flood(|number| number as u8);
        assert!(bytes > 90_000, "{bytes}");
    }
}
