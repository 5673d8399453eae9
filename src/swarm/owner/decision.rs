//! What the other nodes mean for our own use of the mirror.

use std::time::{Duration, Instant};

use super::company::{STEP, Wants};
use crate::digest::Sha256;
use crate::swarm::download::Download;
use crate::swarm::pace;
use crate::swarm::source::{Holding, Peer, SourceId};
use crate::wire::Intent;

/// How long nodes of the local network may take to say whether they want the object too: a question there takes a
/// millisecond, this is for machines that are busy.
const ASK: Duration = Duration::from_millis(100);

/// How long one may be undecided: it asks the others for as long as [`ASK`].
const UNDECIDED: Duration = Duration::from_millis(150);

/// Nobody is asked for longer than this, however that came: apt waits.
const ASK_MOST: Duration = pace::HEDGE_UNKNOWN;

/// Those of higher rank get so much longer: where all have run out of time, not all are to walk at once.
const AHEAD: Duration = Duration::from_millis(250);

/// How long a node that has the object may take to send something of it.
const SENDS: Duration = Duration::from_millis(500);

/// How long the one whom we follow may make no progress: as long as peers may give nothing before the mirror joins.
const SILENCE: Duration = pace::HEDGE_UNKNOWN;

/// How long the one whom we follow is watched before it is judged.
const JUDGED_AFTER: Duration = Duration::from_secs(2);

/// Whoever gets less than such a part of what the mirror usually gives is too slow to be followed.
const SLOW: f64 = 4.0;

/// The same where that is not known. Several objects are got at a time, ten of apt's as a rule, and those share what there is.
const SLOW_UNKNOWN: f64 = 16.0;

/// What the other nodes mean for our own use of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// There are none: the usual rules.
    Unconcerned,
    /// It is not known yet who wants it, until then at most.
    Ask(Instant),
    /// Somebody else gets it, who is waited for until then.
    Follow(SourceId, Instant),
    /// Nobody is before us.
    Walk,
}

impl Download {
    /// Until when the mirror waits for the local network, where that is for it to say.
    pub(in crate::swarm) fn owner_until(&self, now: Instant) -> Option<Instant> {
        match self.decide(now) {
            Decision::Unconcerned => None,
            Decision::Ask(until) | Decision::Follow(_, until) => Some(until.min(self.apt_waits_until())),
            Decision::Walk => None,
        }
    }

    /// Whether it is not known yet which of them want it.
    pub(in crate::swarm) fn is_asking_nodes(&self, now: Instant) -> bool {
        matches!(self.decide(now), Decision::Ask(_))
    }

    pub(super) fn decide(&self, now: Instant) -> Decision {
        let own = self.company.own.unwrap_or(Sha256::new([0; 32]));
        let mut followed: Option<((bool, Sha256), SourceId, Instant)> = None;
        let mut ask: Option<Instant> = None;
        let waited = self.company.waited;
        let may_ask = now < self.started + ASK_MOST;
        for (source, node) in &self.company.nodes {
            let Some(peer) = self.peers.get(source.0 as usize).filter(|peer| peer.is_alive()) else {
                continue;
            };
            let whole = matches!(&peer.holding, Holding::Pieces { have, .. } if have.is_all());
            let wants = match node.wants {
                Some(wants) => wants,
                // It has had it all along.
                None if whole => {
                    let since = node.answered.unwrap_or(self.started);
                    Wants { intent: Intent::Follows, since, waited: Duration::ZERO, first: None }
                }
                None => {
                    let left = (node.asked.unwrap_or(waited) + ASK).saturating_sub(waited);
                    if node.answered.is_none() && !peer.standing.doubtful && !left.is_zero() && may_ask {
                        ask = ask.max(Some(now + left.min(STEP)));
                    }
                    continue;
                }
            };
            let until = self.patience_with(peer, &wants, whole);
            let undecided = !whole && wants.intent == Intent::Undecided;
            let left = (wants.waited + UNDECIDED).saturating_sub(waited);
            let most = self.started + ASK_MOST + if node.rank > own { AHEAD } else { Duration::ZERO };
            if (undecided && (left.is_zero() || now >= most)) || (!undecided && now >= until) {
                continue;
            }
            let until = if undecided { now + left.min(STEP) } else { until };
            let walks = whole || matches!(wants.intent, Intent::Walks(_));
            if walks || node.rank > own {
                let better = (walks, node.rank);
                if followed.is_none_or(|(best, ..)| better > best) {
                    followed = Some((better, *source, until));
                }
            } else if undecided {
                ask = ask.max(Some(until));
            }
        }
        match (followed, ask) {
            (Some((_, source, until)), _) => Decision::Follow(source, until),
            (None, Some(until)) => Decision::Ask(until),
            (None, None) if self.company.nodes.is_empty() => Decision::Unconcerned,
            (None, None) => Decision::Walk,
        }
    }

    /// Until when we go on following a node if nothing more comes of it.
    pub(super) fn patience_with(&self, peer: &Peer, wants: &Wants, whole: bool) -> Instant {
        let heard = wants.since.max(peer.growth.last().unwrap_or(wants.since));
        let heard = heard.max(self.last_byte.unwrap_or(heard));
        match wants.intent {
            _ if whole && self.is_sent_slowly(wants.since) => heard,
            _ if whole => heard + SENDS,
            Intent::Walks(at) => match wants.first {
                Some((first, from)) if heard >= first + JUDGED_AFTER => {
                    let took = heard.duration_since(first).as_secs_f64();
                    let part = if self.mirror_rate.is_some() { SLOW } else { SLOW_UNKNOWN };
                    let least = (self.mirror_estimate() / part).max(pace::OFFLOAD_RATE);
                    #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
                    let rate = at.saturating_sub(from) as f64 / took;
                    if rate < least { heard } else { heard + SILENCE }
                }
                _ => heard + SILENCE,
            },
            _ => heard + SILENCE,
        }
    }

    /// Whether those who have had the object for so long send it so slowly that the mirror would be done sooner.
    fn is_sent_slowly(&self, since: Instant) -> bool {
        let Some(heard) = self.last_byte.filter(|heard| *heard >= since + pace::JUDGE_AFTER) else {
            return false;
        };
        if self.held_back.is_some_and(|at| heard < at + pace::JUDGE_AFTER) {
            // It is our own limit that they keep to.
            return false;
        }
        #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
        let (sent, all) = (self.peer_bytes as f64, self.geometry().length() as f64);
        let rate = sent / heard.duration_since(since).as_secs_f64();
        all - sent > rate * pace::CONTENT_WITH.as_secs_f64() && rate < self.mirror_estimate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::Geometry;
    use crate::swarm::Prefer;
    use crate::swarm::owner::scene::{LARGE, MS, SMALL, download, node, object, ranked, says, walks};
    use crate::swarm::source::{Mirror, Standing};

    #[test]
    fn the_highest_walks_and_the_others_follow() {
        let (nodes, now) = (ranked(3), Instant::now());
        let (mut lower, others) = download(SMALL, nodes[1], &[nodes[0], nodes[2]], now);
        says(&mut lower, others[0], Intent::Undecided, 0, now + MS);
        assert_eq!(lower.intent(), Some(Intent::Follows));
        let (mut higher, others) = download(SMALL, nodes[0], &nodes[1..], now);
        says(&mut higher, others[0], Intent::Follows, 0, now + MS);
        says(&mut higher, others[1], Intent::Undecided, 0, now + MS);
        assert!(!walks(&higher), "that one may have walked off before it could see us");
        says(&mut higher, others[1], Intent::Follows, 0, now + 2 * MS);
        assert!(walks(&higher));
    }

    #[test]
    fn whoever_walks_already_is_followed_whatever_its_rank() {
        let (nodes, now) = (ranked(2), Instant::now());
        let (mut higher, others) = download(SMALL, nodes[0], &nodes[1..], now);
        says(&mut higher, others[0], Intent::Undecided, 0, now + MS);
        says(&mut higher, others[0], Intent::Walks(0), 0, now + 2 * MS);
        assert_eq!(higher.intent(), Some(Intent::Follows));
    }

    #[test]
    fn who_does_not_answer_costs_a_tenth_of_a_second() {
        let (nodes, mut now) = (ranked(2), Instant::now());
        let start = now;
        let (mut download, _) = download(SMALL, nodes[1], &nodes[..1], now);
        while !walks(&download) {
            now = download.next_timeout(now).unwrap().max(now + MS);
            download.handle_timeout(now);
            assert!(now < start + 2 * ASK, "it waits too long");
        }
        assert!(now >= start + ASK);
    }

    #[test]
    fn where_we_do_not_come_to_our_turn_nobody_else_is_late() {
        let (nodes, now) = (ranked(2), Instant::now());
        let (mut download, others) = download(SMALL, nodes[1], &nodes[..1], now);
        download.handle_timeout(now + 4 * ASK);
        assert!(!walks(&download), "the answer may be here, and nobody has looked");
        says(&mut download, others[0], Intent::Walks(0), 0, now + 4 * ASK);
        assert_eq!(download.intent(), Some(Intent::Follows));
        let (mut download, _) = self::download(SMALL, nodes[1], &nodes[..1], now);
        download.handle_timeout(now + ASK_MOST);
        assert!(walks(&download), "but apt waits");
    }

    #[test]
    fn an_owner_that_falls_silent_is_replaced_by_the_next() {
        let (nodes, now) = (ranked(3), Instant::now());
        let (mut second, others) = download(SMALL, nodes[1], &[nodes[0], nodes[2]], now);
        says(&mut second, others[0], Intent::Walks(0), 0, now + MS);
        says(&mut second, others[1], Intent::Follows, 0, now + MS);
        says(&mut second, others[0], Intent::Walks(9), 0, now + 900 * MS);
        second.handle_timeout(now + 1800 * MS);
        assert!(!walks(&second), "it gets on");
        second.handle_timeout(now + 1900 * MS);
        assert!(walks(&second));
    }

    #[test]
    fn an_owner_that_is_gone_is_replaced_at_once() {
        let (nodes, now) = (ranked(2), Instant::now());
        let (mut second, others) = download(SMALL, nodes[1], &nodes[..1], now);
        says(&mut second, others[0], Intent::Walks(0), 0, now + MS);
        second.handle_list_failure(others[0], crate::swarm::PeerFault::Short);
        second.handle_timeout(now + 2 * MS);
        assert!(walks(&second));
    }

    #[test]
    fn an_owner_that_crawls_is_left() {
        let (nodes, start) = (ranked(2), Instant::now());
        let (mut second, others) = download(LARGE, nodes[1], &nodes[..1], start);
        let mut now = start;
        for step in 1..100_u64 {
            now = start + 100 * MS * u32::try_from(step).unwrap();
            says(&mut second, others[0], Intent::Walks(step * 1000), 0, now);
            if walks(&second) {
                break;
            }
        }
        assert!(walks(&second) && now <= start + JUDGED_AFTER + 500 * MS, "{:?}", now - start);
    }

    #[test]
    fn whoever_nobody_is_to_wait_for_says_nothing_and_follows_all_the_same() {
        let now = Instant::now();
        let mut download = Download::new(object(), Geometry::new(SMALL).unwrap(), Prefer::Speed, now);
        download.add_mirror(None);
        download.join_lan(None);
        let other = download.add_node(node(1), [10, 0, 0, 1].into(), Standing::default(), now);
        download.handle_timeout(now);
        says(&mut download, other, Intent::Undecided, 0, now + MS);
        assert_eq!((download.intent(), download.mirror), (None, Mirror::Standby));
    }
}
