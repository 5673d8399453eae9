//! A table from relative path to (length, digest): 56 bytes for each file, whatever its name.
//!
//! A path is kept as the first 16 bytes of its SHA-256. Two paths that share them would take 2^64 tries to find, and
//! whoever writes the index could name any digest anyway.

use crate::debian::Newer;
use crate::digest::Sha256;

/// The most entries of one table, which are 59 MB: more than ten times those of the largest index known.
pub const MAX_ENTRIES: usize = 1 << 20;

/// The most packages newer than the installed ones that are kept of one table, some 2 MB: a new release upgrades a few
/// thousand.
const MAX_NEWER: usize = 8192;

/// What stands for a path in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of a normalised relative path.
    pub fn of(path: &str) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::of(path.as_bytes()).as_bytes()[..16]);
        Self(key)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    key: Key,
    length: u64,
    digest: Sha256,
}

/// An index that was read: immutable, to be shared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    entries: Box<[Entry]>,
    newer: Box<[Newer]>,
}

impl Table {
    /// The length in bytes and the digest of the file that `key` stands for.
    pub fn get(&self, key: &Key) -> Option<(u64, Sha256)> {
        let at = self.entries.binary_search_by(|entry| entry.key.cmp(key)).ok()?;
        Some((self.entries[at].length, self.entries[at].digest))
    }

    /// The packages that were newer than the installed ones when it was read.
    pub(super) fn newer(&self) -> &[Newer] {
        &self.newer
    }

    /// The digests of all its files.
    pub(super) fn digests(&self) -> impl Iterator<Item = &Sha256> {
        self.entries.iter().map(|entry| &entry.digest)
    }

    /// How many paths it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows no path.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Gathers the entries of a [`Table`].
#[derive(Debug, Default)]
pub(super) struct TableBuilder {
    entries: Vec<Entry>,
    newer: Vec<Newer>,
    overflow: bool,
}

impl TableBuilder {
    /// Takes one path in; beyond [`MAX_ENTRIES`] nothing more is taken and the table will be refused.
    pub(super) fn add(&mut self, path: &str, length: u64, digest: Sha256) {
        if self.entries.len() < MAX_ENTRIES {
            self.entries.push(Entry { key: Key::of(path), length, digest });
        } else {
            self.overflow = true;
        }
    }

    /// Takes a package in that is newer than the installed one, as long as there is room.
    pub(super) fn add_newer(&mut self, newer: Newer) {
        if self.newer.len() < MAX_NEWER {
            self.newer.push(newer);
        }
    }

    /// The table, or `None` where it had more than [`MAX_ENTRIES`].
    ///
    /// A path that was given two contents is left out: not knowing is harmless, a wrong digest is not.
    pub(super) fn finish(self) -> Option<Table> {
        if self.overflow {
            return None;
        }
        let mut entries = self.entries;
        entries.sort_unstable_by_key(|entry| entry.key);
        entries.dedup();
        let mut kept = 0;
        let mut at = 0;
        while at < entries.len() {
            let alike = entries[at..].iter().take_while(|entry| entry.key == entries[at].key).count();
            if alike == 1 {
                entries[kept] = entries[at];
                kept += 1;
            }
            at += alike;
        }
        entries.truncate(kept);
        Some(Table { entries: entries.into_boxed_slice(), newer: self.newer.into_boxed_slice() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_entry_takes_56_bytes() {
        assert_eq!(size_of::<Entry>(), 56);
    }

    #[test]
    fn a_path_with_two_contents_is_unknown_and_a_repeated_one_known() {
        let mut builder = TableBuilder::default();
        for (path, content) in [("a", "1"), ("b", "1"), ("a", "2"), ("b", "1"), ("c", "3"), ("a", "1")] {
            builder.add(path, 1, Sha256::of(content.as_bytes()));
        }
        let table = builder.finish().unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!(table.get(&Key::of("a")), None);
        assert_eq!(table.get(&Key::of("b")), Some((1, Sha256::of(b"1"))));
        assert_eq!(table.get(&Key::of("c")), Some((1, Sha256::of(b"3"))));
    }

    #[test]
    fn a_table_beyond_the_limit_is_refused() {
        let mut builder = TableBuilder::default();
        let entry = Entry { key: Key::of("a"), length: 0, digest: Sha256::of(b"") };
        builder.entries = vec![entry; MAX_ENTRIES];
        builder.add("b", 1, Sha256::of(b"b"));
        assert_eq!(builder.finish(), None);
    }

    proptest! {
        #[test]
        fn what_was_added_is_found(paths in proptest::collection::btree_map("[a-z/]{1,8}", any::<u64>(), 0..50), other in "[a-z/]{9}") {
            let mut builder = TableBuilder::default();
            for (path, length) in &paths {
                builder.add(path, *length, Sha256::of(path.as_bytes()));
            }
            let table = builder.finish().unwrap();
            let found: BTreeMap<_, _> =
                paths.keys().filter_map(|path| Some((path.clone(), table.get(&Key::of(path))?.0))).collect();
            prop_assert_eq!(found, paths);
            prop_assert_eq!(table.get(&Key::of(&other)), None);
        }
    }
}
