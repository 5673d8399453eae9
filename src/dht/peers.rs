//! Who announced which info-hash (BEP 5, `announce_peer`).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::address::is_local;
use super::id::Id;
use super::prefix::Prefix;
use super::shelf::{Room, Shelf};

/// How long a peer is kept that does not announce again. Announcers come every 30 minutes or less.
const EXPIRY: Duration = Duration::from_secs(45 * 60);

/// The most peers of an info-hash: twice what an answer holds, so that answers differ.
const MAX_PEERS: usize = 64;

/// The most peers of one address and info-hash: machines behind one router, or one that changed its port.
const MAX_OF_HOST: usize = 3;

/// The most peers of one provider's block and info-hash: a crowd of one machine's addresses does not push out others.
const MAX_OF_PROVIDER: usize = 16;

/// The peers of info-hashes.
#[derive(Debug)]
pub(super) struct Peers {
    shelf: Shelf<Vec<Peer>>,
    /// The state of [`next_random`].
    random: u64,
}

/// 24 bytes. Times are in seconds since the shelf began.
#[derive(Debug, Clone, Copy)]
struct Peer {
    ip: IpAddr,
    port: u16,
    heard: u32,
}

impl Peers {
    /// What an info-hash takes in memory at most, in bytes: its peers, and the search trees with its name (measured:
    /// 2,080 bytes, or 655 with one peer).
    pub(super) const MAX_SIZE: usize = MAX_PEERS * size_of::<Peer>() + 640;

    /// Room for the peers of so many info-hashes. `seed` decides who is named in which answer.
    pub(super) const fn new(info_hashes: usize, seed: u64, now: Instant) -> Self {
        // What limits the bytes is the number of peers of each.
        let room = Room { entries: info_hashes, bytes: usize::MAX };
        Self { shelf: Shelf::new(room, now), random: seed }
    }

    /// Somebody is a peer of this info-hash now.
    pub(super) fn announce(&mut self, info_hash: Id, peer: SocketAddr, now: Instant) {
        let ip = peer.ip().to_canonical();
        let announced = Peer { ip, port: peer.port(), heard: self.shelf.seconds(now) };
        match self.shelf.refresh(&info_hash, now) {
            Some(peers) => place(peers, announced),
            None => self.shelf.put(info_hash, vec![announced], 0, ip, now),
        }
    }

    /// At most so many peers of an info-hash, others each time. Peers of a local network are named to askers of a local
    /// network only: nobody else could reach them.
    pub(super) fn sample(
        &mut self,
        info_hash: &Id,
        most: usize,
        asker: IpAddr,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let now = self.shelf.seconds(now);
        let Some(peers) = self.shelf.get(info_hash) else { return Vec::new() };
        let reachable = |peer: &&Peer| is_alive(peer, now) && (is_local(asker) || !is_local(peer.ip));
        let mut peers: Vec<_> =
            peers.iter().filter(reachable).map(|peer| SocketAddr::new(peer.ip, peer.port)).collect();
        // The first steps of a Fisher-Yates shuffle.
        for at in 0..most.min(peers.len()) {
            let rest = peers.len() - at;
            #[allow(clippy::cast_possible_truncation, reason = "less than a length")]
            let chosen = (next_random(&mut self.random) % rest as u64) as usize;
            peers.swap(at, at + chosen);
        }
        peers.truncate(most);
        peers
    }

    /// Forgets who did not announce again.
    pub(super) fn expire(&mut self, now: Instant) {
        self.shelf.expire(EXPIRY, now);
        let now = self.shelf.seconds(now);
        for peers in self.shelf.values_mut() {
            let before = peers.len();
            peers.retain(|peer| is_alive(peer, now));
            if peers.len() < before {
                peers.shrink_to_fit();
            }
        }
    }

    pub(super) fn info_hashes(&self) -> usize {
        self.shelf.len()
    }

    /// Of all info-hashes.
    pub(super) fn peers(&self) -> usize {
        self.shelf.values().map(Vec::len).sum()
    }
}

fn is_alive(peer: &Peer, now: u32) -> bool {
    u64::from(now.saturating_sub(peer.heard)) < EXPIRY.as_secs()
}

/// Puts a peer in; who was heard longest ago makes room: of its own address, of its provider, of all.
fn place(peers: &mut Vec<Peer>, new: Peer) {
    if let Some(same) = peers.iter_mut().find(|peer| (peer.ip, peer.port) == (new.ip, new.port)) {
        same.heard = new.heard;
        return;
    }
    make_room(peers, MAX_OF_HOST, |peer| peer.ip == new.ip);
    if !is_local(new.ip) {
        let provider = Prefix::provider(new.ip);
        make_room(peers, MAX_OF_PROVIDER, |peer| Prefix::provider(peer.ip) == provider);
    }
    make_room(peers, MAX_PEERS, |_| true);
    peers.push(new);
}

fn make_room(peers: &mut Vec<Peer>, most: usize, among: impl Fn(&Peer) -> bool) {
    let those = || peers.iter().enumerate().filter(|(_, peer)| among(peer));
    if those().count() >= most
        && let Some((oldest, _)) = those().min_by_key(|(_, peer)| peer.heard)
    {
        peers.remove(oldest);
    }
}

/// The next number of SplitMix64: fair, not secret.
const fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const HASH: Id = Id::new([7; 20]);

    fn asker() -> IpAddr {
        IpAddr::from([8, 8, 8, 8])
    }

    fn peer(a: u8, b: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([20, a, 0, b]), port)
    }

    fn all(peers: &mut Peers, now: Instant) -> BTreeSet<SocketAddr> {
        peers.sample(&HASH, 1000, asker(), now).into_iter().collect()
    }

    #[test]
    fn a_peer_is_named_until_it_is_silent_for_45_minutes() {
        let start = Instant::now();
        let minutes = |count: u64| start + Duration::from_secs(60 * count);
        let mut peers = Peers::new(10, 1, start);
        peers.announce(HASH, peer(1, 1, 80), start);
        peers.announce(HASH, peer(2, 1, 80), start);
        peers.announce(HASH, peer(1, 1, 80), minutes(30));
        assert_eq!(all(&mut peers, minutes(44)).len(), 2);
        assert_eq!(all(&mut peers, minutes(45)), BTreeSet::from([peer(1, 1, 80)]), "before anybody cleaned");
        assert_eq!(peers.peers(), 2);
        peers.expire(minutes(45));
        assert_eq!((peers.info_hashes(), peers.peers()), (1, 1));
        peers.expire(minutes(75));
        assert_eq!((peers.info_hashes(), peers.peers()), (0, 0));
    }

    #[test]
    fn the_peer_heard_longest_ago_makes_room() {
        let start = Instant::now();
        let mut peers = Peers::new(10, 1, start);
        for number in 0..64 {
            peers.announce(HASH, peer(number, 1, 80), start + Duration::from_secs(number.into()));
        }
        let later = start + Duration::from_secs(100);
        peers.announce(HASH, peer(0, 1, 80), later);
        peers.announce(HASH, peer(200, 1, 80), later);
        let all = all(&mut peers, later);
        assert_eq!(all.len(), MAX_PEERS);
        assert!(all.contains(&peer(0, 1, 80)) && all.contains(&peer(200, 1, 80)));
        assert!(!all.contains(&peer(1, 1, 80)));
    }

    #[test]
    fn one_address_and_one_network_have_few_places() {
        let now = Instant::now();
        let mut peers = Peers::new(10, 1, now);
        peers.announce(HASH, peer(1, 1, 80), now);
        for port in 1..1000 {
            peers.announce(HASH, peer(2, 1, port), now);
        }
        assert_eq!(all(&mut peers, now).len(), 1 + MAX_OF_HOST);
        for host in 0..=255 {
            peers.announce(HASH, peer(2, host, 80), now);
        }
        assert_eq!(all(&mut peers, now).len(), 1 + MAX_OF_PROVIDER);
    }

    #[test]
    fn every_peer_is_named_in_some_answer_and_none_twice_in_one() {
        let now = Instant::now();
        let mut peers = Peers::new(10, 1, now);
        (0..50).for_each(|number| peers.announce(HASH, peer(number, 1, 80), now));
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            let sample = peers.sample(&HASH, 10, asker(), now);
            assert_eq!(sample.iter().collect::<BTreeSet<_>>().len(), 10);
            seen.extend(sample);
        }
        assert_eq!(seen.len(), 50);
        assert_eq!(peers.sample(&Id::new([8; 20]), 10, asker(), now), []);
    }

    #[test]
    fn local_peers_are_named_to_local_askers_only() {
        let now = Instant::now();
        let mut peers = Peers::new(10, 1, now);
        let local: SocketAddr = "192.168.1.7:80".parse().unwrap();
        peers.announce(HASH, local, now);
        peers.announce(HASH, "[::ffff:20.1.0.1]:80".parse().unwrap(), now);
        assert_eq!(all(&mut peers, now), BTreeSet::from([peer(1, 1, 80)]));
        let near = peers.sample(&HASH, 10, "192.168.1.8".parse().unwrap(), now);
        assert_eq!(near.len(), 2);
    }

    #[test]
    fn info_hashes_are_bounded() {
        let now = Instant::now();
        let mut peers = Peers::new(100, 1, now);
        for number in 0..10_000_u32 {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&number.to_be_bytes());
            peers.announce(Id::new(id), peer(number as u8, 1, 80), now);
        }
        assert_eq!(peers.info_hashes(), 100);
        assert!(size_of::<Peer>() <= 24);
    }
}
