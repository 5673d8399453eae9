//! What it is worth to announce an object.

/// What is worth half of what it was when it was used just now: an object not used for a week.
const UNUSED: f64 = 7.0 * 86_400.0;

/// How fast the knowledge of other providers fades, in seconds: after a day half of them may be gone.
const OTHERS_FADE: f64 = 86_400.0;

/// How many other providers were seen, and in which hour: more would say no more.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Others {
    count: u16,
    hour: i16,
}

impl Others {
    /// `count` of them, seen at second `at`.
    pub(super) fn new(count: u32, at: i32) -> Self {
        let hour = i16::try_from(at.div_euclid(3600)).unwrap_or(if at < 0 { i16::MIN } else { i16::MAX });
        Self { count: u16::try_from(count).unwrap_or(u16::MAX), hour }
    }

    /// How many of them are taken to be there now.
    pub(super) fn at(self, now: i32) -> f64 {
        let age = f64::from(now) - f64::from(self.hour) * 3600.0;
        f64::from(self.count) * (-age.max(0.0) / OTHERS_FADE).exp2()
    }
}

/// What it is worth to announce an object of `length` bytes, not used for `unused` seconds and held by so many others:
/// the bytes that we may be asked for because of it. Whoever looks asks each provider for its part.
pub(super) fn worth(length: u64, unused: f64, others: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a worth is a rough figure")]
    let bytes = length as f64;
    bytes * (UNUSED / (UNUSED + unused)) / (1.0 + others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_the_rare_and_the_recently_used_are_worth_more() {
        let usual = worth(1000, 3600.0, 2.0);
        assert!(worth(1001, 3600.0, 2.0) > usual);
        assert!(worth(1000, 3599.0, 2.0) > usual);
        assert!(worth(1000, 3600.0, 1.0) > usual);
        let (now, later) = (worth(1000, 0.0, 0.0), worth(1000, UNUSED, 0.0));
        assert!((now / later - 2.0).abs() < 1e-9, "{now} and a week later {later}");
    }

    #[test]
    fn the_knowledge_of_others_fades_with_the_days() {
        let others = Others::new(8, 100 * 3600);
        for (days, left) in [(0, 8.0), (1, 4.0), (3, 1.0)] {
            assert!((others.at((100 + 24 * days) * 3600) - left).abs() < 1e-9, "after {days} days");
        }
        assert!((others.at(0) - 8.0).abs() < 1e-9, "a time before it was seen");
        assert!(Others::new(u32::MAX, i32::MIN).at(0) < 1.0);
        assert!(Others::new(u32::MAX, i32::MAX).at(i32::MAX) <= 65_535.0);
    }
}
