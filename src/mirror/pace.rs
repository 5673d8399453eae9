//! Whether a mirror sends fast enough to be waited for. Decides only.

use std::time::Duration;

/// Below this many bytes per second a mirror counts as stalled: slower than any line still in use.
pub(super) const MIN_RATE: u64 = 1024;

/// Counts what came in the time we *waited* for it: a reader that takes its time is not the mirror's fault.
#[derive(Debug)]
pub(super) struct Pace {
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Judges after every `window` of waiting.
    pub(super) const fn new(window: Duration) -> Self {
        Self { window, waited: Duration::ZERO, bytes: 0 }
    }

    /// Notes that `bytes` came after we waited so long for them; false if the mirror is too slow.
    pub(super) fn note(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.window {
            return true;
        }
        let enough = u128::from(self.bytes) * 1000 >= self.waited.as_millis() * u128::from(MIN_RATE);
        *self = Self::new(self.window);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_only_drips_is_too_slow_after_the_window() {
        let mut pace = Pace::new(Duration::from_secs(20));
        let verdicts: Vec<bool> = (0..5).map(|_| pace.note(Duration::from_secs(5), 1000)).collect();
        assert_eq!(verdicts, [true, true, true, false, true]);
    }

    #[test]
    fn a_slow_but_steady_mirror_and_a_slow_reader_are_fine() {
        let mut pace = Pace::new(Duration::from_secs(20));
        assert!((0..100).all(|_| pace.note(Duration::from_secs(1), 1100)));
        assert!((0..100).all(|_| pace.note(Duration::ZERO, 1)));
    }
}
