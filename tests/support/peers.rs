//! Peers on loopback that speak `/hash/<sha256>` and `/hash/<sha256>/pieces`: honest ones, and one for each sin.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aptpeer::digest::Sha256;
use aptpeer::pieces::{ChainWalk, Geometry, PIECE_LENGTH, PieceIndex, State};

use super::mirror::reason;
use super::server::{Connection, Head, Server, step};

/// What a peer that has no manners sends where a small thing was asked for.
const HUGE: usize = 100_000_000;

/// One way to be a bad or an unlucky peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Accepts, reads and never answers.
    Silent,
    /// Answers something that is not HTTP.
    Rubbish,
    /// Answers with a header of 100 MB.
    HugeHeader,
    /// Resets the connection instead of an answer.
    Reset,
    /// 503 with `Retry-After`, as when every upload slot is taken.
    Busy,

    /// One bit of this piece is wrong.
    WrongPiece(PieceIndex),
    /// One bit of every piece is wrong.
    WrongEverywhere,
    /// Whole pieces are right; of a range that begins within one the last byte is wrong.
    WrongParts,
    /// Says and sends this many bytes fewer than asked.
    ShortBody(u64),
    /// Says and sends this many bytes more than asked.
    LongBody(u64),
    /// Hangs up after this many bytes of the body.
    CloseAfter(u64),
    /// Sends this many bytes of the body, then nothing more.
    SilentAfter(u64),
    /// Sends bodies at this many bytes a second.
    Slow(u64),
    /// `Content-Range` names a place this many bytes further on.
    WrongContentRange(u64),
    /// Answers a range with 200 and the whole object.
    NoRanges,

    /// 404 for the piece list, though the object is here.
    NoList,
    /// A list that is no JSON.
    RubbishList,
    /// Every state of the list is false.
    FalseStates,
    /// The list's length is this much more or less.
    WrongLength(i64),
    /// The list has 100 MB.
    HugeList,
    /// Every state of the list is `null`.
    NullStates,
    /// The list fits the wrong bytes of `WrongPiece` and `WrongEverywhere`: only the digest itself convicts it.
    Conspiracy,
    /// The bytes before this piece are wrong, with states that fit them; the piece itself is not here; what is behind
    /// it is true, states and all. Every link that can be tried holds, and yet they do not meet.
    TrueTail(PieceIndex),
}

/// One request that a peer got, and the bytes of an object it sent for it (not those of a list).
#[derive(Debug, Clone)]
pub struct Record {
    pub head: Head,
    pub sent: u64,
}

/// A running peer; dropping it ends it.
pub struct Peer {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    faults: Vec<Fault>,
    objects: HashMap<Sha256, Object>,
    /// Only the pieces before this one are here.
    held: AtomicU32,
    /// No body goes further than this many bytes for now.
    gate: AtomicU64,
    records: Mutex<Vec<Record>>,
}

struct Object {
    served: Vec<u8>,
    states: Vec<State>,
}

/// The states between the pieces of `bytes`: one fewer than there are pieces.
pub fn states(bytes: &[u8]) -> Vec<State> {
    let piece = usize::try_from(PIECE_LENGTH).unwrap();
    let mut walk = ChainWalk::from_state(State::INITIAL);
    let geometry = Geometry::new(bytes.len() as u64).unwrap();
    let between = bytes.chunks(piece).take(usize::try_from(geometry.last()).unwrap());
    between
        .map(|chunk| {
            walk.update(chunk);
            walk.state().unwrap()
        })
        .collect()
}

/// An address on which nobody listens, and whose port stays taken while the socket is kept: connections are refused.
pub fn dead() -> (SocketAddr, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (address, socket)
}

impl Peer {
    /// A peer that has these objects and does everything right.
    pub fn honest(objects: &[&[u8]]) -> Self {
        Self::start(objects, &[])
    }

    /// A peer that has these objects and all of these faults.
    pub fn start(objects: &[&[u8]], faults: &[Fault]) -> Self {
        Self::start_on([127, 0, 0, 1].into(), objects, faults)
    }

    /// The same on another address of this machine, so that peers can be of different networks.
    pub fn start_on(ip: IpAddr, objects: &[&[u8]], faults: &[Fault]) -> Self {
        let prepared = objects.iter().map(|bytes| (Sha256::of(bytes), Object::new(bytes, faults)));
        let shared = Arc::new(Shared {
            faults: faults.to_vec(),
            objects: prepared.collect(),
            held: AtomicU32::new(u32::MAX),
            gate: AtomicU64::new(u64::MAX),
            records: Mutex::default(),
        });
        let server = Server::start_on(ip, {
            let shared = Arc::clone(&shared);
            move |connection| shared.converse(connection)
        });
        Self { server, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// From now on has the first `pieces` of every object, and their states, and no more.
    pub fn hold_first(&self, pieces: PieceIndex) {
        self.shared.held.store(pieces, Ordering::SeqCst);
    }

    /// From now on each body waits when it has about this many bytes, until it may go further.
    pub fn pause_bodies_at(&self, bytes: u64) {
        self.shared.gate.store(bytes, Ordering::SeqCst);
    }

    /// Everything it was asked so far, in order of arrival.
    pub fn records(&self) -> Vec<Record> {
        self.shared.records.lock().unwrap().clone()
    }

    /// How many bytes of objects it sent.
    pub fn bytes(&self) -> u64 {
        self.shared.records.lock().unwrap().iter().map(|record| record.sent).sum()
    }
}

/// The piece that a peer with a true tail does not hold.
fn gap(faults: &[Fault]) -> Option<PieceIndex> {
    faults.iter().find_map(|fault| if let Fault::TrueTail(piece) = fault { Some(*piece) } else { None })
}

impl Object {
    fn new(bytes: &[u8], faults: &[Fault]) -> Self {
        let geometry = Geometry::new(bytes.len() as u64).unwrap();
        let gap = gap(faults);
        let wrong = |piece| {
            faults.contains(&Fault::WrongEverywhere)
                || faults.contains(&Fault::WrongPiece(piece))
                || gap.is_some_and(|gap| piece < gap)
        };
        let mut served = bytes.to_vec();
        for range in (0..geometry.pieces()).filter(|piece| wrong(*piece)).map(|piece| geometry.range(piece)) {
            let middle = usize::try_from(range.start.midpoint(range.end)).unwrap();
            if let Some(byte) = served.get_mut(middle) {
                *byte ^= 1;
            }
        }
        let mut claimed = states(bytes);
        if faults.contains(&Fault::Conspiracy) {
            claimed = states(&served);
        } else if let Some(gap) = gap {
            let gap = usize::try_from(gap).unwrap().min(claimed.len());
            claimed[..gap].copy_from_slice(&states(&served)[..gap]);
        }
        Self { served, states: claimed }
    }
}

impl Shared {
    fn converse(&self, connection: &mut Connection) -> io::Result<()> {
        while let Some(head) = connection.next_request()? {
            let number = {
                let mut records = self.records.lock().unwrap();
                records.push(Record { head: head.clone(), sent: 0 });
                records.len() - 1
            };
            for fault in &self.faults {
                match fault {
                    Fault::Silent => connection.fall_silent()?,
                    Fault::Reset => connection.reset()?,
                    Fault::Rubbish => {
                        connection.send(b"\x13BitTorrent protocol\0\r\n\r\n\xff\xfe")?;
                        return Ok(());
                    }
                    Fault::HugeHeader => {
                        connection.send(b"HTTP/1.1 200 OK\r\nX-Noise: ")?;
                        connection.send(&vec![b'a'; HUGE])?;
                        return connection.send(b"\r\nContent-Length: 0\r\n\r\n");
                    }
                    _ => {}
                }
            }
            self.answer(connection, &head, number)?;
        }
        Ok(())
    }

    fn answer(&self, connection: &mut Connection, head: &Head, number: usize) -> io::Result<()> {
        if self.faults.contains(&Fault::Busy) {
            return short(connection, head, 503, "Retry-After: 1\r\n", "every slot is taken\n");
        }
        let path = head.path();
        let (name, list) = match path.strip_prefix("/hash/").map(|rest| (rest, rest.strip_suffix("/pieces")))
        {
            Some((_, Some(name))) => (name, true),
            Some((name, None)) => (name, false),
            None => return short(connection, head, 404, "", "not here\n"),
        };
        let Some((digest, object)) = name.parse().ok().and_then(|digest: Sha256| {
            self.objects
                .get(&digest)
                .filter(|_| self.held.load(Ordering::SeqCst) > 0)
                .map(|object| (digest, object))
        }) else {
            return short(connection, head, 404, "", "not here\n");
        };
        if list {
            self.send_list(connection, head, object)
        } else {
            self.send_object(connection, head, digest, object, number)
        }
    }

    fn is_missing(&self, range: &std::ops::Range<u64>, length: u64) -> bool {
        let gap = gap(&self.faults).map(|gap| Geometry::new(length).unwrap().range(gap));
        gap.is_some_and(|gap| gap.start < range.end && range.start < gap.end)
    }

    fn send_list(&self, connection: &mut Connection, head: &Head, object: &Object) -> io::Result<()> {
        let geometry = Geometry::new(object.served.len() as u64).unwrap();
        let held = self.held.load(Ordering::SeqCst).min(geometry.pieces());
        let mut length = geometry.length();
        let mut states: Vec<Option<String>> =
            (1..).zip(&object.states).map(|(i, state)| (i <= held).then(|| state.to_string())).collect();
        for fault in &self.faults {
            match fault {
                Fault::NoList => return short(connection, head, 404, "", "no list\n"),
                Fault::RubbishList => return short(connection, head, 200, "", "{\"length\": ]"),
                Fault::HugeList => {
                    connection
                        .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n").as_bytes())?;
                    let block = vec![b'['; HUGE / 100];
                    return (0..100).try_for_each(|_| connection.send(&block));
                }
                Fault::FalseStates => {
                    let lie = |i: usize| Some(Sha256::of(&i.to_be_bytes()).to_string());
                    states = (0..states.len()).map(lie).collect();
                }
                Fault::NullStates => states.fill(None),
                Fault::WrongLength(by) => length = length.saturating_add_signed(*by),
                _ => {}
            }
        }
        let run = |from: PieceIndex, end: PieceIndex| match end.checked_sub(from + 1) {
            None => String::new(),
            Some(0) => from.to_string(),
            Some(_) => format!("{from}-{}", end - 1),
        };
        let have = match gap(&self.faults) {
            Some(gap) => format!("{},{}", run(0, gap), run(gap + 1, held)),
            None => run(0, held),
        };
        let list = serde_json::json!({
            "length": length, "piece_length": PIECE_LENGTH, "states": states, "have": have,
        });
        short(connection, head, 200, "Content-Type: application/json\r\n", &list.to_string())
    }

    fn send_object(
        &self,
        connection: &mut Connection,
        head: &Head,
        digest: Sha256,
        object: &Object,
        number: usize,
    ) -> io::Result<()> {
        let length = object.served.len() as u64;
        let held = (u64::from(self.held.load(Ordering::SeqCst)) * PIECE_LENGTH).min(length);
        let ranged = !self.faults.contains(&Fault::NoRanges);
        let (status, range) = match head.range(length).filter(|_| ranged) {
            Some(Ok(range)) if range.end <= held && !self.is_missing(&range, length) => (206, range),
            None if held == length => (200, 0..length),
            _ => {
                return short(
                    connection,
                    head,
                    416,
                    &format!("Content-Range: bytes */{length}\r\n"),
                    "not held\n",
                );
            }
        };
        let mut body = object.served
            [usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
            .to_vec();
        let (mut claimed, mut rate) = (range.start, None);
        // Where the body ends, and what the peer does there.
        let (mut stop, mut hang) = (u64::MAX, false);
        for fault in &self.faults {
            match fault {
                Fault::WrongParts if !range.start.is_multiple_of(PIECE_LENGTH) => {
                    body.last_mut().into_iter().for_each(|byte| *byte ^= 1);
                }
                Fault::ShortBody(by) => {
                    body.truncate(body.len().saturating_sub(usize::try_from(*by).unwrap()));
                }
                Fault::LongBody(by) => body.resize(body.len() + usize::try_from(*by).unwrap(), b'x'),
                Fault::WrongContentRange(by) => claimed += by,
                Fault::Slow(bytes) => rate = Some(*bytes),
                Fault::CloseAfter(after) => stop = *after,
                Fault::SilentAfter(after) => (stop, hang) = (*after, true),
                _ => {}
            }
        }
        let mut fields = format!(
            "Content-Length: {}\r\nAccept-Ranges: bytes\r\nETag: \"{digest}\"\r\nRepr-Digest: sha-256=:{}:\r\n\
             Cache-Control: public, max-age=31536000, immutable\r\n",
            body.len(),
            base64(digest.as_bytes())
        );
        if status == 206 {
            let last = claimed + (range.end - range.start) - 1;
            fields += &format!("Content-Range: bytes {claimed}-{last}/{length}\r\n");
        }
        connection.send(format!("HTTP/1.1 {status} {}\r\n{fields}\r\n", reason(status)).as_bytes())?;
        if head.method == "HEAD" {
            return Ok(());
        }
        let whole = body.len() as u64 <= stop;
        body.truncate(usize::try_from(stop).unwrap());
        self.send_body(connection, &body, rate, number)?;
        if whole {
            return Ok(());
        }
        if hang {
            connection.fall_silent()?;
        }
        Err(io::Error::other("closed as told"))
    }

    fn send_body(
        &self,
        connection: &mut Connection,
        body: &[u8],
        rate: Option<u64>,
        number: usize,
    ) -> io::Result<()> {
        let mut sent = 0;
        for chunk in body.chunks(step(rate, 64 << 10)) {
            while sent >= self.gate.load(Ordering::SeqCst) {
                connection.pause(Duration::from_millis(5))?;
            }
            sent += chunk.len() as u64;
            // Counted before they go: who has received them can rely on the count.
            self.records.lock().unwrap()[number].sent += chunk.len() as u64;
            match rate {
                Some(rate) => connection.send_slowly(chunk, rate)?,
                None => connection.send(chunk)?,
            }
        }
        Ok(())
    }
}

fn short(connection: &mut Connection, head: &Head, code: u16, fields: &str, body: &str) -> io::Result<()> {
    let answer =
        format!("HTTP/1.1 {code} {}\r\n{fields}Content-Length: {}\r\n\r\n", reason(code), body.len());
    let body = if head.method == "HEAD" { "" } else { body };
    connection.send((answer + body).as_bytes())
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_usize, |sum, i| sum << 8 | usize::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = char::from(ALPHABET[group >> (18 - 6 * i) & 63]);
            text.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    text
}
