//! What our own peer port answers, to peers and to whoever else comes along.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use base64::Engine as _;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Response, Wire, get, request};
use crate::support::{noise, peers};

const PIECE: usize = 4 << 20;

/// How soon whoever does not speak HTTP has his answer, on a busy machine.
const QUICKLY: Duration = Duration::from_secs(3);

/// A daemon that holds one object of three pieces.
pub(crate) struct Holder {
    pub(crate) daemon: Daemon,
    pub(crate) object: Vec<u8>,
    id: Sha256,
}

impl Holder {
    fn new() -> Self {
        Self::with(Setup::new(), 2 * PIECE + 123_456)
    }

    pub(crate) fn with(setup: Setup, length: usize) -> Self {
        let daemon = setup.start();
        let object = noise(17, length);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("object.deb");
        std::fs::write(&file, &object).unwrap();
        let mut import = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
        import.arg("--config").arg(daemon.config()).args(["seed", "import"]).arg(&file);
        let output = import.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let id = Sha256::of(&object);
        Self { daemon, object, id }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.daemon.peer()
    }

    pub(crate) fn target(&self) -> String {
        format!("/hash/{}", self.id)
    }

    pub(crate) fn ask(&self, method: &str, headers: &[(&str, &str)]) -> Response {
        request(self.address(), method, &self.target(), headers)
    }

    /// The object's file in the cache.
    fn file(&self) -> PathBuf {
        let id = self.id.to_string();
        self.daemon.cache().join("v1/objects").join(&id[..2]).join(&id)
    }

    #[track_caller]
    fn check_alive(&self) {
        let response = self.ask("GET", &[("Range", "bytes=0-99")]);
        assert_eq!((response.status, &response.body[..]), (206, &self.object[..100]));
    }
}

#[track_caller]
fn check_headers(response: &Response, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(response.header(name), Some(*value), "{name} in {}", response.head);
    }
}

#[test]
fn an_object_comes_with_every_header_of_the_protocol() {
    let holder = Holder::new();
    let digest = base64::engine::general_purpose::STANDARD.encode(holder.id.as_bytes());
    let (etag, digest) = (format!("\"{}\"", holder.id), format!("sha-256=:{digest}:"));
    let length = holder.object.len().to_string();
    let described = [
        ("accept-ranges", "bytes"),
        ("etag", &*etag),
        ("repr-digest", &*digest),
        ("cache-control", "public, max-age=31536000, immutable"),
    ];
    let whole = holder.ask("GET", &[]);
    assert_eq!(whole.status, 200);
    assert!(whole.body == holder.object);
    check_headers(&whole, &described);
    check_headers(&whole, &[("content-length", &length)]);

    let head = holder.ask("HEAD", &[]);
    assert_eq!(head.status, 200);
    check_headers(&head, &described);
    check_headers(&head, &[("content-length", &length)]);

    let part = holder.ask("GET", &[("Range", "bytes=0-99")]);
    check_headers(&part, &described);
    let unchanged = holder.ask("GET", &[("If-None-Match", &etag)]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    check_headers(&unchanged, &described);
}

#[test]
fn ranges_are_answered_as_rfc_9110_says() {
    let holder = Holder::new();
    let (object, length) = (&holder.object, holder.object.len());
    let parts = [
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=5-".to_owned(), 5..length),
        ("bytes=-3".to_owned(), length - 3..length),
        ("bytes=-99999999999".to_owned(), 0..length),
        ("bytes=0-99999999999".to_owned(), 0..length),
        (format!("bytes={}-{}", PIECE - 5, PIECE + 4), PIECE - 5..PIECE + 5),
        (format!("bytes={}-{}", length - 1, length - 1), length - 1..length),
        ("BYTES=1-2".to_owned(), 1..3),
    ];
    for (range, expected) in parts {
        let response = holder.ask("GET", &[("Range", &range)]);
        assert_eq!(response.status, 206, "{range}");
        assert!(response.body == object[expected.clone()], "{range}");
        let said = format!("bytes {}-{}/{length}", expected.start, expected.end - 1);
        check_headers(&response, &[("content-range", &said)]);
    }
    for range in [format!("bytes={length}-"), format!("bytes={length}-{}", length + 5), "bytes=-0".to_owned()]
    {
        let response = holder.ask("GET", &[("Range", &range)]);
        assert_eq!(response.status, 416, "{range}");
        check_headers(&response, &[("content-range", &format!("bytes */{length}"))]);
    }
    // Several, another unit, and nonsense: the whole is always right (section 14.2).
    for range in ["bytes=0-1,5-6", "lines=0-3", "bytes=5-2", "bytes=a-b", "bytes=", "bytes=1-2-3", "0-5"] {
        let response = holder.ask("GET", &[("Range", range)]);
        assert_eq!((response.status, response.body.len()), (200, length), "{range}");
    }
}

#[test]
fn conditions_are_answered_as_rfc_9110_says() {
    let holder = Holder::new();
    let etag = format!("\"{}\"", holder.id);
    let other = format!("\"{}\"", Sha256::of(b"other"));
    let status = |headers: &[(&str, &str)]| holder.ask("GET", headers).status;
    assert_eq!(status(&[("If-None-Match", &etag)]), 304);
    assert_eq!(status(&[("If-None-Match", "*")]), 304);
    assert_eq!(status(&[("If-None-Match", &format!("{other}, {etag}"))]), 304);
    assert_eq!(status(&[("If-None-Match", &other)]), 200);
    assert_eq!(holder.ask("HEAD", &[("If-None-Match", &etag)]).status, 304);
    assert_eq!(status(&[("Range", "bytes=0-1"), ("If-Range", &etag)]), 206);
    assert_eq!(status(&[("Range", "bytes=0-1"), ("If-Range", &other)]), 200);
}

#[test]
fn the_piece_list_is_the_chain() {
    let holder = Holder::new();
    let target = format!("{}/pieces", holder.target());
    let response = get(holder.address(), &target);
    check_headers(&response, &[("content-type", "application/json")]);
    let states: Vec<String> = peers::states(&holder.object).iter().map(ToString::to_string).collect();
    let expected = serde_json::json!({
        "length": holder.object.len(), "piece_length": PIECE, "states": states, "have": "0-2",
    });
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&response.body).unwrap(), expected);
    let head = request(holder.address(), "HEAD", &target, &[]);
    assert_eq!((head.status, head.header("content-length")), (200, response.header("content-length")));
    let unknown = format!("/hash/{}/pieces", Sha256::of(b"unknown"));
    assert_eq!(get(holder.address(), &unknown).status, 404);
}

#[test]
fn the_root_says_who_we_are_and_nothing_else() {
    let holder = Holder::new();
    let response = get(holder.address(), "/");
    check_headers(&response, &[("content-type", "application/json")]);
    let expected =
        serde_json::json!({ "name": "aptpeer", "version": env!("CARGO_PKG_VERSION"), "protocol": 1 });
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&response.body).unwrap(), expected);
}

#[test]
fn what_is_not_here_is_not_found_and_other_methods_are_not_allowed() {
    let holder = Holder::new();
    let hex = holder.id.to_string();
    let unknown = format!("/hash/{}", Sha256::of(b"unknown"));
    let paths = [
        unknown.as_str(),
        "/hash",
        "/hash/",
        &format!("/hash/{}", &hex[1..]),
        &format!("/hash/{hex}0"),
        &format!("/hash/{hex}/"),
        &format!("/hash/{hex}/pieces/"),
        &format!("/hash/{hex}/../../../etc/passwd"),
        &format!("//hash/{hex}"),
        "/etc/passwd",
        "/metrics",
        "/stats",
        // The peer port is no proxy.
        "http://mirror.example.org/debian/dists/test/InRelease",
        "/mirror.example.org/debian/dists/test/InRelease",
    ];
    for path in paths {
        assert_eq!(get(holder.address(), path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let response = holder.ask(method, &[]);
        assert_eq!(response.status, 405, "{method}");
        check_headers(&response, &[("allow", "GET, HEAD")]);
    }
    let tunnel = request(holder.address(), "CONNECT", "mirror.example.org:443", &[]);
    assert_eq!(tunnel.status, 405);
    holder.check_alive();
}

#[test]
fn whoever_does_not_speak_http_is_gone_quickly() {
    let holder = Holder::new();
    let tls_hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\x00\x01\x02\x03\x04\x05\x06\x07";
    let bittorrent = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbb";
    let noise = noise(3, 4096);
    let words: [&[u8]; 7] = [
        tls_hello,
        bittorrent,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nbad header\r\n\r\n",
        &noise,
    ];
    for word in words {
        let started = Instant::now();
        let mut wire = Wire::connect(holder.address());
        wire.send(word);
        wire.finish_sending();
        // A reset is an answer, too.
        let answer = wire.rest().unwrap_or_default();
        assert!(started.elapsed() < QUICKLY, "{word:?} took {:?}", started.elapsed());
        let answer = String::from_utf8_lossy(&answer);
        let refused =
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505");
        assert!(refused, "{word:?} got {answer}");
    }
    holder.check_alive();
}

#[test]
fn a_request_that_never_ends_is_given_up() {
    let holder = Holder::new();
    let half = |drip: Option<Duration>| {
        let address = holder.address();
        move || {
            let started = Instant::now();
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ").unwrap();
            stream.set_read_timeout(Some(drip.unwrap_or(Duration::from_secs(30)))).unwrap();
            let mut answer = Vec::new();
            let mut block = [0; 1024];
            loop {
                match stream.read(&mut block) {
                    Ok(0) => break,
                    Ok(count) => answer.extend_from_slice(&block[..count]),
                    // Nothing came while we waited: another byte, as slowly as that.
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && drip.is_some() => {
                        if stream.write_all(b"a").is_err() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
                assert!(started.elapsed() < Duration::from_secs(30), "still there");
            }
            (started.elapsed(), String::from_utf8_lossy(&answer).into_owned())
        }
    };
    std::thread::scope(|scope| {
        let silent = scope.spawn(half(None));
        let dripping = scope.spawn(half(Some(Duration::from_millis(300))));
        let mute = scope.spawn({
            let address = holder.address();
            move || {
                let started = Instant::now();
                let count = TcpStream::connect(address).unwrap().read(&mut [0; 100]).unwrap_or(0);
                (started.elapsed(), count)
            }
        });
        for given_up in [silent, dripping] {
            let (after, answer) = given_up.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
            assert!((9..15).contains(&after.as_secs()), "after {after:?}");
        }
        let (after, _) = mute.join().unwrap();
        assert!(after < Duration::from_secs(15), "a connection without a byte was kept for {after:?}");
    });
    holder.check_alive();
}

#[test]
fn a_header_of_a_hundred_megabytes_is_cut_off_early() {
    let holder = Holder::new();
    let mut stream = TcpStream::connect(holder.address()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nX-Noise: ").unwrap();
    let block = [b'a'; 64 << 10];
    let mut sent = 0;
    while sent < 100_000_000 && stream.write_all(&block).is_ok() {
        sent += block.len();
    }
    println!("cut off after {sent} bytes");
    assert!(sent < 20_000_000, "{sent} bytes of a header were taken");
    holder.check_alive();

    // Just beyond the limit, and then patient: the answer can be read.
    let mut wire = Wire::connect(holder.address());
    wire.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-Noise: {}\r\n\r\n", "a".repeat(70_000)).as_bytes());
    assert_eq!(wire.head().unwrap().status, 431);
}

pub(crate) fn connect_from(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// The status of an answer to `GET /` on a connection that stays open.
fn status_on(stream: &mut TcpStream) -> u16 {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A connection that is turned away may be reset before it has said anything.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) => std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap(),
        Err(_) => 0,
    }
}

#[test]
fn two_hundred_connections_of_one_host_leave_room_for_others() {
    let holder = Holder::new();
    let (one, other) = (IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 3]));
    let mut crowd: Vec<TcpStream> = (0..200).map(|_| connect_from(one, holder.address())).collect();
    let answers: Vec<u16> = crowd.iter_mut().map(status_on).collect();
    let served = answers.iter().filter(|status| **status == 200).count();
    assert_eq!(served, 128, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 200 | 503 | 0)), "{answers:?}");
    let mut others: Vec<TcpStream> = (0..72).map(|_| connect_from(other, holder.address())).collect();
    assert!(others.iter_mut().all(|stream| status_on(stream) == 200));

    drop(crowd);
    let again = crate::support::wait_for(Duration::from_secs(10), || {
        (status_on(&mut connect_from(one, holder.address())) == 200).then_some(())
    });
    assert!(again.is_some(), "whoever hung up still counts");
    holder.check_alive();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let holder = Holder::new();
    let mut wire = Wire::connect(holder.address());
    for at in 0..20 {
        let range = format!("bytes={}-{}", at * 1000, at * 1000 + 999);
        wire.ask("GET", &holder.target(), &[("Range", &range)]);
        wire.ask("HEAD", &holder.target(), &[]);
        wire.ask("GET", "/nothing", &[]);
    }
    for at in 0..20 {
        let part = wire.response().unwrap();
        assert!(part.body == holder.object[at * 1000..at * 1000 + 1000], "{at}");
        assert_eq!(wire.response_to("HEAD").unwrap().status, 200);
        assert_eq!(wire.response().unwrap().status, 404);
    }
}

#[test]
fn taken_upload_slots_are_said_and_given_back() {
    let setup = Setup::new().with("[transfer]\nmax_concurrent_uploads = 2\n");
    let holder = Holder::with(setup, 48_000_000);
    let hold = |from: u8| {
        let mut wire = Wire::over(connect_from([127, 0, 0, from].into(), holder.address()));
        wire.ask("GET", &holder.target(), &[]);
        assert_eq!(wire.head().unwrap().status, 200);
        wire
    };
    let (first, second) = (hold(2), hold(3));
    let refused = holder.ask("GET", &[]);
    assert_eq!(refused.status, 503);
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    // What needs no slot is answered all the same.
    assert_eq!(holder.ask("HEAD", &[]).status, 200);
    assert_eq!(get(holder.address(), &format!("{}/pieces", holder.target())).status, 200);
    drop(first);
    let again = crate::support::wait_for(Duration::from_secs(10), || {
        (holder.ask("GET", &[("Range", "bytes=0-9")]).status == 206).then_some(())
    });
    assert!(again.is_some(), "the slot of whoever hung up is not given back");
    drop(second);
}

/// Asks for everything and takes what comes: never a byte that is not the object's, never all of it.
fn check_not_served(holder: &Holder) {
    let mut wire = Wire::connect(holder.address());
    wire.ask("GET", &holder.target(), &[("Connection", "close")]);
    let head = wire.head().unwrap();
    let body = wire.rest().unwrap_or_default();
    println!("{} and {} bytes", head.status, body.len());
    if head.status == 200 {
        assert!(body.len() < holder.object.len(), "a damaged object was served whole");
        assert!(body == holder.object[..body.len()], "damaged bytes were served");
    }
    assert_eq!(holder.ask("GET", &[]).status, 404, "a damaged object is offered again");
    assert_eq!(get(holder.address(), &format!("{}/pieces", holder.target())).status, 404);
}

#[test]
fn an_object_that_was_changed_on_disk_is_not_served() {
    for (served_before, keep_date) in [(false, false), (true, false), (true, true)] {
        let holder = Holder::new();
        if served_before {
            assert!(holder.ask("GET", &[]).body == holder.object);
        }
        let file = std::fs::File::options().write(true).open(holder.file()).unwrap();
        let date = file.metadata().unwrap().modified().unwrap();
        let at = PIECE + 1000;
        file.write_all_at(&[holder.object[at] ^ 1], at as u64).unwrap();
        if keep_date {
            file.set_modified(date).unwrap();
        }
        drop(file);
        check_not_served(&holder);
        let failures = "aptpeer_verification_failures_total{reason=\"stored\"}";
        assert_eq!(crate::world::metric(&holder.daemon.metrics(), failures), 1, "found once, and gone since");
    }
}

#[test]
fn an_object_that_was_truncated_on_disk_is_not_served() {
    for served_before in [false, true] {
        let holder = Holder::new();
        if served_before {
            assert!(holder.ask("GET", &[]).body == holder.object);
        }
        std::fs::File::options().write(true).open(holder.file()).unwrap().set_len(PIECE as u64).unwrap();
        check_not_served(&holder);
        let mut daemon = holder.daemon;
        assert!(daemon.terminate().success(), "it did not survive: {}", daemon.log());
    }
}
