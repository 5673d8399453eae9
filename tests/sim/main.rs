//! Whole swarms of downloads in virtual time: the real machines, a flow model of their lines between them.

#![allow(clippy::unwrap_used)]

mod crowds;
mod few;
mod net;
mod node;
mod object;
mod plan;
mod random;
mod report;
mod world;
