//! Asking a peer: its piece-hash list, or a range of an object.

use std::error::Error as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};

use crate::digest::Sha256;
use crate::pieces::{Geometry, PieceList, PieceSet, State};
use crate::swarm::PeerFault;
use crate::wire::{self, MAX_PIECE_LIST_BYTES, PieceListMessage};

/// How long a connection to a peer may take. The download does not wait for it: other sources are asked meanwhile.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an idle connection to a peer is kept, shorter than servers usually keep theirs.
const IDLE: Duration = Duration::from_secs(20);

/// Idle connections that are kept to one peer.
const IDLE_PER_PEER: usize = 4;

/// Talks to peers over pooled HTTP/1.1 connections. Never through a proxy, never after a redirect: a peer is an address.
#[derive(Debug, Clone)]
pub struct PeerClient {
    http: Client,
}

/// Why a peer gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It does not hold what was asked for.
    #[error("the peer does not hold it")]
    NotHeld,
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
    fn new(fault: PeerFault, detail: impl Into<String>) -> Self {
        Self::Fault { fault, detail: detail.into() }
    }
}

/// What a peer said of an object.
#[derive(Debug)]
pub enum ListAnswer {
    /// Its list, and the pieces it would serve now.
    List(PieceList, PieceSet),
    /// It knows no list: it does not hold the object, or is a plain file server.
    None,
}

impl PeerClient {
    /// A client with an empty pool.
    ///
    /// # Errors
    /// Where the HTTP library cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_PEER)
            .user_agent(concat!("aptpeer/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .build()?;
        Ok(Self { http })
    }

    /// Asks for the piece-hash list of an object.
    ///
    /// # Errors
    /// [`PeerError::Fault`] for anything that is not a list of this object's shape.
    pub async fn list(&self, peer: SocketAddr, id: Sha256, geometry: Geometry) -> Result<ListAnswer, PeerError> {
        let url = format!("http://{peer}{}", wire::pieces_path(&id));
        let mut response = self.http.get(url).send().await.map_err(|error| classify(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(ListAnswer::None),
            status => return Err(PeerError::new(PeerFault::ServerError, format!("{status} for the piece list"))),
        }
        let mut json = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|error| classify(&error))? {
            if json.len() + bytes.len() > MAX_PIECE_LIST_BYTES {
                return Err(PeerError::new(PeerFault::BadList, "a piece list beyond all bounds"));
            }
            json.extend_from_slice(&bytes);
        }
        let bad = |detail: String| PeerError::new(PeerFault::BadList, detail);
        let message = PieceListMessage::from_json(&json).map_err(|problem| bad(problem.to_string()))?;
        if message.length != geometry.length() {
            return Err(bad(format!("a list for {} bytes, the object has {}", message.length, geometry.length())));
        }
        let states = message.states.iter().map(|state| state.as_ref().map(State::from_bytes)).collect();
        let list = PieceList::new(geometry, states).map_err(|wrong| bad(wrong.to_string()))?;
        Ok(ListAnswer::List(list, PieceSet::from_ranges(geometry.pieces(), message.have)))
    }

    /// Asks for `range` of the object that is `length` bytes long.
    ///
    /// # Errors
    /// [`PeerError::NotHeld`] where the peer says so, else a fault.
    pub async fn open(
        &self,
        peer: SocketAddr,
        id: Sha256,
        range: Range<u64>,
        length: u64,
    ) -> Result<PeerBody, PeerError> {
        let url = format!("http://{peer}{}", wire::hash_path(&id));
        let whole = range == (0..length);
        let request = self.http.get(url);
        let request = if whole {
            request
        } else {
            request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
        };
        let response = request.send().await.map_err(|error| classify(&error))?;
        let wanted = range.end - range.start;
        match response.status() {
            StatusCode::OK if whole || range.start == 0 => {
                expect(response.content_length(), length, "a body")?;
                // A server without ranges sends everything: what is beyond the range is not read.
                Ok(PeerBody { response, left: wanted, cut: !whole })
            }
            StatusCode::PARTIAL_CONTENT => {
                let expected = format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1));
                let got = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                if got.map(str::trim) != Some(&expected) {
                    let detail = format!("Content-Range {got:?} instead of {expected:?}");
                    return Err(PeerError::new(PeerFault::WrongRange, detail));
                }
                expect(response.content_length(), wanted, "a range")?;
                Ok(PeerBody { response, left: wanted, cut: false })
            }
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::GONE => Err(PeerError::NotHeld),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(PeerError::new(PeerFault::ServerError, status.to_string()))
            }
            status => Err(PeerError::new(PeerFault::WrongRange, format!("{status} to a request for {range:?}"))),
        }
    }
}

/// The bytes of a range as they arrive: exactly as many as were asked for.
#[derive(Debug)]
pub struct PeerBody {
    response: Response,
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
        let Some(mut bytes) = self.response.chunk().await.map_err(|error| classify_body(&error))? else {
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

fn classify(error: &reqwest::Error) -> PeerError {
    let fault = if error.is_connect() {
        PeerFault::Unreachable
    } else if error.is_timeout() {
        PeerFault::Silent
    } else {
        match hyper_cause(error) {
            Some(cause) if cause.is_parse() || cause.is_parse_too_large() => PeerFault::Rubbish,
            _ => PeerFault::Short,
        }
    };
    PeerError::new(fault, chain(error))
}

fn classify_body(error: &reqwest::Error) -> PeerError {
    let fault = match hyper_cause(error) {
        Some(cause) if cause.is_parse() => PeerFault::Rubbish,
        _ => PeerFault::Short,
    };
    PeerError::new(fault, chain(error))
}

fn hyper_cause(error: &reqwest::Error) -> Option<&hyper::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
            return Some(hyper);
        }
        cause = error.source();
    }
    None
}

/// The error with its causes, without the URL, which the caller knows.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
