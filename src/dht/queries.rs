//! What we asked and have no answer to yet.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::address::is_local;
use super::event::{LookUp, Urgency};

/// Queries that wait at a time. At 300 bytes an answer they fit the smallest receive buffer twice.
const MAX_PENDING: usize = 256;

/// Of these, so many are kept for those who wait.
const RESERVED: usize = 64;

/// Queries that wait for one address: whoever is named a thousand times is not hit by us a thousand times.
const PER_ADDRESS: usize = 3;

/// After this nothing is expected any more.
const DEAD_AFTER: Duration = Duration::from_secs(3);

/// An answer is late after this many usual round trips,
const LATE_ROUND_TRIPS: u32 = 3;
/// but not earlier than this
const LATE_AT_LEAST: Duration = Duration::from_millis(250);
/// and not later.
const LATE_AT_MOST: Duration = Duration::from_secs(1);

/// What the usual round trip is taken for before any was measured.
const FIRST_GUESS: Duration = Duration::from_millis(200);

/// The queries that wait, by transaction id.
#[derive(Debug)]
pub(super) struct Queries {
    pending: BTreeMap<u32, Pending>,
    round_trip: Duration,
}

/// A query that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) to: SocketAddr,
    pub(super) why: Why,
    sent: Instant,
    late_at: Instant,
    is_late: bool,
}

/// What a query was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A step of a look-up.
    Walk(LookUp),
    /// To store or to announce.
    Store(LookUp),
    /// To see whether the node is there.
    Check,
}

/// A query whose answer is overdue.
#[derive(Debug, Clone, Copy)]
pub(super) enum Overdue {
    /// Most would have answered.
    Late(Pending),
    /// It waits no longer.
    Dead(Pending),
}

impl Queries {
    pub(super) const fn new() -> Self {
        Self { pending: BTreeMap::new(), round_trip: FIRST_GUESS }
    }

    /// Whether another query may go there.
    pub(super) fn has_room(&self, to: SocketAddr, urgency: Urgency) -> bool {
        let most = match urgency {
            Urgency::Now => MAX_PENDING,
            Urgency::Background => MAX_PENDING - RESERVED,
        };
        let same = |pending: &&Pending| {
            if is_local(to.ip()) { pending.to == to } else { pending.to.ip() == to.ip() }
        };
        self.pending.len() < most && self.pending.values().filter(same).count() < PER_ADDRESS
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Notes a query that goes out now. `random` becomes its transaction id, unless that waits already.
    pub(super) fn add(&mut self, random: u32, to: SocketAddr, why: Why, now: Instant) -> [u8; 4] {
        let mut transaction = random;
        while self.pending.contains_key(&transaction) {
            transaction = transaction.wrapping_add(1);
        }
        let late_at = now + (self.round_trip * LATE_ROUND_TRIPS).clamp(LATE_AT_LEAST, LATE_AT_MOST);
        self.pending.insert(transaction, Pending { to, why, sent: now, late_at, is_late: false });
        transaction.to_be_bytes()
    }

    /// Whether anything is expected from there.
    pub(super) fn awaits(&self, from: IpAddr) -> bool {
        self.pending.values().any(|pending| pending.to.ip() == from)
    }

    /// The query that this answers: the transaction id and the very address must be right.
    pub(super) fn answered(&mut self, from: SocketAddr, transaction: &[u8], now: Instant) -> Option<Pending> {
        let transaction = u32::from_be_bytes(transaction.try_into().ok()?);
        self.pending.get(&transaction).filter(|pending| pending.to == from)?;
        let pending = self.pending.remove(&transaction)?;
        let round_trip = now.saturating_duration_since(pending.sent);
        self.round_trip = (self.round_trip * 7 + round_trip) / 8;
        Some(pending)
    }

    /// The next query that is overdue by `now`.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Overdue> {
        let (transaction, pending) = self.pending.iter_mut().min_by_key(|(_, pending)| pending.deadline())?;
        if pending.deadline() > now {
            return None;
        }
        if !pending.is_late {
            pending.is_late = true;
            return Some(Overdue::Late(*pending));
        }
        let transaction = *transaction;
        self.pending.remove(&transaction).map(Overdue::Dead)
    }

    /// When the next query is overdue.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.pending.values().map(Pending::deadline).min()
    }
}

impl Pending {
    fn deadline(&self) -> Instant {
        if self.is_late { self.sent + DEAD_AFTER } else { self.late_at }
    }
}
