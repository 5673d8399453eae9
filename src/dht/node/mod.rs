//! The node: one machine that answers others, keeps a table of them, and looks up.

use std::net::SocketAddr;
use std::time::Instant;

use super::address::Contact;
use super::event::{Event, LookUp, NodeConfig, Status, Transmit, Urgency};
use super::id::Id;
use super::item::OwnedItem;

/// A node of the DHT, in one address family.
///
/// After each call of anything but a getter: send what [`poll_transmit`](Self::poll_transmit) gives until it gives
/// nothing, take the events of [`poll_event`](Self::poll_event), and call [`handle_timeout`](Self::handle_timeout) at
/// [`next_timeout`](Self::next_timeout). `now` never goes backwards.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
}

#[allow(unused_variables, clippy::needless_pass_by_value, reason = "until it is filled in")]
impl Node {
    /// A node that knows nobody yet.
    pub fn new(config: NodeConfig, now: Instant) -> Self {
        Self { config }
    }

    /// Takes in a datagram of any content.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {}

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {}

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// The next finding.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Adds saved nodes or the addresses of bootstrap nodes; they are asked at once. May be called again and again:
    /// what was given is kept (the latest 256) and tried again whenever the network was lost.
    pub fn add_nodes(&mut self, addresses: impl IntoIterator<Item = SocketAddr>, now: Instant) {}

    /// Looks for peers of an info-hash: [`Event::Peers`] as they are found, then [`Event::Ended`].
    pub fn find_peers(&mut self, info_hash: Id, urgency: Urgency, now: Instant) -> LookUp {
        LookUp(0)
    }

    /// Looks for peers of an info-hash, then tells the 8 closest nodes that we are one, on `port`. In the background.
    pub fn announce(&mut self, info_hash: Id, port: u16, now: Instant) -> LookUp {
        LookUp(0)
    }

    /// Looks for a stored value (BEP 44): [`Event::Item`] as they are found, then [`Event::Ended`]. `salt` is that of
    /// a mutable value, else empty.
    pub fn find_item(&mut self, target: Id, salt: Vec<u8>, urgency: Urgency, now: Instant) -> LookUp {
        LookUp(0)
    }

    /// Stores a value (BEP 44) with the 8 nodes closest to its target. In the background.
    pub fn store_item(&mut self, item: OwnedItem, now: Instant) -> LookUp {
        LookUp(0)
    }

    /// Forgets a look-up: nothing more is said of it, not even that it ended. Unknown ones are ignored.
    pub fn cancel(&mut self, look_up: LookUp) {}

    /// The nodes worth saving, the best first, at most 200.
    pub fn good_nodes(&self) -> Vec<Contact> {
        Vec::new()
    }

    /// How it is.
    pub fn status(&self) -> Status {
        unreachable!("not yet: {:?}", self.config)
    }
}
