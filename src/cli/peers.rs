//! `aptpeer peers`: what the daemon knows of its peers.

use super::output::{Failure, Output};
use super::{Context, ask};
use crate::status::{PeerDocument, PeersDocument, rounded_bytes, rounded_time};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let body = ask::daemon(context, "/peers")?;
    let document: PeersDocument = serde_json::from_slice(&body)
        .map_err(|error| Failure::Work(format!("cannot read what the daemon says of its peers: {error}")))?;
    if arguments.json {
        return context.output.json(&document);
    }
    table(&document.peers, &mut context.output)
}

const TITLES: [&str; 11] = [
    "ADDRESS",
    "KIND",
    "FROM",
    "OBJECTS",
    "TOLD",
    "SCORE",
    "LATENCY",
    "THROUGHPUT",
    "RECEIVED",
    "FAULTS",
    "STATE",
];

fn table(peers: &[PeerDocument], output: &mut Output) -> Result<(), Failure> {
    if peers.is_empty() {
        return output.line("no peer has been met yet");
    }
    let rows: Vec<_> = std::iter::once(TITLES.map(str::to_owned)).chain(peers.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
    rows.iter().try_for_each(|row| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        output.line(cells.join("  ").trim_end())
    })
}

fn row(peer: &PeerDocument) -> [String; 11] {
    let unknown = || "-".to_owned();
    let left = || rounded_time(peer.seconds_left);
    [
        peer.address.to_string(),
        peer.kind.clone().unwrap_or_else(unknown),
        peer.way.clone(),
        peer.objects.map_or_else(unknown, |objects| objects.to_string()),
        peer.objects_age_seconds.map_or_else(unknown, |age| format!("{} ago", rounded_time(age))),
        format!("{:.2}", peer.score),
        peer.first_byte_milliseconds.map_or_else(unknown, |time| format!("{time:.1} ms")),
        peer.bytes_per_second.map_or_else(unknown, |rate| format!("{}/s", rounded_bytes(rate))),
        rounded_bytes(peer.bytes_received),
        match &peer.last_fault {
            Some(fault) => format!("{} ({fault})", peer.faults),
            None => peer.faults.to_string(),
        },
        if peer.seconds_left == 0 { peer.state.clone() } else { format!("{} for {}", peer.state, left()) },
    ]
}
