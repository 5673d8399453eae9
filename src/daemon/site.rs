//! The status as an HTTP site.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tracing::warn;

use super::reach::Reach;
use crate::announcer::Announcer;
use crate::clock;
use crate::discovery::{Dht, Fixed, Lan, LanPeer};
use crate::download::Downloads;
use crate::http::{Body, Conn, Hangup, Site, text};
use crate::metrics::Metrics;
use crate::status::{self, Health, Page, View};
use crate::store::Store;
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
}

/// The peers that a daemon knows: those it has met, those that the configuration names, and those of the local network.
#[derive(Clone)]
pub(super) struct KnownPeers {
    pub(super) downloads: Downloads,
    pub(super) fixed: Arc<Fixed>,
    pub(super) lan: Option<Lan>,
}

impl KnownPeers {
    fn list(&self) -> Vec<(SocketAddr, Reputation)> {
        let mut peers = self.downloads.reputations();
        let lan = self.lan.as_ref().map(Lan::peers).unwrap_or_default();
        let lan = lan.into_iter().map(|LanPeer { address, .. }| address);
        for address in self.fixed.addresses().into_iter().chain(lan) {
            match peers.iter_mut().find(|(known, _)| *known == address) {
                Some((_, known)) => known.kind = Some(PeerKind::Neighbour),
                None => peers.push((address, Reputation::unknown(PeerKind::Neighbour))),
            }
        }
        peers
    }
}

impl StatusSite {
    /// The page at `path`, of this moment.
    pub(super) fn page(&self, path: &str) -> Page {
        // Who looks wants to see the cache as it is now, not as it was a minute ago.
        match self.store.as_ref().map(|store| tokio::task::block_in_place(|| store.stats())) {
            Some(Ok(stats)) => self.metrics.set_cache(stats.bytes, stats.objects),
            Some(Err(error)) => warn!(%error, "the size of the cache cannot be had"),
            None => {}
        }
        let dht = self.dht.as_ref().map(Dht::status);
        // Thousands, perhaps: only for whom they are meant.
        let peers = self.peers.as_ref().filter(|_| path.starts_with("/peers")).map(KnownPeers::list);
        let view = View {
            metrics: &self.metrics,
            now: clock::now(),
            health: &Health::Well,
            dht: dht.as_deref(),
            announcing: self.announcer.as_ref().map(|announcer| announcer.summary()),
            reachable: self.reach.as_ref().map(Reach::verdict),
            peers: peers.as_deref().unwrap_or_default(),
        };
        status::respond(path, &view)
    }

    pub(super) fn into_site(self) -> Arc<impl Site> {
        Arc::new(move |request: Request<Incoming>, _conn: Conn| {
            let response = self.answer(&request);
            async move { Ok::<_, Hangup>(response) }
        })
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only");
        }
        let mut response = into_response(self.page(request.uri().path()));
        if *request.method() == Method::HEAD {
            let length = response.body().length().unwrap_or(0);
            *response.body_mut() = Body::absent(length);
        }
        response
    }
}

pub(super) fn into_response(page: Page) -> Response<Body> {
    let mut response = Response::new(Body::full(page.body));
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    for (name, value) in page.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
