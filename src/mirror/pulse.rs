//! Whether mirrors answer, by what was asked of them anyway.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How mirrors have answered lately, all of them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulse {
    /// When one answered last.
    pub answered: Option<Instant>,
    /// How many attempts have failed since.
    pub failures: u32,
    /// When the last of them did, and why.
    pub failed: Option<(Instant, String)>,
}

/// The pulse as it is being taken.
#[derive(Debug, Default)]
pub(super) struct Wrist(Mutex<Pulse>);

impl Wrist {
    pub(super) fn answered(&self, now: Instant) {
        *self.lock() = Pulse { answered: Some(now), failures: 0, failed: None };
    }

    pub(super) fn failed(&self, now: Instant, why: String) {
        let mut pulse = self.lock();
        pulse.failures = pulse.failures.saturating_add(1);
        pulse.failed = Some((now, why));
    }

    pub(super) fn take(&self) -> Pulse {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pulse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_makes_good_for_all_failures_before() {
        let (wrist, now) = (Wrist::default(), Instant::now());
        wrist.failed(now, "silent".into());
        wrist.failed(now, "refused".into());
        let pulse = wrist.take();
        assert_eq!((pulse.failures, pulse.failed), (2, Some((now, "refused".to_owned()))));
        wrist.answered(now);
        assert_eq!(wrist.take(), Pulse { answered: Some(now), failures: 0, failed: None });
    }
}
