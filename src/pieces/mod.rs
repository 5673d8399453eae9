//! Pieces of an object and the SHA-256 chain that verifies them in any order, hashing each byte once.

mod chain;
mod geometry;
mod ledger;
mod list;
mod set;

pub use chain::{ChainWalk, State};
pub use geometry::{Geometry, MAX_LENGTH, PIECE_LENGTH, PieceIndex, TooLong};
pub use ledger::{End, Kept, Ledger, Link};
pub use list::{PieceList, WrongShape};
pub use set::PieceSet;
