//! Ways to find peers for an object. Each yields addresses that speak the peer protocol.

mod fixed;
mod look_up;
mod mainline;
mod memory;
mod neighbours;

use std::net::SocketAddr;
use std::time::Duration;

pub use fixed::Fixed;
pub use look_up::{Asked, Finder, Found, LookUp};
pub use mainline::{Dht, DhtConfig, DhtStatus, Driver, Names, list_items};
pub use memory::Memory;
pub use neighbours::{Archive, Ask, Neighbours, NeighboursConfig, Reply};

use crate::digest::Sha256;
use crate::pieces::Geometry;
use crate::swarm::PeerKind;

/// A peer that may hold an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Provider {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it came to our knowledge.
    pub kind: PeerKind,
}

/// What is known of who has an object, without a question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The peers that hold it by their own word, and how soon they usually answer.
    pub named_by: Vec<(SocketAddr, Duration)>,
    /// The peers that said a moment ago what they hold, and did not name it. They may have begun to download it.
    pub lacking: Vec<SocketAddr>,
    /// Enough users of its archive are known: what none of them has is not worth a look-up, unless it is large.
    pub covered: bool,
}

/// A way to find peers.
pub trait Discovery: Send + Sync {
    /// Peers that may hold the object, at once, from what is known.
    fn providers(&self, object: &Sha256) -> Vec<Provider>;

    /// Starts to ask others who holds the object, which takes its time; never waits. The look-up ends when it is
    /// dropped. `None` where there is nobody to ask, or too much is being asked already.
    fn look_up(&self, _object: &Sha256, _geometry: Geometry) -> Option<LookUp> {
        None
    }

    /// What is known of who has the object, which a name of `archive` leads to. Whoever asks wants it.
    fn outlook(&self, _object: &Sha256, _archive: Option<&Sha256>) -> Outlook {
        Outlook::default()
    }

    /// A peer was asked for the object, whoever knew it: it had it, or it had not.
    fn tried(&self, _object: &Sha256, _peer: SocketAddr, _had_it: bool) {}
}
