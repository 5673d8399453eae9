//! Whether a mirror sends fast enough to be waited for. Decides only.

use std::time::Duration;

/// Below this many bytes in [`WINDOW`] a mirror counts as stalled: 1 KiB/s, slower than any line still in use.
pub(super) const ENOUGH: u64 = 20 * 1024;
/// How long a mirror is watched before it is judged.
pub(super) const WINDOW: Duration = Duration::from_secs(20);

/// Counts what came in the time we *waited* for it: a reader that takes its time is not the mirror's fault.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Notes that `bytes` came after we waited so long for them; false if the mirror is too slow.
    pub(super) fn note(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < WINDOW {
            return true;
        }
        let enough = self.bytes >= ENOUGH;
        *self = Self::default();
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_only_drips_is_too_slow_after_the_window() {
        let mut pace = Pace::default();
        let verdicts: Vec<bool> = (0..5).map(|_| pace.note(Duration::from_secs(5), 1000)).collect();
        assert_eq!(verdicts, [true, true, true, false, true]);
    }

    #[test]
    fn a_slow_but_steady_mirror_and_a_slow_reader_are_fine() {
        let mut pace = Pace::default();
        assert!((0..100).all(|_| pace.note(Duration::from_secs(1), 1100)));
        assert!((0..100).all(|_| pace.note(Duration::ZERO, 1)));
    }
}
