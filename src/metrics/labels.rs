//! The labels: each is an enum of ours, so that no series exists that a stranger could add.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Other peers.
    Peer,
    /// The mirror.
    Mirror,
    /// Our own disk.
    Cache,
}

/// Why bytes were found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerificationFailure {
    /// A piece from a peer did not fit the chain.
    Piece,
    /// A peer's list of states was contradicted by the object's digest.
    PieceList,
    /// What a mirror sent has another digest than its index says.
    Mirror,
    /// A stored object was found changed on disk.
    Stored,
    /// An index carries a bad signature.
    Signature,
}

/// Who came to the peer port and asked for nothing that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visitor {
    /// A BitTorrent client, by its plain handshake.
    BitTorrent,
    /// Somebody who begins TLS.
    Tls,
    /// HTTP for something else: a browser, a crawler, a scanner.
    Http,
    /// Anything else, encrypted BitTorrent included, and whoever says nothing.
    Other,
}

impl Source {
    pub(super) const ALL: [Self; 3] = [Self::Peer, Self::Mirror, Self::Cache];

    /// The value of the label `source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Mirror => "mirror",
            Self::Cache => "cache",
        }
    }
}

impl VerificationFailure {
    pub(super) const ALL: [Self; 5] =
        [Self::Piece, Self::PieceList, Self::Mirror, Self::Stored, Self::Signature];

    /// The value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Piece => "piece",
            Self::PieceList => "piece_list",
            Self::Mirror => "mirror",
            Self::Stored => "stored",
            Self::Signature => "signature",
        }
    }
}

impl Visitor {
    pub(super) const ALL: [Self; 4] = [Self::BitTorrent, Self::Tls, Self::Http, Self::Other];

    /// The value of the label `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BitTorrent => "bittorrent",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Other => "other",
        }
    }
}

impl EncodeLabelValue for Visitor {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for Source {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for VerificationFailure {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BySource {
    pub(super) source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByReason {
    pub(super) reason: VerificationFailure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByKind {
    pub(super) kind: Visitor,
}
