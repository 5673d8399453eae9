//! The node: one machine that answers others, keeps a table of them, and looks up.

mod look_up;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use self::look_up::{Active, Next, Purpose};
use self::upkeep::Upkeep;
use super::address::{Contact, is_dialable, is_local};
use super::budget::Budget;
use super::event::{Ended, Event, LookUp, NodeConfig, Status, Transmit, Urgency};
use super::id::Id;
use super::item::OwnedItem;
use super::lookup::{CLOSEST, Holder};
use super::message::{Ask, Body, Packet, Query, Response, may_be_krpc};
use super::queries::{Overdue, Pending, Queries, Why};
use super::random::Random;
use super::remembered::Remembered;
use super::responder::Responder;
use super::table::Table;
use super::votes::Votes;

/// Look-ups at a time, upkeep left out: more would only wait for each other's queries.
const MAX_LOOK_UPS: usize = 64;

/// Datagrams that wait to be sent. More are only there if nobody sends them.
const MAX_TRANSMITS: usize = 1024;

/// Findings that wait to be taken. Beyond these only the ends of look-ups are told, of which there are as many as
/// the caller started.
const MAX_EVENTS: usize = 1024;

/// Nodes of the table that a look-up starts with: twice as many as it needs, for some are gone.
const STARTERS: usize = 16;

/// Nodes that [`Node::good_nodes`] gives: with half of them gone the rest is plenty.
const MAX_SAVED: usize = 200;

/// A node of the DHT, in one address family.
///
/// After each call of anything but a getter: send what [`poll_transmit`](Self::poll_transmit) gives until it gives
/// nothing, take the events of [`poll_event`](Self::poll_event), and call [`handle_timeout`](Self::handle_timeout) at
/// [`next_timeout`](Self::next_timeout). `now` never goes backwards.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    id: Id,
    random: Random,
    responder: Responder,
    table: Table,
    queries: Queries,
    votes: Votes,
    budget: Budget,
    /// Something in the background waits for the budget.
    is_short: bool,
    look_ups: BTreeMap<LookUp, Active>,
    next_look_up: u64,
    /// The look-up in the background that was served last.
    served: LookUp,
    remembered: Remembered,
    upkeep: Upkeep,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    received: u64,
    sent: u64,
    rubbish: u64,
    refused: u64,
}

impl Node {
    /// A node that knows nobody yet.
    pub fn new(config: NodeConfig, now: Instant) -> Self {
        let mut random = Random::new(config.seed);
        Self {
            id: config.id,
            responder: Responder::new(config.limits, random.block(), now),
            random,
            table: Table::new(config.id),
            queries: Queries::new(),
            votes: Votes::default(),
            budget: Budget::new(config.background_rate, now),
            is_short: false,
            look_ups: BTreeMap::new(),
            next_look_up: 0,
            served: LookUp(0),
            remembered: Remembered::default(),
            upkeep: Upkeep::new(now),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            received: 0,
            sent: 0,
            rubbish: 0,
            refused: 0,
            config,
        }
    }

    /// Takes in a datagram of any content.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {
        self.received += 1;
        let from = plain(from);
        if !self.config.family.has(from) || !may_be_krpc(datagram) {
            self.rubbish += 1;
            return;
        }
        // What we asked for is not counted against whom we asked.
        let awaited = self.queries.awaits(from.ip());
        if !awaited && !self.responder.admit(from.ip(), now) {
            self.refused += 1;
            return;
        }
        let Ok(packet) = Packet::parse(datagram) else {
            self.rubbish += 1;
            return;
        };
        match &packet.body {
            Body::Query(_) | Body::Refused { .. } => {
                if awaited && !self.responder.admit(from.ip(), now) {
                    self.refused += 1;
                    return;
                }
                self.handle_query(from, &packet, now);
            }
            Body::Response(response) => {
                match self.queries.answered(from, packet.transaction, now) {
                    Some(pending) => self.handle_answer(pending, response, now),
                    None => self.rubbish += 1,
                }
                self.drive(now);
            }
            Body::Error { .. } => {
                match self.queries.answered(from, packet.transaction, now) {
                    Some(pending) => self.handle_error(pending),
                    None => self.rubbish += 1,
                }
                self.drive(now);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(overdue) = self.queries.overdue(now) {
            match overdue {
                Overdue::Late(Pending { why: Why::Walk(look_up), to, .. }) => {
                    if let Some(active) = self.look_ups.get_mut(&look_up) {
                        active.walk.late(to);
                    }
                }
                Overdue::Late(_) => {}
                Overdue::Dead(pending) => self.handle_silence(pending, now),
            }
        }
        self.keep_up(now);
        self.drive(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let budget = self.is_short.then(|| self.budget.next());
        self.queries.next_timeout().into_iter().chain(budget).chain([self.upkeep.next()]).min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next finding.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Looks for peers of an info-hash: [`Event::Peers`] as they are found, then [`Event::Ended`].
    pub fn find_peers(&mut self, info_hash: Id, urgency: Urgency, now: Instant) -> LookUp {
        self.start(info_hash, Purpose::Peers, urgency, now)
    }

    /// Looks for peers of an info-hash, then tells the 8 closest nodes that we are one, on `port`. In the background.
    ///
    /// Within four minutes of another look-up of that info-hash, those 8 are told without looking for them again, and
    /// no peers are reported.
    pub fn announce(&mut self, info_hash: Id, port: u16, now: Instant) -> LookUp {
        self.start(info_hash, Purpose::Announce { port }, Urgency::Background, now)
    }

    /// Looks for a stored value (BEP 44): [`Event::Item`] as they are found, then [`Event::Ended`]. `salt` is that of
    /// a mutable value, else empty. The first immutable value ends it.
    pub fn find_item(&mut self, target: Id, salt: Vec<u8>, urgency: Urgency, now: Instant) -> LookUp {
        self.start(target, Purpose::Item { salt }, urgency, now)
    }

    /// Stores a value (BEP 44) with the 8 nodes closest to its target. In the background.
    pub fn store_item(&mut self, item: OwnedItem, now: Instant) -> LookUp {
        self.start(item.target(), Purpose::Store { item }, Urgency::Background, now)
    }

    /// Forgets a look-up: nothing more is said of it, not even that it ended. Unknown ones are ignored.
    pub fn cancel(&mut self, look_up: LookUp) {
        let is_ours =
            self.look_ups.get(&look_up).is_some_and(|active| matches!(active.purpose, Purpose::Nodes));
        if !is_ours {
            self.look_ups.remove(&look_up);
            self.events.retain(|event| event.look_up() != look_up);
        }
    }

    /// The nodes worth saving, the best first, at most 200.
    pub fn good_nodes(&self) -> Vec<Contact> {
        let mut nodes = self.table.ranked();
        nodes.truncate(MAX_SAVED);
        nodes
    }

    /// How it is.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            id: self.id,
            external: self.votes.elected(),
            good_nodes: self.table.good(now),
            known_nodes: self.table.len(),
            look_ups: self.callers_look_ups(),
            queries: self.queries.len(),
            stored: self.responder.counts(),
            received: self.received,
            sent: self.sent,
            rubbish: self.rubbish,
            refused: self.refused,
        }
    }

    fn callers_look_ups(&self) -> usize {
        self.look_ups.values().filter(|active| !matches!(active.purpose, Purpose::Nodes)).count()
    }

    fn start(&mut self, target: Id, purpose: Purpose, urgency: Urgency, now: Instant) -> LookUp {
        let look_up = self.name_look_up();
        if self.callers_look_ups() >= MAX_LOOK_UPS {
            self.events.push_back(Event::Ended { look_up, outcome: Ended::default() });
            return look_up;
        }
        let mut active = Active::new(target, purpose, urgency);
        if let Some(kind) = active.kind() {
            let remembered = self.remembered.nodes(target, kind, now);
            remembered.iter().for_each(|holder| active.walk.add(holder.node));
            if matches!(active.purpose, Purpose::Announce { .. } | Purpose::Store { .. })
                && let Some(holders) = self.remembered.with_tokens(target, kind, now)
            {
                active.tell_first(holders);
            }
        }
        self.set_off(look_up, active, now);
        look_up
    }

    fn name_look_up(&mut self) -> LookUp {
        self.next_look_up += 1;
        LookUp(self.next_look_up)
    }

    /// Gives a look-up the nodes that it starts with.
    fn set_off(&mut self, look_up: LookUp, mut active: Active, now: Instant) {
        let starters = self.table.closest_of_all(&active.walk.target(), STARTERS);
        starters.iter().for_each(|contact| active.walk.add(*contact));
        if starters.len() < STARTERS / 2 {
            self.upkeep.seeds().for_each(|address| active.walk.add_address(address));
        }
        self.look_ups.insert(look_up, active);
        self.drive(now);
    }

    fn handle_query(&mut self, from: SocketAddr, packet: &Packet<'_>, now: Instant) {
        if let Body::Query(query) = &packet.body {
            let node = Contact { id: query.id, address: from };
            self.table.heard(node, now);
            // BEP 43: a read-only node "must not be added to the routing table".
            if !query.read_only {
                self.consider(node, now);
            }
        }
        if self.config.read_only || self.transmits.len() >= MAX_TRANSMITS {
            return;
        }
        let table = &self.table;
        // Where our nodes at home are is no stranger's concern, and no use to him.
        let may_know = |node: &Contact| is_local(from.ip()) || !is_local(node.address.ip());
        let close = |target: &Id| {
            let closest = table.closest(target, CLOSEST);
            closest.into_iter().filter(may_know).collect::<Vec<_>>()
        };
        if let Some(payload) = self.responder.answer(&self.id, from, packet, close, now) {
            self.transmit(from, payload);
        }
    }

    fn handle_answer(&mut self, pending: Pending, response: &Response<'_>, now: Instant) {
        let node = Contact { id: response.id, address: pending.to };
        if node.id == self.id {
            // Ourselves by another way, or somebody who wants our place.
            self.handle_error(pending);
            return;
        }
        self.table.answered(node, now);
        self.upkeep.reached();
        if let Some(seen_at) = response.seen_at
            && let Some(external) = self.votes.cast(node.address.ip(), seen_at)
        {
            self.bend_id(external, now);
        }
        match pending.why {
            Why::Walk(look_up) => self.walk_on(look_up, node, response, now),
            Why::Store(look_up) => self.took(look_up, true, true),
            Why::Check => {
                let told: Vec<Contact> = response.contacts().filter(|told| self.is_usable(told)).collect();
                told.into_iter().for_each(|contact| self.consider(contact, now));
            }
        }
    }

    fn walk_on(&mut self, look_up: LookUp, node: Contact, response: &Response<'_>, now: Instant) {
        let contacts: Vec<Contact> = response.contacts().filter(|told| self.is_usable(told)).collect();
        let (family, allow_local) = (self.config.family, self.config.allow_local);
        let usable = |peer| family.has(peer) && is_dialable(peer) && (allow_local || !is_local(peer.ip()));
        let Some(active) = self.look_ups.get_mut(&look_up) else { return };
        active.received();
        active.walk.answered(node.address, node.id, response.token, now);
        active.walk.told(node.address, contacts.into_iter());
        let peers = active.new_peers(response, usable);
        let item = response.item.as_ref().and_then(|item| active.new_item(item));
        if self.events.len() >= MAX_EVENTS {
            return;
        }
        if !peers.is_empty() {
            self.events.push_back(Event::Peers { look_up, peers });
        }
        if let Some(item) = item {
            self.events.push_back(Event::Item { look_up, item });
        }
    }

    /// A node is there, but does not do what was asked of it.
    fn handle_error(&mut self, pending: Pending) {
        match pending.why {
            Why::Walk(look_up) => {
                if let Some(active) = self.look_ups.get_mut(&look_up) {
                    active.received();
                    active.walk.dead(pending.to);
                }
            }
            Why::Store(look_up) => self.took(look_up, false, true),
            Why::Check => {}
        }
    }

    fn handle_silence(&mut self, pending: Pending, now: Instant) {
        match pending.why {
            Why::Walk(look_up) => {
                self.table.failed(pending.to, now);
                if let Some(active) = self.look_ups.get_mut(&look_up) {
                    active.walk.dead(pending.to);
                }
            }
            // It gave us a token a moment ago, so it is there. Some drop what they do not want to store.
            Why::Store(look_up) => self.took(look_up, false, false),
            Why::Check => self.table.failed(pending.to, now),
        }
    }

    fn took(&mut self, look_up: LookUp, took: bool, answered: bool) {
        if let Some(active) = self.look_ups.get_mut(&look_up) {
            active.took(took, answered);
        }
    }

    /// Lets every look-up go on as far as it may: those that somebody waits for first, the others in turn.
    fn drive(&mut self, now: Instant) {
        self.is_short = false;
        let of = |urgency: Urgency| {
            move |(look_up, active): (&LookUp, &Active)| (active.urgency == urgency).then_some(*look_up)
        };
        for look_up in self.look_ups.iter().filter_map(of(Urgency::Now)).collect::<Vec<_>>() {
            while self.advance(look_up, now) {}
        }
        let mut turns: Vec<LookUp> = self.look_ups.iter().filter_map(of(Urgency::Background)).collect();
        let first = turns.partition_point(|look_up| *look_up <= self.served);
        turns.rotate_left(first);
        while !turns.is_empty() {
            turns.retain(|look_up| {
                let went_on = self.advance(*look_up, now);
                if went_on {
                    self.served = *look_up;
                }
                went_on
            });
        }
    }

    /// Lets one look-up do one thing. False where it must wait, or is over.
    fn advance(&mut self, look_up: LookUp, now: Instant) -> bool {
        let Some(active) = self.look_ups.get_mut(&look_up) else { return false };
        match active.next(&mut self.remembered, &self.queries, now) {
            Next::Ask(address) => self.ask(look_up, address, now),
            Next::Tell(holder) => self.tell(look_up, holder, now),
            Next::Wait => false,
            Next::Done => {
                self.end(look_up, now);
                false
            }
        }
    }

    fn ask(&mut self, look_up: LookUp, address: SocketAddr, now: Instant) -> bool {
        let Some(active) = self.look_ups.get(&look_up) else { return false };
        let (ask, urgency) = (active.ask(), active.urgency);
        if !self.may_send(address, urgency, now) {
            return false;
        }
        self.query(address, ask, Why::Walk(look_up), now);
        if let Some(active) = self.look_ups.get_mut(&look_up) {
            active.asked(address);
        }
        true
    }

    fn tell(&mut self, look_up: LookUp, holder: Holder, now: Instant) -> bool {
        let Some(urgency) = self.look_ups.get(&look_up).map(|active| active.urgency) else { return false };
        let may_send = self.may_send(holder.node.address, urgency, now);
        let Some(active) = self.look_ups.get_mut(&look_up) else { return false };
        if !may_send {
            active.put_back(holder);
            return false;
        }
        let Some(ask) = active.tell(&holder.token) else { return true };
        let to = holder.node.address;
        let transaction = self.queries.add(self.random.number(), to, Why::Store(look_up), now);
        let query = Query { id: self.id, read_only: self.config.read_only, ask, want: None };
        let payload = query.encode(&transaction);
        active.told();
        self.transmit(to, payload);
        true
    }

    fn end(&mut self, look_up: LookUp, now: Instant) {
        let Some(active) = self.look_ups.remove(&look_up) else { return };
        let outcome = active.outcome();
        if matches!(active.purpose, Purpose::Nodes) {
            self.kept_up(look_up, active.walk.target(), outcome, now);
            return;
        }
        if outcome.answered == 0 && outcome.stored == 0 {
            self.upkeep.hurry(now);
        }
        self.events.push_back(Event::Ended { look_up, outcome });
    }

    /// Whether a query may go out now. If so, it is paid for.
    fn may_send(&mut self, to: SocketAddr, urgency: Urgency, now: Instant) -> bool {
        if !self.queries.has_room(to, urgency) || self.transmits.len() >= MAX_TRANSMITS {
            return false;
        }
        if urgency == Urgency::Now {
            return true;
        }
        let paid = self.budget.take(now);
        self.is_short |= !paid;
        paid
    }

    fn query(&mut self, to: SocketAddr, ask: Ask<'_>, why: Why, now: Instant) {
        let transaction = self.queries.add(self.random.number(), to, why, now);
        let query = Query { id: self.id, read_only: self.config.read_only, ask, want: None };
        self.transmit(to, query.encode(&transaction));
    }

    fn transmit(&mut self, to: SocketAddr, payload: Vec<u8>) {
        self.sent += 1;
        self.transmits.push_back(Transmit { to, payload });
    }

    /// Whether a node that somebody named can be one: not of the other family, not at an impossible or local address,
    /// and not ourselves.
    fn is_usable(&self, contact: &Contact) -> bool {
        contact.id != self.id
            && self.is_usable_address(contact.address)
            && self.votes.elected() != Some(contact.address.ip())
    }

    fn is_usable_address(&self, address: SocketAddr) -> bool {
        self.config.family.has(address)
            && is_dialable(address)
            && (self.config.allow_local || !is_local(address.ip()))
    }
}

/// The address and port alone: IPv4 that is mapped into IPv6 as IPv4, without flow label and scope.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
