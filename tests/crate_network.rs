//! Our node among those of the `mainline` crate, and the crate's client among ours, on real sockets.
//!
//! What works in each direction, each line a test:
//!
//! | | our node in a network of the crate's | the crate's client in a network of ours |
//! | --- | --- | --- |
//! | `announce_peer` | the crate's client finds it | our node finds it |
//! | `get_peers` | finds what the crate's client announced | finds what our node announced |
//! | put, immutable and mutable, salted or not | **taken by nobody**: not answered | taken by 8 nodes; our node reads it |
//! | get of byte strings, salted or not | finds what the crate's client put | finds what our node put |
//! | get and put of other values | (nobody there has one) | **not read**, and cannot be put |
//!
//! The crate's nodes answer only queries with transaction ids of four bytes (libtorrent's have two), and none over IPv6,
//! for which it has no type. They want the target named in every `put`, which BEP 44 does not and which no other program does. They
//! hold the value for a byte string, so our piece lists, which are dictionaries, are nothing to them in either direction.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(deprecated, reason = "the crate's blocking calls are the shortest to test with")]

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use aptpeer::dht::message::{Ask, MAX_DATAGRAM, Packet, Query};
use aptpeer::dht::{Event, Family, Limits, Node, NodeConfig, OwnedItem, Signer, Urgency};
use aptpeer::digest::{InfoHash, Sha256};
use aptpeer::discovery::{Dht, DhtConfig, Names};
use aptpeer::metrics::Metrics;
use mainline::{Id, MutableItem, SigningKey, Testnet};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Nodes of each network.
const NODES: usize = 20;

/// Nobody waits so long, unless the machine is very busy.
const LIMIT: Duration = Duration::from_secs(60);

/// The longest value is 996 bytes with its length before it (BEP 44: "less than 1000 bytes").
const LONGEST: usize = 996;

/// The crate's own test network.
static THEIRS: LazyLock<Testnet> = LazyLock::new(|| Testnet::builder(NODES).build().unwrap());

/// A network of ours. It lives as long as the process.
static OURS: LazyLock<Ours> = LazyLock::new(Ours::new);

/// Where our nodes run.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());

struct Ours {
    bootstrap: Vec<String>,
    _nodes: Vec<Dht>,
}

impl Ours {
    fn new() -> Self {
        let (first, address) = node(Vec::new());
        let bootstrap = vec![address.to_string()];
        let others = (1..NODES).map(|_| node(bootstrap.clone()).0);
        let nodes: Vec<Dht> = [first].into_iter().chain(others).collect();
        for node in &nodes[1..] {
            assert!(RUNTIME.block_on(node.ready(LIMIT)));
        }
        // As many as the 8 closest, at least, or the nodes that hold something are not those that are asked.
        let deadline = Instant::now() + LIMIT;
        while nodes.iter().any(|node| node.status().good_nodes < 8) {
            assert!(Instant::now() < deadline, "the network does not come together");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { bootstrap, _nodes: nodes }
    }
}

/// A node of ours that runs.
fn node(bootstrap: Vec<String>) -> (Dht, SocketAddr) {
    RUNTIME.block_on(async {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (dht, driver) = Dht::new(DhtConfig {
            sockets: vec![socket],
            bootstrap: Names::new(bootstrap),
            state: None,
            read_only: false,
            allow_local: true,
            background_rate: 10_000,
            limits: Limits::daemon(),
            publishers: Vec::new(),
            swarm: aptpeer::wire::Swarm::PUBLIC,
            metrics: Metrics::new(Instant::now()),
        })
        .unwrap();
        RUNTIME.spawn(driver.run(CancellationToken::new()));
        (dht, address)
    })
}

/// A node of ours in a network.
fn ours_in(network: &[String]) -> Dht {
    let (dht, _) = node(network.to_vec());
    assert!(RUNTIME.block_on(dht.ready(LIMIT)), "our node found no way in");
    dht
}

/// The crate's client in a network.
fn crate_in(network: &[String]) -> mainline::Dht {
    let client = mainline::Dht::builder()
        .bootstrap(network)
        .bind_address(std::net::Ipv4Addr::LOCALHOST)
        .build()
        .unwrap();
    assert!(client.bootstrapped(), "the crate's client found no way in");
    client
}

/// What our machine finds of a value, byte strings without their length. It asks, and answers nobody.
fn find(network: &[String], target: &Id, salt: &[u8]) -> HashSet<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = NodeConfig {
        id: aptpeer::dht::Id::new([0x55; 20]),
        family: Family::V4,
        seed: [7; 32],
        read_only: true,
        allow_local: true,
        background_rate: 1000,
        limits: Limits::daemon(),
    };
    let mut node = Node::new(config, Instant::now());
    node.add_nodes(network.iter().map(|address| address.parse().unwrap()), Instant::now());
    let target = aptpeer::dht::Id::new(*target.as_bytes());
    let look_up = node.find_item(target, salt.to_vec(), Urgency::Now, Instant::now());
    let (deadline, mut found) = (Instant::now() + LIMIT, HashSet::new());
    loop {
        while let Some(transmit) = node.poll_transmit() {
            socket.send_to(&transmit.payload, transmit.to).unwrap();
        }
        while let Some(event) = node.poll_event() {
            match event {
                Event::Item { item, .. } => {
                    found.insert(item.value().to_vec());
                }
                Event::Ended { look_up: ended, .. } if ended == look_up => return found,
                _ => {}
            }
        }
        let now = Instant::now();
        assert!(now < deadline, "the look-up does not end");
        let wait = node.next_timeout().map_or(LIMIT, |due| due.saturating_duration_since(now));
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).unwrap();
        // The crate names 20 nodes beside a value, where 8 are usual.
        let mut datagram = [0; MAX_DATAGRAM];
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            node.handle_datagram(from, &datagram[..length], Instant::now());
        }
        node.handle_timeout(Instant::now());
    }
}

/// Whether a node answers a ping with a transaction id of two bytes, when it answers one of four after it.
fn answers_short_ids(node: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut short = false;
    for transaction in [&b"aa"[..], b"aaaa"] {
        let query = Query { id: aptpeer::dht::Id::new([1; 20]), read_only: true, ask: Ask::Ping, want: None };
        socket.send_to(&query.encode(transaction), node).unwrap();
    }
    loop {
        let mut datagram = [0; MAX_DATAGRAM];
        let (length, _) = socket.recv_from(&mut datagram).unwrap();
        match Packet::parse(&datagram[..length]).unwrap().transaction {
            b"aa" => short = true,
            b"aaaa" => return short,
            other => panic!("{other:?}"),
        }
    }
}

fn our_peers(node: &Dht, info_hash: Id) -> HashSet<SocketAddr> {
    let mut found = node.find_peers(InfoHash::new(*info_hash.as_bytes())).unwrap();
    RUNTIME.block_on(async {
        let mut peers = HashSet::new();
        while let Some(more) = found.recv().await {
            peers.extend(more);
        }
        peers
    })
}

fn crate_peers(client: &mainline::Dht, info_hash: Id) -> HashSet<SocketAddr> {
    client.get_peers(info_hash).flatten().map(SocketAddr::from).collect()
}

fn at(port: u16) -> HashSet<SocketAddr> {
    HashSet::from([SocketAddr::from(([127, 0, 0, 1], port))])
}

fn our_announce(node: &Dht, info_hash: Id, port: u16) {
    let announce = node.announce(InfoHash::new(*info_hash.as_bytes()), port);
    let ended = RUNTIME.block_on(announce).unwrap();
    assert_eq!(ended.stored, 8, "{ended:?}");
}

/// The number of nodes that took it.
fn our_store(node: &Dht, item: OwnedItem) -> u32 {
    RUNTIME.block_on(node.store(item)).unwrap().stored
}

/// A byte string as a bencoded value.
fn bytes(text: &[u8]) -> Vec<u8> {
    [format!("{}:", text.len()).as_bytes(), text].concat()
}

fn seed(of: &str) -> [u8; 32] {
    *Sha256::of(of.as_bytes()).as_bytes()
}

/// Byte strings that travel: none, some, as many as fit.
fn texts() -> [Vec<u8>; 3] {
    [Vec::new(), b"a value".to_vec(), vec![b'x'; LONGEST]]
}

/// Ids of nodes and of what is stored are the same 20 bytes to both.
fn crate_id(id: aptpeer::dht::Id) -> Id {
    Id::from_bytes(id.as_bytes()).unwrap()
}

#[test]
fn the_crate_finds_what_we_announce_among_its_nodes() {
    let (ours, client) = (ours_in(&THEIRS.bootstrap[..1]), crate_in(&THEIRS.bootstrap[..1]));
    let info_hash = Id::random();
    assert!(crate_peers(&client, info_hash).is_empty());
    our_announce(&ours, info_hash, 9979);
    // Another client, that has asked for nothing yet.
    assert_eq!(crate_peers(&crate_in(&THEIRS.bootstrap[1..2]), info_hash), at(9979));
}

#[test]
fn we_find_what_the_crate_announces_among_its_nodes() {
    let (ours, client) = (ours_in(&THEIRS.bootstrap[..1]), crate_in(&THEIRS.bootstrap[1..2]));
    let info_hash = Id::random();
    client.announce_peer(info_hash, Some(4444)).unwrap();
    assert_eq!(our_peers(&ours, info_hash), at(4444));
}

#[test]
fn the_crate_finds_what_we_announce_among_our_nodes() {
    let ours = ours_in(&OURS.bootstrap);
    let info_hash = Id::random();
    our_announce(&ours, info_hash, 9979);
    assert_eq!(crate_peers(&crate_in(&OURS.bootstrap), info_hash), at(9979));
}

#[test]
fn we_find_what_the_crate_announces_among_our_nodes() {
    let client = crate_in(&OURS.bootstrap);
    let info_hash = Id::random();
    client.announce_peer(info_hash, Some(4444)).unwrap();
    assert_eq!(our_peers(&ours_in(&OURS.bootstrap), info_hash), at(4444));
    // BEP 5: with `implied_port`, the port is that of the datagram.
    let implied = Id::random();
    client.announce_peer(implied, None).unwrap();
    let port = client.info().local_addr().port();
    assert_eq!(our_peers(&ours_in(&OURS.bootstrap), implied), at(port));
}

#[test]
fn the_crate_s_nodes_answer_none_of_our_puts() {
    // A network of its own: nodes of ours in the other one would take it.
    let network = Testnet::builder(NODES).build().unwrap();
    let ours = ours_in(&network.bootstrap[..1]);
    let signer = Signer::from_seed(&seed("no target")).unwrap();
    let items = [&bytes(b"a value")[..], b"d1:ai1ee"].map(|value| {
        [
            OwnedItem::immutable(value).unwrap(),
            signer.sign(value, b"", 1).unwrap(),
            signer.sign(value, b"salt", 1).unwrap(),
        ]
    });
    let stores = items.as_flattened().iter().map(|item| ours.store(item.clone()));
    for ended in RUNTIME.block_on(futures_util::future::join_all(stores)) {
        let ended = ended.unwrap();
        assert!(ended.answered >= 8, "they answer what is asked: {ended:?}");
        assert_eq!(ended.stored, 0, "{ended:?}");
    }
    // Whoever drops puts is a node all the same.
    // On busy cores some answers of the first walk come late, and are asked for again.
    let end = Instant::now() + Duration::from_secs(60);
    while ours.status().good_nodes < NODES * 3 / 4 {
        assert!(Instant::now() < end, "{:?}", ours.status());
        let again = signer.sign(b"a value", b"", 1).unwrap();
        RUNTIME.block_on(ours.store(again)).unwrap();
    }
}

#[test]
fn we_find_immutable_values_among_the_crate_s_nodes() {
    let client = crate_in(&THEIRS.bootstrap[..1]);
    for text in texts() {
        let target = client.put_immutable(&text).unwrap();
        assert_eq!(find(&THEIRS.bootstrap[1..2], &target, b""), HashSet::from([bytes(&text)]));
    }
}

#[test]
fn we_find_mutable_values_among_the_crate_s_nodes() {
    let client = crate_in(&THEIRS.bootstrap[..1]);
    for salt in [None, Some(&b"salt"[..]), Some(&[0xff; 64])] {
        for (seq, text) in (0..).zip(texts()) {
            let key = SigningKey::from_bytes(&seed("theirs among theirs"));
            let target = client.put_mutable(MutableItem::new(key, &text, seq, salt), None).unwrap();
            let found = find(&THEIRS.bootstrap[1..2], &target, salt.unwrap_or_default());
            assert!(found.contains(&bytes(&text)), "salt {salt:?}, number {seq}: {found:?}");
        }
    }
}

#[test]
fn immutable_values_go_both_ways_among_our_nodes() {
    let (ours, client) = (ours_in(&OURS.bootstrap), crate_in(&OURS.bootstrap));
    for text in texts() {
        let text = [b"theirs "[..].to_vec(), text].concat();
        let text = &text[..text.len().min(LONGEST)];
        let target = client.put_immutable(text).unwrap();
        assert_eq!(find(&OURS.bootstrap, &target, b""), HashSet::from([bytes(text)]));
    }
    for text in texts() {
        let item = OwnedItem::immutable(&bytes(&text)).unwrap();
        let target = crate_id(item.target());
        assert_eq!(our_store(&ours, item), 8);
        assert_eq!(client.get_immutable(target).as_deref(), Some(&*text));
    }
}

#[test]
fn mutable_values_go_both_ways_among_our_nodes() {
    let (ours, client) = (ours_in(&OURS.bootstrap), crate_in(&OURS.bootstrap));
    for salt in [None, Some(&b"salt"[..]), Some(&[0xff; 64])] {
        for (seq, text) in (0..).zip(texts()) {
            let key = SigningKey::from_bytes(&seed("theirs among ours"));
            let target = client.put_mutable(MutableItem::new(key, &text, seq, salt), None).unwrap();
            let found = find(&OURS.bootstrap, &target, salt.unwrap_or_default());
            assert_eq!(found, HashSet::from([bytes(&text)]), "salt {salt:?}, number {seq}");

            let signer = Signer::from_seed(&seed("ours among ours")).unwrap();
            let item = signer.sign(&bytes(&text), salt.unwrap_or_default(), seq).unwrap();
            assert_eq!(our_store(&ours, item), 8);
            let found = client.get_mutable_most_recent(signer.public_key(), salt).unwrap();
            assert_eq!((found.value(), found.seq()), (&*text, seq), "salt {salt:?}");
        }
    }
}

#[test]
fn the_crate_reads_no_value_but_byte_strings() {
    let (ours, client) = (ours_in(&OURS.bootstrap), crate_in(&OURS.bootstrap));
    let signer = Signer::from_seed(&seed("a dictionary")).unwrap();
    for value in [&b"d1:ai1ee"[..], b"le", b"i5e"] {
        let immutable = OwnedItem::immutable(value).unwrap();
        let target = crate_id(immutable.target());
        assert_eq!(our_store(&ours, immutable), 8);
        assert_eq!(find(&OURS.bootstrap, &target, b""), HashSet::from([value.to_vec()]), "the control");
        assert_eq!(client.get_immutable(target), None);

        let mutable = signer.sign(value, value, 1).unwrap();
        assert_eq!(our_store(&ours, mutable), 8);
        assert_eq!(client.get_mutable_most_recent(signer.public_key(), Some(value)), None);
    }
}

#[test]
fn the_crate_s_nodes_answer_only_transaction_ids_of_four_bytes() {
    assert!(!answers_short_ids(THEIRS.bootstrap[0].parse().unwrap()));
    assert!(answers_short_ids(OURS.bootstrap[0].parse().unwrap()), "the control");
}
