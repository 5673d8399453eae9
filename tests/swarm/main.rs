//! Downloads in virtual time: the pure machine against whatever mirrors, peers and look-ups can do to it.

#![allow(clippy::unwrap_used)]

mod following;
mod found;
mod innocence;
mod known;
mod neighbourhood;
mod random;
mod rarest;
mod resume;
mod seeding;
mod sources;
mod world;
