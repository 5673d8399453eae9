//! Whether others can reach us, from what is known. Decides only.

use std::net::IpAddr;

use crate::dht::is_local;

/// Whether others can reach the peer port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachable {
    /// Yes, and how we know.
    Yes(&'static str),
    /// No, and how we know.
    No(&'static str),
    /// Nobody knows.
    Unknown,
}

impl Reachable {
    /// `yes`, `no` or `unknown`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes(_) => "yes",
            Self::No(_) => "no",
            Self::Unknown => "unknown",
        }
    }

    /// How we know.
    pub const fn why(self) -> Option<&'static str> {
        match self {
            Self::Yes(why) | Self::No(why) => Some(why),
            Self::Unknown => None,
        }
    }
}

/// What is known.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The peer port is served at all.
    pub listens: bool,
    /// Somebody has come from an address that the internet knows.
    pub visited: bool,
    /// A router keeps a port open; `None` where none was asked, or has not answered yet.
    pub mapped: Option<bool>,
    /// The addresses of this machine towards the world.
    pub own: Vec<IpAddr>,
    /// The addresses by which nodes of the DHT see us.
    pub seen: Vec<IpAddr>,
}

impl Evidence {
    /// What it comes to. A router that was not asked may have been told by hand: then nobody knows.
    pub fn verdict(&self) -> Reachable {
        let public = |ip: &IpAddr| !is_local(*ip) && !ip.is_unspecified();
        let behind = self.seen.iter().any(|seen| public(seen) && !self.own.contains(seen));
        if !self.listens {
            Reachable::No("network.listen is empty")
        } else if self.visited {
            Reachable::Yes("somebody has connected from a public address")
        } else if self.mapped == Some(true) {
            Reachable::Yes("the router keeps a port open")
        } else if self.own.iter().any(public) {
            Reachable::Yes("this machine has a public address")
        } else if self.mapped == Some(false) && behind {
            Reachable::No("behind a router that opens no port")
        } else {
            Reachable::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_certainly_shut_off_is_told_so() {
        let home = Evidence {
            listens: true,
            own: vec![[192, 168, 1, 5].into()],
            seen: vec![[8, 8, 4, 4].into()],
            ..Evidence::default()
        };
        assert_eq!(home.verdict(), Reachable::Unknown, "a port may have been opened by hand");
        let asked = Evidence { mapped: Some(false), ..home.clone() };
        assert_eq!(asked.verdict().as_str(), "no");
        assert_eq!(Evidence { visited: true, ..asked.clone() }.verdict().as_str(), "yes");
        assert_eq!(Evidence { mapped: Some(true), ..asked.clone() }.verdict().as_str(), "yes");
        assert_eq!(Evidence { own: vec![[8, 8, 4, 4].into()], ..asked.clone() }.verdict().as_str(), "yes");
        let lan = Evidence { seen: vec![[192, 168, 1, 5].into()], ..asked.clone() };
        assert_eq!(lan.verdict(), Reachable::Unknown, "a network of one's own");
        assert_eq!(Evidence { listens: false, ..asked }.verdict().as_str(), "no");
    }
}
