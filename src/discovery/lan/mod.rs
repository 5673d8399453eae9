//! Neighbours on the local network: we tell it by multicast DNS (RFC 6762, RFC 6763) where we are, and listen to those who
//! do the same.
//!
//! What is told is not more than that: no file, no name of the machine. What others tell is bounded and only ever an address
//! to be asked.

mod driver;
mod identity;
mod interfaces;
mod roll;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

pub use self::driver::LanDriver;
use self::roll::Roll;
use super::{Discovery, Provider};
use crate::clock;
use crate::digest::Sha256;
use crate::swarm::{NodeId, PeerKind};

/// Peers that wait for the driver to look whether they are still there; each is asked for once.
const DOUBTS: usize = 32;

/// A node of the local network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LanPeer {
    /// Its name.
    pub id: NodeId,
    /// Where it serves peers.
    pub address: SocketAddr,
}

/// What this node is on the local network.
#[derive(Debug, Clone)]
pub struct LanConfig {
    /// Our own name.
    pub id: NodeId,
    /// The swarm that we are of: peers of another are not seen. `public` for the swarm of all.
    pub tag: String,
    /// Where we serve peers, as it was bound. Nobody is told of loopback addresses; empty: we only listen.
    pub listen: Vec<SocketAddr>,
    /// The interfaces to be used, by name. Empty: all but those of containers, virtual machines and tunnels.
    pub interfaces: Vec<String>,
}

/// The nodes of the local network. Clones share them.
#[derive(Debug, Clone)]
pub struct Lan {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: NodeId,
    roll: Mutex<Roll>,
    peers: watch::Sender<Arc<[LanPeer]>>,
    /// Peers that may be gone.
    doubts: mpsc::Sender<NodeId>,
}

impl Lan {
    /// The local network as `config` wants it, and what keeps it up to date. Nothing is sent before [`LanDriver::run`].
    pub fn new(config: LanConfig) -> (Self, LanDriver) {
        let (doubts, doubted) = mpsc::channel(DOUBTS);
        let peers = watch::Sender::new(Arc::from([]));
        let shared =
            Arc::new(Shared { own: config.id, roll: Mutex::new(Roll::new(config.id)), peers, doubts });
        let lan = Self { shared };
        (lan.clone(), LanDriver::new(lan, config, doubted))
    }

    /// The name of the node whose state is kept in `state`: made at random once, and the same from then on, on this machine. It is no other
    /// name of the node's: who hears it on one network learns nothing of it elsewhere.
    ///
    /// # Errors
    /// Where the file can neither be read nor written.
    pub fn identity(state: &Path) -> io::Result<NodeId> {
        identity::of(state)
    }

    /// Those that are there now.
    pub fn peers(&self) -> Vec<LanPeer> {
        self.shared.peers.borrow().to_vec()
    }

    /// Those that are there, as they come and go.
    pub fn watch(&self) -> watch::Receiver<Arc<[LanPeer]>> {
        self.shared.peers.subscribe()
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.shared.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows who is there by now.
    fn show(&self) {
        let now: Vec<LanPeer> = self.roll().present(clock::now()).collect();
        self.shared.peers.send_if_modified(|shown| {
            let changed = shown[..] != now[..];
            if changed {
                *shown = now.into();
            }
            changed
        });
    }
}

impl Discovery for Lan {
    fn providers(&self, _object: &Sha256) -> Vec<Provider> {
        let neighbour = |peer: &LanPeer| Provider { address: peer.address, kind: PeerKind::Neighbour };
        self.shared.peers.borrow().iter().map(neighbour).collect()
    }

    fn own_node(&self) -> Option<NodeId> {
        Some(self.shared.own)
    }

    fn node_at(&self, address: SocketAddr) -> Option<NodeId> {
        let peers = self.shared.peers.borrow();
        peers.iter().find(|peer| peer.address == address).map(|peer| peer.id)
    }

    fn note_answer(&self, address: SocketAddr) {
        self.roll().answered(address);
    }

    fn note_unreachable(&self, address: SocketAddr) {
        let doubted = self.roll().unreachable(address, clock::now());
        if let Some(id) = doubted {
            // Where many are doubted at a time, the others are left to the end of what they told.
            let _ = self.shared.doubts.try_send(id);
            self.show();
        }
    }
}
