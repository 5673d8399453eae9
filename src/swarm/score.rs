//! How good a peer is, as one figure.

use std::time::Duration;

/// What each part counts. Together 1.
const LATENCY: f64 = 0.30;
const THROUGHPUT: f64 = 0.30;
const RELIABILITY: f64 = 0.25;
const FRESHNESS: f64 = 0.15;

/// The time to the first byte that is neither good nor bad: a round trip across a continent, and some work.
const MIDDLING_LATENCY: f64 = 0.1;

/// The throughput that is neither good nor bad, in bytes a second: 100 Mbit/s.
const MIDDLING_RATE: f64 = 12.5e6;

/// What is known is worth half after this time: an afternoon changes a network, a coffee does not.
pub(super) const HALF_LIFE: Duration = Duration::from_secs(3600);

/// What nobody knows is neither good nor bad.
const MIDDLING: f64 = 0.5;

/// What is known of a peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// Its usual time to the first byte.
    pub(super) first_byte: Option<Duration>,
    /// Its usual throughput in bytes a second.
    pub(super) rate: Option<f64>,
    /// Good answers, faded.
    pub(super) good: f64,
    /// The cost of its faults, faded.
    pub(super) bad: f64,
    /// How long ago it answered well.
    pub(super) age: Option<Duration>,
}

/// The score, from 0 to 1. A peer of which nothing is known is in the lower middle: better than a bad one, and worse than one
/// that has proved itself.
pub(super) fn score(known: &Known) -> f64 {
    let freshness = known.age.map_or(0.0, |age| faded(1.0, age));
    // The older the news, the less they say.
    let weigh = |part: Option<f64>| part.map_or(MIDDLING, |part| MIDDLING + (part - MIDDLING) * freshness);
    let latency = known.first_byte.map(|time| MIDDLING_LATENCY / (MIDDLING_LATENCY + time.as_secs_f64()));
    let throughput = known.rate.map(|rate| rate / (rate + MIDDLING_RATE));
    // Laplace's rule of succession: one answer does not make a peer reliable.
    let reliability = (known.good + 1.0) / (known.good + known.bad + 2.0);
    LATENCY * weigh(latency)
        + THROUGHPUT * weigh(throughput)
        + RELIABILITY * reliability
        + FRESHNESS * freshness
}

/// What is left of a figure after some time.
pub(super) fn faded(figure: f64, age: Duration) -> f64 {
    figure * 0.5_f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Known {
        Known {
            first_byte: Some(Duration::from_millis(5)),
            rate: Some(100e6),
            good: 50.0,
            bad: 0.0,
            age: Some(Duration::ZERO),
        }
    }

    #[test]
    fn a_score_is_between_0_and_1_and_each_part_counts_as_much_as_it_should() {
        let best = Known { first_byte: Some(Duration::ZERO), rate: Some(1e15), good: 1e9, ..good() };
        assert!((score(&best) - 1.0).abs() < 1e-3);
        let never = Duration::from_secs(1 << 30);
        let lost = |worse: Known| ((score(&best) - score(&worse)) * 100.0).round();
        assert_eq!(lost(Known { first_byte: Some(never), ..best }), 30.0);
        assert_eq!(lost(Known { rate: Some(0.0), ..best }), 30.0);
        assert_eq!(lost(Known { good: 0.0, bad: 1e9, ..best }), 25.0);
        // What is not fresh counts for less in the other parts, too: they fade towards the middle.
        assert_eq!(lost(Known { age: Some(never), ..best }), 15.0 + 15.0 + 15.0);
        let worst = Known { first_byte: Some(never), rate: Some(0.0), good: 0.0, bad: 1e9, age: None };
        assert!((0.0..0.5).contains(&score(&worst)));
    }

    #[test]
    fn the_unknown_stand_between_the_good_and_the_bad() {
        let bad = Known { first_byte: Some(Duration::from_secs(2)), rate: Some(50e3), bad: 5.0, ..good() };
        assert!(score(&good()) > score(&Known::default()));
        assert!(score(&bad) < score(&Known { good: 50.0, ..good() }));
        let liar = Known { bad: 100.0, age: None, ..Known::default() };
        assert!(score(&liar) < score(&Known::default()));
    }

    #[test]
    fn news_fade() {
        let later = |hours: u64| score(&Known { age: Some(Duration::from_secs(hours * 3600)), ..good() });
        assert!(later(0) > later(1) && later(1) > later(5) && later(5) > later(50));
    }
}
