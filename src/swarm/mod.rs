//! The decisions of a download, pure: which source is asked for what, whom to believe, what may be handed out.

mod claims;
mod download;
mod fault;
mod order;
mod pace;
mod schedule;
mod source;
mod standing;

pub use claims::Group;
pub use download::{Download, Prefer, Walker};
pub use fault::PeerFault;
pub use order::{Fact, FetchId, Order, Outcome};
pub use source::{PeerKind, SourceId, Standing};
pub use standing::Scoreboard;
