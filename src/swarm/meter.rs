//! How fast bytes have come lately.

use std::time::{Duration, Instant};

/// What came longer ago than this counts for little.
const MEMORY: Duration = Duration::from_secs(3);

/// A rate that forgets: each byte counts for less the longer ago it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    began: Instant,
    at: Instant,
    /// Bytes, those of the past by their weight.
    weighed: f64,
}

impl Meter {
    pub(super) const fn new(now: Instant) -> Self {
        Self { began: now, at: now, weighed: 0.0 }
    }

    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        #[allow(clippy::cast_precision_loss, reason = "lengths below 2^53")]
        let bytes = bytes as f64;
        (self.weighed, self.at) = (self.weighed_at(now) + bytes, now);
    }

    /// Bytes a second lately.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        // A meter that has just begun has seen less than it remembers.
        let age = now.saturating_duration_since(self.began).as_secs_f64() / MEMORY.as_secs_f64();
        let seen = MEMORY.as_secs_f64() * (1.0 - (-age).exp());
        if seen > 0.0 { self.weighed_at(now) / seen } else { 0.0 }
    }

    fn weighed_at(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.weighed * (-age / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_seen_as_it_is_from_early_on() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for tenth in 1..=100 {
            let now = start + Duration::from_millis(100) * tenth;
            meter.add(100_000, now);
            let rate = meter.rate(now);
            assert!(tenth < 5 || (0.9e6..1.15e6).contains(&rate), "{rate} after {tenth}");
        }
    }

    #[test]
    fn what_stops_is_soon_forgotten() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        (1..=10).for_each(|second| meter.add(1_000_000, start + Duration::from_secs(second)));
        assert!(meter.rate(start + Duration::from_secs(13)) < 0.5e6);
        assert!(meter.rate(start + Duration::from_secs(30)) < 0.01e6);
    }
}
