//! `aptpeer status`: how the daemon does, once or again and again.

use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::output::{Failure, is_dumb};
use super::{Context, ask};
use crate::status::{rounded_bytes, rounded_time};

/// How often the daemon is asked under `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The width of a terminal that does not say how wide it is.
const USUAL_WIDTH: u16 = 80;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print a JSON document; with --watch one a line
    #[arg(long)]
    json: bool,

    /// Ask again every second until Ctrl-C; on a terminal the new figures take the place of the old ones
    #[arg(short, long)]
    watch: bool,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    if arguments.watch {
        return watch(arguments.json, context);
    }
    let stats = stats(context)?;
    if arguments.json { context.output.json(&stats) } else { context.output.text(&text(&lines(&stats))) }
}

/// Ends with the daemon, or by the signal that Ctrl-C sends: there is nothing to tidy up.
fn watch(json: bool, context: &mut Context) -> Result<(), Failure> {
    let in_place = !json && io::stdout().is_terminal() && !is_dumb();
    let mut drawn = 0;
    loop {
        let stats = stats(context)?;
        let lines = lines(&stats);
        let next = if json {
            format!("{stats}\n")
        } else if in_place {
            redrawn(&lines, drawn, width())
        } else {
            format!("{}\n", text(&lines))
        };
        context.output.text(&next)?;
        drawn = lines.len();
        thread::sleep(WATCH_EVERY);
    }
}

fn stats(context: &Context) -> Result<Value, Failure> {
    let body = ask::daemon(context, "/stats")?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::Work(format!("cannot read what the daemon says of itself: {error}")))
}

fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// The lines over the `drawn` ones that are on the screen, each cut so that it takes one row of it (ECMA-48: CUU, EL).
fn redrawn(lines: &[String], drawn: usize, width: usize) -> String {
    let up = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
    let cut = |line: &String| line.chars().take(width).collect::<String>();
    let rows = lines.iter().map(|line| format!("\r{}\x1b[K\n", cut(line)));
    std::iter::once(up).chain(rows).collect()
}

/// How many characters the terminal has in a row.
fn width() -> usize {
    let told = rustix::termios::tcgetwinsize(io::stdout()).map(|size| size.ws_col);
    // 0 is what a terminal says that does not know (tty_ioctl(2)).
    told.ok().filter(|width| *width > 0).unwrap_or(USUAL_WIDTH).into()
}

fn lines(stats: &Value) -> Vec<String> {
    let number = |name: &str| stats[name].as_u64().unwrap_or(0);
    let bytes = |name: &str| rounded_bytes(number(name));
    let share = stats["p2p_ratio_percent"].as_f64().unwrap_or(0.0);
    let figures = [
        ("version", stats["version"].as_str().unwrap_or("unknown").to_owned()),
        ("running for", rounded_time(number("uptime_seconds"))),
        ("requests from apt", number("requests_total").to_string()),
        ("from peers", format!("{} in {} files", bytes("bytes_from_p2p"), number("requests_p2p"))),
        ("from mirrors", format!("{} in {} files", bytes("bytes_from_mirror"), number("requests_mirror"))),
        ("from the cache", format!("{} in {} files", bytes("bytes_from_cache"), number("requests_cache"))),
        ("peers' share", format!("{share:.1} %")),
        ("served to peers", bytes("bytes_uploaded")),
        ("cache", format!("{} in {} files", bytes("cache_bytes"), number("cache_files"))),
        ("DHT", dht(stats)),
    ];
    figures.iter().map(|(name, figure)| format!("{name:<18} {figure}")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_or_shorter_than_before_spoils_no_row() {
        let lines = ["short".to_owned(), "x".repeat(50)];
        assert_eq!(redrawn(&lines, 0, 10), format!("\rshort\x1b[K\n\r{}\x1b[K\n", "x".repeat(10)));
        assert!(redrawn(&lines, 2, 80).starts_with("\x1b[2A\rshort\x1b[K\n"));
    }
}
