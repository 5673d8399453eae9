//! Repository paths: one key for the many spellings of one address.
//!
//! apt writes `+` as `%2b`, other clients as `%2B` or `+`; flat repositories put `./` in the middle. All of them
//! name the same file, so a key is decoded once and dot-normalised. What is forwarded to a mirror keeps the spelling
//! it came in; that is the caller's business.

use crate::digest::Sha256;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The longest path that is looked at, in bytes after decoding. The longest of the archive has some 200.
pub const MAX_PATH: usize = 4096;

/// The most segments of a path: every directory above a file is looked up, so this bounds the cost of a look-up.
pub const MAX_DEPTH: usize = 64;

/// The longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_HOST: usize = 255;

/// An address that no repository has, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address in a repository: {0}")]
pub struct PathError(&'static str);

/// Where a file lies relative to a directory: decoded, without `.` segments, never climbing.
///
/// Empty segments are kept: `a//b` is another path than `a/b`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(Box<str>);

impl RepoPath {
    /// The path that `name` is in a Release, Packages or Sources, where nothing is percent-encoded.
    ///
    /// # Errors
    /// [`PathError`] for what is empty, climbs, has control characters, or is longer or deeper than the limits.
    pub fn from_name(name: &str) -> Result<Self, PathError> {
        normalise(name).map(|path| Self(path.into()))
    }

    /// The path as text, without a leading slash of its own.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory part, `""` at the top, and the last segment.
    pub fn split_last(&self) -> (&str, &str) {
        split_last(&self.0)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A file at a host: the key under which the URL is looked up, whatever its scheme and spelling.
///
/// It prints as `host/path` or `host:port/path`; the host is in lower case, and ports 80 and 443 are left out.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoUrl {
    whole: Box<str>,
    host: usize,
}

/// What a `…/by-hash/<algorithm>/<hex>` address says of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByHash {
    /// The file is the one with this digest.
    Sha256(Sha256),
    /// Another algorithm: only a Release can say which file that is.
    Other,
}

impl RepoUrl {
    /// The key of what an HTTP request names: `authority` is `host` or `host:port`, `path` the raw request path.
    ///
    /// # Errors
    /// [`PathError`] for a path that [`RepoPath`] refuses, one with a query, or a host with odd characters.
    pub fn new(authority: &str, path: &str) -> Result<Self, PathError> {
        let host = normalise_authority(authority)?;
        // A query makes another resource of a path; no repository has one.
        if path.contains(['?', '#']) {
            return Err(PathError("it has a query or a fragment"));
        }
        let decoded = percent_decode_str(path.strip_prefix('/').unwrap_or(path)).decode_utf8();
        let decoded = decoded.map_err(|_| PathError("it is not UTF-8"))?;
        let path = normalise(&decoded)?;
        Ok(Self { whole: format!("{host}/{path}").into(), host: host.len() })
    }

    /// The host, with its port unless that is 80 or 443.
    pub fn host(&self) -> &str {
        &self.whole[..self.host]
    }

    /// The path, decoded and without the leading slash.
    pub fn path(&self) -> &str {
        &self.whole[self.host + 1..]
    }

    /// `host/path`.
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// The directory as `host/path` (`host` at the top), and the name of the file.
    pub fn split_last(&self) -> (&str, &str) {
        split_last(&self.whole)
    }

    /// Every directory above the file as `host/path`, the deepest first and the bare host last, each with the rest
    /// of the path below it.
    pub fn ancestors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.whole
            .rmatch_indices('/')
            .filter(|(at, _)| *at >= self.host)
            .map(|(at, _)| (&self.whole[..at], &self.whole[at + 1..]))
    }

    /// What the address itself says of the content, where it is a by-hash address.
    pub fn by_hash(&self) -> Option<ByHash> {
        let mut last = self.path().rsplit('/');
        let (hex, algorithm) = (last.next()?, last.next()?);
        if last.next()? != "by-hash" {
            return None;
        }
        match algorithm {
            "SHA256" => hex.parse().ok().map(ByHash::Sha256),
            _ => Some(ByHash::Other),
        }
    }
}

impl FromStr for RepoUrl {
    type Err = PathError;

    /// Reads `http://host/path`, with any scheme or none.
    fn from_str(url: &str) -> Result<Self, PathError> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => rest,
            _ => url,
        };
        let slash = rest.find('/').ok_or(PathError("it names no file"))?;
        Self::new(&rest[..slash], &rest[slash..])
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole)
    }
}

impl fmt::Debug for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.whole, f)
    }
}

fn split_last(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Drops `.` segments and refuses what no repository names. `..` is refused rather than resolved: what it means
/// depends on links at the mirror.
fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    if path.len() > MAX_PATH {
        return Err(PathError("it is too long"));
    }
    if path.bytes().any(|b| b.is_ascii_control()) {
        return Err(PathError("it has control characters"));
    }
    let (mut depth, mut dots, mut climbs) = (0, false, false);
    for segment in path.split('/') {
        depth += 1;
        dots |= segment == ".";
        climbs |= segment == "..";
    }
    if climbs {
        return Err(PathError("it climbs out of its directory"));
    }
    if depth > MAX_DEPTH {
        return Err(PathError("it is too deep"));
    }
    let normal = if dots { Cow::Owned(without_dots(path)) } else { Cow::Borrowed(path) };
    if normal.is_empty() { Err(PathError("it names no file")) } else { Ok(normal) }
}

fn without_dots(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        // A `.` at the end stands for its directory, whose slash is already written.
        if segment == "." {
            continue;
        }
        out.push_str(segment);
        if segments.peek().is_some() {
            out.push('/');
        }
    }
    out
}

/// Lower-cases the host and drops the default ports. User names, passwords and odd bytes are refused.
fn normalise_authority(authority: &str) -> Result<String, PathError> {
    const ODD: PathError = PathError("its host has characters that hosts do not have");
    if authority.len() > MAX_HOST + ":65535".len() {
        return Err(PathError("its host is too long"));
    }
    let end = authority.find(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[end..].find(':') {
        Some(at) => (&authority[..end + at], Some(&authority[end + at + 1..])),
        None => (authority, None),
    };
    let good = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
        Some(Some(inner)) => {
            !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b))
        }
        Some(None) => false,
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    // A host of dots alone is a climb in disguise once it is joined with a path.
    if !good || host.bytes().all(|b| b == b'.') {
        return Err(ODD);
    }
    let mut out = host.to_ascii_lowercase();
    match port {
        None | Some("") => {}
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            let port: u16 = digits.parse().map_err(|_| PathError("its port is out of range"))?;
            if port != 80 && port != 443 {
                out.push_str(&format!(":{port}"));
            }
        }
        Some(_) => return Err(ODD),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(url: &str) -> String {
        url.parse::<RepoUrl>().unwrap_or_else(|e| panic!("{url}: {e}")).to_string()
    }

    #[test]
    fn spellings_of_one_address_are_one_key() {
        let plain = key("http://mirror.example.org/debian/pool/g++_1:2~3_all.deb");
        for other in [
            "http://mirror.example.org/debian/pool/g%2b%2b_1:2~3_all.deb",
            "http://mirror.example.org/debian/pool/g%2B%2b_1%3a2%7e3_all.deb",
            "https://MIRROR.example.org:443/debian/./pool/./g++_1%3A2%7E3_all.deb",
            "http://mirror.example.org:80/./debian/pool/g++_1:2~3_all.deb",
            "mirror.example.org/debian/pool/%67++_1:2~3_all.deb",
            "http://mirror.example.org:/debian/%2e/pool/g++_1:2~3_all.deb",
        ] {
            assert_eq!(key(other), plain, "{other}");
        }
        assert_eq!(plain, "mirror.example.org/debian/pool/g++_1:2~3_all.deb");
    }

    #[test]
    fn decoding_happens_once() {
        // apt sends the `%` of a Filename as `%25`.
        assert_eq!(key("http://h/a%252b.deb"), "h/a%2b.deb");
        assert_eq!(RepoPath::from_name("a%2b.deb").unwrap().as_str(), "a%2b.deb");
        assert_eq!(key("http://h/100%.deb"), key("http://h/100%25.deb"));
    }

    #[test]
    fn other_addresses_stay_other_keys() {
        assert_ne!(key("http://h/a//b"), key("http://h/a/b"));
        assert_ne!(key("http://h/a"), key("http://h:8080/a"));
        assert_ne!(key("http://h/A"), key("http://h/a"));
        assert_eq!(key("http://[::1]:3142/a"), "[::1]:3142/a");
        assert_eq!(key("http://h//a"), "h//a");
        assert_eq!(key("http://h/a%3fb"), "h/a?b");
    }

    #[test]
    fn what_climbs_or_hides_is_refused() {
        for url in [
            "http://h/../etc",
            "http://h/a/%2e%2e/b",
            "http://h/a/.%2E/b",
            "http://h/a%2f..%2fb",
            "http://h/..",
            "http://h/a%00b",
            "http://h/a%0ab",
            "http://h/a\u{7f}",
            "http://h/a%ff",
            "http://h/a?b",
            "http://h/a#b",
            "http://user:secret@h/a",
            "http://h:99999/a",
            "http://h:8o/a",
            "http://h%2f/a",
            "http://h ost/a",
            "http://../a",
            "http:///a",
            "http://[::1/a",
            "http://h/",
            "http://h/./.",
            "http://h",
            "",
        ] {
            assert!(url.parse::<RepoUrl>().is_err(), "{url:?} was accepted");
        }
        assert!(RepoUrl::new("h", &"a".repeat(MAX_PATH + 1)).is_err());
        assert!(RepoUrl::new("h", &"a/".repeat(MAX_DEPTH + 1)).is_err());
        assert!(RepoPath::from_name("a/../b").is_err() && RepoPath::from_name("").is_err());
    }

    #[test]
    fn names_in_indexes_are_dot_normalised() {
        assert_eq!(RepoPath::from_name("./a_1.deb").unwrap().as_str(), "a_1.deb");
        assert_eq!(RepoPath::from_name("././b/./a_1.deb").unwrap().as_str(), "b/a_1.deb");
    }

    #[test]
    fn directories_are_walked_from_the_deepest_to_the_host() {
        let url: RepoUrl = "http://h:81/a/b/c".parse().unwrap();
        let walked: Vec<_> = url.ancestors().collect();
        assert_eq!(walked, [("h:81/a/b", "c"), ("h:81/a", "b/c"), ("h:81", "a/b/c")]);
        assert_eq!((url.host(), url.path(), url.split_last()), ("h:81", "a/b/c", ("h:81/a/b", "c")));
    }

    #[test]
    fn by_hash_addresses_name_their_content() {
        let digest = Sha256::of(b"x");
        let url = |tail: &str| format!("http://h/d/dists/s/main/{tail}").parse::<RepoUrl>().unwrap();
        assert_eq!(url(&format!("by-hash/SHA256/{digest}")).by_hash(), Some(ByHash::Sha256(digest)));
        assert_eq!(url("by-hash/SHA256/beef").by_hash(), None);
        assert_eq!(url("by-hash/MD5Sum/d41d8cd98f00b204e9800998ecf8427e").by_hash(), Some(ByHash::Other));
        assert_eq!(url("Packages.gz").by_hash(), None);
        assert_eq!("h/SHA256/x".parse::<RepoUrl>().unwrap().by_hash(), None);
    }

    /// How apt spells a path in a request: odd bytes as `%xx` in lower case.
    fn as_apt_sends(path: &str) -> String {
        path.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b':' => {
                    char::from(b).to_string()
                }
                _ => format!("%{b:02x}"),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(text in any::<String>(), path in "[a/.%2e~+:?\\x00é]{0,40}") {
            let _ = text.parse::<RepoUrl>();
            let _ = RepoPath::from_name(&text);
            if let Ok(url) = RepoUrl::new("h", &path) {
                prop_assert!(url.path().split('/').all(|s| s != "." && s != ".."));
                let whole = url.ancestors().all(|(above, below)| [above, below].join("/") == url.as_str());
                prop_assert!(whole);
            }
        }

        #[test]
        fn a_filename_meets_the_url_that_apt_makes_of_it(name in "[a-z0-9+~:%_ -]{1,12}(/[a-z0-9+~:%_.é-]{1,12}){0,4}") {
            let Ok(path) = RepoPath::from_name(&name) else { return Ok(()) };
            let url = RepoUrl::new("h", &format!("/{}", as_apt_sends(&name))).unwrap();
            prop_assert_eq!(url.path(), path.as_str());
        }
    }
}
