//! What a node answers: the queries of BEP 5 and 44, out of its stores.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ring::hmac;

use super::address::{Contact, is_dialable};
use super::id::Id;
use super::items::{Items, Refusal};
use super::limiter::Limiter;
use super::message::{Ask, Body, GENERIC, Item, PROTOCOL, Packet, Query, Reply, encode_error};
use super::peers::Peers;
use super::token::{Token, Tokens};

/// The longest answer, in bytes: it passes unfragmented everywhere but through the narrowest tunnels. Only the answer
/// to a `get` with a value comes near; it names fewer nodes where it would be longer.
pub(super) const MAX_ANSWER: usize = 1400;

/// An answer of more bytes counts as two: only a value of BEP 44 makes one, and whoever asks for it in another's name
/// makes 16 bytes of one.
const LONG_ANSWER: usize = 700;

/// How many nodes an answer names (BEP 5: "K (8)").
const MAX_NODES: usize = 8;

/// The most IPv4 peers of an answer: 8 bytes each. With 8 nodes it is at most about 600 bytes, so that nobody gains
/// much by asking in another's name.
const MAX_PEERS: usize = 30;

/// The same for IPv6: 21 bytes each, and the nodes are longer too.
const MAX_PEERS6: usize = 8;

/// How much a node keeps for others, and how often it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most info-hashes whose peers are kept, of 64 peers and about 2 KiB each at most.
    pub info_hashes: usize,
    /// The most values of BEP 44.
    pub items: usize,
    /// The most memory that those take, in bytes.
    pub item_bytes: usize,
    /// The most queries that are answered in a second.
    pub queries_per_second: u32,
    /// The size of each of the two tables of who asked how often: 8 bytes each.
    pub sources: usize,
}

impl Limits {
    /// For a daemon beside other work: at most 11 MiB for each address family, and 175 KB/s of answers.
    pub const fn daemon() -> Self {
        Self {
            info_hashes: 4_000,
            items: 2_000,
            item_bytes: 2 << 20,
            queries_per_second: 250,
            sources: 8 << 10,
        }
    }

    /// For a node that many enter the network by: at most 64 MiB for each address family, and 3.5 MB/s of
    /// answers.
    pub const fn bootstrap() -> Self {
        Self {
            info_hashes: 20_000,
            items: 20_000,
            item_bytes: 20 << 20,
            queries_per_second: 5_000,
            sources: 128 << 10,
        }
    }

    /// What the stores take in memory at most, in bytes.
    pub const fn memory(&self) -> usize {
        self.info_hashes * Peers::MAX_SIZE + self.item_bytes + 2 * 8 * self.sources
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::daemon()
    }
}

/// What a node keeps for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Info-hashes with a peer.
    pub info_hashes: usize,
    /// Peers of all info-hashes.
    pub peers: usize,
    /// Values of BEP 44.
    pub items: usize,
    /// What those take in memory, in bytes.
    pub bytes: usize,
}

/// Answers queries. A node serves one address family; the address of whoever asks tells which.
#[derive(Debug)]
pub(super) struct Responder {
    limiter: Limiter,
    tokens: Tokens,
    peers: Peers,
    items: Items,
}

impl Responder {
    /// Nothing stored yet. `secret` is random and nobody else's: who may write is told by it.
    pub(super) fn new(limits: Limits, secret: [u8; 32], now: Instant) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let seed = hmac::sign(&key, b"sample");
        let seed = seed.as_ref().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        Self {
            limiter: Limiter::new(key.clone(), limits.sources, limits.queries_per_second, now),
            tokens: Tokens::new(key, now),
            peers: Peers::new(limits.info_hashes, seed, now),
            items: Items::new(limits.items, limits.item_bytes, now),
        }
    }

    /// Whether a query from there may cost us anything; if so, it is counted. Responses to our own queries are not for
    /// this: their transactions tell that we wanted them.
    pub(super) fn admit(&mut self, from: IpAddr, now: Instant) -> bool {
        self.limiter.admit(from, now)
    }

    /// The datagram that answers `packet` (a query, or one that is refused), `None` where silence is the answer.
    ///
    /// `close` gives the nodes of our table closest to a point, at most 8, all of our own address family.
    pub(super) fn answer(
        &mut self,
        own: &Id,
        from: SocketAddr,
        packet: &Packet<'_>,
        close: impl Fn(&Id) -> Vec<Contact>,
        now: Instant,
    ) -> Option<Vec<u8>> {
        // Nobody is there to be answered.
        if from.port() == 0 {
            return None;
        }
        let query = match &packet.body {
            Body::Query(query) => query,
            Body::Refused { code, why } => return Some(encode_error(*code, why, packet.transaction)),
            Body::Response(_) | Body::Error { .. } => return None,
        };
        let token = self.token(from.ip(), now);
        let nodes = Nodes { query, v4: from.is_ipv4(), close };
        let reply = match self.reply(query, &nodes, &token, from, now) {
            Ok(reply) => reply,
            Err(Refusal { code, why }) => return Some(encode_error(code, why, packet.transaction)),
        };
        let datagram = encode(reply, own, packet.transaction, from);
        if datagram.len() > LONG_ANSWER {
            // Whether there is anything left to be drawn does not matter: this one is answered.
            let _ = self.limiter.admit(from.ip(), now);
        }
        Some(datagram)
    }

    /// What lets somebody write from there for the next five minutes.
    pub(super) fn token(&self, to: IpAddr, now: Instant) -> Token {
        self.tokens.issue(to, now)
    }

    /// Forgets what is too old. Cheap; called every minute or so.
    pub(super) fn expire(&mut self, now: Instant) {
        self.peers.expire(now);
        self.items.expire(now);
    }

    /// What is stored now.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            info_hashes: self.peers.info_hashes(),
            peers: self.peers.peers(),
            items: self.items.len(),
            bytes: self.items.bytes(),
        }
    }

    /// What is answered, and done.
    fn reply<'a>(
        &'a mut self,
        query: &Query<'_>,
        nodes: &Nodes<'_, impl Fn(&Id) -> Vec<Contact>>,
        token: &'a Token,
        from: SocketAddr,
        now: Instant,
    ) -> Result<Reply<'a>, Refusal> {
        match query.ask {
            Ask::Ping => Ok(Reply::default()),
            Ask::FindNode { target } => Ok(nodes.close_to(&target)),
            Ask::GetPeers { info_hash } => {
                let most = if from.is_ipv4() { MAX_PEERS } else { MAX_PEERS6 };
                let peers = self.peers.sample(&info_hash, most, from.ip(), now);
                Ok(Reply { peers, token: Some(token), ..nodes.close_to(&info_hash) })
            }
            Ask::Get { target, seq } => {
                let (item, seq) = self.value(&target, seq);
                Ok(Reply { item, seq, token: Some(token), ..nodes.close_to(&target) })
            }
            Ask::AnnouncePeer { info_hash, port, token } => {
                self.check(token, from, now)?;
                let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
                if !is_dialable(peer) {
                    return Err(Refusal { code: GENERIC, why: "nobody can reach that address" });
                }
                self.peers.announce(info_hash, peer, now);
                Ok(Reply::default())
            }
            Ask::Put { item, cas, token } => {
                self.check(token, from, now)?;
                self.items.put(&item, cas, from.ip(), now)?;
                Ok(Reply::default())
            }
        }
    }

    /// The value of a target and its number.
    fn value(&self, target: &Id, known: Option<i64>) -> (Option<Item<'_>>, Option<i64>) {
        let Some(item) = self.items.get(target) else { return (None, None) };
        let seq = item.seq();
        // BEP 44, "get message": the value is left out where its number "is less than or equal to the `seq` field".
        let not_newer = seq.is_some() && known >= seq;
        (Some(item.as_message()).filter(|_| !not_newer), seq)
    }

    /// BEP 5: "The queried node must verify that the token was previously sent to the same IP address".
    fn check(&self, token: &[u8], from: SocketAddr, now: Instant) -> Result<(), Refusal> {
        if self.tokens.accepts(token, from.ip(), now) {
            return Ok(());
        }
        Err(Refusal { code: PROTOCOL, why: "bad token" })
    }
}

/// Names nodes as the query wants them.
struct Nodes<'q, F> {
    query: &'q Query<'q>,
    v4: bool,
    close: F,
}

impl<F: Fn(&Id) -> Vec<Contact>> Nodes<'_, F> {
    fn close_to(&self, target: &Id) -> Reply<'static> {
        // BEP 32: without `want`, those of the family that the query came by.
        let wanted = self.query.want.is_none_or(|want| if self.v4 { want.v4 } else { want.v6 });
        if !wanted {
            return Reply::default();
        }
        let mut nodes = (self.close)(target);
        // The compact form has one length for all.
        nodes.retain(|node| node.address.is_ipv4() == self.v4);
        nodes.truncate(MAX_NODES);
        if self.v4 {
            Reply { nodes: Some(nodes), ..Reply::default() }
        } else {
            Reply { nodes6: Some(nodes), ..Reply::default() }
        }
    }
}

/// The datagram, with fewer nodes (the farthest go first) where it would be too long.
fn encode(mut reply: Reply<'_>, own: &Id, transaction: &[u8], to: SocketAddr) -> Vec<u8> {
    loop {
        let datagram = reply.encode(own, transaction, to);
        let nodes = reply.nodes.as_mut().or(reply.nodes6.as_mut());
        if datagram.len() <= MAX_ANSWER || nodes.is_none_or(|nodes| nodes.pop().is_none()) {
            return datagram;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::{OwnedItem, Signer};
    use super::super::message::{
        BAD_SIGNATURE, MAX_TRANSACTION, METHOD_UNKNOWN, Response, SEQUENCE_TOO_OLD, Want,
    };
    use super::*;
    use crate::bencode::Value;
    use std::time::Duration;

    const OWN: Id = Id::new([0xee; 20]);
    const ASKER: Id = Id::new([0xaa; 20]);
    const HASH: Id = Id::new([7; 20]);

    /// A node with a table, and the time.
    struct Bench {
        responder: Responder,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self { responder: Responder::new(Limits::daemon(), [1; 32], now), now }
        }

        fn send(&mut self, from: &str, datagram: &[u8]) -> Option<Vec<u8>> {
            let from: SocketAddr = from.parse().unwrap();
            let packet = Packet::parse(datagram).ok()?;
            self.responder.answer(&OWN, from, &packet, |_| nodes(from.is_ipv4()), self.now)
        }

        fn query(&mut self, from: &str, ask: Ask<'_>, want: Option<Want>) -> Vec<u8> {
            let query = Query { id: ASKER, read_only: true, ask, want };
            self.send(from, &query.encode(b"xy")).expect("no answer")
        }

        fn ask(&mut self, from: &str, ask: Ask<'_>) -> Vec<u8> {
            self.query(from, ask, None)
        }

        fn token(&mut self, from: &str) -> Vec<u8> {
            let answer = self.ask(from, Ask::GetPeers { info_hash: HASH });
            response(&answer).token.unwrap().to_vec()
        }

        fn announce(&mut self, from: &str, port: Option<u16>) -> Vec<u8> {
            let token = self.token(from);
            self.ask(from, Ask::AnnouncePeer { info_hash: HASH, port, token: &token })
        }

        fn put(&mut self, from: &str, item: Item<'_>, cas: Option<i64>) -> Vec<u8> {
            let token = self.token(from);
            self.ask(from, Ask::Put { item, cas, token: &token })
        }
    }

    /// Ten, of which eight may be named, and a stray one.
    fn nodes(v4: bool) -> Vec<Contact> {
        let address = |at: u8, v4| match v4 {
            true => SocketAddr::from(([20, at, 0, 1], 6881)),
            false => SocketAddr::from(([0x2a00, at.into(), 0, 0, 0, 0, 0, 1], 6881)),
        };
        let stray = Contact { id: ASKER, address: address(9, !v4) };
        let own = (1..=10).map(|at| Contact { id: Id::new([at; 20]), address: address(at, v4) });
        [stray].into_iter().chain(own).collect()
    }

    fn response(datagram: &[u8]) -> Response<'_> {
        match Packet::parse(datagram).unwrap().body {
            Body::Response(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn error(datagram: &[u8]) -> i64 {
        match Packet::parse(datagram).unwrap().body {
            Body::Error { code } => code,
            other => panic!("{other:?}"),
        }
    }

    fn longest_value() -> Vec<u8> {
        [b"996:".to_vec(), vec![b'x'; 996]].concat()
    }

    #[test]
    fn a_ping_is_answered_with_who_we_are_and_where_the_asker_is() {
        let mut bench = Bench::new();
        for length in [0, 1, 2, 4, MAX_TRANSACTION] {
            let query = Query { id: ASKER, read_only: false, ask: Ask::Ping, want: None };
            let transaction = vec![b't'; length];
            let answer = bench.send("1.2.3.4:567", &query.encode(&transaction)).unwrap();
            assert_eq!(Packet::parse(&answer).unwrap().transaction, transaction);
            let response = response(&answer);
            assert_eq!((response.id, response.seen_at), (OWN, Some("1.2.3.4:567".parse().unwrap())));
            assert_eq!((response.token, response.contacts().count()), (None, 0));
        }
    }

    #[test]
    fn nodes_are_of_the_family_that_asks_and_left_out_where_unwanted() {
        let mut bench = Bench::new();
        for (from, v4) in [("1.2.3.4:5", true), ("[2a00::1]:5", false)] {
            let find = Ask::FindNode { target: HASH };
            let answer = bench.ask(from, find);
            assert_eq!(response(&answer).contacts().collect::<Vec<_>>(), nodes(v4)[1..9]);
            let ours = Want { v4, v6: !v4 };
            assert_eq!(bench.query(from, find, Some(ours)), answer);
            let theirs = Want { v4: !v4, v6: v4 };
            for ask in [find, Ask::GetPeers { info_hash: HASH }, Ask::Get { target: HASH, seq: None }] {
                let answer = bench.query(from, ask, Some(theirs));
                assert_eq!(response(&answer).contacts().count(), 0);
            }
        }
    }

    #[test]
    fn who_announces_is_named_to_who_asks() {
        let mut bench = Bench::new();
        assert_eq!(response(&bench.announce("1.2.3.4:5", Some(9979))).id, OWN);
        bench.announce("2.3.4.5:6", None);
        let answer = bench.ask("3.4.5.6:7", Ask::GetPeers { info_hash: HASH });
        let response = response(&answer);
        let mut peers = response.peers.clone();
        peers.sort_unstable();
        assert_eq!(peers, ["1.2.3.4:9979".parse().unwrap(), "2.3.4.5:6".parse().unwrap()], "implied port");
        assert_eq!(response.contacts().count(), 8, "nodes are named all the same");
        assert_eq!(bench.responder.counts(), Counts { info_hashes: 1, peers: 2, ..Counts::default() });
        bench.now += Duration::from_secs(46 * 60);
        bench.responder.expire(bench.now);
        assert_eq!(bench.responder.counts(), Counts::default());
    }

    #[test]
    fn nobody_writes_without_a_token_of_his_own() {
        let mut bench = Bench::new();
        let theirs = bench.token("9.9.9.9:1");
        let old = bench.token("1.2.3.4:5");
        bench.now += Duration::from_secs(11 * 60);
        let item = Item { value: b"le", signed: None };
        for token in [&theirs[..], &old, b"", b"12345678", &[0; 64]] {
            let announce = Ask::AnnouncePeer { info_hash: HASH, port: Some(1), token };
            assert_eq!(error(&bench.ask("1.2.3.4:5", announce)), PROTOCOL);
            assert_eq!(error(&bench.ask("1.2.3.4:5", Ask::Put { item, cas: None, token })), PROTOCOL);
        }
        assert_eq!(bench.responder.counts(), Counts::default());
    }

    #[test]
    fn what_is_put_is_got_and_only_if_it_is_newer() {
        let mut bench = Bench::new();
        let signer = Signer::from_seed(&[5; 32]).unwrap();
        let mutable = signer.sign(b"5:hello", b"salt", 3).unwrap();
        let immutable = OwnedItem::immutable(b"d1:ai1ee").unwrap();
        for (item, salt) in [(&mutable, &b"salt"[..]), (&immutable, b"")] {
            assert_eq!(response(&bench.put("1.2.3.4:5", item.as_message(), None)).id, OWN);
            let target = item.target();
            for (seq, sent) in [(None, true), (Some(2), true), (Some(3), item.seq().is_none())] {
                let answer = bench.ask("2.3.4.5:6", Ask::Get { target, seq });
                let response = response(&answer);
                assert_eq!((response.token.is_some(), response.contacts().count()), (true, 8));
                let got = response.item.map(|item| OwnedItem::verify(&item, &target, salt).unwrap());
                assert_eq!(got.as_ref(), Some(item).filter(|_| sent), "{seq:?}");
                let message = Value::parse(&answer).unwrap();
                let told = message.get("r").unwrap().get("seq").and_then(Value::integer);
                assert_eq!(told, item.seq());
            }
        }
        assert_eq!(bench.responder.counts().items, 2);
        let older = signer.sign(b"5:older", b"salt", 2).unwrap();
        assert_eq!(error(&bench.put("1.2.3.4:5", older.as_message(), None)), SEQUENCE_TOO_OLD);
        let mut forged = mutable.as_message();
        forged.value = b"6:forged";
        if let Some(signed) = &mut forged.signed {
            signed.seq = 4;
        }
        assert_eq!(error(&bench.put("1.2.3.4:5", forged, None)), BAD_SIGNATURE);
    }

    #[test]
    fn what_is_no_good_query_gets_an_error_and_what_is_no_query_silence() {
        let mut bench = Bench::new();
        let vote = b"d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t2:aa1:y1:qe";
        let answer = bench.send("1.2.3.4:5", vote).unwrap();
        assert_eq!(
            (error(&answer), Packet::parse(&answer).unwrap().transaction),
            (METHOD_UNKNOWN, &b"aa"[..])
        );
        assert_eq!(error(&bench.announce("0.1.2.3:5", Some(1))), GENERIC);
        assert_eq!(bench.send("1.2.3.4:0", vote), None);
        let pong = Reply::default().encode(&ASKER, b"t", "1.2.3.4:5".parse().unwrap());
        assert_eq!(bench.send("1.2.3.4:5", &pong), None);
        assert_eq!(bench.send("1.2.3.4:5", &encode_error(METHOD_UNKNOWN, "no", b"t")), None);
    }

    /// The most that each method makes of a question, from its shortest form.
    #[test]
    fn answers_are_bounded_and_nobody_gains_much_by_asking_in_anothers_name() {
        let mut bench = Bench::new();
        let mutable = Signer::from_seed(&[5; 32]).unwrap().sign(&longest_value(), b"", i64::MAX).unwrap();
        let target = mutable.target();
        for v4 in [true, false] {
            for number in 0..64_u8 {
                let from = if v4 { format!("20.{number}.0.1:5") } else { format!("[2a00:{number}::1]:5") };
                bench.announce(&from, Some(65535));
            }
            let from = if v4 { "250.250.250.250:65535" } else { "[2a00:ffff::1]:65535" };
            let from = from.replace("250.", "199.");
            bench.put(&from, mutable.as_message(), None);
            let token = bench.token(&from);
            for (ask, bytes, times) in [
                (Ask::Ping, 120, 2.0),
                (Ask::FindNode { target: HASH }, 460, 5.0),
                (Ask::GetPeers { info_hash: HASH }, 640, 7.0),
                (Ask::Get { target: HASH, seq: None }, 460, 5.0),
                (Ask::Get { target, seq: None }, MAX_ANSWER, 17.0),
                (Ask::Get { target, seq: Some(i64::MAX) }, 500, 5.0),
                (Ask::AnnouncePeer { info_hash: HASH, port: None, token: &token }, 120, 1.0),
                (Ask::Put { item: mutable.as_message(), cas: None, token: &token }, 120, 1.0),
            ] {
                let query = Query { id: ASKER, read_only: false, ask, want: None };
                let longest = bench.send(&from, &query.encode(&[b't'; MAX_TRANSACTION])).unwrap();
                assert!(longest.len() <= bytes, "{}: {} bytes", ask.method(), longest.len());
                let mut question = query.encode(b"");
                let version = b"1:v4:AP\x00\x01";
                let at = question.windows(version.len()).position(|bytes| bytes == version).unwrap();
                question.drain(at..at + version.len());
                let ratio = bench.send(&from, &question).unwrap().len() as f64 / question.len() as f64;
                assert!(ratio <= times, "{}: {ratio}", ask.method());
            }
        }
    }

    #[test]
    fn the_longest_value_is_sent_whole_with_fewer_nodes() {
        let mut bench = Bench::new();
        let mutable = Signer::from_seed(&[5; 32]).unwrap().sign(&longest_value(), b"", i64::MAX).unwrap();
        let from = "[2a00::1]:5";
        bench.put(from, mutable.as_message(), None);
        let ask = Ask::Get { target: mutable.target(), seq: None };
        let query = Query { id: ASKER, read_only: false, ask, want: None };
        let answer = bench.send(from, &query.encode(&[b't'; MAX_TRANSACTION])).unwrap();
        let response = response(&answer);
        assert_eq!(response.item.unwrap().value, longest_value());
        let contacts: Vec<_> = response.contacts().collect();
        assert!((1..8).contains(&contacts.len()), "{}", contacts.len());
        assert_eq!(contacts, nodes(false)[1..=contacts.len()], "the closest");
    }

    #[test]
    fn the_memory_is_what_the_limits_say() {
        assert!(Limits::daemon().memory() <= 11 << 20, "{}", Limits::daemon().memory());
        assert!(Limits::bootstrap().memory() <= 64 << 20, "{}", Limits::bootstrap().memory());
    }
}
