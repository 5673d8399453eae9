//! A streaming reader of deb822 text (deb822(5), Debian Policy §5.1).
//!
//! It hands out one line at a time from a buffer of its own, so an index of any size is read in constant memory. What
//! a stanza adds up to is the caller's business: Packages needs three fields of it, Sources two.

use memchr::memchr;
use std::io::{self, Read};

/// The longest line that is handed out whole, in bytes. The longest of the archive has 76 kB (a list of
/// dependencies); no field that we want comes near. What is longer is cut here and its tail skipped.
pub const MAX_LINE: usize = 1 << 20;

/// How much is read at once.
const READ_SIZE: usize = 128 << 10;

/// One line of a stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// `Name: value`, not yet split: most lines are passed over after a look at their first bytes.
    Field(&'a [u8]),
    /// A line that continues the field above it, without the white space around it.
    Continued(&'a [u8]),
    /// The empty line after a stanza.
    End,
}

impl<'a> Line<'a> {
    /// The value of field `name`, without the white space around it; `None` for any other line. Names are compared
    /// without regard to case (Policy §5.1).
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        let Line::Field(line) = *self else { return None };
        let (head, rest) = line.split_at_checked(name.len())?;
        if !head.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        rest.strip_prefix(b":").map(<[u8]>::trim_ascii)
    }
}

/// The lines of a deb822 text.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// The bytes of `buffer` that were read and not yet handed out.
    start: usize,
    end: usize,
    /// The source has given its last byte.
    ended: bool,
    /// The line that comes next was cut, and this is still its tail.
    cut: bool,
}

impl<R: Read> Lines<R> {
    /// Reads the text that `source` gives; it needs no buffer of its own.
    pub fn new(source: R) -> Self {
        Self { source, buffer: vec![0; READ_SIZE], start: 0, end: 0, ended: false, cut: false }
    }

    /// The next line, `None` at the end of the text. The last line needs no line feed.
    ///
    /// # Errors
    /// What the source fails with.
    #[allow(clippy::should_implement_trait, reason = "an Iterator cannot lend from its own buffer")]
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            let Some((start, end, whole)) = self.next_range()? else { return Ok(None) };
            if std::mem::replace(&mut self.cut, !whole) {
                continue;
            }
            return Ok(Some(classify(&self.buffer[start..end])));
        }
    }

    /// Where the next line lies in the buffer, and whether it reached its end.
    fn next_range(&mut self) -> io::Result<Option<(usize, usize, bool)>> {
        let mut searched = self.start;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[searched..self.end]) {
                let (start, end) = (self.start, searched + at);
                self.start = end + 1;
                return Ok(Some((start, end, true)));
            }
            let held = self.end - self.start;
            if (self.ended && held > 0) || held >= MAX_LINE {
                let (start, end) = (self.start, self.end);
                self.start = end;
                return Ok(Some((start, end, self.ended)));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill()?;
            searched = self.start + held;
        }
    }

    /// Reads more behind what is held, making room first: by moving it to the front, then by growing.
    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

/// Only an empty line ends a stanza; one of blanks continues a field, as apt reads it.
fn classify(line: &[u8]) -> Line<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.first() {
        None => Line::End,
        Some(b' ' | b'\t') => Line::Continued(line.trim_ascii()),
        Some(_) => Line::Field(line),
    }
}

/// `text` as a number of bytes.
pub(super) fn parse_length(text: &[u8]) -> Option<u64> {
    // `u64::from_str` would accept a sign.
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives its bytes a few at a time, as a decompressor at a block's edge does.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(buf.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn lines(text: &[u8], step: usize) -> Vec<String> {
        let mut lines = Lines::new(Trickle(text, step));
        let mut out = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            out.push(format!("{line:?}"));
        }
        out
    }

    #[test]
    fn fields_continuations_and_ends_are_told_apart() {
        let text = b"Package: a\r\nDescription: x\n  more \n \n\nPackage:b";
        let mut lines = Lines::new(&text[..]);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            seen.push(match line {
                Line::End => "end".to_owned(),
                Line::Continued(text) => format!("+{}", String::from_utf8_lossy(text)),
                Line::Field(_) => match line.value("package") {
                    Some(value) => format!("package={}", String::from_utf8_lossy(value)),
                    None => "other".to_owned(),
                },
            });
        }
        assert_eq!(seen, ["package=a", "other", "+more", "+", "end", "package=b"]);
    }

    #[test]
    fn a_name_that_only_begins_alike_is_another_field() {
        assert_eq!(Line::Field(b"Size-Installed: 3").value("Size"), None);
        assert_eq!(Line::Field(b"Siz").value("Size"), None);
        assert_eq!(Line::Field(b"size:3").value("Size"), Some(&b"3"[..]));
    }

    #[test]
    fn an_endless_line_is_cut_and_what_follows_is_read() {
        let mut text = b"A: ".to_vec();
        text.resize(5 * MAX_LINE / 2, b'x');
        text.extend_from_slice(b"\nB: 1\n");
        let mut lines = Lines::new(&text[..]);
        let Some(Line::Field(first)) = lines.next().unwrap() else { panic!("no first line") };
        assert!(first.len() >= MAX_LINE && first.len() <= 2 * MAX_LINE);
        assert_eq!(lines.next().unwrap(), Some(Line::Field(b"B: 1")));
        assert_eq!(lines.next().unwrap(), None);
        assert!(lines.buffer.len() <= 2 * MAX_LINE);
    }

    #[test]
    fn lengths_are_digits_only() {
        assert_eq!(parse_length(b"123"), Some(123));
        for text in ["", "+1", "-1", " 1", "1e3", "18446744073709551616"] {
            assert_eq!(parse_length(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_reads_the_same_in_any_steps(text in "[A-Z: \\n\\r\\t\\x00]{0,200}", step in 1_usize..50) {
            prop_assert_eq!(lines(text.as_bytes(), step), lines(text.as_bytes(), usize::MAX));
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            lines(&bytes, 7);
        }
    }
}
