//! Whether the node does its work, and what is to be done about each thing that stands in the way.

use std::time::Duration;

use serde::Serialize;

use super::units::rounded_bytes;
use super::{Cache, View};
use crate::reach::Reachable;

/// So many attempts in a row that no mirror answered are no bad luck.
const FAILURES: u32 = 3;

/// How long failures count that nothing has been tried after.
const LATELY: Duration = Duration::from_secs(600);

/// How long the DHT may take before anybody is told that it waits.
const DHT_PATIENCE: u64 = 60;

/// From which part of the limit on pinned objects leave too little for others: nine tenths.
const CROWDED: (u64, u64) = (9, 10);

/// Whether the node does its work.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Health {
    /// Everything that stands in the way, the gravest first.
    pub problems: Vec<Problem>,
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, as a sentence without its full stop.
    pub what: String,
    /// What to do about it, likewise.
    pub remedy: String,
    /// apt would be better off without us.
    pub grave: bool,
}

impl Health {
    /// What follows from a view.
    pub fn of(view: &View<'_>) -> Self {
        let all = [mirror(view), unusable(view), no_room(view), unreachable(view), dht(view)];
        let mut problems: Vec<Problem> = all.into_iter().flatten().collect();
        problems.sort_by_key(|problem| !problem.grave);
        Self { problems }
    }

    /// Whether apt is not worse off with us.
    pub fn is_working(&self) -> bool {
        !self.problems.iter().any(|problem| problem.grave)
    }

    /// `well`, `attention` or `ailing`.
    pub fn as_str(&self) -> &'static str {
        match self.problems.is_empty() {
            true => "well",
            false if self.is_working() => "attention",
            false => "ailing",
        }
    }

    /// One line for each problem, with its remedy.
    pub fn text(&self) -> String {
        let line = |Problem { what, remedy, .. }: &Problem| format!("{what}: {remedy}\n");
        let lines: String = self.problems.iter().map(line).collect();
        if self.is_working() { format!("ok\n{lines}") } else { lines }
    }
}

fn problem(what: impl Into<String>, remedy: impl Into<String>) -> Option<Problem> {
    Some(Problem { what: what.into(), remedy: remedy.into(), grave: false })
}

/// Everything that nobody else has comes from there, so apt gets nothing new through us. Directly it may.
fn mirror(view: &View<'_>) -> Option<Problem> {
    let pulse = view.mirror?;
    let (at, why) = pulse.failed.as_ref().filter(|_| pulse.failures >= FAILURES)?;
    if view.now.saturating_duration_since(*at) >= LATELY {
        return None;
    }
    let what = format!("no mirror answered the last {} times, the last time because {why}", pulse.failures);
    let remedy =
        "see whether this machine has a network, whether mirrors.proxy is right, and what apt's sources name";
    problem(what, remedy).map(|problem| Problem { grave: true, ..problem })
}

/// apt gets every file from the mirror then, as it would without us: bad, and not grave.
fn unusable(view: &View<'_>) -> Option<Problem> {
    let Some(Cache::Unusable(why)) = view.cache else { return None };
    let remedy = "until then every file comes from the mirror; see that cache.path is there, on a disk that can be \
                  written to, and belongs to the daemon's user";
    problem(format!("the cache cannot be used: {why}"), remedy)
}

fn no_room(view: &View<'_>) -> Option<Problem> {
    let Some(Cache::Usable(stats)) = view.cache else { return None };
    if stats.free_space < stats.min_free_space {
        let (free, kept) = (rounded_bytes(stats.free_space), rounded_bytes(stats.min_free_space));
        let what =
            format!("the disk of the cache has {free} free, less than the {kept} of cache.min_free_space");
        return problem(what, "make room on that disk, or set cache.path to another");
    }
    if stats.pinned_bytes / CROWDED.0 >= stats.max_size / CROWDED.1 && stats.pinned_bytes > 0 {
        let (pinned, limit) = (rounded_bytes(stats.pinned_bytes), rounded_bytes(stats.max_size));
        let what = format!("the cache is full: {pinned} of its {limit} are kept from eviction");
        return problem(what, "set cache.max_size higher, or unpin what is not needed");
    }
    None
}

fn unreachable(view: &View<'_>) -> Option<Problem> {
    // Who serves no peers wants it so.
    let (Some(port), Some(Reachable::No(why))) = (view.port, view.reachable) else { return None };
    let what = format!("port {port} cannot be reached from outside ({why})");
    problem(
        what,
        format!(
            "forward port {port}, TCP and UDP, to this machine; until then nobody elsewhere gets files from it"
        ),
    )
}

fn dht(view: &View<'_>) -> Option<Problem> {
    let waiting = view.dht?.waiting_for.as_ref()?;
    if view.metrics.stats(view.now).uptime_seconds < DHT_PATIENCE {
        return None;
    }
    let remedy = "see whether datagrams (UDP) go out from this machine, and whether dht.bootstrap names nodes that run; \
                  peers of the local network are found without it";
    problem(format!("the DHT waits for {waiting}"), remedy)
}
