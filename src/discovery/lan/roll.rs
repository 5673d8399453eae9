//! Who is there: what the network tells, less those who do not answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::LanPeer;
use crate::dht::{is_dialable, is_local};
use crate::swarm::{Group, NodeId};

/// Nodes that are known at a time: more than any local network has, and what a flood of announcements can bring in at most.
/// Who is known is not driven out by who comes later.
const MOST: usize = 256;

/// Nodes at one address: a few containers may share it.
const PER_ADDRESS: usize = 4;

/// Addresses of one node that are tried one after the other.
const ADDRESSES: usize = 4;

/// So many connections in a row that were not made: it is gone, or at this address it never was.
const REFUSALS: u32 = 3;

/// A node that is gone, and of which the network still tells the same, is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(300);

/// The nodes of the local network.
#[derive(Debug)]
pub(super) struct Roll {
    own: NodeId,
    nodes: BTreeMap<NodeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Never empty, the best first.
    addresses: Vec<SocketAddr>,
    /// Which of them is in use.
    at: usize,
    /// What the network told last.
    run: String,
    refusals: u32,
    gone_until: Option<Instant>,
}

impl Entry {
    fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.at).copied()
    }

    fn is_present(&self, now: Instant) -> bool {
        self.gone_until.is_none_or(|until| now >= until)
    }
}

impl Roll {
    pub(super) const fn new(own: NodeId) -> Self {
        Self { own, nodes: BTreeMap::new() }
    }

    /// The network tells where a node is; `run` is another after each of its starts. `ours` are our own addresses. Says
    /// whether it is taken.
    pub(super) fn seen(&mut self, id: NodeId, run: &str, told: &[SocketAddr], ours: &[IpAddr]) -> bool {
        let mut addresses: Vec<SocketAddr> = told.iter().copied().filter(|at| is_here(*at, ours)).collect();
        addresses.sort_by_key(|address| (worth(address.ip()), *address));
        addresses.truncate(ADDRESSES);
        if id == self.own || addresses.is_empty() {
            return false;
        }
        if let Some(known) = self.nodes.get_mut(&id) {
            if known.addresses != addresses || known.run != run {
                *known = Entry { addresses, at: 0, run: run.to_owned(), refusals: 0, gone_until: None };
            }
            return true;
        }
        let shares = |entry: &&Entry| entry.addresses.iter().any(|at| at.ip() == addresses[0].ip());
        if self.nodes.len() >= MOST || self.nodes.values().filter(shares).count() >= PER_ADDRESS {
            return false;
        }
        self.nodes.insert(id, Entry { addresses, at: 0, run: run.to_owned(), refusals: 0, gone_until: None });
        true
    }

    /// It has said good-bye, or what it told is too long ago.
    pub(super) fn left(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }

    /// Nothing that was told holds any more.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
    }

    /// Somebody answered at this address.
    pub(super) fn answered(&mut self, address: SocketAddr) {
        if let Some((_, entry)) = self.entry_at(address) {
            (entry.refusals, entry.gone_until) = (0, None);
        }
    }

    /// No connection could be made to this address. The node that is gone for all we know, if this is the last of so many;
    /// where it has another address, that one is tried next.
    pub(super) fn unreachable(&mut self, address: SocketAddr, now: Instant) -> Option<NodeId> {
        let (id, entry) = self.entry_at(address)?;
        entry.refusals += 1;
        if entry.refusals < REFUSALS {
            return None;
        }
        (entry.refusals, entry.at) = (0, (entry.at + 1) % entry.addresses.len());
        if entry.at == 0 {
            entry.gone_until = Some(now + TRY_AGAIN);
        }
        Some(id)
    }

    /// Those that are there.
    pub(super) fn present(&self, now: Instant) -> impl Iterator<Item = LanPeer> {
        let present = self.nodes.iter().filter(move |(_, entry)| entry.is_present(now));
        present.filter_map(|(id, entry)| Some(LanPeer { id: *id, address: entry.address()? }))
    }

    fn entry_at(&mut self, address: SocketAddr) -> Option<(NodeId, &mut Entry)> {
        let mut nodes = self.nodes.iter_mut();
        nodes.find(|(_, entry)| entry.address() == Some(address)).map(|(id, entry)| (*id, entry))
    }
}

/// Whether a node of the local network can be at this address. Anybody can tell any address; one of the world is believed
/// only where we have one of the same network. Link-local addresses of IPv6 mean nothing without their interface, which a
/// URL cannot name (RFC 9844).
fn is_here(address: SocketAddr, ours: &[IpAddr]) -> bool {
    let ip = address.ip();
    let scoped = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let near = is_local(ip) || ours.iter().any(|own| Group::of(*own) == Group::of(ip));
    is_dialable(address) && !ip.is_loopback() && !scoped && near
}

/// The address that is tried first has the least.
fn worth(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(v4) if !v4.is_link_local() => 0,
        IpAddr::V6(_) => 1,
        IpAddr::V4(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number.to_be_bytes())
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn present(roll: &Roll, now: Instant) -> Vec<String> {
        roll.present(now).map(|peer| peer.address.to_string()).collect()
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_offered_again_when_it_is_seen_anew() {
        let (mut roll, now) = (Roll::new(id(0)), Instant::now());
        let address = at("192.168.1.2:9979");
        assert!(roll.seen(id(1), "a", &[address], &[]));
        assert_eq!(roll.unreachable(address, now), None);
        roll.answered(address);
        assert!((1..REFUSALS).all(|_| roll.unreachable(address, now).is_none()), "in a row, that is");
        assert_eq!(roll.unreachable(address, now), Some(id(1)));
        assert!(present(&roll, now).is_empty());
        roll.seen(id(1), "a", &[address], &[]);
        assert!(present(&roll, now).is_empty(), "what was told before is nothing new");
        assert_eq!(present(&roll, now + TRY_AGAIN).len(), 1);
        roll.seen(id(1), "b", &[address], &[]);
        assert_eq!(present(&roll, now).len(), 1, "it was started again");
        roll.left(id(1));
        assert!(present(&roll, now).is_empty());
    }

    #[test]
    fn each_address_of_a_node_has_its_turn() {
        let (mut roll, now) = (Roll::new(id(0)), Instant::now());
        roll.seen(id(1), "", &[at("[fd00::1]:1"), at("169.254.1.1:1"), at("10.0.0.1:1")], &[]);
        for expected in ["10.0.0.1:1", "[fd00::1]:1", "169.254.1.1:1"] {
            assert_eq!(present(&roll, now), [expected]);
            (0..REFUSALS).for_each(|_| _ = roll.unreachable(at(expected), now));
        }
        assert!(present(&roll, now).is_empty());
        assert_eq!(present(&roll, now + TRY_AGAIN), ["10.0.0.1:1"]);
    }

    #[test]
    fn addresses_that_cannot_be_here_are_not_believed() {
        let mut roll = Roll::new(id(0));
        let ours = ["198.18.5.1".parse().unwrap()];
        for wrong in ["127.0.0.1:1", "[::1]:1", "192.168.1.1:0", "224.0.0.1:1", "8.8.8.8:1", "[fe80::1]:1"] {
            assert!(!roll.seen(id(1), "", &[at(wrong)], &ours), "{wrong}");
        }
        assert!(roll.seen(id(1), "", &[at("198.18.5.77:1")], &ours), "a local network of public addresses");
        assert!(!roll.seen(id(0), "", &[at("10.0.0.1:1")], &ours), "that is us");
    }

    #[test]
    fn a_flood_is_bounded_and_drives_nobody_out() {
        let (mut roll, now) = (Roll::new(id(0)), Instant::now());
        assert!(roll.seen(id(1), "", &[at("10.0.0.1:9979")], &[]));
        for number in 2..5000 {
            let address = SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 9979));
            roll.seen(id(number), "", &[address], &[]);
        }
        assert_eq!(roll.present(now).count(), MOST);
        assert_eq!(present(&roll, now)[0], "10.0.0.1:9979");
        roll.clear();
        (1..100).for_each(|number| _ = roll.seen(id(number), "", &[at("10.0.0.1:9979")], &[]));
        assert_eq!(roll.present(now).count(), PER_ADDRESS);
    }
}
