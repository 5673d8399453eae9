//! What every answer of the proxy carries, and the answers that are our own words.

use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::download::Tally;
use crate::http::{Body, text};

/// The longest reason phrase: one line of a terminal or two.
const MAX_PHRASE: usize = 160;

/// How an answer came about, for `Cache-Status` (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From the store.
    Hit,
    /// Fetched now, with this status, from these sources.
    Miss { status: StatusCode, tally: Tally },
    /// A mutable index that the mirror confirmed or renewed.
    Revalidated { status: StatusCode },
    /// Handed through as it came: no hash is known for it.
    Bypass,
    /// Our own words.
    Own,
}

impl Origin {
    fn cache_status(self) -> Option<String> {
        Some(match self {
            Self::Hit => "aptpeer; hit".into(),
            Self::Miss { status, tally } => {
                let detail = match tally {
                    Tally { peers: 0, .. } => "mirror",
                    Tally { mirror: 0, .. } => "peers",
                    Tally { .. } => "mixed",
                };
                format!("aptpeer; fwd=miss; fwd-status={}; detail={detail}", status.as_u16())
            }
            Self::Revalidated { status } => {
                format!("aptpeer; fwd=stale; fwd-status={}; detail=mirror", status.as_u16())
            }
            Self::Bypass => "aptpeer; fwd=bypass".into(),
            Self::Own => return None,
        })
    }
}

/// Adds what every answer of ours carries.
pub(super) fn sign(mut response: Response<Body>, origin: Origin) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::VIA, HeaderValue::from_static("1.1 aptpeer"));
    if let Some(value) = origin.cache_status().and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(HeaderName::from_static("cache-status"), value);
    }
    response
}

/// An answer in our own words: one line that says what failed.
///
/// The line stands in the reason phrase too, which is what apt shows to its user; it does not show bodies.
pub(super) fn own(status: StatusCode, message: impl AsRef<str>) -> Response<Body> {
    let message = message.as_ref();
    let mut response = text(status, message);
    let phrase: Vec<u8> =
        message.bytes().filter(|byte| matches!(byte, b' '..=b'~')).take(MAX_PHRASE).collect();
    if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
        response.extensions_mut().insert(phrase);
    }
    sign(response, Origin::Own)
}

/// Sets a header from a text; one that cannot be sent is left out.
pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_says_where_the_bytes_came_from() {
        let of = |peers, mirror| {
            let origin = Origin::Miss { status: StatusCode::OK, tally: Tally { peers, mirror } };
            let response = sign(Response::new(Body::empty()), origin);
            assert_eq!(response.headers()["via"], "1.1 aptpeer");
            response.headers()["cache-status"].to_str().unwrap().to_owned()
        };
        assert_eq!(of(5, 0), "aptpeer; fwd=miss; fwd-status=200; detail=peers");
        assert_eq!(of(0, 5), "aptpeer; fwd=miss; fwd-status=200; detail=mirror");
        assert_eq!(of(5, 5), "aptpeer; fwd=miss; fwd-status=200; detail=mixed");
        assert_eq!(of(0, 0), "aptpeer; fwd=miss; fwd-status=200; detail=mirror");
    }

    #[test]
    fn our_own_errors_have_a_body() {
        assert!(own(StatusCode::BAD_GATEWAY, "no source has it").into_body().length() > Some(0));
    }
}
