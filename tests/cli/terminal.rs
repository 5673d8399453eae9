//! What a person at a terminal sees, and what a pipe gets instead.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aptpeer::pieces::PIECE_LENGTH;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::Daemon;
use crate::support::noise;
use crate::support::peers::{Fault, Peer};
use crate::support::terminal::AtTerminal;
use crate::{Place, has_all, seeded};

/// What begins each block of figures.
const FIRST: &str = "version  ";

/// A command at a terminal that knows what colours are.
fn shell(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    command.env("TERM", "xterm-256color");
    command
}

fn watch(place: &Place, daemon: &Daemon, more: &[&str]) -> Command {
    let config = daemon.config();
    shell(place, &[&["--config", config.to_str().unwrap(), "status", "--watch"], more].concat())
}

/// Ends a watching command as Ctrl-C would.
fn end(mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
}

#[test]
fn a_watched_status_takes_the_place_of_the_one_before() {
    let (place, daemon) = (Place::new(), Daemon::start());
    let watching = AtTerminal::start(&mut watch(&place, &daemon, &[]));
    watching.wait_for(FIRST, 2);
    watching.interrupt();
    let (status, shown) = watching.end();
    assert!(status.signal() == Some(2) || matches!(status.code(), Some(0 | 130)), "{status}");
    let (first, second) = shown.split_once("\x1b[10A").expect("it goes up as many rows as it has written");
    assert_eq!(first.matches('\n').count(), 10, "{first:?}");
    assert!(second.starts_with(&format!("\r{FIRST}")), "{second:?}");
    assert!(!first.contains("\x1b[2J") && !first.contains("\x1b[H"), "what was above stays: {first:?}");
}

#[test]
fn a_watched_status_in_a_pipe_is_blocks_without_escape_codes() {
    let (place, daemon) = (Place::new(), Daemon::start());
    let mut child = watch(&place, &daemon, &[]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.take(22).collect();
    end(child);
    assert!(lines.iter().all(|line| !line.contains('\x1b') && !line.contains('\r')), "{lines:?}");
    assert!(lines[0].starts_with(FIRST) && lines[11].starts_with(FIRST), "{lines:?}");
    assert!(lines[10].is_empty() && lines[21].is_empty(), "{lines:?}");
}

#[test]
fn a_watched_status_for_programs_is_a_document_a_line() {
    let (place, mut daemon) = (Place::new(), Daemon::start());
    let mut child =
        watch(&place, &daemon, &["--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    for line in lines.by_ref().take(2) {
        assert!(
            serde_json::from_str::<serde_json::Value>(&line).unwrap()["uptime_seconds"].is_u64(),
            "{line}"
        );
    }
    daemon.terminate();
    assert_eq!(child.wait().unwrap().code(), Some(1), "it ends with the daemon");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    has_all(&said, &["error: ", "daemon"]);
}

#[test]
fn verifying_the_cache_shows_how_far_it_is_to_people_only() {
    let (place, _) = seeded();
    place.import();
    let mut command = shell(&place, &["cache", "verify"]);
    let (status, shown) = AtTerminal::start(&mut command).end();
    assert!(status.success(), "{shown}");
    has_all(&shown, &["100 % of 9 MB", "3 files (9 MB) whole"]);
    assert!(shown.trim_end().ends_with("whole"), "the bar is gone in the end: {shown:?}");

    let (_, plain) = AtTerminal::start(shell(&place, &["cache", "verify"]).env("NO_COLOR", "1")).end();
    assert!(plain.contains("100 % of 9 MB") && !plain.contains("\x1b[3"), "{plain:?}");
    let (_, dumb) = AtTerminal::start(shell(&place, &["cache", "verify"]).env("TERM", "dumb")).end();
    assert_eq!(dumb, "3 files (9 MB) whole\r\n");
    let (_, json) = AtTerminal::start(&mut shell(&place, &["cache", "verify", "--json"])).end();
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json:?}");
    assert_eq!(place.run(&["cache", "verify"]).good(), "3 files (9 MB) whole\n");
}

#[test]
fn a_complaint_is_coloured_at_a_terminal_unless_somebody_minds() {
    let place = Place::new();
    for arguments in [&["config", "check", "--config", "/nonexistent/a.toml"][..], &["confg"]] {
        let (status, coloured) = AtTerminal::start(&mut shell(&place, arguments)).end();
        assert_eq!(status.code(), Some(2));
        assert!(coloured.contains("\x1b[1;31m") || coloured.contains("\x1b[1m\x1b[31m"), "{coloured:?}");
        let (_, plain) = AtTerminal::start(shell(&place, arguments).env("NO_COLOR", "1")).end();
        assert!(plain.contains("error: ") && !plain.contains('\x1b'), "{plain:?}");
    }
}

#[test]
fn getting_a_file_shows_how_far_it_is_and_from_whom() {
    let place = Place::new();
    let config = format!(
        "[mirrors]\nlists_dir = \"\"\n[dht]\nenabled = false\n[state]\npath = \"{}\"\n",
        place.path("state").display()
    );
    place.file(".config/aptpeer/config.toml", &config);
    let object = noise(3, 2_000_000);
    let id = aptpeer::digest::Sha256::of(&object).to_string();
    let peer = Peer::start(&[&object], &[Fault::Slow(2_000_000)]);
    let (target, peer) = (place.path("out"), peer.address().to_string());
    let mut command = shell(&place, &["get", &id, "--peer", &peer, "-o", target.to_str().unwrap()]);
    let (status, shown) = AtTerminal::start(&mut command).end();
    assert!(status.success(), "{shown}");
    has_all(&shown, &["0 % of 2 MB [", "100 % of 2 MB [", "peers 2 MB, mirror 0 B"]);
    assert!(std::fs::read(&target).unwrap() == object);

    // What goes to standard output is untouched by the bar beside it.
    let copy = place.path("copy");
    let mut command = shell(&place, &["get", &id, "--peer", &peer, "-o", "-"]);
    let (status, shown) = AtTerminal::start_with_output(&mut command, File::create(&copy).unwrap()).end();
    assert!(status.success() && shown.contains("100 % of 2 MB"), "{shown}");
    assert!(read(&copy) == object);
}

#[test]
fn the_bar_of_a_file_follows_its_bytes_within_a_piece_and_never_goes_back() {
    let place = Place::new();
    let config = format!("[dht]\nenabled = false\n[state]\npath = \"{}\"\n", place.path("state").display());
    place.file(".config/aptpeer/config.toml", &config);
    let object = noise(4, 4_000_000);
    assert!((object.len() as u64) < PIECE_LENGTH, "it is one piece");
    let id = aptpeer::digest::Sha256::of(&object).to_string();
    let peer = Peer::honest(&[&object]);
    let address = peer.address().to_string();
    for output in ["out", "-"] {
        let output = if output == "-" { output.to_owned() } else { place.path(output).display().to_string() };
        let mut command = shell(&place, &["get", &id, "--peer", &address, "-o", &output]);
        peer.pause_bodies_at(1_200_000);
        let copy = File::create(place.path("copy")).unwrap();
        let getting = AtTerminal::start_with_output(&mut command, copy);
        let mut before = 0;
        for next in [2_400_000, 3_600_000, u64::MAX] {
            before = getting.wait_until(|shown| percents(shown).last().copied().filter(|now| *now > before));
            assert!(before < 100, "it is not all there");
            peer.pause_bodies_at(next);
        }
        let (status, shown) = getting.end();
        assert!(status.success(), "{shown}");
        let percents = percents(&shown);
        assert!(percents.is_sorted() && percents.last() == Some(&100), "{percents:?}");
    }
}

/// What the bar said, one after the other.
fn percents(shown: &str) -> Vec<u64> {
    let before =
        shown.match_indices(" % of ").map(|(at, _)| shown[..at].rsplit(|c: char| !c.is_ascii_digit()));
    before.filter_map(|mut words| words.next()?.parse().ok()).collect()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
