//! One body type for every answer: nothing, bytes at hand, or a stream whose length is known or not.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use hyper::body::{Frame, SizeHint};

/// Whatever went wrong while a body was produced; the client only sees the connection close.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// The body of an answer.
///
/// A body of known length is sent with that `Content-Length`; one of unknown length is chunked towards HTTP/1.1 and
/// ends with the connection towards HTTP/1.0 (RFC 9112 §6.3). A stream that fails, or ends early, closes the
/// connection, so that the client notices.
pub struct Body(Kind);

enum Kind {
    Empty,
    Full(Option<Bytes>),
    Absent { length: u64 },
    Stream { chunks: Chunks, left: Option<u64> },
}

/// A stream that did not keep the promise of its length.
#[derive(Debug, thiserror::Error)]
pub enum LengthError {
    /// The stream ended too early.
    #[error("the body ended {missing} bytes before its announced length")]
    TooShort {
        /// How many bytes were still to come.
        missing: u64,
    },
    /// The stream went on after the end.
    #[error("the body is {excess} bytes longer than its announced length")]
    TooLong {
        /// How many bytes were too many, at least.
        excess: u64,
    },
}

impl Body {
    /// No bytes at all.
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// These bytes, all at hand.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Full(Some(bytes))) }
    }

    /// The body of an answer to HEAD: announces `length` bytes, of which none is sent (RFC 9110 §9.3.2).
    pub const fn absent(length: u64) -> Self {
        Self(Kind::Absent { length })
    }

    /// The bytes of `stream`, exactly `length` of them where the length is known.
    pub fn stream<S, E>(stream: S, length: Option<u64>) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let chunks = Box::pin(stream.map(|chunk| chunk.map_err(Into::into)));
        Self(Kind::Stream { chunks, left: length })
    }

    /// The number of bytes still to come, where it is known.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty | Kind::Full(None) => Some(0),
            Kind::Full(Some(bytes)) => Some(bytes.len() as u64),
            Kind::Absent { length } => Some(*length),
            Kind::Stream { left, .. } => *left,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length() {
            Some(length) => write!(f, "Body({length} bytes)"),
            None => write!(f, "Body(unknown length)"),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (chunks, left) = match &mut self.0 {
            Kind::Empty | Kind::Absent { .. } => return Poll::Ready(None),
            Kind::Full(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream { chunks, left } => (chunks, left),
        };
        // An empty frame would end a chunked body early: wait for the next one.
        let next = loop {
            match ready!(chunks.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                next => break next,
            }
        };
        Poll::Ready(match (next, left) {
            (None, Some(missing)) if *missing > 0 => {
                Some(Err(LengthError::TooShort { missing: *missing }.into()))
            }
            (None, _) => None,
            (Some(Err(error)), _) => Some(Err(error)),
            (Some(Ok(bytes)), None) => Some(Ok(Frame::data(bytes))),
            (Some(Ok(bytes)), Some(left)) => Some(match left.checked_sub(bytes.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    Ok(Frame::data(bytes))
                }
                None => Err(LengthError::TooLong { excess: bytes.len() as u64 - *left }.into()),
            }),
        })
    }

    fn is_end_stream(&self) -> bool {
        // An absent body has not ended: hyper would announce a length of zero.
        matches!(self.0, Kind::Empty | Kind::Full(None) | Kind::Stream { left: Some(0), .. })
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt as _;

    fn chunks(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + use<> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        stream::iter(parts)
    }

    #[tokio::test]
    async fn every_kind_gives_its_bytes_and_its_length() {
        assert_eq!(Body::empty().length(), Some(0));
        assert_eq!(Body::full("abc").length(), Some(3));
        assert_eq!(Body::absent(7).length(), Some(7));
        assert_eq!(Body::stream(chunks(&["ab"]), None).length(), None);
        let body = Body::stream(chunks(&["ab", "", "cde"]), Some(5));
        assert_eq!(body.length(), Some(5));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcde");
    }

    #[tokio::test]
    async fn a_stream_of_another_length_than_announced_is_an_error() {
        let short = Body::stream(chunks(&["ab"]), Some(3)).collect().await.unwrap_err();
        assert_eq!(short.to_string(), "the body ended 1 bytes before its announced length");
        let long = Body::stream(chunks(&["abcd"]), Some(3)).collect().await.unwrap_err();
        assert_eq!(long.to_string(), "the body is 1 bytes longer than its announced length");
    }
}
