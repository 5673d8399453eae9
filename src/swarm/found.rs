//! What look-ups find for a download: more peers to wait for, and lists of the object that nobody answers for.

use std::time::{Duration, Instant};

use super::download::Download;
use super::order::Fact;
use super::pace;
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

    /// Whether it is worth looking for more peers once more: what is missing would take longer than `worthwhile` at the rate
    /// of the last seconds. Not where it is our own limit that all keep to.
    pub fn wants_more_peers(&self, worthwhile: Duration, now: Instant) -> bool {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| now < at + pace::JUDGE_AFTER);
        if is_recent(self.held_back) || is_recent(self.mirror_held_back) {
            return false;
        }
        let geometry = self.geometry();
        let unlinked = (0..geometry.pieces()).filter(|piece| !self.ledger.is_linked(*piece));
        let missing: u64 =
            unlinked.map(|piece| geometry.range(piece)).map(|range| range.end - range.start).sum();
        let rate = self.from_peers.rate(now) + self.from_mirror.rate(now);
        #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
        let missing = missing as f64;
        missing > rate * worthwhile.as_secs_f64()
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
