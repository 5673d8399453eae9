//! The Mainline DHT: the machine of [`crate::dht`] on real UDP sockets, one for each address family.
//!
//! [`Dht`] is the handle that the rest of the program has; [`Driver`] is the task behind it. Whatever is asked of a
//! handle is bounded in time and in number, and nothing that apt waits for waits for it.

mod driver;
mod jobs;
mod lane;
mod list;
mod names;
mod quest;
mod saved;
mod whereabouts;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::driver::Driver;
pub use self::list::list_items;
pub use self::names::Names;
use super::look_up::{Asked, LookUp};
use super::{Discovery, Provider};
use crate::dht::{Counts, Ended, Id, Limits, OwnedItem};
use crate::digest::{InfoHash, Sha256};
use crate::metrics::Metrics;
use crate::pieces::Geometry;
use crate::wire::Swarm;

/// Requests that wait for the driver. It looks at them between two datagrams; what does not fit goes without.
const WAITING: usize = 64;

/// How long an announce or a put may take, look-up included. Paced by the budget, it takes some seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// How a node of ours stands in the DHT.
pub struct DhtConfig {
    /// Bound sockets, at most one for each address family.
    pub sockets: Vec<UdpSocket>,
    /// Where to enter the network when no saved node answers.
    pub bootstrap: Names,
    /// The directory where the node's id and its good nodes are kept. A read-only node enters the network by what it
    /// finds there, and writes nothing.
    pub state: Option<PathBuf>,
    /// Ask, and answer nobody (BEP 43), under an id of its own: for a command that works once.
    pub read_only: bool,
    /// Whether nodes and peers at private addresses count.
    pub allow_local: bool,
    /// Datagrams a second for announcing and for upkeep.
    pub background_rate: u32,
    /// What is kept for others.
    pub limits: Limits,
    /// The public keys whose signed piece lists are trusted.
    pub publishers: Vec<[u8; 32]>,
    /// The swarm that objects are looked for in.
    pub swarm: Swarm,
    /// Where look-ups are counted.
    pub metrics: Metrics,
}

/// What the DHT is like at the moment, for the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DhtStatus {
    /// Nodes that answered lately, of both families.
    pub good_nodes: usize,
    /// Nodes that are known.
    pub known_nodes: usize,
    /// Our address as others see it.
    pub external: Option<IpAddr>,
    /// Our ids.
    pub ids: Vec<Id>,
    /// What we wait for before it can work, in words for the person in charge; `None` when it works.
    pub waiting_for: Option<String>,
    /// Peers, info-hashes and values that are kept for others.
    pub stored: Counts,
    /// Datagrams received and sent; of those received, the ones that nobody could read and the ones that were too many.
    pub datagrams: [u64; 4],
}

/// A handle to the DHT. Clones share it. It works while [`Driver::run`] runs.
#[derive(Debug, Clone)]
pub struct Dht {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Arc<DhtStatus>>,
    moves: watch::Receiver<u64>,
}

/// What the driver is asked.
#[derive(Debug)]
enum Command {
    LookUp(Asked),
    FindPeers { info_hash: InfoHash, found: mpsc::Sender<Vec<SocketAddr>> },
    Announce { info_hash: InfoHash, port: u16, done: oneshot::Sender<Ended> },
    Store { item: OwnedItem, done: oneshot::Sender<Ended> },
}

impl Command {
    fn is_given_up(&self) -> bool {
        match self {
            Self::LookUp(asked) => asked.finder.is_cancelled(),
            Self::FindPeers { found, .. } => found.is_closed(),
            Self::Announce { done, .. } | Self::Store { done, .. } => done.is_closed(),
        }
    }
}

impl Dht {
    /// A node and the task that runs it. Nothing happens before [`Driver::run`].
    ///
    /// # Errors
    /// Where the system gives no random bytes, or a socket has no address.
    pub fn new(config: DhtConfig) -> io::Result<(Self, Driver)> {
        let (commands, inbox) = mpsc::channel(WAITING);
        let (publish, status) = watch::channel(Arc::default());
        let (tell_moves, moves) = watch::channel(0);
        Ok((Self { commands, status, moves }, Driver::new(config, inbox, publish, tell_moves)?))
    }

    /// Peers of an info-hash, a few at a time as the network answers; the look-up ends with the stream, or when it is
    /// dropped. `None` where too much is being asked already.
    pub fn find_peers(&self, info_hash: InfoHash) -> Option<mpsc::Receiver<Vec<SocketAddr>>> {
        let (found, stream) = mpsc::channel(WAITING);
        self.commands.try_send(Command::FindPeers { info_hash, found }).ok()?;
        Some(stream)
    }

    /// Tells the network that a peer of `info_hash` listens on `port` of our address. What it came to, without
    /// ourselves among the peers. `None` where the DHT does not
    /// work, or took too long.
    pub async fn announce(&self, info_hash: InfoHash, port: u16) -> Option<Ended> {
        self.ask(|done| Command::Announce { info_hash, port, done }).await
    }

    /// Stores a value of BEP 44. `None` as for [`Dht::announce`].
    pub async fn store(&self, item: OwnedItem) -> Option<Ended> {
        self.ask(|done| Command::Store { item, done }).await
    }

    /// How it stands, at most a second old.
    pub fn status(&self) -> Arc<DhtStatus> {
        self.status.borrow().clone()
    }

    /// Changes whenever we have another address than before, of this machine or as others see us: what was announced
    /// leads nowhere then.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moves.clone()
    }

    /// Waits until a node has answered, for at most `limit`; says whether one has.
    pub async fn ready(&self, limit: Duration) -> bool {
        let mut status = self.status.clone();
        let ready = status.wait_for(|status| status.good_nodes > 0);
        matches!(tokio::time::timeout(limit, ready).await, Ok(Ok(_)))
    }

    fn look_for(&self, object: Sha256, geometry: Geometry, list: bool) -> Option<LookUp> {
        let (look_up, finder) = LookUp::new();
        let asked = Asked { object, geometry, list, finder };
        self.commands.try_send(Command::LookUp(asked)).ok()?;
        Some(look_up)
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Ended>) -> Command) -> Option<Ended> {
        let (done, ended) = oneshot::channel();
        let asked = async {
            self.commands.send(command(done)).await.ok()?;
            ended.await.ok()
        };
        tokio::time::timeout(LIMIT, asked).await.ok()?
    }
}

impl Discovery for Dht {
    fn providers(&self, _object: &Sha256) -> Vec<Provider> {
        Vec::new()
    }

    fn look_up(&self, object: &Sha256, geometry: Geometry) -> Option<LookUp> {
        self.look_for(*object, geometry, true)
    }

    fn look_again(&self, object: &Sha256, geometry: Geometry) -> Option<LookUp> {
        self.look_for(*object, geometry, false)
    }
}
