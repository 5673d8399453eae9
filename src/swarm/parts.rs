//! A piece that several peers bring: who helps whom, where the piece is cut, and who is to blame when it is wrong.
//!
//! A piece is fetched from one peer. Where another has nothing to do, the end of what is still to come is cut off for it, so
//! that both are through at the same time.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::download::{Download, Fetch};
use super::order::{FetchId, Order};
use super::pace;
use super::source::{Peer, SourceId};
use super::survey::Survey;
use crate::digest::Sha256;
use crate::pieces::{End, Link, PieceIndex, State};

/// Parts of one piece, at most: each costs a request and, where it is cut, a connection.
const PARTS: usize = 4;

/// The shortest part that is worth a request, in bytes: TCP does not reach a line's rate in less.
const LEAST_BYTES: u64 = 256 << 10;

/// What comes sooner than this is not worth help.
const LEAST_TIME: Duration = Duration::from_millis(50);

/// What of its piece a fetch brings.
#[derive(Debug)]
pub(super) struct Part {
    /// What it is to bring; its end moves when the rest is left to somebody else.
    pub(super) range: Range<u64>,
    /// Up to where it is here.
    at: u64,
    /// All of it is here; the piece's own fetch waits for the parts of others.
    pub(super) done: bool,
    /// The piece's own fetch, where it is not that itself.
    pub(super) helps: Option<FetchId>,
    /// What others have brought, where it is the piece's own.
    brought: Vec<Brought>,
}

#[derive(Debug)]
struct Brought {
    fetch: FetchId,
    source: SourceId,
    range: Range<u64>,
}

/// What one peer sent of a piece that came from several and was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    source: SourceId,
    range: Range<u64>,
    digest: Sha256,
}

/// A piece that came from several peers and was wrong: whose fault it is shows when the right bytes are here.
#[derive(Debug)]
pub(super) struct Mixture {
    piece: PieceIndex,
    /// The state that it was taken to begin with.
    start: State,
    shares: Vec<Share>,
}

/// A part of a piece for a peer.
#[derive(Debug)]
pub(super) struct Help {
    piece: PieceIndex,
    link: Link,
    /// The piece's own fetch.
    helps: FetchId,
    /// The fetch whose end it takes over; none where a part is missing.
    cut: Option<FetchId>,
    range: Range<u64>,
}

/// What a fetch has still to bring.
struct Rest {
    fetch: FetchId,
    helps: FetchId,
    piece: PieceIndex,
    link: Link,
    range: Range<u64>,
    /// Bytes a second, where anything is known of it.
    rate: Option<f64>,
}

impl Part {
    pub(super) const fn whole(range: Range<u64>) -> Self {
        Self { at: range.start, range, done: false, helps: None, brought: Vec::new() }
    }

    fn of(helps: FetchId, range: Range<u64>) -> Self {
        Self { helps: Some(helps), ..Self::whole(range) }
    }
}

impl Rest {
    fn seconds(&self) -> f64 {
        as_f64(self.range.end - self.range.start) / self.rate.unwrap_or(pace::MIRROR_RATE_GUESS)
    }
}

impl Download {
    /// A fetch of a piece has come so far in the object. The driver says so of each before [`Self::handle_timeout`], for where a
    /// piece is best cut follows from it.
    pub fn handle_position(&mut self, fetch: FetchId, at: u64) {
        if let Some(Fetch::Piece { part, .. }) = self.fetches.get_mut(&fetch) {
            part.at = at.clamp(part.range.start, part.range.end);
        }
    }

    /// The driver has cut a fetch off for the sake of `part`, which begins here: where it was ordered to, or further on if so
    /// much had come by then. Call it before anything else happens.
    pub fn handle_cut(&mut self, part: FetchId, at: u64) {
        let Some(Fetch::Piece { part: Part { range, at: from, helps: Some(helps), .. }, .. }) =
            self.fetches.get_mut(&part)
        else {
            return;
        };
        let (before, helps) = (range.start, *helps);
        range.start = at.clamp(range.start, range.end);
        *from = range.start;
        let (start, empty) = (range.start, range.is_empty());
        let cut = self.fetches.iter_mut().find_map(|(id, fetch)| match fetch {
            Fetch::Piece { part: of, .. } => {
                let member = *id == helps || of.helps == Some(helps);
                (member && *id != part && of.range.end == before).then_some(of)
            }
            Fetch::Walk { .. } => None,
        });
        cut.into_iter().for_each(|of| of.range.end = start);
        if empty {
            self.cancel(part);
        }
    }

    /// A part of a piece is here, be it of the piece's own fetch or of one that helps.
    pub fn handle_part_came(&mut self, fetch: FetchId) {
        self.note_rate(fetch);
        match self.fetches.get_mut(&fetch) {
            Some(Fetch::Piece { part: Part { helps: Some(helps), range, .. }, source, .. }) => {
                let (helps, brought) = (*helps, Brought { fetch, source: *source, range: range.clone() });
                self.fetches.remove(&fetch);
                if let Some(Fetch::Piece { part, arrived, .. }) = self.fetches.get_mut(&helps) {
                    *arrived = arrived.saturating_add(brought.range.end - brought.range.start);
                    part.brought.push(brought);
                }
            }
            // From here on nobody waits for its peer.
            Some(Fetch::Piece { part, held, .. }) => (part.done, *held) = (true, true),
            _ => {}
        }
    }

    /// A piece that several fetches have brought led elsewhere, to `end`; what each of them sent has this digest.
    ///
    /// Nobody is charged, for any of them may be innocent: the piece is fetched again from one peer, and these are not mixed
    /// any more.
    pub fn handle_mixture_unlinked(&mut self, fetch: FetchId, end: End, digests: &[(FetchId, Sha256)]) {
        let Some(Fetch::Piece { source, piece, link, part, .. }) = self.fetches.get(&fetch) else { return };
        let own = Brought { fetch, source: *source, range: part.range.clone() };
        let parts = part.brought.iter().chain(std::iter::once(&own));
        let share = |brought: &Brought| {
            let (_, digest) = digests.iter().find(|(of, _)| *of == brought.fetch)?;
            Some(Share { source: brought.source, range: brought.range.clone(), digest: *digest })
        };
        let shares: Vec<Share> = parts.filter_map(share).collect();
        if shares.iter().all(|share| share.source == *source) {
            return self.handle_piece_unlinked(fetch, end);
        }
        self.mixtures.push(Mixture { piece: *piece, start: link.start, shares });
        self.fetches.remove(&fetch);
        self.drop_lost_parts();
    }

    /// The object is closed, and these are not the bytes that the peer sent: see [`Order::Compare`].
    pub fn handle_other_bytes(&mut self, source: SourceId) {
        self.charge(source, super::PeerFault::WrongPiece);
    }

    /// The right bytes are known: whoever sent others for his part of a piece is found out.
    pub(super) fn judge_mixtures(&mut self) {
        for mixture in std::mem::take(&mut self.mixtures) {
            if self.ledger.get(mixture.piece).is_some_and(|link| link.start == mixture.start) {
                let compare = |Share { source, range, digest }| Order::Compare { source, range, digest };
                self.orders.extend(mixture.shares.into_iter().map(compare));
            }
        }
    }

    /// Gives up parts of pieces that are not fetched any more, and pieces of which nobody is left to bring a part.
    pub(super) fn drop_lost_parts(&mut self) {
        let lost = |fetch: &Fetch| match fetch {
            Fetch::Piece { part: Part { helps: Some(helps), .. }, .. } => !self.fetches.contains_key(helps),
            _ => false,
        };
        let stuck = |id: FetchId, fetch: &Fetch| match fetch {
            Fetch::Piece { part, piece, .. } => {
                part.done
                    && self.gap(id, part, *piece).is_some()
                    && !self.members(id).any(|(of, _)| of != id)
                    && !self.peers.iter().any(|peer| peer.is_alive() && self.may_fill(peer, fetch))
            }
            Fetch::Walk { .. } => false,
        };
        let of_no_use = |(id, fetch): (&FetchId, &Fetch)| (lost(fetch) || stuck(*id, fetch)).then_some(*id);
        let ids: Vec<FetchId> = self.fetches.iter().filter_map(of_no_use).collect();
        ids.into_iter().for_each(|fetch| self.cancel(fetch));
    }

    /// A part that is missing because whoever was to bring it did not.
    pub(super) fn gap_for(&self, peer: &Peer) -> Option<Help> {
        self.fetches.iter().find_map(|(id, fetch)| {
            let Fetch::Piece { part, piece, link, .. } = fetch else { return None };
            if part.helps.is_some() || !self.may_fill(peer, fetch) {
                return None;
            }
            let range = self.gap(*id, part, *piece)?;
            Some(Help { piece: *piece, link: *link, helps: *id, cut: None, range })
        })
    }

    /// What a peer that has nothing else to do can take over from one that is at work.
    pub(super) fn help_for(&self, survey: &Survey, peer: &Peer, now: Instant) -> Option<Help> {
        // Only a whole piece can be given on: pieces stay whole where anybody else wants the object, and where lines are shared.
        // A package of one piece is asked for once.
        let kept_by_us = self.held_back.is_some_and(|at| now < at + pace::JUDGE_AFTER);
        if self.growing() > 0 || kept_by_us || self.geometry().pieces() == 1 || !self.may_mix(peer.id) {
            return None;
        }
        let rests = self.fetches.iter().filter_map(|(id, fetch)| self.rest_of(*id, fetch, now));
        let may_help = |rest: &Rest| survey.may_bring(peer, rest.piece) && self.may_divide(rest, peer);
        let longest = rests.filter(may_help).max_by(|a, b| a.seconds().total_cmp(&b.seconds()))?;
        divide(&longest, peer)
    }

    pub(super) fn order_part(&mut self, source: SourceId, help: Help, now: Instant) {
        let Help { piece, link, helps, cut, range } = help;
        if let Some(Fetch::Piece { part, .. }) = cut.and_then(|cut| self.fetches.get_mut(&cut)) {
            part.range.end = range.start;
        }
        let part = Part::of(helps, range.clone());
        let fetch = self.begin_piece(source, piece, link, part, now);
        self.orders.push_back(Order::FetchPart { fetch, source, piece, helps, cut, range });
    }

    /// How fast its peer was, for a fetch that is through.
    pub(super) fn note_rate(&mut self, fetch: FetchId) {
        if let Some(Fetch::Piece { source, part, asked, progress, .. }) = self.fetches.get(&fetch)
            && let bytes = part.range.end - part.range.start
            && let Some(rate) = rate(bytes, progress.saturating_duration_since(*asked))
            && let Some(peer) = self.peers.get_mut(source.0 as usize)
        {
            peer.rate = Some(rate);
        }
    }

    /// The fetches of a piece that one fetch was begun with.
    pub(super) fn members(&self, own: FetchId) -> impl Iterator<Item = (FetchId, &Fetch)> {
        let is_member = move |id: FetchId, fetch: &Fetch| {
            id == own || matches!(fetch, Fetch::Piece { part, .. } if part.helps == Some(own))
        };
        self.fetches.iter().map(|(id, fetch)| (*id, fetch)).filter(move |(id, fetch)| is_member(*id, fetch))
    }

    /// The first part of the piece that is neither here nor being fetched.
    fn gap(&self, own: FetchId, part: &Part, piece: PieceIndex) -> Option<Range<u64>> {
        let mut taken: Vec<Range<u64>> = part.brought.iter().map(|brought| brought.range.clone()).collect();
        taken.extend(self.members(own).filter_map(|(_, fetch)| match fetch {
            Fetch::Piece { part, .. } => Some(part.range.clone()),
            Fetch::Walk { .. } => None,
        }));
        taken.sort_by_key(|range| range.start);
        let whole = self.geometry().range(piece);
        let mut at = whole.start;
        for range in taken.into_iter().chain(std::iter::once(whole.end..whole.end)) {
            if range.start > at {
                return Some(at..range.start);
            }
            at = at.max(range.end);
        }
        None
    }

    /// Whether the peer may bring what is missing of a piece: any that may be mixed, and the one that brought the rest.
    fn may_fill(&self, peer: &Peer, fetch: &Fetch) -> bool {
        let Fetch::Piece { source, piece, .. } = fetch else { return false };
        peer.holds(*piece) && (peer.id == *source || (self.may_mix(peer.id) && self.may_mix(*source)))
    }

    /// Whether it has not been among those who brought a wrong piece together.
    fn may_mix(&self, source: SourceId) -> bool {
        let shares = self.mixtures.iter().flat_map(|mixture| &mixture.shares);
        shares.into_iter().all(|share| share.source != source)
    }

    fn may_divide(&self, rest: &Rest, peer: &Peer) -> bool {
        let (mut own, mut parts) = (0, 0);
        for (id, fetch) in &self.fetches {
            match fetch {
                Fetch::Piece { piece, source, part, .. } if *piece == rest.piece => {
                    if *source == peer.id && !part.done || !self.may_mix(*source) {
                        return false;
                    }
                    own += usize::from(part.helps.is_none());
                    parts += 1 + part.brought.len();
                }
                Fetch::Walk { piece, .. } if *piece == rest.piece && !self.is_opening_alone(*id) => {
                    return false;
                }
                _ => {}
            }
        }
        let was_wrong = self.mixtures.iter().any(|mixture| mixture.piece == rest.piece);
        own == 1 && parts < PARTS && !was_wrong && !self.rests_on_found(rest.piece)
    }

    /// What a fetch under way has still to bring.
    fn rest_of(&self, fetch: FetchId, state: &Fetch, now: Instant) -> Option<Rest> {
        let Fetch::Piece { source, piece, link, asked, started: true, held: false, part, .. } = state else {
            return None;
        };
        let peer = self.peers.get(source.0 as usize)?;
        let own = rate(part.at - part.range.start, now.saturating_duration_since(*asked));
        let (helps, range) = (part.helps.unwrap_or(fetch), part.at..part.range.end);
        let rate = own.or(peer.rate).or(peer.standing.rate);
        Some(Rest { fetch, helps, piece: *piece, link: *link, range, rate })
    }
}

/// Cuts what is left so that both are through at the same time; `None` where it is not worth it.
fn divide(rest: &Rest, peer: &Peer) -> Option<Help> {
    let answer = peer.answer.or(peer.standing.first_byte).unwrap_or(pace::HEDGE_LEAST);
    let helper = peer.rate.or(peer.standing.rate);
    let rate = rest.rate.or(helper).unwrap_or(pace::MIRROR_RATE_GUESS);
    let helper = helper.unwrap_or(rate);
    let bytes = rest.range.end - rest.range.start;
    let time = as_f64(bytes) / rate;
    if time < 2.0 * answer.as_secs_f64() || time < LEAST_TIME.as_secs_f64() {
        return None;
    }
    // x / rate = answer + (bytes - x) / helper
    let stays = (answer.as_secs_f64() + as_f64(bytes) / helper) / (1.0 / rate + 1.0 / helper);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a piece")]
    let at = rest.range.start + (stays as u64).min(bytes);
    let range = at..rest.range.end;
    let Rest { fetch, helps, piece, link, .. } = *rest;
    (range.end - range.start >= LEAST_BYTES).then_some(Help { piece, link, helps, cut: Some(fetch), range })
}

/// In bytes a second; `None` where it is too early to say.
fn rate(bytes: u64, time: Duration) -> Option<f64> {
    (bytes > 0 && !time.is_zero()).then(|| as_f64(bytes) / time.as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
const fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}
