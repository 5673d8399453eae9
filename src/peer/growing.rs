//! Serving objects that are still on their way: held pieces as from a whole object, others by and by.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName};
use hyper::{Method, Request, Response, StatusCode};

use super::part::{Held, Part};
use super::server::{
    PeerSite, describe, etag, json, no_slot, no_such_range, not_held, not_modified, partial_content, set,
};
use super::turns::Turn;
use crate::http::{Body, Outcome, Representation, origin, precondition};
use crate::pieces::State;
use crate::wire::{MAX_PIECE_LIST_BYTES, PieceListMessage, preferred_wait};

/// Requests that wait for something at a time; beyond, they are answered at once. One that waits is sent nothing and so
/// needs no upload slot, but it keeps a connection: a quarter of those that there are.
const MAX_WAITING: usize = 256;

/// What clients say of how they want to be answered (RFC 7240, section 2).
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What we made of it (RFC 7240, section 3).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

impl PeerSite {
    /// Answers a request for bytes of an object that is on its way.
    pub(super) async fn serve_part(
        &self,
        request: &Request<Incoming>,
        mut part: Part,
        from: IpAddr,
    ) -> Response<Body> {
        let (etag, length) = (etag(&part.id()), part.geometry().length());
        let file = Representation { length, etag: Some(&etag), last_modified: None };
        let wanted = match precondition(request.method(), request.headers(), &file) {
            Outcome::Full => None,
            Outcome::Partial(range) => Some(range),
            Outcome::NotModified => return not_modified(&part.id()),
            Outcome::NotSatisfiable => return no_such_range(length),
        };
        if *request.method() == Method::HEAD {
            // What the object is can be told before it is here; a client that knows its hash alone needs the length.
            let mut response = Response::new(Body::absent(length));
            describe(&mut response, &part.id(), etag);
            return response;
        }
        let first = wanted.as_ref().map(|range| part.geometry().piece_at(range.start));
        let enough = move |held: &Held| match first {
            Some(piece) => held.have.contains(piece),
            None => held.have.is_all(),
        };
        let waited = self.wait(request, &mut part, enough).await;
        let mut response = match self.send_part(part, wanted, from).await {
            Ok(response) => response,
            Err(Refusal::NotHeld) => not_held(),
            Err(Refusal::NoSuchRange) => no_such_range(length),
            Err(Refusal::Busy) => no_slot(),
        };
        note_waited(&mut response, waited);
        response
    }

    /// The held beginning of what is wanted, when it is its turn; or what is said instead.
    async fn send_part(
        &self,
        part: Part,
        wanted: Option<Range<u64>>,
        from: IpAddr,
    ) -> Result<Response<Body>, Refusal> {
        to_send(&part, wanted.clone())?;
        let turn = self.take_turn(&part, from).await.ok_or(Refusal::Busy)?;
        // Pieces may have been taken back while it waited for its turn, or have come.
        let (status, range) = to_send(&part, wanted)?;
        let slot = self.take_slot(from).ok_or(Refusal::Busy)?.with(turn);
        let (id, length) = (part.id(), part.geometry().length());
        let sent = range.end - range.start;
        let mut response = Response::new(slot.body(part.chunks(range.clone(), &self.throttle), sent));
        *response.status_mut() = status;
        if status == StatusCode::PARTIAL_CONTENT {
            partial_content(&mut response, &range, length);
        }
        describe(&mut response, &id, etag(&id));
        Ok(response)
    }

    /// A turn among those who are sent pieces of this object, at once or within a moment.
    async fn take_turn(&self, part: &Part, from: IpAddr) -> Option<Turn> {
        let (id, origin) = (part.id(), origin(from));
        if let Some(turn) = self.turns.take(id, origin) {
            return Some(turn);
        }
        let _waiting = Waiting::among(&self.waiting)?;
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            turn = self.turns.wait(id, origin) => turn,
        }
    }

    /// The list of an object that is on its way. With `If-None-Match` it is only sent, and waited for, where it is another
    /// than the one that is known.
    pub(super) async fn list_part(&self, request: &Request<Incoming>, mut part: Part) -> Response<Body> {
        let known = request.headers().get(header::IF_NONE_MATCH);
        let known = known.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let is_new = |held: &Held| !names(&known, &list_tag(held));
        let waited = self.wait(request, &mut part, is_new).await;
        let held = part.held();
        let mut response = if is_new(&held) {
            let list = piece_list(&part, &held);
            if list.len() > MAX_PIECE_LIST_BYTES {
                // No client reads a list that long.
                return not_held();
            }
            json(list, *request.method() == Method::HEAD)
        } else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        };
        set(&mut response, header::ETAG, &list_tag(&held));
        note_waited(&mut response, waited);
        response
    }

    /// Holds the answer back until `enough` is held, as long as the client would have it; says for how many seconds it was
    /// ready to.
    async fn wait(
        &self,
        request: &Request<Incoming>,
        part: &mut Part,
        enough: impl Fn(&Held) -> bool,
    ) -> Option<u64> {
        let prefer = request.headers().get_all(PREFER);
        let seconds = prefer.iter().find_map(|value| preferred_wait(value.to_str().ok()?))?;
        if enough(&part.held()) {
            return None;
        }
        let _waiting = Waiting::among(&self.waiting)?;
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = part.wait(Duration::from_secs(seconds), enough) => {}
        }
        Some(seconds)
    }
}

/// Why nothing is sent.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    NotHeld,
    NoSuchRange,
    Busy,
}

/// What of `wanted` would be sent now: as much of its beginning as is held. The whole is sent when it is here, and not
/// before: as it comes, it would come in fits and starts, and perhaps never to its end.
fn to_send(part: &Part, wanted: Option<Range<u64>>) -> Result<(StatusCode, Range<u64>), Refusal> {
    let length = part.geometry().length();
    match wanted {
        None if part.held().have.is_all() => Ok((StatusCode::OK, 0..length)),
        None => Err(Refusal::NotHeld),
        // RFC 9110, section 15.3.7: a server may send less than was asked for, for `Content-Range` says what it is.
        Some(range) => match part.run(range) {
            Some(run) => Ok((StatusCode::PARTIAL_CONTENT, run)),
            None => Err(Refusal::NoSuchRange),
        },
    }
}

/// A place among those who wait.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn among(waiting: &Arc<AtomicUsize>) -> Option<Self> {
        let room = |count: usize| (count < MAX_WAITING).then_some(count + 1);
        waiting.fetch_update(Ordering::AcqRel, Ordering::Relaxed, room).ok()?;
        Some(Self(waiting.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn note_waited(response: &mut Response<Body>, waited: Option<u64>) {
    if let Some(seconds) = waited {
        set(response, PREFERENCE_APPLIED, &format!("wait={seconds}"));
    }
}

fn list_tag(held: &Held) -> String {
    format!("\"{:x}-{:x}\"", held.tag.0, held.tag.1)
}

/// Whether an `If-None-Match` names the tag (RFC 9110, section 13.1.2: weak or not).
fn names(known: &str, tag: &str) -> bool {
    known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
}

fn piece_list(part: &Part, held: &Held) -> String {
    let message = PieceListMessage {
        length: part.geometry().length(),
        states: held.states.inner().iter().map(|state| state.map(State::to_bytes)).collect(),
        have: held.have.ranges(),
        intent: held.intent,
    };
    message.to_json()
}
