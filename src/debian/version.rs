//! Versions of packages, in the order of Debian Policy §5.6.12.

use std::cmp::Ordering;
use std::fmt;

/// The longest version that is read, in bytes. The longest of the archive has some 60.
pub const MAX_VERSION: usize = 256;

/// `[epoch:]upstream[-revision]`. What differs only in leading zeros, or in an epoch or a revision of 0, is equal.
#[derive(Clone)]
pub struct Version(Box<str>);

impl Version {
    /// Reads a version; `None` for what is none, or longer than [`MAX_VERSION`].
    pub fn parse(text: &[u8]) -> Option<Self> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || b".+-~:".contains(b);
        if text.len() > MAX_VERSION || !text.iter().all(allowed) {
            return None;
        }
        let version = Self(std::str::from_utf8(text).ok()?.into());
        let (epoch, upstream, _) = version.parts();
        let sound = epoch.bytes().all(|b| b.is_ascii_digit()) && !upstream.is_empty();
        (sound && !version.0.starts_with(':')).then_some(version)
    }

    /// The version as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Epoch, upstream version and revision; what is not there is empty, which counts as 0.
    fn parts(&self) -> (&str, &str, &str) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("", &self.0));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (self.parts(), other.parts());
        compare(ours.0, theirs.0)
            .then_with(|| compare(ours.1, theirs.1))
            .then_with(|| compare(ours.2, theirs.2))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Compares by turns what is no digit and what is a number, from the left (Policy §5.6.12.1).
fn compare(ours: &str, theirs: &str) -> Ordering {
    let (mut ours, mut theirs) = (ours.as_bytes(), theirs.as_bytes());
    while !ours.is_empty() || !theirs.is_empty() {
        let (our_text, our_rest) = split(ours, |b| !b.is_ascii_digit());
        let (their_text, their_rest) = split(theirs, |b| !b.is_ascii_digit());
        let (our_number, our_rest) = split(our_rest, u8::is_ascii_digit);
        let (their_number, their_rest) = split(their_rest, u8::is_ascii_digit);
        let order =
            compare_texts(our_text, their_text).then_with(|| compare_numbers(our_number, their_number));
        if order != Ordering::Equal {
            return order;
        }
        (ours, theirs) = (our_rest, their_rest);
    }
    Ordering::Equal
}

fn split(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|b| belongs(b)).count())
}

/// A tilde comes before everything, even before the end, and letters come before what else there is.
fn compare_texts(ours: &[u8], theirs: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    };
    let longer = ours.len().max(theirs.len());
    let mut differing = (0..longer).map(|at| weight(ours.get(at)).cmp(&weight(theirs.get(at))));
    differing.find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal)
}

/// Numbers of any length; none at all counts as 0.
fn compare_numbers(ours: &[u8], theirs: &[u8]) -> Ordering {
    let zeros = |digits: &[u8]| digits.iter().take_while(|b| **b == b'0').count();
    let (ours, theirs) = (&ours[zeros(ours)..], &theirs[zeros(theirs)..]);
    ours.len().cmp(&theirs.len()).then_with(|| ours.cmp(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    const GOLDEN: &[(&str, Ordering, &str)] = &[
        ("1.0", Ordering::Equal, "1.0"),
        ("1.0", Ordering::Less, "1.1"),
        ("1.9", Ordering::Less, "1.10"),
        ("1.0", Ordering::Less, "1.0.1"),
        ("1.0~rc1", Ordering::Less, "1.0"),
        ("1.0~~", Ordering::Less, "1.0~~a"),
        ("1.0~~a", Ordering::Less, "1.0~"),
        ("1.0~", Ordering::Less, "1.0"),
        ("1.0", Ordering::Less, "1.0a"),
        ("1.0a", Ordering::Less, "1.0+"),
        ("1.0Z", Ordering::Less, "1.0a"),
        ("1.0z", Ordering::Less, "1.0."),
        ("1.0", Ordering::Equal, "0:1.0"),
        ("1:0.1", Ordering::Greater, "9.9"),
        ("2:1", Ordering::Less, "10:1"),
        ("1.0", Ordering::Equal, "1.0-0"),
        ("1.0-1", Ordering::Greater, "1.0"),
        ("1.0-1", Ordering::Less, "1.0-1+b1"),
        ("1.0-1", Ordering::Less, "1.0-2"),
        ("1.0-10", Ordering::Greater, "1.0-9"),
        ("1.0-1-1", Ordering::Greater, "1.0-1"),
        ("1.0-1~deb12u1", Ordering::Less, "1.0-1"),
        ("1.0-1+deb12u2", Ordering::Less, "1.0-1+deb12u10"),
        ("1.00", Ordering::Equal, "1.0"),
        ("1.001", Ordering::Equal, "1.1"),
        ("0", Ordering::Equal, "00"),
        ("1.0.", Ordering::Greater, "1.0"),
        ("1.a", Ordering::Equal, "1.a0"),
        ("20240101.abcdef", Ordering::Less, "20240102.abcdef"),
        ("99999999999999999999999", Ordering::Less, "100000000000000000000000"),
        ("5.36.0-7+deb12u1", Ordering::Less, "5.36.0-7+deb12u2"),
        ("1:4.14-8", Ordering::Less, "4:4.14~-8~0"),
        ("2.36-9+deb12u13", Ordering::Greater, "2.36-9+deb12u4"),
        ("0~rc1+git20240101", Ordering::Less, "0"),
        ("1:2:3", Ordering::Greater, "1:2-3"),
    ];

    fn version(text: &str) -> Version {
        Version::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text:?} is a version"))
    }

    #[test]
    fn versions_stand_in_the_order_of_the_table_and_of_dpkg() {
        for (ours, order, theirs) in GOLDEN.iter().copied() {
            assert_eq!(version(ours).cmp(&version(theirs)), order, "{ours} and {theirs}");
            assert_eq!(version(theirs).cmp(&version(ours)), order.reverse(), "{theirs} and {ours}");
            let relation = match order {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            let status = Command::new("dpkg").args(["--compare-versions", ours, relation, theirs]).status();
            assert!(status.unwrap().success(), "dpkg does not say {ours} {relation} {theirs}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", ":1", "a:1", "1 2", "1_2", "1:", "-1", "1/2", "\u{e4}"] {
            assert!(Version::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(Version::parse(&[b'1'; MAX_VERSION + 1]).is_none());
    }

    proptest! {
        #[test]
        fn the_order_is_one(texts in proptest::collection::vec("[0-9][0-9a-c.+~-]{0,5}", 3)) {
            let [a, b, c] = [0, 1, 2].map(|at| version(&texts[at]));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert!(!(a <= b && b <= c) || a <= c);
        }
    }
}
