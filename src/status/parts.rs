//! The parts of the page that change, each the inside of the element with that id. The same for a page that is asked for and for
//! one that listens.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use super::history::Totals;
use super::peers::PeerDocument;
use super::snapshot::{CacheDocument, DhtBrief, GiverDocument, OngoingDocument, RecentDocument, Snapshot};
use super::units::{day, rounded_ago, rounded_bytes, rounded_time};

/// Above so many cells there is no gap between them any more.
const GAPS: usize = 80;

/// Every part by its id.
pub(super) fn all(snapshot: &Snapshot) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("state", state(snapshot)),
        ("problems", problems(snapshot)),
        ("day", period(&snapshot.day)),
        ("ever", period(&snapshot.ever)),
        ("since", since(snapshot)),
        ("hours", hours(snapshot)),
        ("busy", busy(snapshot)),
        ("downloads", snapshot.downloads.iter().map(download).collect()),
        ("cache", cache(snapshot.cache.as_ref())),
        ("reach", reach(snapshot)),
        ("dht", dht(snapshot.dht.as_ref())),
        ("met", met(snapshot)),
        (
            "peers",
            rows(&snapshot.peers, peer, 7, "Nobody yet. Peers on the local network turn up by themselves."),
        ),
        (
            "recent",
            rows(&snapshot.recent, recent, 4, "Nothing since the start. Run apt, and it shows up here."),
        ),
        (
            "run",
            format!(
                "Running for {}, {} from apt",
                rounded_time(snapshot.uptime_seconds),
                counted(snapshot.requests, "request")
            ),
        ),
    ])
}

/// A text that cannot end the element or the attribute that it stands in, and turns nothing around.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Marks that turn the direction of text would make a name look like another (Unicode UAX #9).
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                    f.write_char('\u{fffd}')?;
                }
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// `1 object`, `2 objects`.
fn counted(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

fn state(snapshot: &Snapshot) -> String {
    let text = match (snapshot.state, snapshot.health.problems.len()) {
        ("well", _) => "All is well".to_owned(),
        ("ailing", _) => "Does not work".to_owned(),
        (_, 1) => "Works, with one remark".to_owned(),
        (_, count) => format!("Works, with {count} remarks"),
    };
    let sign = match snapshot.state {
        "well" => "✓",
        "ailing" => "✕",
        _ => "!",
    };
    format!("<span class=\"pill {}\"><span aria-hidden=\"true\">{sign}</span> {text}</span>", snapshot.state)
}

fn problems(snapshot: &Snapshot) -> String {
    let mut html = String::new();
    for problem in &snapshot.health.problems {
        let (class, word) = if problem.grave { ("ailing", "Problem") } else { ("attention", "Remark") };
        // Writing to a String cannot fail.
        let _ = write!(
            html,
            "<li class=\"{class}\"><p><strong>{word}: {}.</strong></p><p>What to do: {}.</p></li>",
            Escaped(&problem.what),
            Escaped(&problem.remedy)
        );
    }
    if html.is_empty() { html } else { format!("<ul class=\"problems\">{html}</ul>") }
}

fn since(snapshot: &Snapshot) -> String {
    snapshot.since.map_or_else(|| "Ever".to_owned(), |unix| format!("Since {}", day(unix)))
}

/// What came in a time: the share that spared the mirror, a bar, and a figure for each source.
fn period(totals: &Totals) -> String {
    let headline = match totals.spared() {
        None => "<p class=\"big\">–</p><p class=\"of\">nothing came yet</p>".to_owned(),
        Some(percent) => format!(
            "<p class=\"big\">{} %</p><p class=\"of\">of {} did not need the mirror</p>",
            percent.floor(),
            rounded_bytes(totals.came())
        ),
    };
    let parts = [
        ("cache", "Cache", totals.cache),
        ("peers", "Peers", totals.peers),
        ("mirror", "Mirror", totals.mirror),
    ];
    let mut html = headline + &bar(&parts.map(|(class, _, bytes)| (class, bytes)), totals.came());
    html += "<dl class=\"legend\">";
    for (class, name, bytes) in parts {
        let bytes = rounded_bytes(bytes);
        let _ = write!(html, "<div><dt><i class=\"dot {class}\"></i>{name}</dt><dd>{bytes}</dd></div>");
    }
    let _ = write!(html, "<div><dt>Given to peers</dt><dd>{}</dd></div></dl>", rounded_bytes(totals.served));
    html
}

/// Parts of a whole side by side. The figures beside it say the same.
fn bar(parts: &[(&str, u64)], whole: u64) -> String {
    let mut html = String::from(
        "<svg class=\"bar\" viewBox=\"0 0 1000 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    let (mut at, whole) = (0.0, whole.max(1) as f64);
    for (class, bytes) in parts.iter().filter(|(_, bytes)| *bytes > 0) {
        let width = *bytes as f64 / whole * 1000.0;
        let _ = write!(html, "<rect class=\"{class}\" x=\"{at:.1}\" width=\"{width:.1}\" height=\"1\"/>");
        at += width;
    }
    html + "</svg>"
}

/// A column for each of the last hours, from the bottom: cache, peers, mirror.
fn hours(snapshot: &Snapshot) -> String {
    let most = snapshot.hours.iter().map(Totals::came).max().unwrap_or(0);
    let label = if most == 0 {
        "Nothing came in the last 24 hours.".to_owned()
    } else {
        format!("The last 24 hours; the busiest one had {}.", rounded_bytes(most))
    };
    let mut html = format!(
        "<svg class=\"hours\" viewBox=\"0 0 240 100\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">"
    );
    for (index, hour) in snapshot.hours.iter().enumerate() {
        let (x, mut y) = (index * 10 + 1, 100.0);
        let _ = write!(html, "<rect class=\"ground\" x=\"{x}\" y=\"99\" width=\"8\" height=\"1\"/>");
        for (class, bytes) in [("cache", hour.cache), ("peers", hour.peers), ("mirror", hour.mirror)] {
            let height = bytes as f64 / most.max(1) as f64 * 100.0;
            y -= height;
            if bytes > 0 {
                let _ = write!(
                    html,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y:.1}\" width=\"8\" height=\"{height:.1}\"/>"
                );
            }
        }
    }
    html + "</svg><p class=\"axis\"><span>24 h ago</span><span>now</span></p>"
}

fn busy(snapshot: &Snapshot) -> String {
    match snapshot.downloads_total {
        0 => "Nothing is being downloaded.".to_owned(),
        1 => "One object is being downloaded.".to_owned(),
        count if count > snapshot.downloads.len() && !snapshot.downloads.is_empty() => {
            format!("{count} objects are being downloaded; the first {} are shown.", snapshot.downloads.len())
        }
        count => format!("{count} objects are being downloaded."),
    }
}

fn download(download: &OngoingDocument) -> String {
    let OngoingDocument { pieces, linked, under_way, .. } = download;
    let came = download.from_peers.saturating_add(download.from_mirror);
    let rate = rounded_bytes(came / download.seconds.max(1));
    let percent = download.held.saturating_mul(100) / download.length.max(1);
    let resumed = match download.resumed {
        0 => String::new(),
        count => format!(", {count} kept from before"),
    };
    let unit = if *pieces == 1 { "piece" } else { "pieces" };
    let told = format!("{linked} of {pieces} {unit} here, {under_way} under way{resumed}");
    let mut html = format!(
        "<li><h3 title=\"{object}\">{name}</h3><p class=\"meta\"><strong>{percent} %</strong> of {length} · {rate}/s · {told}</p>{map}\
         <ul class=\"sources\">",
        object = Escaped(&download.object),
        name = Escaped(&download.name),
        length = rounded_bytes(download.length),
        map = map(&download.map, &told),
    );
    html.extend(download.sources.iter().map(source));
    if download.further_sources > 0 {
        let _ = write!(html, "<li>and {} more</li>", download.further_sources);
    }
    html + "</ul></li>"
}

fn source(giver: &GiverDocument) -> String {
    let (class, word) = if giver.kind == "mirror" { ("mirror", "Mirror") } else { ("peers", "Peer") };
    let now = match giver.active {
        true if giver.bytes > 0 => ", giving now",
        true => ", asked now",
        false => "",
    };
    let (who, bytes) = (Escaped(&giver.who), rounded_bytes(giver.bytes));
    format!("<li><i class=\"dot {class}\"></i>{word} {who}: <strong>{bytes}</strong>{now}</li>")
}

/// The pieces side by side.
fn map(letters: &str, told: &str) -> String {
    let count = letters.len().max(1);
    let width = if count > GAPS { 1.0 } else { 1.0 - count as f64 / 400.0 };
    let mut html = format!(
        "<svg class=\"map\" viewBox=\"0 0 {count} 1\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        Escaped(told)
    );
    for (x, letter) in letters.chars().enumerate() {
        // The further, the higher: colour is not all that tells.
        let (class, height) = match letter {
            'r' => ("released", 1.0),
            'l' => ("linked", 0.75),
            'u' => ("under", 0.45),
            _ => ("missing", 0.12),
        };
        let y = 1.0 - height;
        let _ = write!(
            html,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height}\"/>"
        );
    }
    html + "</svg>"
}

fn cache(cache: Option<&CacheDocument>) -> String {
    let Some(CacheDocument { objects, bytes, limit, free }) = cache else {
        return "<p class=\"fact\">Not in use</p>".to_owned();
    };
    let percent = bytes.saturating_mul(100) / (*limit).max(1);
    format!(
        "<p class=\"fact\">{} of {}</p>{}<p>{percent} % full, {}; {} free on the disk</p>",
        rounded_bytes(*bytes),
        rounded_bytes(*limit),
        bar(&[("cache", (*bytes).min(*limit))], *limit),
        counted(*objects, "object"),
        rounded_bytes(*free)
    )
}

fn reach(snapshot: &Snapshot) -> String {
    let fact = match (snapshot.port, snapshot.reachable) {
        (None, _) => return "<p class=\"fact\">Closed</p><p>This node serves no peers.</p>".to_owned(),
        (_, Some("yes")) => "Reachable",
        (_, Some("no")) => "Not reachable",
        _ => "Not known yet",
    };
    let why = snapshot.reachable_because.unwrap_or("nobody from outside has come so far");
    let port = snapshot.port.unwrap_or_default();
    format!("<p class=\"fact\">{fact}</p><p>Port {port}: {}</p>", Escaped(why))
}

fn dht(dht: Option<&DhtBrief>) -> String {
    let Some(dht) = dht else {
        return "<p class=\"fact\">Switched off</p>".to_owned();
    };
    let DhtBrief { good_nodes, known_nodes, .. } = dht;
    let fact = match &dht.waiting_for {
        None => "Works".to_owned(),
        Some(what) => format!("Not yet: waits for {}", Escaped(what)),
    };
    let announced = dht
        .announced
        .map(|count| format!("; announced: {}", counted(count as u64, "object")))
        .unwrap_or_default();
    let external =
        dht.external_address.as_ref().map(|seen| format!("; seen as {}", Escaped(seen))).unwrap_or_default();
    format!(
        "<p class=\"fact\">{fact}</p><p>{good_nodes} of {known_nodes} known nodes answer{announced}{external}</p>"
    )
}

fn met(snapshot: &Snapshot) -> String {
    let shown = snapshot.peers.len();
    let all = snapshot.peers_total;
    let more = if all > shown { format!("; the first {shown} are shown") } else { String::new() };
    format!("{all} known, bytes exchanged with {} in the last five minutes{more}", snapshot.peers_lately)
}

fn rows<T>(items: &[T], row: fn(&T) -> String, columns: usize, nothing: &str) -> String {
    if items.is_empty() {
        return format!("<tr><td class=\"nothing\" colspan=\"{columns}\">{nothing}</td></tr>");
    }
    items.iter().map(row).collect()
}

fn peer(peer: &PeerDocument) -> String {
    let way = match peer.way.as_str() {
        "lan" => "local network",
        "named" => "named",
        "archive" => "same archive",
        _ if peer.kind.as_deref() == Some("neighbour") => "neighbour",
        _ => "met",
    };
    let state = match peer.state.as_str() {
        "well" => String::new(),
        state => {
            let fault = peer.last_fault.as_deref().unwrap_or("fault");
            format!(
                " <span class=\"tag\">{} for {} ({})</span>",
                Escaped(state),
                rounded_time(peer.seconds_left),
                Escaped(fault)
            )
        }
    };
    let unknown = || "–".to_owned();
    let holds = peer.objects.map(|objects| {
        let ago = rounded_ago(peer.objects_age_seconds.unwrap_or(0));
        format!("{} <small>{ago}</small>", counted(objects, "object"))
    });
    format!(
        "<tr><th scope=\"row\">{}{state}</th><td>{way}</td><td class=\"n\">{}</td><td class=\"n\">{:.2}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td></tr>",
        peer.address,
        holds.unwrap_or_else(unknown),
        peer.score,
        peer.first_byte_milliseconds.map_or_else(unknown, |ms| format!("{ms:.0} ms")),
        peer.bytes_per_second.map_or_else(unknown, |rate| format!("{}/s", rounded_bytes(rate))),
        rounded_bytes(peer.bytes_received),
    )
}

fn recent(object: &RecentDocument) -> String {
    let (dot, from) = match (object.from, object.peers_percent) {
        ("cache", _) => ("cache", "Cache".to_owned()),
        ("peers", _) => ("peers", "Peers".to_owned()),
        ("both", Some(percent)) => ("peers", format!("Peers {percent} %, mirror")),
        _ => ("mirror", "Mirror".to_owned()),
    };
    format!(
        "<tr><th scope=\"row\" title=\"{}\">{}</th><td class=\"n\">{}</td><td><i class=\"dot {dot}\"></i>{from}</td><td class=\"n\">{}</td></tr>",
        Escaped(&object.object),
        Escaped(&object.name),
        rounded_bytes(object.length),
        rounded_ago(object.seconds_ago)
    )
}
