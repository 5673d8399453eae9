//! When a failed attempt is worth another one. Decides only.

use std::time::{Duration, Instant};

use hyper::StatusCode;

/// How long to go on trying.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How long quick failures are retried: apt would go on for about as long itself.
    pub hard_budget: Duration,
    /// How long a silent mirror is waited for altogether; apt hangs up after 30 s without a byte.
    pub stall_budget: Duration,
    /// The first pause; every further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            hard_budget: Duration::from_secs(7),
            stall_budget: Duration::from_secs(28),
            // A connection kept too long fails at once, and a new one helps at once.
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
        }
    }
}

/// So much new data counts as progress: a mirror that drips and breaks does not go on for ever.
const PROGRESS: u64 = 16 * 1024;

/// What kind of failure it was, as far as waiting is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It failed at once.
    Hard,
    /// It took all the time there was.
    Stall,
}

/// The attempts at one file.
#[derive(Debug)]
pub(super) struct Attempts {
    policy: RetryPolicy,
    pause: Duration,
    since: Instant,
    new_bytes: u64,
}

impl Attempts {
    pub(super) fn new(policy: RetryPolicy, now: Instant) -> Self {
        Self { pause: policy.first_pause, policy, since: now, new_bytes: 0 }
    }

    /// Notes when a wait for data began: the time a reader took before it asked for more is not the mirror's.
    pub(super) fn waiting(&mut self, from: Instant) {
        if self.pause == self.policy.first_pause {
            self.since = self.since.max(from);
        }
    }

    /// When to give up an attempt that is going on, so that the client has not hung up before.
    pub(super) fn deadline(&self) -> Instant {
        self.since + self.policy.stall_budget
    }

    /// Notes that data came; the budget begins anew with every real progress.
    pub(super) fn progress(&mut self, bytes: u64, now: Instant) {
        self.new_bytes += bytes;
        if self.new_bytes >= PROGRESS {
            self.new_bytes = 0;
            self.pause = self.policy.first_pause;
        }
        if self.pause == self.policy.first_pause {
            self.since = now;
        }
    }

    /// When to try again after this failure; `None` when there is no time left for it.
    pub(super) fn next(&mut self, failure: Failure, now: Instant) -> Option<Instant> {
        let budget = match failure {
            Failure::Hard => self.policy.hard_budget,
            Failure::Stall => self.policy.stall_budget,
        };
        let at = now + self.pause;
        if at > self.since + budget {
            return None;
        }
        self.pause = (self.pause * 2).min(self.policy.longest_pause);
        Some(at)
    }
}

/// What apt itself would ask again for.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_pauses(attempts: &mut Attempts, failure: Failure, start: Instant) -> Vec<u64> {
        let mut now = start;
        std::iter::from_fn(|| {
            let at = attempts.next(failure, now)?;
            let pause = at - now;
            now = at;
            Some(u64::try_from(pause.as_millis()).unwrap())
        })
        .collect()
    }

    #[test]
    fn pauses_double_within_the_budget() {
        let now = crate::clock::now();
        let mut attempts = Attempts::new(RetryPolicy::default(), now);
        assert_eq!(all_pauses(&mut attempts, Failure::Hard, now), [50, 100, 200, 400, 800, 1600, 2000]);
    }

    #[test]
    fn real_progress_begins_the_budget_anew_and_drips_do_not() {
        let start = crate::clock::now();
        let mut attempts = Attempts::new(RetryPolicy::default(), start);
        let late = start + Duration::from_secs(3600);
        attempts.progress(1_000_000, late);
        assert!(attempts.next(Failure::Hard, late).is_some());
        let mut now = late;
        let mut tries = 0;
        while let Some(at) = attempts.next(Failure::Hard, now) {
            now = at;
            attempts.progress(100, now);
            tries += 1;
        }
        assert!(tries < 10, "{tries} tries for a few bytes each");
    }
}
