//! Ways to find peers for an object. Each yields addresses that speak the peer protocol.

mod fixed;
mod lan;
mod look_up;
mod mainline;
mod memory;
mod neighbours;
mod remembered;

use std::net::SocketAddr;
use std::time::Duration;

pub use fixed::Fixed;
pub use lan::{Lan, LanConfig, LanDriver, LanPeer};
pub use look_up::{Asked, Finder, Found, LookUp};
pub use mainline::{Dht, DhtConfig, DhtStatus, Driver, Names, list_items};
pub use memory::Memory;
pub use neighbours::{Archive, Ask, Neighbours, NeighboursConfig, Reply};
pub use remembered::Remembered;

use crate::digest::Sha256;
use crate::pieces::Geometry;
use crate::swarm::{NodeId, PeerKind};

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

    /// The same for a download that has looked before and goes on: only more peers are of use to it.
    fn look_again(&self, object: &Sha256, geometry: Geometry) -> Option<LookUp> {
        self.look_up(object, geometry)
    }

    /// Our own name on the local network, where we are seen there.
    fn own_node(&self) -> Option<NodeId> {
        None
    }

    /// The name of the node that listens there, where it is one of the local network.
    fn node_at(&self, _address: SocketAddr) -> Option<NodeId> {
        None
    }

    /// Somebody has answered at this address.
    fn note_answer(&self, _address: SocketAddr) {}

    /// No connection could be made to this address.
    fn note_unreachable(&self, _address: SocketAddr) {}

    /// What is known of who has the object, which a name of `archive` leads to. Whoever asks wants it.
    fn outlook(&self, _object: &Sha256, _archive: Option<&Sha256>) -> Outlook {
        Outlook::default()
    }

    /// A peer was asked for the object, whoever knew it: it had it, or it had not.
    fn tried(&self, _object: &Sha256, _peer: SocketAddr, _had_it: bool) {}
}
