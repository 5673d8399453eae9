//! Bencoding (BEP 3): byte strings, integers, lists and dictionaries, read without a copy and written in order.

use std::fmt;

/// How deep values may nest. The deepest that the DHT knows has 4 levels.
const MAX_DEPTH: usize = 8;

/// The most values of one document; a datagram of the DHT has some dozens.
const MAX_VALUES: usize = 1024;

/// A value, with the very bytes that it was read from: signatures and hashes are over those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<'a> {
    raw: &'a [u8],
    kind: Kind<'a>,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    /// `i…e`
    Integer(i64),
    /// `<length>:…`
    Bytes(&'a [u8]),
    /// `l…e`
    List(Vec<Value<'a>>),
    /// `d…e`, in the order it was written, no key twice.
    Dictionary(Vec<(&'a [u8], Value<'a>)>),
}

/// Bytes that are not one bencoded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not bencoded: {what} at byte {at}")]
pub struct BencodeError {
    what: &'static str,
    at: usize,
}

impl<'a> Value<'a> {
    /// Reads a whole document.
    ///
    /// Dictionaries whose keys are not sorted are read all the same: such nodes exist.
    ///
    /// # Errors
    /// Where it is not one value and nothing else, nests deeper than 8 levels or has more than 1024 values.
    pub fn parse(input: &'a [u8]) -> Result<Self, BencodeError> {
        let mut reader = Reader { input, at: 0, left: MAX_VALUES };
        let value = reader.value(0)?;
        if reader.at < input.len() { Err(reader.error("more than one value")) } else { Ok(value) }
    }

    /// The bytes that it was read from.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What it is.
    pub const fn kind(&self) -> &Kind<'a> {
        &self.kind
    }

    /// The integer, if it is one.
    pub const fn integer(&self) -> Option<i64> {
        match self.kind {
            Kind::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// The byte string, if it is one.
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self.kind {
            Kind::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The members of a list; none where it is something else.
    pub fn list(&self) -> &[Self] {
        match &self.kind {
            Kind::List(list) => list,
            _ => &[],
        }
    }

    /// The member `key` of a dictionary.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Dictionary(members) => {
                members.iter().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    left: usize,
}

impl<'a> Reader<'a> {
    const fn error(&self, what: &'static str) -> BencodeError {
        BencodeError { what, at: self.at }
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.input.get(self.at).copied().ok_or_else(|| self.error("it ends early"))
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, BencodeError> {
        if depth > MAX_DEPTH {
            return Err(self.error("it nests too deep"));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| self.error("it has too many values"))?;
        let start = self.at;
        let kind = match self.peek()? {
            b'i' => {
                self.at += 1;
                let number = self.number(b'e')?;
                Kind::Integer(number)
            }
            b'l' => Kind::List(self.members(|reader| reader.value(depth + 1))?),
            b'd' => Kind::Dictionary(self.dictionary(depth)?),
            b'0'..=b'9' => Kind::Bytes(self.bytes()?),
            _ => return Err(self.error("an unknown type")),
        };
        Ok(Value { raw: &self.input[start..self.at], kind })
    }

    fn dictionary(&mut self, depth: usize) -> Result<Vec<(&'a [u8], Value<'a>)>, BencodeError> {
        let members = self.members(|reader| Ok((reader.bytes()?, reader.value(depth + 1)?)))?;
        let mut keys: Vec<_> = members.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.error("a key twice"));
        }
        Ok(members)
    }

    fn members<T>(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<T, BencodeError>,
    ) -> Result<Vec<T>, BencodeError> {
        self.at += 1;
        let mut members = Vec::new();
        while self.peek()? != b'e' {
            members.push(member(self)?);
        }
        self.at += 1;
        Ok(members)
    }

    fn bytes(&mut self) -> Result<&'a [u8], BencodeError> {
        let length = self.number(b':')?;
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let bytes = end.and_then(|end| self.input.get(self.at..end));
        let bytes = bytes.ok_or_else(|| self.error("a string that is longer than the input"))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    /// Decimal digits, with a sign where they stand in an integer, up to `end`.
    fn number(&mut self, end: u8) -> Result<i64, BencodeError> {
        let rest = &self.input[self.at..];
        // The longest i64 has 20 characters.
        let length = rest.iter().take(21).position(|byte| *byte == end);
        let text = length.and_then(|length| std::str::from_utf8(&rest[..length]).ok());
        let text = text.ok_or_else(|| self.error("a number without an end"))?;
        let digits = text.strip_prefix('-').filter(|_| end == b'e').unwrap_or(text);
        let canonical = digits == "0" && text == "0"
            || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
        let number = text.parse().ok().filter(|_| canonical && !digits.is_empty());
        let number = number.ok_or_else(|| self.error("no number"))?;
        self.at += text.len() + 1;
        Ok(number)
    }
}

/// Writes bencoded values one after the other. Whoever writes a dictionary writes its keys in ascending order.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Nothing written yet.
    pub const fn new() -> Self {
        Self { out: Vec::new() }
    }

    /// Begins a dictionary; [`Writer::end`] ends it.
    pub fn dictionary(&mut self) -> &mut Self {
        self.out.push(b'd');
        self
    }

    /// Begins a list; [`Writer::end`] ends it.
    pub fn list(&mut self) -> &mut Self {
        self.out.push(b'l');
        self
    }

    /// Ends the innermost list or dictionary.
    pub fn end(&mut self) -> &mut Self {
        self.out.push(b'e');
        self
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes.len().to_string().as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(bytes);
        self
    }

    /// A key of a dictionary.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.bytes(key.as_bytes())
    }

    /// An integer.
    pub fn integer(&mut self, number: i64) -> &mut Self {
        self.out.push(b'i');
        self.out.extend_from_slice(number.to_string().as_bytes());
        self.out.push(b'e');
        self
    }

    /// A value that is bencoded already.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(value);
        self
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.out.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_bep_3() {
        assert_eq!(Value::parse(b"4:spam").unwrap().bytes(), Some(&b"spam"[..]));
        assert_eq!(Value::parse(b"i3e").unwrap().integer(), Some(3));
        assert_eq!(Value::parse(b"i-3e").unwrap().integer(), Some(-3));
        assert_eq!(Value::parse(b"l4:spam4:eggse").unwrap().list().len(), 2);
        let dictionary = Value::parse(b"d4:spaml1:a1:bee").unwrap();
        assert_eq!(dictionary.get("spam").unwrap().raw(), b"l1:a1:be");
        assert_eq!(dictionary.get("eggs"), None);
    }

    #[test]
    fn what_is_not_bencoded_is_refused() {
        for wrong in [
            &b""[..],
            b"i03e",
            b"i-0e",
            b"i-e",
            b"ie",
            b"i+3e",
            b"i 3e",
            b"i3",
            b"5:spam",
            b"-1:a",
            b"01:a",
            b"4spam",
            b"l",
            b"d",
            b"d1:a",
            b"d1:ae",
            b"di1ei2ee",
            b"d1:ai1e1:ai2ee",
            b"i1ei2e",
            b"x",
            b"e",
            b"i9223372036854775808e",
            b"99999999999999999999:a",
            b"18446744073709551615:",
        ] {
            assert!(Value::parse(wrong).is_err(), "{}", wrong.escape_ascii());
        }
        let deep = [vec![b'l'; 100_000], vec![b'e'; 100_000]].concat();
        assert_eq!(Value::parse(&deep).unwrap_err().what, "it nests too deep");
        let wide = [b"l".to_vec(), b"i1e".repeat(5000), b"e".to_vec()].concat();
        assert_eq!(Value::parse(&wide).unwrap_err().what, "it has too many values");
    }

    #[test]
    fn unsorted_keys_are_read() {
        assert_eq!(Value::parse(b"d1:bi1e1:ai2ee").unwrap().get("a").unwrap().integer(), Some(2));
    }

    fn write(value: &Value<'_>, writer: &mut Writer) {
        match value.kind() {
            Kind::Integer(number) => writer.integer(*number),
            Kind::Bytes(bytes) => writer.bytes(bytes),
            Kind::List(list) => {
                writer.list();
                list.iter().for_each(|value| write(value, writer));
                writer.end()
            }
            Kind::Dictionary(members) => {
                writer.dictionary();
                for (key, value) in members {
                    writer.bytes(key);
                    write(value, writer);
                }
                writer.end()
            }
        };
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_the_same(bytes in prop::collection::vec(
            prop::sample::select(b"dlei0123456789-:ab".to_vec()), 0..60)) {
            if let Ok(value) = Value::parse(&bytes) {
                let mut writer = Writer::new();
                write(&value, &mut writer);
                prop_assert_eq!(writer.finish(), bytes);
            }
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Value::parse(&bytes);
        }
    }
}
