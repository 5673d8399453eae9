//! What a node answers: the queries of BEP 5 and 44, out of its stores.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::address::Contact;
use super::id::Id;
use super::message::{Ask, Body, Packet, Reply, encode_error};

/// How much a node keeps for others, and how often it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most info-hashes whose peers are kept.
    pub info_hashes: usize,
}

impl Limits {
    /// For a daemon beside other work.
    pub const fn daemon() -> Self {
        Self { info_hashes: 4_000 }
    }

    /// For a node that many enter the network by.
    pub const fn bootstrap() -> Self {
        Self { info_hashes: 40_000 }
    }
}

/// What a node keeps for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Info-hashes with a peer.
    pub info_hashes: usize,
    /// Peers of all info-hashes.
    pub peers: usize,
    /// Values of BEP 44.
    pub items: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Answers queries.
#[derive(Debug)]
pub(super) struct Responder {
    _limits: Limits,
}

impl Responder {
    /// Nothing stored yet. `secret` is random and nobody else's: tokens come of it.
    pub(super) fn new(limits: Limits, _secret: [u8; 32], _now: Instant) -> Self {
        Self { _limits: limits }
    }

    /// Whether a datagram from there may cost us anything (rate limits).
    pub(super) fn admit(&mut self, _from: IpAddr, _now: Instant) -> bool {
        true
    }

    /// The datagram that answers `packet` (a query, or one that is refused), `None` where silence is the answer.
    ///
    /// `close` gives the nodes of our table closest to a point, at most 8, all of our own address family.
    pub(super) fn answer(
        &mut self,
        own: &Id,
        from: SocketAddr,
        packet: &Packet<'_>,
        close: impl Fn(&Id) -> Vec<Contact>,
        _now: Instant,
    ) -> Option<Vec<u8>> {
        let query = match &packet.body {
            Body::Query(query) => query,
            Body::Refused { code, why } => return Some(encode_error(*code, why, packet.transaction)),
            Body::Response(_) | Body::Error { .. } => return None,
        };
        let mut reply = Reply::default();
        if let Ask::FindNode { target } = query.ask {
            reply.nodes = Some(close(&target));
        }
        Some(reply.encode(own, packet.transaction, from))
    }

    /// Forgets what is too old. Cheap; called every minute or so.
    pub(super) fn expire(&mut self, _now: Instant) {}

    /// What is stored now.
    pub(super) fn counts(&self) -> Counts {
        Counts::default()
    }
}
