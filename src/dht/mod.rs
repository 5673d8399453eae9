//! A node of the BitTorrent Mainline DHT as a machine: datagrams and the time in, datagrams and findings out.
//!
//! BEP 5 (the protocol), BEP 32 (IPv6), BEP 42 (ids), BEP 43 (read-only nodes), BEP 44 (stored values).

mod address;
#[cfg(test)]
mod fuzz;
mod id;
mod item;
#[allow(dead_code, reason = "until the node owns it")]
mod items;
#[allow(dead_code, reason = "until the node owns it")]
mod limiter;
pub mod message;
#[allow(dead_code, reason = "until the node owns it")]
mod peers;
#[allow(dead_code, reason = "until the node owns it")]
mod prefix;
#[allow(dead_code, reason = "until the node owns it")]
mod responder;
#[allow(dead_code, reason = "until the node owns it")]
mod shelf;
#[allow(dead_code, reason = "until the node owns it")]
mod token;

pub use address::{Contact, is_dialable, is_local};
pub use id::{Distance, Id};
pub use item::{ItemError, OwnedItem, Signer, immutable_target, mutable_target};
pub use responder::{Counts, Limits};
