//! Ways to find peers for an object. Each yields addresses that speak the peer protocol.

mod fixed;
mod memory;

use std::net::SocketAddr;

pub use fixed::Fixed;
pub use memory::Memory;

use crate::digest::Sha256;
use crate::swarm::PeerKind;

/// A peer that may hold an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Provider {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it came to our knowledge.
    pub kind: PeerKind,
}

/// A way to find peers, answered at once from what is known.
pub trait Discovery: Send + Sync {
    /// Peers that may hold the object.
    fn providers(&self, object: &Sha256) -> Vec<Provider>;
}
