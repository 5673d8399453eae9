//! The mirror beside quicker peers: the first bytes of a large object are its own unless they are ahead, and no piece is left
//! to it that they would give much sooner.

use std::time::Instant;

use super::download::{Download, Fetch, Prefer};
use super::order::{FetchId, Walker};
use super::pace;
use super::source::{Mirror, Peer};
use crate::pieces::{PIECE_LENGTH, PieceIndex};

impl Download {
    /// Has the mirror walk from the first byte, beside the peers that it waits for otherwise: a piece of theirs can be handed
    /// on when it is whole, and apt would have had the mirror's first bytes long before.
    ///
    /// Nothing is left to this walk: peers fetch what it is in. Where it comes to a piece that is whole already, it ends, for
    /// peers are ahead of it.
    pub(super) fn open_by_mirror(&mut self, now: Instant) {
        if self.opening_at(now).is_none_or(|at| now < at) {
            return;
        }
        let Some(start) = self.ledger.front_state() else { return };
        let linked = (0..self.geometry().pieces()).find(|piece| self.ledger.is_linked(*piece));
        let end = linked.map_or(self.geometry().length(), |piece| self.geometry().range(piece).start);
        self.opening = Some(self.order_walk(Walker::Mirror, 0..end, start, now));
    }

    /// When the mirror is to open; `None` where it has, or need not.
    pub(super) fn opening_at(&self, now: Instant) -> Option<Instant> {
        let open = self.opening.is_none()
            && self.mirror == Mirror::Standby
            && self.prefer == Prefer::Speed
            && self.rest.is_none()
            && self.held_back.is_none()
            // One piece is asked for once: who gives it gives everything.
            && self.geometry().pieces() > 1
            && self.released == 0
            && self.ledger.prefix() == 0
            && !self.is_crowd()
            && !self.fetches.values().any(|fetch| matches!(fetch, Fetch::Walk { .. }));
        (open && !self.has_company(now)).then(|| self.started + pace::OPENING)
    }

    /// Whether the mirror is spared for nodes of the local network, to which it is one for all, or may have to be: they have
    /// been asked a moment ago.
    fn has_company(&self, now: Instant) -> bool {
        if self.is_asking_nodes(now) {
            return true;
        }
        let nodes = self.peers.iter().filter(|peer| self.is_node(peer.id));
        nodes.into_iter().any(|peer| peer.is_promising() && !self.is_mute_node(peer))
    }

    /// Whether it is the walk that opens, and the mirror has not been asked to help otherwise.
    pub(super) fn is_opening_alone(&self, fetch: FetchId) -> bool {
        self.mirror == Mirror::Standby && self.opening == Some(fetch)
    }

    /// Whether this walk goes on where a peer is at work: apt hears this one, and peers that are slower are overtaken.
    pub(super) fn may_overtake(&self, fetch: FetchId) -> bool {
        self.opening == Some(fetch)
    }

    /// Peers wait for our own limit: what the mirror sent twice would be taken from them.
    pub(super) fn give_up_opening(&mut self) {
        if let Some(fetch) = self.opening.filter(|fetch| self.is_opening_alone(*fetch)) {
            self.cancel(fetch);
        }
    }

    /// Whether the peer would give the whole piece in half the time that the mirror, whose walk has come to `offset`, takes for the
    /// rest of it. Without this the last piece would come at the rate of a mirror however slow.
    pub(super) fn is_much_quicker(&self, peer: &Peer, piece: PieceIndex, offset: u64, now: Instant) -> bool {
        let range = self.geometry().range(piece);
        let seconds = |bytes: u64, rate: f64| {
            #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
            let bytes = bytes as f64;
            bytes / rate.max(1.0)
        };
        // Of whom nothing is known it is taken that a piece comes in the time after which it would be late.
        #[allow(clippy::cast_precision_loss, reason = "a constant")]
        let unknown = PIECE_LENGTH as f64 / pace::LATE_UNKNOWN.as_secs_f64();
        let answer = pace::hedge(&peer.standing, 1).as_secs_f64();
        let whole = answer + seconds(range.end - range.start, peer.standing.rate.unwrap_or(unknown));
        let left = range.end.saturating_sub(offset.max(range.start));
        seconds(left, self.from_mirror.rate(now)) > 2.0 * whole
    }
}
