//! Whatever a stranger can send, parsed: nothing panics, nothing hangs, and what is taken is what was asked for.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aptpeer::digest::Sha256;
use aptpeer::peer::{ListAnswer, PeerClient, PeerError};
use aptpeer::pieces::Geometry;
use aptpeer::wire::{MAX_WAIT_SECONDS, PeerTarget, PieceListMessage, hash_path, pieces_path, preferred_wait};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};

use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::http::Wire;
use crate::support::server::Server;

/// A fetch that takes longer from a peer that answers at once and hangs up has hung.
const LIMIT: Duration = Duration::from_secs(10);

/// How many answers the client is given.
const ANSWERS: u32 = 400;

proptest! {
    #[test]
    fn a_target_that_is_read_spells_itself(path in "(/hash/)?[0-9a-fA-F/?.%a-z]{0,80}") {
        if let Some(target) = PeerTarget::parse(&path) {
            let spelled = match target {
                PeerTarget::Root => "/".to_owned(),
                PeerTarget::Object(id) => hash_path(&id),
                PeerTarget::Pieces(id) => pieces_path(&id),
                PeerTarget::Have => "/have".to_owned(),
                PeerTarget::Neighbours => "/neighbours".to_owned(),
            };
            prop_assert_eq!(PeerTarget::parse(&spelled), Some(target));
            prop_assert!(path.to_ascii_lowercase().starts_with(&spelled));
        }
    }

    #[test]
    fn any_text_is_a_target_or_none(path in any::<String>(), hex in "[0-9a-f]{62,66}", tail in any::<String>()) {
        let _ = PeerTarget::parse(&path);
        let target = PeerTarget::parse(&format!("/hash/{hex}{tail}"));
        prop_assert!(target.is_none() || hex.len() == 64 || tail.starts_with(|c: char| c.is_ascii_hexdigit()));
    }

    #[test]
    fn no_preference_makes_us_wait_longer_than_the_limit(header in "[a-z]{0,8}[,;= \"]{0,3}wait ?= ?\"?[0-9]{0,30}\"?.{0,20}", any in any::<String>()) {
        prop_assert!(preferred_wait(&header).is_none_or(|seconds| seconds <= MAX_WAIT_SECONDS));
        prop_assert!(preferred_wait(&any).is_none_or(|seconds| seconds <= MAX_WAIT_SECONDS));
    }

    #[test]
    fn a_list_survives_being_written_and_read(message in message()) {
        let read = PieceListMessage::from_json(message.to_json().as_bytes()).unwrap();
        prop_assert_eq!(read, message);
    }

    #[test]
    fn a_damaged_list_is_refused_or_read_but_never_worse(
        message in message(),
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..6),
        cut in any::<bool>(),
    ) {
        let mut json = message.to_json().into_bytes();
        let at = at.index(json.len());
        if cut {
            json.truncate(at);
        }
        let end = (at + bytes.len()).min(json.len());
        json.splice(at..end, bytes);
        if let Ok(read) = PieceListMessage::from_json(&json) {
            let again = PieceListMessage::from_json(read.to_json().as_bytes()).unwrap();
            prop_assert_eq!(again, read);
        }
    }

    #[test]
    fn odd_documents_are_refused(json in document()) {
        if let Ok(read) = PieceListMessage::from_json(json.as_bytes()) {
            prop_assert!(read.have.iter().all(|run| run.start() <= run.end()));
            prop_assert!(read.have.len() <= 8192);
        }
    }
}

fn message() -> impl Strategy<Value = PieceListMessage> {
    let run = (any::<u32>(), any::<u32>()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    let states = prop::collection::vec(any::<Option<[u8; 32]>>(), 0..20);
    (any::<u64>(), states, prop::collection::vec(run, 0..20))
        .prop_map(|(length, states, have)| PieceListMessage { length, states, have, intent: None })
}

/// JSON of about the right shape with values of any.
fn document() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just("[[[[[[[[".to_owned()),
        Just("[]".to_owned()),
        Just("4194304".to_owned()),
        Just("-1".to_owned()),
        Just("1e400".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("\"0-4294967295\"".to_owned()),
        Just("\"0-0,0-0,5-2\"".to_owned()),
        Just(format!("\"{}\"", "0,".repeat(9000))),
        Just(format!("[{}null]", "null,".repeat(1000))),
        Just(format!("[\"{}\"]", "aé".repeat(21))),
        any::<u64>().prop_map(|number| number.to_string()),
        "[0-9,-]{0,30}".prop_map(|text| format!("\"{text}\"")),
        "\\PC{0,20}".prop_map(|text| format!("{text:?}")),
    ];
    let values = (value.clone(), value.clone(), value.clone(), value);
    values.prop_map(|(length, piece_length, states, have)| {
        format!("{{\"length\":{length},\"piece_length\":{piece_length},\"states\":{states},\"have\":{have}}}")
    })
}

/// A peer that says the same to every request, and hangs up.
struct Parrot {
    server: Server,
    words: Arc<Mutex<Vec<u8>>>,
}

impl Parrot {
    fn new() -> Self {
        let words = Arc::new(Mutex::new(Vec::new()));
        let server = Server::start({
            let words = Arc::clone(&words);
            move |connection| {
                if connection.next_request()?.is_some() {
                    let said = words.lock().unwrap().clone();
                    connection.send(&said)?;
                }
                Ok(())
            }
        });
        Self { server, words }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn say(&self, words: &[u8]) {
        words.clone_into(&mut self.words.lock().unwrap());
    }
}

/// Asks the parrot everything that there is to ask, and looks at what the client makes of its words.
fn ask_everything(parrot: &Parrot, runtime: &tokio::runtime::Runtime, words: &[u8]) -> TestCaseResult {
    parrot.say(words);
    // A client of its own each time: what one answer did to a connection is no other's business.
    let client = PeerClient::new();
    let id = Sha256::of(b"anything");
    let length = 9_000_000;
    let geometry = Geometry::new(length).unwrap();
    let all = async {
        let _ = client.length(parrot.address(), id).await;
        if let Ok(ListAnswer::List { list, have, .. }) =
            client.list(parrot.address(), id, geometry, None).await
        {
            prop_assert_eq!(list.inner().len(), 2);
            prop_assert!((3..10).all(|piece| !have.contains(piece)));
        }
        for range in [0..length, 0..1000, 4_194_304..4_195_304] {
            let read = read(&client, parrot.address(), id, range.clone(), length).await;
            if let Some(count) = read {
                prop_assert_eq!(count, range.end - range.start);
            }
        }
        Ok(())
    };
    match runtime.block_on(async { tokio::time::timeout(LIMIT, all).await }) {
        Ok(result) => result,
        Err(_) => Err(TestCaseError::fail("the client hung")),
    }
}

/// Reads a range to its end; how many bytes came, `None` where the client found fault with them.
async fn read(
    client: &PeerClient,
    peer: SocketAddr,
    id: Sha256,
    range: Range<u64>,
    length: u64,
) -> Option<u64> {
    let mut body = client.open(peer, id, range, length).await.ok()?;
    let mut count = 0;
    loop {
        match body.next().await {
            Ok(Some(bytes)) => count += bytes.len() as u64,
            Ok(None) => return Some(count),
            Err(PeerError::NotHeld | PeerError::Busy | PeerError::Fault { .. }) => return None,
        }
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_client_survives_any_bytes() {
    let (parrot, runtime) = (Parrot::new(), runtime());
    let words = prop::collection::vec(any::<u8>(), 0..2000);
    runner(ANSWERS).run(&words, |words| ask_everything(&parrot, &runtime, &words)).unwrap();
}

#[test]
fn the_client_survives_any_answer_that_looks_like_one() {
    let (parrot, runtime) = (Parrot::new(), runtime());
    runner(ANSWERS).run(&answer(), |words| ask_everything(&parrot, &runtime, &words)).unwrap();
}

/// An HTTP answer whose parts need not fit together.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        Just("200"),
        Just("206"),
        Just("204"),
        Just("304"),
        Just("404"),
        Just("416"),
        Just("503"),
        Just("100"),
        Just("103"),
        Just("101"),
        Just("301"),
        Just("999"),
        Just("000"),
        Just("20"),
        Just("2000"),
    ];
    let version =
        prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0"), 1 => Just("HTTP/2"), 1 => Just("ICY")];
    let field = prop_oneof![
        Just("Content-Length: 1000".to_owned()),
        Just("Content-Length: 9000000".to_owned()),
        Just("Content-Length: -1".to_owned()),
        Just("Content-Length: 18446744073709551615".to_owned()),
        Just("Content-Length: 5, 5".to_owned()),
        Just("Transfer-Encoding: chunked".to_owned()),
        Just("Transfer-Encoding: gzip, chunked".to_owned()),
        Just("Content-Encoding: gzip".to_owned()),
        Just("Content-Range: bytes 4194304-4195303/9000000".to_owned()),
        Just("Content-Range: bytes 0-999/9000000".to_owned()),
        Just("Content-Range: bytes 0-999/*".to_owned()),
        Just("Content-Range: bytes */9000000".to_owned()),
        Just("Content-Range: bytes 999-0/9000000".to_owned()),
        Just("Connection: close".to_owned()),
        Just("Connection: upgrade\r\nUpgrade: h2c".to_owned()),
        Just(" folded: value".to_owned()),
        Just("Location: http://127.0.0.1:1/".to_owned()),
        "[A-Za-z-]{1,10}: \\PC{0,30}",
    ];
    let body = prop_oneof![
        (0_usize..2000).prop_map(|count| vec![b'x'; count]),
        (0_usize..2000, 0_usize..2000).prop_map(|(said, sent)| {
            let mut chunk = format!("{said:x}\r\n").into_bytes();
            chunk.extend(vec![b'x'; sent]);
            chunk.extend(b"\r\n0\r\n\r\n");
            chunk
        }),
        Just(b"ffffffffffffffffffff\r\nxxx".to_vec()),
        document().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..200),
    ];
    let interim = prop_oneof![4 => Just(0_usize), 1 => 1_usize..50];
    (interim, version, status, prop::collection::vec(field, 0..5), body).prop_map(
        |(interim, version, status, fields, body)| {
            let mut answer = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(interim);
            answer += &format!("{version} {status} Whatever\r\n");
            for field in fields {
                answer += &field;
                answer += "\r\n";
            }
            answer += "\r\n";
            [answer.into_bytes(), body].concat()
        },
    )
}

#[test]
fn our_own_server_survives_any_bytes() {
    let daemon = Daemon::start();
    let address = daemon.peer();
    let request = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        "(GET|HEAD|POST|[A-Z]{1,9}) [/a-z0-9%?:*]{0,80} HTTP/1.[01]\r\n([A-Za-z-]{1,12}: [ -~]{0,40}\r\n){0,5}\r\n"
            .prop_map(String::into_bytes),
        "GET /hash/[0-9a-f]{64}(/pieces)? HTTP/1.1\r\nHost: x\r\n(Range|If-Range|If-None-Match|Prefer|Content-Length|Transfer-Encoding|Connection): [ -~]{0,40}\r\n\r\n"
            .prop_map(String::into_bytes),
    ];
    runner(ANSWERS)
        .run(&request, |request| {
            let mut wire = Wire::connect(address);
            wire.patience(LIMIT);
            wire.send(&request);
            wire.finish_sending();
            // Whatever it says, it hangs up by itself; a reset is as good.
            match wire.rest() {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    Err(TestCaseError::fail("the connection was kept"))
                }
                Ok(answer) if !answer.is_empty() => {
                    prop_assert!(answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
                    Ok(())
                }
                _ => Ok(()),
            }
        })
        .unwrap();
    assert_eq!(http::get(address, "/").status, 200);
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{log}");
}
