//! Release and InRelease: the files of a suite, by digest.

use super::clearsign::{ClearsignError, Clearsigned};
use super::path::RepoPath;
use super::stanza::{Line, Lines, parse_length};
use crate::digest::Sha256;
use std::collections::HashMap;
use std::time::UNIX_EPOCH;

/// The longest Release that is read, in bytes. The largest archives have a quarter of a megabyte.
pub const MAX_RELEASE: usize = 8 << 20;

/// What a repository's Release says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// Who publishes it.
    pub origin: Option<String>,
    /// The suite, such as `stable`.
    pub suite: Option<String>,
    /// The code name, such as `bookworm`.
    pub codename: Option<String>,
    /// Whether apt is to ask for indexes at their by-hash addresses.
    pub acquire_by_hash: bool,
    /// Whether apt takes nothing from it by itself (`NotAutomatic`): experimental, backports.
    pub not_automatic: bool,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub date: Option<u64>,
    /// When it expires, in seconds since 1970-01-01 UTC.
    pub valid_until: Option<u64>,
    /// The files that it names by SHA-256, in its order.
    pub files: Vec<ReleaseFile>,
}

/// A file that a Release names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Relative to the directory of the Release.
    pub path: RepoPath,
    /// In bytes.
    pub length: u64,
    /// The digest of the file as it stands there.
    pub sha256: Sha256,
    /// The digests that other sections have for the same path and length, in lower-case hexadecimal.
    pub others: Vec<(Weaker, Box<str>)>,
}

/// A digest algorithm that only by-hash addresses use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weaker {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-512: not weak, but not the name of our objects either.
    Sha512,
}

impl Weaker {
    /// The name of the section in a Release, which is that of the folder in by-hash addresses too.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Md5 => "MD5Sum",
            Self::Sha1 => "SHA1",
            Self::Sha512 => "SHA512",
        }
    }

    const fn hex_digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha512 => 128,
        }
    }
}

/// A body that cannot be used as a Release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Expected for what a captive portal answers.
    #[error(transparent)]
    NotClearsigned(#[from] ClearsignError),
    /// Beyond [`MAX_RELEASE`].
    #[error("a Release of {0} bytes is longer than the limit of {MAX_RELEASE}")]
    TooLong(usize),
    /// Also said of what is no Release at all.
    #[error("not a Release: it names no file by SHA-256")]
    NoFiles,
}

impl Release {
    /// Reads an InRelease. Its signature is not verified.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn parse_inrelease(body: &[u8]) -> Result<Self, ReleaseError> {
        if body.len() > MAX_RELEASE {
            return Err(ReleaseError::TooLong(body.len()));
        }
        Self::parse(&Clearsigned::parse(body)?.text)
    }

    /// Reads a Release.
    ///
    /// # Errors
    /// [`ReleaseError`], never for a missing signature.
    pub fn parse(body: &[u8]) -> Result<Self, ReleaseError> {
        if body.len() > MAX_RELEASE {
            return Err(ReleaseError::TooLong(body.len()));
        }
        let mut reading = Reading::default();
        let mut lines = Lines::new(body);
        // Reading from memory cannot fail.
        while let Ok(Some(line)) = lines.next() {
            match line {
                Line::End if reading.begun => break,
                Line::End => {}
                Line::Field(_) => reading.field(&line),
                Line::Continued(text) => reading.file(text),
            }
        }
        reading.finish()
    }
}

fn is_yes(value: &str) -> bool {
    ["yes", "true", "1"].contains(&value.to_ascii_lowercase().as_str())
}

#[derive(Clone, Copy)]
enum Section {
    Sha256,
    Other(Weaker),
}

#[derive(Default)]
struct Reading {
    release: Release,
    section: Option<Section>,
    others: Vec<(RepoPath, u64, Weaker, Box<str>)>,
    begun: bool,
}

impl Reading {
    fn field(&mut self, line: &Line<'_>) {
        self.begun = true;
        self.section = None;
        for (name, section) in [
            ("SHA256", Section::Sha256),
            ("MD5Sum", Section::Other(Weaker::Md5)),
            ("SHA1", Section::Other(Weaker::Sha1)),
            ("SHA512", Section::Other(Weaker::Sha512)),
        ] {
            if line.value(name).is_some() {
                self.section = Some(section);
                return;
            }
        }
        let text = |name| line.value(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let release = &mut self.release;
        if let Some(value) = text("Origin") {
            release.origin = Some(value);
        } else if let Some(value) = text("Suite") {
            release.suite = Some(value);
        } else if let Some(value) = text("Codename") {
            release.codename = Some(value);
        } else if let Some(value) = text("Acquire-By-Hash") {
            release.acquire_by_hash = is_yes(&value);
        } else if let Some(value) = text("NotAutomatic") {
            release.not_automatic = is_yes(&value);
        } else if let Some(value) = text("Date") {
            release.date = parse_date(&value);
        } else if let Some(value) = text("Valid-Until") {
            release.valid_until = parse_date(&value);
        }
    }

    /// ` <digest> <length> <path>`.
    fn file(&mut self, text: &[u8]) {
        let Some(section) = self.section else { return };
        let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (Some(digest), Some(length), Some(path)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let (Ok(digest), Ok(path)) = (std::str::from_utf8(digest), std::str::from_utf8(path)) else { return };
        let (Some(length), Ok(path)) = (parse_length(length), RepoPath::from_name(path)) else { return };
        if names_itself(&path) {
            return;
        }
        match section {
            Section::Sha256 => {
                if let Ok(sha256) = digest.parse() {
                    self.release.files.push(ReleaseFile { path, length, sha256, others: Vec::new() });
                }
            }
            Section::Other(algorithm) => {
                let hex = digest.bytes().all(|b| b.is_ascii_hexdigit());
                if hex && digest.len() == algorithm.hex_digits() {
                    self.others.push((path, length, algorithm, digest.to_ascii_lowercase().into()));
                }
            }
        }
    }

    /// Joins the sections by path and length.
    fn finish(self) -> Result<Release, ReleaseError> {
        let mut release = self.release;
        if release.files.is_empty() {
            return Err(ReleaseError::NoFiles);
        }
        let places: HashMap<(RepoPath, u64), usize> = release
            .files
            .iter()
            .enumerate()
            .map(|(at, file)| ((file.path.clone(), file.length), at))
            .collect();
        for (path, length, algorithm, hex) in self.others {
            if let Some(at) = places.get(&(path, length)) {
                release.files[*at].others.push((algorithm, hex));
            }
        }
        Ok(release)
    }
}

/// Generators that list everything in a directory list the Release that stood there before: a digest of the past.
fn names_itself(path: &RepoPath) -> bool {
    matches!(path.as_str(), "Release" | "InRelease" | "Release.gpg")
}

/// `Sat, 11 Jul 2026 10:16:37 UTC`; apt takes `GMT`, `Z` and `+0000` for UTC too, and days of one digit.
fn parse_date(text: &str) -> Option<u64> {
    let (day_name, rest) = text.split_once(',')?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [day, month, year, time, "UTC" | "GMT" | "Z" | "+0000"] = words[..] else { return None };
    let http_date = format!("{}, {day:0>2} {month} {year} {time:0>8} GMT", day_name.trim());
    let date = httpdate::parse_http_date(&http_date).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(text: &str) -> Sha256 {
        Sha256::of(text.as_bytes())
    }

    fn sample() -> String {
        format!(
            "Origin: Example\nLabel: Example\nSuite: stable\nCodename: wobbly\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n\
             Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nNotAutomatic: yes\nDescription: x\n \
             {a} 9 in-the-description\nMD5Sum:\n D41D8CD98F00B204E9800998ECF8427E 5 main/Packages\n \
             d41d8cd98f00b204e9800998ecf8427e 6 main/Packages.gz\n beef 5 main/Packages\nSHA256:\n \
             {a}        5 main/Packages\n {b} 7 ./main//Packages.gz\n {b} x main/odd\n {b} 7 ../climbs\n \
             {b} 0 Release\n {b} 7 main/binary-all/Release\n\nSHA256:\n {a} 5 after-the-end\n",
            a = sum("a"),
            b = sum("b"),
        )
    }

    #[test]
    fn the_fields_and_files_of_a_release_are_read() {
        let release = Release::parse(sample().as_bytes()).unwrap();
        assert_eq!(release.origin.as_deref(), Some("Example"));
        assert_eq!((release.suite.as_deref(), release.codename.as_deref()), (Some("stable"), Some("wobbly")));
        assert!(release.acquire_by_hash && release.not_automatic);
        assert_eq!((release.date, release.valid_until), (Some(1_783_764_997), Some(1_784_369_797)));
        let files: Vec<_> = release.files.iter().map(|f| (f.path.as_str(), f.length, f.sha256)).collect();
        let want = [
            ("main/Packages", 5, sum("a")),
            ("main//Packages.gz", 7, sum("b")),
            ("main/binary-all/Release", 7, sum("b")),
        ];
        assert_eq!(files, want);
    }

    #[test]
    fn other_digests_join_by_path_and_length() {
        let release = Release::parse(sample().as_bytes()).unwrap();
        assert_eq!(release.files[0].others, [(Weaker::Md5, "d41d8cd98f00b204e9800998ecf8427e".into())]);
        assert_eq!(release.files[1].others, []);
    }

    #[test]
    fn an_inrelease_must_be_clearsigned() {
        let signed = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{}-----BEGIN PGP SIGNATURE-----\n\nx\n\
             -----END PGP SIGNATURE-----\n",
            sample()
        );
        assert_eq!(Release::parse_inrelease(signed.as_bytes()), Release::parse(sample().as_bytes()));
        let plain = Release::parse_inrelease(sample().as_bytes());
        assert!(matches!(plain, Err(ReleaseError::NotClearsigned(_))));
    }

    #[test]
    fn what_names_nothing_by_sha256_is_no_release() {
        assert_eq!(Release::parse(b"Origin: x\nMD5Sum:\n"), Err(ReleaseError::NoFiles));
        assert_eq!(Release::parse(b"<html></html>"), Err(ReleaseError::NoFiles));
        assert_eq!(
            Release::parse(&vec![b'\n'; MAX_RELEASE + 1]),
            Err(ReleaseError::TooLong(MAX_RELEASE + 1))
        );
    }

    #[test]
    fn dates_are_utc_in_the_forms_that_apt_takes() {
        let want = Some(1_783_764_997);
        for text in [
            "Sat, 11 Jul 2026 10:16:37 UTC",
            "Sat, 11 Jul 2026 10:16:37 +0000",
            "Sat, 11 Jul 2026 10:16:37 GMT",
            "Sat,  11 Jul 2026 10:16:37 Z",
        ] {
            assert_eq!(parse_date(text), want, "{text}");
        }
        assert_eq!(parse_date("Wed, 1 Jul 2026 1:16:37 UTC"), parse_date("Wed, 01 Jul 2026 01:16:37 UTC"));
        for text in [
            "",
            "yesterday",
            "Sat, 11 Jul 2026 10:16:37 +0200",
            "Sat, 11 Jul 2026 10:16:37",
            "Sat, 99 Jul 2026 10:16:37 UTC",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(text in "(SHA256:\\n|MD5Sum:|Date: | [0-9a-f]{30,66}| \\d{0,22}| a/b|\\n|[^\\x00]{0,9}){0,30}") {
            let _ = Release::parse(text.as_bytes());
        }
    }
}
