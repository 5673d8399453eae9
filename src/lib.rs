//! aptpeer: a peer-to-peer proxy for apt. Every byte it hands on is verified against the SHA-256 that apt trusts.
//!
//! A request travels: apt knocks at `proxy`, `download` gathers the bytes, `store` keeps them, `peer` gives them to
//! others. What decides is pure and sits at the bottom; docs/architecture.md has the table of layers, and a test
//! enforces it.

pub mod bencode;
pub mod causes;
pub mod digest;

pub mod debian;
pub mod pieces;
pub mod wire;

pub mod dht;
pub mod swarm;

pub mod clock;
pub mod metrics;

pub mod http;
pub mod store;

pub mod discovery;
pub mod mirror;
pub mod peer;
pub mod reach;

pub mod announcer;
pub mod download;
pub mod index;

pub mod lookahead;
pub mod proxy;
pub mod status;

pub mod config;

pub mod daemon;

pub mod cli;
