//! Figures rounded for people.

/// Three digits and a unit, in powers of 1000: `999 B`, `4.19 MB`.
pub fn rounded_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_000.0;
    let mut unit = 0;
    // 999.5 would be written as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}", UNITS[unit])
}

/// The two largest units of a time: `3 d 4 h`, `12 m 30 s`, `9 s`.
pub fn rounded_time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} m")
    } else if minutes > 0 {
        format!("{minutes} m {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

/// A day as `2026-11-21`, from seconds since 1970-01-01 UTC.
pub(super) fn day(unix: u64) -> String {
    // Days are counted from 0000-03-01, so that a leap day is the last of its year; 400 years have 146097 days.
    let days = unix / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, turn) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + turn)
}

/// How long ago something was, so coarse that it seldom changes.
pub(super) fn rounded_ago(seconds: u64) -> String {
    match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_and_no_idle_zeros() {
        let pairs = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (4_194_304, "4.19 MB"),
            (30_000_000, "30 MB"),
            (30_550_000, "30.6 MB"),
            (999_400, "999 kB"),
            (999_600, "1 MB"),
            (9_996, "10 kB"),
            (10_000_000_000, "10 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (bytes, text) in pairs {
            assert_eq!(rounded_bytes(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [(9, "9 s"), (750, "12 m 30 s"), (3_660, "1 h 1 m"), (277_000, "3 d 4 h")] {
            assert_eq!(rounded_time(seconds), text);
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let days = [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (951_868_800, "2000-03-01")];
        for (unix, text) in
            days.into_iter().chain([(1_798_761_599, "2026-12-31"), (4_107_542_400, "2100-03-01")])
        {
            assert_eq!(day(unix), text);
        }
    }

    #[test]
    fn what_was_long_ago_is_told_coarsely() {
        for (seconds, text) in [(59, "just now"), (61, "1 min ago"), (7_300, "2 h ago"), (200_000, "2 d ago")]
        {
            assert_eq!(rounded_ago(seconds), text);
        }
    }
}
