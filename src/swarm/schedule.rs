//! Who is asked for what next, and when the mirror joins.

use std::time::{Duration, Instant};

use super::download::{Download, Fetch, Prefer};
use super::order::{Fact, FetchId, Outcome, Walker};
use super::pace;
use super::parts::Help;
use super::source::{Holding, Mirror, Peer, PeerKind, SourceId};
use super::survey::{Missing, Survey};
use crate::pieces::{End, Link, PIECE_LENGTH, PieceIndex};

/// When the mirror is to help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    At(Instant),
    Never,
}

/// What a peer is asked for.
enum Work {
    Piece(PieceIndex, Link),
    Part(Help),
}

impl Download {
    pub(super) fn schedule(&mut self, now: Instant) {
        if self.mirror == Mirror::Standby && self.mirror_due(now) == Due::Now {
            self.mirror = Mirror::Active;
            if !self.end_rest(now) {
                self.note(Fact::MirrorJoined);
                self.note_late_peers(now);
            }
        }
        if self.mirror == Mirror::Active && self.geometry().pieces() == 1 {
            // It may have joined before anybody could be called late.
            self.note_late_peers(now);
        }
        self.open_by_mirror(now);
        self.rest_if_possible(now);
        self.ask_growing_holders(now);
        self.walk_front_if_overdue(now);
        self.assign_walk(now);
        self.assign_pieces(now);
    }

    /// The mirror joins: whoever has kept us waiting is late. Without this, every object would wait anew for a peer that
    /// never answers, for the mirror ends the download before the peer is found out.
    fn note_late_peers(&mut self, now: Instant) {
        let asked_at = |peer: &Peer| match &peer.holding {
            Holding::Asked { since } => Some(*since),
            _ => self.asked_at(peer.id),
        };
        // Half of what the mirror waits: its time began with the download, this peer's with our question.
        let had_its_time = |peer: &Peer| {
            let time = self.hedge_for(peer).max(pace::HEDGE_LEAST) / 2;
            asked_at(peer).is_some_and(|asked| now >= asked + time)
        };
        let late = self
            .peers
            .iter()
            .filter(|peer| peer.is_promising() && !peer.late && !self.is_node(peer.id) && had_its_time(peer));
        let late: Vec<SourceId> = late.map(|peer| peer.id).collect();
        for source in late {
            self.peers.get_mut(source.0 as usize).into_iter().for_each(|peer| peer.late = true);
            self.note(Fact::PeerLate(source));
        }
    }

    /// When the oldest piece was asked for that a peer still owes us.
    fn asked_at(&self, peer: SourceId) -> Option<Instant> {
        let asked = self.fetches.values().filter_map(|fetch| match fetch {
            Fetch::Piece { source, asked, held: false, .. } if *source == peer => Some(*asked),
            _ => None,
        });
        asked.min()
    }

    /// When [`Download::handle_timeout`] is to be called at the latest; `None` once the download has ended.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        if self.outcome() != Outcome::Running {
            return None;
        }
        let stalls = self.fetches.values().filter_map(|fetch| match fetch {
            Fetch::Piece { source, progress, held: false, .. }
            | Fetch::Walk { walker: Walker::Peer(source), progress, .. } => {
                Some(*progress + self.stall_for(*source))
            }
            Fetch::Piece { .. } | Fetch::Walk { .. } => None,
        });
        let lateness =
            self.fetches.values().filter_map(|fetch| self.late_at(fetch, now)).filter(|at| *at > now);
        let pause = self.list_pause();
        let busy = self.peers.iter().filter_map(|peer| peer.busy_until);
        let answers = self.peers.iter().filter_map(|peer| match &peer.holding {
            Holding::Asked { since } if !self.is_unasked(peer.id) => {
                Some(*since + pace::stall(&peer.standing))
            }
            Holding::Pieces { have, .. } if !have.is_all() => self.ask_for_news_at(peer, pause, now),
            _ => None,
        });
        let news_due = |peer: &Peer| Some(peer.awaited_since? + pace::NEWS + pace::stall(&peer.standing));
        let news = self.peers.iter().filter_map(news_due).filter(|at| *at > now);
        let empty = self.peers.iter().filter_map(|peer| match &peer.holding {
            Holding::Pieces { have, grown_at, .. } if have.count() == 0 => Some(*grown_at + self.empty_for()),
            _ => None,
        });
        let hedge = match self.mirror_due(now) {
            Due::At(at) if self.mirror == Mirror::Standby => Some(at),
            Due::Now if self.mirror == Mirror::Standby => Some(now),
            _ => None,
        };
        let opening = self.opening_at(now);
        let patience =
            (self.last_release + pace::APT_PATIENCE > now).then(|| self.last_release + pace::APT_PATIENCE);
        let findings = self.findings_until.filter(|until| *until > now);
        stalls
            .chain(lateness)
            .chain(answers)
            .chain(news)
            .chain(empty)
            .chain(hedge)
            .chain(opening)
            .chain(patience)
            .chain(findings)
            .chain(busy)
            .min()
    }

    fn mirror_due(&self, now: Instant) -> Due {
        if self.is_without_mirror() {
            return Due::Never;
        }
        match self.is_rest_over(now) {
            Some(true) => return Due::Now,
            Some(false) => return self.rest_looked_at(now).map_or(Due::Never, Due::At),
            None => {}
        }
        if let Some(until) = self.owner_until(now) {
            return due_at(until, now);
        }
        let worth_it = |peer: &&Peer| {
            peer.is_promising()
                && !self.is_mute_node(peer)
                && (self.has_work_for(peer) || self.followed_until(peer, now).is_some())
        };
        let promising = || self.peers.iter().filter(worth_it);
        if promising().next().is_none() {
            return match self.findings_until {
                Some(until) if self.prefer == Prefer::Offload => {
                    due_at(until.min(self.started + pace::SEARCH_OFFLOAD), now)
                }
                _ => Due::Now,
            };
        }
        let asking = promising().any(|peer| matches!(peer.holding, Holding::Asked { .. }));
        let spared = self.prefer == Prefer::Offload;
        if !spared
            && !asking
            && !promising().any(|peer| peer.kind == PeerKind::Neighbour || self.is_open_ahead(now))
        {
            // Strangers under a lone list only work from the end: somebody must walk.
            return Due::Now;
        }
        let hedge = match self.prefer {
            Prefer::Offload => pace::HEDGE_OFFLOAD,
            Prefer::Speed => {
                promising().map(|peer| self.hedge_for(peer)).min().unwrap_or(pace::HEDGE_UNKNOWN)
            }
        };
        let Some(last_byte) = self.last_byte else {
            return due_at(self.started + hedge, now);
        };
        let followed = promising().filter_map(|peer| self.followed_until(peer, now)).max();
        let patience = last_byte + hedge.max(pace::HEDGE_UNKNOWN);
        let stuck = due_at(followed.map_or(patience, |until| until.max(patience)), now);
        // However much has come: apt has seen nothing of it, and the mirror's bytes can be handed on as they come.
        let stuck = earlier(stuck, due_at(self.apt_waits_until(), now));
        match self.peers_too_slow(now) {
            Some(true) => Due::Now,
            Some(false) => earlier(stuck, Due::At(now + pace::JUDGE_AFTER)),
            None => earlier(stuck, Due::At(self.started + pace::JUDGE_AFTER)),
        }
    }

    /// Whether peers alone would keep the user waiting although the mirror could do better; `None` before they can be
    /// judged.
    fn peers_too_slow(&self, now: Instant) -> Option<bool> {
        let elapsed = now.duration_since(self.started);
        if elapsed < pace::JUDGE_AFTER {
            return None;
        }
        if self.held_back.is_some_and(|at| now < at + pace::JUDGE_AFTER) {
            // It is our own limit that they keep to; the mirror could do no better.
            return Some(false);
        }
        let rate = as_f64(self.peer_bytes) / elapsed.as_secs_f64();
        if self.prefer == Prefer::Offload {
            return Some(elapsed >= pace::HEDGE_OFFLOAD && rate < pace::OFFLOAD_RATE);
        }
        let missing = as_f64(self.geometry().length().saturating_sub(self.peer_bytes));
        Some(missing > rate * pace::CONTENT_WITH.as_secs_f64() && rate < self.mirror_estimate())
    }

    /// What the mirror would give, in bytes a second. What it gives to others says nothing of what it would give us.
    pub(super) fn mirror_estimate(&self) -> f64 {
        self.mirror_rate.unwrap_or(pace::MIRROR_RATE_GUESS)
    }

    /// Until when the mirror may wait for the next piece of a holder that is itself still downloading, at the head of those
    /// who do; `None` where it is none, or that time is over.
    ///
    /// It costs no time: until then, the mirror alone would not have given more than is here already. Where the user wants
    /// the mirror to be spared, it is twice what the pieces before took.
    fn followed_until(&self, peer: &Peer, now: Instant) -> Option<Instant> {
        let Holding::Pieces { have, .. } = &peer.holding else { return None };
        let ahead = self.ledger.prefix().checked_sub(1).is_none_or(|last| have.contains(last));
        if have.is_all() || have.count() == 0 || !ahead || !self.claims.supports(peer.id) {
            return None;
        }
        let until = match self.prefer {
            Prefer::Speed => {
                let worth = as_f64(self.peer_bytes) / self.mirror_estimate();
                self.started + Duration::from_secs_f64(worth.min(3600.0))
            }
            Prefer::Offload => {
                let piece = peer.growth.rate().map(|rate| as_f64(PIECE_LENGTH) / rate);
                let patience =
                    piece.map_or(pace::HEDGE_OFFLOAD, |piece| Duration::from_secs_f64(2.0 * piece));
                peer.growth.last()? + patience.max(pace::HEDGE_OFFLOAD)
            }
        };
        let until = until.min(peer.growth.last()? + pace::APT_PATIENCE);
        (now < until).then_some(until)
    }

    fn ask_growing_holders(&mut self, now: Instant) {
        let pause = self.list_pause();
        let is_due = |peer: &&Peer| {
            is_part(peer) && self.ask_for_news_at(peer, pause, now).is_some_and(|at| now >= at)
        };
        let due: Vec<SourceId> = self.peers.iter().filter(is_due).map(|peer| peer.id).collect();
        for source in due {
            if let Some(peer) = self.peers.get_mut(source.0 as usize)
                && let Holding::Pieces { asked_at, .. } = &mut peer.holding
            {
                *asked_at = now;
                peer.awaited_since = Some(now);
            }
            self.order_news(source);
        }
    }

    /// When a holder of a part is to be asked for news, in a crowd not before its pause; `None` while it is being asked.
    fn ask_for_news_at(&self, peer: &Peer, crowd: Duration, now: Instant) -> Option<Instant> {
        if self.is_node(peer.id) {
            return self.ask_node_at(peer, now);
        }
        let Holding::Pieces { asked_at, .. } = &peer.holding else { return None };
        let pause = if peer.growth.fresh { pace::ASK_SOON } else { pace::ASK_AGAIN };
        peer.awaited_since.is_none().then(|| *asked_at + pause.max(crowd))
    }

    /// Starts a walk where nobody walks and somebody can.
    fn assign_walk(&mut self, now: Instant) {
        if self.fetches.values().any(|fetch| matches!(fetch, Fetch::Walk { .. })) {
            return;
        }
        let walker = match self.mirror {
            Mirror::Active => Walker::Mirror,
            Mirror::Standby => return,
            Mirror::None | Mirror::Gone => match self.peer_to_walk() {
                Some(source) => Walker::Peer(source),
                None => return,
            },
        };
        let pieces = self.geometry().pieces();
        let free = |piece: PieceIndex| !self.ledger.is_linked(piece) && !self.is_taken(piece);
        let prefix = self.ledger.prefix();
        let first_free = (prefix..pieces).find(|piece| free(*piece));
        let from = match first_free {
            Some(piece) if piece == prefix => piece,
            _ if walker == Walker::Mirror && prefix < pieces && self.is_front_overdue(now) => prefix,
            // Beyond the front the start is only somebody's word: good enough where that word is trusted.
            Some(piece) if self.is_open(piece, now) && self.claims.state(piece).is_some() => piece,
            // The front itself is being fetched: walk over it only when that takes too long.
            _ if prefix < pieces && !self.ledger.is_linked(prefix) && self.is_late(prefix, now) => prefix,
            _ => return,
        };
        let start = if from == prefix { self.ledger.front_state() } else { self.claims.state(from) };
        let Some(start) = start else { return };
        let until = (from + 1..pieces).find(|piece| !free(*piece)).unwrap_or(pieces);
        if !self.may_walk_again(from) {
            self.mirror = Mirror::Gone;
            return;
        }
        let geometry = self.geometry();
        self.order_walk(walker, geometry.range(from).start..geometry.range(until - 1).end, start, now);
    }

    /// Counts the walks that set out from one place. So many that lead nowhere are a mistake of ours or the mirror's:
    /// an error is better than walking for ever.
    fn may_walk_again(&mut self, from: PieceIndex) -> bool {
        let (place, count) = self.walks_from;
        self.walks_from = if place == from { (from, count + 1) } else { (from, 1) };
        self.walks_from.1 <= pace::WALKS_FROM_ONE_PLACE
    }

    /// A peer to walk for want of both a list and a mirror: it says that it has everything, and nobody has said how
    /// to verify it piece by piece. A list without a single state says no more than none.
    fn peer_to_walk(&self) -> Option<SourceId> {
        let pieces = self.geometry().pieces();
        if pieces == 1 || (1..pieces).any(|boundary| self.claims.state(boundary).is_some()) {
            return None;
        }
        // A peer of which nothing good is known may keep its list: many of them would keep us waiting for ever.
        let awaited = |peer: &Peer| matches!(peer.holding, Holding::Asked { .. }) && peer.is_promising();
        if self.peers.iter().any(awaited) {
            return None;
        }
        self.peers.iter().find(|peer| peer.holds(self.ledger.prefix())).map(|peer| peer.id)
    }

    fn assign_pieces(&mut self, now: Instant) {
        self.drop_lost_parts();
        let mut room = self.at_a_time().saturating_sub(self.piece_fetches().count());
        if room == 0 {
            return;
        }
        let mut survey = Survey::of(self, now);
        while room > 0
            && let Some((source, work)) = self.next_assignment(&survey, now)
        {
            match work {
                Work::Piece(piece, link) => {
                    self.order_piece(source, piece, link, now);
                    survey.note_asked(piece);
                }
                Work::Part(help) => self.order_part(source, help, now),
            }
            room -= 1;
        }
    }

    fn next_assignment(&self, survey: &Survey, now: Instant) -> Option<(SourceId, Work)> {
        let mut loads = vec![0; self.peers.len()];
        for source in self.piece_fetches() {
            loads.get_mut(source.0 as usize).into_iter().for_each(|load| *load += 1);
        }
        let load_of = |peer: &Peer| loads.get(peer.id.0 as usize).copied().unwrap_or(0);
        // Nobody is given a second piece while others who have none may take what is left.
        let unoccupied = self.peers.iter().filter(|peer| load_of(peer) == 0 && self.may_ask(peer));
        let takers = unoccupied.filter(|peer| self.may_take(peer, survey)).count();
        let most = if survey.fresh() > takers { pace::PER_PEER } else { 1 };
        let may_ask = |peer: &&Peer| self.may_ask(peer) && load_of(peer) < most;
        let mut idle: Vec<&Peer> = self.peers.iter().filter(may_ask).collect();
        // Fewest requests first, then the best: work spreads, and the better half of it goes to the better peer.
        idle.sort_by(|a, b| {
            let rank = |peer: &Peer| (peer.standing.score / pace::SAME_SCORE).floor();
            let load = load_of(a).cmp(&load_of(b));
            load.then_with(|| a.standing.doubtful.cmp(&b.standing.doubtful))
                .then_with(|| rank(b).total_cmp(&rank(a)))
                .then_with(|| self.turn(a.id).cmp(&self.turn(b.id)))
        });
        idle.into_iter().find_map(|peer| {
            let help = || self.help_for(survey, peer, now).filter(|_| load_of(peer) == 0).map(Work::Part);
            let piece = |missing: &Missing| Work::Piece(missing.piece(), missing.link);
            let work = self.gap_for(peer).map(Work::Part);
            let work = work.or_else(|| survey.pick(self, peer).map(piece)).or_else(help);
            Some((peer.id, work.or_else(|| survey.pick_late(self, peer, now).map(piece))?))
        })
    }

    /// Which of several equal peers comes first differs from object to object, so that small ones spread over all.
    fn turn(&self, source: SourceId) -> u32 {
        let count = u32::try_from(self.peers.len()).unwrap_or(u32::MAX).max(1);
        (source.0 + u32::from(self.ledger.digest().as_bytes()[0])) % count
    }

    /// The endgame: everything missing is being fetched, and this piece takes longer than it should.
    pub(super) fn may_duplicate(&self, piece: PieceIndex, peer: &Peer, now: Instant) -> bool {
        let mut fetching = 0;
        for fetch in self.fetches.values() {
            match fetch {
                Fetch::Piece { piece: of, source, part, .. } if *of == piece => {
                    if *source == peer.id && !part.done {
                        return false;
                    }
                    fetching += usize::from(part.helps.is_none());
                }
                // The mirror is in it: a slow or stuck one is worth a second try, but only by a free peer.
                Fetch::Walk { piece: of, progress, offset, .. }
                    if *of == piece
                        && now < *progress + pace::LATE_UNKNOWN
                        && !self.is_much_quicker(peer, piece, *offset, now)
                        && self.geometry().pieces() > 1 =>
                {
                    return false;
                }
                _ => {}
            }
        }
        fetching < pace::PER_PIECE && (fetching == 0 || self.is_late(piece, now))
    }

    fn is_late(&self, piece: PieceIndex, now: Instant) -> bool {
        let own = |(id, fetch): (&FetchId, &Fetch)| match fetch {
            Fetch::Piece { piece: of, part, .. } if *of == piece && part.helps.is_none() => Some(*id),
            _ => None,
        };
        let is_late = |fetch: &Fetch| self.late_at(fetch, now).is_some_and(|at| now >= at);
        // A piece is as late as the last of its parts.
        self.fetches.iter().filter_map(own).all(|own| self.members(own).any(|(_, fetch)| is_late(fetch)))
    }

    /// When a fetch from a peer takes longer than that peer's own figures say: its first byte is overdue, and the rest takes
    /// twice as long as usual.
    fn late_at(&self, fetch: &Fetch, now: Instant) -> Option<Instant> {
        let Fetch::Piece { source, part, asked, started, held: false, .. } = fetch else { return None };
        let standing = self.peers.get(source.0 as usize)?.standing;
        if !started {
            let several = self.geometry().pieces() > 1;
            let wait = if several { pace::hedge(&standing, 1) } else { pace::hedge_of_one(&standing) };
            return Some(*asked + wait);
        }
        let range = &part.range;
        let expected = match (standing.overdue, standing.rate) {
            (Some(overdue), Some(rate)) if rate > 1.0 => {
                let transfer = Duration::from_secs_f64((as_f64(range.end - range.start) / rate).min(3600.0));
                overdue + 2 * transfer
            }
            _ => self.usual_time(now).unwrap_or(pace::LATE_UNKNOWN),
        };
        Some(*asked + expected.max(pace::HEDGE_LEAST))
    }

    /// What the leading list, or the proof itself, says that a piece leads from and to.
    pub(super) fn listed_link(&self, piece: PieceIndex) -> Option<Link> {
        let start = self.claims.state(piece).or_else(|| self.walked_state(piece))?;
        let end = match self.ledger.proven_end(piece) {
            Some(end) => end,
            None => End::State(self.claims.state(piece + 1)?),
        };
        Some(Link { start, end })
    }

    fn walked_state(&self, piece: PieceIndex) -> Option<crate::pieces::State> {
        (piece == self.ledger.prefix()).then(|| self.ledger.front_state()).flatten()
    }

    fn may_ask(&self, peer: &Peer) -> bool {
        peer.is_alive() && peer.busy_until.is_none() && self.claims.supports(peer.id)
    }

    /// Whether the peer would take one of the pieces that nobody is at work on, or is about to say so.
    fn may_take(&self, peer: &Peer, survey: &Survey) -> bool {
        match peer.holding {
            Holding::Asked { .. } => peer.is_promising(),
            _ => survey.has_fresh_for(peer),
        }
    }

    /// Whether the peer holds anything that is missing, or has not said yet.
    fn has_work_for(&self, peer: &Peer) -> bool {
        match &peer.holding {
            Holding::Asked { .. } => true,
            Holding::Pieces { have, .. } => {
                self.claims.supports(peer.id)
                    && (0..self.geometry().pieces()).any(|p| have.contains(p) && !self.ledger.is_linked(p))
            }
            Holding::Gone | Holding::Suspended { .. } => false,
        }
    }

    fn is_open_ahead(&self, now: Instant) -> bool {
        let front = self.ledger.prefix().min(self.geometry().last());
        self.geometry().pieces() == 1 || self.is_open(front, now)
    }

    fn piece_fetches(&self) -> impl Iterator<Item = SourceId> {
        self.fetches.values().filter_map(|fetch| match fetch {
            Fetch::Piece { part, .. } if part.done => None,
            Fetch::Piece { source, .. } | Fetch::Walk { walker: Walker::Peer(source), .. } => Some(*source),
            Fetch::Walk { .. } => None,
        })
    }

    /// How long the mirror is spared for this peer.
    fn hedge_for(&self, peer: &Peer) -> Duration {
        if self.geometry().pieces() == 1 {
            return pace::hedge_of_one(&peer.standing);
        }
        // The list is asked for first.
        pace::hedge(&peer.standing, 2)
    }

    /// How long this peer may send nothing.
    pub(super) fn stall_for(&self, source: SourceId) -> Duration {
        self.peers.get(source.0 as usize).map_or(pace::STALL_UNKNOWN, |peer| pace::stall(&peer.standing))
    }
}

fn is_part(peer: &Peer) -> bool {
    matches!(&peer.holding, Holding::Pieces { have, .. } if !have.is_all())
}

fn due_at(at: Instant, now: Instant) -> Due {
    if now >= at { Due::Now } else { Due::At(at) }
}

fn earlier(a: Due, b: Due) -> Due {
    match (a, b) {
        (Due::Now, _) | (_, Due::Now) => Due::Now,
        (Due::At(a), Due::At(b)) => Due::At(a.min(b)),
        (Due::At(at), Due::Never) | (Due::Never, Due::At(at)) => Due::At(at),
        (Due::Never, Due::Never) => Due::Never,
    }
}

#[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
const fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}
