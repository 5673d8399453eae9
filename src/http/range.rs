//! What a conditional or partial request gets (RFC 9110 §13 and §14). Pure: headers in, an outcome out.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::SystemTime;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};

/// What is known of the file that would be sent in full.
#[derive(Debug, Clone, Copy)]
pub struct Representation<'a> {
    /// Its length in bytes.
    pub length: u64,
    /// Its entity tag, with quotes, as it will be sent.
    pub etag: Option<&'a HeaderValue>,
    /// Its `Last-Modified`, as it will be sent.
    pub last_modified: Option<&'a HeaderValue>,
}

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 200 with everything.
    Full,
    /// 206 with these bytes: not empty, within the length.
    Partial(Range<u64>),
    /// 304.
    NotModified,
    /// 416 with `Content-Range: bytes */length`.
    NotSatisfiable,
}

/// Decides what a request with these headers gets, in the order of RFC 9110 §13.2.2.
///
/// `If-Match` and `If-Unmodified-Since` are left to the origin, as §13.1.1 and §13.1.4 allow to an intermediary.
pub fn precondition(method: &Method, headers: &HeaderMap, file: &Representation<'_>) -> Outcome {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Outcome::Full;
    }
    if is_not_modified(headers, file) {
        return Outcome::NotModified;
    }
    // Range is defined for GET alone (§14.2), and for one that says the same unit only once.
    let Some(range) = (*method == Method::GET).then(|| only(headers, &header::RANGE)).flatten() else {
        return Outcome::Full;
    };
    let Some(range) = range.to_str().ok().and_then(|text| text.parse::<RangeSpec>().ok()) else {
        return Outcome::Full;
    };
    if headers.contains_key(header::IF_RANGE) && !if_range_holds(headers, file) {
        return Outcome::Full;
    }
    range.resolve(file.length)
}

/// One `bytes` range as it was asked for (RFC 9110 §14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeSpec {
    /// `bytes=first-last`, both included.
    Closed {
        /// The first byte.
        first: u64,
        /// The last byte, not before the first.
        last: u64,
    },
    /// `bytes=first-`.
    From(u64),
    /// `bytes=-length`: so many bytes at the end.
    Suffix(u64),
}

/// A `Range` or `Content-Range` that is to be ignored: another unit, several ranges, or nonsense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a single range of bytes: {0:?}")]
pub struct RangeError(String);

impl RangeError {
    fn new(text: &str) -> Self {
        Self(text.chars().take(80).collect())
    }
}

impl FromStr for RangeSpec {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let ignored = || RangeError::new(text);
        let (unit, range) = text.split_once('=').ok_or_else(ignored)?;
        // Range units are case-insensitive (§14.1).
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Err(ignored());
        }
        // `1-2,` is a list with one range and an empty element, which a recipient must take (§5.6.1.2).
        let mut ranges =
            range.split(',').map(|range| range.trim_matches([' ', '\t'])).filter(|r| !r.is_empty());
        let (Some(range), None) = (ranges.next(), ranges.next()) else { return Err(ignored()) };
        let (first, last) = range.split_once('-').ok_or_else(ignored)?;
        match (first, last) {
            ("", last) => Ok(Self::Suffix(number(last).ok_or_else(ignored)?)),
            (first, "") => Ok(Self::From(number(first).ok_or_else(ignored)?)),
            (first, last) => {
                let (first, last) = (number(first).ok_or_else(ignored)?, number(last).ok_or_else(ignored)?);
                if first <= last { Ok(Self::Closed { first, last }) } else { Err(ignored()) }
            }
        }
    }
}

impl RangeSpec {
    /// The bytes of a file of `length` that are meant.
    pub fn resolve(self, length: u64) -> Outcome {
        match self {
            Self::Closed { first, .. } | Self::From(first) if first >= length => Outcome::NotSatisfiable,
            Self::Closed { first, last } => Outcome::Partial(first..last.saturating_add(1).min(length)),
            Self::From(first) => Outcome::Partial(first..length),
            Self::Suffix(0) => Outcome::NotSatisfiable,
            // The whole of an empty file, which no Content-Range can say.
            Self::Suffix(_) if length == 0 => Outcome::Full,
            Self::Suffix(wanted) => Outcome::Partial(length.saturating_sub(wanted)..length),
        }
    }
}

/// A `Content-Range` (RFC 9110 §14.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes first-last/total`: these bytes, of so many where that is known. Never empty.
    Bytes {
        /// The bytes sent.
        range: Range<u64>,
        /// The length of the whole file.
        total: Option<u64>,
    },
    /// `bytes */total`: nothing of these.
    Unsatisfied {
        /// The length of the whole file.
        total: u64,
    },
}

impl FromStr for ContentRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        parse_content_range(text).ok_or_else(|| RangeError::new(text))
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { range, total: Some(total) } => {
                write!(f, "bytes {}-{}/{total}", range.start, range.end.saturating_sub(1))
            }
            Self::Bytes { range, total: None } => {
                write!(f, "bytes {}-{}/*", range.start, range.end.saturating_sub(1))
            }
            Self::Unsatisfied { total } => write!(f, "bytes */{total}"),
        }
    }
}

impl From<&ContentRange> for HeaderValue {
    fn from(range: &ContentRange) -> Self {
        // Digits and punctuation only: the fallback is never reached.
        Self::from_str(&range.to_string()).unwrap_or_else(|_| Self::from_static("bytes */0"))
    }
}

fn parse_content_range(text: &str) -> Option<ContentRange> {
    let (unit, rest) = text.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let total = match total {
        "*" => None,
        digits => Some(number(digits)?),
    };
    if range == "*" {
        return total.map(|total| ContentRange::Unsatisfied { total });
    }
    let (first, last) = range.split_once('-')?;
    let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
    // Invalid if it ends before it starts or beyond the total (§14.4).
    let valid = first < end && total.is_none_or(|total| end <= total);
    valid.then_some(ContentRange::Bytes { range: first..end, total })
}

/// Digits only; what is too large for us is as good as the largest number.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The value of a field that appears exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// `If-None-Match`, and `If-Modified-Since` only without it (§13.1.2, §13.1.3).
fn is_not_modified(headers: &HeaderMap, file: &Representation<'_>) -> bool {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return headers.get_all(header::IF_NONE_MATCH).iter().any(|list| etag_list_names(list, file));
    }
    let Some(since) = only(headers, &header::IF_MODIFIED_SINCE) else { return false };
    let Some(modified) = file.last_modified else { return false };
    match (date(since), date(modified)) {
        (Some(since), Some(modified)) => modified <= since,
        // A date that is none is ignored (§13.1.3).
        _ => false,
    }
}

/// Weak comparison, as caching wants it (§8.8.3.2); `*` names whatever there is.
fn etag_list_names(list: &HeaderValue, file: &Representation<'_>) -> bool {
    let Ok(list) = list.to_str() else { return false };
    if list.trim() == "*" {
        return true;
    }
    let Some(own) = file.etag.and_then(|etag| etag.to_str().ok()) else { return false };
    etags(list).any(|tag| opaque(tag) == opaque(own))
}

/// The entity tags of a list; a comma within quotes is part of the tag.
fn etags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let open = rest.find('"')?;
        let close = rest[open + 1..].find('"')? + open + 1;
        let (tag, after) = rest.split_at(close + 1);
        rest = after;
        Some(tag)
    })
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// A strong entity tag, or the very date we send (§13.1.5).
fn if_range_holds(headers: &HeaderMap, file: &Representation<'_>) -> bool {
    let Some(condition) = only(headers, &header::IF_RANGE) else { return false };
    if condition.as_bytes().starts_with(b"\"") {
        // Our own weak tag begins with W/ and so equals no strong one.
        return file.etag == Some(condition);
    }
    match (file.last_modified, date(condition)) {
        (Some(modified), Some(_)) if modified == condition => true,
        (Some(modified), Some(condition)) => date(modified) == Some(condition),
        _ => false,
    }
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "Sat, 01 Nov 2025 10:00:00 GMT";
    const MODIFIED: &str = "Sun, 02 Nov 2025 10:00:00 GMT";
    const LATER: &str = "Mon, 03 Nov 2025 10:00:00 GMT";

    fn outcome(method: &Method, fields: &[(HeaderName, &'static str)]) -> Outcome {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        let (etag, modified) = (HeaderValue::from_static("\"abc\""), HeaderValue::from_static(MODIFIED));
        let file = Representation { length: 100, etag: Some(&etag), last_modified: Some(&modified) };
        precondition(method, &headers, &file)
    }

    fn range(text: &'static str) -> Outcome {
        outcome(&Method::GET, &[(header::RANGE, text)])
    }

    #[test]
    fn a_single_range_is_partial() {
        assert_eq!(range("bytes=0-0"), Outcome::Partial(0..1));
        assert_eq!(range("bytes=10-19"), Outcome::Partial(10..20));
        assert_eq!(range("Bytes=90-"), Outcome::Partial(90..100));
        assert_eq!(range("bytes=90-1000"), Outcome::Partial(90..100));
        assert_eq!(range("bytes=-7"), Outcome::Partial(93..100));
        assert_eq!(range("bytes=-700"), Outcome::Partial(0..100));
        assert_eq!(range("bytes= 5-6 ,"), Outcome::Partial(5..7));
        assert_eq!(range("bytes=99-99999999999999999999999"), Outcome::Partial(99..100));
    }

    #[test]
    fn beyond_the_end_is_not_satisfiable() {
        assert_eq!(range("bytes=100-"), Outcome::NotSatisfiable);
        assert_eq!(range("bytes=100-200"), Outcome::NotSatisfiable);
        assert_eq!(range("bytes=-0"), Outcome::NotSatisfiable);
        assert_eq!(range("bytes=99999999999999999999999-"), Outcome::NotSatisfiable);
        assert_eq!(RangeSpec::From(0).resolve(0), Outcome::NotSatisfiable);
        assert_eq!(RangeSpec::Suffix(5).resolve(0), Outcome::Full);
    }

    #[test]
    fn what_is_not_one_range_of_bytes_is_ignored() {
        for text in
            ["bytes=0-1,3-4", "lines=0-1", "bytes=5-4", "bytes=-", "bytes", "bytes=a-b", "bytes=+1-2", "0-1"]
        {
            assert_eq!(range(text), Outcome::Full, "{text}");
        }
        let twice = [(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=2-3")];
        assert_eq!(outcome(&Method::GET, &twice), Outcome::Full);
        assert_eq!(outcome(&Method::HEAD, &[(header::RANGE, "bytes=0-1")]), Outcome::Full);
    }

    #[test]
    fn if_range_wants_the_strong_tag_or_the_very_date() {
        let with =
            |condition| outcome(&Method::GET, &[(header::RANGE, "bytes=50-"), (header::IF_RANGE, condition)]);
        assert_eq!(with("\"abc\""), Outcome::Partial(50..100));
        assert_eq!(with(MODIFIED), Outcome::Partial(50..100));
        for other in ["\"abd\"", "W/\"abc\"", OLD, LATER, "yesterday", ""] {
            assert_eq!(with(other), Outcome::Full, "{other:?}");
        }
    }

    #[test]
    fn conditions_of_a_cache_are_answered_304() {
        let with = |name, value| outcome(&Method::GET, &[(name, value)]);
        for value in ["\"abc\"", "W/\"abc\"", "*", "\"x,y\", \"abc\""] {
            assert_eq!(with(header::IF_NONE_MATCH, value), Outcome::NotModified, "{value}");
        }
        assert_eq!(with(header::IF_NONE_MATCH, "\"abd\", \"x\""), Outcome::Full);
        assert_eq!(with(header::IF_MODIFIED_SINCE, MODIFIED), Outcome::NotModified);
        assert_eq!(with(header::IF_MODIFIED_SINCE, LATER), Outcome::NotModified);
        assert_eq!(with(header::IF_MODIFIED_SINCE, OLD), Outcome::Full);
        assert_eq!(with(header::IF_MODIFIED_SINCE, "soon"), Outcome::Full);
        let both = [(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, LATER)];
        assert_eq!(outcome(&Method::GET, &both), Outcome::Full);
        assert_eq!(outcome(&Method::POST, &[(header::IF_NONE_MATCH, "*")]), Outcome::Full);
    }

    #[test]
    fn content_range_reads_what_it_prints_and_nothing_impossible() {
        for text in ["bytes 0-9/10", "bytes 5-5/*", "bytes */7"] {
            assert_eq!(text.parse::<ContentRange>().unwrap().to_string(), text);
        }
        for text in ["bytes 9-5/10", "bytes 0-10/10", "bytes */*", "items 0-1/2", "bytes 0-1", "bytes -1/2"] {
            assert!(text.parse::<ContentRange>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_gives_bytes_outside_the_file(text in "(bytes=)?[-0-9, a]{0,24}", length in 0_u64..50) {
            if let Ok(spec) = text.parse::<RangeSpec>()
                && let Outcome::Partial(range) = spec.resolve(length)
            {
                prop_assert!(range.start < range.end && range.end <= length);
            }
            let _ = text.parse::<ContentRange>();
        }
    }
}
