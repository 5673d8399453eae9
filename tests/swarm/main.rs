//! Downloads in virtual time: the pure machine against whatever mirrors, peers and look-ups can do to it.

#![allow(clippy::unwrap_used)]

mod found;
mod innocence;
mod known;
mod random;
mod sources;
mod world;
