//! Nodes of one local network that find each other by themselves: network namespaces on a bridge, real multicast, a real apt.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod discovery;
mod network;
mod off;
mod router;
mod scenario;
