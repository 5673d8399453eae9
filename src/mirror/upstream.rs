//! The user's own proxy, if there is one: apt goes through us now, so we go through it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::str::FromStr;

use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use tracing::{debug, warn};

use super::policy::is_ours;
use super::target::{Host, Scheme, Target, TargetError};

/// The config key `mirrors.proxy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UpstreamSetting {
    /// What the environment says, else what apt's configuration says.
    #[default]
    Auto,
    /// Always straight to the mirror.
    None,
    /// Always through this one.
    Url(Proxy),
}

impl FromStr for UpstreamSetting {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            url => url.parse().map(Self::Url),
        }
    }
}

/// An HTTP proxy on the way to the mirrors.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Whether it is itself spoken to over TLS.
    pub scheme: Scheme,
    /// Where it is.
    pub host: Host,
    /// On which TCP port.
    pub port: u16,
    /// What to send as `Proxy-Authorization`.
    pub(super) authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the password.
        write!(f, "Proxy({}://{}:{})", self.scheme.as_str(), self.host, self.port)
    }
}

impl FromStr for Proxy {
    type Err = TargetError;

    /// Reads `http://[user:password@]host[:port]`, also without the scheme, as the environment allows.
    fn from_str(url: &str) -> Result<Self, TargetError> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let target = Target::parse(&url)?;
        let authority = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next());
        let authorization =
            authority.and_then(|authority| authority.rsplit_once('@')).and_then(|(user, _)| {
                let user: Vec<u8> = percent_decode_str(user).collect();
                let mut value = HeaderValue::from_str(&format!("Basic {}", base64(&user))).ok()?;
                value.set_sensitive(true);
                Some(value)
            });
        Ok(Self { scheme: target.scheme, host: target.host, port: target.port, authorization })
    }
}

/// Which proxy, if any, leads to which mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstream {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Exceptions by scheme and host: another proxy, or none.
    per_host: HashMap<(Scheme, Host), Option<Proxy>>,
    /// The entries of `no_proxy`.
    direct: Vec<Exemption>,
}

/// One entry of `no_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exemption {
    Everything,
    /// This name and every one below it.
    Domain(String),
    Network(ipnet::IpNet),
}

impl Upstream {
    /// What `setting` comes to on this machine; `own` are our listen addresses. Blocks: runs `apt-config`.
    pub fn detect(setting: &UpstreamSetting, own: &[SocketAddr]) -> Self {
        let found = match setting {
            UpstreamSetting::None => Self::default(),
            UpstreamSetting::Url(proxy) => Self::always(proxy),
            UpstreamSetting::Auto => Self::from_environment(|name| std::env::var(name).ok(), own)
                .unwrap_or_else(|| Self::from_apt_config(&apt_config_dump(), own)),
        };
        debug!(upstream = ?found, "the way to the mirrors");
        found
    }

    fn always(proxy: &Proxy) -> Self {
        Self { http: Some(proxy.clone()), https: Some(proxy.clone()), ..Self::default() }
    }

    /// What `http_proxy`, `https_proxy` and `no_proxy` say; `None` where neither proxy is set.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>, own: &[SocketAddr]) -> Option<Self> {
        let set = |name| get(name).filter(|value| !value.is_empty());
        // HTTP_PROXY may come from a CGI request's `Proxy` header: everybody ignores it.
        let http = set("http_proxy").and_then(|url| usable(&url, own));
        let https = set("https_proxy").or_else(|| set("HTTPS_PROXY")).and_then(|url| usable(&url, own));
        if http.is_none() && https.is_none() {
            return None;
        }
        let exempt = set("no_proxy").or_else(|| set("NO_PROXY")).unwrap_or_default();
        let direct = exempt.split([',', ' ']).filter_map(exemption).collect();
        Some(Self { http, https, direct, ..Self::default() })
    }

    /// What `apt-config dump` says: `Acquire::http::Proxy`, `Acquire::https::Proxy` and those of single hosts.
    pub fn from_apt_config(dump: &str, own: &[SocketAddr]) -> Self {
        let mut found = Self::default();
        // apt uses the http setting for https too, where that has none of its own.
        let mut https_is_set = false;
        for line in dump.lines() {
            let Some((key, value)) = line.trim_end().trim_end_matches(';').split_once(' ') else { continue };
            let value = value.trim().trim_matches('"');
            let Some((scheme, rest)) = setting_of(key) else { continue };
            let proxy = (!value.is_empty() && value != "DIRECT").then(|| usable(value, own)).flatten();
            match rest.strip_prefix("::") {
                Some(host) if !host.is_empty() => {
                    if let Ok(host) = host.parse() {
                        found.per_host.insert((scheme, host), proxy);
                    }
                }
                _ if rest.is_empty() && !value.is_empty() => match scheme {
                    Scheme::Http => found.http = proxy,
                    Scheme::Https => (found.https, https_is_set) = (proxy, true),
                },
                _ => {}
            }
        }
        if !https_is_set {
            found.https.clone_from(&found.http);
        }
        found
    }

    /// The proxy through which `target` is asked, if any.
    pub fn route(&self, target: &Target) -> Option<&Proxy> {
        self.route_to(target.scheme, &target.host)
    }

    pub(super) fn route_to(&self, scheme: Scheme, host: &Host) -> Option<&Proxy> {
        if self.direct.iter().any(|exemption| exemption.covers(host)) {
            return None;
        }
        if let Some(choice) = self.per_host.get(&(scheme, host.clone())) {
            return choice.as_ref();
        }
        match scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }
    }
}

impl Exemption {
    fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Everything, _) => true,
            (Self::Domain(domain), Host::Name(name)) => {
                name == domain || name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            (Self::Network(network), Host::Address(ip)) => network.contains(ip),
            _ => false,
        }
    }
}

fn exemption(entry: &str) -> Option<Exemption> {
    let entry = entry.trim();
    if entry == "*" {
        return Some(Exemption::Everything);
    }
    if let Ok(network) = entry.parse() {
        return Some(Exemption::Network(network));
    }
    let ip = entry.trim_matches(['[', ']']).parse::<IpAddr>();
    if let Ok(ip) = ip {
        return Some(Exemption::Network(ip.into()));
    }
    match entry.trim_start_matches("*").trim_start_matches('.').parse() {
        Ok(Host::Name(name)) => Some(Exemption::Domain(name)),
        _ => None,
    }
}

/// The proxy at `url`, unless that is ourselves or nothing we can speak to.
fn usable(url: &str, own: &[SocketAddr]) -> Option<Proxy> {
    let proxy: Proxy = match url.parse() {
        Ok(proxy) => proxy,
        Err(error) => {
            warn!(%error, "cannot use this proxy: going straight to the mirrors");
            return None;
        }
    };
    (!is_ours(own, &proxy.host, proxy.port)).then_some(proxy)
}

/// The scheme of an `Acquire::<scheme>::Proxy…` key and what follows `Proxy`. Keys are case-insensitive.
fn setting_of(key: &str) -> Option<(Scheme, &str)> {
    [("acquire::http::proxy", Scheme::Http), ("acquire::https::proxy", Scheme::Https)]
        .into_iter()
        .find_map(|(prefix, scheme)| {
            let head = key.get(..prefix.len())?;
            head.eq_ignore_ascii_case(prefix).then(|| (scheme, &key[prefix.len()..]))
        })
        .filter(|(_, rest)| rest.is_empty() || rest.starts_with("::"))
}

fn apt_config_dump() -> String {
    match Command::new("apt-config").arg("dump").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => {
            debug!(%error, "cannot ask apt-config for a proxy");
            String::new()
        }
    }
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            (0..3).fold(0_usize, |bits, n| bits << 8 | usize::from(group.get(n).copied().unwrap_or(0)));
        for n in 0..4 {
            let digit = char::from(ALPHABET[bits >> (18 - 6 * n) & 63]);
            text.push(if n <= group.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "127.0.0.1:9977";

    fn own() -> Vec<SocketAddr> {
        vec![OWN.parse().unwrap()]
    }

    fn route(upstream: &Upstream, url: &str) -> Option<String> {
        upstream.route(&Target::parse(url).unwrap()).map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn the_environment_names_the_proxy_and_its_exceptions() {
        let env = |name: &str| match name {
            "http_proxy" => Some("http://proxy.example.org:3128/".to_owned()),
            "https_proxy" => Some("tls.example.org:8080".to_owned()),
            "no_proxy" => Some(".local, example.com,10.0.0.0/8 ,::1".to_owned()),
            _ => None,
        };
        let upstream = Upstream::from_environment(env, &own()).unwrap();
        assert_eq!(route(&upstream, "http://a/"), Some("proxy.example.org:3128".into()));
        assert_eq!(route(&upstream, "https://a/"), Some("tls.example.org:8080".into()));
        for direct in [
            "http://x.local/",
            "http://example.com/",
            "https://a.example.com/",
            "http://10.2.3.4/",
            "http://[::1]/",
        ] {
            assert_eq!(route(&upstream, direct), None, "{direct}");
        }
        assert!(route(&upstream, "http://badexample.com/").is_some());
        assert_eq!(Upstream::from_environment(|_| None, &own()), None);
        let ourselves = |name: &str| (name == "http_proxy").then(|| format!("http://{OWN}"));
        assert_eq!(Upstream::from_environment(ourselves, &own()), None);
        let by_another = |name: &str| (name == "http_proxy").then(|| "http://127.0.0.9:9977".to_owned());
        assert_eq!(Upstream::from_environment(by_another, &["0.0.0.0:9977".parse().unwrap()]), None);
    }

    #[test]
    fn apt_s_own_setting_is_read_with_its_exceptions() {
        let dump = "Acquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://proxy.example.org:3128\";\n\
            Acquire::http::Proxy::deb.example.org \"DIRECT\";\n\
            Acquire::http::Proxy::other.example.org \"http://other:1\";\n\
            Acquire::http::Proxy-Auto-Detect \"/usr/bin/x\";\n";
        let upstream = Upstream::from_apt_config(dump, &own());
        assert_eq!(route(&upstream, "http://a/"), Some("proxy.example.org:3128".into()));
        assert_eq!(route(&upstream, "https://a/"), Some("proxy.example.org:3128".into()));
        assert_eq!(route(&upstream, "http://deb.example.org/"), None);
        assert_eq!(route(&upstream, "http://other.example.org/"), Some("other:1".into()));
        let direct = format!("{dump}Acquire::https::Proxy \"DIRECT\";\n");
        assert_eq!(route(&Upstream::from_apt_config(&direct, &own()), "https://a/"), None);
        let ourselves = format!("Acquire::http::Proxy \"http://{OWN}/\";");
        assert_eq!(Upstream::from_apt_config(&ourselves, &own()), Upstream::default());
    }

    #[test]
    fn a_password_is_sent_and_never_shown() {
        let proxy: Proxy = "http://me:s%40cret@proxy.example.org:3128".parse().unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic bWU6c0BjcmV0");
        assert_eq!(format!("{proxy:?}"), "Proxy(http://proxy.example.org:3128)");
        assert_eq!(["", "f", "fo", "foo"].map(|text| base64(text.as_bytes())), ["", "Zg==", "Zm8=", "Zm9v"]);
        assert!("socks5h://a:1".parse::<UpstreamSetting>().is_err());
        assert_eq!("none".parse(), Ok(UpstreamSetting::None));
    }
}
