//! What a request to the peer port asks for.

use crate::digest::Sha256;

/// The request targets of the peer protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerTarget {
    /// `/`: who we are.
    Root,
    /// `/hash/<64 hex>`: the object.
    Object(Sha256),
    /// `/hash/<64 hex>/pieces`: its piece-hash list and which pieces are held.
    Pieces(Sha256),
    /// `/have`: which objects are held whole.
    Have,
    /// `/neighbours`: peers that we know.
    Neighbours,
}

/// The path of the have-set.
pub const HAVE_PATH: &str = "/have";

/// The path of the list of neighbours.
pub const NEIGHBOURS_PATH: &str = "/neighbours";

impl PeerTarget {
    /// The target that a path names (a query is ignored); `None` for anything else.
    pub fn parse(path: &str) -> Option<Self> {
        let path = path.split('?').next()?;
        match path {
            "/" => return Some(Self::Root),
            HAVE_PATH => return Some(Self::Have),
            NEIGHBOURS_PATH => return Some(Self::Neighbours),
            _ => {}
        }
        let rest = path.strip_prefix("/hash/")?;
        match rest.split_once('/') {
            None => rest.parse().ok().map(Self::Object),
            Some((hex, "pieces")) => hex.parse().ok().map(Self::Pieces),
            Some(_) => None,
        }
    }
}

/// The path of an object.
pub fn hash_path(id: &Sha256) -> String {
    format!("/hash/{id}")
}

/// The path of an object's piece-hash list.
pub fn pieces_path(id: &Sha256) -> String {
    format!("/hash/{id}/pieces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_what_the_paths_spell() {
        let id = Sha256::of(b"x");
        assert_eq!(PeerTarget::parse("/"), Some(PeerTarget::Root));
        assert_eq!(PeerTarget::parse("/have?x"), Some(PeerTarget::Have));
        assert_eq!(PeerTarget::parse("/neighbours"), Some(PeerTarget::Neighbours));
        assert_eq!(PeerTarget::parse(&hash_path(&id)), Some(PeerTarget::Object(id)));
        assert_eq!(PeerTarget::parse(&format!("{}?x=1", hash_path(&id))), Some(PeerTarget::Object(id)));
        assert_eq!(PeerTarget::parse(&pieces_path(&id)), Some(PeerTarget::Pieces(id)));
    }

    #[test]
    fn anything_else_is_no_target() {
        let long = format!("/hash/{}", "a".repeat(65));
        let climbing = format!("/hash/{}/../../etc/passwd", "a".repeat(64));
        for path in
            ["", "/have/", "/hash", "/hash/", "/hash/abc", "/HASH/", "//", "/hash//pieces", &long, &climbing]
        {
            assert_eq!(PeerTarget::parse(path), None, "{path}");
        }
    }
}
