//! Asking a peer: its piece-hash list, or a range of an object.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::question::Question;
use crate::causes::Causes;
use crate::digest::Sha256;
use crate::pieces::{Geometry, PieceList, PieceSet, State};
use crate::swarm::PeerFault;
use crate::wire::{self, Intent, MAX_PIECE_LIST_BYTES, PieceListMessage, Swarm};

/// How long a connection to a peer may take. The download does not wait for it: other sources are asked meanwhile.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an idle connection to a peer is kept, shorter than servers usually keep theirs.
const IDLE: Duration = Duration::from_secs(20);

/// How much of an answer is read at once: more gains nothing, and each connection has such a buffer.
const READ_BUFFER: usize = 128 << 10;

/// The longest entity tag of a list that is sent back, in bytes.
pub(super) const MAX_TAG: usize = 128;

/// What we call ourselves.
const USER_AGENT: &str = concat!("aptpeer/", env!("CARGO_PKG_VERSION"));

/// Idle connections that are kept to one peer: apt asks for ten files at a time, and all may come from one neighbour.
const IDLE_PER_PEER: usize = 10;

/// Talks to peers over pooled HTTP/1.1 connections. Never through a proxy, never after a redirect: a peer is an address.
///
/// In a private swarm every request proves that we are a member, and an answer that does not prove the same of the peer is
/// as good as none.
#[derive(Debug, Clone)]
pub struct PeerClient {
    http: Client<HttpConnector, Empty<Bytes>>,
    swarm: Swarm,
}

/// Why a peer gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It does not hold what was asked for.
    #[error("the peer does not hold it")]
    NotHeld,
    /// It cannot send any more now, and may a little later. No fault.
    #[error("the peer is busy")]
    Busy,
    /// It did something wrong.
    #[error("{fault}: {detail}")]
    Fault {
        /// What.
        fault: PeerFault,
        /// How it showed.
        detail: String,
    },
}

impl PeerError {
    pub(super) fn new(fault: PeerFault, detail: impl Into<String>) -> Self {
        Self::Fault { fault, detail: detail.into() }
    }
}

/// What a peer said of an object.
#[derive(Debug)]
pub enum ListAnswer {
    /// Its list.
    List {
        /// The states that it tells.
        list: PieceList,
        /// The pieces that it would serve now.
        have: PieceSet,
        /// What it is about to do about what it does not have, where it is a node of the local network.
        intent: Option<Intent>,
        /// What names this list among those that it may tell later; none where it may not.
        tag: Option<ListTag>,
    },
    /// It has nothing to tell but what it told before.
    NoNews,
    /// It knows no list: it does not hold the object, or is a plain file server.
    None,
}

/// The entity tag of a list, as the peer wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListTag(HeaderValue);

/// How to ask for a list that is not the one known already.
#[derive(Debug, Clone)]
pub struct News {
    /// The list that is known.
    pub than: Option<ListTag>,
    /// How long the peer is to wait until it has another.
    pub wait: Duration,
}

impl Default for PeerClient {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerClient {
    /// A client of the public swarm, with an empty pool.
    pub fn new() -> Self {
        Self::of(Swarm::PUBLIC)
    }

    /// A client of `swarm`, with an empty pool.
    pub fn of(swarm: Swarm) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_PEER)
            .http1_max_buf_size(READ_BUFFER)
            .build(connector);
        Self { http, swarm }
    }

    /// Whether whoever answers it has proved to be a member of a private swarm.
    pub const fn is_private(&self) -> bool {
        self.swarm.is_private()
    }

    /// Asks for anything but a document.
    async fn ask(
        &self,
        method: Method,
        peer: SocketAddr,
        path: &str,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, PeerError> {
        let (response, question) = self.send(method, peer, path, fields).await?;
        check(question.as_ref(), &response, None)?;
        Ok(response)
    }

    pub(super) async fn send(
        &self,
        method: Method,
        peer: SocketAddr,
        path: &str,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<(Response<Incoming>, Option<Question>), PeerError> {
        let uri = format!("http://{peer}{path}");
        let (question, proof) = Question::new(&self.swarm, &method, peer, path).unzip();
        let mut request = Request::builder().method(method).uri(uri).header(header::USER_AGENT, USER_AGENT);
        for (name, value) in fields.iter().chain(proof.iter().flatten()) {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new());
        let request = request.map_err(|error| PeerError::new(PeerFault::Unreachable, error.to_string()))?;
        let response = self.http.request(request).await.map_err(|error| classify(&error))?;
        Ok((response, question))
    }

    /// Asks how long an object is, by a HEAD request. It is the peer's word; the digest covers it.
    ///
    /// # Errors
    /// [`PeerError::NotHeld`] where the peer says so, else a fault.
    pub async fn length(&self, peer: SocketAddr, id: Sha256) -> Result<u64, PeerError> {
        let response = self.ask(Method::HEAD, peer, &wire::hash_path(&id), &[]).await?;
        match (response.status(), response.headers().get(header::CONTENT_LENGTH)) {
            (StatusCode::OK, Some(value)) => {
                let length = value.to_str().ok().and_then(|text| text.parse().ok());
                length.ok_or_else(|| PeerError::new(PeerFault::WrongRange, "a length that is no number"))
            }
            (StatusCode::OK, None) => Err(PeerError::new(PeerFault::WrongRange, "no length")),
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => Err(PeerError::NotHeld),
            (status, _) => Err(PeerError::new(PeerFault::ServerError, status.to_string())),
        }
    }

    /// Asks for the piece-hash list of an object; with `news`, only for another than is known. Dropping the future gives the
    /// question up.
    ///
    /// # Errors
    /// [`PeerError::Busy`] where the peer says so, [`PeerError::Fault`] for anything that is not a list of this object's shape.
    pub async fn list(
        &self,
        peer: SocketAddr,
        id: Sha256,
        geometry: Geometry,
        news: Option<News>,
    ) -> Result<ListAnswer, PeerError> {
        let fields = news.map(News::into_fields).unwrap_or_default();
        let (mut response, question) = self.send(Method::GET, peer, &wire::pieces_path(&id), &fields).await?;
        if response.status() != StatusCode::OK {
            check(question.as_ref(), &response, None)?;
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(ListAnswer::NoNews),
            StatusCode::NOT_FOUND => return Ok(ListAnswer::None),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => return Err(PeerError::Busy),
            status => {
                return Err(PeerError::new(PeerFault::ServerError, format!("{status} for the piece list")));
            }
        }
        let tag = response.headers().get(header::ETAG).filter(|tag| tag.len() <= MAX_TAG).cloned();
        let mut json = Vec::new();
        while let Some(bytes) = next_bytes(response.body_mut()).await? {
            if json.len() + bytes.len() > MAX_PIECE_LIST_BYTES {
                return Err(PeerError::new(PeerFault::BadList, "a piece list beyond all bounds"));
            }
            json.extend_from_slice(&bytes);
        }
        check_document(question.as_ref(), &response, &json)?;
        let bad = |detail: String| PeerError::new(PeerFault::BadList, detail);
        let message = PieceListMessage::from_json(&json).map_err(|problem| bad(problem.to_string()))?;
        if message.length != geometry.length() {
            return Err(bad(format!(
                "a list for {} bytes, the object has {}",
                message.length,
                geometry.length()
            )));
        }
        let states = message.states.iter().map(|state| state.as_ref().map(State::from_bytes)).collect();
        let list = PieceList::new(geometry, states).map_err(|wrong| bad(wrong.to_string()))?;
        let have = PieceSet::from_ranges(geometry.pieces(), message.have);
        Ok(ListAnswer::List { list, have, intent: message.intent, tag: tag.map(ListTag) })
    }

    /// Asks for `range` of the object that is `length` bytes long.
    ///
    /// # Errors
    /// [`PeerError::NotHeld`] or [`PeerError::Busy`] where the peer says so, else a fault.
    pub async fn open(
        &self,
        peer: SocketAddr,
        id: Sha256,
        range: Range<u64>,
        length: u64,
    ) -> Result<PeerBody, PeerError> {
        let whole = range == (0..length);
        let part = (!whole).then(|| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let part = part.and_then(|part| Some((header::RANGE, HeaderValue::try_from(part).ok()?)));
        let response = self.ask(Method::GET, peer, &wire::hash_path(&id), part.as_slice()).await?;
        let promised = response.body().size_hint().exact();
        let wanted = range.end - range.start;
        match response.status() {
            StatusCode::OK if whole || range.start == 0 => {
                expect(promised, length, "a body")?;
                // A server without ranges sends everything: what is beyond the range is not read.
                Ok(PeerBody { body: response.into_body(), left: wanted, cut: !whole })
            }
            StatusCode::PARTIAL_CONTENT => {
                let expected = format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1));
                let got = response
                    .headers()
                    .get(header::CONTENT_RANGE)
                    .and_then(|value| HeaderValue::to_str(value).ok());
                if got.map(str::trim) != Some(&expected) {
                    let detail = format!("Content-Range {got:?} instead of {expected:?}");
                    return Err(PeerError::new(PeerFault::WrongRange, detail));
                }
                expect(promised, wanted, "a range")?;
                Ok(PeerBody { body: response.into_body(), left: wanted, cut: false })
            }
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::GONE => {
                Err(PeerError::NotHeld)
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Err(PeerError::Busy),
            status if status.is_server_error() => {
                Err(PeerError::new(PeerFault::ServerError, status.to_string()))
            }
            status => {
                Err(PeerError::new(PeerFault::WrongRange, format!("{status} to a request for {range:?}")))
            }
        }
    }
}

impl News {
    fn into_fields(self) -> Vec<(HeaderName, HeaderValue)> {
        let known = self.than.map(|tag| (header::IF_NONE_MATCH, tag.0));
        let wait = HeaderValue::try_from(format!("wait={}", self.wait.as_secs())).ok();
        known.into_iter().chain(wait.map(|wait| (HeaderName::from_static("prefer"), wait))).collect()
    }
}

/// The bytes of a range as they arrive: exactly as many as were asked for.
#[derive(Debug)]
pub struct PeerBody {
    body: Incoming,
    left: u64,
    cut: bool,
}

impl PeerBody {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// [`PeerFault::Short`] and [`PeerFault::Long`] for another number of bytes than was asked for.
    pub async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        if self.left == 0 && self.cut {
            return Ok(None);
        }
        let Some(mut bytes) = next_bytes(&mut self.body).await? else {
            if self.left == 0 {
                return Ok(None);
            }
            return Err(PeerError::new(PeerFault::Short, format!("{} bytes missing", self.left)));
        };
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        if bytes.len() > room {
            if !self.cut {
                return Err(PeerError::new(PeerFault::Long, "more bytes than asked for"));
            }
            bytes.truncate(room);
        }
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }
}

/// Whether a member has answered, where only members count. Who has no room for us has no time for a proof either, and says
/// nothing that could be believed.
pub(super) fn check<B>(
    question: Option<&Question>,
    response: &Response<B>,
    content: Option<Sha256>,
) -> Result<(), PeerError> {
    let Some(question) = question else { return Ok(()) };
    match question.check(response, content) {
        Err(_) if response.status() == StatusCode::SERVICE_UNAVAILABLE => Err(PeerError::Busy),
        Err(detail) => Err(PeerError::new(PeerFault::Unproven, detail)),
        Ok(()) => Ok(()),
    }
}

/// The same for a document: its content is proven with it.
pub(super) fn check_document<B>(
    question: Option<&Question>,
    response: &Response<B>,
    content: &[u8],
) -> Result<(), PeerError> {
    let content = question.is_some().then(|| Sha256::of(content));
    check(question, response, content)
}

fn expect(got: Option<u64>, expected: u64, what: &str) -> Result<(), PeerError> {
    match got {
        // Without a length the count of the bytes decides.
        None => Ok(()),
        Some(got) if got == expected => Ok(()),
        Some(got) => {
            Err(PeerError::new(PeerFault::WrongRange, format!("{what} of {got} bytes instead of {expected}")))
        }
    }
}

pub(super) async fn next_bytes(body: &mut Incoming) -> Result<Option<Bytes>, PeerError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => {
                let fault = if error.is_parse() { PeerFault::Rubbish } else { PeerFault::Short };
                return Err(PeerError::new(fault, Causes(&error).to_string()));
            }
            Some(Ok(frame)) => {
                // Trailers say nothing that is needed.
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

fn classify(error: &ClientError) -> PeerError {
    let parse = |error: &hyper::Error| error.is_parse() || error.is_parse_too_large();
    let fault = if error.is_connect() {
        PeerFault::Unreachable
    } else if hyper_cause(error).is_some_and(parse) {
        PeerFault::Rubbish
    } else {
        PeerFault::Short
    };
    PeerError::new(fault, Causes(error).to_string())
}

fn hyper_cause(error: &ClientError) -> Option<&hyper::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
            return Some(hyper);
        }
        cause = error.source();
    }
    None
}
