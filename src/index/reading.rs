//! From an index file to a table: decompressed, read and verified in one pass.

use super::decompress::{MAX_OUTPUT, decompress};
use super::table::{Table, TableBuilder};
use crate::debian::{Installed, RepoPath, read_sources, read_upgrades};
use crate::digest::Sha256;
use sha2::Digest as _;
use std::cell::RefCell;
use std::io::{self, BufReader, Read};

/// How much of a file is read at once, in bytes.
const READ_SIZE: usize = 128 << 10;

/// What kind of index a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// Binary packages, also those of the installer.
    Packages,
    /// Source packages.
    Sources,
}

/// Which digest of the file is known, to verify it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// That of the file as it stands.
    Stored(Sha256),
    /// That of its content: apt compresses its lists anew, as it likes.
    Content(Sha256),
    /// None: apt has verified a file whose Release names no digest that we could compare.
    Nothing,
}

/// Why an index could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be opened, read or decompressed.
    #[error("cannot read an index: {0}")]
    Io(#[from] io::Error),
    /// It is not the file that the Release names.
    #[error("the index is not the one that its Release names: expected {expected}, got {got}")]
    Differs {
        /// What the Release says.
        expected: Sha256,
        /// What the file has.
        got: Sha256,
    },
    /// It has more entries than a table may have.
    #[error("the index has more than {} entries", super::table::MAX_ENTRIES)]
    TooLarge,
    /// The runtime is shutting down, or a decompressor panicked.
    #[error("the reading of an index was broken off")]
    BrokenOff,
}

/// Reads the index that `source` gives.
///
/// # Errors
/// [`ReadError`]; nothing of an index that is not the expected one is used.
pub fn read_table(source: impl Read + Send, kind: IndexKind, expected: Expected) -> Result<Table, ReadError> {
    read_table_beside(source, kind, expected, &Installed::default())
}

/// The same; the table keeps besides what is newer than `installed`.
pub(super) fn read_table_beside(
    source: impl Read + Send,
    kind: IndexKind,
    expected: Expected,
    installed: &Installed,
) -> Result<Table, ReadError> {
    let stored = Hashing::new(source.take(MAX_OUTPUT), matches!(expected, Expected::Stored(_)));
    let mut stored = BufReader::with_capacity(READ_SIZE, stored);
    let builder = RefCell::new(TableBuilder::default());
    let each = |path: &RepoPath, length, digest| builder.borrow_mut().add(path.as_str(), length, digest);
    let newer = |newer| builder.borrow_mut().add_newer(newer);
    let mut content = Hashing::new(decompress(&mut stored)?, matches!(expected, Expected::Content(_)));
    match kind {
        IndexKind::Packages => read_upgrades(&mut content, installed, each, newer)?,
        IndexKind::Sources => read_sources(&mut content, each)?,
    }
    let content = content.finish();
    match expected {
        Expected::Nothing => {}
        Expected::Content(expected) => verify(expected, content)?,
        Expected::Stored(expected) => {
            // What a decompressor leaves behind belongs to the file all the same.
            io::copy(&mut stored, &mut io::sink())?;
            verify(expected, stored.into_inner().finish())?;
        }
    }
    builder.into_inner().finish().ok_or(ReadError::TooLarge)
}

fn verify(expected: Sha256, got: Sha256) -> Result<(), ReadError> {
    if expected == got { Ok(()) } else { Err(ReadError::Differs { expected, got }) }
}

/// Hashes what passes, where that is wanted.
struct Hashing<R> {
    source: R,
    digest: Option<sha2::Sha256>,
}

impl<R: Read> Hashing<R> {
    fn new(source: R, wanted: bool) -> Self {
        Self { source, digest: wanted.then(sha2::Sha256::new) }
    }

    fn finish(self) -> Sha256 {
        Sha256::new(self.digest.unwrap_or_default().finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buf)?;
        if let Some(digest) = &mut self.digest {
            digest.update(&buf[..read]);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Key;
    use super::*;
    use std::io::Write as _;

    fn packages() -> String {
        format!("Package: a\nFilename: ./a.deb\nSize: 3\nSHA256: {}\n", Sha256::of(b"a"))
    }

    #[test]
    fn an_index_is_verified_as_stored_or_by_its_content() {
        let text = packages();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        let gz = gz.finish().unwrap();
        let (stored, content) = (Sha256::of(&gz), Sha256::of(text.as_bytes()));
        for expected in [Expected::Stored(stored), Expected::Content(content), Expected::Nothing] {
            let table = read_table(&gz[..], IndexKind::Packages, expected).unwrap();
            assert_eq!(table.get(&Key::of("a.deb")), Some((3, Sha256::of(b"a"))), "{expected:?}");
        }
        for expected in [Expected::Stored(content), Expected::Content(stored)] {
            let refused = read_table(&gz[..], IndexKind::Packages, expected);
            assert!(matches!(refused, Err(ReadError::Differs { .. })), "{expected:?}");
        }
    }

    #[test]
    fn a_cut_index_teaches_nothing() {
        let text = packages();
        let expected = Expected::Stored(Sha256::of(text.as_bytes()));
        let cut = read_table(&text.as_bytes()[..text.len() - 1], IndexKind::Packages, expected);
        assert!(matches!(cut, Err(ReadError::Differs { .. })));
    }
}
