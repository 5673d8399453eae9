//! Which node of a local network walks the mirror, where several want the same object at the same time.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Sha256, parse_hex};

/// The name of a node on its local network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; NodeId::LENGTH]);

/// What is not the name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 16 hexadecimal digits")]
pub struct NotANode;

impl NodeId {
    /// In bytes.
    pub const LENGTH: usize = 8;

    /// The name of these bytes.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// How well this node is placed to walk the mirror for an object: rendezvous hashing, so that each object has an owner
    /// that all agree upon without a word, and the load spreads.
    pub fn rank(&self, object: &Sha256) -> Sha256 {
        Sha256::of(&[&object.as_bytes()[..], &self.0].concat())
    }
}

impl FromStr for NodeId {
    type Err = NotANode;

    fn from_str(text: &str) -> Result<Self, NotANode> {
        parse_hex(text).map(Self).ok_or(NotANode)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
