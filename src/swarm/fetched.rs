//! What comes of the fetches of a download: their progress, their pieces, their failures.

use std::time::Instant;

use super::download::{By, Download, Fetch};
use super::fault::PeerFault;
use super::order::{Fact, FetchId, Outcome, Walker};
use super::source::{Group, Mirror, Peer, SourceId};
use crate::pieces::{End, Link, PieceIndex};

/// A sender whose bytes for a piece led elsewhere than the list says; judged when the object is closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect {
    pub(super) source: SourceId,
    pub(super) piece: PieceIndex,
    pub(super) link: Link,
}

impl Download {
    /// A fetch got its answer's head, or more of its body: for a walk, bytes up to `offset` are in the object.
    pub fn handle_progress(&mut self, fetch: FetchId, offset: u64, bytes: u64, now: Instant) {
        let asked = match self.fetches.get_mut(&fetch) {
            Some(Fetch::Walk { offset: at, progress, .. }) => {
                (*at, *progress) = (offset, now);
                self.from_mirror.add(bytes, now);
                None
            }
            Some(Fetch::Piece { progress, started, source, piece, arrived, .. }) => {
                (*progress, *started, *arrived) = (now, true, arrived.saturating_add(bytes));
                Some((*source, *piece))
            }
            None => None,
        };
        // Bytes that are on trial are none yet: the mirror is not to wait for them. Nor are its own first ones a reason for it to
        // wait longer for peers.
        if asked.is_some_and(|(_, piece)| self.is_on_trial(piece)) || self.is_opening_alone(fetch) {
            return;
        }
        self.last_byte = Some(now);
        if let Some((source, _)) = asked {
            self.peer_bytes += bytes;
            self.from_peers.add(bytes, now);
            if let Some(peer) = self.peers.get_mut(source.0 as usize) {
                peer.delivered |= bytes > 0;
                peer.busy_since = peer.busy_since.filter(|_| bytes == 0);
            }
        }
    }

    /// The peer has answered a fetch; what comes until [`Self::handle_begun`] is our own delay, not the peer's.
    pub fn handle_answered(&mut self, fetch: FetchId) {
        if let Some(Fetch::Piece { started, held, .. }) = self.fetches.get_mut(&fetch) {
            (*started, *held) = (true, true);
        }
    }

    /// We keep a fetch waiting for the sake of our own limit, until [`Self::handle_begun`]: nobody is slow who waits for us.
    pub fn handle_held_back(&mut self, fetch: FetchId, now: Instant) {
        match self.fetches.get_mut(&fetch) {
            Some(Fetch::Piece { held, .. }) => {
                (*held, self.held_back) = (true, Some(now));
                self.give_up_opening();
            }
            Some(Fetch::Walk { walker, progress, .. }) => {
                *progress = now;
                match walker {
                    Walker::Peer(_) => self.held_back = Some(now),
                    Walker::Mirror => self.mirror_held_back = Some(now),
                }
            }
            None => {}
        }
    }

    /// The driver asks the peer, or reads the body of its answer: the peer's time counts from now.
    pub fn handle_begun(&mut self, fetch: FetchId, now: Instant) {
        match self.fetches.get_mut(&fetch) {
            Some(Fetch::Piece { asked, progress, held, .. }) => {
                (*asked, *progress, *held) = (now, now, false);
            }
            Some(Fetch::Walk { progress, .. }) => *progress = now,
            None => {}
        }
    }

    /// A linked piece was written over with other bytes, by a fetch that was cancelled too late: it is fetched again.
    pub fn handle_overwritten(&mut self, piece: PieceIndex) {
        self.unlink_between(piece, piece + 1);
        if self.outcome == Outcome::Closed {
            // It is not closed after all, and the driver, who was just cancelling what is not needed any more, has told nobody.
            self.outcome = Outcome::Running;
            self.released = self.released.min(self.geometry().range(piece).start);
        }
    }

    /// A peer's piece led where it should and is in the object now.
    pub fn handle_piece_linked(&mut self, fetch: FetchId) {
        self.note_rate(fetch);
        let Some(Fetch::Piece { source, piece, link, .. }) = self.fetches.remove(&fetch) else { return };
        self.put_link(piece, link, By::Listed);
        self.facts.push_back(Fact::PieceLinked(source, piece));
        self.cancel_fetches_of(piece);
        self.settle();
    }

    /// A peer's piece led elsewhere, to `end`.
    pub fn handle_piece_unlinked(&mut self, fetch: FetchId, end: End) {
        let Some(Fetch::Piece { source, piece, link, .. }) = self.fetches.remove(&fetch) else { return };
        let own_word = self.claims.is_own_word(source, piece, &link);
        if (piece == 0 && self.ledger.proven_end(0) == Some(link.end)) || own_word {
            // Either both ends are beyond doubt, or list and bytes are of one hand and contradict each other.
            self.charge(source, PeerFault::WrongPiece);
            if own_word && !self.claims.is_signed() {
                self.discard_camp();
            }
            self.claims.discard(source);
            self.revision += 1;
            self.retire(source);
            return;
        }
        let suspect = Suspect { source, piece, link: Link { start: link.start, end } };
        let same_bytes = |other: &&Suspect| other.piece == piece && other.link == suspect.link;
        let witness = self.suspects.iter().find(same_bytes).map(|other| other.source);
        self.suspects.push(suspect);
        if self.rests_on_found(piece) {
            // Nobody answers for that list: it is not worth a second try, and the sender not worth a doubt.
            self.discard_found();
            return;
        }
        if self.claims.is_signed() && !self.is_without_mirror() {
            // A publisher's word stands against any number of strangers; the mirror will show who is right.
            self.suspend(source);
            return;
        }
        if witness.is_some_and(|witness| self.group(witness) != self.group(source)) {
            // Two networks sent the same bytes: it is the list that seems wrong. Whether it is shows when the object is
            // closed; two liars could frame it.
            self.discard_camp();
            return;
        }
        self.suspend(source);
        if !self.peers.iter().any(Peer::is_alive) {
            self.discard_camp();
        }
    }

    /// A walk came to the end of a piece. `whole`: all its bytes were written by this walk.
    pub fn handle_walked(&mut self, fetch: FetchId, end: End, whole: bool) {
        let Some(Fetch::Walk { walker, piece, start, .. }) = self.fetches.get(&fetch) else { return };
        let (walker, piece, start) = (*walker, *piece, *start);
        if whole && !self.ledger.is_linked(piece) {
            let by = match walker {
                Walker::Mirror => By::Mirror,
                Walker::Peer(source) => By::Walked(source),
            };
            self.put_link(piece, Link { start, end }, by);
            self.cancel_where(|fetch| matches!(fetch, Fetch::Piece { piece: of, .. } if *of == piece));
        }
        self.check_camp_against_walk();
        self.go_on_walking(fetch, piece + 1, end);
        self.settle();
    }

    /// A fetch from a peer failed.
    pub fn handle_piece_failure(&mut self, fetch: FetchId, fault: PeerFault) {
        let source = match self.fetches.remove(&fetch) {
            Some(Fetch::Piece { source, .. } | Fetch::Walk { walker: Walker::Peer(source), .. }) => source,
            _ => return,
        };
        self.charge(source, fault);
        self.retire(source);
    }

    /// The peer answered that it does not hold what a fetch asked for.
    pub fn handle_piece_not_held(&mut self, fetch: FetchId) {
        let source = match self.fetches.remove(&fetch) {
            Some(Fetch::Piece { source, .. } | Fetch::Walk { walker: Walker::Peer(source), .. }) => source,
            _ => return,
        };
        self.handle_not_held(source);
    }

    /// The walk ended before its range did, for good: the mirror's client has done what retrying can do. `fault` is
    /// for a peer that was walked.
    pub fn handle_walk_failure(&mut self, fetch: FetchId, fault: PeerFault) {
        match self.fetches.remove(&fetch) {
            Some(Fetch::Walk { walker: Walker::Mirror, .. }) => self.mirror = Mirror::Gone,
            Some(Fetch::Walk { walker: Walker::Peer(source), .. }) => {
                self.charge(source, fault);
                self.retire(source);
            }
            _ => {}
        }
    }

    fn go_on_walking(&mut self, fetch: FetchId, next: PieceIndex, end: End) {
        let taken = self.ledger.is_linked(next) || (self.is_taken(next) && !self.may_overtake(fetch));
        let from = self.geometry().range(next).start;
        match (self.fetches.get_mut(&fetch), end) {
            (Some(Fetch::Walk { piece, start, until, .. }), End::State(state)) if from < *until => {
                if taken {
                    self.cancel(fetch);
                } else {
                    (*piece, *start) = (next, state);
                }
            }
            _ => {
                self.fetches.remove(&fetch);
            }
        }
    }

    fn cancel_fetches_of(&mut self, piece: PieceIndex) {
        self.cancel_where(|fetch| match fetch {
            Fetch::Piece { piece: of, .. } | Fetch::Walk { piece: of, .. } => *of == piece,
        });
    }

    fn group(&self, source: SourceId) -> Option<Group> {
        self.peers.get(source.0 as usize).map(|peer| peer.group)
    }
}
