//! docs/protocol.md against the code: every vector, table and limit that the document states is read out of it here, so
//! that the two cannot differ.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aptpeer::digest::{InfoHash, Sha256};
use aptpeer::http::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use aptpeer::http::{Limits, serve};
use aptpeer::metrics::Metrics;
use aptpeer::peer::{NoParts, PeerSite, PeerSiteConfig};
use aptpeer::pieces::{ChainWalk, Geometry, MAX_LENGTH, PIECE_LENGTH, PieceList, PieceSet, State};
use aptpeer::store::{Origin, Store, StoreConfig};
use aptpeer::swarm::PeerFault;
use aptpeer::wire::{
    CHUNK_STATES, HEAD_STATES, LIST_SEQUENCE, ListHead, ListItems, MAX_CHUNKS, MAX_PIECE_LIST_BYTES,
    MAX_STATES, MAX_WAIT_SECONDS, PROTOCOL_VERSION, PeerTarget, PieceListMessage, chunk_states, list_seed,
    listed_states,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The longest object of the document's vectors for peers.
const LONGEST: usize = 9_000_000;

/// The object of the document whose list in the DHT has chunks.
const LISTED: usize = 125_000_000;

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md")).unwrap()
}

/// The text of the section whose heading begins with `heading`, up to the next heading of the same or a higher level.
fn section(heading: &str) -> String {
    let document = document();
    let level = heading.chars().take_while(|c| *c == '#').count();
    let ends = |line: &&str| {
        let depth = line.chars().take_while(|c| *c == '#').count();
        (1..=level).contains(&depth)
    };
    let mut lines = document.lines().skip_while(|line| !line.starts_with(heading));
    assert!(lines.next().is_some(), "docs/protocol.md has no section {heading:?}");
    lines.take_while(|line| !ends(line)).collect::<Vec<_>>().join("\n")
}

/// The rows of the table with this head in `text`, without backquotes. No cell has a `|` of its own.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let inner = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')).unwrap();
        inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let rows: Vec<_> = rows.map(cells).collect();
    let columns = head.matches('|').count() - 1;
    assert!(!rows.is_empty() && rows.iter().all(|row| row.len() == columns), "no table {head:?}: {rows:?}");
    rows
}

/// The lines of `text` that are indented by four spaces: literal values.
fn literals(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with(' ')).collect()
}

/// The blocks of JSON in `text`.
fn json_blocks(text: &str) -> Vec<&str> {
    text.split("```json\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// The bytes that the document's formula gives. They repeat after 251 * 256 bytes.
fn sample(length: usize) -> Vec<u8> {
    let period: Vec<_> = (0..251 * 256).map(|i| u8::try_from((31 * i + i / 251) % 256).unwrap()).collect();
    period.iter().copied().cycle().take(length).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The inner states of `bytes` and their digest, piece by piece.
fn chain(bytes: &[u8]) -> (Vec<State>, Sha256) {
    let geometry = Geometry::new(bytes.len() as u64).unwrap();
    let mut walk = ChainWalk::from_state(State::INITIAL);
    let mut inner = Vec::new();
    for piece in 0..geometry.pieces() {
        let range = geometry.range(piece);
        walk.update(&bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]);
        if piece != geometry.last() {
            inner.push(walk.state().unwrap());
        }
    }
    (inner, walk.finish(geometry.length()))
}

fn message(length: usize, states: Vec<Option<[u8; 32]>>, have: &PieceSet) -> PieceListMessage {
    PieceListMessage { length: length as u64, states, have: have.ranges(), intent: None }
}

#[test]
fn objects_are_cut_as_the_document_says() {
    for row in table(&section("## 5."), "| length | pieces | last piece |") {
        let geometry = Geometry::new(row[0].parse().unwrap()).unwrap();
        assert_eq!(geometry.pieces().to_string(), row[1], "pieces of {}", row[0]);
        let last = geometry.range(geometry.last());
        assert_eq!(format!("{}-{}", last.start, last.end), row[2], "last piece of {}", row[0]);
    }
    assert!(section("## 5.").contains(&format!("{MAX_LENGTH} bytes")));
    assert!(section("## 5.").contains(&format!("⌈*L* / {PIECE_LENGTH}⌉")));
}

#[test]
fn the_chain_gives_the_states_and_digests_of_the_document() {
    let text = section("### Test vectors");
    assert_eq!(literals(&text)[0], State::INITIAL.to_string());
    let bytes = sample(LONGEST);
    for row in table(&text, "| length | SHA-256 | inner states |") {
        let (inner, digest) = chain(&bytes[..row[0].parse().unwrap()]);
        assert_eq!(digest.to_string(), row[1], "the chain over {} bytes", row[0]);
        assert_eq!(Sha256::of(&bytes[..row[0].parse().unwrap()]), digest, "SHA-256 of {} bytes", row[0]);
        let spelled: Vec<_> = inner.iter().map(ToString::to_string).collect();
        assert_eq!(spelled.join(" "), row[2], "states of {} bytes", row[0]);
    }
}

#[test]
fn the_padding_of_the_document_leads_to_the_digest() {
    let text = section("### Test vectors");
    let padding: Vec<u8> = literals(&text)[1]
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let mut walk = ChainWalk::from_state(State::INITIAL);
    walk.update(&sample(LONGEST));
    walk.update(&padding);
    let (_, digest) = chain(&sample(LONGEST));
    assert_eq!(walk.state().unwrap().to_bytes(), *digest.as_bytes());
}

#[test]
fn the_piece_lists_of_the_document_are_ours() {
    let text = section("## 7.");
    let blocks = json_blocks(&text);
    let (inner, _) = chain(&sample(LONGEST));
    let known: Vec<_> = inner.iter().map(|state| Some(state.to_bytes())).collect();
    let growing = vec![known[0], None];
    let one_piece = usize::try_from(PIECE_LENGTH).unwrap();
    let ours = [
        message(LONGEST, known, &PieceSet::all(3)),
        message(LONGEST, growing, &PieceSet::from_ranges(3, [0..=0])),
        message(one_piece, Vec::new(), &PieceSet::all(1)),
    ];
    assert_eq!(blocks.len(), ours.len());
    for (block, ours) in blocks.iter().zip(ours) {
        assert_eq!(*block, ours.to_json());
        let read = PieceListMessage::from_json(block.as_bytes()).unwrap();
        assert_eq!(read, ours);
        let states = read.states.iter().map(|state| state.as_ref().map(State::from_bytes)).collect();
        assert!(PieceList::new(Geometry::new(read.length).unwrap(), states).is_ok());
    }
}

#[test]
fn piece_lists_have_the_limits_of_the_document() {
    let text = section("## 7.");
    assert!(text.contains(&format!("more than {MAX_PIECE_LIST_BYTES} bytes")));
    let runs = |count: usize| {
        let have: Vec<_> = (0..count).map(|run| (2 * run).to_string()).collect();
        let json = format!(
            r#"{{"length":1,"piece_length":4194304,"states":[],"have":"{}","new":1}}"#,
            have.join(",")
        );
        PieceListMessage::from_json(json.as_bytes())
    };
    assert!(text.contains("more than 8192 runs"));
    assert!(runs(8192).is_ok(), "and unknown members are ignored");
    assert!(runs(8193).is_err());
    let fits = 38_u64 << 30;
    assert!(text.contains("up to 38 GiB"));
    let pieces = Geometry::new(fits).unwrap().pieces();
    let list = PieceListMessage {
        length: fits,
        states: vec![Some([0xff; 32]); pieces as usize - 1],
        have: PieceSet::all(pieces).ranges(),
        intent: None,
    };
    assert!(list.to_json().len() <= MAX_PIECE_LIST_BYTES);
    assert!(section("## 3.").contains(&format!("{MAX_WAIT_SECONDS} at most")));
}

/// The object of `length` bytes as the DHT knows it: its digest and the values that hold its list.
fn listed(length: usize) -> (Sha256, ListItems) {
    let (inner, digest) = chain(&sample(length));
    let states: Vec<_> = inner.iter().map(|state| state.to_bytes()).collect();
    (digest, ListItems::of(length as u64, &states).unwrap())
}

/// Public key, target and signature of a mutable item (BEP 44), in hexadecimal: what is signed is spelled out here, apart
/// from the program's own writer.
fn signed(seed: &[u8; 32], salt: &[u8], value: &[u8]) -> [String; 3] {
    let key = Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
    let public = key.public_key().as_ref();
    let mut message = Vec::new();
    if !salt.is_empty() {
        message.extend(format!("4:salt{}:", salt.len()).bytes().chain(salt.iter().copied()));
    }
    message.extend(format!("3:seqi{LIST_SEQUENCE}e1:v").bytes().chain(value.iter().copied()));
    let target = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[public, salt].concat());
    [hex(public), hex(target.as_ref()), hex(key.sign(&message).as_ref())]
}

fn check_rows(section: &str, head: &str, ours: &[(&str, String)]) {
    let ours: Vec<_> = ours.iter().map(|(what, value)| vec![(*what).to_owned(), value.clone()]).collect();
    assert_eq!(table(section, head), ours, "{head}");
}

#[test]
fn the_lists_in_the_dht_are_those_of_the_document() {
    let text = section("### Vectors of lists");
    for length in [LONGEST, LISTED] {
        let (id, items) = listed(length);
        let seed = list_seed(&id);
        let [key, target, signature] = signed(&seed, b"", &items.head);
        let ours = [
            ("SHA-256", id.to_string()),
            ("info-hash", hex(InfoHash::from(id).as_bytes())),
            ("seed", hex(&seed)),
            ("public key", key),
            ("target", target),
            ("value", hex(&items.head)),
            ("signature", signature),
        ];
        check_rows(&text, &format!("| {length} bytes | |"), &ours);
        assert!(ListHead::parse(&items.head, length as u64).is_ok());
    }
    let publisher: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let (id, items) = listed(LONGEST);
    let [key, target, signature] = signed(&publisher, id.as_bytes(), &items.head);
    let ours = [
        ("seed", hex(&publisher)),
        ("public key", key),
        ("salt", id.to_string()),
        ("target", target),
        ("value", hex(&items.head)),
        ("signature", signature),
    ];
    check_rows(&text, "| signed list | |", &ours);
}

#[test]
fn the_chunks_in_the_dht_are_those_of_the_document() {
    let text = section("### Vectors of lists");
    let (_, items) = listed(LISTED);
    let documented = table(&text, "| chunk | target | states | value begins with |");
    assert_eq!(documented.len(), items.chunks.len());
    let mut all = Vec::new();
    for (at, (row, chunk)) in documented.iter().zip(&items.chunks).enumerate() {
        let states = chunk_states(&chunk.value, LISTED as u64, at).unwrap();
        let prefix = format!("{}:", states.len() * 32);
        assert!(chunk.value.starts_with(prefix.as_bytes()));
        let run = format!("{}-{}", all.len() + 1, all.len() + states.len());
        assert_eq!(*row, [at.to_string(), hex(&chunk.target), run, prefix]);
        all.extend(states.iter().map(|state| hex(state)));
    }
    assert_eq!(literals(&text), all);
}

#[test]
fn lists_in_the_dht_have_the_limits_of_the_document() {
    let text = section("## 11.");
    for stated in [
        format!("up to {HEAD_STATES} inner states"),
        format!("up to {CHUNK_STATES} inner states"),
        format!("up to {MAX_CHUNKS} chunks"),
        format!("more than {MAX_STATES} inner states"),
        format!("`seq` is {LIST_SEQUENCE}"),
    ] {
        assert!(text.contains(&stated), "{stated}");
    }
    for row in table(&text, "| length | inner states | list in the DHT |") {
        let length: u64 = row[0].parse().unwrap();
        let inner = Geometry::new(length).unwrap().last();
        assert_eq!(row[1], inner.to_string(), "{length}");
        let shape = listed_states(length).map(|inner| {
            let items = ListItems::of(length, &vec![[0; 32]; inner]).unwrap();
            match items.chunks.len() {
                0 => format!("h of {} bytes", 32 * inner),
                chunks => format!("r of {} bytes", 20 * chunks),
            }
        });
        assert_eq!(row[2], shape.unwrap_or_else(|| "none".into()), "{length}");
    }
}

#[test]
fn targets_are_those_of_the_document() {
    let id = Sha256::of(b"");
    for row in table(&section("## 2."), "| target | methods | answer |") {
        let path = row[0].replace('H', &id.to_string());
        assert!(PeerTarget::parse(&path).is_some(), "{path}");
        assert!(PeerTarget::parse(&path.to_uppercase()).is_none() || path == "/");
    }
    let upper = format!("/hash/{}", id.to_string().to_uppercase());
    assert_eq!(PeerTarget::parse(&upper), Some(PeerTarget::Object(id)));
    for reserved in ["/have", "/neighbours"] {
        assert!(section("## 10.").contains(reserved));
        assert_eq!(PeerTarget::parse(reserved), None, "{reserved} is no longer reserved: describe it");
    }
    assert!(section("## 10.").contains(&format!("integer, {PROTOCOL_VERSION} for this page")));
}

/// Every fault there is; the match makes a new one show up here.
fn faults() -> Vec<PeerFault> {
    use PeerFault::{
        BadList, Long, Rubbish, ServerError, Short, Silent, Stalled, Unreachable, WrongList, WrongPiece,
        WrongRange,
    };
    let all = [
        Unreachable,
        Silent,
        Stalled,
        Short,
        Long,
        Rubbish,
        WrongRange,
        BadList,
        WrongPiece,
        WrongList,
        ServerError,
    ];
    for fault in all {
        match fault {
            Unreachable | Silent | Stalled | Short | Long | Rubbish | WrongRange | BadList | WrongPiece
            | WrongList | ServerError => {}
        }
    }
    all.to_vec()
}

#[test]
fn faults_have_the_names_and_costs_of_the_document() {
    let documented = table(&section("## 9."), "| name | deviation | cost | lie |");
    let ours: Vec<_> = faults()
        .iter()
        .map(|fault| {
            let lie = if fault.is_lie() { "yes" } else { "no" };
            [fault.name().to_owned(), fault.cost().to_string(), lie.to_owned()]
        })
        .collect();
    let theirs: Vec<_> =
        documented.iter().map(|row| [row[0].clone(), row[2].clone(), row[3].clone()]).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn the_peer_port_has_the_limits_of_the_document() {
    let limits = Limits::public();
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let ours = [
        format!("{MAX_HEAD_BYTES} bytes"),
        MAX_HEADERS.to_string(),
        seconds(limits.head),
        seconds(limits.idle),
        seconds(limits.write),
        limits.connections.to_string(),
        limits.connections_per_origin.to_string(),
    ];
    let documented = table(&section("## 4."), "| limit | value |");
    assert_eq!(documented.into_iter().map(|row| row[1].clone()).collect::<Vec<_>>(), ours);
}

/// A peer port that holds the object of the document, and the runtime it lives in.
struct Port {
    address: SocketAddr,
    id: Sha256,
    _runtime: tokio::runtime::Runtime,
    _cache: tempfile::TempDir,
}

impl Port {
    fn open() -> Self {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("object");
        fs::write(&file, sample(LONGEST)).unwrap();
        let config = StoreConfig { path: cache.path().to_owned(), max_size: u64::MAX, min_free_space: 0 };
        let store = Store::open(config).unwrap();
        let id = store.import_file(&file, Origin::Seed).unwrap().id;
        let metrics = Metrics::new(std::time::Instant::now());
        let config = PeerSiteConfig { max_uploads: 1, max_rate: None };
        let site = PeerSite::new(store, Arc::new(NoParts), metrics, &config, CancellationToken::new());
        let site = Arc::new(site);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, Limits::public(), site, CancellationToken::new()));
        Self { address, id, _runtime: runtime, _cache: cache }
    }

    /// The text with the digest in place of *H*.
    fn spell(&self, text: &str) -> String {
        text.replace("/hash/H", &format!("/hash/{}", self.id)).replace("\"H\"", &format!("\"{}\"", self.id))
    }
}

#[test]
fn the_peer_port_answers_as_the_exchanges_of_the_document_say() {
    let port = Port::open();
    for row in table(&section("### Exchanges"), "| request | with | status | the answer has |") {
        let request = port.spell(&row[0]);
        let (method, target) = request.split_once(' ').unwrap();
        let with = port.spell(&row[1]);
        let headers: Vec<(&str, &str)> =
            with.split(" ; ").filter_map(|field| field.split_once(": ")).collect();
        let response = support::http::request(port.address, method, target, &headers);
        assert_eq!(response.status.to_string(), row[2], "{row:?}: {}", response.head);
        let has = port.spell(&row[3]);
        if let Some((name, value)) = has.split_once(": ") {
            assert_eq!(response.header(name), Some(value), "{row:?}: {}", response.head);
        }
    }
}

#[test]
fn objects_and_their_lists_carry_what_the_document_says() {
    let port = Port::open();
    let digest = literals(&section("### Test vectors"))[2].to_owned();
    let path = format!("/hash/{}", port.id);
    for (method, headers) in [("GET", vec![]), ("HEAD", vec![]), ("GET", vec![("Range", "bytes=0-0")])] {
        let response = support::http::request(port.address, method, &path, &headers);
        for row in table(&section("## 3."), "| header | value |") {
            let expected = match row[0].as_str() {
                "ETag" => format!("\"{}\"", port.id),
                "Repr-Digest" => digest.clone(),
                _ => row[1].clone(),
            };
            assert_eq!(
                response.header(&row[0]),
                Some(expected.as_str()),
                "{} to {method} {headers:?}",
                row[0]
            );
        }
    }
    let list = support::http::get(port.address, &format!("{path}/pieces"));
    assert_eq!(list.text(), json_blocks(&section("## 7."))[0]);
    let root = support::http::get(port.address, "/").text();
    let documented = section("## 10.");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(root, json_blocks(&documented)[0].replace("0.1.0", version));
}
