//! What the catalog says of an object, and of all of them.

use crate::digest::Sha256;
use crate::pieces::State;

/// Where an object came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was downloaded because apt asked for it.
    Download,
    /// A person added it, to be offered to peers.
    Seed,
    /// A person added it and asked that it be not announced.
    SilentSeed,
}

impl Origin {
    /// Whether the object may be announced.
    pub fn is_announced(self) -> bool {
        self != Self::SilentSeed
    }

    /// Whether a person added it.
    pub fn is_seed(self) -> bool {
        self != Self::Download
    }

    pub(super) fn spelled(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Seed => "seed",
            Self::SilentSeed => "seed-silent",
        }
    }

    /// An unknown spelling, of a newer program, is an ordinary download.
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "seed" => Self::Seed,
            "seed-silent" => Self::SilentSeed,
            _ => Self::Download,
        }
    }
}

/// With whom an object may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// With everybody: it is in a public repository, or a person offers it.
    Public,
    /// With the local network and the members of our private swarm: it came from a repository that not everybody reaches.
    Local,
}

impl Scope {
    pub(super) fn spelled(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Local => "local",
        }
    }

    /// What an unknown spelling, of a newer program, means is not known: it is not for everybody.
    pub(super) fn parse(text: &str) -> Self {
        if text == "public" { Self::Public } else { Self::Local }
    }
}

/// What the catalog says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The digest that names the object.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// Where it came from.
    pub origin: Origin,
    /// With whom it may be shared.
    pub scope: Scope,
    /// Whether it is kept from eviction.
    pub pinned: bool,
    /// When it was added, in seconds since 1970 UTC.
    pub added: u64,
    /// When it was last used, in seconds since 1970 UTC, accurate to a minute or so.
    pub used: u64,
    /// The mirror's `Last-Modified`, byte for byte.
    pub last_modified: Option<String>,
    /// Whether it lies in a file of somebody else's, outside of the cache.
    pub in_place: bool,
}

/// What is needed to open an object.
#[derive(Clone)]
pub(in crate::store) struct Record {
    pub(in crate::store) length: u64,
    pub(in crate::store) states: Vec<State>,
    pub(in crate::store) last_modified: Option<String>,
    pub(in crate::store) in_place: bool,
}

/// An object that is being added.
pub(in crate::store) struct NewRow<'a> {
    pub(in crate::store) id: &'a Sha256,
    pub(in crate::store) length: u64,
    pub(in crate::store) states: &'a [State],
    pub(in crate::store) last_modified: Option<&'a str>,
    pub(in crate::store) origin: Origin,
    pub(in crate::store) scope: Scope,
    pub(in crate::store) in_place: bool,
}

/// Sums over the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Totals {
    pub(in crate::store) objects: u64,
    pub(in crate::store) bytes: u64,
    pub(in crate::store) pinned_objects: u64,
    pub(in crate::store) pinned_bytes: u64,
    /// The objects of others' files, which are in none of the sums above.
    pub(in crate::store) in_place_objects: u64,
    pub(in crate::store) in_place_bytes: u64,
}
