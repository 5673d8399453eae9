//! What we hold and whom we know, for those who ask: `/have` and `/neighbours` (docs/protocol.md, section 12).

use std::cmp::Reverse;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Mutex;
use tracing::warn;

use super::guard::Document;
use super::server::{PeerSite, json, no_slot, not_held, set};
use crate::clock;
use crate::dht::is_local;
use crate::digest::Sha256;
use crate::http::{Body, Outcome, Representation, precondition};
use crate::store::{Offer, Scope, Store, StoreError};
use crate::wire::{HaveSet, neighbours_to_json};

/// How long a have-set is kept although the store has changed: however many ask, it is made once in this time.
const KEEP_LEAST: Duration = Duration::from_secs(3);

/// How long it is kept where the store tells of no change: another process may have changed it.
const KEEP_MOST: Duration = Duration::from_secs(60);

/// For how long nobody need ask again.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("max-age=5");

/// Who knows other peers that may be told of.
pub trait Acquaintances: Send + Sync + 'static {
    /// The peers that `asker` may be told of; the first of them are.
    fn introduced_to(&self, asker: IpAddr) -> Vec<SocketAddr>;
}

/// Knows nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAcquaintances;

impl Acquaintances for NoAcquaintances {
    fn introduced_to(&self, _asker: IpAddr) -> Vec<SocketAddr> {
        Vec::new()
    }
}

/// Who asks what is held. He is told what he would be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// The local network, and the members of a private swarm.
    Near,
    /// Everybody else.
    Strangers,
}

/// The have-sets of a store, made anew when they must be.
pub(super) struct HaveBook {
    store: Store,
    for_near: Mutex<Option<Arc<Made>>>,
    for_strangers: Mutex<Option<Arc<Made>>>,
}

/// A have-set as it is sent.
#[derive(Debug)]
struct Made {
    bytes: Bytes,
    etag: HeaderValue,
    at: Instant,
    /// The store's count of changes before it was listed.
    changes: u64,
}

impl HaveBook {
    pub(super) fn new(store: Store) -> Self {
        Self { store, for_near: Mutex::default(), for_strangers: Mutex::default() }
    }

    /// The set for these, and how old what it says is. Those who ask while it is made wait for it together.
    async fn current(&self, audience: Audience) -> Result<(Arc<Made>, Duration), StoreError> {
        let mut made = match audience {
            Audience::Near => self.for_near.lock().await,
            Audience::Strangers => self.for_strangers.lock().await,
        };
        let (now, changes) = (clock::now(), *self.store.changes().borrow());
        if let Some(made) = &*made {
            let age = now.saturating_duration_since(made.at);
            if made.changes == changes && age < KEEP_MOST {
                return Ok((made.clone(), Duration::ZERO));
            }
            if age < KEEP_LEAST {
                return Ok((made.clone(), age));
            }
        }
        let store = self.store.clone();
        let listed = tokio::task::spawn_blocking(move || store.offers()).await;
        let offers = listed.unwrap_or_else(|_| Ok(Vec::new()))?;
        let bytes = Bytes::from(HaveSet::of(&told(offers, audience)).to_bytes());
        let tag = format!("\"{:.16}\"", Sha256::of(&bytes).to_string());
        let etag = HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        let new = Arc::new(Made { bytes, etag, at: now, changes });
        *made = Some(new.clone());
        Ok((new, Duration::ZERO))
    }
}

/// The objects that these may know to be here, those used last first.
fn told(mut offers: Vec<Offer>, audience: Audience) -> Vec<Sha256> {
    let is_public = |offer: &Offer| offer.origin.is_announced() && offer.scope == Scope::Public;
    offers.retain(|offer| audience == Audience::Near || is_public(offer));
    offers.sort_unstable_by_key(|offer| Reverse(offer.used));
    offers.into_iter().map(|offer| offer.id).collect()
}

impl PeerSite {
    /// Answers a request for the have-set.
    pub(super) async fn have(
        &self,
        request: &Request<Incoming>,
        from: IpAddr,
        audience: Audience,
    ) -> Response<Body> {
        // What is not announced is not told to strangers either.
        if !self.tells_strangers && !is_local(from) {
            return not_held();
        }
        let (made, age) = match self.have.current(audience).await {
            Ok(current) => current,
            Err(error) => {
                warn!(%error, "what is held cannot be listed for a peer");
                return not_held();
            }
        };
        let length = made.bytes.len() as u64;
        let file = Representation { length, etag: Some(&made.etag), last_modified: None };
        let known = matches!(precondition(request.method(), request.headers(), &file), Outcome::NotModified);
        let mut response = if known {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else if *request.method() == Method::HEAD {
            Response::new(Body::absent(length))
        } else {
            // As large as a package: it takes its place among them, and its part of the limit.
            let Some(slot) = self.take_slot(from) else { return no_slot() };
            let bytes = stream::iter([Ok::<_, Infallible>(made.bytes.clone())]);
            let mut response = Response::new(slot.uncounted_body(self.throttle.stream(bytes), length));
            response.extensions_mut().insert(Document(made.bytes.clone()));
            response
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, made.etag.clone());
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        // RFC 9111, section 5.1; a part of a second counts as one, for nobody must take it for newer than it is.
        let seconds = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        set(&mut response, header::AGE, &seconds.to_string());
        response
    }

    /// Answers a request for the peers that we know.
    pub(super) fn neighbours(&self, from: IpAddr, head: bool) -> Response<Body> {
        json(neighbours_to_json(&self.acquaintances.introduced_to(from)), head)
    }
}
