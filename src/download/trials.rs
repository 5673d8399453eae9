//! Strangers that the mirror waits for although they never delivered anything: a few, now and then.

use std::time::{Duration, Instant};

/// One such stranger in this time. Each that does not answer costs 150 ms as a rule, once: less than a fiftieth of the
/// time at worst, whoever it is that claims to have everything.
const EVERY: Duration = Duration::from_secs(10);

/// When the last trial began.
#[derive(Debug, Default)]
pub(super) struct Trials(Option<Instant>);

impl Trials {
    /// Takes a trial, if it is time for one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|last| now >= last + EVERY);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_rare() {
        let (mut trials, start) = (Trials::default(), Instant::now());
        let taken = (0..100).filter(|at| trials.take(start + Duration::from_secs(*at))).count();
        assert_eq!(taken, 10);
    }
}
