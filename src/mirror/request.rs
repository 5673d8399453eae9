//! What a mirror is asked, and what it answers.

use std::fmt;
use std::ops::Range;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use super::target::Target;
use crate::http::ContentRange;

/// One request to a mirror.
#[derive(Clone)]
pub struct MirrorRequest {
    /// Which file.
    pub target: Target,
    /// GET or HEAD.
    pub method: Method,
    /// Which part of it; `None` is all.
    pub range: Option<Wanted>,
    /// Only if it is newer, as the client spelled it.
    pub if_modified_since: Option<HeaderValue>,
    /// Only if it is another one.
    pub if_none_match: Option<HeaderValue>,
    /// The part only if it is still the same file.
    pub if_range: Option<HeaderValue>,
    /// The client's credentials: for this host alone, never kept or logged.
    pub authorization: Option<HeaderValue>,
    /// What caches on the way may do, as apt said it.
    pub cache_control: Option<HeaderValue>,
}

impl fmt::Debug for MirrorRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the credentials.
        f.debug_struct("MirrorRequest")
            .field("method", &self.method)
            .field("target", &format_args!("{}", self.target))
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// Which part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// From this byte to the end.
    From(u64),
    /// These bytes; not empty.
    Span(Range<u64>),
}

impl Wanted {
    /// The first byte.
    pub const fn start(&self) -> u64 {
        match self {
            Self::From(start) => *start,
            Self::Span(range) => range.start,
        }
    }

    fn header(&self) -> String {
        match self {
            Self::From(start) => format!("bytes={start}-"),
            Self::Span(range) => format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
        }
    }
}

impl MirrorRequest {
    /// GET of the whole file.
    pub const fn get(target: Target) -> Self {
        Self {
            target,
            method: Method::GET,
            range: None,
            if_modified_since: None,
            if_none_match: None,
            if_range: None,
            authorization: None,
            cache_control: None,
        }
    }

    /// The header fields to send, but for what depends on the hop.
    ///
    /// There is no `Accept-Encoding`, as apt sends none: the bytes are wanted as they lie on the mirror.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        };
        set(header::IF_MODIFIED_SINCE, &self.if_modified_since);
        set(header::IF_NONE_MATCH, &self.if_none_match);
        set(header::CACHE_CONTROL, &self.cache_control);
        set(header::AUTHORIZATION, &self.authorization);
        if let Some(range) = &self.range {
            set(header::IF_RANGE, &self.if_range);
            let value = HeaderValue::try_from(range.header());
            set(header::RANGE, &value.ok());
        }
        if let Some(value) = headers.get_mut(header::AUTHORIZATION) {
            value.set_sensitive(true);
        }
        headers
    }
}

/// A mirror's answer. Redirects are already followed.
#[derive(Debug)]
pub struct MirrorResponse<B> {
    /// The status, as the mirror gave it.
    pub status: StatusCode,
    /// The length of this body, where the mirror said it (for HEAD, that of the body GET would have).
    pub content_length: Option<u64>,
    /// When the file was last changed, byte for byte as the mirror said it.
    pub last_modified: Option<HeaderValue>,
    /// The entity tag.
    pub etag: Option<HeaderValue>,
    /// Which part of the file this is.
    pub content_range: Option<ContentRange>,
    /// What the mirror believes the file to be; a captive portal gives itself away here.
    pub content_type: Option<HeaderValue>,
    /// A coding nobody asked for; the bytes are handed on as they are.
    pub content_encoding: Option<HeaderValue>,
    /// What credentials a 401 wants.
    pub www_authenticate: Option<HeaderValue>,
    /// What time it was for the mirror.
    pub date: Option<HeaderValue>,
    /// The file that was answered with in the end, after redirects.
    pub target: Target,
    /// The bytes.
    pub body: B,
}

impl MirrorResponse<()> {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, target: Target) -> Self {
        let get = |name| headers.get(name).cloned();
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        Self {
            status,
            content_length: text(header::CONTENT_LENGTH).and_then(|digits| digits.trim().parse().ok()),
            last_modified: get(header::LAST_MODIFIED),
            etag: get(header::ETAG),
            content_range: text(header::CONTENT_RANGE).and_then(|range| range.parse().ok()),
            content_type: get(header::CONTENT_TYPE),
            content_encoding: get(header::CONTENT_ENCODING),
            www_authenticate: get(header::WWW_AUTHENTICATE),
            date: get(header::DATE),
            target,
            body: (),
        }
    }
}

impl<B> MirrorResponse<B> {
    /// The same answer with a body made of this one.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> MirrorResponse<C> {
        MirrorResponse {
            status: self.status,
            content_length: self.content_length,
            last_modified: self.last_modified,
            etag: self.etag,
            content_range: self.content_range,
            content_type: self.content_type,
            content_encoding: self.content_encoding,
            www_authenticate: self.www_authenticate,
            date: self.date,
            target: self.target,
            body: change(self.body),
        }
    }

    /// The length of the whole file, where the answer tells it.
    pub fn total_length(&self) -> Option<u64> {
        match &self.content_range {
            Some(ContentRange::Bytes { total, .. }) if self.status == StatusCode::PARTIAL_CONTENT => *total,
            _ if self.status == StatusCode::OK => self.content_length,
            _ => None,
        }
    }

    /// What identifies this very version of the file for `If-Range`: a strong entity tag, else the date (§13.1.5).
    pub fn validator(&self) -> Option<&HeaderValue> {
        let strong = self.etag.as_ref().filter(|etag| etag.as_bytes().starts_with(b"\""));
        strong.or(self.last_modified.as_ref())
    }
}
