//! The only reader of the time. Everything that decides takes `now` as an argument instead.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time, for durations and deadlines.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock as whole seconds since 1970-01-01 UTC, for what is kept on disk; 0 where the clock stands before.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The wall clock `ago` before now, for comparing with dates in HTTP headers.
pub fn wall_clock(ago: Duration) -> SystemTime {
    SystemTime::now() - ago
}
