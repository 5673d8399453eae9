//! Files that no index names, and requests with credentials: from the mirror to the client as they come.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::time::timeout;
use tracing::debug;

use super::answer::{Origin, own, sign};
use super::{Asked, ProxySite, status_of};
use crate::http::{Body, Hangup};
use crate::mirror::{MirrorError, MirrorRequest, MirrorResponse, Resume, ResumingBody, RetryPolicy, Target};

/// When apt is answered at the latest; it hangs up after 30 s.
pub(super) const APT_LIMIT: Duration = Duration::from_secs(28);

impl ProxySite {
    /// Hands a file through as the mirror gives it.
    pub(super) async fn pass_through(
        &self,
        asked: &Asked,
        target: &Target,
    ) -> Result<Response<Body>, Hangup> {
        let request = request_like(asked, target);
        let opened = self.mirror.open(request, Resume::IfUnchanged, RetryPolicy::default());
        match timeout(APT_LIMIT, opened).await {
            Ok(Ok(response)) => Ok(self.relay(response, asked)),
            Ok(Err(error)) => {
                debug!(%target, %error, "a file could not be handed through");
                Ok(own(status_of(&error), format!("{target}: {error}")))
            }
            // apt connects again, once, without a word: the mirror gets another half minute.
            Err(_) => Err(Hangup),
        }
    }

    /// Hands a file through for a client with credentials. Nothing of it is kept, shared or written to the log.
    pub(super) async fn pass_through_privately(
        &self,
        asked: &Asked,
        target: &Target,
    ) -> Result<Response<Body>, Hangup> {
        let mut request = request_like(asked, target);
        request.authorization = asked.headers.get(header::AUTHORIZATION).cloned();
        let opened = self.mirror.open(request, Resume::IfUnchanged, RetryPolicy::default());
        match timeout(APT_LIMIT, opened).await {
            Ok(Ok(response)) => Ok(self.relay(response, asked)),
            Ok(Err(error)) => Ok(own(status_of(&error), failure_without_path(&error, target))),
            Err(_) => Err(Hangup),
        }
    }

    fn relay(&self, response: MirrorResponse<ResumingBody>, asked: &Asked) -> Response<Body> {
        let status = response.status;
        let mut answer = Response::new(Body::empty());
        copy_head(&response, answer.headers_mut());
        *answer.body_mut() = match response.content_length {
            _ if status == StatusCode::NOT_MODIFIED => Body::empty(),
            Some(length) if asked.method == Method::HEAD => Body::absent(length),
            None if asked.method == Method::HEAD => Body::empty(),
            length => {
                let metrics = self.metrics.clone();
                use futures_util::TryStreamExt as _;
                let count = move |bytes: &bytes::Bytes| {
                    metrics.bytes_received(crate::metrics::Source::Mirror, bytes.len() as u64);
                };
                let passing = response.body.into_stream().inspect_ok(count);
                Body::stream(self.downloads.throttle().stream(passing), length)
            }
        };
        *answer.status_mut() = status;
        if asked.method == Method::GET && (status.is_success() || status == StatusCode::NOT_MODIFIED) {
            self.metrics.object_delivered(crate::metrics::Source::Mirror);
        }
        sign(answer, Origin::Bypass)
    }
}

/// The client's own question, as far as it concerns the mirror.
fn request_like(asked: &Asked, target: &Target) -> MirrorRequest {
    let get = |name| asked.headers.get(name).cloned();
    let mut request = MirrorRequest::get(target.clone());
    request.method = asked.method.clone();
    request.if_modified_since = get(header::IF_MODIFIED_SINCE);
    request.if_none_match = get(header::IF_NONE_MATCH);
    request.cache_control = get(header::CACHE_CONTROL);
    request.range = get(header::RANGE).as_ref().and_then(|value| value.to_str().ok()).and_then(wanted);
    request.if_range = get(header::IF_RANGE);
    request
}

/// One range from a byte on, the only kind that apt and curl resume with; any other is answered with everything, as
/// RFC 9110 section 14.2 allows.
fn wanted(range: &str) -> Option<crate::mirror::Wanted> {
    use crate::http::range::RangeSpec;
    match range.parse::<RangeSpec>().ok()? {
        RangeSpec::From(first) => Some(crate::mirror::Wanted::From(first)),
        RangeSpec::Closed { first, last } => Some(crate::mirror::Wanted::Span(first..last.checked_add(1)?)),
        RangeSpec::Suffix(_) => None,
    }
}

/// What a client needs to know of the mirror's answer; nothing of the connection to it.
pub(super) fn copy_head<B>(response: &MirrorResponse<B>, headers: &mut HeaderMap) {
    let mut put = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    put(header::LAST_MODIFIED, response.last_modified.clone());
    put(header::ETAG, response.etag.clone());
    put(header::CONTENT_TYPE, response.content_type.clone());
    put(header::CONTENT_ENCODING, response.content_encoding.clone());
    put(header::WWW_AUTHENTICATE, response.www_authenticate.clone());
    let range =
        response.content_range.as_ref().and_then(|range| HeaderValue::try_from(range.to_string()).ok());
    put(header::CONTENT_RANGE, range);
}

/// The failure without the URL, which may name what its user wants to keep to himself.
fn failure_without_path(error: &MirrorError, target: &Target) -> String {
    format!("{}: {error}", target.host)
}
