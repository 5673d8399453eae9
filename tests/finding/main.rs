//! Nodes that know nothing of each other but a way into the DHT: real daemons, real datagrams, a real apt.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod apt;
mod early;
mod half_dead;
mod networks;
mod nodes;
mod poisoned;
mod providers;
mod publish;
mod start;
mod world;
