//! Who comes to the peer port without being a peer: whoever is announced in the DHT is called by BitTorrent clients,
//! crawlers and scanners. Each is gone in bounded time, counted, and not worth a line in the log.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Wire, get, request};
use crate::support::{noise, wait_for};

/// How soon somebody who does not speak HTTP is sent away, on a busy machine.
const QUICKLY: Duration = Duration::from_secs(5);

/// How long somebody who says nothing, or very little, may stay: the limit of the document and a busy machine.
const LIMIT: Duration = Duration::from_secs(18);

const HANDSHAKE: &[u8] =
    b"\x13BitTorrent protocol\0\0\0\0\0\x18\0\x05aaaaaaaaaaaaaaaaaaaa-TR3000-bbbbbbbbbbbb";
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\x00\x01\x02\x03\x04\x05\x06\x07";
/// A uTP SYN (BEP 29), sent to the wrong kind of socket.
const UTP_SYN: &[u8] = b"\x41\x00\x30\x39\x00\x01\x02\x03\x00\x00\x00\x00\x00\x10\x00\x00\x00\x01\x00\x00";

fn visitors(daemon: &Daemon) -> BTreeMap<String, u64> {
    let metrics = daemon.metrics();
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("aptpeer_visitors_total{kind=\""));
    lines
        .map(|rest| {
            let (kind, count) = rest.split_once("\"} ").unwrap();
            (kind.to_owned(), count.parse().unwrap())
        })
        .collect()
}

/// Waits until exactly these were counted.
#[track_caller]
fn check_visitors(daemon: &Daemon, bittorrent: u64, tls: u64, http: u64, other: u64) {
    let wanted = BTreeMap::from(
        [("bittorrent", bittorrent), ("tls", tls), ("http", http), ("other", other)]
            .map(|(kind, count)| (kind.to_owned(), count)),
    );
    let counted = wait_for(QUICKLY, || (visitors(daemon) == wanted).then_some(()));
    assert!(counted.is_some(), "{:?} instead of {wanted:?}", visitors(daemon));
}

/// A daemon that has said all that it says at its start.
fn daemon() -> Daemon {
    let daemon = Setup::new().start();
    daemon.wait_for_log("the cache is in order");
    daemon
}

/// The lines of the log that are not for debugging.
fn spoken(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    let quiet = |line: &&str| !line.contains("\"level\":\"DEBUG\"") && !line.contains("\"level\":\"TRACE\"");
    log.lines().filter(quiet).map(str::to_owned).collect()
}

/// Sends this, keeps the connection open, and waits to be sent away.
#[track_caller]
fn is_sent_away(address: SocketAddr, words: &[u8]) -> String {
    let started = Instant::now();
    let mut wire = Wire::connect(address);
    wire.send(words);
    // A reset is an answer, too.
    let answer = wire.rest().unwrap_or_default();
    assert!(started.elapsed() < QUICKLY, "{} took {:?}", words.escape_ascii(), started.elapsed());
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn strangers_are_sent_away_counted_and_not_logged() {
    let daemon = daemon();
    let before = spoken(&daemon);
    let mut encrypted = noise(41, 96 + 300);
    encrypted[0] = 0xe1; // Random bytes could, rarely, look like a method.
    let strangers: [(&[u8], &str); 6] = [
        (HANDSHAKE, "bittorrent"),
        (TLS_HELLO, "tls"),
        (UTP_SYN, "other"),
        (&encrypted, "other"),
        (b"GET /\r\n", "http"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "other"),
    ];
    for (words, kind) in strangers {
        let answer = is_sent_away(daemon.peer(), words);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{kind} got {answer:?}");
    }
    check_visitors(&daemon, 1, 1, 1, 3);
    assert_eq!(spoken(&daemon), before, "the log speaks of strangers");
}

#[test]
fn crawlers_get_short_answers_and_count_once_each() {
    let daemon = daemon();
    let before = spoken(&daemon);
    for (target, status) in [("/", 200), ("/favicon.ico", 404), ("/robots.txt", 404), ("/announce?x", 404)] {
        let answer = request(daemon.peer(), "GET", target, &[("User-Agent", "crawler")]);
        assert_eq!(answer.status, status, "{target}");
        assert!((1..200).contains(&answer.body.len()), "{target}: {}", answer.text());
    }
    check_visitors(&daemon, 0, 0, 4, 0);
    let mut wire = Wire::connect(daemon.peer());
    for _ in 0..5 {
        wire.ask("GET", "/", &[]);
        assert_eq!(wire.response().unwrap().status, 200);
    }
    drop(wire);
    check_visitors(&daemon, 0, 0, 5, 0);
    assert_eq!(spoken(&daemon), before, "the log speaks of strangers");
}

#[test]
fn a_peer_is_no_visitor() {
    let daemon = daemon();
    let hash = format!("/hash/{}", Sha256::of(b"not held"));
    assert_eq!(get(daemon.peer(), &hash).status, 404);
    assert_eq!(get(daemon.peer(), &format!("{hash}/pieces")).status, 404);
    let mut wire = Wire::connect(daemon.peer());
    for target in ["/", &hash] {
        wire.ask("GET", target, &[("Connection", if target == "/" { "keep-alive" } else { "close" })]);
        wire.response().unwrap();
    }
    assert_eq!(wire.rest().unwrap(), b"");
    // One visitor behind them: when he is counted, they would have been.
    is_sent_away(daemon.peer(), HANDSHAKE);
    check_visitors(&daemon, 1, 0, 0, 0);
}

fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn a_thousand_that_say_nothing_or_one_byte_a_second_are_gone_in_time() {
    let daemon = daemon();
    let before = spoken(&daemon);
    let started = Instant::now();
    // From ten addresses: one of them alone would be turned away.
    let mut crowd: Vec<_> = (0..1000_u32)
        .map(|at| connect_from(Ipv4Addr::new(127, 0, 9, 1 + (at % 10) as u8), daemon.peer()))
        .collect();
    assert_eq!(get(daemon.peer(), "/").status, 200, "there is room for a peer beside them");
    let mut dripping = crowd.split_off(990);
    // Every byte might begin a request.
    while started.elapsed() < LIMIT && dripping.iter_mut().all(|stream| stream.write_all(b"G").is_ok()) {
        std::thread::sleep(Duration::from_secs(1));
    }
    for stream in crowd.iter_mut().chain(&mut dripping) {
        let left = LIMIT.saturating_sub(started.elapsed()).max(Duration::from_millis(100));
        stream.set_read_timeout(Some(left)).unwrap();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let open = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!open, "still there after {:?}", started.elapsed());
    }
    println!("all gone after {:?}", started.elapsed());
    check_visitors(&daemon, 0, 0, 1, 1000);
    assert_eq!(spoken(&daemon), before, "the log speaks of strangers");
}
