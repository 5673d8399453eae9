//! `aptpeer status`: how the daemon does.

use super::output::Failure;
use super::{Context, ask};
use crate::status::{rounded_bytes, rounded_time};
use serde_json::Value;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let body = ask::daemon(context, "/stats")?;
    let stats: Value = serde_json::from_slice(&body)
        .map_err(|error| Failure::Work(format!("cannot read what the daemon says of itself: {error}")))?;
    if arguments.json {
        return context.output.json(&stats);
    }
    let number = |name: &str| stats[name].as_u64().unwrap_or(0);
    let bytes = |name: &str| rounded_bytes(number(name));
    let share = stats["p2p_ratio_percent"].as_f64().unwrap_or(0.0);
    let lines = [
        ("version", stats["version"].as_str().unwrap_or("unknown").to_owned()),
        ("running for", rounded_time(number("uptime_seconds"))),
        ("requests from apt", number("requests_total").to_string()),
        ("from peers", format!("{} in {} files", bytes("bytes_from_p2p"), number("requests_p2p"))),
        ("from mirrors", format!("{} in {} files", bytes("bytes_from_mirror"), number("requests_mirror"))),
        ("from the cache", format!("{} in {} files", bytes("bytes_from_cache"), number("requests_cache"))),
        ("peers' share", format!("{share:.1} %")),
        ("served to peers", bytes("bytes_uploaded")),
        ("cache", format!("{} in {} files", bytes("cache_bytes"), number("cache_files"))),
        ("DHT", dht(&stats)),
    ];
    lines.iter().try_for_each(|(name, figure)| context.output.line(format_args!("{name:<18} {figure}")))
}

fn dht(stats: &Value) -> String {
    let dht = &stats["dht"];
    if dht.is_null() {
        return "switched off".to_owned();
    }
    let nodes = format!("{} nodes", dht["good_nodes"]);
    match dht["waiting_for"].as_str() {
        Some(what) => format!("{nodes}, waits for {what}"),
        None => nodes,
    }
}
