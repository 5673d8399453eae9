//! `/events`: those who listen, each told once a second what has become of the page.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::site::StatusSite;
use crate::http::{Body, BoxError, text};
use crate::status::HEADERS;
use crate::status::events::{self, Listener};

/// How often a listener is told something.
const EVERY: Duration = Duration::from_secs(1);

/// The most listeners at a time: each costs a look at everything once a second, and a household has fewer windows open.
const LISTENERS: usize = 16;

/// Those who listen. Clones are the same.
#[derive(Clone)]
pub(super) struct Audience {
    seats: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// One who listens, as long as the connection lasts.
struct Seat {
    site: StatusSite,
    listener: Listener,
    first: bool,
    _permit: OwnedSemaphorePermit,
}

impl Audience {
    /// Nobody yet. All are sent away at `shutdown`.
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self { seats: Arc::new(Semaphore::new(LISTENERS)), shutdown }
    }

    /// The stream of `site` for one more.
    pub(super) fn listen(&self, site: &StatusSite) -> Response<Body> {
        let Ok(permit) = self.seats.clone().try_acquire_owned() else {
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "too many listen already");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            return response;
        };
        let seat = Seat { site: site.clone(), listener: Listener::default(), first: true, _permit: permit };
        let shutdown = self.shutdown.clone();
        let events = stream::unfold((seat, shutdown), |(mut seat, shutdown)| async move {
            if !std::mem::take(&mut seat.first) {
                tokio::select! {
                    () = shutdown.cancelled() => return None,
                    () = tokio::time::sleep(EVERY) => {}
                }
            }
            let event = seat.listener.event(&seat.site.snapshot());
            Some((Ok::<_, BoxError>(Bytes::from(event)), (seat, shutdown)))
        });
        stream_of(Body::stream(events, None))
    }
}

/// An answer with this body; without one, what a HEAD gets.
pub(super) fn stream_of(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(events::CONTENT_TYPE));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
