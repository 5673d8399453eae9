//! Going on where an earlier download of the object was broken off.

use std::time::Instant;

use super::download::{By, Download};
use super::order::Order;
use crate::pieces::{End, Kept, Link, PieceIndex};

impl Download {
    /// The pieces that are worth keeping for a later download: those that may be released on what is known now. What hangs
    /// on a stranger's word alone is not, nor what came from a peer that was walked, for nobody would answer for it.
    pub fn worth_keeping(&self, now: Instant) -> Vec<Kept> {
        let proven = self.ledger.proven_from();
        let kept = |piece: PieceIndex| {
            let (link, by) = (self.ledger.get(piece)?, self.by(piece)?);
            let vouched = match by {
                By::Mirror => true,
                By::Listed => piece >= proven || self.is_resumed(piece) || self.is_open(piece, now),
                By::Walked(_) => piece >= proven,
            };
            vouched.then_some(Kept { piece, link, from_mirror: by == By::Mirror })
        };
        (0..self.geometry().pieces()).filter_map(kept).collect()
    }

    /// Begins with what an earlier download has left. What it could release, this one can: should it turn out to be wrong,
    /// it is dealt with as it would have been then.
    pub fn resume(&mut self, kept: &[Kept]) {
        for Kept { piece, link, from_mirror } in kept {
            self.put_link(*piece, *link, if *from_mirror { By::Mirror } else { By::Listed });
            self.resumed.insert(*piece);
        }
        self.settle();
    }

    /// A piece of the earlier download is not what it was, and nobody has read anything of it: it is fetched anew. Says whether
    /// that is news.
    pub fn handle_damaged(&mut self, piece: PieceIndex) -> bool {
        if !self.is_resumed(piece) {
            return false;
        }
        self.ledger.unlink(piece);
        self.resumed.remove(piece);
        self.revision += 1;
        self.released = self.released.min(self.geometry().range(piece).start);
        self.orders.push_back(Order::Reopen(piece));
        true
    }

    /// Whether the piece is of an earlier download.
    pub(super) fn is_resumed(&self, piece: PieceIndex) -> bool {
        self.resumed.contains(piece) && self.ledger.is_linked(piece)
    }

    /// Whether the leading list says something else of a piece of an earlier download.
    pub(super) fn is_contradicted(&self, piece: PieceIndex, link: &Link) -> bool {
        let end = self.claims.state(piece + 1).map(End::State);
        self.claims.state(piece).is_some_and(|start| start != link.start)
            || (piece < self.geometry().last() && end.is_some_and(|end| end != link.end))
    }
}
