//! When small objects that are whole go to the disk: once apt has fetched those that it fetches one after another, soon in any case.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// For how long nothing must have come: apt asks for the next one within a few milliseconds.
const LULL: Duration = Duration::from_millis(150);

/// How long the first of them waits at most: so much is lost when the process is killed, which apt has by then.
const LONGEST: Duration = Duration::from_millis(750);

/// How many bytes may wait: some hundreds of packages, and two thirds of what there is for objects in memory, so that there is
/// room for those that come meanwhile.
const MUCH: u64 = 32 << 20;

/// How many may wait: each is a task that waits.
const MANY: usize = 512;

/// Who waits for the disk, in the order in which they came.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    bytes: u64,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Waiting<T> {
    who: T,
    length: u64,
    since: Instant,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, last: None }
    }
}

impl<T> Queue<T> {
    /// One more, of `length` bytes.
    pub(super) fn push(&mut self, who: T, length: u64, now: Instant) {
        self.waiting.push_back(Waiting { who, length, since: now });
        self.bytes += length;
        self.last = Some(now);
    }

    /// Whether more wait than should: it is time now, whatever comes.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MUCH || self.waiting.len() >= MANY
    }

    /// When they go, if none comes before; `None` where nobody waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.waiting.front()?.since;
        if self.is_full() {
            return Some(first);
        }
        Some(self.last.map_or(first, |last| (last + LULL).min(first + LONGEST)))
    }

    /// Those who came first, `most` at most; they wait no more.
    pub(super) fn take(&mut self, most: usize) -> impl Iterator<Item = T> {
        let count = self.waiting.len().min(most);
        self.bytes -= self.waiting.iter().take(count).map(|waiting| waiting.length).sum::<u64>();
        self.waiting.drain(..count).map(|waiting| waiting.who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(50);

    #[test]
    fn nobody_goes_while_others_come_but_nobody_waits_for_long() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        assert_eq!(queue.due(), None);
        queue.push('a', 1, start);
        assert_eq!(queue.due(), Some(start + LULL));
        queue.push('b', 1, start + TICK);
        assert_eq!(queue.due(), Some(start + TICK + LULL));
        (2..100).for_each(|tick| queue.push('c', 1, start + TICK * tick));
        assert_eq!(queue.due(), Some(start + LONGEST));
        assert_eq!(queue.take(2).collect::<String>(), "ab");
        assert_eq!(queue.due(), Some(start + TICK * 2 + LONGEST));
        assert_eq!(queue.take(1000).count(), 98);
        assert_eq!(queue.due(), None);
    }

    #[test]
    fn what_is_too_much_goes_at_once_until_it_is_not() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.push('a', MUCH - 1, start);
        assert!(!queue.is_full());
        queue.push('b', 1, start);
        assert!(queue.is_full());
        assert_eq!(queue.due(), Some(start));
        assert_eq!(queue.take(1).next(), Some('a'));
        assert_eq!(queue.due(), Some(start + LULL));

        (1..MANY).for_each(|_| queue.push('c', 0, start));
        assert!(queue.is_full());
        assert_eq!(queue.take(1).next(), Some('b'));
        assert!(!queue.is_full());
    }
}
