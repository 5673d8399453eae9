//! What is remembered of peers from one download to the next.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::fault::PeerFault;
use super::patience::Patience;
use super::score::{Known, faded, score};
use super::source::{Kin, PeerKind, Standing};

/// The most peers that are remembered; the one heard of longest ago makes room, one that is banned only for another.
const MAX_RECORDS: usize = 4096;

/// A peer's faults fade: their cost halves in this time.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// Beyond this cost a peer is doubtful: it is asked, but nothing waits for it.
const DOUBTFUL: f64 = 1.5;

/// The first bench after a fault; each further fault doubles it.
const FIRST_BENCH: Duration = Duration::from_secs(2);

/// The longest bench for bad luck.
const LONGEST_BENCH: Duration = Duration::from_secs(60);

/// How long the first lie bans; each further one doubles it.
const FIRST_BAN: Duration = Duration::from_secs(3600);

/// The longest ban: an address may have another owner tomorrow.
pub const LONGEST_BAN: Duration = Duration::from_secs(24 * 3600);

/// How much a new measurement counts against the memory of the earlier ones.
const NEWEST: f64 = 0.3;

#[derive(Debug, Clone)]
struct Record {
    kind: Option<PeerKind>,
    patience: Patience,
    rate: Option<f64>,
    cost: f64,
    cost_at: Instant,
    faults_in_a_row: u32,
    benched_until: Option<Instant>,
    /// How often it was convicted of a lie.
    convictions: u32,
    banned_until: Option<Instant>,
    faults: u64,
    last_fault: Option<PeerFault>,
    /// Good answers and the cost of faults, faded to `tallied`, for the score.
    good: f64,
    bad: f64,
    tallied: Instant,
    answered: Option<Instant>,
    bytes: u64,
    heard: Instant,
}

/// A ban, to be remembered over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban<K> {
    /// Whom.
    pub peer: K,
    /// How much longer.
    pub left: Duration,
    /// How often it has been convicted.
    pub convictions: u32,
}

/// What is known of a peer, for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reputation {
    /// How it came to our knowledge, where we have met it since the start.
    pub kind: Option<PeerKind>,
    /// From 0 to 1; see docs/protocol.md, section 9.
    pub score: f64,
    /// Its usual time to the first byte.
    pub first_byte: Option<Duration>,
    /// Its usual throughput in bytes a second.
    pub rate: Option<f64>,
    /// Faults, all in all.
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<PeerFault>,
    /// How much longer it is left alone.
    pub benched: Option<Duration>,
    /// It is left alone for a lie.
    pub banned: bool,
    /// Bytes of pieces that it gave.
    pub bytes: u64,
}

impl Reputation {
    /// That of a peer that has not been asked for anything yet.
    pub fn unknown(kind: PeerKind) -> Self {
        Self {
            kind: Some(kind),
            score: Standing::default().score,
            first_byte: None,
            rate: None,
            faults: 0,
            last_fault: None,
            benched: None,
            banned: false,
            bytes: 0,
        }
    }
}

/// What is remembered of each peer: its usual latency and throughput, its faults, whether it is benched.
///
/// Faults fade; a peer that answers well again is forgiven at once for bad luck, not for a lie.
#[derive(Debug)]
pub struct Scoreboard<K> {
    records: HashMap<K, Record>,
    /// Those that were banned lately: few, where records are many.
    liars: Vec<K>,
    /// How long those of each kin take to answer.
    kin: [Patience; 3],
}

impl<K: Eq + Hash + Clone> Default for Scoreboard<K> {
    fn default() -> Self {
        Self { records: HashMap::new(), liars: Vec::new(), kin: [Patience::default(); 3] }
    }
}

impl<K: Eq + Hash + Clone> Scoreboard<K> {
    /// What to expect of a peer; `None` while it is benched and not to be asked at all.
    pub fn standing(&self, peer: &K, now: Instant) -> Option<Standing> {
        let Some(record) = self.records.get(peer) else { return Some(Standing::default()) };
        if record.benched(now).is_some() {
            return None;
        }
        let doubtful = record.cost_now(now) > DOUBTFUL;
        let patience = &record.patience;
        Some(Standing {
            first_byte: patience.usual(),
            overdue: patience.overdue(),
            rate: record.rate,
            score: record.score(now),
            doubtful,
        })
    }

    /// The same of one that never answered anything: when its first byte is overdue is what others of its kin say.
    pub fn standing_among(&self, peer: &K, kin: Kin, now: Instant) -> Option<Standing> {
        let standing = self.standing(peer, now)?;
        Some(Standing { overdue: standing.overdue.or_else(|| self.kin[kin as usize].overdue()), ..standing })
    }

    /// One of this kin answered after this time.
    pub fn answered_among(&mut self, kin: Kin, first_byte: Duration) {
        self.kin[kin as usize].answered(first_byte);
    }

    /// A fetch from the peer went well: its time to the first byte, its throughput in bytes a second where the transfer was
    /// long enough to tell, and how many bytes it gave.
    pub fn succeeded(&mut self, peer: &K, first_byte: Duration, rate: Option<f64>, bytes: u64, now: Instant) {
        let record = self.record(peer, now);
        record.patience.answered(first_byte);
        if let Some(rate) = rate {
            record.rate = Some(record.rate.unwrap_or(rate) * (1.0 - NEWEST) + rate * NEWEST);
        }
        record.faults_in_a_row = 0;
        let cost = record.cost_now(now);
        if cost < PeerFault::WrongPiece.cost() / 10.0 {
            (record.cost, record.cost_at) = (0.0, now);
        }
        record.tally(now);
        record.good += 1.0;
        record.answered = Some(now);
        record.bytes += bytes;
    }

    /// The peer kept a download waiting: it is doubtful until it delivers again, or until that has faded.
    pub fn late(&mut self, peer: &K, now: Instant) {
        let record = self.record(peer, now);
        // Not a sum: however often a peer is late, one good answer makes up for it.
        record.cost = record.cost_now(now).max(PeerFault::Silent.cost());
        record.cost_at = now;
        record.patience.timed_out();
        record.tally(now);
        record.bad += 1.0;
    }

    /// The peer did something wrong.
    pub fn faulted(&mut self, peer: &K, fault: PeerFault, now: Instant) {
        let record = self.record(peer, now);
        record.cost = record.cost_now(now) + fault.cost();
        record.cost_at = now;
        record.faults_in_a_row = record.faults_in_a_row.saturating_add(1);
        if fault.is_lie() {
            record.convictions = record.convictions.saturating_add(1);
            record.ban(now + doubled(FIRST_BAN, record.convictions, LONGEST_BAN));
        } else {
            record.benched_until = Some(now + doubled(FIRST_BENCH, record.faults_in_a_row, LONGEST_BENCH));
        }
        if matches!(fault, PeerFault::Silent | PeerFault::Stalled) {
            record.patience.timed_out();
        }
        record.faults += 1;
        record.last_fault = Some(fault);
        record.tally(now);
        record.bad += fault.cost();
        if fault.is_lie() {
            self.note_liar(peer, now);
        }
    }

    /// How the peer came to our knowledge, if anything is remembered of it.
    pub fn known_as(&mut self, peer: &K, kind: PeerKind) {
        if let Some(record) = self.records.get_mut(peer) {
            record.kind = Some(kind);
        }
    }

    /// Whom bans keep out now.
    pub fn banned(&self, now: Instant) -> impl Iterator<Item = &K> {
        let is_banned = move |peer: &&K| self.records.get(*peer).is_some_and(|record| record.is_banned(now));
        self.liars.iter().filter(is_banned)
    }

    /// The bans that last.
    pub fn bans(&self, now: Instant) -> impl Iterator<Item = Ban<K>> {
        self.records.iter().filter_map(move |(peer, record)| {
            let left = left(record.banned_until, now)?;
            Some(Ban { peer: peer.clone(), left, convictions: record.convictions })
        })
    }

    /// A ban of before the program was started. It lasts no longer than any does.
    pub fn restore(&mut self, ban: &Ban<K>, now: Instant) {
        let record = self.record(&ban.peer, now);
        record.ban(now + ban.left.min(LONGEST_BAN));
        record.convictions = record.convictions.max(ban.convictions).max(1);
        record.cost = record.cost_now(now).max(PeerFault::WrongPiece.cost());
        record.cost_at = now;
        record.bad = record.bad.max(PeerFault::WrongPiece.cost());
        self.note_liar(&ban.peer, now);
    }

    /// All that are remembered.
    pub fn reputations(&self, now: Instant) -> impl Iterator<Item = (K, Reputation)> {
        self.records.iter().map(move |(peer, record)| (peer.clone(), record.reputation(now)))
    }

    /// Each once, and nobody whose ban is over or who is forgotten.
    fn note_liar(&mut self, peer: &K, now: Instant) {
        let records = &self.records;
        let is_banned = |other: &K| records.get(other).is_some_and(|record| record.is_banned(now));
        self.liars.retain(|other| other != peer && is_banned(other));
        self.liars.push(peer.clone());
    }

    fn record(&mut self, peer: &K, now: Instant) -> &mut Record {
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(peer) {
            let age = |(_, record): &(&K, &Record)| (record.is_banned(now), record.heard);
            let oldest = self.records.iter().min_by_key(age).map(|(key, _)| key.clone());
            oldest.map(|key| self.records.remove(&key));
        }
        let record = self.records.entry(peer.clone()).or_insert_with(|| Record::new(now));
        record.heard = now;
        record
    }
}

/// `first`, doubled with every time after the first.
fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    (first * (1 << times.saturating_sub(1).min(10))).min(most)
}

/// How long it is until then; `None` where that is over.
fn left(until: Option<Instant>, now: Instant) -> Option<Duration> {
    until.filter(|until| now < *until).map(|until| until - now)
}

impl Record {
    fn new(now: Instant) -> Self {
        Self {
            kind: None,
            patience: Patience::default(),
            rate: None,
            cost: 0.0,
            cost_at: now,
            faults_in_a_row: 0,
            benched_until: None,
            convictions: 0,
            banned_until: None,
            faults: 0,
            last_fault: None,
            good: 0.0,
            bad: 0.0,
            tallied: now,
            answered: None,
            bytes: 0,
            heard: now,
        }
    }

    fn cost_now(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.cost_at).as_secs_f64();
        self.cost * 0.5_f64.powf(age / HALF_LIFE.as_secs_f64())
    }

    fn ban(&mut self, until: Instant) {
        self.banned_until = self.banned_until.max(Some(until));
    }

    /// How much longer it is left alone, be it for a lie or for bad luck.
    fn benched(&self, now: Instant) -> Option<Duration> {
        left(self.benched_until.max(self.banned_until), now)
    }

    fn is_banned(&self, now: Instant) -> bool {
        left(self.banned_until, now).is_some()
    }

    /// Lets the tallies fade up to now.
    fn tally(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.tallied);
        (self.good, self.bad) = (faded(self.good, age), faded(self.bad, age));
        self.tallied = self.tallied.max(now);
    }

    fn score(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.tallied);
        score(&Known {
            first_byte: self.patience.usual(),
            rate: self.rate,
            good: faded(self.good, age),
            bad: faded(self.bad, age),
            age: self.answered.map(|at| now.saturating_duration_since(at)),
        })
    }

    fn reputation(&self, now: Instant) -> Reputation {
        Reputation {
            kind: self.kind,
            score: self.score(now),
            first_byte: self.patience.usual(),
            rate: self.rate,
            faults: self.faults,
            last_fault: self.last_fault,
            benched: self.benched(now),
            banned: self.is_banned(now),
            bytes: self.bytes,
        }
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
        board.succeeded(&"a", Duration::from_millis(20), Some(1e6), 1, start + seconds(8));
        let standing = board.standing(&"a", start + seconds(8)).unwrap();
        assert!(!standing.doubtful);
        assert_eq!(standing.first_byte, Some(Duration::from_millis(20)));
    }

    #[test]
    fn who_was_never_met_is_expected_to_answer_like_others_of_its_kin() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        (0..20).for_each(|_| board.answered_among(Kin::Local, Duration::from_millis(4)));
        (0..20).for_each(|_| board.answered_among(Kin::Stranger, Duration::from_millis(300)));
        let overdue = |board: &Scoreboard<_>, kin| {
            board.standing_among(&"new", kin, start).unwrap().overdue.map(|time| time.as_millis())
        };
        assert!(overdue(&board, Kin::Local).is_some_and(|time| (4..30).contains(&time)));
        assert!(overdue(&board, Kin::Stranger).is_some_and(|time| (300..400).contains(&time)));
        assert_eq!(overdue(&board, Kin::Chosen), None);
        // Its own answers count for more.
        board.succeeded(&"new", seconds(1), None, 1, start);
        assert!(overdue(&board, Kin::Local).is_some_and(|time| time >= 1000));
    }

    #[test]
    fn faults_fade() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        board.faulted(&"a", PeerFault::Silent, start);
        assert!(board.standing(&"a", start + seconds(60)).unwrap().doubtful);
        assert!(!board.standing(&"a", start + seconds(900)).unwrap().doubtful);
        let score = |after| board.standing(&"a", start + seconds(after)).unwrap().score;
        assert!(score(60) < score(7200) && score(7200) < Standing::default().score);
    }

    #[test]
    fn a_liar_stays_out_for_long_and_stays_doubtful() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        board.faulted(&"a", PeerFault::WrongPiece, start);
        assert_eq!(board.standing(&"a", start + seconds(3000)), None);
        board.succeeded(&"a", seconds(1), None, 1, start + seconds(1));
        assert_eq!(board.standing(&"a", start + seconds(3000)), None, "one good piece does not undo a lie");
    }

    #[test]
    fn each_further_lie_bans_twice_as_long_up_to_a_day() {
        let (mut board, mut now) = (Scoreboard::default(), Instant::now());
        for hours in [1, 2, 4, 8, 16, 24, 24] {
            board.faulted(&"a", PeerFault::WrongList, now);
            let ban = board.bans(now).next().unwrap();
            assert_eq!(ban.left, seconds(hours * 3600));
            now += ban.left;
            assert_eq!(board.bans(now).count(), 0);
            assert!(board.standing(&"a", now).is_some());
        }
    }

    #[test]
    fn bad_luck_does_not_shorten_a_ban_and_is_none_itself() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        (0..20).for_each(|_| board.faulted(&"unlucky", PeerFault::Stalled, start));
        assert_eq!(board.bans(start).count(), 0);
        board.faulted(&"liar", PeerFault::WrongPiece, start);
        board.faulted(&"liar", PeerFault::Short, start + seconds(1));
        assert_eq!(board.bans(start + seconds(3000)).count(), 1);
    }

    #[test]
    fn bans_are_taken_over_and_never_become_longer() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        board.restore(&Ban { peer: "a", left: seconds(100), convictions: 2 }, start);
        board.restore(&Ban { peer: "b", left: Duration::MAX, convictions: 0 }, start);
        assert_eq!(board.standing(&"a", start + seconds(99)), None);
        assert!(board.standing(&"a", start + seconds(101)).unwrap().doubtful);
        assert_eq!(board.standing(&"b", start + LONGEST_BAN - seconds(1)), None);
        assert!(board.standing(&"b", start + LONGEST_BAN + seconds(1)).is_some());
        board.faulted(&"a", PeerFault::WrongPiece, start + seconds(200));
        let left = board.bans(start + seconds(200)).find(|ban| ban.peer == "a").unwrap().left;
        assert_eq!(left, seconds(4 * 3600), "the third time");
    }

    #[test]
    fn a_late_peer_is_doubtful_until_it_delivers_but_never_benched() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        (0..10).for_each(|_| board.late(&"a", start));
        assert!(board.standing(&"a", start).unwrap().doubtful);
        board.succeeded(&"a", seconds(2), None, 1, start + seconds(1));
        assert!(!board.standing(&"a", start + seconds(1)).unwrap().doubtful);
        board.faulted(&"b", PeerFault::WrongPiece, start);
        board.late(&"b", start);
        assert_eq!(board.standing(&"b", start + seconds(3000)), None, "lateness undoes no lie");
    }

    #[test]
    fn time_outs_widen_what_is_expected_of_a_peer_and_answers_narrow_it() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        let answer =
            |board: &mut Scoreboard<_>| board.succeeded(&"a", Duration::from_millis(50), None, 1, start);
        let overdue =
            |board: &Scoreboard<_>| board.standing(&"a", start + seconds(60)).unwrap().overdue.unwrap();
        (0..20).for_each(|_| answer(&mut board));
        let usual = overdue(&board);
        assert!(usual < Duration::from_millis(100), "{usual:?}");
        board.late(&"a", start);
        board.faulted(&"a", PeerFault::Silent, start);
        assert!(overdue(&board) > 3 * usual);
        (0..3).for_each(|_| answer(&mut board));
        assert!(overdue(&board) < 2 * usual);
    }

    #[test]
    fn memory_is_bounded_and_a_flood_frees_no_liar() {
        let (mut board, start) = (Scoreboard::default(), Instant::now());
        board.faulted(&u64::MAX, PeerFault::WrongPiece, start);
        for peer in 0..MAX_RECORDS as u64 + 10 {
            board.faulted(&peer, PeerFault::Silent, start + Duration::from_millis(peer));
        }
        assert_eq!(board.records.len(), MAX_RECORDS);
        assert!(!board.records.contains_key(&0), "the oldest made room");
        assert_eq!(board.bans(start + seconds(60)).count(), 1);
        let lie = |board: &mut Scoreboard<_>, peer| board.faulted(&peer, PeerFault::WrongList, start);
        (0..2 * MAX_RECORDS as u64).for_each(|peer| lie(&mut board, peer));
        (0..5).for_each(|_| lie(&mut board, 0));
        assert!(board.liars.len() <= MAX_RECORDS + 1, "{}", board.liars.len());
        assert_eq!(board.banned(start).count(), MAX_RECORDS);
    }
}
