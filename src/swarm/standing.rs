//! What is remembered of peers from one download to the next.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::fault::PeerFault;
use super::source::Standing;

/// The most peers that are remembered; the one heard of longest ago makes room.
const MAX_RECORDS: usize = 4096;

/// A peer's faults fade: their cost halves in this time.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// Beyond this cost a peer is doubtful: it is asked, but nothing waits for it.
const DOUBTFUL: f64 = 1.5;

/// The first bench after a fault; each further fault doubles it.
const FIRST_BENCH: Duration = Duration::from_secs(2);

/// The longest bench for bad luck, and the one for a lie.
const LONGEST_BENCH: Duration = Duration::from_secs(60);
const LIE_BENCH: Duration = Duration::from_secs(3600);

/// How much a new measurement counts against the memory of the earlier ones.
const NEWEST: f64 = 0.3;

#[derive(Debug, Clone)]
struct Record {
    first_byte: Option<Duration>,
    rate: Option<f64>,
    cost: f64,
    cost_at: Instant,
    faults_in_a_row: u32,
    benched_until: Option<Instant>,
    heard: Instant,
}

/// What is remembered of each peer: its usual latency and throughput, its faults, whether it is benched.
///
/// Faults fade; a peer that answers well again is forgiven at once for bad luck, not for a lie.
#[derive(Debug)]
pub struct Scoreboard<K> {
    records: HashMap<K, Record>,
}

impl<K: Eq + Hash + Clone> Default for Scoreboard<K> {
    fn default() -> Self {
        Self { records: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone> Scoreboard<K> {
    /// What to expect of a peer; `None` while it is benched and not to be asked at all.
    pub fn standing(&self, peer: &K, now: Instant) -> Option<Standing> {
        let Some(record) = self.records.get(peer) else { return Some(Standing::default()) };
        if record.benched_until.is_some_and(|until| now < until) {
            return None;
        }
        let doubtful = record.cost_now(now) > DOUBTFUL;
        Some(Standing { first_byte: record.first_byte, rate: record.rate, doubtful })
    }

    /// A fetch from the peer went well: its time to the first byte, and its throughput in bytes a second where the
    /// transfer was long enough to tell.
    pub fn succeeded(&mut self, peer: &K, first_byte: Duration, rate: Option<f64>, now: Instant) {
        let record = self.record(peer, now);
        let old = record.first_byte.unwrap_or(first_byte);
        record.first_byte = Some(old.mul_f64(1.0 - NEWEST) + first_byte.mul_f64(NEWEST));
        if let Some(rate) = rate {
            record.rate = Some(record.rate.unwrap_or(rate) * (1.0 - NEWEST) + rate * NEWEST);
        }
        record.faults_in_a_row = 0;
        let cost = record.cost_now(now);
        if cost < PeerFault::WrongPiece.cost() / 10.0 {
            (record.cost, record.cost_at) = (0.0, now);
        }
    }

    /// The peer kept a download waiting: it is doubtful until it delivers again, or until that has faded.
    pub fn late(&mut self, peer: &K, now: Instant) {
        let record = self.record(peer, now);
        // Not a sum: however often a peer is late, one good answer makes up for it.
        record.cost = record.cost_now(now).max(PeerFault::Silent.cost());
        record.cost_at = now;
    }

    /// The peer did something wrong.
    pub fn faulted(&mut self, peer: &K, fault: PeerFault, now: Instant) {
        let record = self.record(peer, now);
        record.cost = record.cost_now(now) + fault.cost();
        record.cost_at = now;
        record.faults_in_a_row = record.faults_in_a_row.saturating_add(1);
        let bench = if fault.is_lie() {
            LIE_BENCH
        } else {
            (FIRST_BENCH * (1 << (record.faults_in_a_row - 1).min(10))).min(LONGEST_BENCH)
        };
        record.benched_until = Some(now + bench);
    }

    fn record(&mut self, peer: &K, now: Instant) -> &mut Record {
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(peer) {
            let oldest =
                self.records.iter().min_by_key(|(_, record)| record.heard).map(|(key, _)| key.clone());
            oldest.map(|key| self.records.remove(&key));
        }
        let record = self.records.entry(peer.clone()).or_insert_with(|| Record::new(now));
        record.heard = now;
        record
    }
}

impl Record {
    const fn new(now: Instant) -> Self {
        Self {
            first_byte: None,
            rate: None,
            cost: 0.0,
            cost_at: now,
            faults_in_a_row: 0,
            benched_until: None,
            heard: now,
        }
    }

    fn cost_now(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.cost_at).as_secs_f64();
        self.cost * 0.5_f64.powf(age / HALF_LIFE.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_peer_that_fails_is_benched_longer_each_time_and_forgiven_when_it_delivers() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        assert_eq!(board.standing(&"a", start), Some(Standing::default()));
        board.faulted(&"a", PeerFault::Unreachable, start);
        assert_eq!(board.standing(&"a", start + seconds(1)), None);
        assert!(board.standing(&"a", start + seconds(3)).unwrap().doubtful);
        board.faulted(&"a", PeerFault::Unreachable, start + seconds(3));
        assert_eq!(board.standing(&"a", start + seconds(6)), None);
        board.succeeded(&"a", Duration::from_millis(20), Some(1e6), start + seconds(8));
        let standing = board.standing(&"a", start + seconds(8)).unwrap();
        assert!(!standing.doubtful);
        assert_eq!(standing.first_byte, Some(Duration::from_millis(20)));
    }

    #[test]
    fn faults_fade() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        board.faulted(&"a", PeerFault::Silent, start);
        assert!(board.standing(&"a", start + seconds(60)).unwrap().doubtful);
        assert!(!board.standing(&"a", start + seconds(900)).unwrap().doubtful);
    }

    #[test]
    fn a_liar_stays_out_for_long_and_stays_doubtful() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        board.faulted(&"a", PeerFault::WrongPiece, start);
        assert_eq!(board.standing(&"a", start + seconds(3000)), None);
        board.succeeded(&"a", seconds(1), None, start + seconds(1));
        assert_eq!(board.standing(&"a", start + seconds(3000)), None, "one good piece does not undo a lie");
    }

    #[test]
    fn a_late_peer_is_doubtful_until_it_delivers_but_never_benched() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        (0..10).for_each(|_| board.late(&"a", start));
        assert!(board.standing(&"a", start).unwrap().doubtful);
        board.succeeded(&"a", seconds(2), None, start + seconds(1));
        assert!(!board.standing(&"a", start + seconds(1)).unwrap().doubtful);
        board.faulted(&"b", PeerFault::WrongPiece, start);
        board.late(&"b", start);
        assert_eq!(board.standing(&"b", start + seconds(3000)), None, "lateness undoes no lie");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        for peer in 0..MAX_RECORDS as u64 + 10 {
            board.faulted(&peer, PeerFault::Silent, start + seconds(peer));
        }
        assert_eq!(board.records.len(), MAX_RECORDS);
        assert!(!board.records.contains_key(&0), "the oldest made room");
    }
}
