//! The answer to `GET /have`: which objects a peer holds whole, as short prefixes of their digests.

use std::fmt;

use crate::digest::Sha256;

/// What a have-set begins with: its name, its version, and a line end that shows what was mangled on the way.
const MAGIC: [u8; 8] = *b"aphave1\n";

/// The magic and the count of prefixes, in bytes.
pub const HAVE_SET_HEAD: usize = MAGIC.len() + 4;

/// How much of a digest is told, in bytes. That a set of 65,536 names an object that it has not happens once in 16
/// million questions, and costs one answer of 404.
pub const HAVE_PREFIX: usize = 5;

/// The most objects in one set, 320 KiB: a seeder of one architecture of a distribution fits. Fifty neighbours with
/// such sets are 16 MiB.
pub const MAX_HAVE_OBJECTS: usize = 1 << 16;

/// Prefixes of digests, ascending, none of them twice: 5 bytes for each object.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HaveSet {
    prefixes: Vec<[u8; HAVE_PREFIX]>,
}

/// Bytes that are no have-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HaveSetProblem {
    /// Another magic, or another version.
    #[error("not a have-set of version 1")]
    Magic,
    /// More than [`MAX_HAVE_OBJECTS`].
    #[error("a have-set of {0} objects, beyond the limit of {MAX_HAVE_OBJECTS}")]
    TooMany(u32),
    /// The body is not as long as the count says.
    #[error("a have-set of {got} bytes where its count says {expected}")]
    Length {
        /// By the count.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A prefix is not greater than the one before.
    #[error("prefix {0} of a have-set is out of order")]
    Order(usize),
}

impl HaveSet {
    /// The set of these objects. Of more than [`MAX_HAVE_OBJECTS`] only the first are taken: put the best first.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Sha256>) -> Self {
        let mut prefixes: Vec<_> = objects.into_iter().take(MAX_HAVE_OBJECTS).map(prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes.shrink_to_fit();
        Self { prefixes }
    }

    /// Whether the object is named.
    pub fn contains(&self, object: &Sha256) -> bool {
        self.prefixes.binary_search(&prefix(object)).is_ok()
    }

    /// How many objects are named.
    pub const fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// What it takes in memory, in bytes, but for some words.
    pub const fn bytes(&self) -> usize {
        self.prefixes.capacity() * HAVE_PREFIX
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.prefixes.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HAVE_SET_HEAD + self.prefixes.len() * HAVE_PREFIX);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(self.prefixes.as_flattened());
        bytes
    }

    /// How long the whole is, in bytes, by its first [`HAVE_SET_HEAD`] bytes, so that a reader need not take more.
    ///
    /// # Errors
    /// [`HaveSetProblem::Magic`], [`HaveSetProblem::TooMany`]; [`HaveSetProblem::Length`] where not even those are there.
    pub fn announced_length(head: &[u8]) -> Result<usize, HaveSetProblem> {
        let short = HaveSetProblem::Length { expected: HAVE_SET_HEAD, got: head.len() };
        let (magic, rest) = head.split_at_checked(MAGIC.len()).ok_or(short)?;
        if magic != MAGIC {
            return Err(HaveSetProblem::Magic);
        }
        let count = u32::from_be_bytes(*rest.first_chunk().ok_or(short)?);
        match usize::try_from(count) {
            Ok(objects) if objects <= MAX_HAVE_OBJECTS => Ok(HAVE_SET_HEAD + objects * HAVE_PREFIX),
            _ => Err(HaveSetProblem::TooMany(count)),
        }
    }

    /// Reads what goes over the wire.
    ///
    /// # Errors
    /// [`HaveSetProblem`] names what is not as docs/protocol.md says.
    pub fn parse(bytes: &[u8]) -> Result<Self, HaveSetProblem> {
        let expected = Self::announced_length(bytes)?;
        if bytes.len() != expected {
            return Err(HaveSetProblem::Length { expected, got: bytes.len() });
        }
        let prefixes = bytes[HAVE_SET_HEAD..].as_chunks::<HAVE_PREFIX>().0.to_vec();
        match prefixes.is_sorted_by(|one, next| one < next) {
            true => Ok(Self { prefixes }),
            false => {
                let wrong = prefixes.windows(2).position(|pair| pair[0] >= pair[1]).unwrap_or(0);
                Err(HaveSetProblem::Order(wrong + 1))
            }
        }
    }
}

impl fmt::Debug for HaveSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HaveSet of {}", self.len())
    }
}

fn prefix(object: &Sha256) -> [u8; HAVE_PREFIX] {
    let mut prefix = [0; HAVE_PREFIX];
    prefix.copy_from_slice(&object.as_bytes()[..HAVE_PREFIX]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn objects(count: u64) -> Vec<Sha256> {
        (0..count).map(|number| Sha256::of(&number.to_be_bytes())).collect()
    }

    #[test]
    fn a_set_names_what_it_was_made_of_and_nothing_else() {
        let all = objects(1000);
        let set = HaveSet::of(&all[..500]);
        assert_eq!(set.len(), 500);
        assert!(all[..500].iter().all(|object| set.contains(object)));
        assert!(!all[500..].iter().any(|object| set.contains(object)));
        assert_eq!(HaveSet::of(all[..3].iter().chain(&all[..3])).len(), 3, "each once");
    }

    #[test]
    fn sets_are_as_long_as_promised() {
        for (count, most) in [(0, 12), (100, 512), (2000, 12 << 10), (60_000, 300 << 10)] {
            let bytes = HaveSet::of(&objects(count)).to_bytes();
            assert!(bytes.len() <= most, "{count} objects take {} bytes", bytes.len());
            println!("{count} objects: {} bytes", bytes.len());
        }
        let most = HaveSet::of(&objects(MAX_HAVE_OBJECTS as u64 + 9));
        assert_eq!(most.len(), MAX_HAVE_OBJECTS);
        assert_eq!(HaveSet::parse(&most.to_bytes()), Ok(most));
    }

    #[test]
    fn each_problem_is_named() {
        let bytes = HaveSet::of(&objects(3)).to_bytes();
        let change = |at: usize, to: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = to;
            HaveSet::parse(&bytes)
        };
        assert_eq!(change(6, b'2'), Err(HaveSetProblem::Magic));
        assert_eq!(change(9, 1), Err(HaveSetProblem::TooMany(65_539)));
        assert_eq!(change(11, 4), Err(HaveSetProblem::Length { expected: 32, got: 27 }));
        assert_eq!(change(11, 2), Err(HaveSetProblem::Length { expected: 22, got: 27 }));
        let mut doubled = bytes.clone();
        doubled.copy_within(12..17, 17);
        assert_eq!(HaveSet::parse(&doubled), Err(HaveSetProblem::Order(1)));
        let mut turned = bytes;
        turned[12..].reverse();
        assert!(matches!(HaveSet::parse(&turned), Err(HaveSetProblem::Order(_))));
        assert!(matches!(HaveSet::parse(b""), Err(HaveSetProblem::Length { got: 0, .. })));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics_and_what_is_read_is_written_again(
            bytes in prop::collection::vec(any::<u8>(), 0..60), count in 0..12_u8
        ) {
            let _ = HaveSet::parse(&bytes);
            let bytes = [&MAGIC[..], &[0, 0, 0, count], &bytes].concat();
            if let Ok(set) = HaveSet::parse(&bytes) {
                prop_assert_eq!(set.to_bytes(), bytes);
            }
        }
    }
}
