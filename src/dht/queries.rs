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
const PER_ADDRESS: usize = 8;

/// Of these, so many that are late: more are not sent to who seems to be gone.
const LATE_PER_ADDRESS: usize = 2;

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
        self.pending.len() < most && self.is_free(to)
    }

    /// Whether not too many queries wait for this address already. Of local networks the port counts, too.
    pub(super) fn is_free(&self, to: SocketAddr) -> bool {
        let is_same = |pending: &&Pending| {
            if is_local(to.ip()) { pending.to == to } else { pending.to.ip() == to.ip() }
        };
        let same = || self.pending.values().filter(is_same);
        same().count() < PER_ADDRESS && same().filter(|pending| pending.is_late).count() < LATE_PER_ADDRESS
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([60, 1, 1, 1], port))
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_answer_counts_only_once_from_the_very_address_and_with_the_transaction_id() {
        let now = Instant::now();
        let mut queries = Queries::new();
        let transaction = queries.add(7, at(1), Why::Check, now);
        assert!(queries.awaits(at(1).ip()) && !queries.awaits([60, 1, 1, 2].into()));
        assert!(queries.answered(at(2), &transaction, now).is_none());
        assert!(queries.answered(at(1), &[0, 0, 0, 8], now).is_none());
        assert!(queries.answered(at(1), &transaction[1..], now).is_none());
        assert_eq!(queries.answered(at(1), &transaction, now).map(|pending| pending.to), Some(at(1)));
        assert!(queries.answered(at(1), &transaction, now).is_none());
        assert_eq!(queries.next_timeout(), None);
    }

    #[test]
    fn two_queries_never_share_a_transaction_id() {
        let now = Instant::now();
        let mut queries = Queries::new();
        let ids = [u32::MAX, u32::MAX, u32::MAX].map(|random| queries.add(random, at(1), Why::Check, now));
        assert_eq!(ids, [[0xff; 4], [0; 4], [0, 0, 0, 1]]);
    }

    #[test]
    fn an_answer_is_late_after_a_few_usual_round_trips_and_given_up_after_three_seconds() {
        let start = Instant::now();
        let mut queries = Queries::new();
        queries.add(1, at(1), Why::Check, start);
        assert_eq!(queries.next_timeout(), Some(start + ms(600)));
        assert!(queries.overdue(start + ms(599)).is_none());
        assert!(matches!(queries.overdue(start + ms(600)), Some(Overdue::Late(_))));
        assert!(queries.overdue(start + ms(2999)).is_none());
        assert!(matches!(queries.overdue(start + ms(3000)), Some(Overdue::Dead(_))));
        assert_eq!(queries.len(), 0);
        for (round_trip, late) in [(10, 250), (2000, 1000)] {
            for _ in 0..50 {
                let transaction = queries.add(1, at(1), Why::Check, start);
                queries.answered(at(1), &transaction, start + ms(round_trip));
            }
            let transaction = queries.add(1, at(1), Why::Check, start);
            assert_eq!(queries.next_timeout(), Some(start + ms(late)));
            queries.answered(at(1), &transaction, start);
        }
    }

    #[test]
    fn no_address_is_hit_too_often_and_some_room_is_kept_for_who_waits() {
        let now = Instant::now();
        let mut queries = Queries::new();
        (0..8).for_each(|n| {
            assert!(queries.is_free(at(n)));
            queries.add(0, at(n), Why::Check, now);
        });
        assert!(!queries.is_free(at(99)), "another port is no other host");
        let other = |n: u16| SocketAddr::from(([61, n.to_be_bytes()[1], 1, 1], 1));
        for n in 0..2 {
            queries.add(0, other(255), Why::Check, now - ms(600 + n));
        }
        assert!(queries.is_free(other(255)));
        while queries.overdue(now).is_some() {}
        assert!(!queries.is_free(other(255)), "it seems to be gone");
        let mut n = 0;
        while queries.has_room(other(n), Urgency::Background) {
            queries.add(0, other(n), Why::Check, now);
            n += 1;
        }
        assert_eq!(queries.len(), MAX_PENDING - RESERVED);
        while queries.has_room(other(n), Urgency::Now) {
            queries.add(0, other(n), Why::Check, now);
            n += 1;
        }
        assert_eq!(queries.len(), MAX_PENDING);
    }
}
