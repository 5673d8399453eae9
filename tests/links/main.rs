//! Downloads over wires that have a rate, a length and an end: real daemons on hosts of their own, real packets.
//!
//! Hosts are network namespaces, so this needs root; without, the tests say so and pass. They run one after the other:
//! each measures what a wire lets through.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod first_byte;
mod patience;
mod rates;
mod world;
