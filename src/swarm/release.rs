//! How much of a download may be handed out (docs/verification.md).

use std::time::Instant;

use super::claims::Trust;
use super::download::{By, Download, Fetch};
use super::order::Walker;
use super::pace;
use crate::pieces::PieceIndex;

impl Download {
    pub(super) fn release(&mut self, now: Instant) {
        let end = if self.ledger.is_closed() {
            self.geometry().length()
        } else {
            self.releasable(now).min(self.geometry().length().saturating_sub(1))
        };
        if end > self.released {
            self.released = end;
            self.last_release = now;
        }
        if self.ledger.is_closed() {
            self.close();
        }
    }

    /// The end of the run from byte 0 that docs/verification.md allows to be released.
    fn releasable(&self, now: Instant) -> u64 {
        let geometry = self.geometry();
        let (prefix, proven) = (self.ledger.prefix(), self.ledger.proven_from());
        for piece in 0..prefix {
            let vouched = self.by(piece) == Some(By::Mirror)
                || piece >= proven
                || self.is_resumed(piece)
                || self.is_open(piece, now);
            if !vouched {
                return geometry.range(piece).start;
            }
        }
        let walked = self.fetches.values().find_map(|fetch| match fetch {
            Fetch::Walk { walker, piece, offset, start, .. }
                if *piece == prefix && Some(*start) == self.ledger.front_state() =>
            {
                // Within the piece: what lies before is linked.
                let offset = (*offset).max(geometry.range(prefix).start);
                (*walker == Walker::Mirror || self.stranger_counts_as_neighbour(now)).then_some(offset)
            }
            _ => None,
        });
        walked.unwrap_or_else(|| prefix.checked_sub(1).map_or(0, |last| geometry.range(last).end))
    }

    /// Whether the leading list's word on both ends of a piece is good enough to hand the piece on.
    pub(super) fn is_open(&self, piece: PieceIndex, now: Instant) -> bool {
        let end = if piece == self.geometry().last() { piece } else { piece + 1 };
        self.stranger_counts_as_neighbour(now)
            || (self.claims.trust(piece) == Trust::Open && self.claims.trust(end) == Trust::Open)
    }

    /// The mirror is out, or gives nothing within apt's patience.
    pub(super) fn stranger_counts_as_neighbour(&self, now: Instant) -> bool {
        self.is_without_mirror() || now.duration_since(self.last_release) >= pace::APT_PATIENCE
    }
}
