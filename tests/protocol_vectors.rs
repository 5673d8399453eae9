//! docs/protocol.md against the code: every vector, table and limit that the document states is read out of it here, so
//! that the two cannot differ.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use aptpeer::digest::Sha256;
use aptpeer::http::Limits;
use aptpeer::http::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use aptpeer::pieces::{ChainWalk, Geometry, MAX_LENGTH, PIECE_LENGTH, PieceList, PieceSet, State};
use aptpeer::swarm::PeerFault;
use aptpeer::wire::{MAX_PIECE_LIST_BYTES, MAX_WAIT_SECONDS, PROTOCOL_VERSION, PeerTarget, PieceListMessage};

/// The longest object of the document's vectors.
const LONGEST: usize = 9_000_000;

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

/// The rows of the table with this head in `text`, without backquotes.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split(" | ").map(|cell| cell.trim().replace('`', "")).collect()
    };
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table {head:?}");
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

/// The bytes that the document's formula gives.
fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((31 * i + i / 251) % 256).unwrap()).collect()
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
    PieceListMessage { length: length as u64, states, have: have.ranges() }
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
        assert_eq!(spelled.join(" "), row.get(2).cloned().unwrap_or_default(), "states of {} bytes", row[0]);
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
    };
    assert!(list.to_json().len() <= MAX_PIECE_LIST_BYTES);
    assert!(section("## 11.").contains(&format!("{MAX_WAIT_SECONDS} at most")));
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
