//! What a swarm is like.

use std::time::Duration;

use aptpeer::swarm::Prefer;

pub(crate) const MBIT: f64 = 1e6 / 8.0;

/// What a swarm is like.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) length: u64,
    pub(crate) nodes: usize,
    /// Everybody joins evenly within this time.
    pub(crate) joining: Duration,
    pub(crate) prefer: Prefer,
    /// The mirror's uplink in bytes a second; `None` where there is no mirror.
    pub(crate) mirror: Option<f64>,
    pub(crate) up: f64,
    pub(crate) down: f64,
    /// Bodies that a node sends at a time; beyond, it is busy.
    pub(crate) slots: usize,
    /// Parts of the nodes that lie, and that leave as soon as they have the object.
    pub(crate) liars: f64,
    pub(crate) leavers: f64,
    /// Parts of the nodes that vanish once in the middle, and come back and go on later; and whose uplink halves for a
    /// while.
    pub(crate) vanishing: f64,
    pub(crate) halving: f64,
    /// All are neighbours of one network, which know each other at once, up to so many.
    pub(crate) neighbours: Option<usize>,
    /// Nodes that hold the object from the start, with these uplinks.
    pub(crate) seeds: Vec<f64>,
    /// How often a download hears of the bytes that came.
    pub(crate) heartbeat: Duration,
    /// At most so much virtual time.
    pub(crate) limit: Duration,
}

impl Plan {
    /// A crowd of strangers behind lines of 20 and 100 Mbit/s, and a mirror with 1 Gbit/s.
    pub(crate) fn crowd(nodes: usize, prefer: Prefer) -> Self {
        Self {
            seed: 1,
            length: 100_000_000,
            nodes,
            joining: Duration::from_secs(60),
            prefer,
            mirror: Some(1000.0 * MBIT),
            up: 20.0 * MBIT,
            down: 100.0 * MBIT,
            slots: 4,
            liars: 0.0,
            leavers: 0.0,
            vanishing: 0.0,
            halving: 0.0,
            neighbours: None,
            seeds: Vec::new(),
            heartbeat: Duration::from_secs(1),
            limit: Duration::from_secs(3600),
        }
    }
}
