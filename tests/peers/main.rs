//! Bad peers, strangers and conspiracies: what apt sees of them, which must be nothing; and our own answers to peers.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod at_once;
mod faults;
mod get;
mod growing;
mod limits;
mod lookups;
mod node;
mod odd;
mod parts;
mod remembered;
mod resume;
mod rubbish;
mod server;
mod strangers;
mod together;
mod visitors;
mod world;
