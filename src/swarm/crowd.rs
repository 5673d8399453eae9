//! When many want the same object at the same time: peers that are busy, and a mirror that rests while peers do the work.

use std::time::{Duration, Instant};

use super::download::{Download, Fetch, Prefer};
use super::order::{FetchId, Walker};
use super::pace;
use super::source::{Holding, Mirror, Peer};
use crate::pieces::PieceIndex;

/// A busy peer is asked again after this time: a piece at a usual uplink takes about as long.
const BUSY: Duration = Duration::from_secs(2);

/// The same on the local network, where a piece takes a fraction of a second.
const BUSY_NEAR: Duration = Duration::from_millis(100);

/// A peer that has been busy for so long is given up: apt's own patience.
const BUSY_FOR_GOOD: Duration = Duration::from_secs(30);

/// So many peers must have what the mirror would send next before it rests: one of them may leave.
const HOLDERS: usize = 2;

/// Pieces in flight for one object in a crowd.
const PER_DOWNLOAD_IN_CROWD: usize = 5;

/// The mirror rests where peers deliver so many times what it does: what it would add is not worth its bytes.
const SPEED_RATIO: f64 = 2.0;

/// A mirror that gives less than this, in bytes a second, is crowded out: whoever walks it keeps it from those who are
/// ahead, and on whom the crowd waits.
const CROWDED_OUT: f64 = 2e6;

/// Who walks the n-th piece side by side with others draws a lot where the mirror gives less than an n-th of this, in bytes a
/// second. The further somebody is, the more wait for him, and the less is to stop him: lots that went on as they began
/// would leave nobody in the end.
const SIDE_BY_SIDE: f64 = 4e6;

/// The same for the first piece, which nobody can have from anybody yet: only a mirror that is far from serving all, in bytes
/// a second, and not a slow line of our own, is left to others.
const FIRST_SIDE_BY_SIDE: f64 = 250e3;

/// Who gets nothing from anybody waits so long for those who are ahead, and up to twice that: not all are to come back to
/// the mirror at once.
const PATIENCE: Duration = Duration::from_secs(4);

/// So many rests in a row may be in vain: what a crowd is about to have, it often has a little later.
const IN_VAIN: u32 = 3;

/// After that the mirror does not rest for this time, and twice as long after each further one.
const AFTER_VAIN: Duration = Duration::from_secs(8);

/// The least time that the mirror rests, and between two rests.
const REST: Duration = Duration::from_secs(2);

/// Lots of one rest and of the next are this far apart: more pieces than an object has.
const LOTS: PieceIndex = 1 << 20;

/// Growing holders asked for their lists a second, all together: each list is a question and up to some kilobytes.
const LISTS_PER_SECOND: f64 = 16.0;

/// Why the mirror is not walked, although it was asked to help.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    since: Instant,
    /// What it gave, in bytes a second.
    rate: f64,
    /// Peers had what it would have sent; else it rests for the sake of those who go on.
    served: bool,
    /// What peers had delivered when it began.
    bytes: u64,
}

/// What came of letting the mirror rest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rests {
    /// So many in a row were in vain.
    vain: u32,
    /// When it may rest again at the earliest.
    not_before: Option<Instant>,
    /// It was called for apt, and does not rest before more than this is released.
    fed: u64,
    /// Which lots are drawn: others after each rest.
    lots: PieceIndex,
}

impl Download {
    /// The peer has answered that it cannot send any more now. No fault: it is asked again a little later.
    pub fn handle_busy(&mut self, fetch: FetchId, now: Instant) {
        let Some(Fetch::Piece { source, .. } | Fetch::Walk { walker: Walker::Peer(source), .. }) =
            self.fetches.remove(&fetch)
        else {
            return;
        };
        let near = self.is_node(source);
        let Some(peer) = self.peers.get_mut(source.0 as usize) else { return };
        let since = *peer.busy_since.get_or_insert(now);
        peer.busy_until = Some(now + if near { BUSY_NEAR } else { BUSY });
        if now >= since + BUSY_FOR_GOOD {
            self.handle_not_held(source);
        }
    }

    /// How long at least a holder that is still growing is left alone between two questions; nothing where there are few.
    pub(super) fn list_pause(&self) -> Duration {
        if !self.is_crowd() {
            return Duration::ZERO;
        }
        #[allow(clippy::cast_precision_loss, reason = "a few hundred peers")]
        let all = self.growing() as f64 / LISTS_PER_SECOND;
        Duration::from_secs_f64(all)
    }

    /// Whether somebody who is busy now may deliver later.
    pub(super) fn is_somebody_busy(&self) -> bool {
        self.peers.iter().any(|peer| peer.is_alive() && peer.busy_until.is_some())
    }

    pub(super) fn end_busy(&mut self, now: Instant) {
        for peer in &mut self.peers {
            peer.busy_until = peer.busy_until.filter(|until| now < *until);
        }
    }

    /// Lets the mirror rest where a crowd does its work: a thousand walks of one mirror give everybody the same first
    /// piece, and little of it.
    pub(super) fn rest_if_possible(&mut self, now: Instant) {
        // What apt gets first does not wait.
        let tired = self.rests.not_before.is_some_and(|at| now < at);
        if self.mirror != Mirror::Active
            || self.released <= self.rests.fed
            || tired
            || !self.is_wanted_by_many()
            || self.is_followed()
        {
            return;
        }
        let walk = self.fetches.iter().find_map(|(id, fetch)| match fetch {
            Fetch::Walk { walker: Walker::Mirror, piece, offset, .. } => Some((*id, *piece, *offset)),
            _ => None,
        });
        let Some((id, piece, offset)) = walk else { return };
        let (peers, rate) = (self.from_peers.rate(now), self.from_mirror.rate(now));
        let crowded_out = self.gives_less_than(CROWDED_OUT, rate, now);
        let enough = match self.prefer {
            Prefer::Speed => crowded_out || (peers >= SPEED_RATIO * rate && peers > pace::OFFLOAD_RATE),
            Prefer::Offload => peers > pace::OFFLOAD_RATE,
        };
        let holders = self.peers.iter().filter(|peer| peer.is_of_use() && peer.holds(piece)).count();
        let ahead = holders >= HOLDERS && self.is_open(piece, now);
        let served = enough && ahead;
        let early = self.is_early(piece, offset);
        // What a walk has of a piece is lost with it. Where the mirror is crowded out, the rest would take longer.
        let cut = served && (early || crowded_out);
        let rests = cut || (early && self.draws_rest(piece, rate, now));
        if !rests {
            return;
        }
        self.cancel(id);
        self.mirror = Mirror::Standby;
        self.rest = Some(Rest { since: now, rate, served, bytes: self.peer_bytes });
        // It did not lead nowhere.
        self.walks_from.1 = self.walks_from.1.saturating_sub(1);
    }

    /// Whether the mirror gives us so little, and not because of our own limit.
    fn gives_less_than(&self, least: f64, rate: f64, now: Instant) -> bool {
        rate < least && self.mirror_held_back.is_none_or(|at| now >= at + pace::JUDGE_AFTER)
    }

    /// Where all walk side by side, none is ahead of the others and nobody has anything to give. So for each piece a lot
    /// is drawn: as many go on as the mirror serves well, the others wait for those.
    fn draws_rest(&mut self, piece: PieceIndex, rate: f64, now: Instant) -> bool {
        let wanted = if piece == 0 { FIRST_SIDE_BY_SIDE } else { SIDE_BY_SIDE / f64::from(piece + 1) };
        if !self.gives_less_than(wanted, rate, now) {
            return false;
        }
        if self.rests.vain >= IN_VAIN || self.drawn_for > piece {
            return false;
        }
        self.drawn_for = piece + 1;
        #[allow(clippy::cast_precision_loss, reason = "a part of two to the sixteenth")]
        let lot = (self.shuffled(piece.wrapping_add(self.rests.lots)) % 65_536) as f64 / 65_536.0;
        lot >= rate / wanted
    }

    fn is_early(&self, piece: u32, offset: u64) -> bool {
        let range = self.geometry().range(piece);
        let done = offset.saturating_sub(range.start);
        done * 4 <= range.end - range.start
    }

    /// Whether the mirror, which rests, is to help again; `None` where it does not rest.
    pub(super) fn is_rest_over(&self, now: Instant) -> Option<bool> {
        let rest = self.rest?;
        if now < rest.since + REST {
            return Some(false);
        }
        #[allow(clippy::cast_precision_loss, reason = "a part of two to the eighth")]
        let patience = PATIENCE.mul_f64(1.0 + (self.seed % 256) as f64 / 256.0);
        let starved = self.last_byte.is_none_or(|at| now >= at + patience);
        let starving_apt = self.is_apt_starving(&rest, now);
        let rate = self.from_peers.rate(now);
        let slow = match self.prefer {
            Prefer::Speed => rate < rest.rate,
            Prefer::Offload => rate < pace::OFFLOAD_RATE && now >= rest.since + pace::HEDGE_OFFLOAD,
        };
        Some(starving_apt || (rest.served && (starved || slow)))
    }

    fn is_apt_starving(&self, rest: &Rest, now: Instant) -> bool {
        now >= self.last_release.max(rest.since) + pace::APT_PATIENCE
    }

    /// When apt has waited long enough for what peers send first, if they do not send what it waits for.
    pub(super) fn apt_waits_until(&self) -> Instant {
        let front = self.ledger.prefix();
        let coming = self
            .fetches
            .values()
            .any(|fetch| matches!(fetch, Fetch::Piece { piece, started: true, .. } if *piece == front));
        let spared = self.released == 0 && !coming;
        let patience = if spared { pace::HEDGE_OFFLOAD } else { pace::APT_PATIENCE };
        self.last_release + patience
    }

    /// Whether apt has waited too long for the piece at the front, which a peer is at work on: the mirror walks over it, for
    /// its bytes can be handed on before the piece is whole. In a crowd that is sooner, for lines are shared there.
    pub(super) fn is_front_overdue(&self, now: Instant) -> bool {
        let until =
            if self.is_crowd() { self.apt_waits_until() } else { self.last_release + pace::APT_PATIENCE };
        now >= until
    }

    /// Calls the mirror back to where apt waits: whatever it brings further on is of no use to apt now.
    pub(super) fn walk_front_if_overdue(&mut self, now: Instant) {
        let front = self.ledger.prefix();
        let elsewhere = |fetch: &Fetch| matches!(fetch, Fetch::Walk { walker: Walker::Mirror, piece, .. } if *piece != front);
        if self.mirror == Mirror::Active && self.is_front_overdue(now) && !self.ledger.is_linked(front) {
            self.cancel_where(elsewhere);
        }
    }

    /// Pieces in flight. In a crowd everybody's line is shared by many: fewer at a time are whole sooner, and can be given
    /// on sooner.
    pub(super) fn at_a_time(&self) -> usize {
        if self.is_crowd() { PER_DOWNLOAD_IN_CROWD } else { pace::PER_DOWNLOAD }
    }

    /// The mirror helps again. Where peers did not give what it had given, it is not to rest again soon: nobody may be
    /// later for a crowd than without one.
    pub(super) fn end_rest(&mut self, now: Instant) -> bool {
        let Some(rest) = self.rest.take() else { return false };
        #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
        let came = self.peer_bytes.saturating_sub(rest.bytes) as f64;
        let in_vain = came < rest.rate * now.duration_since(rest.since).as_secs_f64();
        self.rests.vain = if in_vain { self.rests.vain.saturating_add(1) } else { 0 };
        let too_many = self.rests.vain.checked_sub(IN_VAIN);
        self.rests.not_before = too_many.map(|more| now + AFTER_VAIN * (1 << more.min(4)));
        // What is measured of the mirror is of long ago: without this it would rest again before apt has anything of it.
        self.rests.fed = if self.is_apt_starving(&rest, now) { self.released } else { 0 };
        self.rests.lots = self.rests.lots.wrapping_add(LOTS);
        self.drawn_for = self.drawn_for.saturating_sub(1);
        true
    }

    /// When to look again whether it is.
    pub(super) fn rest_looked_at(&self, now: Instant) -> Option<Instant> {
        self.rest.map(|rest| (rest.since + REST).max(now + pace::JUDGE_AFTER))
    }

    /// In a crowd lines are shared, and a piece takes as long as it takes: late is what takes twice the time that all
    /// that is under way needs on average.
    pub(super) fn usual_time(&self, now: Instant) -> Option<Duration> {
        let rate = self.from_peers.rate(now);
        if !self.is_crowd() || rate < 1.0 {
            return None;
        }
        #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
        let bytes = (self.fetches.len() as u64 * crate::pieces::PIECE_LENGTH) as f64;
        Some(Duration::from_secs_f64((2.0 * bytes / rate).min(60.0)))
    }
}

impl Peer {
    /// Whether it would answer if it were asked now.
    pub(super) const fn is_of_use(&self) -> bool {
        matches!(self.holding, Holding::Pieces { .. }) && self.busy_until.is_none()
    }
}
