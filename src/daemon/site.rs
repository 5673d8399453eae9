//! The status as an HTTP site.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tracing::debug;

use super::events::{Audience, stream_of};
use super::reach::Reach;
use super::totals::Totals;
use crate::announcer::Announcer;
use crate::causes::Causes;
use crate::clock;
use crate::discovery::{Dht, Fixed, Lan, LanPeer, Neighbours};
use crate::download::Downloads;
use crate::http::{Body, Conn, Hangup, MISDIRECTED, Site, is_rebound, text};
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::status::{self, Acquaintance, Cache, Page, Snapshot, View, Way};
use crate::store::{Store, StoreError};
use crate::swarm::neighbourhood::{Bond, Neighbour};
use crate::swarm::{PeerKind, Reputation};

/// What the status is made from.
#[derive(Clone)]
pub(super) struct StatusSite {
    pub(super) metrics: Metrics,
    /// `None` for a node that keeps nothing.
    pub(super) store: Option<Store>,
    pub(super) dht: Option<Dht>,
    pub(super) announcer: Option<Arc<Announcer>>,
    /// `None` for a node that serves no peers.
    pub(super) reach: Option<Reach>,
    /// `None` for a node that asks nobody for anything.
    pub(super) peers: Option<KnownPeers>,
    /// `None` for a node that asks no mirror.
    pub(super) mirror: Option<Mirror>,
    /// `None` for a node that counts nothing over restarts.
    pub(super) totals: Option<Totals>,
    pub(super) audience: Audience,
}

/// The peers that a daemon knows: those it has met, those that the configuration names, those of the local network, and those
/// that use the same archives.
#[derive(Clone)]
pub(super) struct KnownPeers {
    pub(super) downloads: Downloads,
    pub(super) fixed: Arc<Fixed>,
    pub(super) lan: Option<Lan>,
    pub(super) neighbours: Arc<Neighbours>,
}

impl KnownPeers {
    fn list(&self) -> Vec<Acquaintance> {
        let met = |(address, reputation)| Acquaintance { address, way: Way::Met, reputation, told: None };
        let mut peers: Vec<Acquaintance> = self.downloads.reputations().into_iter().map(met).collect();
        let lan = self.lan.as_ref().map(Lan::peers).unwrap_or_default();
        let lan = lan.into_iter().map(|LanPeer { address, .. }| (address, Way::Lan));
        let named = self.fixed.addresses().into_iter().map(|address| (address, Way::Named));
        for (address, way) in lan.chain(named) {
            match peers.iter_mut().find(|peer| peer.address == address) {
                Some(peer) => {
                    peer.reputation.kind = Some(PeerKind::Neighbour);
                    peer.way = way;
                }
                None => {
                    let reputation = Reputation::unknown(PeerKind::Neighbour);
                    peers.push(Acquaintance { address, way, reputation, told: None });
                }
            }
        }
        self.neighbours.list().into_iter().for_each(|neighbour| add_told(&mut peers, neighbour));
        peers
    }
}

/// Adds what a neighbour told to what is known of it; many tell before they are met in a download.
fn add_told(peers: &mut Vec<Acquaintance>, Neighbour { address, bond, told }: Neighbour) {
    let same = |peer: &&mut Acquaintance| {
        (peer.address.ip().to_canonical(), peer.address.port()) == (address.ip(), address.port())
    };
    let way = match bond {
        Bond::Met => Way::Archive,
        Bond::Fixed => Way::Named,
        Bond::Lan => Way::Lan,
    };
    match peers.iter_mut().find(same) {
        Some(peer) => (peer.told, peer.way) = (told, peer.way.min(way)),
        None => {
            let reputation = Reputation::unknown(bond.kind());
            peers.push(Acquaintance { address, way, reputation, told });
        }
    }
}

impl StatusSite {
    /// Everything that the page shows, at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.view(Snapshot::of)
    }

    /// Looks at everything.
    fn view<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        let cache = self.store.as_ref().map(|store| tokio::task::block_in_place(|| self.cache(store)));
        let dht = self.dht.as_ref().map(Dht::status);
        let peers = self.peers.as_ref().map(KnownPeers::list).unwrap_or_default();
        let downloads = self.peers.as_ref().map(|peers| &peers.downloads);
        let (ongoing, total) = downloads.map(Downloads::ongoing).unwrap_or_default();
        let delivered = downloads.map(Downloads::delivered).unwrap_or_default();
        let (history, pulse) =
            (self.totals.as_ref().map(Totals::now), self.mirror.as_ref().map(Mirror::pulse));
        look(&View {
            metrics: &self.metrics,
            now: clock::now(),
            unix: clock::unix_seconds(),
            history: history.as_ref(),
            cache: cache.as_ref(),
            mirror: pulse.as_ref(),
            dht: dht.as_deref(),
            announcing: self.announcer.as_ref().map(|announcer| announcer.summary()),
            reachable: self.reach.as_ref().map(Reach::verdict),
            port: self.reach.as_ref().and_then(|reach| reach.port),
            peers: &peers,
            ongoing: (&ongoing, total),
            delivered: &delivered,
        })
    }

    /// Who looks wants to see the cache as it is now, not as it was a minute ago.
    fn cache(&self, store: &Store) -> Cache {
        let look = || -> Result<_, StoreError> {
            store.check_writable()?;
            store.stats()
        };
        match look() {
            Ok(stats) => {
                self.metrics.set_cache(stats.bytes, stats.objects);
                Cache::Usable(stats)
            }
            Err(error) => {
                debug!(%error, "the cache cannot be looked at");
                Cache::Unusable(Causes(&error).to_string())
            }
        }
    }

    pub(super) fn into_site(self) -> Arc<impl Site> {
        Arc::new(move |request: Request<Incoming>, conn: Conn| {
            let accept =
                request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let response = if is_rebound(&request, &conn) {
                text(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED)
            } else {
                self.answer(request.method(), request.uri().path(), accept)
            };
            async move { Ok::<_, Hangup>(response) }
        })
    }

    /// The answer to a request for `path` with this `Accept` (empty: without one).
    pub(super) fn answer(&self, method: &Method, path: &str, accept: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only");
        }
        let head = *method == Method::HEAD;
        if status::bare(path) == "/events" {
            return if head { stream_of(Body::empty()) } else { self.audience.listen(self) };
        }
        let mut response = into_response(self.view(|view| status::respond(path, accept, view)));
        if head {
            let length = response.body().length().unwrap_or(0);
            *response.body_mut() = Body::absent(length);
        }
        response
    }
}

fn into_response(page: Page) -> Response<Body> {
    let mut response = Response::new(Body::full(page.body));
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    for (name, value) in page.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
