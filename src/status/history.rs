//! How much came from where, over restarts: all in all, and hour by hour for a day.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::metrics::Stats;

/// The hours that are kept.
pub const HOURS: usize = 24;

const HOUR: u64 = 3600;

/// Bytes by where they came from, and those that were given away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// From our own disk.
    pub cache: u64,
    /// From peers.
    pub peers: u64,
    /// From mirrors.
    pub mirror: u64,
    /// Given to peers.
    pub served: u64,
}

impl Totals {
    /// What the figures count since the start.
    pub fn of(stats: &Stats) -> Self {
        Self {
            cache: stats.bytes_from_cache,
            peers: stats.bytes_from_p2p,
            mirror: stats.bytes_from_mirror,
            served: stats.bytes_uploaded,
        }
    }

    /// Everything that came.
    pub fn came(&self) -> u64 {
        self.cache.saturating_add(self.peers).saturating_add(self.mirror)
    }

    /// How much of what came did not come from the mirror, in percent; `None` where nothing came.
    pub fn spared(&self) -> Option<f64> {
        let came = self.came();
        (came > 0).then(|| (came - self.mirror) as f64 / came as f64 * 100.0)
    }

    fn plus(self, more: Self) -> Self {
        self.with(more, u64::saturating_add)
    }

    fn minus(self, less: Self) -> Self {
        self.with(less, u64::saturating_sub)
    }

    fn with(self, other: Self, join: fn(u64, u64) -> u64) -> Self {
        Self {
            cache: join(self.cache, other.cache),
            peers: join(self.peers, other.peers),
            mirror: join(self.mirror, other.mirror),
            served: join(self.served, other.served),
        }
    }
}

/// What came since the first start, and in each of the last hours. It is fed with counters that begin at 0 at each start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The first note ever, in seconds since 1970-01-01 UTC; 0 before there is one.
    since: u64,
    ever: Totals,
    /// The hours in which something came, oldest first, counted since 1970-01-01 UTC.
    hours: VecDeque<(u64, Totals)>,
    #[serde(skip)]
    counted: Totals,
}

impl History {
    /// Takes over what the counters have counted at `unix` beyond what they had the last time.
    pub fn note(&mut self, counters: Totals, unix: u64) {
        let (more, hour) = (counters.minus(self.counted), unix / HOUR);
        self.counted = counters;
        if self.since == 0 {
            self.since = unix;
        }
        if more == Totals::default() {
            return;
        }
        self.ever = self.ever.plus(more);
        // Hours of the future are those of a clock that was wrong.
        self.hours.retain(|(known, _)| *known <= hour && known + (HOURS as u64) > hour);
        match self.hours.back_mut().filter(|(known, _)| *known == hour) {
            Some((_, totals)) => *totals = totals.plus(more),
            None => self.hours.push_back((hour, more)),
        }
    }

    /// What came since the first start.
    pub const fn ever(&self) -> Totals {
        self.ever
    }

    /// Since when that is counted, in seconds since 1970-01-01 UTC; `None` before anything was noted.
    pub fn since(&self) -> Option<u64> {
        (self.since > 0).then_some(self.since)
    }

    /// What came in each of the last 24 hours, the present one last; hours begin with those of UTC.
    pub fn last_hours(&self, unix: u64) -> [Totals; HOURS] {
        let mut last = [Totals::default(); HOURS];
        for (hour, totals) in &self.hours {
            let ago = (unix / HOUR).checked_sub(*hour).and_then(|ago| usize::try_from(ago).ok());
            if let Some(slot) = ago.and_then(|ago| last.iter_mut().rev().nth(ago)) {
                *slot = slot.plus(*totals);
            }
        }
        last
    }

    /// What came in the last 24 hours.
    pub fn last_day(&self, unix: u64) -> Totals {
        self.last_hours(unix).into_iter().fold(Totals::default(), Totals::plus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_peers(peers: u64) -> Totals {
        Totals { peers, ..Totals::default() }
    }

    #[test]
    fn what_is_read_goes_on_where_it_was_though_counters_begin_anew() {
        let mut first = History::default();
        first.note(from_peers(5), 1_000_000);
        first.note(from_peers(7), 1_000_000);
        assert_eq!(first.ever(), from_peers(7));
        let json = serde_json::to_string(&first).unwrap();
        let mut second: History = serde_json::from_str(&json).unwrap();
        second.note(from_peers(0), 1_000_100);
        second.note(from_peers(3), 1_000_100);
        assert_eq!((second.ever(), second.last_day(1_000_100)), (from_peers(10), from_peers(10)));
        assert_eq!(second.since(), Some(1_000_000));
    }

    #[test]
    fn a_day_forgets_what_was_yesterday_and_ever_does_not() {
        let (mut history, day) = (History::default(), 24 * HOUR);
        for hour in 0..100 {
            history.note(from_peers(hour + 1), day + hour * HOUR);
        }
        let now = day + 99 * HOUR;
        assert_eq!((history.ever(), history.last_day(now)), (from_peers(100), from_peers(24)));
        assert_eq!(history.last_hours(now), [from_peers(1); HOURS]);
        assert_eq!(history.last_day(now + 23 * HOUR), from_peers(1));
        assert_eq!(history.last_day(now + day), Totals::default());
        assert_eq!(history.hours.len(), HOURS);
    }

    #[test]
    fn a_clock_that_jumps_costs_no_more_than_the_day() {
        let mut history = History::default();
        history.note(from_peers(1), u64::MAX);
        history.note(from_peers(2), 0);
        history.note(from_peers(3), 1_000_000);
        assert_eq!((history.ever(), history.last_day(1_000_000)), (from_peers(3), from_peers(1)));
        assert_eq!(history.last_day(0), Totals::default());
        let rubbish =
            r#"{"hours":[[18446744073709551615,{"peers":1}]],"ever":{"peers":18446744073709551615}}"#;
        let mut rubbish: History = serde_json::from_str(rubbish).unwrap();
        rubbish.note(from_peers(9), 1_000_000);
        assert_eq!(rubbish.ever(), from_peers(u64::MAX));
    }

    #[test]
    fn the_share_that_the_mirror_was_spared() {
        assert_eq!(Totals::default().spared(), None);
        assert_eq!(Totals { cache: 1, peers: 2, mirror: 1, served: 9 }.spared(), Some(75.0));
    }
}
