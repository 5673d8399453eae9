//! The kinds of value a key can have: read from TOML or from plain text, written back as TOML.

use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use toml::Value;

/// The part of a value that was refused, as the user wrote it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

/// A kind of value. What it writes, it reads.
pub(super) trait Setting: Sized {
    /// What a value may be; completes the sentence "allowed is …".
    const ALLOWED: &'static str;

    /// Reads an environment variable or a flag.
    fn from_text(text: &str) -> Result<Self, Refused>;

    /// Reads a value of a file. Most kinds are texts there too.
    fn from_toml(value: &Value) -> Result<Self, Refused> {
        match value {
            Value::String(text) => Self::from_text(text),
            other => Err(Refused(other.to_string())),
        }
    }

    /// The value as a file says it.
    fn to_toml(&self) -> Value;
}

/// A kind that can stand in a list.
pub(super) trait Element: Sized {
    const ALLOWED_IN_LIST: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn text(&self) -> String;
}

impl<T: Element> Setting for Vec<T> {
    const ALLOWED: &'static str = T::ALLOWED_IN_LIST;

    /// Comma-separated; an empty text is an empty list.
    fn from_text(text: &str) -> Result<Self, Refused> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| T::parse(part).ok_or_else(|| Refused(format!("{part:?}")))).collect()
    }

    fn from_toml(value: &Value) -> Result<Self, Refused> {
        let Value::Array(parts) = value else { return Err(Refused(value.to_string())) };
        parts
            .iter()
            .map(|part| part.as_str().and_then(T::parse).ok_or_else(|| Refused(part.to_string())))
            .collect()
    }

    fn to_toml(&self) -> Value {
        Value::Array(self.iter().map(|part| Value::String(part.text())).collect())
    }
}

impl Setting for bool {
    const ALLOWED: &'static str = "true or false";

    fn from_text(text: &str) -> Result<Self, Refused> {
        match text.trim() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(Refused(format!("{other:?}"))),
        }
    }

    fn from_toml(value: &Value) -> Result<Self, Refused> {
        value.as_bool().ok_or_else(|| Refused(value.to_string()))
    }

    fn to_toml(&self) -> Value {
        Value::Boolean(*self)
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Whole<MIN, MAX> {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    fn new(number: i64) -> Option<Self> {
        u32::try_from(number).ok().filter(|n| (MIN..=MAX).contains(n)).map(Self)
    }
}

impl<const MIN: u32, const MAX: u32> Setting for Whole<MIN, MAX> {
    // A const cannot be made from MIN and MAX; the two ranges in use are spelled out, and a test holds them true.
    const ALLOWED: &'static str = match (MIN, MAX) {
        (0, 10_000) => "a whole number from 0 to 10000",
        (1, 1_000) => "a whole number from 1 to 1000",
        _ => panic!("spell this range out"),
    };

    fn from_text(text: &str) -> Result<Self, Refused> {
        text.trim().parse().ok().and_then(Self::new).ok_or_else(|| Refused(format!("{text:?}")))
    }

    fn from_toml(value: &Value) -> Result<Self, Refused> {
        value.as_integer().and_then(Self::new).ok_or_else(|| Refused(value.to_string()))
    }

    fn to_toml(&self) -> Value {
        Value::Integer(i64::from(self.0))
    }
}

/// An Ed25519 public key, 32 bytes, as `aptpeer keygen` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Element for PublicKey {
    const ALLOWED_IN_LIST: &'static str =
        "a list of public keys of 64 hexadecimal digits each, as `aptpeer keygen` prints them";

    fn parse(text: &str) -> Option<Self> {
        crate::digest::parse_hex(text).map(Self)
    }

    fn text(&self) -> String {
        crate::digest::Sha256::new(self.0).to_string()
    }
}

impl Setting for SocketAddr {
    const ALLOWED: &'static str = "an IP address with a port, such as \"127.0.0.1:9977\" or \"[::1]:9977\"";

    fn from_text(text: &str) -> Result<Self, Refused> {
        text.trim().parse().map_err(|_| Refused(format!("{text:?}")))
    }

    fn to_toml(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Element for SocketAddr {
    const ALLOWED_IN_LIST: &'static str =
        "a list of IP addresses with ports, such as [\"0.0.0.0:9979\", \"[::]:9979\"]";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Element for IpNet {
    const ALLOWED_IN_LIST: &'static str =
        "a list of networks or addresses, such as [\"192.168.0.0/16\", \"fd00::/8\", \"10.1.2.3\"]";

    /// RFC 4632 notation; an address alone is a network of one.
    fn parse(text: &str) -> Option<Self> {
        let network = text.parse::<Self>().ok();
        network.map(|net| net.trunc()).or_else(|| text.parse::<IpAddr>().ok().map(Self::from))
    }

    fn text(&self) -> String {
        if self.prefix_len() == self.max_prefix_len() { self.addr().to_string() } else { self.to_string() }
    }
}

impl Element for String {
    const ALLOWED_IN_LIST: &'static str = "a list of texts";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Element for PathBuf {
    const ALLOWED_IN_LIST: &'static str = "a list of absolute paths, such as [\"/usr/share/keyrings\"]";

    fn parse(text: &str) -> Option<Self> {
        absolute(text)
    }

    fn text(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl Setting for PathBuf {
    const ALLOWED: &'static str = "an absolute path, or \"\" for the usual place";

    /// Absolute only: commands must find what the daemon wrote wherever they are started.
    fn from_text(text: &str) -> Result<Self, Refused> {
        if text.is_empty() {
            Ok(Self::new())
        } else {
            absolute(text).ok_or_else(|| Refused(format!("{text:?}")))
        }
    }

    fn to_toml(&self) -> Value {
        Value::String(self.to_string_lossy().into_owned())
    }
}

impl Setting for Option<PathBuf> {
    const ALLOWED: &'static str = "an absolute path, or \"\" for none";

    fn from_text(text: &str) -> Result<Self, Refused> {
        PathBuf::from_text(text).map(|path| (!path.as_os_str().is_empty()).then_some(path))
    }

    fn to_toml(&self) -> Value {
        self.as_ref().map_or_else(|| Value::String(String::new()), Setting::to_toml)
    }
}

fn absolute(text: &str) -> Option<PathBuf> {
    (text.starts_with('/') && !text.contains('\0')).then(|| PathBuf::from(text))
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an IP address (without brackets), lower case.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = ();

    /// `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or(())?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().map_err(|_| ())?.to_string(),
            None if is_host_name(host) => host.to_ascii_lowercase(),
            None => return Err(()),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Element for HostPort {
    const ALLOWED_IN_LIST: &'static str = "a list of hosts with ports, such as [\"peer.example.org:9979\"]";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// A host name, or `*.` and a domain for every host below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// The pattern as text, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Element for HostPattern {
    const ALLOWED_IN_LIST: &'static str =
        "a list of host names without port, such as [\"mirror.example.org\", \"*.example.org\"]";

    fn parse(text: &str) -> Option<Self> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        (is_host_name(name) || name.parse::<IpAddr>().is_ok()).then(|| Self(text.to_ascii_lowercase()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// The name of a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Element for InterfaceName {
    const ALLOWED_IN_LIST: &'static str =
        "a list of names of network interfaces, such as [\"eth0\", \"wlan0\"]";

    /// What Linux takes for a name: up to 15 bytes without a slash, a colon or white space.
    fn parse(text: &str) -> Option<Self> {
        let odd =
            |letter: char| letter == '/' || letter == ':' || letter.is_whitespace() || letter.is_control();
        let good = !text.is_empty() && text.len() <= 15 && !text.contains(odd) && text != "." && text != "..";
        good.then(|| Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// Letters, digits, dots, hyphens and (seen in the wild) underscores, at most 253 bytes (RFC 1035 §2.3.4).
fn is_host_name(text: &str) -> bool {
    let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    !text.is_empty() && text.len() <= 253 && !text.bytes().any(odd) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        let nets = Vec::<IpNet>::from_text("::1, 10.1.2.3/8").unwrap();
        assert_eq!(nets, ["::1/128".parse::<IpNet>().unwrap(), "10.0.0.0/8".parse().unwrap()]);
        assert_eq!(nets.to_toml().to_string(), r#"["::1", "10.0.0.0/8"]"#);
    }

    #[test]
    fn a_list_names_the_element_it_refuses() {
        let refused = Vec::<HostPort>::from_text("good.example.org:1,bad").unwrap_err();
        assert_eq!(refused, Refused("\"bad\"".to_owned()));
        let value: Value = "x = ['peer.example.org:1', 7]".parse::<toml::Table>().unwrap()["x"].clone();
        assert_eq!(Vec::<HostPort>::from_toml(&value).unwrap_err(), Refused("7".to_owned()));
    }

    #[test]
    fn hosts_with_ports_are_read_and_written() {
        for text in ["peer.example.org:9979", "192.0.2.1:1", "[2001:db8::1]:65535"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in
            ["peer", "peer:", "peer:0", "peer:65536", "[::1]", "::1:80", ":80", "a b:80", "[x]:80", "-x:1"]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn host_patterns_have_a_star_only_in_front() {
        let accepted = |text| HostPattern::parse(text).is_some();
        assert!(accepted("mirror.example.org") && accepted("*.Example.org") && accepted("2001:db8::1"));
        assert!(
            !accepted("*")
                && !accepted("a.*.org")
                && !accepted("http://mirror.example.org")
                && !accepted("*.")
        );
    }

    #[test]
    fn an_interface_has_a_name_that_linux_takes() {
        let accepted = |text| InterfaceName::parse(text).is_some();
        assert!(accepted("eth0") && accepted("enp0s31f6.100") && accepted("wlan0"));
        assert!(!accepted("") && !accepted("a/b") && !accepted("eth0:1") && !accepted("eth 0"));
        assert!(!accepted("0123456789abcdef"));
    }

    #[test]
    fn whole_numbers_keep_to_the_range_they_name() {
        type Small = Whole<1, 1_000>;
        for (text, fits) in
            [("0", false), ("1", true), ("1000", true), ("1001", false), ("-1", false), ("x", false)]
        {
            assert_eq!(Small::from_text(text).is_ok(), fits, "{text}");
        }
        assert!(Small::ALLOWED.contains("from 1 to 1000"));
        assert!(Small::from_toml(&Value::String("5".into())).is_err());
    }

    #[test]
    fn relative_paths_are_refused() {
        assert!(PathBuf::from_text("cache").is_err());
        assert_eq!(Option::<PathBuf>::from_text(""), Ok(None));
        assert_eq!(Option::<PathBuf>::from_text("/x"), Ok(Some(PathBuf::from("/x"))));
    }
}
