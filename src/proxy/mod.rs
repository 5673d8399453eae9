//! What apt talks to: an HTTP proxy and a URL prefix. It decides what a request is, and hands it to the downloads, the
//! mirror or a tunnel.

mod answer;
mod bypass;
mod mutable;
mod object;
mod passing;
mod route;
mod tunnel;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use ipnet::IpNet;
use tokio_util::task::TaskTracker;
use tracing::debug;

use self::answer::own;
use self::object::Named;
use self::route::{Refusal, Route, route};
use crate::clock;
use crate::debian::RepoUrl;
use crate::download::{Download, Downloads, OriginError};
use crate::http::{Body, Conn, Hangup, Head, MISDIRECTED, Site, is_rebound};
use crate::index::{Index, Kind};
use crate::metrics::Metrics;
use crate::mirror::{Mirror, MirrorError, Target};

/// How many downloads one connection may have begun ahead of the request that is being answered: apt's pipeline.
const AHEAD: usize = 10;

/// How long a request waits for indexes that are being read, so that a package is known by the time it is asked for.
const INDEX_PATIENCE: Duration = Duration::from_secs(5);

/// What the site asks of the rest of the program to show its own page at `/`, and what belongs to it: the answer to this method
/// and path.
pub type PageMaker = Box<dyn Fn(&Method, &str) -> Response<Body> + Send + Sync>;

/// Whom the proxy works for.
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {
    /// Networks whose machines may use it.
    pub allow_clients: Vec<IpNet>,
}

/// The site on the proxy port.
pub struct ProxySite {
    downloads: Downloads,
    mirror: Mirror,
    index: Index,
    metrics: Metrics,
    page: PageMaker,
    config: ProxyConfig,
    releases: mutable::Stamps,
    learning: TaskTracker,
}

/// A request as the answers need it.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    at: Instant,
}

/// Downloads that were begun for requests which wait behind the one being answered; they are kept going by being held.
#[derive(Debug, Default)]
pub struct Foreseen(Mutex<VecDeque<Download>>);

impl ProxySite {
    /// A proxy that answers from `downloads` what `index` knows, and from `mirror` the rest.
    pub fn new(
        downloads: Downloads,
        mirror: Mirror,
        index: Index,
        metrics: Metrics,
        page: PageMaker,
        config: ProxyConfig,
    ) -> Self {
        let (releases, learning) = (mutable::Stamps::default(), TaskTracker::new());
        Self { downloads, mirror, index, metrics, page, config, releases, learning }
    }

    /// Waits until every index that passed has been read.
    pub async fn finish(&self) {
        self.learning.close();
        self.learning.wait().await;
    }

    fn admits(&self, conn: &Conn<Foreseen>) -> bool {
        let client = conn.remote.ip().to_canonical();
        self.config.allow_clients.iter().any(|network| network.contains(&client))
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        conn: &Conn<Foreseen>,
    ) -> Result<Response<Body>, Hangup> {
        let at = clock::now();
        if !self.admits(conn) {
            let text = format!("{} may not use this proxy: see proxy.allow_clients", conn.remote.ip());
            return Ok(own(StatusCode::FORBIDDEN, text));
        }
        let rebound = is_rebound(&request, conn);
        let (head, _body) = request.into_parts();
        let route = match route(&head.method, &head.uri, &head.headers) {
            Ok(route) => route,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        let path = head.uri.path().to_owned();
        let asked = Asked { method: head.method, path, headers: head.headers, at };
        match route {
            Route::Page if rebound => Ok(own(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED)),
            Route::Page => Ok((self.page)(&asked.method, &asked.path)),
            Route::Tunnel(host) => Ok(self.tunnel(&host).await),
            Route::Private(target) => {
                self.metrics.request_received();
                self.pass_through_privately(&asked, &target).await
            }
            Route::File(target) => {
                self.metrics.request_received();
                self.file(&asked, &target, conn).await
            }
        }
    }

    async fn file(
        &self,
        asked: &Asked,
        target: &Target,
        conn: &Conn<Foreseen>,
    ) -> Result<Response<Body>, Hangup> {
        let url = match RepoUrl::new(&target.authority(), target.path_and_query.path()) {
            Ok(url) => url,
            Err(error) => return Ok(own(StatusCode::BAD_REQUEST, error.to_string())),
        };
        if let Some(part) = mutable::ReleasePart::of(&url) {
            return self.release(asked, target, &url, part).await;
        }
        let Some(named) = self.named(&url).await else {
            debug!(%target, "no index names this file: handed through");
            return self.pass_through(asked, target).await;
        };
        self.object(asked, target, &named, conn.state.take(&named)).await
    }

    /// What an index says of a file.
    ///
    /// A Release names its indexes once it has passed. What Packages and Sources name is looked up when all that is
    /// being read has been read, so that a package is known right after its index came, and never by an index that has
    /// just been replaced.
    async fn named(&self, url: &RepoUrl) -> Option<Named> {
        self.index.refresh();
        match self.look_up(url) {
            Some(named) if named.kind == Kind::Index => Some(named),
            _ => {
                self.index.settled(INDEX_PATIENCE).await;
                self.look_up(url)
            }
        }
    }

    fn look_up(&self, url: &RepoUrl) -> Option<Named> {
        let known = self.index.lookup(url)?;
        let archive = self.index.archive_of(url);
        Some(Named { id: known.id, length: known.length?, kind: known.kind, archive })
    }
}

impl Site for ProxySite {
    type State = Foreseen;

    async fn answer(
        &self,
        request: Request<Incoming>,
        conn: Conn<Foreseen>,
    ) -> Result<Response<Body>, Hangup> {
        // Boxed: the futures below are large, and most connections are idle most of the time.
        Box::pin(self.respond(request, &conn)).await
    }

    /// Begins the downloads of the files that apt has asked for ahead, so that they all come at once.
    fn foresee(&self, head: &Head, conn: &Conn<Foreseen>) {
        if head.method != Method::GET || !self.admits(conn) {
            return;
        }
        let Ok(uri) = head.target.parse() else { return };
        let Ok(Route::File(target)) = route(&head.method, &uri, &head.headers) else { return };
        let Ok(url) = RepoUrl::new(&target.authority(), target.path_and_query.path()) else { return };
        self.index.refresh();
        let Some(named) = self.look_up(&url).filter(|named| named.kind == Kind::File) else { return };
        if let Ok(download) = self.downloads.open(Self::want(&target, &named)) {
            conn.state.remember(download);
        }
    }
}

impl Foreseen {
    fn remember(&self, download: Download) {
        let mut ahead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead.len() < AHEAD {
            ahead.push_back(download);
        }
    }

    /// The download that was begun for a request, now that it is answered.
    fn take(&self, named: &Named) -> Option<Download> {
        let mut ahead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ahead.iter().position(|download| download.id() == named.id)?;
        ahead.remove(at)
    }
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = match refusal {
        Refusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::Port(_) => StatusCode::FORBIDDEN,
        Refusal::Climbs(_) | Refusal::Target(_) => StatusCode::BAD_REQUEST,
    };
    own(status, refusal.to_string())
}

/// Our words for a mirror that gave nothing to a download.
fn mirror_failure(target: &Target, error: &OriginError) -> Response<Body> {
    let status = match error {
        OriginError::Failed { refused: true, .. } => StatusCode::FORBIDDEN,
        OriginError::Failed { silent: true, .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    own(status, format!("{target}: {error}"))
}

/// The status in which a failure of the mirror reaches the client.
fn status_of(error: &MirrorError) -> StatusCode {
    match error {
        MirrorError::Refused(_) => StatusCode::FORBIDDEN,
        MirrorError::Stalled { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}
