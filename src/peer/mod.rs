//! The peer protocol (docs/protocol.md) as spoken here: the server that gives objects away by their hash, and the
//! client that asks others for them.

mod client;
mod directory;
mod growing;
mod guard;
mod introduction;
mod near;
mod part;
mod question;
mod server;
mod turns;
mod visitor;

pub use client::{ListAnswer, ListTag, News, PeerBody, PeerClient, PeerError};
pub use directory::{Acquaintances, NoAcquaintances};
pub use guard::{External, Guard};
pub use near::is_near;
pub use part::{Held, NoParts, Part, Parts, Reading};
pub use server::{PeerSite, PeerSiteConfig};
