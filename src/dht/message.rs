//! KRPC messages: what nodes say to each other (BEP 5, 32, 42, 43 and 44), read without a copy and written.

use std::net::SocketAddr;

use super::address::{Contact, contacts, from_compact, to_compact};
use super::id::Id;
use crate::bencode::{BencodeError, Value, Writer};

/// The longest datagram that is looked at, in bytes: BEP 44's largest put has some 1200.
pub const MAX_DATAGRAM: usize = 2048;

/// The longest transaction id that is answered, in bytes. Those seen in the wild have 2 to 8.
pub const MAX_TRANSACTION: usize = 32;

/// The longest token that is kept and sent back, in bytes.
pub const MAX_TOKEN: usize = 64;

/// The longest value of BEP 44, bencoded, in bytes.
pub const MAX_VALUE: usize = 1000;

/// The longest salt of BEP 44, in bytes.
pub const MAX_SALT: usize = 64;

/// "Generic Error" of BEP 5, section "Errors".
pub const GENERIC: i64 = 201;
/// "Server Error" of BEP 5.
pub const SERVER: i64 = 202;
/// "Protocol Error, such as a malformed packet, invalid arguments, or bad token" of BEP 5.
pub const PROTOCOL: i64 = 203;
/// "Method Unknown" of BEP 5.
pub const METHOD_UNKNOWN: i64 = 204;
/// "message (v field) too big" of BEP 44.
pub const VALUE_TOO_BIG: i64 = 205;
/// "invalid signature" of BEP 44.
pub const BAD_SIGNATURE: i64 = 206;
/// "salt (salt field) too big" of BEP 44.
pub const SALT_TOO_BIG: i64 = 207;
/// "the CAS hash mismatched" of BEP 44.
pub const CAS_MISMATCH: i64 = 301;
/// "sequence number less than current" of BEP 44.
pub const SEQUENCE_TOO_OLD: i64 = 302;

/// How we say who we are (`v`, BEP 5): two letters and a version.
pub const CLIENT_VERSION: &[u8] = b"AP\x00\x01";

/// A datagram that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet<'a> {
    /// Echoed in the answer; of at most [`MAX_TRANSACTION`] bytes.
    pub transaction: &'a [u8],
    /// What it says.
    pub body: Body<'a>,
}

/// What a datagram says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body<'a> {
    /// `y` = `q`.
    Query(Query<'a>),
    /// `y` = `q` that cannot be answered, with the error to send.
    Refused {
        /// One of BEP 5 and 44.
        code: i64,
        /// In words.
        why: &'static str,
    },
    /// `y` = `r`.
    Response(Response<'a>),
    /// `y` = `e`.
    Error {
        /// One of BEP 5 and 44; 0 where it cannot be read.
        code: i64,
    },
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct Query<'a> {
    /// Who asks.
    pub id: Id,
    /// It answers no queries itself and must not enter a routing table (BEP 43).
    pub read_only: bool,
    /// What it asks.
    pub ask: Ask<'a>,
    /// Which kinds of nodes it wants (BEP 32), where it says so.
    pub want: Option<Want>,
}

/// The kinds of nodes that somebody wants (BEP 32, "want").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// `n4`
    pub v4: bool,
    /// `n6`
    pub v6: bool,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// Are you there?
    Ping,
    /// The nodes closest to a point.
    FindNode {
        /// The point.
        target: Id,
    },
    /// The peers of an info-hash, or the nodes closest to it.
    GetPeers {
        /// The info-hash.
        info_hash: Id,
    },
    /// "I am a peer of this info-hash."
    AnnouncePeer {
        /// The info-hash.
        info_hash: Id,
        /// Where the peer listens; `None` for the port that the datagram came from (`implied_port`).
        port: Option<u16>,
        /// What an answer to `get_peers` gave.
        token: &'a [u8],
    },
    /// A stored value (BEP 44).
    Get {
        /// Its target.
        target: Id,
        /// Only if it is newer than this.
        seq: Option<i64>,
    },
    /// "Store this" (BEP 44).
    Put {
        /// The value.
        item: Item<'a>,
        /// Only in the place of the value with this number.
        cas: Option<i64>,
        /// What an answer to `get` gave.
        token: &'a [u8],
    },
}

/// A value of BEP 44 as it travels. Nothing is checked here but the lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// The value, bencoded, at most [`MAX_VALUE`] bytes.
    pub value: &'a [u8],
    /// What makes it mutable.
    pub signed: Option<Signed<'a>>,
}

/// The key, the number and the signature of a mutable value (BEP 44).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The Ed25519 public key.
    pub key: &'a [u8; 32],
    /// At most [`MAX_SALT`] bytes; empty in an answer, which does not tell it.
    pub salt: &'a [u8],
    /// Grows with each new value.
    pub seq: i64,
    /// Over salt, number and value.
    pub signature: &'a [u8; 64],
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Response<'a> {
    /// Who answers.
    pub id: Id,
    /// Where it sees us (`ip`, BEP 42).
    pub seen_at: Option<SocketAddr>,
    /// Nodes close to the target, as bytes: [`Response::contacts`] reads them.
    nodes: &'a [u8],
    nodes6: &'a [u8],
    /// Peers of the info-hash.
    pub peers: Vec<SocketAddr>,
    /// To be sent back with an `announce_peer` or a `put`.
    pub token: Option<&'a [u8]>,
    /// A value of BEP 44. A mutable one carries no salt here.
    pub item: Option<Item<'a>>,
}

/// Most peers of one answer that are looked at: more do not fit a datagram.
const MAX_PEERS: usize = 256;

/// Most nodes of one answer that are looked at: BEP 5 has 8, some send 20.
const MAX_CONTACTS: usize = 32;

impl Response<'_> {
    /// The nodes that it names, of both address families.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> {
        contacts(self.nodes, 4).chain(contacts(self.nodes6, 16)).take(MAX_CONTACTS)
    }
}

/// A datagram that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Longer than [`MAX_DATAGRAM`].
    #[error("a datagram of more than {MAX_DATAGRAM} bytes")]
    TooLong,
    /// Not bencoded.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// Not a message of BEP 5.
    #[error("not a KRPC message: {0}")]
    Shape(&'static str),
}

impl<'a> Packet<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// Where there is nobody to be answered; a query that can be answered with an error is [`Body::Refused`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Unreadable> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Unreadable::TooLong);
        }
        let message = Value::parse(datagram)?;
        let transaction = bytes_of(&message, "t").ok_or(Unreadable::Shape("no transaction id"))?;
        if transaction.len() > MAX_TRANSACTION {
            return Err(Unreadable::Shape("a transaction id of more than 32 bytes"));
        }
        let body = match bytes_of(&message, "y") {
            Some(b"q") => query(&message).map_or_else(|(code, why)| Body::Refused { code, why }, Body::Query),
            Some(b"r") => Body::Response(response(&message)?),
            Some(b"e") => Body::Error { code: error_code(&message) },
            _ => return Err(Unreadable::Shape("neither query nor response nor error")),
        };
        Ok(Self { transaction, body })
    }
}

fn bytes_of<'a>(dictionary: &Value<'a>, key: &str) -> Option<&'a [u8]> {
    dictionary.get(key)?.bytes()
}

fn id_of(dictionary: &Value<'_>, key: &str) -> Option<Id> {
    Id::from_slice(bytes_of(dictionary, key)?)
}

fn integer_of(dictionary: &Value<'_>, key: &str) -> Option<i64> {
    dictionary.get(key)?.integer()
}

fn error_code(message: &Value<'_>) -> i64 {
    message.get("e").and_then(|error| error.list().first()?.integer()).unwrap_or(0)
}

fn query<'a>(message: &Value<'a>) -> Result<Query<'a>, (i64, &'static str)> {
    let method = bytes_of(message, "q").ok_or((PROTOCOL, "no method"))?;
    let arguments = message.get("a").ok_or((PROTOCOL, "no arguments"))?;
    let ask = match method {
        b"ping" => Ask::Ping,
        b"find_node" => Ask::FindNode { target: id_of(arguments, "target").ok_or((PROTOCOL, "no target"))? },
        b"get_peers" => {
            Ask::GetPeers { info_hash: id_of(arguments, "info_hash").ok_or((PROTOCOL, "no info_hash"))? }
        }
        b"announce_peer" => announce(arguments)?,
        b"get" => Ask::Get {
            target: id_of(arguments, "target").ok_or((PROTOCOL, "no target"))?,
            seq: integer_of(arguments, "seq"),
        },
        b"put" => put(arguments)?,
        _ => return Err((METHOD_UNKNOWN, "Method Unknown")),
    };
    let id = id_of(arguments, "id").ok_or((PROTOCOL, "no id of 20 bytes"))?;
    let read_only = integer_of(message, "ro") == Some(1);
    Ok(Query { id, read_only, ask, want: want(arguments) })
}

fn announce<'a>(arguments: &Value<'a>) -> Result<Ask<'a>, (i64, &'static str)> {
    let info_hash = id_of(arguments, "info_hash").ok_or((PROTOCOL, "no info_hash"))?;
    let token = token(arguments)?;
    let implied = integer_of(arguments, "implied_port").is_some_and(|implied| implied != 0);
    let port =
        integer_of(arguments, "port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    if !implied && port.is_none() {
        return Err((PROTOCOL, "no port"));
    }
    Ok(Ask::AnnouncePeer { info_hash, port: port.filter(|_| !implied), token })
}

fn put<'a>(arguments: &Value<'a>) -> Result<Ask<'a>, (i64, &'static str)> {
    let token = token(arguments)?;
    let value = arguments.get("v").ok_or((PROTOCOL, "no value"))?.raw();
    if value.len() > MAX_VALUE {
        return Err((VALUE_TOO_BIG, "message (v field) too big"));
    }
    let salt = bytes_of(arguments, "salt").unwrap_or_default();
    if salt.len() > MAX_SALT {
        return Err((SALT_TOO_BIG, "salt (salt field) too big"));
    }
    let signed = match bytes_of(arguments, "k") {
        None => None,
        Some(_) => Some(signed(arguments, salt).ok_or((PROTOCOL, "no key, signature or seq"))?),
    };
    Ok(Ask::Put { item: Item { value, signed }, cas: integer_of(arguments, "cas"), token })
}

fn token<'a>(arguments: &Value<'a>) -> Result<&'a [u8], (i64, &'static str)> {
    bytes_of(arguments, "token").filter(|token| token.len() <= MAX_TOKEN).ok_or((PROTOCOL, "no token"))
}

fn signed<'a>(dictionary: &Value<'a>, salt: &'a [u8]) -> Option<Signed<'a>> {
    let key = bytes_of(dictionary, "k")?.try_into().ok()?;
    let signature = bytes_of(dictionary, "sig")?.try_into().ok()?;
    let seq = integer_of(dictionary, "seq").filter(|seq| *seq >= 0)?;
    Some(Signed { key, salt, seq, signature })
}

fn want(arguments: &Value<'_>) -> Option<Want> {
    let want = arguments.get("want")?;
    let named = |name: &[u8]| want.list().iter().any(|kind| kind.bytes() == Some(name));
    Some(Want { v4: named(b"n4"), v6: named(b"n6") })
}

fn response<'a>(message: &Value<'a>) -> Result<Response<'a>, Unreadable> {
    let values = message.get("r").ok_or(Unreadable::Shape("a response without values"))?;
    let id = id_of(values, "id").ok_or(Unreadable::Shape("a response without an id"))?;
    let peers = values.get("values").map(Value::list).unwrap_or_default().iter().take(MAX_PEERS);
    let value = values.get("v").map(Value::raw).filter(|value| value.len() <= MAX_VALUE);
    Ok(Response {
        id,
        seen_at: bytes_of(message, "ip").and_then(from_compact),
        nodes: bytes_of(values, "nodes").unwrap_or_default(),
        nodes6: bytes_of(values, "nodes6").unwrap_or_default(),
        peers: peers.filter_map(|peer| from_compact(peer.bytes()?)).collect(),
        token: bytes_of(values, "token").filter(|token| token.len() <= MAX_TOKEN),
        item: value.map(|value| Item { value, signed: signed(values, b"") }),
    })
}

impl Query<'_> {
    /// The datagram of this query.
    pub fn encode(&self, transaction: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dictionary().key("a").dictionary();
        self.write_arguments(&mut writer);
        writer.end().key("q").key(self.ask.method());
        if self.read_only {
            writer.key("ro").integer(1);
        }
        writer.key("t").bytes(transaction).key("v").bytes(CLIENT_VERSION).key("y").key("q").end();
        writer.finish()
    }

    fn write_arguments(&self, writer: &mut Writer) {
        if let Ask::Put { cas: Some(cas), .. } = self.ask {
            writer.key("cas").integer(cas);
        }
        writer.key("id").bytes(self.id.as_bytes());
        match self.ask {
            Ask::Ping => {}
            Ask::FindNode { target } => {
                writer.key("target").bytes(target.as_bytes());
            }
            Ask::GetPeers { info_hash } => {
                writer.key("info_hash").bytes(info_hash.as_bytes());
            }
            Ask::AnnouncePeer { info_hash, port, token } => {
                // `port` is there in any case: some nodes read it even if it is implied.
                writer.key("implied_port").integer(i64::from(port.is_none()));
                writer.key("info_hash").bytes(info_hash.as_bytes());
                writer.key("port").integer(i64::from(port.unwrap_or(1))).key("token").bytes(token);
            }
            Ask::Get { target, seq } => {
                if let Some(seq) = seq {
                    writer.key("seq").integer(seq);
                }
                writer.key("target").bytes(target.as_bytes());
            }
            Ask::Put { item, token, .. } => {
                if let Some(signed) = item.signed {
                    writer.key("k").bytes(signed.key);
                    if !signed.salt.is_empty() {
                        writer.key("salt").bytes(signed.salt);
                    }
                    writer.key("seq").integer(signed.seq).key("sig").bytes(signed.signature);
                }
                writer.key("token").bytes(token).key("v").raw(item.value);
            }
        }
        if let Some(want) = self.want {
            writer.key("want").list();
            [(want.v4, "n4"), (want.v6, "n6")].iter().filter(|(wanted, _)| *wanted).for_each(|(_, name)| {
                writer.key(name);
            });
            writer.end();
        }
    }
}

impl Ask<'_> {
    /// The name of the method (`q`).
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::FindNode { .. } => "find_node",
            Self::GetPeers { .. } => "get_peers",
            Self::AnnouncePeer { .. } => "announce_peer",
            Self::Get { .. } => "get",
            Self::Put { .. } => "put",
        }
    }
}

/// An answer to be written.
#[derive(Debug, Clone, Default)]
pub struct Reply<'a> {
    /// IPv4 nodes, where they are wanted.
    pub nodes: Option<Vec<Contact>>,
    /// IPv6 nodes, where they are wanted.
    pub nodes6: Option<Vec<Contact>>,
    /// Peers; left out where there are none.
    pub peers: Vec<SocketAddr>,
    /// For a later `announce_peer` or `put`.
    pub token: Option<&'a [u8]>,
    /// A value of BEP 44.
    pub item: Option<Item<'a>>,
    /// The number of a value that is not newer than the asker's.
    pub seq: Option<i64>,
}

impl Reply<'_> {
    /// The datagram of this answer by node `id` to somebody at `to`, who is told how we see it (BEP 42).
    pub fn encode(&self, id: &Id, transaction: &[u8], to: SocketAddr) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dictionary().key("ip").bytes(&to_compact(to)).key("r").dictionary();
        writer.key("id").bytes(id.as_bytes());
        let signed = self.item.and_then(|item| item.signed);
        if let Some(signed) = signed {
            writer.key("k").bytes(signed.key);
        }
        for (key, nodes) in [("nodes", &self.nodes), ("nodes6", &self.nodes6)] {
            if let Some(nodes) = nodes {
                let compact = |node: &Contact| [&node.id.as_bytes()[..], &to_compact(node.address)].concat();
                writer.key(key).bytes(&nodes.iter().flat_map(compact).collect::<Vec<_>>());
            }
        }
        if let Some(seq) = signed.map(|signed| signed.seq).or(self.seq) {
            writer.key("seq").integer(seq);
        }
        if let Some(signed) = signed {
            writer.key("sig").bytes(signed.signature);
        }
        if let Some(token) = self.token {
            writer.key("token").bytes(token);
        }
        if let Some(item) = self.item {
            writer.key("v").raw(item.value);
        }
        if !self.peers.is_empty() {
            writer.key("values").list();
            self.peers.iter().for_each(|peer| {
                writer.bytes(&to_compact(*peer));
            });
            writer.end();
        }
        writer.end().key("t").bytes(transaction).key("v").bytes(CLIENT_VERSION).key("y").key("r").end();
        writer.finish()
    }
}

/// The datagram of an error.
pub fn encode_error(code: i64, why: &str, transaction: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dictionary().key("e").list().integer(code).bytes(why.as_bytes()).end();
    writer.key("t").bytes(transaction).key("v").bytes(CLIENT_VERSION).key("y").key("e").end();
    writer.finish()
}

/// The first bytes of a message are `d1:`: a cheap look at what a datagram may be, before it is parsed.
pub fn may_be_krpc(datagram: &[u8]) -> bool {
    matches!(datagram, [b'd', b'0'..=b'9', ..]) && datagram.last() == Some(&b'e')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::Kind;
    use proptest::prelude::*;

    const ID: Id = Id::new(*b"abcdefghij0123456789");
    const TARGET: Id = Id::new(*b"mnopqrstuvwxyz123456");

    fn query(ask: Ask<'static>) -> Query<'static> {
        Query { id: ID, read_only: false, ask, want: None }
    }

    fn there_and_back(query: &Query<'_>) {
        let datagram = query.encode(b"xy");
        assert!(may_be_krpc(&datagram));
        let packet = Packet::parse(&datagram).unwrap();
        assert_eq!(packet, Packet { transaction: b"xy", body: Body::Query(query.clone()) });
    }

    #[test]
    fn the_examples_of_bep_5() {
        let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
        assert_eq!(Packet::parse(ping).unwrap().body, Body::Query(query(Ask::Ping)));
        let find =
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe";
        assert_eq!(Packet::parse(find).unwrap().body, Body::Query(query(Ask::FindNode { target: TARGET })));
        let announce = b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
        let ask = Ask::AnnouncePeer { info_hash: TARGET, port: None, token: b"aoeusnth" };
        assert_eq!(Packet::parse(announce).unwrap().body, Body::Query(query(ask)));
        let error = b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee";
        assert_eq!(Packet::parse(error).unwrap().body, Body::Error { code: 201 });
        let values =
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
        let Body::Response(response) = Packet::parse(values).unwrap().body else { panic!("no response") };
        assert_eq!(response.id, ID);
        assert_eq!(response.token, Some(&b"aoeusnth"[..]));
        let expected: Vec<SocketAddr> =
            vec!["97.120.106.101:11893".parse().unwrap(), "105.100.104.116:28269".parse().unwrap()];
        assert_eq!(response.peers, expected);
    }

    #[test]
    fn queries_survive_the_way_there_and_back() {
        let signed = Signed { key: &[1; 32], salt: b"salt", seq: 4, signature: &[2; 64] };
        for ask in [
            Ask::Ping,
            Ask::FindNode { target: TARGET },
            Ask::GetPeers { info_hash: TARGET },
            Ask::AnnouncePeer { info_hash: TARGET, port: Some(9979), token: b"t" },
            Ask::AnnouncePeer { info_hash: TARGET, port: None, token: b"t" },
            Ask::Get { target: TARGET, seq: None },
            Ask::Get { target: TARGET, seq: Some(3) },
            Ask::Put { item: Item { value: b"5:hello", signed: None }, cas: None, token: b"t" },
            Ask::Put { item: Item { value: b"d1:ai1ee", signed: Some(signed) }, cas: Some(3), token: b"t" },
        ] {
            there_and_back(&query(ask));
            let want = Some(Want { v4: true, v6: true });
            there_and_back(&Query { id: ID, read_only: true, ask, want });
        }
    }

    #[test]
    fn replies_survive_the_way_there_and_back() {
        let to: SocketAddr = "1.2.3.4:5".parse().unwrap();
        let v6 = Contact { id: TARGET, address: "[2a00::1]:6".parse().unwrap() };
        let v4 = Contact { id: ID, address: to };
        let signed = Signed { key: &[1; 32], salt: b"", seq: 4, signature: &[2; 64] };
        let item = Some(Item { value: b"le", signed: Some(signed) });
        let reply = Reply {
            nodes: Some(vec![v4]),
            nodes6: Some(vec![v6]),
            peers: vec![to, v6.address],
            token: Some(b"token"),
            item,
            seq: None,
        };
        let datagram = reply.encode(&ID, b"x", to);
        let Body::Response(response) = Packet::parse(&datagram).unwrap().body else { panic!("no response") };
        assert_eq!(response.contacts().collect::<Vec<_>>(), [v4, v6]);
        assert_eq!((response.id, response.seen_at), (ID, Some(to)));
        assert_eq!((response.peers, response.token, response.item), (reply.peers, Some(&b"token"[..]), item));
    }

    /// BEP 44 keys are sorted as raw strings, so that a strict reader takes our messages.
    #[test]
    fn keys_are_written_in_order() {
        fn sorted(value: &Value<'_>) -> bool {
            match value.kind() {
                Kind::Dictionary(members) => {
                    members.is_sorted_by(|(a, _), (b, _)| a < b)
                        && members.iter().all(|(_, value)| sorted(value))
                }
                _ => true,
            }
        }
        let signed = Signed { key: &[1; 32], salt: b"s", seq: 4, signature: &[2; 64] };
        let item = Item { value: b"le", signed: Some(signed) };
        let put = Ask::Put { item, cas: Some(1), token: b"t" };
        let announce = Ask::AnnouncePeer { info_hash: TARGET, port: Some(1), token: b"t" };
        for ask in [put, announce, Ask::Get { target: TARGET, seq: Some(1) }] {
            let query = Query { id: ID, read_only: true, ask, want: Some(Want { v4: true, v6: true }) };
            assert!(sorted(&Value::parse(&query.encode(b"x")).unwrap()), "{ask:?}");
        }
        let to: SocketAddr = "1.2.3.4:5".parse().unwrap();
        let contacts = Some(vec![Contact { id: ID, address: to }]);
        let reply = Reply {
            nodes: contacts.clone(),
            nodes6: contacts,
            peers: vec![to],
            token: Some(b"t"),
            item: Some(item),
            seq: None,
        };
        assert!(sorted(&Value::parse(&reply.encode(&ID, b"x", to)).unwrap()));
        assert!(sorted(&Value::parse(&encode_error(METHOD_UNKNOWN, "no", b"x")).unwrap()));
    }

    #[test]
    fn a_query_that_cannot_be_answered_gets_its_error() {
        for (datagram, wanted) in [
            (&b"d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t2:aa1:y1:qe"[..], METHOD_UNKNOWN),
            (b"d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe", PROTOCOL),
            (b"d1:q4:ping1:t2:aa1:y1:qe", PROTOCOL),
            (b"d1:ade1:q9:find_node1:t2:aa1:y1:qe", PROTOCOL),
        ] {
            match Packet::parse(datagram).unwrap().body {
                Body::Refused { code, .. } => assert_eq!(code, wanted),
                other => panic!("{other:?}"),
            }
        }
        let value = format!("1001:{}", "x".repeat(1001)).into_bytes();
        let item = Item { value: &value, signed: None };
        let put = Query { ask: Ask::Put { item, cas: None, token: b"t" }, ..query(Ask::Ping) }.encode(b"t");
        let Body::Refused { code, .. } = Packet::parse(&put).unwrap().body else { panic!("taken") };
        assert_eq!(code, VALUE_TOO_BIG);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(at in 0_usize..150, byte in any::<u8>(), cut in 0_usize..150) {
            let signed = Signed { key: &[1; 32], salt: b"salt", seq: 4, signature: &[2; 64] };
            let item = Item { value: b"5:hello", signed: Some(signed) };
            let ask = Ask::Put { item, cas: Some(3), token: b"t" };
            let mut datagram = Query { id: ID, read_only: true, ask, want: None }.encode(b"xy");
            datagram[at] = byte;
            let _ = Packet::parse(&datagram);
            datagram.truncate(cut);
            let _ = Packet::parse(&datagram);
        }
    }
}
