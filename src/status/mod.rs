//! What the person in charge looks at: a page, `/metrics`, `/stats`, `/peers` and `/health`, as answers to paths.
//!
//! Nothing here touches a socket; the HTTP server hands in a path and writes what [`respond`] returns.

mod page;
mod peers;
mod units;

use crate::discovery::DhtStatus;
use crate::metrics::{self, Metrics, Stats};
use crate::reach::Reachable;
use crate::swarm::Reputation;
use crate::swarm::announce::Summary;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Instant;

pub use peers::{PeerDocument, PeersDocument};
pub use units::{rounded_bytes, rounded_time};

/// What the answers are made from.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The figures.
    pub metrics: &'a Metrics,
    /// The moment of asking, for the uptime.
    pub now: Instant,
    /// Whether the node does its work.
    pub health: &'a Health,
    /// How the DHT stands; `None` where it is switched off.
    pub dht: Option<&'a DhtStatus>,
    /// What is announced; `None` where nothing is.
    pub announcing: Option<Summary>,
    /// Whether others reach us; `None` for a node that serves no peers.
    pub reachable: Option<Reachable>,
    /// The peers that are known.
    pub peers: &'a [(SocketAddr, Reputation)],
}

/// Whether the node does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Well,
    /// It does not, or not all of it: the reasons, each a sentence of one line.
    Ailing(Vec<String>),
}

/// An answer: a status code, headers and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// Further headers, names in lower case.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Figures are true for a moment only, and no browser is to guess at what they are.
const HEADERS: &[(&str, &str)] = &[("cache-control", "no-store"), ("x-content-type-options", "nosniff")];

/// The answer to a GET of `path`, which may carry a query.
pub fn respond(path: &str, view: &View<'_>) -> Page {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    match path {
        "/" => page::dashboard(view),
        "/metrics" => plain(200, metrics::CONTENT_TYPE, view.metrics.text(view.now)),
        "/stats" => stats(view),
        "/peers" => json(&PeersDocument::new(view.peers)),
        "/health" => health(view.health),
        _ => plain(
            404,
            TEXT,
            "there is nothing here; see /, /metrics, /stats, /peers and /health\n".to_owned(),
        ),
    }
}

/// What `/stats` tells: the figures, and the DHT.
#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    stats: Stats,
    /// `yes`, `no` or `unknown`, and how we know.
    reachable: Option<&'static str>,
    reachable_because: Option<&'static str>,
    dht: Option<DhtDocument>,
    announcing: Option<AnnouncingDocument>,
}

#[derive(Serialize)]
struct AnnouncingDocument {
    held: usize,
    kept: usize,
    waiting: usize,
    in_flight: usize,
    packets_per_second: f64,
    worth_percent: f64,
}

impl From<Summary> for AnnouncingDocument {
    fn from(summary: Summary) -> Self {
        let Summary { held, kept, waiting, in_flight, per_second, worth } = summary;
        let rounded = |figure: f64| (figure * 10.0).round() / 10.0;
        Self {
            held,
            kept,
            waiting,
            in_flight,
            packets_per_second: rounded(per_second),
            worth_percent: rounded(worth * 100.0),
        }
    }
}

#[derive(Serialize)]
struct DhtDocument {
    good_nodes: usize,
    known_nodes: usize,
    external_address: Option<String>,
    ids: Vec<String>,
    waiting_for: Option<String>,
    stored_info_hashes: usize,
    stored_peers: usize,
    stored_values: usize,
    stored_value_bytes: usize,
    datagrams_received: u64,
    datagrams_sent: u64,
    datagrams_unreadable: u64,
    datagrams_refused: u64,
}

impl From<&DhtStatus> for DhtDocument {
    fn from(status: &DhtStatus) -> Self {
        let [datagrams_received, datagrams_sent, datagrams_unreadable, datagrams_refused] = status.datagrams;
        Self {
            good_nodes: status.good_nodes,
            known_nodes: status.known_nodes,
            external_address: status.external.map(|address| address.to_string()),
            ids: status.ids.iter().map(ToString::to_string).collect(),
            waiting_for: status.waiting_for.clone(),
            stored_info_hashes: status.stored.info_hashes,
            stored_peers: status.stored.peers,
            stored_values: status.stored.items,
            stored_value_bytes: status.stored.bytes,
            datagrams_received,
            datagrams_sent,
            datagrams_unreadable,
            datagrams_refused,
        }
    }
}

fn stats(view: &View<'_>) -> Page {
    let document = Document {
        stats: view.metrics.stats(view.now),
        reachable: view.reachable.map(Reachable::as_str),
        reachable_because: view.reachable.and_then(Reachable::why),
        dht: view.dht.map(Into::into),
        announcing: view.announcing.map(Into::into),
    };
    json(&document)
}

fn json(document: &impl Serialize) -> Page {
    match serde_json::to_string_pretty(document) {
        Ok(json) => plain(200, "application/json", json + "\n"),
        Err(error) => plain(500, TEXT, format!("cannot write the figures as JSON: {error}\n")),
    }
}

fn health(health: &Health) -> Page {
    match health {
        Health::Well => plain(200, TEXT, "ok\n".to_owned()),
        Health::Ailing(reasons) => plain(503, TEXT, reasons.join("\n") + "\n"),
    }
}

fn plain(status: u16, content_type: &'static str, body: String) -> Page {
    Page { status, content_type, headers: HEADERS, body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Source;

    fn ask(path: &str, health: &Health) -> Page {
        let start = Instant::now();
        let metrics = Metrics::new(start);
        metrics.bytes_received(Source::Peer, 4_200_000);
        let dht = DhtStatus { waiting_for: Some("a <node>".into()), ..DhtStatus::default() };
        let (dht, announcing, peers) = (Some(&dht), None, &[][..]);
        respond(
            path,
            &View { metrics: &metrics, now: start, health, dht, announcing, reachable: None, peers },
        )
    }

    #[test]
    fn metrics_are_openmetrics_text() {
        let page = ask("/metrics", &Health::Well);
        assert_eq!((page.status, page.content_type), (200, metrics::CONTENT_TYPE));
        assert!(page.body.contains("aptpeer_bytes_downloaded_total{source=\"peer\"} 4200000\n"));
    }

    #[test]
    fn stats_are_one_json_document() {
        let page = ask("/stats?pretty", &Health::Well);
        assert_eq!((page.status, page.content_type), (200, "application/json"));
        let stats: serde_json::Value = serde_json::from_str(&page.body).unwrap();
        assert_eq!(stats["bytes_from_p2p"], 4_200_000);
        assert_eq!(stats["p2p_ratio_percent"], 100.0);
        assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(stats["dht"]["waiting_for"], "a <node>");
    }

    #[test]
    fn peers_are_one_json_document() {
        let page = ask("/peers", &Health::Well);
        assert_eq!((page.status, page.content_type), (200, "application/json"));
        assert_eq!(serde_json::from_str::<PeersDocument>(&page.body).unwrap().peers, []);
    }

    #[test]
    fn health_gives_the_reasons() {
        assert_eq!(
            (ask("/health", &Health::Well).status, ask("/health", &Health::Well).body.as_str()),
            (200, "ok\n")
        );
        let ailing = Health::Ailing(vec!["the disk is full".to_owned(), "no mirror answers".to_owned()]);
        let page = ask("/health", &ailing);
        assert_eq!((page.status, page.body.as_str()), (503, "the disk is full\nno mirror answers\n"));
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in ["/x", "", "//", "/metrics/", "/stats/x", "/Metrics"] {
            assert_eq!(ask(path, &Health::Well).status, 404, "{path:?}");
        }
    }

    #[test]
    fn the_page_shows_figures_and_reasons_and_escapes_them() {
        let page = ask("/", &Health::Ailing(vec!["cannot reach <mirror> & co".to_owned()]));
        assert_eq!((page.status, page.content_type), (200, "text/html; charset=utf-8"));
        assert!(page.body.contains("4.2 MB"), "{}", page.body);
        assert!(page.body.contains("waits for a &lt;node&gt;"), "{}", page.body);
        assert!(page.body.contains("cannot reach &lt;mirror&gt; &amp; co"), "{}", page.body);
    }
}
