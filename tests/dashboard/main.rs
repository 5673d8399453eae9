//! The page, its events and the health check of a running daemon, and the demo that scripts/screenshots looks at.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod demo;
mod events;
mod health;
mod page;
mod world;
