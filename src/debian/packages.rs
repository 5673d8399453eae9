//! Packages: one stanza for each binary package.

use super::installed::{Installed, Newer, name};
use super::path::RepoPath;
use super::stanza::{Line, Lines, parse_length};
use super::version::Version;
use crate::digest::Sha256;
use std::io::{self, Read};

/// Reads a Packages file (uncompressed) and gives `each` the path relative to the sources URI, the length in bytes
/// and the digest of every package. Stanzas without all three, or with rubbish in one, are passed over.
///
/// # Errors
/// What `source` fails with.
pub fn read_packages(source: impl Read, mut each: impl FnMut(&RepoPath, u64, Sha256)) -> io::Result<()> {
    read(source, None, &mut each, &mut |_| {})
}

/// The same; gives `newer` besides those packages that are newer than what is installed.
///
/// # Errors
/// What `source` fails with.
pub fn read_upgrades(
    source: impl Read,
    installed: &Installed,
    mut each: impl FnMut(&RepoPath, u64, Sha256),
    mut newer: impl FnMut(Newer),
) -> io::Result<()> {
    let installed = Some(installed).filter(|installed| !installed.is_empty());
    read(source, installed, &mut each, &mut newer)
}

fn read(
    source: impl Read,
    installed: Option<&Installed>,
    each: &mut impl FnMut(&RepoPath, u64, Sha256),
    newer: &mut impl FnMut(Newer),
) -> io::Result<()> {
    let mut lines = Lines::new(source);
    let mut stanza = Stanza::default();
    while let Some(line) = lines.next()? {
        match line {
            Line::End => std::mem::take(&mut stanza).finish(installed, each, newer),
            // One look at the first byte passes over nearly every line of an index.
            Line::Field([b'F' | b'f' | b'S' | b's', ..]) => stanza.field(&line),
            Line::Field([b'P' | b'p' | b'V' | b'v' | b'A' | b'a', ..]) => {
                if let Some(installed) = installed {
                    stanza.identity(&line, installed);
                }
            }
            Line::Field(_) | Line::Continued(_) => {}
        }
    }
    stanza.finish(installed, each, newer);
    Ok(())
}

#[derive(Default)]
struct Stanza {
    path: Option<RepoPath>,
    length: Option<u64>,
    digest: Option<Sha256>,
    /// Only of what is installed.
    package: Option<Box<str>>,
    version: Option<Version>,
    architecture: Option<Box<str>>,
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

    fn identity(&mut self, line: &Line<'_>, installed: &Installed) {
        if let Some(value) = line.value("Package") {
            self.package = Some(value).filter(|value| installed.has(value)).and_then(name);
        } else if let Some(value) = line.value("Version") {
            self.version = Version::parse(value);
        } else if let Some(value) = line.value("Architecture") {
            self.architecture = name(value);
        }
    }

    fn finish(
        self,
        installed: Option<&Installed>,
        each: &mut impl FnMut(&RepoPath, u64, Sha256),
        newer: &mut impl FnMut(Newer),
    ) {
        let (Some(path), Some(length), Some(digest)) = (self.path, self.length, self.digest) else { return };
        each(&path, length, digest);
        let (Some(installed), Some(package)) = (installed, self.package) else { return };
        let (Some(version), Some(architecture)) = (self.version, self.architecture) else { return };
        if installed.replaced_by(&package, &architecture, &version).is_some() {
            newer(Newer { package, architecture, version, path, length, digest });
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

    #[test]
    fn of_what_is_installed_the_newer_ones_are_told() {
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n";
        let installed = Installed::read(status.as_bytes()).unwrap();
        let stanza = |name: &str, version: &str, architecture: &str| {
            let digest = Sha256::of(version.as_bytes());
            format!(
                "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n\
                 Filename: {name}_{version}.deb\nSize: 7\nSHA256: {digest}\n\n"
            )
        };
        let text = [
            stanza("a", "1.0-1", "amd64"),
            stanza("a", "1.0-2", "amd64"),
            stanza("a", "1.0-3", "i386"),
            stanza("b", "2", "amd64"),
            "Package: a\nVersion: 9\nArchitecture: amd64\n".to_owned(),
        ];
        let (mut all, mut newer) = (0, Vec::new());
        let (each, tell) = (|_: &RepoPath, _, _| all += 1, |one| newer.push(one));
        read_upgrades(text.concat().as_bytes(), &installed, each, tell).unwrap();
        assert_eq!(all, 4);
        let [one] = &newer[..] else { panic!("{newer:?}") };
        assert_eq!((&*one.package, one.version.as_str(), one.length), ("a", "1.0-2", 7));
        assert_eq!((one.path.as_str(), one.digest), ("a_1.0-2.deb", Sha256::of(b"1.0-2")));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_packages(&bytes[..], |_, _, _| {});
        }
    }
}
