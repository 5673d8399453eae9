//! Sources: one stanza for each source package, with several files in it.

use super::path::RepoPath;
use super::stanza::{Line, Lines, parse_length};
use crate::digest::Sha256;
use std::io::{self, Read};

/// The most files of one source package that are kept until its Directory is known. The most in the archive is some
/// 300 (one tarball for each language of a browser); this bounds what a stanza without an end makes us hold.
const MAX_FILES: usize = 8192;

/// Reads a Sources file (uncompressed) and gives `each` the path relative to the sources URI, the length in bytes
/// and the digest of every .dsc, tarball and patch. Files without a SHA-256 are passed over.
///
/// # Errors
/// What `source` fails with.
pub fn read_sources(source: impl Read, mut each: impl FnMut(&RepoPath, u64, Sha256)) -> io::Result<()> {
    let mut lines = Lines::new(source);
    let mut stanza = Stanza::default();
    while let Some(line) = lines.next()? {
        match line {
            Line::End => stanza.finish(&mut each),
            Line::Field(_) => stanza.field(&line),
            Line::Continued(text) => stanza.continued(text),
        }
    }
    stanza.finish(&mut each);
    Ok(())
}

#[derive(Default)]
struct Stanza {
    /// Empty for a flat repository that names none.
    directory: String,
    in_checksums: bool,
    files: Vec<(Box<str>, u64, Sha256)>,
}

impl Stanza {
    fn field(&mut self, line: &Line<'_>) {
        self.in_checksums = false;
        if let Some(value) = line.value("Directory") {
            self.directory = String::from_utf8_lossy(value).into_owned();
        } else if let Some(value) = line.value("Checksums-Sha256") {
            self.in_checksums = true;
            self.continued(value);
        }
    }

    /// `<digest> <length> <name>` (Policy §5.6.24).
    fn continued(&mut self, text: &[u8]) {
        if !self.in_checksums || self.files.len() >= MAX_FILES {
            return;
        }
        let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (Some(digest), Some(length), Some(name)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let digest = std::str::from_utf8(digest).ok().and_then(|hex| hex.parse().ok());
        let name = std::str::from_utf8(name).ok().filter(|name| !name.contains('/'));
        if let (Some(digest), Some(length), Some(name)) = (digest, parse_length(length), name) {
            self.files.push((name.into(), length, digest));
        }
    }

    /// Gives away what was gathered and is ready for the next stanza.
    fn finish(&mut self, each: &mut impl FnMut(&RepoPath, u64, Sha256)) {
        for (name, length, digest) in self.files.drain(..) {
            let path = match self.directory.trim_end_matches('/') {
                "" => RepoPath::from_name(&name),
                directory => RepoPath::from_name(&format!("{directory}/{name}")),
            };
            if let Ok(path) = path {
                each(&path, length, digest);
            }
        }
        self.directory.clear();
        self.in_checksums = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        read_sources(text.as_bytes(), |path, length, _| found.push((path.to_string(), length))).unwrap();
        found
    }

    #[test]
    fn every_file_of_a_source_is_found_wherever_the_directory_stands() {
        let sum = Sha256::of(b"a");
        let text = format!(
            "Package: a\nFiles:\n 00 1 a_1.dsc\nChecksums-Sha256:\n {sum} 10 a_1.dsc\n {sum}   20  a_1.orig.tar.xz\n\
             Checksums-Sha512:\n {sum} 30 a_1.dsc\nDirectory: pool/main/a/a\n\n\
             Package: b\nDirectory: ./b/\nChecksums-Sha256: \n {sum} 40 b+_1.dsc\n beef 50 b_1.tar.gz\n {sum} 60 ../x\n\n\
             Package: c\nChecksums-Sha256:\n {sum} 70 c.dsc"
        );
        let want = [
            ("pool/main/a/a/a_1.dsc", 10),
            ("pool/main/a/a/a_1.orig.tar.xz", 20),
            ("b/b+_1.dsc", 40),
            ("c.dsc", 70),
        ];
        assert_eq!(read(&text), want.map(|(path, length)| (path.to_owned(), length)));
    }

    #[test]
    fn a_directory_that_climbs_hides_its_files() {
        let sum = Sha256::of(b"a");
        assert_eq!(read(&format!("Directory: ../..\nChecksums-Sha256:\n {sum} 1 a.dsc\n")), []);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(text in "(Directory: |Checksums-Sha256:| [0-9a-f]{0,70}|\\n|x/\\.\\./| ){0,40}") {
            read(&text);
        }
    }
}
