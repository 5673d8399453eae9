//! Which of the peers that are found a download takes, so that a flood of addresses costs nothing.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::dht::is_dialable;
use crate::discovery::Provider;
use crate::http::leads_to;
use crate::mirror::is_public;
use crate::peer::is_near;
use crate::swarm::{Group, PeerKind};

/// Strangers of one network in one download at a time: a few, for one of them may be down; more are one host's word anyway.
const PER_GROUP: u32 = 4;

/// Strangers in one download at a time: several times more than it can ask at a time.
const STRANGERS: usize = 32;

/// Strangers that one download has to do with from its beginning to its end: whoever is gone makes room for another, but not
/// without end, for somebody may name thousands of addresses of others.
const ALL_STRANGERS: usize = 128;

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
    /// Those that are not gone.
    strangers: HashSet<SocketAddr>,
    /// Those that there were.
    all_strangers: usize,
}

impl Borders {
    fn permit(&self, provider: &Provider) -> bool {
        let address = provider.address;
        let ip = address.ip().to_canonical();
        let reachable = provider.kind == PeerKind::Neighbour
            || if self.lan_only { is_near(ip) } else { self.allow_private || is_public(ip) };
        is_dialable(address) && reachable && !leads_to(&self.own, address)
    }
}

impl Admission {
    /// Whether the download takes this peer, which it then knows. It takes each once, however it fares.
    pub(super) fn admit(&mut self, provider: &Provider, borders: &Borders) -> bool {
        let address = canonical(provider);
        if self.known.len() >= PEERS || self.known.contains(&address) || !borders.permit(provider) {
            return false;
        }
        if provider.kind == PeerKind::Stranger {
            if !self.has_room() {
                return false;
            }
            let group = self.groups.entry(Group::of(address.ip())).or_default();
            if *group >= PER_GROUP {
                return false;
            }
            *group += 1;
            self.strangers.insert(address);
            self.all_strangers += 1;
        }
        self.known.insert(address)
    }

    /// Whether there is room for a stranger.
    pub(super) fn has_room(&self) -> bool {
        self.strangers.len() < STRANGERS && self.all_strangers < ALL_STRANGERS
    }

    /// A peer is gone: another stranger may have its place. It does not come back itself.
    pub(super) fn release(&mut self, provider: &Provider) {
        let address = canonical(provider);
        if !self.strangers.remove(&address) {
            return;
        }
        let group = Group::of(address.ip());
        let Some(count) = self.groups.get_mut(&group) else { return };
        *count -= 1;
        if *count == 0 {
            self.groups.remove(&group);
        }
    }
}

fn canonical(provider: &Provider) -> SocketAddr {
    SocketAddr::new(provider.address.ip().to_canonical(), provider.address.port())
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
    fn whoever_is_gone_makes_room_and_a_flood_of_them_ends() {
        let (mut admission, borders) = (Admission::default(), Borders::default());
        let of_one: Vec<_> = (1..=4).map(|host| stranger(&format!("9.1.1.{host}:1"))).collect();
        assert!(of_one.iter().all(|peer| admission.admit(peer, &borders)));
        let fifth = stranger("9.1.1.5:1");
        assert!(!admission.admit(&fifth, &borders));
        admission.release(&of_one[0]);
        admission.release(&of_one[0]);
        assert!(!admission.admit(&of_one[0], &borders), "itself does not come back");
        assert!(admission.admit(&fifth, &borders));
        assert!(!admission.admit(&stranger("9.1.1.6:1"), &borders), "one place for one");

        let flood = (0..9999_u32).map(|host| stranger(&format!("9.{}.{}.1:1", 2 + host / 250, host % 250)));
        let mut admitted = 5;
        for peer in flood {
            if admission.admit(&peer, &borders) {
                admitted += 1;
                admission.release(&peer);
            }
        }
        assert_eq!(admitted, ALL_STRANGERS);
        assert!(!admission.has_room());
        assert!(admission.known.len() <= PEERS && admission.groups.len() == 1);
        assert!(admission.admit(&neighbour("10.0.0.1:1"), &borders), "neighbours have their own places");
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
