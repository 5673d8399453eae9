//! The decisions of a download, pure: which source is asked for what, whom to believe, what may be handed out.

pub mod announce;
mod claims;
mod crowd;
mod download;
mod fault;
mod fetched;
mod found;
mod judge;
pub mod lookahead;
pub mod meetings;
mod meter;
pub mod neighbourhood;
mod opening;
mod order;
mod owner;
mod pace;
mod patience;
mod recent;
mod release;
mod resume;
mod schedule;
mod score;
mod seed;
mod slots;
mod source;
mod standing;
mod survey;

pub use download::{Download, Prefer};
pub use fault::PeerFault;
pub use order::{Fact, FetchId, Order, Outcome, Walker};
pub use owner::{NodeId, NotANode};
pub use recent::Recent;
pub use seed::Servable;
pub use slots::Slots;
pub use source::{Group, PeerKind, SourceId, Standing};
pub use standing::{Ban, LONGEST_BAN, Reputation, Scoreboard};
