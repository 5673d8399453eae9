//! What a peer can do wrong, by name.

use std::fmt;

/// A fault of a peer, as one fetch from it showed it. The scoreboard reads it, the log prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerFault {
    /// No connection: refused, unreachable, or not made in time.
    Unreachable,
    /// Connected, but no answer in time.
    Silent,
    /// The answer stopped arriving.
    Stalled,
    /// The connection broke, or the body ended before the promised length.
    Short,
    /// More bytes than asked for.
    Long,
    /// Not HTTP, or a head beyond all bounds.
    Rubbish,
    /// Another range, length or status than was asked for.
    WrongRange,
    /// A piece-hash list that is not as the protocol says.
    BadList,
    /// Bytes that are not the object's: proven.
    WrongPiece,
    /// A piece-hash list that is not the object's: proven.
    WrongList,
    /// No proof that it is a member of our private swarm.
    Unproven,
    /// An error status of its own (5xx).
    ServerError,
}

impl PeerFault {
    /// What the fault costs in the scoreboard: 1 for bad luck, 100 for a lie.
    pub const fn cost(self) -> f64 {
        match self {
            Self::ServerError => 1.0,
            Self::Short | Self::Stalled => 2.0,
            Self::Unreachable | Self::Silent => 4.0,
            Self::Long | Self::Rubbish | Self::WrongRange | Self::BadList | Self::Unproven => 10.0,
            Self::WrongPiece | Self::WrongList => 100.0,
        }
    }

    /// Whether it can only be a lie or a broken disk, never the network.
    pub const fn is_lie(self) -> bool {
        matches!(self, Self::WrongPiece | Self::WrongList)
    }

    /// The name for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Short => "short",
            Self::Long => "long",
            Self::Rubbish => "rubbish",
            Self::WrongRange => "wrong-range",
            Self::BadList => "bad-list",
            Self::WrongPiece => "wrong-piece",
            Self::WrongList => "wrong-list",
            Self::Unproven => "unproven",
            Self::ServerError => "server-error",
        }
    }
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
