//! `/peers`: what is known of each peer.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::swarm::{PeerKind, Reputation};

/// A peer that we know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Acquaintance {
    /// Where it is.
    pub address: SocketAddr,
    /// Where we know it from.
    pub way: Way,
    /// What is known of it.
    pub reputation: Reputation,
    /// How many objects it said it holds, and how old that is; `None` where it has told nothing.
    pub told: Option<(usize, Duration)>,
}

/// Where we know a peer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The configuration names it.
    Named,
    /// It is on the local network.
    Lan,
    /// It uses an archive that we use too, and may tell what it holds.
    Archive,
    /// We had to do with it.
    Met,
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Lan => "lan",
            Self::Archive => "archive",
            Self::Met => "met",
        }
    }
}

/// The document at `/peers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeersDocument {
    /// The peers: neighbours first, then by their score.
    pub peers: Vec<PeerDocument>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerDocument {
    /// Where it is.
    pub address: SocketAddr,
    /// `neighbour`, `stranger`, or `null` where it has not been met since the start.
    pub kind: Option<String>,
    /// `named`, `lan`, `archive` or `met`.
    #[serde(default)]
    pub way: String,
    /// How many objects it said it holds; `null` where it has told nothing.
    #[serde(default)]
    pub objects: Option<u64>,
    /// How many seconds old that is.
    #[serde(default)]
    pub objects_age_seconds: Option<u64>,
    /// `well`, `benched` or `banned`.
    pub state: String,
    /// How many seconds it is left alone; 0 where it is well.
    pub seconds_left: u64,
    /// From 0 to 1.
    pub score: f64,
    /// Its usual time to the first byte.
    pub first_byte_milliseconds: Option<f64>,
    /// Its usual throughput.
    pub bytes_per_second: Option<u64>,
    /// Faults since the start.
    pub faults: u64,
    /// The name of the last one.
    pub last_fault: Option<String>,
    /// Bytes of pieces that it gave since the start.
    pub bytes_received: u64,
}

impl PeersDocument {
    /// What is told of these peers.
    pub fn new(peers: &[Acquaintance]) -> Self {
        let mut peers: Vec<PeerDocument> = peers.iter().map(PeerDocument::new).collect();
        peers.sort_by(|a, b| {
            let rank = |peer: &PeerDocument| peer.kind.as_deref() != Some(name(PeerKind::Neighbour));
            rank(a).cmp(&rank(b)).then(b.score.total_cmp(&a.score)).then(a.address.cmp(&b.address))
        });
        Self { peers }
    }
}

impl PeerDocument {
    fn new(peer: &Acquaintance) -> Self {
        let (address, known) = (peer.address, &peer.reputation);
        let state = match known.benched {
            _ if known.banned => "banned",
            Some(_) => "benched",
            None => "well",
        };
        let rounded = |figure: f64, digits: f64| (figure * digits).round() / digits;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; not negative")]
        let rate = |rate: f64| rate as u64;
        Self {
            address,
            kind: known.kind.map(|kind| name(kind).to_owned()),
            way: peer.way.as_str().to_owned(),
            objects: peer.told.map(|(objects, _)| objects as u64),
            objects_age_seconds: peer.told.map(|(_, age)| age.as_secs()),
            state: state.to_owned(),
            seconds_left: known.benched.map_or(0, |left| left.max(Duration::from_secs(1)).as_secs()),
            score: rounded(known.score, 1000.0),
            first_byte_milliseconds: known.first_byte.map(|time| rounded(time.as_secs_f64() * 1e3, 10.0)),
            bytes_per_second: known.rate.map(rate),
            faults: known.faults,
            last_fault: known.last_fault.map(|fault| fault.name().to_owned()),
            bytes_received: known.bytes,
        }
    }
}

const fn name(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::Neighbour => "neighbour",
        PeerKind::Stranger => "stranger",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::{PeerFault, Scoreboard};
    use std::time::Instant;

    #[test]
    fn neighbours_come_first_then_the_best_and_what_is_written_is_read() {
        let (mut board, now) = (Scoreboard::default(), Instant::now());
        let peer = |host| SocketAddr::from(([192, 0, 2, host], 9979));
        let answer = |board: &mut Scoreboard<_>, host, ms| {
            board.succeeded(&peer(host), Duration::from_millis(ms), Some(1e6), 1000, now);
        };
        answer(&mut board, 1, 500);
        answer(&mut board, 2, 5);
        board.faulted(&peer(3), PeerFault::WrongPiece, now);
        board.faulted(&peer(4), PeerFault::Short, now);
        board.known_as(&peer(4), PeerKind::Neighbour);
        let told = Some((60_000, Duration::from_millis(90_500)));
        let met = |(address, reputation)| Acquaintance { address, way: Way::Met, reputation, told };
        let document = PeersDocument::new(&board.reputations(now).map(met).collect::<Vec<_>>());
        let told: Vec<_> = document.peers.iter().map(|peer| (peer.address, &*peer.state)).collect();
        let expected = [(peer(4), "benched"), (peer(2), "well"), (peer(1), "well"), (peer(3), "banned")];
        assert_eq!(told, expected);
        let (benched, banned) = (&document.peers[0], &document.peers[3]);
        assert_eq!((benched.seconds_left, benched.last_fault.as_deref()), (2, Some("short")));
        assert_eq!((banned.seconds_left, banned.faults, banned.bytes_received), (3600, 1, 0));
        assert_eq!((banned.objects, banned.objects_age_seconds), (Some(60_000), Some(90)));
        assert_eq!(document.peers[1].first_byte_milliseconds, Some(5.0));
        let json = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<PeersDocument>(&json).unwrap(), document);
    }
}
