//! How many bytes may move when, under a limit that many streams share. Decides only.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// What may move at once after a pause, as a share of a second: so much is forgiven to a timer that is late.
const BURST: Duration = Duration::from_millis(200);

/// How long one turn lasts. Streams take turns, so this is how long each waits for each other: with 100 of them every one
/// still moves every 2 s, well within what anybody takes for a standstill (docs/protocol.md, section 9).
const TURN: Duration = Duration::from_millis(20);

/// The most bytes of one turn, so that a large limit is shared as finely as a small one.
const LARGEST_TURN: u64 = 128 << 10;

/// A bucket of bytes that fills at a steady rate.
///
/// Who wants to move bytes reserves a turn and waits until it is due; turns are due one after another, in the order in
/// which they were asked for. Streams that ask for one turn at a time so get equal shares, however many they are.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    /// What is there, in bytes; below zero, what is promised already.
    level: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket for so many bytes a second.
    pub(super) fn new(rate: NonZeroU64, now: Instant) -> Self {
        let rate = as_f64(rate.get());
        Self { rate, level: rate * BURST.as_secs_f64(), filled: now }
    }

    /// The next turn of a stream that has `wanted` bytes, at least one: how many of them, and when.
    pub(super) fn reserve(&mut self, wanted: u64, now: Instant) -> (u64, Instant) {
        self.fill(now);
        let bytes = wanted.min(self.turn()).max(1);
        self.level -= as_f64(bytes);
        let debt = (-self.level).max(0.0);
        (bytes, now + Duration::from_secs_f64(debt / self.rate))
    }

    /// Takes back a turn that nobody waits for any more.
    pub(super) fn give_back(&mut self, bytes: u64, now: Instant) {
        self.level += as_f64(bytes);
        self.fill(now);
    }

    fn turn(&self) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above zero; saturates")]
        let turn = (self.rate * TURN.as_secs_f64()) as u64;
        turn.clamp(1, LARGEST_TURN)
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        // A turn of one byte must fit, however small the rate.
        let full = (self.rate * BURST.as_secs_f64()).max(1.0);
        self.level = (self.level + elapsed * self.rate).min(full);
        self.filled = self.filled.max(now);
    }
}

#[allow(clippy::cast_precision_loss, reason = "rates and turns below 2^53")]
const fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64, now: Instant) -> Bucket {
        Bucket::new(NonZeroU64::new(rate).unwrap(), now)
    }

    /// What one stream that never pauses gets through within `time`.
    fn moved(bucket: &mut Bucket, start: Instant, time: Duration, frame: u64) -> u64 {
        let (mut now, mut total) = (start, 0);
        while now < start + time {
            let mut left = frame;
            while left > 0 {
                let (bytes, due) = bucket.reserve(left, now);
                now = now.max(due);
                left -= bytes;
                total += bytes;
            }
        }
        total
    }

    #[test]
    fn what_passes_is_the_rate_whatever_its_size_and_that_of_the_frames() {
        for rate in [1_000, 10_000, 1_000_000, 100_000_000] {
            for frame in [1_500, 128 << 10, 4 << 20] {
                let start = Instant::now();
                // A whole frame may pass at the end, and a burst at the start.
                let seconds = 10 + 2 * frame / rate;
                let total = moved(&mut bucket(rate, start), start, Duration::from_secs(seconds), frame);
                let least = rate * seconds;
                assert!((least..=least + frame + rate / 4).contains(&total), "{rate} {frame}: {total}");
            }
        }
    }

    #[test]
    fn a_frame_larger_than_the_limit_is_split_and_no_part_waits_long() {
        let start = Instant::now();
        let mut bucket = bucket(10_000, start);
        let (mut now, mut left, mut longest) = (start, 128_u64 << 10, Duration::ZERO);
        while left > 0 {
            let (bytes, due) = bucket.reserve(left, now);
            longest = longest.max(due.saturating_duration_since(now));
            (now, left) = (now.max(due), left - bytes);
        }
        assert!(longest < Duration::from_millis(50), "{longest:?}");
    }

    #[test]
    fn streams_take_turns() {
        let start = Instant::now();
        let mut bucket = bucket(100_000, start);
        // One asks for much, one for little, one is there from the beginning only in name.
        let wanted = [1 << 20, 5_000, 1 << 20];
        let mut due = [start; 3];
        let mut total = [0; 3];
        for _ in 0..3_000 {
            let next = (0..3).min_by_key(|stream| due[*stream]).unwrap();
            let (bytes, at) = bucket.reserve(wanted[next], due[next]);
            (due[next], total[next]) = (at, total[next] + bytes);
        }
        let (least, most) = (total.iter().min().unwrap(), total.iter().max().unwrap());
        // Whoever came first had the burst.
        assert!(most - least <= 20_000 + 2 * bucket.turn(), "{total:?}");
    }

    #[test]
    fn a_pause_earns_a_small_burst_and_no_more() {
        let start = Instant::now();
        let mut bucket = bucket(100_000, start);
        let later = start + Duration::from_secs(3600);
        let mut at_once = 0;
        loop {
            let (bytes, due) = bucket.reserve(u64::MAX, later);
            if due > later {
                break;
            }
            at_once += bytes;
        }
        assert_eq!(at_once, 20_000);
    }

    #[test]
    fn a_turn_that_is_given_back_is_anybodys() {
        let start = Instant::now();
        let mut bucket = bucket(1_000, start);
        (0..10_000).for_each(|_| {
            let (bytes, _) = bucket.reserve(1_000, start);
            bucket.give_back(bytes, start);
        });
        let (_, due) = bucket.reserve(1_000, start);
        assert_eq!(due, start);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_does_no_harm() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = bucket(1, start);
        let (bytes, due) = bucket.reserve(u64::MAX, start - Duration::from_secs(5));
        assert_eq!(bytes, 1);
        assert!(due < start);
    }
}
