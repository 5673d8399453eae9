//! What a node does for itself: getting into the network, staying there, learning nodes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Node;
use super::look_up::{Active, Purpose};
use super::plain;
use crate::dht::address::{Contact, is_local};
use crate::dht::budget::Budget;
use crate::dht::event::{Ended, LookUp, Urgency};
use crate::dht::id::Id;
use crate::dht::message::Ask;
use crate::dht::queries::Why;

/// How often upkeep is looked after.
const TICK: Duration = Duration::from_secs(5);

/// Nodes of the table that are checked at a time: 180 ticks in a quarter of an hour make 720 nodes.
const CHECKS: usize = 4;

/// Fewer good nodes than this are no network: one bucket's worth.
const FEW: usize = 8;

/// After a vain attempt to get into the network the next one comes after this,
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// then after twice as long each time, up to this.
const RETRY_LAST: Duration = Duration::from_secs(5 * 60);

/// Our own neighbourhood is looked at so often (BEP 5: buckets are refreshed after 15 minutes).
const REFRESH: Duration = Duration::from_secs(15 * 60);

/// What is stored is looked through so often.
const EXPIRE: Duration = Duration::from_secs(60);

/// Addresses that are kept as a way into the network: those saved (200) and those of bootstrap nodes.
const MAX_SEEDS: usize = 256;

/// Of these, so many are tried at a time.
const SEEDS_AT_ONCE: usize = 48;

/// Of addresses added to a node that is well connected, so many are asked at once; the others are only kept.
const ASKED_AT_ONCE: usize = 16;

/// Nodes pinged because they asked us something, per second: some 200 fill a table, and a flood of queries with made-up
/// senders must not make us ping the world.
const NEWCOMERS: u32 = 2;

/// Those pinged lately are not pinged again.
const NEWCOMERS_REMEMBERED: usize = 256;

/// Upkeep's own memory.
#[derive(Debug)]
pub(super) struct Upkeep {
    next: Instant,
    expire_at: Instant,
    refresh_at: Instant,
    /// The walk that refreshes a bucket.
    refresh: Option<LookUp>,
    /// The walk that gets us into the network.
    bootstrap: Option<LookUp>,
    retry_at: Instant,
    retry_after: Duration,
    /// Nobody answered the last attempt to get into the network.
    lost: bool,
    seeds: VecDeque<SocketAddr>,
    newcomers: Budget,
    pinged: VecDeque<SocketAddr>,
}

impl Upkeep {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: now + TICK,
            expire_at: now + EXPIRE,
            refresh_at: now + REFRESH,
            refresh: None,
            bootstrap: None,
            retry_at: now,
            retry_after: RETRY_FIRST,
            lost: false,
            seeds: VecDeque::new(),
            newcomers: Budget::new(NEWCOMERS, now),
            pinged: VecDeque::new(),
        }
    }

    /// When something is due.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// The next tick is due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    /// Somebody answered: where the network was lost, it is there again.
    pub(super) fn reached(&mut self) {
        if self.lost {
            self.lost = false;
            self.retry_after = RETRY_FIRST;
            self.retry_at = self.retry_at.min(self.next);
        }
    }

    /// Addresses to try where the table does not help: the first and the latest that were given, in turn.
    pub(super) fn seeds(&self) -> impl Iterator<Item = SocketAddr> {
        let half = self.seeds.len().div_ceil(2);
        let first = self.seeds.iter().take(half);
        let latest = self.seeds.iter().rev().take(self.seeds.len() - half);
        let mut latest = latest.copied();
        first.flat_map(move |seed| [Some(*seed), latest.next()]).flatten().take(SEEDS_AT_ONCE)
    }
}

impl Node {
    /// Adds saved nodes or the addresses of bootstrap nodes; they are asked at once, as far as they are needed to get
    /// into the network, and 16 of them where we are in it. May be called again and again: what was given is kept
    /// (the latest 256) and tried again whenever the network was lost.
    pub fn add_nodes(&mut self, addresses: impl IntoIterator<Item = SocketAddr>, now: Instant) {
        let mut added = Vec::new();
        for address in addresses.into_iter().map(plain) {
            if !self.is_usable_address(address) || added.contains(&address) || added.len() == MAX_SEEDS {
                continue;
            }
            self.upkeep.seeds.retain(|seed| *seed != address);
            if self.upkeep.seeds.len() == MAX_SEEDS {
                self.upkeep.seeds.pop_front();
            }
            self.upkeep.seeds.push_back(address);
            added.push(address);
        }
        if added.is_empty() {
            return;
        }
        if self.table.good(now) >= FEW {
            added.into_iter().take(ASKED_AT_ONCE).for_each(|address| self.ask_about_us(address, now));
            return;
        }
        self.upkeep.retry_after = RETRY_FIRST;
        let look_up = self.bootstrap(now);
        if let Some(active) = self.look_ups.get_mut(&look_up) {
            added.into_iter().for_each(|address| active.walk.add_address(address));
        }
        self.drive(now);
    }

    /// The machine has got a network, or another one: nobody waits for the end of a pause, and our neighbours are asked
    /// anew, so that we learn by which address they see us now.
    pub fn handle_new_network(&mut self, now: Instant) {
        self.upkeep.retry_after = RETRY_FIRST;
        self.upkeep.retry_at = now;
        self.upkeep.refresh_at = now;
        self.upkeep.hurry(now);
    }

    /// What is due of upkeep.
    pub(super) fn keep_up(&mut self, now: Instant) {
        if now < self.upkeep.next {
            return;
        }
        self.upkeep.next = now + TICK;
        if now >= self.upkeep.expire_at {
            self.upkeep.expire_at = now + EXPIRE;
            self.responder.expire(now);
            self.remembered.expire(now);
        }
        let is_known_to_somebody = self.table.len() > 0 || !self.upkeep.seeds.is_empty();
        if is_known_to_somebody && now >= self.upkeep.retry_at && self.table.good(now) < FEW {
            self.bootstrap(now);
        }
        self.check_nodes(now);
        self.refresh(now);
    }

    /// A walk of upkeep's is over.
    pub(super) fn kept_up(&mut self, look_up: LookUp, target: Id, outcome: Ended, now: Instant) {
        let upkeep = &mut self.upkeep;
        if upkeep.refresh == Some(look_up) {
            upkeep.refresh = None;
        }
        if upkeep.bootstrap != Some(look_up) {
            return;
        }
        upkeep.bootstrap = None;
        upkeep.lost = outcome.answered == 0;
        upkeep.retry_at = now + upkeep.retry_after;
        upkeep.retry_after =
            if self.table.good(now) < FEW { (upkeep.retry_after * 2).min(RETRY_LAST) } else { RETRY_FIRST };
        // Where our id changed meanwhile, it was the wrong neighbourhood.
        if target == self.id && outcome.answered > 0 {
            upkeep.refresh_at = now + REFRESH;
        }
    }

    /// BEP 42: the id follows from the address by which the world sees us. The neighbourhood is a new one then.
    pub(super) fn bend_id(&mut self, external: std::net::IpAddr, now: Instant) {
        if self.id.fits_address(external) {
            return;
        }
        self.id = Id::of_address(external, self.id);
        self.table.rename(self.id);
        self.upkeep.refresh_at = now;
        self.upkeep.hurry(now);
    }

    /// Somebody says that there is a node, itself or another. If there is room for it, it is pinged: only an answer
    /// shows that a sender is not made up.
    pub(super) fn consider(&mut self, contact: Contact, now: Instant) {
        let address = contact.address;
        if !self.is_usable(&contact) || self.upkeep.pinged.contains(&address) || !self.table.wants(contact) {
            return;
        }
        let is_free = self.config.allow_local && is_local(address.ip());
        if !(is_free || self.upkeep.newcomers.take(now)) || !self.may_send(address, Urgency::Background, now)
        {
            return;
        }
        if self.upkeep.pinged.len() == NEWCOMERS_REMEMBERED {
            self.upkeep.pinged.pop_front();
        }
        self.upkeep.pinged.push_back(address);
        self.query(address, Ask::Ping, Why::Check, now);
    }

    /// Asks somebody for our neighbours, and so whether it is there.
    fn ask_about_us(&mut self, address: SocketAddr, now: Instant) {
        if self.may_send(address, Urgency::Now, now) {
            self.query(address, Ask::FindNode { target: self.id }, Why::Check, now);
        }
    }

    /// Walks to ourselves from all that we know; gives the walk that is under way if there is one.
    fn bootstrap(&mut self, now: Instant) -> LookUp {
        if let Some(look_up) = self.upkeep.bootstrap {
            return look_up;
        }
        let look_up = self.name_look_up();
        self.upkeep.bootstrap = Some(look_up);
        self.set_off(look_up, Active::new(self.id, Purpose::Nodes, Urgency::Now), now);
        look_up
    }

    fn check_nodes(&mut self, now: Instant) {
        for _ in 0..CHECKS {
            let Some(check) = self.table.check(now) else { return };
            if !self.may_send(check.node.address, Urgency::Background, now) {
                return;
            }
            let ask = match check.wants_more {
                Some(bucket) => Ask::FindNode { target: self.table.point_of(bucket, self.random.id()) },
                None => Ask::Ping,
            };
            self.query(check.node.address, ask, Why::Check, now);
        }
    }

    fn refresh(&mut self, now: Instant) {
        if self.upkeep.refresh.is_some() || self.upkeep.bootstrap.is_some() {
            return;
        }
        let target = if now >= self.upkeep.refresh_at && self.table.len() > 0 {
            self.upkeep.refresh_at = now + REFRESH;
            self.id
        } else {
            let Some(bucket) = self.table.stale(now) else { return };
            self.table.point_of(bucket, self.random.id())
        };
        let look_up = self.name_look_up();
        self.upkeep.refresh = Some(look_up);
        self.set_off(look_up, Active::new(target, Purpose::Nodes, Urgency::Background), now);
    }
}
