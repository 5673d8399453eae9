//! Which of the peers that are found a download takes, so that a flood of addresses costs nothing.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::dht::is_dialable;
use crate::discovery::Provider;
use crate::mirror::is_public;
use crate::peer::is_near;
use crate::swarm::{Group, PeerKind};

/// Strangers of one network in one download: a few, for one of them may be down; more are one host's word anyway.
const PER_GROUP: u32 = 4;

/// Strangers in one download: several times more than it can ask at a time.
const STRANGERS: u32 = 32;

/// Peers in one download, neighbours and all: nobody has so many, but somebody may claim it.
const PEERS: usize = 256;

/// Where not to look for peers.
#[derive(Debug, Clone, Default)]
pub(super) struct Borders {
    /// Where we serve peers ourselves.
    pub(super) own: Vec<SocketAddr>,
    /// Strangers may be at addresses that the internet does not reach.
    pub(super) allow_private: bool,
    /// Strangers may be on the local network and nowhere else.
    pub(super) lan_only: bool,
}

/// The peers that one download knows.
#[derive(Debug, Default)]
pub(super) struct Admission {
    known: HashSet<SocketAddr>,
    groups: HashMap<Group, u32>,
    strangers: u32,
}

impl Borders {
    fn permit(&self, provider: &Provider) -> bool {
        let address = provider.address;
        let ip = address.ip().to_canonical();
        let reachable = provider.kind == PeerKind::Neighbour
            || if self.lan_only { is_near(ip) } else { self.allow_private || is_public(ip) };
        is_dialable(address) && reachable && !self.is_own(address)
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.own.iter().any(|own| {
            let same = own.ip().to_canonical() == ip || (own.ip().is_unspecified() && ip.is_loopback());
            same && own.port() == address.port()
        })
    }
}

impl Admission {
    /// Whether the download takes this peer, which it then knows. It takes each once, however it fares.
    pub(super) fn admit(&mut self, provider: &Provider, borders: &Borders) -> bool {
        let address = SocketAddr::new(provider.address.ip().to_canonical(), provider.address.port());
        if self.known.len() >= PEERS || self.known.contains(&address) || !borders.permit(provider) {
            return false;
        }
        if provider.kind == PeerKind::Stranger {
            if self.strangers >= STRANGERS {
                return false;
            }
            let group = self.groups.entry(Group::of(address.ip())).or_default();
            if *group >= PER_GROUP {
                return false;
            }
            *group += 1;
            self.strangers += 1;
        }
        self.known.insert(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(address: &str) -> Provider {
        Provider { address: address.parse().unwrap(), kind: PeerKind::Stranger }
    }

    fn neighbour(address: &str) -> Provider {
        Provider { kind: PeerKind::Neighbour, ..stranger(address) }
    }

    #[test]
    fn a_flood_of_strangers_is_bounded_by_network_and_altogether() {
        let (mut admission, borders) = (Admission::default(), Borders::default());
        let of_one = (1..=40).filter(|host| admission.admit(&stranger(&format!("9.1.1.{host}:1")), &borders));
        assert_eq!(of_one.count(), 4);
        let of_many = (1..=99).filter(|net| admission.admit(&stranger(&format!("9.2.{net}.1:1")), &borders));
        assert_eq!(of_many.count(), 28);
        assert_eq!(admission.groups.len(), 29, "what is refused leaves little behind");
        assert!(admission.admit(&neighbour("9.1.1.99:1"), &borders), "a neighbour is no stranger");
        assert!(!admission.admit(&neighbour("9.1.1.99:1"), &borders), "once");
        assert!(!admission.admit(&stranger("[::ffff:9.1.1.99]:1"), &borders), "in disguise");
    }

    #[test]
    fn neighbours_are_bounded_too() {
        let (mut admission, borders) = (Admission::default(), Borders::default());
        let some =
            (1..2000).filter(|port| admission.admit(&neighbour(&format!("10.0.0.1:{port}")), &borders));
        assert_eq!(some.count(), PEERS);
    }

    #[test]
    fn an_ipv6_network_is_a_48() {
        let (mut admission, borders) = (Admission::default(), Borders::default());
        let admitted =
            (0..9).filter(|net| admission.admit(&stranger(&format!("[2a01:1:1:{net}::1]:1")), &borders));
        assert_eq!(admitted.count(), 4);
    }

    #[test]
    fn nobody_sends_us_to_our_own_network_to_ourselves_or_nowhere() {
        let own = vec!["0.0.0.0:9979".parse().unwrap(), "203.0.112.7:9979".parse().unwrap()];
        let mut borders = Borders { own, ..Borders::default() };
        let mut admission = Admission::default();
        let mut refused = |addresses: &[&str], borders: &Borders| {
            let admitted = addresses.iter().find(|address| admission.admit(&stranger(address), borders));
            assert_eq!(admitted, None);
        };
        refused(&["10.0.0.1:9979", "127.0.0.1:1", "192.168.1.1:80", "[fe80::1]:1", "[fd00::1]:1"], &borders);
        let never = ["127.0.0.1:9979", "203.0.112.7:9979", "9.9.9.9:0", "0.0.0.0:1", "224.0.0.1:1", "[::]:1"];
        refused(&never, &borders);
        borders.allow_private = true;
        refused(&never, &borders);
        assert!(admission.admit(&stranger("10.0.0.1:9979"), &borders));
        assert!(Admission::default().admit(&neighbour("192.168.1.1:9979"), &Borders::default()));
    }
}
