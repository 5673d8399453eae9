//! The peer protocol (docs/protocol.md) as spoken here: the server that gives objects away by their hash, and the
//! client that asks others for them.

mod client;
mod growing;
mod part;
mod server;
mod visitor;

pub use client::{ListAnswer, PeerBody, PeerClient, PeerError};
pub use part::{Held, NoParts, Part, Parts};
pub use server::{PeerSite, PeerSiteConfig};
