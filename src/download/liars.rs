//! Whether a stranger's address as a whole has been found to lie, whatever the port.

use std::net::SocketAddr;
use std::time::Instant;

use crate::discovery::Provider;
use crate::http::origin;
use crate::swarm::{PeerKind, Scoreboard};

/// So many banned ports of one IPv4 address, or of one IPv6 /64, are no accident of one of several who share it: it costs
/// a liar nothing to open the next port.
const PORTS: usize = 2;

/// Whether nobody at this peer's address is to be asked. Neighbours are the user's own choice and answer for themselves;
/// so does everybody on a loopback address, where each port is somebody else's. It ends with the bans that it is made of,
/// and is remembered with them.
pub(super) fn is_den(scores: &Scoreboard<SocketAddr>, peer: &Provider, now: Instant) -> bool {
    let place = origin(peer.address.ip());
    if peer.kind == PeerKind::Neighbour || place.is_loopback() {
        return false;
    }
    scores.banned(now).filter(|banned| origin(banned.ip()) == place).take(PORTS).count() == PORTS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::swarm::PeerFault;

    fn stranger(address: &str) -> Provider {
        Provider { address: address.parse().unwrap(), kind: PeerKind::Stranger }
    }

    #[test]
    fn a_second_liar_at_an_address_speaks_for_all_its_ports() {
        for [first, second, third, other] in [
            ["9.1.1.1:1", "9.1.1.1:2", "9.1.1.1:3", "9.1.1.2:3"],
            ["[2a01:1:1:1::1]:1", "[2a01:1:1:1::2]:1", "[2a01:1:1:1:ffff::]:9", "[2a01:1:1:2::1]:1"],
        ] {
            let (mut scores, start) = (Scoreboard::default(), Instant::now());
            let is_out = |scores: &_, peer, after| is_den(scores, &stranger(peer), start + after);
            scores.faulted(&first.parse().unwrap(), PeerFault::WrongPiece, start);
            scores.faulted(&first.parse().unwrap(), PeerFault::WrongPiece, start);
            assert!(!is_out(&scores, third, Duration::ZERO), "one liar speaks for himself");
            scores.faulted(&second.parse().unwrap(), PeerFault::Stalled, start);
            assert!(!is_out(&scores, third, Duration::ZERO), "bad luck is no lie");
            scores.faulted(&second.parse().unwrap(), PeerFault::WrongList, start);
            assert!(is_out(&scores, third, Duration::ZERO));
            assert!(!is_out(&scores, other, Duration::ZERO));
            let chosen = Provider { kind: PeerKind::Neighbour, ..stranger(third) };
            assert!(!is_den(&scores, &chosen, start), "chosen by the user");
            assert!(!is_out(&scores, third, Duration::from_secs(3601)), "one of the bans is over");
        }
    }

    #[test]
    fn on_loopback_each_port_is_somebody_else() {
        let (mut scores, start) = (Scoreboard::default(), Instant::now());
        for port in 1..9 {
            scores.faulted(&([127, 0, 0, 1], port).into(), PeerFault::WrongPiece, start);
        }
        assert!(!is_den(&scores, &stranger("127.0.0.1:99"), start));
    }
}
