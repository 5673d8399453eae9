//! Looking ahead: of the files that this machine will want soon, which are looked for now, and when.
//!
//! Nobody waits for any of it, so it is spread out: few at a time, one after a pause, the largest first, for they gain most.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::digest::Sha256;

/// Look-ups at a time: of the 64 that the DHT takes, those of downloads need the others.
pub const AT_A_TIME: usize = 2;

/// How long it is remembered that an object was looked for, and who was found: peers of an archive come and go within hours.
pub const MEMORY: Duration = Duration::from_secs(30 * 60);

/// Look-ups of one run: the largest of an upgrade. A new release has thousands, which are not worth a burst in the DHT.
pub const MOST: usize = 64;

/// How many of an upgrade are considered, the largest: of some of them there are peers already.
const CONSIDERED: usize = 4 * MOST;

/// What is smaller, in bytes, is through before a stranger has answered.
pub const LEAST: u64 = 100_000;

/// What is smaller, in bytes, and common in its archive, is not worth a look-up, as for downloads.
const WORTH_A_LOOK_UP: u64 = 1 << 20;

/// Which part of the budget for announces it may take: far below it.
const SHARE: u32 = 5;

/// The datagrams of a look-up and of asking for a piece list, on a network of some hundreds of thousands of nodes.
const DATAGRAMS: u32 = 60;

/// The shortest pause, however large the budget.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause, however small the budget: ten minutes for each would be as good as never.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A file that will be wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its digest.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
}

/// What is known of a file, without a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It is in the store.
    Held,
    /// A peer that we know has it, by its own word.
    Named,
    /// Enough users of its archive are known, and none has it.
    Covered,
    /// It is not for everybody.
    Local,
    /// Nothing.
    Unknown,
}

impl Sight {
    /// Whether a file of this length is worth a look-up.
    pub const fn is_worth_a_look_up(self, length: u64) -> bool {
        match self {
            Self::Held | Self::Named | Self::Local => false,
            Self::Covered => length >= WORTH_A_LOOK_UP,
            Self::Unknown => length >= LEAST,
        }
    }
}

/// Decides which file is looked for next, and when.
#[derive(Debug)]
pub struct Lookahead {
    pause: Duration,
    /// What may still be looked for, the largest last. No more than [`CONSIDERED`].
    waiting: Vec<Candidate>,
    /// Look-ups of this run.
    left: usize,
    under_way: usize,
    not_before: Option<Instant>,
    /// When what was looked for. Forgotten after [`MEMORY`]; it grows by one in a pause.
    looked: HashMap<Sha256, Instant>,
}

impl Lookahead {
    /// Nothing to do yet. `budget` is that of announces, in datagrams a second.
    pub fn new(budget: u32) -> Self {
        let pause = Duration::from_secs(u64::from(DATAGRAMS * SHARE)) / budget.max(1);
        let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        Self { pause, waiting: Vec::new(), left: 0, under_way: 0, not_before: None, looked: HashMap::new() }
    }

    /// These will be wanted, and nothing else any more.
    pub fn set_wanted(&mut self, wanted: &[Candidate], now: Instant) {
        self.looked.retain(|_, at| now < *at + MEMORY);
        let worth = |one: &&Candidate| one.length >= LEAST && !self.looked.contains_key(&one.id);
        let mut waiting: Vec<_> = wanted.iter().filter(worth).copied().collect();
        waiting.sort_unstable_by_key(|one| (one.length, one.id));
        waiting.dedup_by_key(|one| one.id);
        waiting.drain(..waiting.len().saturating_sub(CONSIDERED));
        (self.waiting, self.left) = (waiting, MOST);
    }

    /// The file that is to be looked for now, if any; `sight` says what is known of one. What needs no look-up is passed over.
    pub fn poll(&mut self, mut sight: impl FnMut(&Candidate) -> Sight, now: Instant) -> Option<Candidate> {
        if self.under_way >= AT_A_TIME || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        while self.left > 0 {
            let next = self.waiting.pop()?;
            if sight(&next).is_worth_a_look_up(next.length) {
                self.left -= 1;
                self.under_way += 1;
                self.not_before = Some(now + self.pause);
                self.looked.insert(next.id, now);
                return Some(next);
            }
        }
        self.waiting.clear();
        None
    }

    /// A look-up has ended.
    pub fn handle_end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether nothing waits or is under way.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }

    /// When to poll again at the latest; `None` where only an event changes anything.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let may = !self.waiting.is_empty() && self.under_way < AT_A_TIME;
        may.then(|| self.not_before.map_or(now, |at| at.max(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(number: u64, length: u64) -> Candidate {
        Candidate { id: Sha256::of(&number.to_be_bytes()), length }
    }

    fn unknown(_: &Candidate) -> Sight {
        Sight::Unknown
    }

    /// What it looks for, each with the second; every look-up takes no time.
    fn all(machine: &mut Lookahead, mut now: Instant) -> Vec<(u64, u64)> {
        let (began, mut seen) = (now, Vec::new());
        while let Some(at) = machine.next_timeout(now) {
            now = at;
            if let Some(one) = machine.poll(unknown, now) {
                seen.push((one.length, (now - began).as_secs()));
                machine.handle_end();
            }
        }
        seen
    }

    #[test]
    fn the_largest_come_first_one_after_a_pause_and_only_so_many() {
        let (mut machine, now) = (Lookahead::new(50), Instant::now());
        let wanted: Vec<_> = (0..MOST as u64 * 2).map(|n| candidate(n, LEAST - 5 + n)).collect();
        machine.set_wanted(&wanted, now);
        let seen = all(&mut machine, now);
        let expected: Vec<_> =
            (0..MOST as u64).map(|n| (LEAST - 5 + MOST as u64 * 2 - 1 - n, n * 6)).collect();
        assert_eq!(seen, expected);
        assert!(machine.is_done());
    }

    #[test]
    fn it_takes_a_fifth_of_the_budget_and_two_places() {
        let now = Instant::now();
        for (budget, pause) in [(50, 6.0), (300, 1.0), (1, 300.0), (u32::MAX, 0.2)] {
            let mut machine = Lookahead::new(budget);
            machine.set_wanted(&[1, 2, 3].map(|n| candidate(n, 1 << 20)), now);
            assert!(machine.poll(unknown, now).is_some() && machine.poll(unknown, now).is_none());
            let next = machine.next_timeout(now).unwrap();
            assert!(((next - now).as_secs_f64() - pause).abs() < 0.001, "{budget}");
            assert!(machine.poll(unknown, next).is_some());
            assert_eq!(machine.next_timeout(next), None, "two are under way");
            assert_eq!(machine.poll(unknown, next + LONGEST_PAUSE), None);
            machine.handle_end();
            assert!(machine.poll(unknown, next + LONGEST_PAUSE).is_some());
        }
    }

    #[test]
    fn what_is_known_or_small_is_not_looked_for() {
        use Sight::{Covered, Held, Local, Named, Unknown};
        let large = WORTH_A_LOOK_UP;
        for (sight, length, worth) in [
            (Held, large, false),
            (Named, large, false),
            (Local, large, false),
            (Covered, large - 1, false),
            (Covered, large, true),
            (Unknown, LEAST - 1, false),
            (Unknown, LEAST, true),
        ] {
            assert_eq!(sight.is_worth_a_look_up(length), worth, "{sight:?} {length}");
        }
        let (mut machine, now) = (Lookahead::new(50), Instant::now());
        machine.set_wanted(&[candidate(1, large), candidate(2, LEAST)], now);
        let known = |one: &Candidate| if one.length == large { Named } else { Unknown };
        assert_eq!(machine.poll(known, now), Some(candidate(2, LEAST)), "it became known meanwhile");
    }

    #[test]
    fn what_is_known_takes_nothing_of_what_a_run_may_look_for() {
        let (mut machine, now) = (Lookahead::new(u32::MAX), Instant::now());
        let wanted: Vec<_> = (0..9999).map(|n| candidate(n, LEAST + n)).collect();
        machine.set_wanted(&wanted, now);
        let (mut asked, mut found, mut at) = (0, 0, now);
        while let Some(next) = machine.next_timeout(at) {
            at = next;
            let sight = |one: &Candidate| {
                asked += 1;
                if one.length.is_multiple_of(2) { Sight::Named } else { Sight::Unknown }
            };
            if machine.poll(sight, at).is_some() {
                found += 1;
                machine.handle_end();
            }
        }
        assert_eq!(found, MOST);
        assert!(asked <= CONSIDERED, "{asked}");
    }

    #[test]
    fn what_was_looked_for_is_not_looked_for_again_for_half_an_hour() {
        let (mut machine, now) = (Lookahead::new(50), Instant::now());
        let wanted = [candidate(1, LEAST)];
        for (after, count) in [(Duration::ZERO, 1), (MEMORY - Duration::from_secs(1), 0), (MEMORY, 1)] {
            machine.set_wanted(&wanted, now + after);
            assert_eq!(all(&mut machine, now + after).len(), count, "{after:?}");
        }
        machine.set_wanted(&wanted, now + MEMORY * 2);
        machine.set_wanted(&[], now + MEMORY * 2);
        assert!(machine.is_done(), "nobody wants it any more");
    }
}
