//! Where we are: the addresses of this machine and those that others see, and whether they became others.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use tokio::sync::watch;
use tracing::{debug, info};

/// Addresses that this machine sends from, of IPv4 and of IPv6; `None` without a way to the world.
pub(super) type Local = [Option<IpAddr>; 2];

/// What is known of our own addresses.
#[derive(Debug)]
pub(super) struct Whereabouts {
    /// How often one turned out to be another.
    moves: watch::Sender<u64>,
    /// The port that is announced as ours; before the first announce that of the socket, which is meant to be the same.
    port: Option<u16>,
    /// What each lane is bound to.
    bound: Vec<SocketAddr>,
    /// The last address of each lane as others see it.
    external: Vec<Option<IpAddr>>,
    /// Those of the last run, by which we are still announced.
    remembered: Vec<IpAddr>,
    local: Local,
    /// The same, but what was known is kept while there is no network.
    last_local: Local,
}

impl Whereabouts {
    /// Lanes that are bound to these, on a machine that has these addresses.
    pub(super) fn new(
        moves: watch::Sender<u64>,
        bound: Vec<SocketAddr>,
        local: Local,
        remembered: Vec<IpAddr>,
    ) -> Self {
        Self {
            moves,
            port: bound.first().map(SocketAddr::port),
            external: vec![None; bound.len()],
            bound,
            remembered,
            local,
            last_local: local,
        }
    }

    /// We tell others that we are to be found at this port.
    pub(super) const fn announced(&mut self, port: u16) {
        self.port = Some(port);
    }

    /// Whether this is where we listen ourselves, as far as we know who we are. An address that we had before is
    /// somebody else's now.
    pub(super) fn is_ourselves(&self, lane: usize, peer: SocketAddr) -> bool {
        let bound = self.bound.get(lane).map(SocketAddr::ip);
        let seen = self.external.get(lane).copied().flatten();
        self.port == Some(peer.port())
            && [bound, seen].iter().chain(&self.local).any(|ip| *ip == Some(peer.ip()))
    }

    /// These are the addresses of this machine now. Says whether there is another network, or one again. Of an address
    /// behind a router that says nothing: the nodes are to be asked anew, from whom it comes.
    pub(super) fn note_local(&mut self, now: Local) -> bool {
        let before = std::mem::replace(&mut self.local, now);
        let is_new = now.iter().zip(before).any(|(ip, before)| ip.is_some() && *ip != before);
        if is_new {
            debug!(addresses = ?now, "another network");
        }
        let mut moved = false;
        for (now, last) in now.iter().zip(&mut self.last_local) {
            moved |= now.is_some() && last.is_some() && now != last;
            *last = now.or(*last);
        }
        if moved {
            self.moves.send_modify(|moves| *moves += 1);
        }
        is_new
    }

    /// The addresses by which others see us, as far as they are known; those of the last run where they are not.
    pub(super) fn to_remember(&self) -> Vec<IpAddr> {
        let now: Vec<IpAddr> = self.external.iter().flatten().copied().collect();
        let missing = self.remembered.iter().filter(|old| now.iter().all(|ip| ip.is_ipv4() != old.is_ipv4()));
        now.iter().chain(missing).copied().collect()
    }

    /// Others see this lane at this address now.
    pub(super) fn note_external(&mut self, lane: usize, external: IpAddr) {
        let Some(known) = self.external.get_mut(lane) else { return };
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == external.is_ipv4();
        let before = known.replace(external).or_else(|| self.remembered.iter().find(same_family).copied());
        if let Some(before) = before.filter(|before| *before != external) {
            info!(%before, now = %external, "our address changed");
            self.moves.send_modify(|moves| *moves += 1);
        }
    }
}

/// The addresses that datagrams to the world would be sent from. Nothing is sent.
pub(super) fn local_addresses() -> Local {
    // Addresses that nobody has (RFC 5737, RFC 3849) lie where all the others do.
    let ways: [(SocketAddr, SocketAddr); 2] = [
        (([0; 4], 0).into(), ([192, 0, 2, 1], 9).into()),
        (([0; 16], 0).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into()),
    ];
    ways.map(|(any, there)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(there).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [9, 9, 9, last].into()
    }

    fn at(local: Local) -> (Whereabouts, watch::Receiver<u64>) {
        let (moves, told) = watch::channel(0);
        (Whereabouts::new(moves, vec![([0; 4], 9979).into()], local, Vec::new()), told)
    }

    #[test]
    fn a_network_that_comes_is_no_move_and_another_is() {
        let (mut we, moves) = at([None; 2]);
        assert!(!we.note_local([None; 2]));
        assert!(we.note_local([Some(ip(1)), None]), "it came");
        assert!(!we.note_local([None; 2]), "it went");
        assert!(we.note_local([Some(ip(1)), None]), "it came back");
        assert_eq!(*moves.borrow(), 0);
        assert!(we.note_local([Some(ip(2)), None]));
        assert_eq!(*moves.borrow(), 1);
        we.note_local([None; 2]);
        assert!(we.note_local([Some(ip(3)), Some([9; 16].into())]));
        assert_eq!(*moves.borrow(), 2);
    }

    #[test]
    fn to_be_seen_elsewhere_is_a_move() {
        let (mut we, moves) = at([None; 2]);
        we.note_external(0, ip(1));
        we.note_external(0, ip(1));
        assert_eq!(*moves.borrow(), 0, "to be seen at all is none");
        we.note_external(0, ip(2));
        assert_eq!(*moves.borrow(), 1);
    }

    #[test]
    fn to_start_elsewhere_is_a_move() {
        for (last, wanted) in [(ip(1), 0), (ip(2), 1), ([9; 16].into(), 0)] {
            let (moves, told) = watch::channel(0);
            let bound = vec![([0; 4], 9979).into()];
            let mut we = Whereabouts::new(moves, bound, [None; 2], vec![last]);
            assert_eq!(we.to_remember(), [last]);
            we.note_external(0, ip(1));
            assert_eq!(*told.borrow(), wanted, "{last}");
            assert_eq!(we.to_remember()[0], ip(1));
        }
    }

    #[test]
    fn we_are_where_we_listen_and_where_we_say_so() {
        let (mut we, _moves) = at([Some(ip(1)), None]);
        we.note_external(0, ip(2));
        let peer = |last, port| SocketAddr::new(ip(last), port);
        assert!(we.is_ourselves(0, peer(1, 9979)) && we.is_ourselves(0, peer(2, 9979)));
        assert!(!we.is_ourselves(0, peer(2, 9980)) && !we.is_ourselves(0, peer(3, 9979)));
        assert!(!we.is_ourselves(1, peer(2, 9979)), "the other family's");
        we.announced(9980);
        assert!(we.is_ourselves(0, peer(2, 9980)) && !we.is_ourselves(0, peer(2, 9979)));
        we.note_external(0, ip(4));
        assert!(!we.is_ourselves(0, peer(2, 9980)));
    }
}
