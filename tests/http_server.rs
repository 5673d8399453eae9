//! The HTTP server on real sockets: order, limits, drain, and reading ahead.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aptpeer::http::{Body, Conn, Hangup, Head, Limits, Overflow, Site, Tunnel, serve, text};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for anything that should happen, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

struct Server {
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start<S: Site>(limits: Limits, site: S) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, limits, Arc::new(site), shutdown.clone()));
        Self { addr, shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("serve returns").unwrap();
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("in time")
}

/// Everything until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// One answer with a Content-Length: its head and its body.
async fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    soon(stream.read_exact(&mut body)).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Answers with the method, the target and the request's body.
async fn echo(request: Request<Incoming>, _: Conn) -> Result<Response<Body>, Hangup> {
    let line = format!("{} {}\n", request.method(), request.uri());
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Ok(Response::new(Body::full([line.as_bytes(), &body].concat())))
}

/// Holds every answer back until it is given a permit, and tells of every hint.
struct Held {
    gate: Arc<Semaphore>,
    hints: mpsc::UnboundedSender<String>,
}

impl Site for Held {
    type State = ();

    async fn answer(&self, request: Request<Incoming>, conn: Conn) -> Result<Response<Body>, Hangup> {
        self.gate.acquire().await.unwrap().forget();
        echo(request, conn).await
    }

    fn foresee(&self, head: &Head, _: &Conn) {
        let host = head.headers.get("host").unwrap().to_str().unwrap();
        self.hints.send(format!("{} {} {host}", head.method, head.target)).unwrap();
    }
}

#[tokio::test]
async fn pipelined_requests_are_foreseen_while_the_first_answer_is_held_back() {
    let gate = Arc::new(Semaphore::new(0));
    let (hints, mut hinted) = mpsc::unbounded_channel();
    let server = Server::start(Limits::local(), Held { gate: gate.clone(), hints }).await;
    let mut client = server.connect().await;
    // apt sends them in several segments, and the later ones when the first is long being answered.
    for n in 0..10 {
        let request = format!("GET http://mirror.example.org/{n}%2b.deb HTTP/1.1\r\nHost: m{n}\r\n\r\n");
        let (first, second) = request.split_at(7 * n % request.len());
        client.write_all(first.as_bytes()).await.unwrap();
        client.write_all(second.as_bytes()).await.unwrap();
        let hint = soon(hinted.recv()).await.unwrap();
        assert_eq!(hint, format!("GET http://mirror.example.org/{n}%2b.deb m{n}"));
    }
    gate.add_permits(10);
    for n in 0..10 {
        let (_, body) = answer(&mut client).await;
        assert_eq!(body, format!("GET http://mirror.example.org/{n}%2b.deb\n"));
    }
    drop(client);
    server.stop().await;
    assert_eq!(hinted.recv().await, None, "every request is foreseen once");
}

#[tokio::test]
async fn a_client_that_only_asks_is_not_foreseen_without_end() {
    let gate = Arc::new(Semaphore::new(0));
    let (hints, mut hinted) = mpsc::unbounded_channel();
    let server = Server::start(Limits::local(), Held { gate: gate.clone(), hints }).await;
    let mut client = server.connect().await;
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    client.write_all(requests.as_bytes()).await.unwrap();
    for _ in 0..32 {
        soon(hinted.recv()).await.unwrap();
    }
    gate.add_permits(1000);
    for _ in 0..1000 {
        answer(&mut client).await;
    }
    server.stop().await;
    let mut more = 0;
    while hinted.recv().await.is_some() {
        more += 1;
    }
    assert!(more < 968, "hints went far beyond the answers: {more}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn answers_come_in_order_and_whole_however_the_requests_are_cut(
        bodies in prop::collection::vec(prop::option::of(0_usize..100_000), 1..14),
        cuts in prop::collection::vec(1_usize..3000, 0..60),
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let server = Server::start(Limits::local(), echo).await;
            let (mut read, mut write) = server.connect().await.into_split();
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            for (n, length) in bodies.iter().enumerate() {
                let body = "\r\n\r\nGET /x HTTP/1.1".repeat(length.unwrap_or(0) / 19);
                let method = if length.is_some() { "POST" } else { "GET" };
                let length = if length.is_some() { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
                sent.extend(format!("{method} /{n} HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}").bytes());
                expected.push(format!("{method} /{n}\n{body}"));
            }
            let writer = tokio::spawn(async move {
                let mut rest = &sent[..];
                for cut in cuts {
                    let (part, after) = rest.split_at(cut.min(rest.len()));
                    write.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = after;
                }
                write.write_all(rest).await.unwrap();
                write
            });
            for expected in expected {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(soon(read.read_u8()).await.unwrap());
                }
                let mut body = vec![0; expected.len()];
                soon(read.read_exact(&mut body)).await.unwrap();
                assert!(body == expected.as_bytes(), "another body than expected");
            }
            drop(writer.await.unwrap());
            server.stop().await;
        });
    }
}

#[tokio::test]
async fn a_hangup_closes_without_a_byte_after_the_answers_before_it() {
    let site = |request: Request<Incoming>, conn: Conn| async move {
        if request.uri().path() == "/gone" { Err(Hangup) } else { echo(request, conn).await }
    };
    let server = Server::start(Limits::local(), site).await;
    let mut client = server.connect().await;
    let requests = ["/1", "/gone", "/3"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.write_all(requests.concat().as_bytes()).await.unwrap();
    assert_eq!(answer(&mut client).await.1, "GET /1\n");
    assert_eq!(rest(&mut client).await, "", "no answer, and no reset either");
    server.stop().await;
}

#[tokio::test]
async fn http_1_0_gets_a_length_and_a_close_unless_it_asks_to_stay() {
    let server = Server::start(Limits::local(), echo).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /old HTTP/1.0\r\n\r\n").await.unwrap();
    let all = rest(&mut client).await.to_ascii_lowercase();
    assert!(all.contains("content-length: 9\r\n") && all.ends_with("\r\n\r\nget /old\n"), "{all}");

    let mut client = server.connect().await;
    for _ in 0..2 {
        client.write_all(b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        let (head, body) = answer(&mut client).await;
        assert!(head.contains("connection: keep-alive"), "{head}");
        assert_eq!(body, "GET /old\n");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_of_unknown_length_is_chunked_or_ends_with_the_connection() {
    let site = |_: Request<Incoming>, _: Conn| async {
        let chunks =
            futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from("abc")), Ok(Bytes::from("de"))]);
        Ok(Response::new(Body::stream(chunks, None)))
    };
    let server = Server::start(Limits::local(), site).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let all = rest(&mut client).await;
    assert!(
        all.contains("transfer-encoding: chunked") && all.ends_with("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        "{all}"
    );
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let all = rest(&mut client).await;
    assert!(!all.contains("chunked") && all.ends_with("\r\n\r\nabcde"), "{all}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_fails_or_falls_short_closes_the_connection() {
    for chunks in [vec![Ok("abc"), Err("the disk is gone")], vec![Ok("abc")]] {
        let site = move |_: Request<Incoming>, _: Conn| {
            let chunks = chunks.clone().into_iter().map(|chunk| chunk.map(Bytes::from));
            async { Ok(Response::new(Body::stream(futures_util::stream::iter(chunks), Some(9)))) }
        };
        let server = Server::start(Limits::local(), site).await;
        let mut client = server.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let all = rest(&mut client).await;
        assert!(all.contains("content-length: 9") || all.is_empty(), "{all}");
        assert!(!all.contains("\r\n\r\nabc\0"), "{all}");
        server.stop().await;
    }
}

#[tokio::test]
async fn head_announces_the_length_that_get_would_have() {
    let site = |request: Request<Incoming>, _: Conn| async move {
        let body = if *request.method() == Method::HEAD { Body::absent(12345) } else { Body::full("x") };
        Ok(Response::new(body))
    };
    let server = Server::start(Limits::local(), site).await;
    let mut client = server.connect().await;
    client.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let all = rest(&mut client).await;
    assert!(all.contains("content-length: 12345\r\n") && all.ends_with("\r\n\r\n"), "{all}");
    server.stop().await;
}

#[tokio::test]
async fn small_answers_arrive_with_their_head_in_one_segment() {
    let server = Server::start(Limits::local(), echo).await;
    let mut client = server.connect().await;
    client.set_nodelay(true).unwrap();
    for n in 0..300 {
        client.write_all(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut first = [0; 4096];
        let length = soon(client.read(&mut first)).await.unwrap();
        assert!(
            first[..length].ends_with(format!("\r\n\r\nGET /{n}\n").as_bytes()),
            "cut in two at request {n}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn nonsense_is_answered_or_closed_at_once() {
    let server = Server::start(Limits::local(), echo).await;
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    let long = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(70 * 1024));
    let hello = "\x16\x03\x01\x02\0\x01\0\x01\u{7f}";
    let torrent = "\x13BitTorrent protocol\0\0\0\0\0\0\0\0";
    for (sent, status) in [
        ("GET\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        (&many, "431"),
        (&long, "431"),
        (hello, "400"),
        (torrent, "400"),
    ] {
        let mut client = server.connect().await;
        client.write_all(sent.as_bytes()).await.unwrap();
        let all = rest(&mut client).await;
        assert!(all.starts_with(&format!("HTTP/1.1 {status}")), "{sent:.40?} got {all:?}");
    }
    server.stop().await;
}

fn short(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::local();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn a_request_that_trickles_in_is_answered_408_and_silence_is_closed() {
    let short_head = short(|limits| limits.head = Duration::from_millis(300));
    let server = Server::start(short_head, echo).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let all = rest(&mut client).await;
    assert!(all.starts_with("HTTP/1.1 408 ") && all.ends_with("the request did not arrive in time"), "{all}");
    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, "");
    server.stop().await;

    let server = Server::start(short(|limits| limits.idle = Duration::from_millis(300)), echo).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    answer(&mut client).await;
    assert_eq!(rest(&mut client).await, "", "an idle connection ends without a word");
    server.stop().await;
}

/// An endless answer, which tells when it is dropped.
fn endless(dropped: watch::Sender<bool>) -> impl Site {
    struct Tell(watch::Sender<bool>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.send_replace(true);
        }
    }
    move |_: Request<Incoming>, _: Conn| {
        let tell = Tell(dropped.clone());
        let chunk = Bytes::from(vec![0; 64 * 1024]);
        let chunks = futures_util::stream::repeat_with(move || {
            let _kept = &tell;
            Ok::<_, Infallible>(chunk.clone())
        });
        async { Ok(Response::new(Body::stream(chunks, None))) }
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let (dropped, mut told) = watch::channel(false);
    let server =
        Server::start(short(|limits| limits.write = Duration::from_millis(500)), endless(dropped)).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    soon(told.wait_for(|dropped| *dropped)).await.unwrap();
    server.stop().await;
    drop(client);
}

#[tokio::test]
async fn a_client_that_takes_a_little_now_and_then_is_kept() {
    let (dropped, told) = watch::channel(false);
    let limits = short(|limits| {
        limits.write = Duration::from_millis(1500);
        limits.grace = Duration::ZERO;
    });
    let server = Server::start(limits, endless(dropped)).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    let mut some = vec![0; 1024 * 1024];
    for _ in 0..15 {
        pace.tick().await;
        soon(client.read_exact(&mut some)).await.unwrap();
    }
    assert!(!*told.borrow(), "dropped although it read all the time");
    server.stop().await;
}

#[tokio::test]
async fn a_full_proxy_lets_clients_wait_and_a_full_peer_turns_them_away() {
    let one = |overflow| short(|limits| (limits.connections, limits.overflow) = (1, overflow));
    let server = Server::start(one(Overflow::Queue), echo).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    answer(&mut first).await;
    let mut second = server.connect().await;
    second.write_all(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), second.readable()).await;
    assert!(early.is_err(), "the second waits");
    drop(first);
    assert_eq!(answer(&mut second).await.1, "GET /second\n");
    drop(second);
    server.stop().await;

    let server = Server::start(one(Overflow::TurnAway), echo).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    answer(&mut first).await;
    let mut second = server.connect().await;
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 503 "));
    server.stop().await;
}

#[tokio::test]
async fn one_origin_cannot_take_all_connections() {
    let server = Server::start(short(|limits| limits.connections_per_origin = 2), echo).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        answer(&mut client).await;
        kept.push(client);
    }
    assert!(rest(&mut server.connect().await).await.starts_with("HTTP/1.1 503 "));
    // Another origin, still welcome.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(server.addr).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    answer(&mut other).await;
    // And the first again, once it has left room.
    kept.clear();
    let again = async {
        loop {
            let mut client = server.connect().await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            if rest(&mut client).await.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    };
    soon(again).await;
    server.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_the_answer_in_flight_and_cuts_the_rest_after_the_grace_period() {
    let gate = Arc::new(Semaphore::new(0));
    let (hints, mut hinted) = mpsc::unbounded_channel();
    let server = Server::start(Limits::local(), Held { gate: gate.clone(), hints }).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /last HTTP/1.1\r\nHost: a\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    soon(hinted.recv()).await.unwrap();
    server.shutdown.cancel();
    assert_eq!(rest(&mut idle).await, "");
    assert!(!server.task.is_finished(), "an answer is in flight");
    gate.add_permits(2);
    let (head, body) = answer(&mut busy).await;
    assert_eq!(body, "GET /last\n");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(rest(&mut busy).await, "");
    assert!(TcpStream::connect(server.addr).await.is_err(), "nobody listens any more");
    server.stop().await;

    let (hints, mut hinted) = mpsc::unbounded_channel();
    let held = Held { gate: Arc::new(Semaphore::new(0)), hints };
    let server = Server::start(short(|limits| limits.grace = Duration::from_millis(200)), held).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    soon(hinted.recv()).await.unwrap();
    server.stop().await;
    assert_eq!(hinted.recv().await, None, "the site is gone with its connections");
    assert_eq!(busy.read(&mut [0; 10]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_client_that_has_closed_its_side_still_gets_its_answers() {
    let server = Server::start(Limits::local(), echo).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let all = rest(&mut client).await;
    assert!(all.contains("GET /1\n") && all.ends_with("GET /2\n"), "{all}");
    server.stop().await;
}

#[tokio::test]
async fn a_connect_becomes_a_tunnel_that_loses_no_early_byte() {
    let site = |_: Request<Incoming>, _: Conn| async {
        let mut response = Response::new(Body::empty());
        Tunnel::attach(&mut response, |mut bare| async move {
            let mut bytes = [0; 9];
            bare.read_exact(&mut bytes).await.unwrap();
            bytes.reverse();
            bare.write_all(&bytes).await.unwrap();
            bare.shutdown().await.unwrap();
        });
        Ok(response)
    };
    let server = Server::start(Limits::local(), site).await;
    let mut client = server.connect().await;
    client.write_all(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\nearly").await.unwrap();
    let (head, _) = answer(&mut client).await;
    assert!(head.starts_with("http/1.1 200 ") && !head.contains("content-length"), "{head}");
    client.write_all(b"late").await.unwrap();
    assert_eq!(rest(&mut client).await, "etalylrae");
    server.stop().await;
}

#[tokio::test]
async fn a_site_that_panics_costs_one_connection() {
    let site = |request: Request<Incoming>, conn: Conn| async move {
        assert_ne!(request.uri().path(), "/panic", "as asked");
        echo(request, conn).await
    };
    let server = Server::start(Limits::local(), site).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(client.read(&mut [0; 10]).await.unwrap_or(0), 0);
    let mut client = server.connect().await;
    client.write_all(b"GET /fine HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut client).await.1, "GET /fine\n");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_has_a_memory_of_its_own() {
    #[derive(Default)]
    struct Count(Mutex<u32>);
    struct Counting;
    impl Site for Counting {
        type State = Count;
        async fn answer(&self, _: Request<Incoming>, conn: Conn<Count>) -> Result<Response<Body>, Hangup> {
            let mut count = conn.state.0.lock().unwrap();
            *count += 1;
            Ok(text(StatusCode::OK, count.to_string()))
        }
    }
    let server = Server::start(Limits::local(), Counting).await;
    for _ in 0..2 {
        let mut client = server.connect().await;
        for n in 1..=3 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            assert_eq!(answer(&mut client).await.1, format!("{n}\n"));
        }
    }
    server.stop().await;
}
