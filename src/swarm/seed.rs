//! What of a download may be given to other peers while the rest is on its way (docs/verification.md, "Who may be given
//! what").

use super::download::{By, Download};
use crate::pieces::{End, PieceList, PieceSet};

/// What other peers may be given, and what they may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servable {
    /// The pieces that may be given away.
    pub have: PieceSet,
    /// The states between which they lie; nothing is said of any other.
    pub states: PieceList,
}

impl Download {
    /// Grows whenever [`Self::servable`] may have become another.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The pieces that may be given to other peers now:
    ///
    /// - the prefix that the mirror sent, which is what apt gets from it anyway;
    /// - the proven suffix;
    /// - any linked piece whose both ends were computed from the mirror's bytes, signed by a publisher, or said by peers
    ///   of two networks.
    ///
    /// One neighbour's word is enough for apt on this machine, for which we answer; it is not for others, who would charge
    /// us with what it got wrong.
    pub fn servable(&self) -> Servable {
        let geometry = self.geometry();
        let mut have = PieceSet::none(geometry.pieces());
        let mut states = PieceList::unknown(geometry);
        let (mirror, proven) = (self.mirror_prefix(), self.ledger.proven_from());
        let attested = self.claims.attested(geometry.pieces());
        let is_attested = |boundary: u32| attested.get(boundary as usize).copied().unwrap_or(false);
        for piece in 0..geometry.pieces() {
            let Some(link) = self.ledger.get(piece) else { continue };
            let vouched = match self.by(piece) {
                Some(By::Mirror) => is_attested(piece),
                Some(By::Listed) => is_attested(piece) && is_attested(piece + 1),
                Some(By::Walked(_)) | None => false,
            };
            if piece < mirror || piece >= proven || vouched {
                have.insert(piece);
                states.set(piece, link.start);
                if let End::State(end) = link.end {
                    states.set(piece + 1, end);
                }
            }
        }
        Servable { have, states }
    }
}
