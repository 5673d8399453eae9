//! Which node of a local network walks the mirror, where several want the same object at the same time.
//!
//! Each asks the others for their lists when its download begins. Those that want the object too say so, and how they stand to
//! the mirror ([`Intent`]). Who finds nobody walks. Who finds somebody that walks already, or that is of a higher rank, follows.
//! Of two that begin at the same time at least one sees the other, for each can be asked before it asks; the higher waits
//! until the lower has decided, who may have walked off before it could see the higher.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::download::{Download, Fetch};
use super::order::{FetchId, Order, Walker};
use super::pace;
use super::source::{Holding, Mirror, Peer, PeerKind, SourceId, Standing};
use crate::digest::{Sha256, parse_hex};
use crate::pieces::PIECE_LENGTH;
use crate::wire::Intent;

/// Small objects are asked for at so many nodes first, those that are placed best to get it for all: as a rule one of them has
/// it, or gets it, and a network of many is spared most of its questions.
const FIRST: usize = 2;

/// How long these may take before the others are asked.
const FIRST_ASKED: Duration = Duration::from_millis(25);

/// How long nodes of the local network may take to say whether they want the object too: a question there takes a
/// millisecond, this is for machines that are busy.
const ASK: Duration = Duration::from_millis(100);

/// How long one may be undecided: it asks the others for as long as [`ASK`].
const UNDECIDED: Duration = Duration::from_millis(150);

/// These times are counted in steps no longer than this. Where we ourselves do not come to our turn, it is not the others who
/// are late.
const STEP: Duration = Duration::from_millis(20);

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

/// How often our own progress is told to those who follow: several times within their patience.
const TELL: Duration = Duration::from_millis(250);

/// How soon a node is asked again that had news, and one that had none or did not wait for any.
const ASK_SOON: Duration = Duration::from_millis(5);
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// How often one download may leave the mirror to another that is ahead: each time costs the beginning of a piece.
const YIELDS: u32 = 2;

/// The name of a node on its local network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; NodeId::LENGTH]);

/// What is not the name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 16 hexadecimal digits")]
pub struct NotANode;

impl NodeId {
    /// In bytes.
    pub const LENGTH: usize = 8;

    /// The name of these bytes.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// How well this node is placed to walk the mirror for an object: rendezvous hashing, so that each object has an owner
    /// that all agree upon without a word, and the load spreads.
    pub fn rank(&self, object: &Sha256) -> Sha256 {
        Sha256::of(&[&object.as_bytes()[..], &self.0].concat())
    }
}

impl FromStr for NodeId {
    type Err = NotANode;

    fn from_str(text: &str) -> Result<Self, NotANode> {
        parse_hex(text).map(Self).ok_or(NotANode)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The nodes of the local network in one download.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Our own rank; `None` where we are not one of them, and nobody is to follow us.
    own: Option<Sha256>,
    nodes: BTreeMap<SourceId, Node>,
    /// What others are told of us, and since when.
    told: Option<(Intent, Instant)>,
    yields: u32,
    /// How long we have been waiting, in steps, and when the last one ended.
    waited: Duration,
    step: Option<Instant>,
}

#[derive(Debug)]
struct Node {
    rank: Sha256,
    /// How long we had been waiting when it was asked.
    asked: Option<Duration>,
    /// When it answered first.
    answered: Option<Instant>,
    wants: Option<Wants>,
    /// Its last answer was another than the one before.
    news: bool,
}

/// What a node has said that wants the object too.
#[derive(Debug, Clone, Copy)]
struct Wants {
    intent: Intent,
    /// When it last had more, or had decided otherwise; and how long we had been waiting by then.
    since: Instant,
    waited: Duration,
    /// When it was first seen to walk, and how far it was.
    first: Option<(Instant, u64)>,
}

/// What the other nodes mean for our own use of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
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

    /// What other nodes of the local network are told of us; `None` where we are not one of them.
    pub fn intent(&self) -> Option<Intent> {
        self.company.told.map(|(intent, _)| intent)
    }

    /// Asks those nodes that should be asked by now: of a small object first the best placed, and the others where that does
    /// not lead to somebody who gets it.
    pub(super) fn ask_nodes(&mut self, now: Instant) {
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
            (true, Decision::Follow(source, _)) if !self.follows_others(source) => return,
            (true, Decision::Unconcerned) => return,
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

    /// Whether this node gets nothing from the mirror itself, and says so.
    fn follows_others(&self, source: SourceId) -> bool {
        let wants = self.company.nodes.get(&source).and_then(|node| node.wants);
        wants.is_some_and(|wants| wants.intent == Intent::Follows)
    }

    /// Whether nobody has asked it anything yet.
    pub(super) fn is_unasked(&self, source: SourceId) -> bool {
        self.company.nodes.get(&source).is_some_and(|node| node.asked.is_none())
    }

    pub(super) fn is_node(&self, source: SourceId) -> bool {
        self.company.nodes.contains_key(&source)
    }

    /// Whether this peer is a node that was to have answered by now, so that nothing is to wait for it.
    pub(super) fn is_mute_node(&self, peer: &Peer) -> bool {
        matches!(peer.holding, Holding::Asked { .. }) && self.is_node(peer.id)
    }

    pub(super) fn note_no_news(&mut self, source: SourceId) {
        if let Some(node) = self.company.nodes.get_mut(&source) {
            node.news = false;
        }
    }

    /// Until when the mirror waits for the local network, where that is for it to say.
    pub(super) fn owner_until(&self, now: Instant) -> Option<Instant> {
        match self.decide(now) {
            Decision::Unconcerned => None,
            Decision::Ask(until) | Decision::Follow(_, until) => Some(until.min(self.apt_waits_until())),
            Decision::Walk => None,
        }
    }

    /// Whether it is not known yet which of them want it.
    pub(super) fn is_asking_nodes(&self, now: Instant) -> bool {
        matches!(self.decide(now), Decision::Ask(_))
    }

    fn decide(&self, now: Instant) -> Decision {
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
    fn patience_with(&self, peer: &Peer, wants: &Wants, whole: bool) -> Instant {
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

    /// Leaves the mirror to a node that walks it as well, unless that is behind us by a piece. It may not know of us, for it may
    /// have asked before we began, and what it told of its progress is old: so it is for us to give way. Should both do so, the
    /// rank decides who walks again, and that one gives way only to somebody who is ahead.
    pub(super) fn yield_to_walker(&mut self, now: Instant) {
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
    pub(super) fn is_followed(&self) -> bool {
        self.company.own.is_some() && self.company.nodes.values().any(|node| node.wants.is_some())
    }

    /// Decides what others are to be told of us.
    pub(super) fn tell_intent(&mut self, now: Instant) {
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

    /// When a node is to be asked for news of what it holds and does; `None` where nothing depends on it.
    pub(super) fn ask_node_at(&self, peer: &Peer, now: Instant) -> Option<Instant> {
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::pieces::{Geometry, PieceList, PieceSet};
    use crate::swarm::Prefer;

    const SMALL: u64 = 50_000;
    const LARGE: u64 = 50_000_000;

    fn node(number: u64) -> NodeId {
        NodeId::new(number.to_be_bytes())
    }

    fn object() -> Sha256 {
        Sha256::of(b"object")
    }

    /// Some nodes, the highest of rank first.
    fn ranked(count: u64) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = (0..count).map(node).collect();
        nodes.sort_by_key(|node| std::cmp::Reverse(node.rank(&object())));
        nodes
    }

    /// A download on a network with others, with a mirror that is there.
    fn download(length: u64, own: NodeId, others: &[NodeId], now: Instant) -> (Download, Vec<SourceId>) {
        let mut download = Download::new(object(), Geometry::new(length).unwrap(), Prefer::Speed, now);
        download.add_mirror(None);
        download.join_lan(Some(own));
        let add = |node: &NodeId| download.add_node(*node, [10, 0, 0, 1].into(), Standing::default(), now);
        let sources = others.iter().map(add).collect();
        download.handle_timeout(now);
        (download, sources)
    }

    /// The node says that it has so many pieces of the object, and this of the rest.
    fn says(download: &mut Download, source: SourceId, intent: Intent, have: u32, now: Instant) {
        let geometry = download.geometry();
        let mut pieces = PieceSet::none(geometry.pieces());
        (0..have).for_each(|piece| pieces.insert(piece));
        download.handle_intent(source, Some(intent), now);
        download.handle_list(source, PieceList::unknown(geometry), pieces, now);
        download.handle_timeout(now);
    }

    fn has_not(download: &mut Download, source: SourceId, now: Instant) {
        download.handle_no_list(source, now);
        download.handle_timeout(now);
    }

    fn walks(download: &Download) -> bool {
        matches!(download.intent(), Some(Intent::Walks(_)))
    }

    fn asked(download: &mut Download) -> usize {
        let mut orders = std::iter::from_fn(|| download.poll_order());
        orders.by_ref().filter(|order| matches!(order, Order::AskList(_))).count()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_name_is_16_digits() {
        assert_eq!("00000000000000ff".parse(), Ok(node(255)));
        assert_eq!(node(255).to_string(), "00000000000000ff");
        for wrong in ["", "ff", "00000000000000fg", "+0000000000000ff", "00000000000000ff0"] {
            assert_eq!(wrong.parse::<NodeId>(), Err(NotANode), "{wrong}");
        }
    }

    #[test]
    fn different_objects_have_different_owners() {
        let owner = |object: u32| {
            let object = Sha256::of(&object.to_be_bytes());
            (0..8).max_by_key(|number| node(*number).rank(&object)).unwrap()
        };
        for number in 0..8 {
            let owned = (0..800).filter(|object| owner(*object) == number).count();
            assert!((60..140).contains(&owned), "{owned} of 800");
        }
    }

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

    /// The walks of the mirror that were ordered and not given up.
    fn walking(download: &mut Download) -> usize {
        let mut walks = BTreeSet::new();
        while let Some(order) = download.poll_order() {
            match order {
                Order::Walk { fetch, .. } => _ = walks.insert(fetch),
                Order::Cancel(fetch) => _ = walks.remove(&fetch),
                _ => {}
            }
        }
        walks.len()
    }

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
        assert_eq!((walking(&mut download), download.intent()), (0, Some(Intent::Follows)));
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
    fn of_two_that_walk_who_knows_of_the_other_gives_way_and_goes_on_where_both_did() {
        let (nodes, now) = (ranked(2), Instant::now());
        let (mut higher, others) = download(LARGE, nodes[0], &nodes[1..], now);
        let late = now + ASK_MOST;
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
