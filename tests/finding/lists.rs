//! Piece lists in the DHT.
