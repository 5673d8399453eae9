//! Answers that are one line for a person.

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;

/// An answer of `status` whose body is `message` and a line end.
///
/// The body is never empty: apt takes a 5xx without a body as final and does not try again.
pub fn text(status: StatusCode, message: impl AsRef<str>) -> Response<Body> {
    let message = match message.as_ref().trim_end() {
        "" => status.canonical_reason().unwrap_or("error"),
        message => message,
    };
    let mut response = Response::new(Body::full(format!("{message}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_answer_always_has_a_body() {
        assert_eq!(
            text(StatusCode::BAD_GATEWAY, "").into_body().length(),
            Some("Bad Gateway\n".len() as u64)
        );
        assert_eq!(text(StatusCode::NOT_FOUND, "no such page").into_body().length(), Some(13));
    }
}
