//! What goes into a node besides datagrams, and what comes out of it.

use std::net::{IpAddr, SocketAddr};

use super::id::Id;
use super::item::OwnedItem;
use super::responder::{Counts, Limits};

/// The kind of addresses that a node speaks to: IPv4 and IPv6 are networks of their own (BEP 32), with a node in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// Whether this address belongs to it.
    pub const fn has(self, address: SocketAddr) -> bool {
        address.is_ipv4() == matches!(self, Self::V4)
    }
}

/// How a node behaves.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name, kept over restarts. It is bent to what BEP 42 wants as soon as the external address is known.
    pub id: Id,
    /// Addresses of the other family are ignored.
    pub family: Family,
    /// Where all randomness comes from. It must be fresh and secret: transaction ids and tokens follow from it.
    pub seed: [u8; 32],
    /// Ask, but answer nothing (BEP 43).
    pub read_only: bool,
    /// Whether nodes and peers of local networks count. Where they do not, they are dropped from answers.
    pub allow_local: bool,
    /// Most datagrams per second that are sent for [`Urgency::Background`] and for upkeep together.
    pub background_rate: u32,
    /// What is kept for others.
    pub limits: Limits,
}

/// Whether somebody waits for a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Somebody waits: its queries go out at once.
    Now,
    /// Nobody does: its queries go out at [`NodeConfig::background_rate`].
    Background,
}

/// The name of a look-up, an announce or a store; never used twice by one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookUp(pub(super) u64);

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub to: SocketAddr,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// What a node found out.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Somebody says that these have what is looked for. Each address comes once per look-up, only a few of one network
    /// and no more than 64 in all. Nothing about them is proven, and we may be among them.
    Peers {
        /// Of [`find_peers`](super::Node::find_peers) or [`announce`](super::Node::announce).
        look_up: LookUp,
        /// At least one.
        peers: Vec<SocketAddr>,
    },
    /// A value whose hash (immutable) or signature (mutable) is right. A mutable one may come several times with
    /// different values: the caller judges by `seq` and by what it says.
    Item {
        /// Of [`find_item`](super::Node::find_item).
        look_up: LookUp,
        /// The value.
        item: OwnedItem,
    },
    /// The look-up is over; nothing more is said of it.
    Ended {
        /// Which one.
        look_up: LookUp,
        /// What it came to.
        outcome: Ended,
    },
}

impl Event {
    /// What it is about.
    pub const fn look_up(&self) -> LookUp {
        match self {
            Self::Peers { look_up, .. } | Self::Item { look_up, .. } | Self::Ended { look_up, .. } => {
                *look_up
            }
        }
    }
}

/// What a look-up came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Nodes that were asked. None: the network is not reached, or too many look-ups were under way.
    pub asked: u32,
    /// Nodes that answered.
    pub answered: u32,
    /// Nodes that took what was announced or stored.
    pub stored: u32,
    /// Datagrams sent and received.
    pub datagrams: u32,
    /// Peers told in [`Event::Peers`]; we may be among them.
    pub peers: u32,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its present name.
    pub id: Id,
    /// The address by which others see it, where enough of them agree.
    pub external: Option<IpAddr>,
    /// Nodes of the table that answered within the last 15 minutes and do not fail.
    pub good_nodes: usize,
    /// All nodes of the table.
    pub known_nodes: usize,
    /// Look-ups under way, upkeep left out.
    pub look_ups: usize,
    /// Queries that wait for their answer.
    pub queries: usize,
    /// What is kept for others.
    pub stored: Counts,
    /// Datagrams that came in since the start.
    pub received: u64,
    /// Datagrams that went out since the start.
    pub sent: u64,
    /// Of those that came in: neither a query nor the answer to one of ours.
    pub rubbish: u64,
    /// Of those that came in: not even looked at, for the sender or all together sent too many.
    pub refused: u64,
}
