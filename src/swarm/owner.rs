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

/// How long nodes of the local network may take to say whether they want the object too: a question there takes a
/// millisecond, this is for machines that are busy.
const ASK: Duration = Duration::from_millis(100);

/// How long one may be undecided: it asks the others for as long as [`ASK`].
const UNDECIDED: Duration = Duration::from_millis(200);

/// How long the one whom we follow may make no progress: as long as peers may give nothing before the mirror joins.
const SILENCE: Duration = pace::HEDGE_UNKNOWN;

/// How long the one whom we follow is watched before it is judged.
const JUDGED_AFTER: Duration = Duration::from_secs(2);

/// Whoever gets less than such a part of what the mirror usually gives is too slow to be followed. It gets several objects at a
/// time, ten of apt's as a rule, and those share what there is.
const SLOW: f64 = 16.0;

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
}

#[derive(Debug)]
struct Node {
    rank: Sha256,
    asked: Instant,
    answered: bool,
    wants: Option<Wants>,
    /// Its last answer was another than the one before.
    news: bool,
}

/// What a node has said that wants the object too.
#[derive(Debug, Clone, Copy)]
struct Wants {
    intent: Intent,
    /// When it last had more, or had decided otherwise.
    since: Instant,
    /// When it was first seen to walk, and how far it was.
    first: Option<(Instant, u64)>,
}

/// What the other nodes mean for our own use of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// There is none, or one has the object: the usual rules.
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

    /// A node of the local network. It is asked whether it has the object, or wants it too, however small that is.
    pub fn add_node(&mut self, node: NodeId, address: IpAddr, standing: Standing, now: Instant) -> SourceId {
        let source = self.push_peer(PeerKind::Neighbour, address, standing, now);
        self.orders.push_back(Order::AskList(source));
        let rank = node.rank(&self.ledger.digest());
        let node = Node { rank, asked: now, answered: false, wants: None, news: true };
        self.company.nodes.insert(source, node);
        source
    }

    /// What a node has said beside its list. Call it before [`Self::handle_list`].
    pub fn handle_intent(&mut self, source: SourceId, intent: Option<Intent>, now: Instant) {
        let Some(node) = self.company.nodes.get_mut(&source) else { return };
        (node.answered, node.news) = (true, true);
        let before = node.wants;
        // Who wanted it and says nothing more of that has all of it now.
        let done = before.filter(|_| intent.is_none()).map(|before| Wants { since: now, ..before });
        let told = intent.map(|intent| {
            let since = before.filter(|before| before.intent == intent).map_or(now, |before| before.since);
            let first = match intent {
                Intent::Walks(at) => before.and_then(|before| before.first).or(Some((now, at))),
                Intent::Undecided | Intent::Follows => None,
            };
            Wants { intent, since, first }
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

    pub(super) fn is_node(&self, source: SourceId) -> bool {
        self.company.nodes.contains_key(&source)
    }

    /// Whether this peer is a node that was to have answered by now, so that nothing is to wait for it.
    pub(super) fn is_mute_node(&self, peer: &Peer) -> bool {
        matches!(peer.holding, Holding::Asked { .. }) && self.is_node(peer.id)
    }

    pub(super) fn note_no_news(&mut self, source: SourceId) {
        if let Some(node) = self.company.nodes.get_mut(&source) {
            (node.answered, node.news) = (true, false);
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

    fn decide(&self, now: Instant) -> Decision {
        let own = self.company.own.unwrap_or(Sha256::new([0; 32]));
        let mut followed: Option<((bool, Sha256), SourceId, Instant)> = None;
        let mut ask: Option<Instant> = None;
        for (source, node) in &self.company.nodes {
            let Some(peer) = self.peers.get(source.0 as usize).filter(|peer| peer.is_alive()) else {
                continue;
            };
            let whole = matches!(&peer.holding, Holding::Pieces { have, .. } if have.is_all());
            let Some(wants) = node.wants else {
                if whole {
                    return Decision::Unconcerned;
                }
                let until = node.asked + ASK;
                if !node.answered && !peer.standing.doubtful && now < until {
                    ask = ask.max(Some(until));
                }
                continue;
            };
            let until = self.patience_with(peer, &wants, whole);
            if now >= until {
                continue;
            }
            let walks = whole || matches!(wants.intent, Intent::Walks(_));
            if walks || node.rank > own {
                let better = (walks, node.rank);
                if followed.is_none_or(|(best, ..)| better > best) {
                    followed = Some((better, *source, until));
                }
            } else if wants.intent == Intent::Undecided {
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
            Intent::Undecided if !whole => wants.since + UNDECIDED,
            Intent::Walks(at) if !whole => match wants.first {
                Some((first, from)) if heard >= first + JUDGED_AFTER => {
                    let took = heard.duration_since(first).as_secs_f64();
                    let least = (self.mirror_estimate() / SLOW).max(pace::OFFLOAD_RATE);
                    #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
                    let rate = at.saturating_sub(from) as f64 / took;
                    if rate < least { heard } else { heard + SILENCE }
                }
                _ => heard + SILENCE,
            },
            _ => heard + SILENCE,
        }
    }

    /// Leaves the mirror to a node that walks it as well and is ahead of us. Where both are equally far, the rank decides. As
    /// who is ahead only gets further, never do both leave it to each other.
    pub(super) fn yield_to_walker(&mut self, now: Instant) {
        if self.mirror != Mirror::Active || self.company.yields >= YIELDS || self.company.nodes.is_empty() {
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
            let before = there > at || (there == at && Some(node.rank) > self.company.own);
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
        let far = || self.walks_at().map_or(0, |(_, at)| at);
        let intent = match self.mirror {
            Mirror::Active => Intent::Walks(far()),
            Mirror::None | Mirror::Gone => Intent::Follows,
            Mirror::Standby => match self.decide(now) {
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
