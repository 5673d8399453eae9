//! Which node of a local network walks the mirror, where several want the same object at the same time.
//!
//! Each asks the others for their lists when its download begins. Those that want the object too say so, and how they stand to
//! the mirror ([`crate::wire::Intent`]). Who finds nobody walks. Who finds somebody that walks already, or that is of a higher rank, follows.
//! Of two that begin at the same time at least one sees the other, for each can be asked before it asks; the higher waits
//! until the lower has decided, who may have walked off before it could see the higher.

mod company;
mod decision;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod simulated;
mod walk;

use std::fmt;
use std::str::FromStr;

pub(super) use self::company::Company;
use crate::digest::{Sha256, parse_hex, write_hex};

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
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::owner::scene::node;

    #[test]
    fn a_name_is_16_digits() {
        assert_eq!("00000000000000ff".parse(), Ok(node(255)));
        assert_eq!(node(255).to_string(), "00000000000000ff");
        for wrong in ["", "ff", "00000000000000fg", "+0000000000000ff", "00000000000000ff0"] {
            assert_eq!(wrong.parse::<NodeId>(), Err(NotANode), "{wrong}");
        }
    }

    #[test]
    fn different_objects_have_different_owners() {
        let owner = |object: u32| {
            let object = Sha256::of(&object.to_be_bytes());
            (0..8).max_by_key(|number| node(*number).rank(&object)).unwrap()
        };
        for number in 0..8 {
            let owned = (0..800).filter(|object| owner(*object) == number).count();
            assert!((60..140).contains(&owned), "{owned} of 800");
        }
    }
}
