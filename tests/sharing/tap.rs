//! Watching the wire: a way to a node of the DHT that keeps a copy of every datagram which is sent to it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// What a tap shares with its threads.
#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Vec<u8>>>,
    client: Mutex<Option<SocketAddr>>,
    over: AtomicBool,
}

/// A tap on the line of one node. Dropping it closes the line.
pub(crate) struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Tap {
    /// A line to the node at `to`; to nobody where there is none, so that datagrams are only counted.
    pub(crate) fn to(to: Option<SocketAddr>) -> Self {
        let shared = Arc::<Shared>::default();
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(LOOK)).unwrap();
            Arc::new(socket)
        };
        let (front, back) = (socket(), socket());
        let address = front.local_addr().unwrap();
        let out = {
            let (shared, front, back) = (shared.clone(), front.clone(), back.clone());
            std::thread::spawn(move || {
                carry(&shared, &front, |datagram, from| {
                    shared.seen.lock().unwrap().push(datagram.to_vec());
                    *shared.client.lock().unwrap() = Some(from);
                    to.map(|to| back.send_to(datagram, to));
                });
            })
        };
        let home = {
            let shared = shared.clone();
            std::thread::spawn(move || {
                carry(&shared, &back, |datagram, _| {
                    let client = *shared.client.lock().unwrap();
                    client.map(|client| front.send_to(datagram, client));
                });
            })
        };
        Self { address, shared, threads: vec![out, home] }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams were sent.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How many of them had `bytes` in them.
    pub(crate) fn with(&self, bytes: &[u8]) -> usize {
        let has = |datagram: &&Vec<u8>| datagram.windows(bytes.len()).any(|window| window == bytes);
        self.shared.seen.lock().unwrap().iter().filter(has).count()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn carry(shared: &Shared, socket: &UdpSocket, mut each: impl FnMut(&[u8], SocketAddr)) {
    let mut space = [0; 2048];
    while !shared.over.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut space) {
            each(&space[..length], from);
        }
    }
}
