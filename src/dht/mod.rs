//! A node of the BitTorrent Mainline DHT as a machine: datagrams and the time in, datagrams and findings out.
//!
//! BEP 5 (the protocol), BEP 32 (IPv6), BEP 42 (ids), BEP 43 (read-only nodes), BEP 44 (stored values).

mod address;
mod budget;
mod event;
#[cfg(test)]
mod fuzz;
mod id;
mod item;
mod items;
mod limiter;
mod lookup;
pub mod message;
mod node;
mod peers;
mod prefix;
mod queries;
mod random;
mod remembered;
mod responder;
mod shelf;
mod table;
mod token;
mod votes;

pub use address::{Contact, is_dialable, is_local};
pub use event::{Ended, Event, Family, LookUp, NodeConfig, Status, Transmit, Urgency};
pub use id::{Distance, Id};
pub use item::{ItemError, OwnedItem, Signer, immutable_target, mutable_target};
pub use node::Node;
pub use responder::{Counts, Limits};
