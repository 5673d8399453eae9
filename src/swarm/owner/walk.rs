//! Our own walk of the mirror: what the others hear of it, and when it is left to one of them.

use std::time::{Duration, Instant};

use super::company::Node;
use super::decision::Decision;
use crate::pieces::PIECE_LENGTH;
use crate::swarm::download::{Download, Fetch};
use crate::swarm::order::{FetchId, Walker};
use crate::swarm::source::{Mirror, SourceId};
use crate::wire::Intent;

/// How often our own progress is told to those who follow: several times within their patience.
const TELL: Duration = Duration::from_millis(250);

/// How often one download may leave the mirror to another that is ahead: each time costs the beginning of a piece.
const YIELDS: u32 = 2;

impl Download {
    /// What other nodes of the local network are told of us; `None` where we are not one of them.
    pub fn intent(&self) -> Option<Intent> {
        self.company.told.map(|(intent, _)| intent)
    }

    /// Leaves the mirror to a node that walks it as well, unless that is behind us by a piece. It may not know of us, for it may
    /// have asked before we began, and what it told of its progress is old: so it is for us to give way. Should both do so, the
    /// rank decides who walks again, and that one gives way only to somebody who is ahead.
    pub(in crate::swarm) fn yield_to_walker(&mut self, now: Instant) {
        if self.company.yields >= YIELDS || self.company.nodes.is_empty() {
            return;
        }
        let Some((walk, at)) = self.walks_at() else { return };
        if self.geometry().length().saturating_sub(at) <= PIECE_LENGTH {
            return;
        }
        let ahead = |(source, node): (&SourceId, &Node)| {
            let (Some(peer), Some(wants)) = (self.peers.get(source.0 as usize), node.wants) else {
                return false;
            };
            let Intent::Walks(there) = wants.intent else { return false };
            let before = there > at || (self.company.yields == 0 && there + PIECE_LENGTH > at);
            before && peer.is_alive() && now < self.patience_with(peer, &wants, false)
        };
        if self.company.nodes.iter().any(ahead) {
            self.cancel(walk);
            self.mirror = Mirror::Standby;
            self.company.yields += 1;
            // It did not lead nowhere.
            self.walks_from.1 = self.walks_from.1.saturating_sub(1);
        }
    }

    /// Where our own walk of the mirror is.
    fn walks_at(&self) -> Option<(FetchId, u64)> {
        self.fetches.iter().find_map(|(id, fetch)| match fetch {
            Fetch::Walk { walker: Walker::Mirror, offset, .. } => Some((*id, *offset)),
            _ => None,
        })
    }

    /// Whether others may be waiting for what we get from the mirror.
    pub(in crate::swarm) fn is_followed(&self) -> bool {
        self.company.own.is_some() && self.company.nodes.values().any(|node| node.wants.is_some())
    }

    /// Decides what others are to be told of us.
    pub(in crate::swarm) fn tell_intent(&mut self, now: Instant) {
        let Some((told, at)) = self.company.told else { return };
        let walk = self.walks_at().map(|(_, at)| at);
        let intent = match (self.mirror, walk) {
            // Also where it only opens beside peers: whoever hears of it need not.
            (Mirror::Active, _) | (Mirror::Standby, Some(_)) => Intent::Walks(walk.unwrap_or(0)),
            (Mirror::None | Mirror::Gone, _) => Intent::Follows,
            (Mirror::Standby, None) => match self.decide(now) {
                Decision::Ask(_) => Intent::Undecided,
                Decision::Follow(..) | Decision::Unconcerned | Decision::Walk => Intent::Follows,
            },
        };
        let progress = matches!((told, intent), (Intent::Walks(_), Intent::Walks(_)));
        if told != intent && (!progress || now >= at + TELL) {
            self.company.told = Some((intent, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::{PieceList, PieceSet};
    use crate::swarm::owner::scene::{LARGE, MS, download, has_not, ranked, says, walking, walks};
    use crate::swarm::pace;
    use crate::swarm::source::{PeerKind, Standing};

    #[test]
    fn nobody_opens_by_the_mirror_while_the_network_is_being_asked() {
        let (nodes, mut now) = (ranked(2), Instant::now());
        let (mut download, others) = download(LARGE, nodes[1], &nodes[..1], now);
        while download.is_asking_nodes(now) {
            assert_eq!(walking(&mut download), 0, "somebody may be on the way with it");
            now = download.next_timeout(now).unwrap().max(now + MS);
            download.handle_timeout(now);
        }
        assert!(walks(&download), "and tells the others so");
        let (mut download, _) = self::download(LARGE, nodes[1], &nodes[..1], now);
        now += 2 * pace::OPENING;
        download.handle_timeout(now);
        says(&mut download, others[0], Intent::Walks(0), 0, now);
        download.handle_timeout(now + 2 * pace::OPENING);
        assert_eq!((walking(&mut download), download.intent()), (0, Some(Intent::Follows)));
    }

    #[test]
    fn who_opens_by_the_mirror_beside_another_peer_says_so_and_leaves_it_to_who_walks() {
        let (nodes, now) = (ranked(2), Instant::now());
        let (mut download, others) = download(LARGE, nodes[0], &nodes[1..], now);
        let geometry = download.geometry();
        let static_peer =
            download.add_peer(PeerKind::Neighbour, [10, 1, 0, 1].into(), Standing::default(), now);
        let all = PieceSet::all(geometry.pieces());
        download.handle_list(static_peer, PieceList::unknown(geometry), all, now);
        has_not(&mut download, others[0], now + MS);
        let late = now + 2 * pace::OPENING;
        download.handle_timeout(late);
        assert_eq!(download.mirror, Mirror::Standby);
        assert!(walks(&download));
        assert_eq!(walking(&mut download), 1);
        let other = download.add_node(nodes[1], [10, 0, 0, 1].into(), Standing::default(), late);
        says(&mut download, other, Intent::Walks(0), 0, late + MS);
        assert_eq!((download.walks_at(), download.intent()), (None, Some(Intent::Follows)));
    }

    #[test]
    fn of_two_that_walk_who_knows_of_the_other_gives_way_and_goes_on_where_both_did() {
        let (nodes, now) = (ranked(2), Instant::now());
        let (mut higher, others) = download(LARGE, nodes[0], &nodes[1..], now);
        let late = now + pace::HEDGE_UNKNOWN;
        higher.handle_timeout(late);
        assert!(walks(&higher));
        says(&mut higher, others[0], Intent::Walks(0), 0, late + MS);
        assert_eq!(higher.intent(), Some(Intent::Follows));
        says(&mut higher, others[0], Intent::Follows, 0, late + 2 * MS);
        assert!(walks(&higher), "the other gave way as well");
        says(&mut higher, others[0], Intent::Walks(0), 0, late + 3 * MS);
        assert!(walks(&higher), "once is enough");
        says(&mut higher, others[0], Intent::Walks(9), 0, late + 4 * MS);
        assert!(!walks(&higher), "but not where that is ahead");
    }
}
