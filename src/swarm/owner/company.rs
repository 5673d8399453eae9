//! The nodes of the local network in one download: what they have said, and when they are asked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::NodeId;
use super::decision::Decision;
use crate::digest::Sha256;
use crate::swarm::download::Download;
use crate::swarm::order::Order;
use crate::swarm::source::{Holding, Peer, PeerKind, SourceId, Standing};
use crate::wire::Intent;

/// Small objects are asked for at so many nodes first, those that are placed best to get it for all: as a rule one of them has
/// it, or gets it, and a network of many is spared most of its questions.
const FIRST: usize = 2;

/// How long these may take before the others are asked.
const FIRST_ASKED: Duration = Duration::from_millis(25);

/// These times are counted in steps no longer than this. Where we ourselves do not come to our turn, it is not the others who
/// are late.
pub(super) const STEP: Duration = Duration::from_millis(20);

/// How soon a node is asked again that had news, and one that had none or did not wait for any.
const ASK_SOON: Duration = Duration::from_millis(1);
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// The nodes of the local network in one download.
#[derive(Debug, Default)]
pub(in crate::swarm) struct Company {
    /// Our own rank; `None` where we are not one of them, and nobody is to follow us.
    pub(super) own: Option<Sha256>,
    pub(super) nodes: BTreeMap<SourceId, Node>,
    /// What others are told of us, and since when.
    pub(super) told: Option<(Intent, Instant)>,
    pub(super) yields: u32,
    /// How long we have been waiting, in steps, and when the last one ended.
    pub(super) waited: Duration,
    pub(super) step: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) rank: Sha256,
    /// How long we had been waiting when it was asked.
    pub(super) asked: Option<Duration>,
    /// When it answered first.
    pub(super) answered: Option<Instant>,
    pub(super) wants: Option<Wants>,
    /// Its last answer was another than the one before.
    pub(super) news: bool,
}

/// What a node has said that wants the object too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wants {
    pub(super) intent: Intent,
    /// When it last had more, or had decided otherwise; and how long we had been waiting by then.
    pub(super) since: Instant,
    pub(super) waited: Duration,
    /// When it was first seen to walk, and how far it was.
    pub(super) first: Option<(Instant, u64)>,
}

impl Download {
    /// Says who we are on the local network, if others there may wait for us. Call it before any node is added.
    pub fn join_lan(&mut self, own: Option<NodeId>) {
        self.company.own = own.map(|own| own.rank(&self.ledger.digest()));
        self.company.told = own.map(|_| (Intent::Undecided, self.started));
    }

    /// A node of the local network. It may be asked whether it has the object, or wants it too, however small that is.
    pub fn add_node(&mut self, node: NodeId, address: IpAddr, standing: Standing, now: Instant) -> SourceId {
        let source = self.push_peer(PeerKind::Neighbour, address, standing, now);
        let rank = node.rank(&self.ledger.digest());
        let node = Node { rank, asked: None, answered: None, wants: None, news: true };
        self.company.nodes.insert(source, node);
        source
    }

    /// What a node has said beside its list. Call it before [`Self::handle_list`].
    pub fn handle_intent(&mut self, source: SourceId, intent: Option<Intent>, now: Instant) {
        let Some(node) = self.company.nodes.get_mut(&source) else { return };
        (node.answered, node.news) = (node.answered.or(Some(now)), true);
        let (before, waited) = (node.wants, self.company.waited);
        // Who wanted it and says nothing more of that has all of it now.
        let done = before.filter(|_| intent.is_none()).map(|before| Wants { since: now, ..before });
        let told = intent.map(|intent| {
            let since = before.filter(|before| before.intent == intent).map_or(now, |before| before.since);
            let first = match intent {
                Intent::Walks(at) => before.and_then(|before| before.first).or(Some((now, at))),
                Intent::Undecided | Intent::Follows => None,
            };
            let waited = before.filter(|_| since < now).map_or(waited, |before| before.waited);
            Wants { intent, since, waited, first }
        });
        node.wants = told.or(done);
        if let Some(Wants { since, .. }) = node.wants
            && since == now
            && let Some(peer) = self.peers.get_mut(source.0 as usize)
            && let Holding::Pieces { grown_at, .. } = &mut peer.holding
        {
            // It has nothing to give yet, and gets on.
            *grown_at = now;
        }
    }

    /// Asks those nodes that should be asked by now: of a small object first the best placed, and the others where none of those
    /// wants it. One that follows somebody will have it a moment after that one, and nobody need ask who that is.
    pub(in crate::swarm) fn ask_nodes(&mut self, now: Instant) {
        if self.company.nodes.is_empty() {
            return;
        }
        let gap = now.saturating_duration_since(self.company.step.unwrap_or(now));
        self.company.waited += gap.min(STEP);
        self.company.step = Some(now);
        let waited = self.company.waited;
        let open = |node: &Node| match node.asked {
            Some(asked) => node.answered.is_none() && waited < asked + FIRST_ASKED,
            None => false,
        };
        let is_alive = |source: &SourceId| self.peers.get(source.0 as usize).is_some_and(Peer::is_alive);
        let mut nodes = self.company.nodes.iter();
        let begun = self.company.nodes.values().any(|node| node.asked.is_some());
        let all = self.geometry().pieces() > 1 || self.is_without_mirror();
        let most = match (begun, self.decide(now)) {
            _ if all => usize::MAX,
            (false, _) => FIRST,
            _ if nodes.any(|(source, node)| open(node) && is_alive(source)) => return,
            (true, Decision::Follow(..) | Decision::Unconcerned) => return,
            (true, _) => usize::MAX,
        };
        let unasked = self.company.nodes.iter().filter(|(_, node)| node.asked.is_none());
        let mut unasked: Vec<(Sha256, SourceId)> =
            unasked.map(|(source, node)| (node.rank, *source)).collect();
        unasked.sort_by(|a, b| b.cmp(a));
        for (_, source) in unasked.into_iter().take(most) {
            if let Some(node) = self.company.nodes.get_mut(&source) {
                node.asked = Some(waited);
            }
            if let Some(Peer { holding: Holding::Asked { since }, .. }) =
                self.peers.get_mut(source.0 as usize)
            {
                *since = now;
            }
            self.orders.push_back(Order::AskList(source));
        }
    }

    /// Whether nobody has asked it anything yet.
    pub(in crate::swarm) fn is_unasked(&self, source: SourceId) -> bool {
        self.company.nodes.get(&source).is_some_and(|node| node.asked.is_none())
    }

    pub(in crate::swarm) fn is_node(&self, source: SourceId) -> bool {
        self.company.nodes.contains_key(&source)
    }

    /// Whether this peer is a node that was to have answered by now, so that nothing is to wait for it.
    pub(in crate::swarm) fn is_mute_node(&self, peer: &Peer) -> bool {
        matches!(peer.holding, Holding::Asked { .. }) && self.is_node(peer.id)
    }

    pub(in crate::swarm) fn note_no_news(&mut self, source: SourceId) {
        if let Some(node) = self.company.nodes.get_mut(&source) {
            node.news = false;
        }
    }

    /// When a node is to be asked for news of what it holds and does; `None` where nothing depends on it.
    pub(in crate::swarm) fn ask_node_at(&self, peer: &Peer, now: Instant) -> Option<Instant> {
        let Holding::Pieces { asked_at, .. } = &peer.holding else { return None };
        let node = self.company.nodes.get(&peer.id)?;
        let matters = match self.decide(now) {
            // There is nothing to be had of the others before it is whole.
            _ if self.geometry().pieces() > 1 => true,
            Decision::Follow(source, _) => source == peer.id,
            Decision::Ask(_) => node.wants.is_some_and(|wants| wants.intent == Intent::Undecided),
            Decision::Unconcerned | Decision::Walk => false,
        };
        let pause = if node.news { ASK_SOON } else { ASK_AGAIN };
        (matters && peer.awaited_since.is_none()).then(|| *asked_at + pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::PeerFault;
    use crate::swarm::owner::scene::{MS, SMALL, asked, download, has_not, ranked, says, walks};

    #[test]
    fn who_is_alone_walks_as_soon_as_all_have_answered() {
        let (nodes, now) = (ranked(4), Instant::now());
        let (mut download, others) = download(SMALL, nodes[3], &nodes[..3], now);
        assert_eq!(asked(&mut download), FIRST, "the best placed first");
        has_not(&mut download, others[0], now + MS);
        has_not(&mut download, others[1], now + MS);
        assert_eq!((asked(&mut download), walks(&download)), (1, false), "and then the others");
        has_not(&mut download, others[2], now + 2 * MS);
        assert!(walks(&download));
    }

    #[test]
    fn who_is_to_get_a_small_object_from_a_follower_asks_nobody_else_unless_that_one_is_gone() {
        let (nodes, now) = (ranked(8), Instant::now());
        let (mut download, others) = download(SMALL, nodes[7], &nodes[..7], now);
        assert_eq!(asked(&mut download), FIRST);
        says(&mut download, others[0], Intent::Follows, 0, now + MS);
        has_not(&mut download, others[1], now + MS);
        download.handle_timeout(now + 2 * FIRST_ASKED);
        assert_eq!((asked(&mut download), download.intent()), (0, Some(Intent::Follows)));
        download.handle_list_failure(others[0], PeerFault::Short);
        download.handle_timeout(now + 3 * FIRST_ASKED);
        assert_eq!((asked(&mut download), walks(&download)), (5, false), "one of them gets it");
        says(&mut download, others[4], Intent::Walks(0), 0, now + 3 * FIRST_ASKED + MS);
        assert_eq!(download.intent(), Some(Intent::Follows));
    }
}
