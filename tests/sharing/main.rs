//! What is shared with whom: private swarms, objects that stay on the local network, and the switches of `[privacy]`. Real
//! daemons, real sockets, and an eye on the wire.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod bridge;
mod router;
mod scope;
mod secret;
mod switches;
mod tap;
#[allow(dead_code)]
#[path = "../neighbours/tracker.rs"]
mod tracker;
mod unreachable;
mod world;
