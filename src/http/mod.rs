//! HTTP/1.1 done once for everyone who serves: apt's proxy, the peers' port and the status page.
//!
//! [`serve`] accepts connections within [`Limits`] and asks a [`Site`] for the answers. While one answer is on its
//! way, `readahead` shows the site the requests that already wait behind it. [`range`] decides what a conditional or
//! partial request gets, [`Body`] carries it, and
//! a [`Throttle`] says how fast.

pub mod body;
mod bucket;
mod connection;
pub mod limits;
mod ourselves;
mod patience;
pub mod range;
mod readahead;
mod rebinding;
mod scanner;
mod server;
mod text;
mod throttle;
mod tunnel;

pub use body::{Body, BoxError};
pub use limits::{Limits, Overflow};
pub use ourselves::leads_to;
pub use range::{ContentRange, Outcome, RangeSpec, Representation, precondition};
pub use rebinding::{MISDIRECTED, is_rebound};
pub use scanner::Head;
pub use server::{Conn, Hangup, Site, origin, serve};
pub use text::text;
pub use throttle::{Throttle, Turn};
pub use tunnel::Tunnel;
