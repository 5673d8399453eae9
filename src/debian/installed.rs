//! What is installed, as dpkg's status says (dpkg(1), `/var/lib/dpkg/status`), and what an index has that is newer.

use super::path::RepoPath;
use super::stanza::{Line, Lines};
use super::version::Version;
use crate::digest::Sha256;
use std::collections::HashMap;
use std::io::{self, Read};

/// The most packages that are read of a status file: ten times those of a full desktop.
const MAX_INSTALLED: usize = 1 << 16;

/// The longest name of a package or an architecture, in bytes. The longest of the archive has some 80.
const MAX_NAME: usize = 256;

/// The packages that are installed and may be upgraded, those on hold left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// By name; several, where several architectures are installed.
    packages: HashMap<Box<str>, Vec<(Box<str>, Version)>>,
}

/// A package that an index has and that is newer than the one that was installed when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    /// Its name.
    pub package: Box<str>,
    /// Its architecture, or `all`.
    pub architecture: Box<str>,
    /// Its version.
    pub version: Version,
    /// Where it lies, relative to the sources URI.
    pub path: RepoPath,
    /// Its length in bytes.
    pub length: u64,
    /// Its digest.
    pub digest: Sha256,
}

impl Installed {
    /// Reads dpkg's status file: what is wanted and wholly installed (`install ok installed`).
    ///
    /// # Errors
    /// What `source` fails with.
    pub fn read(source: impl Read) -> io::Result<Self> {
        let (mut lines, mut stanza) = (Lines::new(source), Stanza::default());
        let (mut all, mut count) = (Self::default(), 0);
        while count < MAX_INSTALLED {
            let line = lines.next()?;
            if let Some(line @ Line::Field(_)) = &line {
                stanza.field(line);
                continue;
            }
            if matches!(line, Some(Line::Continued(_))) {
                continue;
            }
            if let Some((package, architecture, version)) = std::mem::take(&mut stanza).finish() {
                all.packages.entry(package).or_default().push((architecture, version));
                count += 1;
            }
            if line.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// Whether a package of this name is, in any architecture.
    pub fn has(&self, package: &[u8]) -> bool {
        std::str::from_utf8(package).is_ok_and(|package| self.packages.contains_key(package))
    }

    /// The architecture of the installed package that this one would replace. A package may become one for all
    /// architectures, and the other way round; of several it replaces the oldest.
    pub fn replaced_by(&self, package: &str, architecture: &str, version: &Version) -> Option<&str> {
        let fits = |installed: &str| installed == architecture || installed == "all" || architecture == "all";
        let older = self
            .packages
            .get(package)?
            .iter()
            .filter(|(installed, older)| fits(installed) && older < version);
        older.min_by(|a, b| a.1.cmp(&b.1)).map(|(architecture, _)| &**architecture)
    }
}

/// What is wanted of a stanza of the status file.
#[derive(Default)]
struct Stanza {
    package: Option<Box<str>>,
    architecture: Option<Box<str>>,
    version: Option<Version>,
    upgradable: bool,
}

impl Stanza {
    fn field(&mut self, line: &Line<'_>) {
        if let Some(value) = line.value("Package") {
            self.package = name(value);
        } else if let Some(value) = line.value("Architecture") {
            self.architecture = name(value);
        } else if let Some(value) = line.value("Version") {
            self.version = Version::parse(value);
        } else if let Some(value) = line.value("Status") {
            self.upgradable = value.split(u8::is_ascii_whitespace).eq([&b"install"[..], b"ok", b"installed"]);
        }
    }

    fn finish(self) -> Option<(Box<str>, Box<str>, Version)> {
        Some((self.package?, self.architecture?, self.version?)).filter(|_| self.upgradable)
    }
}

/// The name of a package or an architecture.
pub(super) fn name(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.len() <= MAX_NAME).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stanza(package: &str, status: &str, architecture: &str, version: &str) -> String {
        format!(
            "Package: {package}\nStatus: {status}\nArchitecture: {architecture}\nVersion: {version}\n\
             Conffiles:\n /etc/x 0\nDescription: x\n Version: 9\n\n"
        )
    }

    fn version(text: &str) -> Version {
        Version::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_installed_is_read_and_what_is_held_removed_or_half_there_is_not() {
        let status = [
            stanza("here", "install ok installed", "amd64", "1.0-1"),
            stanza("held", "hold ok installed", "amd64", "1.0-1"),
            stanza("gone", "deinstall ok config-files", "amd64", "1.0-1"),
            stanza("half", "install ok half-configured", "amd64", "1.0-1"),
            stanza("broken", "install reinstreq installed", "amd64", "1.0-1"),
            stanza("odd", "install ok installed", "amd64", "1 0"),
            stanza("last", "install ok installed", "all", "2"),
        ];
        let installed = Installed::read(status.concat().trim_end().as_bytes()).unwrap();
        let names = ["here", "held", "gone", "half", "broken", "odd", "last", "other"];
        let there: Vec<_> = names.into_iter().filter(|name| installed.has(name.as_bytes())).collect();
        assert_eq!(there, ["here", "last"]);
        assert_eq!(installed.replaced_by("here", "amd64", &version("1.0-2")), Some("amd64"));
        assert_eq!(installed.replaced_by("here", "amd64", &version("1.0-1")), None);
        assert_eq!(installed.replaced_by("here", "amd64", &version("1.0-1~rc1")), None);
        assert_eq!(installed.replaced_by("here", "i386", &version("2")), None);
        assert_eq!(installed.replaced_by("here", "all", &version("2")), Some("amd64"));
        assert_eq!(installed.replaced_by("last", "amd64", &version("3")), Some("all"));
    }

    #[test]
    fn each_architecture_is_upgraded_by_its_own() {
        let status = [
            stanza("lib", "install ok installed", "amd64", "2"),
            stanza("lib", "install ok installed", "i386", "1"),
        ];
        let installed = Installed::read(status.concat().as_bytes()).unwrap();
        assert_eq!(installed.replaced_by("lib", "amd64", &version("2")), None);
        assert_eq!(installed.replaced_by("lib", "i386", &version("2")), Some("i386"));
    }

    #[test]
    fn a_status_without_end_is_cut() {
        let text = (0..MAX_INSTALLED + 9).fold(String::new(), |text, number| {
            text + &format!(
                "Package: p{number}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n"
            )
        });
        assert_eq!(Installed::read(text.as_bytes()).unwrap().packages.len(), MAX_INSTALLED);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Installed::read(&bytes[..]);
        }
    }
}
