//! Sizes, rates and times, as people write them.

use super::values::{Refused, Setting};
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;
use toml::Value;

/// Units of bytes: decimal prefixes are powers of 1000, those with an `i` powers of 1024 (IEC 80000-13).
const BYTES: &[(&str, u64)] = &[
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Units of time, in milliseconds.
const TIMES: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The longest time that can be set: a year. What is longer is a slip of the keyboard.
const LONGEST_SPAN: Duration = Duration::from_secs(366 * 86_400);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write_units(self.0, BYTES))
    }
}

impl Setting for Size {
    const ALLOWED: &'static str =
        "a size such as \"10GB\" (powers of 1000), \"10GiB\" (powers of 1024) or a number of bytes";

    fn from_text(text: &str) -> Result<Self, Refused> {
        read_bytes(text).map(Self).ok_or_else(|| Refused(format!("{text:?}")))
    }

    fn from_toml(value: &Value) -> Result<Self, Refused> {
        read_toml_bytes(value).map(Self).ok_or_else(|| Refused(value.to_string()))
    }

    fn to_toml(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// How many bytes a second; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(Option<NonZeroU64>);

impl Rate {
    /// Bytes a second; `None` is unlimited.
    pub fn bytes_per_second(self) -> Option<NonZeroU64> {
        self.0
    }
}

impl Setting for Rate {
    const ALLOWED: &'static str = "a rate such as \"10MB/s\" or \"512KiB/s\", or \"0\" for unlimited";

    fn from_text(text: &str) -> Result<Self, Refused> {
        let size = text.trim();
        let size = size.strip_suffix("/s").unwrap_or(size);
        read_bytes(size).map(|bytes| Self(NonZeroU64::new(bytes))).ok_or_else(|| Refused(format!("{text:?}")))
    }

    fn from_toml(value: &Value) -> Result<Self, Refused> {
        match value {
            Value::String(text) => Self::from_text(text),
            other => {
                let bytes = read_toml_bytes(other).ok_or_else(|| Refused(other.to_string()))?;
                Ok(Self(NonZeroU64::new(bytes)))
            }
        }
    }

    fn to_toml(&self) -> Value {
        let text = self.0.map_or_else(|| "0".to_owned(), |bytes| format!("{}/s", Size(bytes.get())));
        Value::String(text)
    }
}

/// A length of time above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// The length of time.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Setting for Span {
    const ALLOWED: &'static str =
        "a time with its unit, such as \"30s\", \"25m\", \"12h\" or \"1h30m\", up to a year";

    fn from_text(text: &str) -> Result<Self, Refused> {
        read_span(text.trim()).map(Self).ok_or_else(|| Refused(format!("{text:?}")))
    }

    fn to_toml(&self) -> Value {
        let milliseconds = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        Value::String(write_units(milliseconds, TIMES))
    }
}

/// How many packets a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketRate(NonZeroU32);

impl PacketRate {
    /// Packets a second.
    pub fn per_second(self) -> NonZeroU32 {
        self.0
    }
}

impl Setting for PacketRate {
    const ALLOWED: &'static str = "a number of packets a second above 0, such as \"50/s\"";

    fn from_text(text: &str) -> Result<Self, Refused> {
        let number = text.trim().strip_suffix("/s").and_then(|number| number.trim_end().parse().ok());
        number.map(Self).ok_or_else(|| Refused(format!("{text:?}")))
    }

    fn to_toml(&self) -> Value {
        Value::String(format!("{}/s", self.0))
    }
}

fn read_toml_bytes(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => read_bytes(text),
        _ => None,
    }
}

/// `10GB`, `1.5 GiB`, `4096`. The prefix may have either case, the B must not: a `b` is a bit to some.
fn read_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let factor = if unit.is_empty() { 1 } else { factor_of(unit)? };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // 9 digits of a fraction keep the product far inside u128.
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scaled = u128::from(whole.parse::<u64>().ok()?) * scale + fraction.parse::<u128>().ok()?;
    u64::try_from(scaled * u128::from(factor) / scale).ok()
}

fn factor_of(unit: &str) -> Option<u64> {
    let same = |name: &str| {
        unit.strip_suffix('B')
            .zip(name.strip_suffix('B'))
            .is_some_and(|(typed, prefix)| typed.eq_ignore_ascii_case(prefix))
    };
    BYTES.iter().find(|(name, _)| same(name)).map(|(_, factor)| *factor)
}

/// `25m`, `1h30m`, `500ms`: every number has its unit, larger units come first.
fn read_span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number = rest[..digits].parse::<u64>().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = TIMES.iter().find(|(name, _)| *name == &rest[digits..unit_end])?.1;
        if unit >= smaller_than {
            return None;
        }
        total = total.checked_add(number.checked_mul(unit)?)?;
        (rest, smaller_than) = (&rest[unit_end..], unit);
    }
    Some(Duration::from_millis(total)).filter(|span| !span.is_zero() && *span <= LONGEST_SPAN)
}

/// The number in the first unit that leaves the fewest digits and no remainder.
fn write_units(number: u64, units: &[(&str, u64)]) -> String {
    let exact = units.iter().filter(|(_, factor)| number.is_multiple_of(*factor));
    let shortest = exact.min_by_key(|(_, factor)| number / factor);
    match shortest {
        Some((unit, factor)) if number > 0 => format!("{}{unit}", number / factor),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(text: &str) -> Option<u64> {
        Size::from_text(text).ok().map(Size::bytes)
    }

    #[test]
    fn sizes_tell_powers_of_1000_from_powers_of_1024() {
        assert_eq!(size("4MB"), Some(4_000_000));
        assert_eq!(size("4MiB"), Some(4 << 20));
        assert_eq!(size("10 GB"), Some(10_000_000_000));
        assert_eq!(size("1.5GiB"), Some(3 << 29));
        assert_eq!(size("1KB"), Some(1_000));
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("0"), Some(0));
        assert_eq!(Size::from_toml(&Value::Integer(7)), Ok(Size(7)));
    }

    #[test]
    fn sizes_that_could_mean_something_else_are_refused() {
        for text in [
            "",
            "GB",
            "10G",
            "10Mb",
            "10Mbit",
            "-1",
            "1e9",
            "1.",
            ".5GB",
            "1..5GB",
            "20000000TB",
            "4 M B",
            "1.0000000001B",
        ] {
            assert_eq!(size(text), None, "{text:?} was accepted");
        }
        assert!(Size::from_toml(&Value::Integer(-1)).is_err());
        assert!(Size::from_toml(&Value::Float(1.5)).is_err());
    }

    #[test]
    fn a_rate_of_zero_is_unlimited() {
        let rate = |text| Rate::from_text(text).map(|rate| rate.bytes_per_second().map(NonZeroU64::get));
        assert_eq!(rate("0"), Ok(None));
        assert_eq!(rate("0/s"), Ok(None));
        assert_eq!(rate("10MB/s"), Ok(Some(10_000_000)));
        assert_eq!(rate("512 KiB/s"), Ok(Some(512 << 10)));
        for text in ["10MB/m", "fast", "10Mbit/s", "/s", ""] {
            assert!(rate(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn times_need_a_unit() {
        let seconds = |text| Span::from_text(text).ok().map(|span| span.get().as_secs_f64());
        assert_eq!(seconds("30s"), Some(30.0));
        assert_eq!(seconds("25m"), Some(1_500.0));
        assert_eq!(seconds("12h"), Some(43_200.0));
        assert_eq!(seconds("1h30m"), Some(5_400.0));
        assert_eq!(seconds("250ms"), Some(0.25));
        for text in ["", "30", "0s", "1 h", "30m1h", "1h1h", "10y", "400d", "99999999999999999999s", "h"] {
            assert_eq!(seconds(text), None, "{text:?} was accepted");
        }
    }

    #[test]
    fn packet_rates_are_above_zero() {
        assert_eq!(PacketRate::from_text("50/s").unwrap().per_second().get(), 50);
        for text in ["50", "0/s", "-1/s", "x/s"] {
            assert!(PacketRate::from_text(text).is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes: u64, milliseconds in 1..31_000_000_000_u64) {
            prop_assert_eq!(Size::from_toml(&Size(bytes).to_toml()), Ok(Size(bytes)));
            let rate = Rate(NonZeroU64::new(bytes));
            prop_assert_eq!(Rate::from_toml(&rate.to_toml()), Ok(rate));
            let span = Span(Duration::from_millis(milliseconds));
            prop_assert_eq!(Span::from_toml(&span.to_toml()), Ok(span));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = Size::from_text(&text);
            let _ = Rate::from_text(&text);
            let _ = Span::from_text(&text);
            let _ = PacketRate::from_text(&text);
        }
    }
}
