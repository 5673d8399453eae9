//! Who is to be believed: what to do when links, lists and bytes contradict each other, and whom to charge.

use super::download::{By, Download, Fetch};
use super::fault::PeerFault;
use super::order::{Fact, FetchId, Order};
use super::source::{Holding, Mirror, SourceId};
use crate::pieces::{End, Link, PieceIndex, PieceSet, State};

impl Download {
    /// Gives up the leading list with those who gave it, and every link that hangs on nothing else. Whoever was
    /// suspended under it gets another chance.
    pub(super) fn discard_camp(&mut self) {
        for member in self.claims.discard_camp() {
            self.retire(member);
        }
        self.cancel_where(|fetch| matches!(fetch, Fetch::Piece { .. }));
        self.revision += 1;
        let started = self.started;
        for peer in &mut self.peers {
            if let Holding::Suspended { have } = &peer.holding {
                peer.holding = Holding::Pieces { have: have.clone(), asked_at: started, grown_at: started };
            }
        }
        self.unlink_between(self.mirror_prefix(), self.ledger.proven_from());
        self.cancel_lost_walks();
        self.facts.push_back(Fact::ListDiscarded);
    }

    /// Ends walks that set out from a state of a list that is given up: they lead nowhere.
    fn cancel_lost_walks(&mut self) {
        let lost: Vec<FetchId> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| match fetch {
                Fetch::Walk { piece, start, .. } => !self.is_vouched_for(*piece, *start),
                Fetch::Piece { .. } => false,
            })
            .map(|(fetch, _)| *fetch)
            .collect();
        lost.into_iter().for_each(|fetch| self.cancel(fetch));
    }

    /// Whether anything still says that a piece begins with this state: the leading list, or the piece before it.
    fn is_vouched_for(&self, piece: PieceIndex, start: State) -> bool {
        let before = piece
            .checked_sub(1)
            .map_or(Some(End::State(State::INITIAL)), |before| self.ledger.get(before).map(|link| link.end));
        before == Some(End::State(start)) || self.claims.state(piece) == Some(start)
    }

    /// Another list leads now: what hangs on the word of the one before is dropped.
    pub(super) fn drop_foreign_links(&mut self) {
        // In order: what followed from a link that is dropped is dropped with it.
        for piece in self.mirror_prefix()..self.ledger.proven_from() {
            let Some(link) = self.ledger.get(piece) else { continue };
            let stands = match self.by(piece) {
                Some(By::Listed) => self.is_as_listed(piece, &link),
                // A walk may have set out from a state of that list.
                _ => self.is_vouched_for(piece, link.start),
            };
            if !stands {
                self.unlink_between(piece, piece + 1);
            }
        }
        let is_stale = |fetch: &Fetch| matches!(fetch, Fetch::Piece { piece, link, .. } if !self.is_as_listed(*piece, link));
        let stale: Vec<FetchId> =
            self.fetches.iter().filter(|(_, fetch)| is_stale(fetch)).map(|(fetch, _)| *fetch).collect();
        stale.into_iter().for_each(|fetch| self.cancel(fetch));
        self.cancel_lost_walks();
    }

    /// Whether the leading list says of the piece what the link says.
    fn is_as_listed(&self, piece: PieceIndex, link: &Link) -> bool {
        let end = self.claims.state(piece + 1).map(End::State);
        self.claims.state(piece) == Some(link.start) && end.is_none_or(|end| end == link.end)
    }

    /// The mirror outranks a list that contradicts it, unless the contradicted state is proven.
    pub(super) fn check_camp_against_walk(&mut self) {
        for piece in 0..self.mirror_prefix().min(self.geometry().last()) {
            let Some(End::State(walked)) = self.ledger.get(piece).map(|link| link.end) else { return };
            let claimed = self.claims.state(piece + 1);
            if claimed.is_some_and(|claimed| claimed != walked) && self.ledger.proven_from() > piece + 1 {
                if self.claims.is_found_only(piece + 1) {
                    self.discard_found();
                } else {
                    self.discard_camp();
                }
                return;
            }
        }
    }

    /// The piece behind the prefix is linked and does not go on from it, or everything is linked and yet the object is
    /// not closed: somebody's links are wrong.
    pub(super) fn settle(&mut self) {
        if !(self.ledger.is_full() || self.ledger.is_linked(self.ledger.prefix())) || self.ledger.is_closed()
        {
            return;
        }
        let proven = self.ledger.proven_from();
        let unproven: Vec<By> = (0..proven).filter_map(|piece| self.by(piece)).collect();
        if unproven.contains(&By::Listed) {
            // Whose fault it is shows when the object is closed.
            let of_found =
                |piece: PieceIndex| self.by(piece) == Some(By::Listed) && self.rests_on_found(piece);
            if (0..proven).any(of_found) {
                self.discard_found();
            } else {
                self.discard_camp();
            }
            return;
        }
        let walked = unproven.iter().find_map(|by| match by {
            By::Walked(source) => Some(*source),
            _ => None,
        });
        let Some(source) = walked else { return self.doubt_mirror(proven) };
        if unproven.iter().all(|by| *by == By::Walked(source)) {
            self.charge(source, PeerFault::WrongPiece);
        }
        self.retire(source);
        self.unlink_between(self.mirror_prefix(), proven);
    }

    /// The mirror's bytes are not those the index names. Peers that were given up for contradicting it get another
    /// chance.
    pub(super) fn doubt_mirror(&mut self, proven: PieceIndex) {
        self.facts.push_back(Fact::MirrorDiffers);
        self.mirror = Mirror::Gone;
        self.cancel_where(|fetch| matches!(fetch, Fetch::Walk { .. }));
        self.unlink_between(0, proven);
        self.revive();
    }

    /// Brings back every peer that was never charged, and every list; says whether there was any.
    pub(super) fn revive(&mut self) -> bool {
        self.claims.revive();
        self.revision += 1;
        let (count, since) = (self.geometry().pieces(), self.started);
        let again: Vec<_> =
            self.peers.iter_mut().filter(|peer| !peer.charged && !peer.absent && !peer.is_alive()).collect();
        let any = !again.is_empty();
        for peer in again {
            peer.holding = Holding::Pieces { have: PieceSet::all(count), asked_at: since, grown_at: since };
        }
        any
    }

    pub(super) fn charge(&mut self, source: SourceId, fault: PeerFault) {
        if let Some(peer) = self.peers.get_mut(source.0 as usize)
            && !peer.charged
        {
            peer.charged = true;
            self.facts.push_back(Fact::PeerFaulted(source, fault));
        }
    }

    /// Takes a peer out of this download, and whatever it was fetching. What it said of the object still counts.
    pub(super) fn retire(&mut self, source: SourceId) {
        if let Some(peer) = self.peers.get_mut(source.0 as usize) {
            peer.holding = Holding::Gone;
        }
        self.cancel_where(|fetch| matches!(fetch, Fetch::Piece { source: of, .. } if *of == source));
    }

    pub(super) fn suspend(&mut self, source: SourceId) {
        if let Some(peer) = self.peers.get_mut(source.0 as usize)
            && let Holding::Pieces { have, .. } = &peer.holding
        {
            peer.holding = Holding::Suspended { have: have.clone() };
        }
        self.cancel_where(|fetch| matches!(fetch, Fetch::Piece { source: of, .. } if *of == source));
    }

    pub(super) fn unlink_between(&mut self, from: PieceIndex, to: PieceIndex) {
        for piece in from..to {
            if self.ledger.is_linked(piece) {
                self.ledger.unlink(piece);
                self.revision += 1;
                self.regrets |= self.geometry().range(piece).start < self.released;
                self.orders.push_back(Order::Reopen(piece));
            }
        }
    }

    pub(super) fn by(&self, piece: PieceIndex) -> Option<By> {
        self.by.get(piece as usize).copied().flatten().filter(|_| self.ledger.is_linked(piece))
    }

    /// How many pieces from the start came from the mirror without a gap.
    pub(super) fn mirror_prefix(&self) -> PieceIndex {
        let from_mirror = |piece: &PieceIndex| self.by(*piece) == Some(By::Mirror);
        (0..self.ledger.prefix()).take_while(from_mirror).last().map_or(0, |last| last + 1)
    }

    pub(super) fn put_link(&mut self, piece: PieceIndex, link: Link, by: By) {
        self.ledger.link(piece, link);
        self.revision += 1;
        if let Some(slot) = self.by.get_mut(piece as usize) {
            *slot = Some(by);
        }
    }
}
