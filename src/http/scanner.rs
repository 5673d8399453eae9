//! Finds the request heads in what a client sends, without ever changing a byte of it.

use hyper::http::request;
use hyper::{HeaderMap, Method, header};

use super::limits::{MAX_HEAD_BYTES, MAX_HEADERS};

/// A request head that waits to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The request target in the client's spelling (RFC 9112 §3.2).
    pub target: String,
    /// The header fields.
    pub headers: HeaderMap,
}

/// Follows the framing of a connection's requests (RFC 9112 §6), however they are cut into reads.
///
/// What it does not understand makes it blind for the rest of the connection: the heads are only hints, and hyper
/// judges the same bytes itself.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between requests.
    Between,
    /// In a head; these are its bytes so far, at most [`MAX_HEAD_BYTES`].
    Head(Vec<u8>),
    /// In a body with so many bytes left.
    Body(u64),
    /// After something that ends the plain sequence of requests: chunks, an upgrade, an error.
    Blind,
}

/// Where in the sequence of requests the last byte was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Between,
    InHead,
    InBody,
    Unknown,
}

impl Scanner {
    pub(super) const fn new() -> Self {
        Self { state: State::Between }
    }

    /// A scanner that finds nothing more.
    pub(super) const fn blind() -> Self {
        Self { state: State::Blind }
    }

    pub(super) fn place(&self) -> Place {
        match self.state {
            State::Between => Place::Between,
            State::Head(_) => Place::InHead,
            State::Body(_) => Place::InBody,
            State::Blind => Place::Unknown,
        }
    }

    /// Goes over the next bytes from the client and gives every head that ends in them to `found`, in order.
    pub(super) fn feed(&mut self, mut input: &[u8], mut found: impl FnMut(Head)) {
        while !input.is_empty() {
            match &mut self.state {
                State::Blind => return,
                State::Between => {
                    // Empty lines before a request are skipped (RFC 9112 §2.2).
                    let start = input.iter().position(|b| !matches!(b, b'\r' | b'\n'));
                    let Some(start) = start else { return };
                    input = &input[start..];
                    self.state = State::Head(Vec::new());
                }
                State::Body(left) => {
                    let here = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    input = &input[here..];
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = State::Between;
                    }
                }
                State::Head(bytes) => {
                    let Some((head, rest)) = take_head(bytes, input) else {
                        if bytes.len() >= MAX_HEAD_BYTES {
                            self.state = State::Blind;
                        }
                        return;
                    };
                    input = rest;
                    self.state = match parse(&head) {
                        Some((head, next)) => {
                            found(head);
                            next
                        }
                        None => State::Blind,
                    };
                }
            }
        }
    }
}

/// The head that ends in `input` and what follows it; else `bytes` grows by `input`.
///
/// Looks at every byte once, however small the reads: a head that trickles in costs no more than one that does not.
fn take_head<'a>(bytes: &mut Vec<u8>, input: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
    let before = bytes.len();
    let room = MAX_HEAD_BYTES - before;
    bytes.extend_from_slice(&input[..input.len().min(room)]);
    let end = head_end(bytes, before.saturating_sub(2))?;
    let mut head = std::mem::take(bytes);
    head.truncate(end);
    Some((head, &input[end - before..]))
}

/// The index after the empty line that ends a head, looked for from `from` on. A bare LF ends a line too, as for hyper.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).filter(|&at| bytes[at] == b'\n').find_map(|at| match bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The head in `bytes` and what follows it on the connection.
fn parse(bytes: &[u8]) -> Option<(Head, State)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut fields);
    if !parsed.parse(bytes).ok()?.is_complete() {
        return None;
    }
    let mut request = request::Builder::new().method(parsed.method?);
    for field in parsed.headers.iter() {
        request = request.header(field.name, field.value);
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    let head = Head { method: parts.method, target: parsed.path?.to_owned(), headers: parts.headers };
    let next = after(&head);
    Some((head, next))
}

/// What follows a head (RFC 9112 §6.3).
fn after(head: &Head) -> State {
    let headers = &head.headers;
    if head.method == Method::CONNECT
        || headers.contains_key(header::UPGRADE)
        || headers.contains_key(header::TRANSFER_ENCODING)
    {
        return State::Blind;
    }
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return State::Between };
    match length.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(0) => State::Between,
        Some(length) => State::Body(length),
        None => State::Blind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn targets(parts: &[&[u8]]) -> (Vec<String>, Place) {
        let mut scanner = Scanner::new();
        let mut found = Vec::new();
        for part in parts {
            scanner.feed(part, |head| found.push(head.target));
        }
        (found, scanner.place())
    }

    #[test]
    fn heads_are_found_behind_bodies_and_empty_lines() {
        let sent = b"\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 18\r\n\r\n\
            GET /no HTTP/1.1\r\n\r\n\r\nGET /3 HTTP/1.0\n\nGET /4";
        assert_eq!(targets(&[sent]), (vec!["/1".into(), "/2".into(), "/3".into()], Place::InHead));
    }

    #[test]
    fn what_ends_the_plain_sequence_makes_it_blind() {
        for sent in [
            "CONNECT a:443 HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\x02 \r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        ] {
            let (found, place) = targets(&[sent.as_bytes()]);
            assert!(!found.contains(&"/x".into()), "{sent:?}");
            assert_eq!(place, Place::Unknown, "{sent:?}");
        }
    }

    #[test]
    fn an_endless_head_is_forgotten_at_the_limit() {
        let mut scanner = Scanner::new();
        for _ in 0..MAX_HEAD_BYTES {
            scanner.feed(b"a", |_| panic!("no head here"));
        }
        assert_eq!(scanner.place(), Place::Unknown);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_heads_are_found(
            bodies in prop::collection::vec(prop::option::of(0_usize..40), 1..12),
            cuts in prop::collection::vec(1_usize..30, 1..40),
        ) {
            let mut sent = Vec::new();
            for (n, body) in bodies.iter().enumerate() {
                match body {
                    None => sent.extend(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n").bytes()),
                    Some(length) => {
                        sent.extend(format!("POST /{n} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").bytes());
                        sent.extend(std::iter::repeat_n(b'\n', *length));
                    }
                }
            }
            let mut parts: Vec<&[u8]> = Vec::new();
            let mut rest = &sent[..];
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(part);
                rest = after;
            }
            parts.push(rest);
            let expected: Vec<String> = (0..bodies.len()).map(|n| format!("/{n}")).collect();
            prop_assert_eq!(targets(&parts), (expected, Place::Between));
        }
    }
}
