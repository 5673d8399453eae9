//! Packages: one stanza for each binary package.

use super::path::RepoPath;
use super::stanza::{Line, Lines, parse_length};
use crate::digest::Sha256;
use std::io::{self, Read};

/// Reads a Packages file (uncompressed) and gives `each` the path relative to the sources URI, the length in bytes
/// and the digest of every package. Stanzas without all three, or with rubbish in one, are passed over.
///
/// # Errors
/// What `source` fails with.
pub fn read_packages(source: impl Read, mut each: impl FnMut(&RepoPath, u64, Sha256)) -> io::Result<()> {
    let mut lines = Lines::new(source);
    let mut stanza = Stanza::default();
    while let Some(line) = lines.next()? {
        match line {
            Line::End => std::mem::take(&mut stanza).finish(&mut each),
            // One look at the first byte passes over nearly every line of an index.
            Line::Field([b'F' | b'f' | b'S' | b's', ..]) => stanza.field(&line),
            Line::Field(_) | Line::Continued(_) => {}
        }
    }
    stanza.finish(&mut each);
    Ok(())
}

#[derive(Default)]
struct Stanza {
    path: Option<RepoPath>,
    length: Option<u64>,
    digest: Option<Sha256>,
}

impl Stanza {
    fn field(&mut self, line: &Line<'_>) {
        if let Some(value) = line.value("Filename") {
            self.path = text(value).and_then(|name| RepoPath::from_name(name).ok());
        } else if let Some(value) = line.value("Size") {
            self.length = parse_length(value);
        } else if let Some(value) = line.value("SHA256") {
            self.digest = text(value).and_then(|hex| hex.parse().ok());
        }
    }

    fn finish(self, each: &mut impl FnMut(&RepoPath, u64, Sha256)) {
        if let (Some(path), Some(length), Some(digest)) = (self.path, self.length, self.digest) {
            each(&path, length, digest);
        }
    }
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<(String, u64, Sha256)> {
        let mut found = Vec::new();
        read_packages(text.as_bytes(), |path, length, digest| found.push((path.to_string(), length, digest)))
            .unwrap();
        found
    }

    #[test]
    fn packages_are_read_and_incomplete_stanzas_passed_over() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let text = format!(
            "Package: a+\nFilename: ./pool/a+_1%3a_all.deb\nSize: 7\nMD5sum: 00\nSHA256: {a}\nDescription: x\n \
             SHA256: in the text\n\n\
             Package: no-sum\nFilename: pool/no-sum.deb\nSize: 7\n\n\
             Package: short\nFilename: pool/short.deb\nSize: 7\nSHA256: beef\n\n\
             Package: climbs\nFilename: ../etc/passwd\nSize: 7\nSHA256: {a}\n\n\n\
             Package: last\nsha256: {b}\nsize: 9\nfilename: pool/b.deb"
        );
        assert_eq!(read(&text), [("pool/a+_1%3a_all.deb".to_owned(), 7, a), ("pool/b.deb".to_owned(), 9, b)]);
    }

    #[test]
    fn fields_of_one_stanza_never_leak_into_the_next() {
        let a = Sha256::of(b"a");
        assert_eq!(
            read(&format!("Filename: a.deb\nSize: 1\n\nSHA256: {a}\nFilename: b.deb\n\nSize: 3\n")),
            []
        );
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_packages(&bytes[..], |_, _, _| {});
        }
    }
}
