//! How long to wait for a peer, from its own answers.

use std::time::Duration;

/// How much a new answer counts against the earlier ones. TCP takes an eighth (RFC 6298 §2.3), but has many more to learn from.
const NEWEST: f64 = 0.25;

/// How many deviations above the mean (RFC 6298 §2.3): more than 95 of 100 answers of a steady peer come earlier.
const DEVIATIONS: f64 = 4.0;

/// The least allowance above the mean, in seconds: no two answers take equally long, nor is a busy machine punctual.
const LEAST_ALLOWANCE: f64 = 0.01;

/// How often a time-out may double the wait: a minute from half a second, and more is cut off anyway.
const MOST_DOUBLINGS: u32 = 7;

/// The times to a peer's first byte: their mean and their deviation, as RFC 6298 §2 has them for round trips.
///
/// A time-out is no answer and teaches no time; it doubles the wait, and each answer takes one doubling back.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Patience {
    /// Mean and mean deviation, in seconds.
    learnt: Option<(f64, f64)>,
    doublings: u32,
}

impl Patience {
    /// An answer began after this time.
    pub(super) fn answered(&mut self, after: Duration) {
        let sample = after.as_secs_f64();
        self.learnt = Some(match self.learnt {
            // RFC 6298 §2.2.
            None => (sample, sample / 2.0),
            Some((mean, deviation)) => {
                let deviation = deviation + NEWEST * ((mean - sample).abs() - deviation);
                (mean + NEWEST * (sample - mean), deviation)
            }
        });
        self.doublings = self.doublings.saturating_sub(1);
    }

    /// It did not answer in time.
    pub(super) fn timed_out(&mut self) {
        self.doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
    }

    /// The usual time to the first byte; `None` before the first answer.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.learnt.map(|(mean, _)| Duration::from_secs_f64(mean))
    }

    /// After what time an answer is overdue; `None` before the first answer.
    pub(super) fn overdue(&self) -> Option<Duration> {
        let (mean, deviation) = self.learnt?;
        let wait = mean + (DEVIATIONS * deviation).max(LEAST_ALLOWANCE);
        Some(Duration::from_secs_f64(wait) * (1 << self.doublings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answers: impl IntoIterator<Item = u64>) -> Patience {
        let mut patience = Patience::default();
        answers.into_iter().for_each(|ms| patience.answered(Duration::from_millis(ms)));
        patience
    }

    fn overdue(patience: &Patience) -> u128 {
        patience.overdue().unwrap().as_millis()
    }

    #[test]
    fn a_steady_peer_is_overdue_soon_and_a_moody_one_late() {
        assert_eq!(Patience::default().overdue(), None);
        assert_eq!(overdue(&of([100])), 300);
        assert!((100..=130).contains(&overdue(&of([100; 30]))));
        let moody = of((0..60).map(|n| if n % 2 == 0 { 20 } else { 380 }));
        assert!(overdue(&moody) > 600, "{}", overdue(&moody));
    }

    #[test]
    fn nineteen_of_twenty_answers_come_in_time() {
        // 40 to 240 ms, in no order (a full-period generator), with a long tail every twentieth time.
        let mut state = 7_u64;
        let mut patience = of([140]);
        let mut late = 0;
        for n in 0..1000 {
            state = (state * 1_103_515_245 + 12_345) % (1 << 31);
            let answer = Duration::from_millis(40 + state % 200 + if n % 40 == 0 { 400 } else { 0 });
            late += u32::from(answer > patience.overdue().unwrap());
            patience.answered(answer);
        }
        assert!(late < 50, "{late} of 1000");
    }

    #[test]
    fn a_time_out_doubles_the_wait_and_an_answer_halves_it_and_neither_goes_on_for_ever() {
        let mut patience = of([100; 30]);
        let usual = overdue(&patience);
        patience.timed_out();
        patience.timed_out();
        assert_eq!(overdue(&patience) / usual, 4);
        patience.answered(Duration::from_millis(100));
        assert!((1..=2).contains(&(overdue(&patience) / usual)));
        (0..1000).for_each(|_| patience.timed_out());
        assert!(overdue(&patience) < 20_000);
        assert_eq!(patience.usual().unwrap().as_millis(), 100, "a time-out is no answer");
    }
}
