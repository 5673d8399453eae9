//! The page for people: self-contained, no script, figures that were true when it was asked for.

use super::units::{rounded_bytes, rounded_time};
use super::{Health, Page, View};
use crate::metrics::Stats;
use std::fmt::Write as _;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid #8884;font-weight:400}\
td{text-align:right;font-variant-numeric:tabular-nums}\
.ailing{border-left:.25rem solid #c00;padding-left:.75rem}";

/// Nothing may be loaded or run, save the style above, named by its digest (CSP Level 3 §8.4): a text that slips
/// through unescaped stays a text.
const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; style-src 'sha256-l0WPSJmYiH8fIGhl6Pvwzsd71AnZClirWseJZL8ZFt0='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
];

/// The page at `/`.
pub(super) fn dashboard(view: &View<'_>) -> Page {
    let stats = view.metrics.stats(view.now);
    let mut rows = String::new();
    for (name, figure) in figures(&stats).into_iter().chain([("DHT", dht(view))]) {
        // Writing to a String cannot fail.
        let _ = write!(rows, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(&figure));
    }
    let body = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>aptpeer</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"10\">\
         <style>{STYLE}</style></head><body><h1>aptpeer {version}</h1>{health}<table><tbody>{rows}</tbody></table>\
         <p><a href=\"/stats\">JSON</a> · <a href=\"/peers\">peers</a> · <a href=\"/metrics\">metrics</a> · <a href=\"/health\">health</a></p>\
         </body></html>\n",
        version = stats.version,
        health = health(view.health),
    );
    Page { status: 200, content_type: "text/html; charset=utf-8", headers: HEADERS, body }
}

fn figures(stats: &Stats) -> [(&'static str, String); 14] {
    [
        ("Running for", rounded_time(stats.uptime_seconds)),
        ("Requests from apt", stats.requests_total.to_string()),
        ("Files from peers", stats.requests_p2p.to_string()),
        ("Files from mirrors", stats.requests_mirror.to_string()),
        ("Files from the cache", stats.requests_cache.to_string()),
        ("Received from peers", rounded_bytes(stats.bytes_from_p2p)),
        ("Received from mirrors", rounded_bytes(stats.bytes_from_mirror)),
        ("Peers’ share of what was received", format!("{:.1} %", stats.p2p_ratio_percent)),
        ("Read from the cache", rounded_bytes(stats.bytes_from_cache)),
        ("Served to peers", rounded_bytes(stats.bytes_uploaded)),
        ("Peers", stats.peers.to_string()),
        ("DHT nodes", stats.dht_nodes.to_string()),
        ("Files in the cache", stats.cache_files.to_string()),
        ("Size of the cache", rounded_bytes(stats.cache_bytes)),
    ]
}

fn dht(view: &View<'_>) -> String {
    match view.dht {
        None => "switched off".to_owned(),
        Some(status) => match &status.waiting_for {
            Some(what) => format!("waits for {what}"),
            None => "works".to_owned(),
        },
    }
}

fn health(health: &Health) -> String {
    match health {
        Health::Well => "<p>All is well.</p>".to_owned(),
        Health::Ailing(reasons) => {
            let items: String = reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
            format!("<div class=\"ailing\" role=\"alert\"><p>Something is wrong:</p><ul>{items}</ul></div>")
        }
    }
}

/// Text that cannot end the element it stands in.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    /// RFC 4648 §4.
    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
            for at in 0..4 {
                let letter = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
                text.push(if at <= group.len() { char::from(letter) } else { '=' });
            }
        }
        text
    }

    #[test]
    fn the_policy_allows_exactly_the_style_of_the_page() {
        let wanted = format!("style-src 'sha256-{}'", base64(Sha256::of(STYLE.as_bytes()).as_bytes()));
        let policy = HEADERS[0].1;
        assert!(policy.contains(&wanted), "{policy} should have {wanted}");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
    }
}
