//! What goes over the wires of a network namespace: the frames themselves, as the kernel shows them to a packet socket
//! (packet(7)).

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// How long it stays quiet on the wires at the end, so that nothing waits in the socket.
const QUIET: Duration = Duration::from_millis(50);

/// Frames of all protocols, those that a bridge passes on as well (linux/if_ether.h, `ETH_P_ALL`).
const ALL: u16 = 3;

/// A listener at every interface of a namespace, for UDP: a bridge shows each datagram at both of the ports that it
/// passes.
pub struct Capture {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// Begins in the namespace of this thread.
    pub fn start() -> Self {
        let socket =
            Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL.to_be())))).unwrap();
        socket.attach_filter(&udp()).unwrap();
        socket.set_recv_buffer_size(4 << 20).unwrap();
        socket.set_read_timeout(Some(QUIET)).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::spawn(move || {
            let (mut frames, mut space) = (Vec::new(), vec![0; 1 << 16]);
            loop {
                let is_over = told.load(Ordering::SeqCst);
                match (&socket).read(&mut space) {
                    Ok(length) => frames.push(space[..length].to_vec()),
                    Err(_) if is_over => return frames,
                    Err(_) => {}
                }
            }
        });
        Self { over, thread }
    }

    /// Everything that went over the wires.
    pub fn finish(self) -> Frames {
        self.over.store(true, Ordering::SeqCst);
        Frames(self.thread.join().unwrap())
    }
}

/// Ethernet frames.
pub struct Frames(Vec<Vec<u8>>);

impl Frames {
    /// How many have these bytes in them.
    pub fn with(&self, bytes: &[u8]) -> usize {
        self.0.iter().filter(|frame| has(frame, bytes)).count()
    }

    /// How many of those are IPv4 from there.
    pub fn from(&self, source: Ipv4Addr, bytes: &[u8]) -> usize {
        // The source stands 12 bytes into the header (RFC 791), which stands behind 14 of Ethernet's.
        let sent = |frame: &&Vec<u8>| frame[12..14] == [8, 0] && frame[26..30] == source.octets();
        self.0.iter().filter(sent).filter(|frame| has(frame, bytes)).count()
    }
}

fn has(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|window| window == bytes)
}

/// Lets through UDP over IPv4 (type 0x0800, protocol at 23) and IPv6 (0x86dd, at 20), and nothing else
/// (linux/filter.h: load half a word 0x28, load a byte 0x30, compare 0x15, return 0x06).
fn udp() -> [SockFilter; 9] {
    const UDP: u32 = 17;
    [
        SockFilter::new(0x28, 0, 0, 12),
        SockFilter::new(0x15, 0, 2, 0x0800),
        SockFilter::new(0x30, 0, 0, 23),
        SockFilter::new(0x15, 3, 4, UDP),
        SockFilter::new(0x15, 0, 3, 0x86dd),
        SockFilter::new(0x30, 0, 0, 20),
        SockFilter::new(0x15, 0, 1, UDP),
        SockFilter::new(0x06, 0, 0, 0xffff),
        SockFilter::new(0x06, 0, 0, 0),
    ]
}
