//! What the person in charge looks at: a page, `/metrics`, `/stats`, `/snapshot`, `/peers` and `/health`, as answers to paths; and
//! `/events`, which keeps the page true.
//!
//! Nothing here touches a socket; the HTTP server hands in a path and writes what [`respond`] returns.

pub mod events;
mod health;
mod history;
mod page;
mod parts;
mod peers;
mod snapshot;
mod units;

use crate::discovery::DhtStatus;
use crate::download::{Delivered, Ongoing};
use crate::metrics::{Format, Metrics, Stats};
use crate::mirror::Pulse;
use crate::reach::Reachable;
use crate::store;
use crate::swarm::announce::Summary;
use serde::Serialize;
use std::time::Instant;

pub use health::{Health, Problem};
pub use history::{HOURS, History, Totals};
pub use peers::{Acquaintance, PeerDocument, PeersDocument, Way};
pub use snapshot::Snapshot;
pub use units::{rounded_bytes, rounded_time};

/// What the answers are made from.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The figures.
    pub metrics: &'a Metrics,
    /// The moment of asking, for the uptime.
    pub now: Instant,
    /// The same, in seconds since 1970-01-01 UTC.
    pub unix: u64,
    /// What came over all starts; `None` where that is not kept.
    pub history: Option<&'a History>,
    /// How the cache stands; `None` for a node that keeps nothing.
    pub cache: Option<&'a Cache>,
    /// How mirrors answer; `None` where none is asked.
    pub mirror: Option<&'a Pulse>,
    /// How the DHT stands; `None` where it is switched off.
    pub dht: Option<&'a DhtStatus>,
    /// What is announced; `None` where nothing is.
    pub announcing: Option<Summary>,
    /// Whether others reach us; `None` for a node that serves no peers.
    pub reachable: Option<Reachable>,
    /// The port where peers are served.
    pub port: Option<u16>,
    /// The peers that are known.
    pub peers: &'a [Acquaintance],
    /// Downloads under way, and how many there are in all.
    pub ongoing: (&'a [Ongoing], usize),
    /// What apt has got lately, the newest first.
    pub delivered: &'a [Delivered],
}

/// How the cache stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// It works.
    Usable(store::Stats),
    /// It cannot be read, or not be written to: why.
    Unusable(String),
}

/// An answer: a status code, headers and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// Further headers, names in lower case.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Figures are true for a moment only, and no browser is to guess at what they are.
pub const HEADERS: [(&str, &str); 2] = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")];

/// The answer to a GET of `path`, which may carry a query, with this `Accept` (empty: without one).
pub fn respond(path: &str, accept: &str, view: &View<'_>) -> Page {
    match bare(path) {
        "/" => page::dashboard(&Snapshot::of(view)),
        "/metrics" => {
            let format = Format::accepted_by(accept);
            plain(200, format.content_type(), view.metrics.text(format, view.now))
        }
        "/stats" => stats(view),
        "/snapshot" => json(&Snapshot::of(view)),
        "/peers" => json(&PeersDocument::new(view.peers)),
        "/health" => health(&Health::of(view)),
        _ => plain(
            404,
            TEXT,
            "there is nothing here; see /, /metrics, /stats, /snapshot, /events, /peers and /health\n"
                .to_owned(),
        ),
    }
}

/// A path without its query.
pub fn bare(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or(path)
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
    plain(if health.is_working() { 200 } else { 503 }, TEXT, health.text())
}

fn plain(status: u16, content_type: &'static str, body: String) -> Page {
    Page { status, content_type, headers: HEADERS.to_vec(), body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::download::{Giver, Tally, Who};
    use crate::metrics::Source;
    use crate::swarm::{Picture, PieceStage};
    use std::time::Duration;

    /// A node of which everything can be said.
    struct World {
        metrics: Metrics,
        start: Instant,
        history: History,
        cache: Cache,
        pulse: Pulse,
        dht: DhtStatus,
        reachable: Reachable,
        ongoing: Vec<Ongoing>,
        delivered: Vec<Delivered>,
    }

    impl World {
        fn new() -> Self {
            let start = Instant::now();
            let stats = store::Stats {
                objects: 3,
                bytes: 40_000_000,
                pinned_objects: 0,
                pinned_bytes: 0,
                in_place_objects: 0,
                in_place_bytes: 0,
                assembling_bytes: 10_000_000,
                free_space: 5_000_000_000,
                max_size: 200_000_000,
                min_free_space: 1_000_000_000,
            };
            Self {
                metrics: Metrics::new(start),
                start,
                history: History::default(),
                cache: Cache::Usable(stats),
                pulse: Pulse::default(),
                dht: DhtStatus::default(),
                reachable: Reachable::Unknown,
                ongoing: Vec::new(),
                delivered: Vec::new(),
            }
        }

        fn see<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
            look(&View {
                metrics: &self.metrics,
                now: self.start + Duration::from_secs(100),
                unix: 1_000_000,
                history: Some(&self.history),
                cache: Some(&self.cache),
                mirror: Some(&self.pulse),
                dht: Some(&self.dht),
                announcing: None,
                reachable: Some(self.reachable),
                port: Some(9979),
                peers: &[],
                ongoing: (&self.ongoing, self.ongoing.len()),
                delivered: &self.delivered,
            })
        }

        fn ask(&self, path: &str) -> Page {
            self.see(|view| respond(path, "", view))
        }

        fn download(&mut self, name: &str) {
            let cells =
                vec![PieceStage::Released, PieceStage::Linked, PieceStage::UnderWay, PieceStage::Missing];
            let picture = Picture {
                cells,
                pieces: 4,
                linked: 2,
                under_way: 1,
                resumed: 0,
                held: 9_000_000,
                arriving: 0,
                released: 5_000_000,
            };
            self.ongoing.push(Ongoing {
                id: Sha256::of(name.as_bytes()),
                name: name.to_owned(),
                length: 16_000_000,
                began: self.start,
                picture,
                tally: Tally { peers: 6_000_000, mirror: 3_000_000 },
                givers: vec![Giver { who: Who::Mirror("<b>mirror".into()), bytes: 3_000_000, active: true }],
                further: 2,
            });
        }
    }

    #[test]
    fn metrics_are_in_the_format_that_was_asked_for() {
        let world = World::new();
        world.metrics.bytes_received(Source::Peer, 4_200_000);
        for (accept, format) in
            [("*/*", Format::Classic), ("application/openmetrics-text", Format::OpenMetrics)]
        {
            let page = world.see(|view| respond("/metrics", accept, view));
            assert_eq!((page.status, page.content_type), (200, format.content_type()));
            assert!(page.body.contains("aptpeer_bytes_downloaded_total{source=\"peer\"} 4200000\n"));
            assert_eq!(page.body.ends_with("# EOF\n"), format == Format::OpenMetrics);
        }
    }

    #[test]
    fn stats_are_one_json_document() {
        let mut world = World::new();
        world.metrics.bytes_received(Source::Peer, 4_200_000);
        world.dht.waiting_for = Some("a <node>".into());
        let page = world.ask("/stats?pretty");
        assert_eq!((page.status, page.content_type), (200, "application/json"));
        let stats: serde_json::Value = serde_json::from_str(&page.body).unwrap();
        assert_eq!(
            (&stats["bytes_from_p2p"], &stats["p2p_ratio_percent"]),
            (&4_200_000.into(), &100.0.into())
        );
        assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(stats["dht"]["waiting_for"], "a <node>");
    }

    #[test]
    fn peers_are_one_json_document() {
        let page = World::new().ask("/peers");
        assert_eq!((page.status, page.content_type), (200, "application/json"));
        assert_eq!(serde_json::from_str::<PeersDocument>(&page.body).unwrap().peers, []);
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in ["/x", "", "//", "/metrics/", "/stats/x", "/Metrics"] {
            assert_eq!(World::new().ask(path).status, 404, "{path:?}");
        }
    }

    #[test]
    fn health_names_each_problem_with_its_remedy_and_fails_only_where_apt_is_worse_off() {
        let mut world = World::new();
        let told = |world: &World| {
            let page = world.ask("/health");
            (page.status, page.body)
        };
        assert_eq!(told(&world), (200, "ok\n".to_owned()));
        world.reachable = Reachable::No("behind a router that opens no port");
        let (status, text) = told(&world);
        assert!(status == 200 && text.starts_with("ok\nport 9979 cannot be reached from outside"), "{text}");
        assert!(text.contains("forward port 9979"), "{text}");
        world.cache = Cache::Unusable("writing to /x: read-only".into());
        world.dht.waiting_for = Some("a network".into());
        let (status, text) = told(&world);
        assert!(
            status == 200 && text.contains("read-only") && text.contains("the DHT waits for a network"),
            "{text}"
        );
        world.pulse =
            Pulse { answered: None, failures: 3, failed: Some((world.start, "it is silent".into())) };
        let (status, text) = told(&world);
        assert!(status == 503 && text.starts_with("no mirror answered the last 3 times"), "{text}");
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn failures_of_mirrors_count_when_there_are_several_and_not_for_ever() {
        let mut world = World::new();
        let mut grave = |failures, now: Duration| {
            world.pulse = Pulse { answered: None, failures, failed: Some((world.start, "x".into())) };
            world.see(|view| !Health::of(&View { now: world.start + now, ..*view }).is_working())
        };
        assert!(grave(3, Duration::ZERO) && grave(3, Duration::from_secs(599)));
        assert!(!grave(2, Duration::ZERO) && !grave(3, Duration::from_secs(600)));
    }

    #[test]
    fn a_full_disk_and_a_cache_of_pinned_objects_are_told() {
        let mut world = World::new();
        let told = |world: &World, change: fn(&mut store::Stats)| {
            let Cache::Usable(mut stats) = world.cache.clone() else { panic!("it is usable") };
            change(&mut stats);
            let cache = Cache::Usable(stats);
            world.see(|view| Health::of(&View { cache: Some(&cache), ..*view }).text())
        };
        assert_eq!(told(&world, |_| {}), "ok\n");
        assert!(told(&world, |stats| stats.free_space = 999_999_999).contains("cache.min_free_space"));
        assert!(told(&world, |stats| stats.pinned_bytes = 190_000_000).contains("cache.max_size"));
        world.dht.waiting_for = Some("x".into());
        let early = world.see(|view| Health::of(&View { now: world.start, ..*view }));
        assert_eq!(early, Health::default(), "it may take a while");
    }

    #[test]
    fn the_page_shows_every_figure_and_escapes_what_strangers_choose() {
        let mut world = World::new();
        let day = Totals { cache: 1_000_000, peers: 2_500_000, mirror: 500_000, served: 7_700_000 };
        world.history.note(day, 1_000_000);
        world.download("<script>alert('x')</script>_1.0.deb");
        let name = "\"><img src=x onerror=alert(1)>\u{202e}bed.deb".to_owned();
        let tally = Some(Tally { peers: 3, mirror: 1 });
        world.delivered.push(Delivered { id: Sha256::of(b""), name, length: 1, tally, at: world.start });
        world.dht.waiting_for = Some("a <node>".into());
        let page = world.ask("/");
        assert_eq!((page.status, page.content_type), (200, "text/html; charset=utf-8"));
        for shown in [
            "87 %",
            "of 4 MB did not need the mirror",
            "2.5 MB",
            "7.7 MB",
            "2 of 4 pieces here, 1 under way",
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;_1.0.deb",
            "Mirror &lt;b&gt;mirror: <strong>3 MB</strong>, giving now",
            "and 2 more",
            "&quot;&gt;&lt;img src=x onerror=alert(1)&gt;\u{fffd}bed.deb",
            "Peers 75 %, mirror",
            "50 MB of 200 MB",
            "waits for a &lt;node&gt;",
        ] {
            assert!(page.body.contains(shown), "{shown} is missing in\n{}", page.body);
        }
        assert_eq!(page.body.matches("<script").count(), 1, "ours");
        assert!(!page.body.contains("<img") && !page.body.contains(" style="));
    }

    #[test]
    fn the_policy_allows_the_style_and_the_script_of_the_page_and_nothing_else() {
        let page = World::new().ask("/");
        let (_, policy) = page.headers.iter().find(|(name, _)| *name == "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
            let (_, rest) = page.body.split_once(&format!("<{tag}>")).unwrap();
            let (text, rest) = rest.split_once(&format!("</{tag}>")).unwrap();
            let digest = Sha256::of(text.as_bytes());
            let hash = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, digest.as_bytes());
            assert!(policy.contains(&format!("{directive} 'sha256-{hash}';")), "{policy} should have {hash}");
            assert!(!rest.contains(&format!("<{tag}")));
        }
    }

    #[test]
    fn an_event_has_the_parts_that_have_become_others_and_is_one_line() {
        let mut world = World::new();
        let mut listener = events::Listener::default();
        let mut parts = |world: &World| {
            let event = listener.event(&world.see(Snapshot::of));
            let json = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
            assert!(!json.contains('\n'));
            let event: serde_json::Value = serde_json::from_str(json).unwrap();
            let parts = event["parts"].as_object().unwrap();
            (parts.keys().cloned().collect::<Vec<_>>(), event["snapshot"]["downloads"].clone())
        };
        assert!(parts(&world).0.len() > 10, "the first has all");
        assert!(parts(&world).0.is_empty());
        world.download("a\nb");
        let (changed, downloads) = parts(&world);
        assert_eq!(changed, ["busy", "downloads"]);
        assert_eq!(
            (&downloads[0]["map"], &downloads[0]["sources"][0]["kind"]),
            (&"rlu-".into(), &"mirror".into())
        );
    }
}
