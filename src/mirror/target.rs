//! What is to be fetched: a URL taken apart once, whose path keeps the spelling it was asked for with.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

/// How a mirror is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP, port 80 unless said otherwise.
    Http,
    /// HTTP over TLS, port 443 unless said otherwise.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port meant where none is named.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host, spelled in one way only: a name in lower case without a final dot, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address, written as such.
    Address(IpAddr),
}

/// The longest DNS name (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

impl FromStr for Host {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return address.map(|v6| Self::Address(v6.into())).ok_or_else(|| TargetError::host(text));
        }
        if let Ok(v4) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(v4.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(allowed) {
            return Err(TargetError::host(text));
        }
        Ok(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(v4)) => v4.fmt(f),
            Self::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

/// A file on a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// How to ask.
    pub scheme: Scheme,
    /// Whom to ask.
    pub host: Host,
    /// On which TCP port.
    pub port: u16,
    /// What to ask for, byte for byte as it was asked of us: `%2b`, `./` and all.
    pub path_and_query: PathAndQuery,
}

/// A text that names no file on a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither `http` nor `https`.
    #[error("not an http or https URL: {0:?}")]
    Scheme(String),
    /// No usable host or port.
    #[error("not a host: {0:?}")]
    Host(String),
    /// A path that no request may carry.
    #[error("not a path: {0:?}")]
    Path(String),
}

impl TargetError {
    fn host(text: &str) -> Self {
        Self::Host(shorten(text))
    }
}

/// What a stranger wrote, as far as it is worth repeating.
fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}

impl Target {
    /// Reads the absolute form a proxy is asked with (RFC 9112 §3.2.2).
    ///
    /// `http://HTTPS///host/path` is apt's way to ask a plain-text proxy for a file behind TLS. User and password in
    /// the URL are dropped: apt sends them in `Authorization`.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| TargetError::Scheme(shorten(url)))?;
        let scheme = match scheme {
            s if s.eq_ignore_ascii_case("http") => Scheme::Http,
            s if s.eq_ignore_ascii_case("https") => Scheme::Https,
            _ => return Err(TargetError::Scheme(shorten(url))),
        };
        match strip_tls_marker(rest) {
            Some(rest) if scheme == Scheme::Http => Self::from_authority(Scheme::Https, rest),
            _ => Self::from_authority(scheme, rest),
        }
    }

    /// Reads the prefix form: `/host[:port]/path`, or `/HTTPS///host[:port]/path`.
    pub fn from_prefix(path: &str) -> Result<Self, TargetError> {
        let rest = path.strip_prefix('/').ok_or_else(|| TargetError::Path(shorten(path)))?;
        match strip_tls_marker(rest) {
            Some(rest) => Self::from_authority(Scheme::Https, rest),
            None => Self::from_authority(Scheme::Http, rest),
        }
    }

    /// Reads `[user[:password]@]host[:port][/path][?query]`.
    fn from_authority(scheme: Scheme, text: &str) -> Result<Self, TargetError> {
        let end = text.find(['/', '?', '#']).unwrap_or(text.len());
        let (authority, path) = text.split_at(end);
        let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = split_port(host_and_port);
        let port = match port {
            None | Some("") => scheme.default_port(),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| TargetError::host(authority))?
            }
            Some(_) => return Err(TargetError::host(authority)),
        };
        Ok(Self { scheme, host: host.parse()?, port, path_and_query: parse_path(path)? })
    }

    /// Where a redirect with this `Location` leads (RFC 9110 §10.2.2, RFC 3986 §5.2).
    pub fn join(&self, location: &str) -> Result<Self, TargetError> {
        let location = location.trim();
        let location = location.split('#').next().unwrap_or(location);
        if has_scheme(location) {
            return Self::parse_plain(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::from_authority(self.scheme, rest);
        }
        let path = match location.as_bytes().first() {
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{}{location}", self.path_and_query.path()),
            None => self.path_and_query.to_string(),
            Some(_) => {
                let base = self.path_and_query.path();
                let folder = &base[..=base.rfind('/').unwrap_or(0)];
                format!("{folder}{location}")
            }
        };
        Ok(Self { path_and_query: parse_path(&without_dots(&path))?, ..self.clone() })
    }

    /// As [`Target::parse`], but `HTTPS` as a host means nothing special: only apt may ask for that.
    fn parse_plain(url: &str) -> Result<Self, TargetError> {
        let marked = url.split_once("://").is_some_and(|(_, rest)| strip_tls_marker(rest).is_some());
        if marked { Err(TargetError::host(url)) } else { Self::parse(url) }
    }

    /// Whether the same server on the same port is meant, so that credentials may go along.
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }

    /// `host`, with the port where it is not the usual one.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The target as a URI, in the original spelling.
    pub(super) fn uri(&self) -> Result<Uri, TargetError> {
        Uri::builder()
            .scheme(self.scheme.as_str())
            .authority(self.authority())
            .path_and_query(self.path_and_query.clone())
            .build()
            .map_err(|_| TargetError::Path(shorten(self.path_and_query.as_str())))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path_and_query)
    }
}

/// What follows `HTTPS//` + `/`: the marker is spelled as a host, and two more slashes follow the one that ends it.
pub(super) fn strip_tls_marker(rest: &str) -> Option<&str> {
    let (marker, rest) = rest.split_once("///")?;
    marker.eq_ignore_ascii_case("https").then_some(rest)
}

fn parse_path(path: &str) -> Result<PathAndQuery, TargetError> {
    let refused = || TargetError::Path(shorten(path));
    // A fragment is never sent; blanks and controls would end the request line early.
    if path.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'#') {
        return Err(refused());
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    PathAndQuery::try_from(path).map_err(|_| refused())
}

/// `host` and the digits after its colon; the colons of an IPv6 address are its own.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rfind(':') {
        Some(at) if !text[at..].contains(']') => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    }
}

fn has_scheme(text: &str) -> bool {
    let name = text.split(':').next().unwrap_or("");
    name.len() < text.len()
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The path without `.` and `..` (RFC 3986 §5.2.4), the query untouched.
fn without_dots(text: &str) -> String {
    let (path, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spelling_of_a_path_is_kept() {
        for url in [
            "http://mirror.example.org/debian/./pool/a%2bb%7e1_all.deb?x=%41",
            "https://mirror.example.org:8443/a//b/http://c",
            "http://[2001:db8::1]:3142/x",
            "http://192.0.2.1/",
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.to_string(), url);
            assert_eq!(target.uri().unwrap().to_string(), url);
        }
    }

    #[test]
    fn proxy_form_prefix_form_and_the_tls_marker_mean_the_same() {
        let plain = Target::parse("http://Mirror.Example.org./debian/x").unwrap();
        assert_eq!(plain, Target::from_prefix("/mirror.example.org/debian/x").unwrap());
        assert_eq!(plain, Target::parse("http://user:pa:ss@mirror.example.org:80/debian/x").unwrap());
        let tls = Target::parse("https://mirror.example.org/debian/x").unwrap();
        assert_eq!(tls, Target::parse("http://HTTPS///mirror.example.org/debian/x").unwrap());
        assert_eq!(tls, Target::from_prefix("/HTTPS///mirror.example.org/debian/x").unwrap());
        let port = Target::from_prefix("/mirror.example.org:8080/x").unwrap();
        assert_eq!((port.scheme, port.port), (Scheme::Http, 8080));
    }

    #[test]
    fn what_names_no_file_is_refused() {
        for url in [
            "",
            "ftp://a/b",
            "http://",
            "http:///x",
            "http://a:0/x",
            "http://a:65536/x",
            "http://a:+80/x",
            "http://a b/x",
            "http://a/x y",
            "http://a/x#y",
            "http://a/\r\nHost: b",
            "http://ä/",
            "http://[::1/x",
            "http://a/ä",
            "/a/b",
        ] {
            assert!(Target::parse(url).is_err(), "{url:?} was accepted");
        }
        assert!(Target::from_prefix("mirror.example.org/x").is_err());
        assert!(Target::from_prefix("//x").is_err());
    }

    #[test]
    fn a_location_is_joined_as_rfc_3986_says() {
        let base = Target::parse("http://a.example.org/b/c/d?q").unwrap();
        for (location, joined) in [
            ("http://b.example.org/x#frag", "http://b.example.org/x"),
            ("https://b.example.org", "https://b.example.org/"),
            ("//b.example.org/x", "http://b.example.org/x"),
            ("/x/./y/../z?w=../v", "http://a.example.org/x/z?w=../v"),
            ("g", "http://a.example.org/b/c/g"),
            ("../g/", "http://a.example.org/b/g/"),
            ("../../../g", "http://a.example.org/g"),
            ("..", "http://a.example.org/b/"),
            ("?y", "http://a.example.org/b/c/d?y"),
            ("", "http://a.example.org/b/c/d?q"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), joined, "{location}");
        }
        for location in ["file:///etc/passwd", "gopher://a/", "http://HTTPS///b.example.org/x", "http://a b/"]
        {
            assert!(base.join(location).is_err(), "{location}");
        }
    }
}
