//! `/metrics`: that every series of it moves when it should, and that Prometheus, the alert rules and the dashboard of
//! packaging/ understand it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod collected;
mod discovered;
mod failures;
mod table;
mod transfers;
mod world;
