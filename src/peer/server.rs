//! Giving objects away by their hash, from their kept mappings, to whoever asks. `growing` gives what is still on its way.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::directory::{Acquaintances, Audience, HaveBook, NoAcquaintances};
use super::guard::{Document, Guard};
use super::near::is_near;
use super::part::{Part, Parts};
use super::turns::{Turn, Turns};
use super::visitor::visitor;
use crate::clock;
use crate::dht::is_local;
use crate::digest::Sha256;
use crate::http::{
    Body, BoxError, Conn, Hangup, Outcome, Representation, Site, Throttle, origin, precondition, text,
};
use crate::metrics::{InProgress, Metrics};
use crate::pieces::PieceSet;
use crate::store::{Object, Scope, Sighting, Store};
use crate::swarm::Slots;
use crate::wire::{MAX_PIECE_LIST_BYTES, PROTOCOL_VERSION, PeerTarget, PieceListMessage};

/// What the peer port serves, and how much of it at once.
#[derive(Debug, Clone)]
pub struct PeerSiteConfig {
    /// Bodies that are sent at the same time; beyond, 503. One IPv4 address, or one IPv6 /64, never gets all of them.
    pub max_uploads: usize,
    /// How fast all of them together, in bytes a second. Lists and heads are not counted.
    pub max_rate: Option<NonZeroU64>,
}

/// The site on the peer port: `/hash/<64 hex>`, its `/pieces`, `/have`, `/neighbours`, and `/`.
pub struct PeerSite {
    store: Store,
    parts: Arc<dyn Parts>,
    metrics: Metrics,
    guard: Option<Guard>,
    lan_only: bool,
    visited: AtomicBool,
    uploads: Arc<Mutex<Slots<IpAddr>>>,
    /// Of these uploads, those of objects that are on their way.
    pub(super) turns: Arc<Turns>,
    pub(super) throttle: Throttle,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) shutdown: CancellationToken,
    pub(super) have: HaveBook,
    pub(super) acquaintances: Arc<dyn Acquaintances>,
    pub(super) tells_strangers: bool,
}

/// What is known of whoever is at the other end of a connection.
#[derive(Debug, Default)]
pub struct Caller {
    /// He has asked for what only peers ask for, held here or not.
    is_peer: AtomicBool,
    /// Finding out may read the table of routes: once for each connection.
    is_near: OnceLock<bool>,
}

impl Caller {
    fn is_near(conn: &Conn<Self>) -> bool {
        *conn.state.is_near.get_or_init(|| is_near(conn.remote.ip()))
    }
}

/// What is here of an object.
enum Here {
    Whole(Sighting),
    Part(Part),
}

impl PeerSite {
    /// A site that serves the whole objects of `store`, and what `parts` has of others. After `shutdown` nobody is kept
    /// waiting.
    pub fn new(
        store: Store,
        parts: Arc<dyn Parts>,
        metrics: Metrics,
        config: &PeerSiteConfig,
        shutdown: CancellationToken,
    ) -> Self {
        let throttle = Throttle::new(config.max_rate);
        let uploads = Arc::new(Mutex::new(Slots::new(config.max_uploads)));
        Self {
            have: HaveBook::new(store.clone()),
            store,
            parts,
            metrics,
            guard: None,
            lan_only: false,
            visited: AtomicBool::new(false),
            uploads,
            turns: Arc::default(),
            throttle,
            waiting: Arc::default(),
            shutdown,
            acquaintances: Arc::new(NoAcquaintances),
            tells_strangers: true,
        }
    }

    /// The same for members of a private swarm only.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// The same; where `lan_only`, for the local network only.
    #[must_use]
    pub fn near_only(self, lan_only: bool) -> Self {
        Self { lan_only, ..self }
    }

    /// The same, which tells of these peers to those who ask.
    #[must_use]
    pub fn introducing(self, acquaintances: Arc<dyn Acquaintances>) -> Self {
        Self { acquaintances, ..self }
    }

    /// The same, which tells only askers at private addresses what it holds (`privacy.announce = false`).
    #[must_use]
    pub fn reticent(self) -> Self {
        Self { tells_strangers: false, ..self }
    }

    /// Whether anybody has asked something from an address that the internet knows: then others can reach us.
    pub fn was_visited(&self) -> bool {
        self.visited.load(Ordering::Relaxed)
    }

    /// Bodies that are being sent now.
    pub fn uploads(&self) -> usize {
        lock(&self.uploads).taken()
    }

    /// Answers a member, or anybody where there is no guard. Everybody else gets one and the same answer, whatever he
    /// asked for, and without a look at what is here.
    async fn receive(&self, request: &Request<Incoming>, conn: &Conn<Caller>) -> Response<Body> {
        if !is_local(conn.remote.ip()) {
            self.visited.store(true, Ordering::Relaxed);
        }
        if self.lan_only && !Caller::is_near(conn) {
            return not_held();
        }
        let Some(guard) = &self.guard else { return self.respond(request, conn, false).await };
        let Some(admitted) = guard.admit(request, conn.local.ip()) else { return not_held() };
        let mut response = self.respond(request, conn, true).await;
        guard.prove(&mut response, &admitted);
        response
    }

    async fn respond(
        &self,
        request: &Request<Incoming>,
        conn: &Conn<Caller>,
        member: bool,
    ) -> Response<Body> {
        let from = conn.remote.ip();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this port knows GET and HEAD");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let head = *request.method() == Method::HEAD;
        match PeerTarget::parse(request.uri().path()) {
            Some(PeerTarget::Root) => json(root_document(), head),
            Some(PeerTarget::Pieces(id)) => match self.find(&id, conn, member) {
                Some(Here::Whole(seen)) => match piece_list(seen.object()) {
                    list if list.len() <= MAX_PIECE_LIST_BYTES => json(list, head),
                    // No client reads a list that long.
                    _ => not_held(),
                },
                Some(Here::Part(part)) => self.list_part(request, part).await,
                None => not_held(),
            },
            Some(PeerTarget::Object(id)) => match self.find(&id, conn, member) {
                Some(Here::Whole(seen)) => self.serve(request, &seen, from),
                Some(Here::Part(part)) => self.serve_part(request, part, from).await,
                None => not_held(),
            },
            Some(PeerTarget::Have) => {
                let near = member || Caller::is_near(conn);
                self.have(request, from, if near { Audience::Near } else { Audience::Strangers }).await
            }
            Some(PeerTarget::Neighbours) => self.neighbours(from, head),
            None => text(StatusCode::NOT_FOUND, "this port serves /hash/<sha256> and nothing else"),
        }
    }

    /// What is here of the object for this client: members get everything, others what is public, and the local network
    /// what is local as well.
    fn find(&self, id: &Sha256, conn: &Conn<Caller>, member: bool) -> Option<Here> {
        let here = self.look(id)?;
        (member || Caller::is_near(conn) || !self.is_local(id, &here)).then_some(here)
    }

    fn is_local(&self, id: &Sha256, here: &Here) -> bool {
        match here {
            // Where nobody can tell, it may be.
            Here::Whole(_) => self.store.scope(id).map_or(true, |scope| scope != Some(Scope::Public)),
            Here::Part(part) => part.is_local(),
        }
    }

    /// What is here of the object. A download that ends between two looks has put it into the store by then.
    fn look(&self, id: &Sha256) -> Option<Here> {
        if let Some(seen) = self.sight(id) {
            return Some(Here::Whole(seen));
        }
        match self.parts.part(id) {
            Some(part) => Some(Here::Part(part)),
            None => self.sight(id).map(Here::Whole),
        }
    }

    fn sight(&self, id: &Sha256) -> Option<Sighting> {
        self.store.sight(id).unwrap_or_else(|error| {
            debug!(object = %id, %error, "an object could not be opened for a peer");
            None
        })
    }

    fn serve(&self, request: &Request<Incoming>, seen: &Sighting, from: IpAddr) -> Response<Body> {
        let object = seen.object();
        let etag = etag(&object.id());
        let file = Representation { length: object.length(), etag: Some(&etag), last_modified: None };
        let outcome = precondition(request.method(), request.headers(), &file);
        let length = object.length();
        let (status, range) = match outcome {
            Outcome::Full => (StatusCode::OK, 0..length),
            Outcome::Partial(range) => (StatusCode::PARTIAL_CONTENT, range),
            Outcome::NotModified => return not_modified(&object.id()),
            Outcome::NotSatisfiable => return no_such_range(length),
        };
        let wanted = range.end - range.start;
        let body = if *request.method() == Method::HEAD {
            Body::absent(wanted)
        } else {
            let Some(slot) = self.take_slot(from) else { return no_slot() };
            slot.body(self.throttle.stream(seen.chunks(range.clone())), wanted)
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        if status == StatusCode::PARTIAL_CONTENT {
            partial_content(&mut response, &range, length);
        }
        describe(&mut response, &object.id(), etag);
        response
    }

    /// A place among those who are sent something, if one is left.
    pub(super) fn take_slot(&self, from: IpAddr) -> Option<Slot> {
        Slot::take(&self.uploads, from, &self.metrics)
    }
}

impl Site for PeerSite {
    type State = Caller;

    async fn answer(&self, request: Request<Incoming>, conn: Conn<Caller>) -> Result<Response<Body>, Hangup> {
        if PeerTarget::parse(request.uri().path()).is_some_and(|target| target != PeerTarget::Root) {
            conn.state.is_peer.store(true, Ordering::Relaxed);
        }
        Ok(self.receive(&request, &conn).await)
    }

    /// Whoever announces himself in the DHT has visitors that take him for something else. They are counted and no more.
    fn left(&self, opening: &[u8], conn: &Conn<Caller>) {
        if !conn.state.is_peer.load(Ordering::Relaxed) {
            self.metrics.visitor_left(visitor(opening));
        }
    }
}

/// A place among those who are sent something, given back with the body.
pub(super) struct Slot {
    uploads: Arc<Mutex<Slots<IpAddr>>>,
    origin: IpAddr,
    to: IpAddr,
    metrics: Metrics,
    _active: InProgress,
    /// One of those whose object is on its way.
    _turn: Option<Turn>,
}

impl Slot {
    fn take(uploads: &Arc<Mutex<Slots<IpAddr>>>, from: IpAddr, metrics: &Metrics) -> Option<Self> {
        let origin = origin(from);
        if !lock(uploads).take(&origin) {
            return None;
        }
        let active = metrics.upload_started();
        Some(Self {
            uploads: uploads.clone(),
            origin,
            to: from,
            metrics: metrics.clone(),
            _active: active,
            _turn: None,
        })
    }

    /// The place, and a turn that ends with it.
    pub(super) fn with(mut self, turn: Turn) -> Self {
        self._turn = Some(turn);
        self
    }

    /// The body of `chunks`, `length` bytes together, which keeps the place.
    pub(super) fn body<E: Into<BoxError> + 'static>(
        self,
        chunks: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        length: u64,
    ) -> Body {
        let chunks = chunks.inspect_ok(move |bytes| {
            self.metrics.bytes_uploaded(bytes.len() as u64);
            self.metrics.exchanged_with(self.to, clock::now());
        });
        Body::stream(chunks, Some(length))
    }
}

impl Slot {
    /// A body that is no object's: it keeps the place, and is not counted.
    pub(super) fn uncounted_body<E: Into<BoxError> + 'static>(
        self,
        chunks: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        length: u64,
    ) -> Body {
        let chunks = chunks.inspect_ok(move |_| _ = &self);
        Body::stream(chunks, Some(length))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.uploads).give_back(&self.origin);
    }
}

fn lock(uploads: &Mutex<Slots<IpAddr>>) -> MutexGuard<'_, Slots<IpAddr>> {
    uploads.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn describe(response: &mut Response<Body>, id: &Sha256, etag: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, forever);
    headers.insert(header::HeaderName::from_static("repr-digest"), repr_digest(id));
}

pub(super) fn not_modified(id: &Sha256) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    describe(&mut response, id, etag(id));
    response
}

pub(super) fn no_slot() -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "no upload slot is free for you");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

pub(super) fn no_such_range(length: u64) -> Response<Body> {
    let mut response = text(StatusCode::RANGE_NOT_SATISFIABLE, "no such range of the object here");
    set(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
    response
}

pub(super) fn partial_content(response: &mut Response<Body>, range: &Range<u64>, length: u64) {
    set(response, header::CONTENT_RANGE, &format!("bytes {}-{}/{length}", range.start, range.end - 1));
}

/// The entity tag of an object: its digest, in quotes.
pub(super) fn etag(id: &Sha256) -> HeaderValue {
    let mut tag = String::with_capacity(66);
    // Cannot fail: it is a string.
    let _ = write!(tag, "\"{id}\"");
    HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// `Repr-Digest` (RFC 9530 section 3): a structured-field dictionary with the digest as a byte sequence.
fn repr_digest(id: &Sha256) -> HeaderValue {
    let mut digest = String::with_capacity(54);
    digest.push_str("sha-256=:");
    STANDARD.encode_string(id.as_bytes(), &mut digest);
    digest.push(':');
    HeaderValue::try_from(digest).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn piece_list(object: &Object) -> String {
    let geometry = object.geometry();
    let message = PieceListMessage {
        length: object.length(),
        states: object.states().iter().map(|state| Some(state.to_bytes())).collect(),
        have: PieceSet::all(geometry.pieces()).ranges(),
        intent: None,
    };
    message.to_json()
}

fn root_document() -> String {
    serde_json::json!({
        "name": "aptpeer",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL_VERSION,
    })
    .to_string()
}

pub(super) fn json(document: String, head: bool) -> Response<Body> {
    let document = Bytes::from(document);
    let body = if head { Body::absent(document.len() as u64) } else { Body::full(document.clone()) };
    let mut response = Response::new(body);
    if !head {
        response.extensions_mut().insert(Document(document));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn not_held() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "not held here")
}

pub(super) fn set(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
