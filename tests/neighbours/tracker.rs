//! A DHT of one node, which counts what it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use aptpeer::bencode::{Value, Writer};
use aptpeer::digest::InfoHash;

/// How often it looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One node that answers everybody and knows no other: whoever enters by it finds whom it was told of.
pub(crate) struct Tracker {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    asked: Mutex<Vec<(SocketAddr, InfoHash)>>,
    announced: Mutex<Vec<(InfoHash, u16)>>,
    peers: Mutex<BTreeMap<InfoHash, BTreeSet<SocketAddrV4>>>,
}

impl Tracker {
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0", None)
    }

    /// One at this address, which tells all who ask that it sees them at `seen` (BEP 42, "ip").
    pub(crate) fn at(address: &str, seen: Option<SocketAddrV4>) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while !serving.stopped.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
                if let Some(answer) = serving.answer(&datagram[..length], (address, from), seen) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What this node was asked for with `get_peers` by the one at `from`.
    pub(crate) fn asked_by(&self, from: SocketAddr) -> Vec<InfoHash> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|(by, _)| *by == from).map(|(_, what)| *what).collect()
    }

    /// Everything that anybody announced, with the port that he told.
    pub(crate) fn announced(&self) -> Vec<(InfoHash, u16)> {
        self.shared.announced.lock().unwrap().clone()
    }

    /// Who announced himself under this.
    pub(crate) fn peers(&self, info_hash: InfoHash) -> Vec<SocketAddrV4> {
        self.shared.peers.lock().unwrap().get(&info_hash).into_iter().flatten().copied().collect()
    }

    /// From now on names this peer, too.
    pub(crate) fn add(&self, info_hash: InfoHash, peer: SocketAddr) {
        let SocketAddr::V4(peer) = peer else { panic!("{peer} is not IPv4") };
        self.shared.peers.lock().unwrap().entry(info_hash).or_default().insert(peer);
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = self.thread.take().unwrap().join();
    }
}

impl Shared {
    /// The answer of the node at `own` to a query of BEP 5; `None` for anything else.
    fn answer(
        &self,
        datagram: &[u8],
        (own, from): (SocketAddr, SocketAddr),
        seen: Option<SocketAddrV4>,
    ) -> Option<Vec<u8>> {
        let query = Value::parse(datagram).ok()?;
        let (transaction, method) = (query.get("t")?.bytes()?, query.get("q")?.bytes()?);
        let arguments = query.get("a")?;
        let hash =
            arguments.get("info_hash").and_then(|hash| hash.bytes()?.try_into().ok()).map(InfoHash::new);
        let mut values = Vec::new();
        match (method, hash) {
            (b"get_peers", Some(hash)) => {
                self.asked.lock().unwrap().push((from, hash));
                values.extend(self.peers.lock().unwrap().get(&hash).into_iter().flatten().copied());
            }
            (b"announce_peer", Some(hash)) => {
                let port = u16::try_from(arguments.get("port")?.integer()?).ok()?;
                let SocketAddr::V4(mut peer) = from else { return None };
                peer.set_port(port);
                self.announced.lock().unwrap().push((hash, port));
                self.peers.lock().unwrap().entry(hash).or_default().insert(peer);
            }
            _ => {}
        }
        let mut writer = Writer::default();
        writer.dictionary();
        if let Some(seen) = seen {
            writer.key("ip").bytes(&compact(seen));
        }
        writer.key("r").dictionary();
        writer.key("id").bytes(&id_at(own)).key("nodes").bytes(b"").key("token").bytes(b"token");
        if !values.is_empty() {
            writer.key("values").list();
            for peer in values.iter().take(50) {
                writer.bytes(&compact(*peer));
            }
            writer.end();
        }
        writer.end().key("t").bytes(transaction).key("y").bytes(b"r").end();
        Some(writer.finish())
    }
}

fn compact(address: SocketAddrV4) -> Vec<u8> {
    [&address.ip().octets()[..], &address.port().to_be_bytes()].concat()
}

/// Nodes of different networks have different names.
fn id_at(address: SocketAddr) -> [u8; 20] {
    let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    [0x55 ^ address.ip().octets()[1]; 20]
}
