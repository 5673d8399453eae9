//! `/events`: snapshots as server-sent events (HTML Living Standard, section 9.2), with the parts of the page that have become others.

use std::collections::BTreeMap;

use serde::Serialize;

use super::parts;
use super::snapshot::Snapshot;

/// What each answer of this kind is.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// What somebody who listens has been sent.
#[derive(Debug, Default)]
pub struct Listener {
    sent: BTreeMap<&'static str, String>,
}

/// One event.
#[derive(Serialize)]
struct Event<'a> {
    snapshot: &'a Snapshot,
    /// The insides of the elements of the page with these ids, as HTML: only what is not what it was.
    parts: BTreeMap<&'static str, &'a str>,
}

impl Listener {
    /// The next event, ready to be sent.
    pub fn event(&mut self, snapshot: &Snapshot) -> String {
        let now = parts::all(snapshot);
        let changed = now.iter().filter(|(id, html)| self.sent.get(*id) != Some(html));
        let event = Event { snapshot, parts: changed.map(|(id, html)| (*id, html.as_str())).collect() };
        // One line: JSON escapes those within texts. It cannot fail: there is nothing in it but texts, numbers and lists.
        let json = serde_json::to_string(&event).unwrap_or_default();
        self.sent = now;
        format!("data: {json}\n\n")
    }
}
