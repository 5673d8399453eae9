//! How fast datagrams go out that nobody waits for.

use std::time::{Duration, Instant};

/// A token bucket: one token, one datagram.
#[derive(Debug)]
pub(super) struct Budget {
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Budget {
    /// `rate` datagrams per second, at least one. It starts full.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate.max(1));
        Self { rate, tokens: Self::depth(rate), filled: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + passed * self.rate).min(Self::depth(self.rate));
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    /// When there is a token again.
    pub(super) fn next(&self) -> Instant {
        // A little later than exactly then: a rounding error must not make a caller spin.
        let missing = (1.0 - self.tokens).max(0.0) / self.rate;
        self.filled + Duration::from_secs_f64(missing) + Duration::from_millis(1)
    }

    /// A tenth of a second's worth at once: enough for a walk's parallel queries, too little to fill a router's queue.
    fn depth(rate: f64) -> f64 {
        (rate / 10.0).max(4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time() {
        let start = Instant::now();
        let mut budget = Budget::new(50, start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            if budget.take(now) {
                sent += 1;
            } else {
                assert!(budget.next() > now);
                now = budget.next();
            }
        }
        assert!((450..=510).contains(&sent), "{sent}");
    }
}
