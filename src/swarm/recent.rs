//! Whom we had to do with lately.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long somebody counts.
const LATELY: Duration = Duration::from_secs(300);

/// The most that are remembered; more are not counted. A connection each for five minutes, and nobody has so many.
const MOST: usize = 4096;

/// Those with whom something happened within the last five minutes.
#[derive(Debug)]
pub struct Recent<K> {
    seen: HashMap<K, Instant>,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self { seen: HashMap::new() }
    }
}

impl<K: Eq + Hash> Recent<K> {
    /// Something happens with `who`.
    pub fn note(&mut self, who: K, now: Instant) {
        if let Some(seen) = self.seen.get_mut(&who) {
            *seen = now;
            return;
        }
        if self.seen.len() >= MOST {
            self.forget(now);
        }
        if self.seen.len() < MOST {
            self.seen.insert(who, now);
        }
    }

    /// How many there are at `now`.
    pub fn count(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.seen.len()
    }

    fn forget(&mut self, now: Instant) {
        self.seen.retain(|_, seen| now.saturating_duration_since(*seen) < LATELY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counts_once_until_it_was_long_ago() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        recent.note("a", start);
        recent.note("b", start);
        recent.note("a", start + LATELY / 2);
        assert_eq!(recent.count(start + LATELY / 2), 2);
        assert_eq!(recent.count(start + LATELY), 1);
        assert_eq!(recent.count(start + LATELY * 2), 0);
    }

    #[test]
    fn a_flood_takes_no_more_than_its_room_and_passes() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        (0..2 * MOST).for_each(|number| recent.note(number, start));
        assert_eq!(recent.count(start), MOST);
        recent.note(usize::MAX, start + LATELY);
        assert_eq!(recent.count(start + LATELY), 1);
    }
}
