//! Which hosts may be asked, and at which addresses. Decides only; names are resolved elsewhere.
//!
//! The proxy does what any program on this machine tells it to, and a mirror may redirect to wherever it likes: without
//! this, either could reach into the local network, or read a cloud machine's metadata, by way of us.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::target::{Host, TargetError};
use crate::http::leads_to;

/// Who may be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// `mirrors.allow`; empty allows every host.
    pub allow: Vec<Pattern>,
    /// `mirrors.allow_private`.
    pub allow_private: bool,
    /// The hosts that apt's own sources name: apt would go there without us.
    pub named: HashSet<Host>,
    /// Where we listen ourselves: asking there would never end.
    pub own: Vec<SocketAddr>,
}

/// One entry of `mirrors.allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This host, wherever it is.
    Exact(Host),
    /// `*.example.org`: every name below; holds `.example.org`.
    Below(String),
}

impl FromStr for Pattern {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.strip_prefix("*.") {
            Some(domain) => match domain.parse()? {
                Host::Name(name) => Ok(Self::Below(format!(".{name}"))),
                Host::Address(_) => Err(TargetError::Host(text.to_owned())),
            },
            None => text.parse().map(Self::Exact),
        }
    }
}

impl Pattern {
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(exact), host) => exact == host,
            (Self::Below(domain), Host::Name(name)) => name.ends_with(domain.as_str()),
            (Self::Below(_), Host::Address(_)) => false,
        }
    }
}

/// Why a host is not asked: 403 for the client, with what to set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another host than `mirrors.allow` lists.
    #[error("{0} is not in mirrors.allow")]
    NotAllowed(Host),
    /// At an address that is not on the public internet.
    #[error(
        "{host} is at the non-public address {address}: name it in apt's sources or in mirrors.allow, or set \
         mirrors.allow_private"
    )]
    NotPublic {
        /// Who was to be asked.
        host: Host,
        /// Where it is.
        address: IpAddr,
    },
    /// At an address where no server can be, or at our own.
    #[error("{host} is at {address}, which is no mirror's address")]
    NoMirror {
        /// Who was to be asked.
        host: Host,
        /// Where it is.
        address: SocketAddr,
    },
}

impl Policy {
    /// Whether `host` may be asked at all; its addresses are still to be seen.
    pub fn permit_host(&self, host: &Host) -> Result<(), Refusal> {
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| pattern.matches(host)) {
            return Err(Refusal::NotAllowed(host.clone()));
        }
        match host {
            Host::Name(_) => Ok(()),
            Host::Address(ip) => self.permit_reach(host, *ip),
        }
    }

    /// Whether `host` may be asked at `address`, to which its name led.
    pub fn permit_address(&self, host: &Host, address: SocketAddr) -> Result<(), Refusal> {
        let ip = address.ip().to_canonical();
        if ip.is_unspecified() || ip.is_multicast() || leads_to(&self.own, address) {
            return Err(Refusal::NoMirror { host: host.clone(), address });
        }
        self.permit_reach(host, ip)
    }

    fn permit_reach(&self, host: &Host, ip: IpAddr) -> Result<(), Refusal> {
        // Whoever names a host itself knows where it is; a wildcard or a redirect does not.
        let named = || self.named.contains(host) || self.allow.contains(&Pattern::Exact(host.clone()));
        if self.allow_private || is_public(ip) || named() {
            return Ok(());
        }
        Err(Refusal::NotPublic { host: host.clone(), address: ip })
    }
}

/// Whether a URL with this host and port leads back to one of our listeners, as far as the name tells.
pub(super) fn is_ours(listeners: &[SocketAddr], host: &Host, port: u16) -> bool {
    match host {
        Host::Name(name) => name == "localhost" && listeners.iter().any(|own| own.port() == port),
        Host::Address(ip) => leads_to(listeners, SocketAddr::new(*ip, port)),
    }
}

/// What the names of hosts end in that the internet does not know: RFC 6761, RFC 6762, RFC 8375, and what networks of
/// companies and homes use (ICANN SAC 113 has kept `internal` for them).
const PRIVATE_ENDS: &[&str] =
    &["localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "home.arpa", "test"];

/// Whether a name looks as if only a local network knew it, where its addresses cannot be seen.
pub(super) fn is_private_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let ends = |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !name.contains('.') || PRIVATE_ENDS.iter().copied().any(ends)
}

/// Whether an address is one that anybody on the internet may reach (IANA special-purpose registries, RFC 6890).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local() // 169.254.169.254 is where clouds keep their secrets.
        || v4.is_documentation()
        || v4.is_multicast()
        || matches!((a, b, c), (0, ..) | (240.., ..) | (100, 64..=127, _) | (198, 18..=19, _) | (192, 0, 0));
    !special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // An IPv4 address in disguise is what it disguises: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0xdb8, ..] | [0x2001, 0..=0x1ff, ..] => false,
        // Global unicast; loopback, ULA, link-local, site-local, multicast and the rest lie outside.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 80)
    }

    #[test]
    fn names_of_local_networks_are_told_by_their_ends() {
        for private in ["mirror", "localhost", "mirror.local", "deb.corp.", "a.b.internal", "x.home.arpa"] {
            assert!(is_private_name(private), "{private}");
        }
        for public in ["deb.example.org", "local.example.org", "mylan.example", "notlocal.net"] {
            assert!(!is_private_name(public), "{public}");
        }
    }

    #[test]
    fn only_public_addresses_are_public() {
        for public in ["1.1.1.1", "151.101.2.132", "2a04:4e42::644", "64:ff9b::101:101", "2002:101:101::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "2001:db8::1",
            "2001::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::fb",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn without_a_list_any_public_mirror_may_be_asked() {
        let policy = Policy::default();
        assert!(policy.permit_host(&host("deb.example.org")).is_ok());
        assert!(policy.permit_address(&host("deb.example.org"), at("1.1.1.1")).is_ok());
        let refusal = policy.permit_address(&host("deb.example.org"), at("10.0.0.1")).unwrap_err();
        assert!(refusal.to_string().contains("mirrors.allow_private"), "{refusal}");
        assert!(policy.permit_host(&host("169.254.169.254")).is_err());
        assert!(policy.permit_host(&host("[::ffff:127.0.0.1]")).is_err());
        let open = Policy { allow_private: true, ..Policy::default() };
        assert!(open.permit_address(&host("deb.example.org"), at("10.0.0.1")).is_ok());
    }

    #[test]
    fn a_host_that_is_named_may_be_private() {
        let policy = Policy { named: [host("cache.lan"), host("10.0.0.5")].into(), ..Policy::default() };
        assert!(policy.permit_address(&host("cache.lan"), at("10.0.0.1")).is_ok());
        assert!(policy.permit_host(&host("10.0.0.5")).is_ok());
        assert!(policy.permit_address(&host("other.lan"), at("10.0.0.1")).is_err());
        assert!(policy.permit_address(&host("cache.lan"), at("0.0.0.0")).is_err());
    }

    #[test]
    fn a_list_allows_what_it_lists_and_nothing_else() {
        let allow = ["deb.example.org", "*.example.net"].map(|text| text.parse().unwrap()).to_vec();
        let policy = Policy { allow, named: [host("named.example.com")].into(), ..Policy::default() };
        for allowed in ["deb.example.org", "DEB.example.org.", "a.example.net", "a.b.example.net"] {
            assert!(policy.permit_host(&host(allowed)).is_ok(), "{allowed}");
        }
        for other in ["example.net", "badexample.net", "x.deb.example.org", "named.example.com", "1.1.1.1"] {
            let refusal = policy.permit_host(&host(other)).unwrap_err();
            assert!(refusal.to_string().ends_with("is not in mirrors.allow"), "{refusal}");
        }
        assert!(policy.permit_address(&host("deb.example.org"), at("10.0.0.1")).is_ok());
        assert!(policy.permit_address(&host("a.example.net"), at("10.0.0.1")).is_err());
        for bad in ["", "*", "*.", "a.*.org", "http://a/", "*.10.0.0.1"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn our_own_address_is_never_a_mirror() {
        let own = vec!["127.0.0.1:9977".parse().unwrap(), "0.0.0.0:9979".parse().unwrap()];
        let policy = Policy { own, allow_private: true, ..Policy::default() };
        let localhost = host("localhost");
        for own in ["127.0.0.1:9977", "127.0.0.1:9979", "[::ffff:127.0.0.1]:9977", "127.0.0.9:9979"] {
            assert!(policy.permit_address(&localhost, own.parse().unwrap()).is_err(), "{own}");
        }
        assert!(policy.permit_address(&localhost, "127.0.0.1:80".parse().unwrap()).is_ok());
    }
}
