//! Downloads in virtual time: the pure machine against whatever mirrors, peers and look-ups can do to it.

#![allow(clippy::unwrap_used)]

mod found;
mod random;
mod seeding;
mod sources;
mod world;
