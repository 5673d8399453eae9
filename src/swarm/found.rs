//! What look-ups find for a download: more peers to wait for, and lists of the object that nobody answers for.

use std::time::Instant;

use super::download::Download;
use super::order::Fact;
use crate::pieces::{PieceIndex, PieceList};

impl Download {
    /// Somebody looks for more peers: until `until` the download does not fail for want of any.
    pub const fn expect_findings(&mut self, until: Instant) {
        self.findings_until = Some(until);
    }

    /// No more peers will be found.
    pub const fn handle_findings_end(&mut self) {
        self.findings_until = None;
    }

    /// A list that a look-up has found; `signed` by a publisher whom the user trusts. One with holes is ignored: no
    /// honest publisher writes such, and the end, where a false list shows first, must not be among them.
    pub fn handle_found_list(&mut self, list: PieceList, signed: bool) {
        let fits = list.inner().len() == self.geometry().last() as usize;
        if self.geometry().pieces() == 1 || !fits || !list.is_complete() {
            return;
        }
        if self.claims.put_found(list, signed) {
            self.revision += 1;
            self.drop_foreign_links();
            self.check_camp_against_walk();
        }
    }

    /// Gives up the lists of the leading camp that nobody answers for, and every link that hangs on nothing else.
    pub(super) fn discard_found(&mut self) {
        self.claims.discard_found();
        self.drop_foreign_links();
        self.facts.push_back(Fact::ListDiscarded);
    }

    /// A list that nobody answers for is tried on one piece first, the one that proves it or convicts it.
    pub(super) fn is_worth_trying(&self, piece: PieceIndex) -> bool {
        piece + 1 == self.ledger.proven_from() || !self.is_on_trial(piece)
    }

    /// Whether a walk may leave the piece to a peer. One that is on trial is not likely to come of it.
    pub(super) fn is_taken(&self, piece: PieceIndex) -> bool {
        self.is_fetched_by_peer(piece) && !self.is_on_trial(piece)
    }

    pub(super) fn is_on_trial(&self, piece: PieceIndex) -> bool {
        self.rests_on_found(piece) && !self.is_found_confirmed()
    }

    /// Whether what this piece leads from or to is said by lists only that nobody answers for.
    pub(super) fn rests_on_found(&self, piece: PieceIndex) -> bool {
        self.claims.is_found_only(piece)
            || (self.ledger.proven_end(piece).is_none() && self.claims.is_found_only(piece + 1))
    }

    /// Whether such a list has told the truth once: of where the proven suffix begins.
    fn is_found_confirmed(&self) -> bool {
        let proven = self.ledger.get(self.ledger.proven_from());
        proven.is_some_and(|link| self.claims.is_found(self.ledger.proven_from(), link.start))
    }
}
