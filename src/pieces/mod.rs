//! Pieces of an object and the SHA-256 chain that verifies them.

mod chain;
mod geometry;

pub use chain::{ChainWalk, State};
pub use geometry::{Geometry, MAX_LENGTH, PIECE_LENGTH, PieceIndex, TooLong};
