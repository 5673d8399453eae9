//! Asking the router by datagrams: PCP first, then NAT-PMP.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::net::UdpSocket;

use super::messages::{ADDRESS, Answer, Granted, LONGEST, Transport, Wish, address};
use super::{LIFETIME, Ports};

/// How long each try waits: they double (RFC 6886, section 3.1), and a router that is there answers at once.
const TRIES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// What the router speaks.
#[derive(Debug, Clone, Copy)]
enum Speech {
    Pcp([u8; 12]),
    NatPmp,
}

/// A router that opens ports when it is asked by datagrams.
#[derive(Debug)]
pub(super) struct Router {
    socket: UdpSocket,
    speech: Speech,
    /// The external ports it gave, in the order of [`BOTH`].
    given: [u16; 2],
}

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

impl Router {
    /// Has the router at `at` open both ports; what it gave for TCP.
    pub(super) async fn open(at: SocketAddr, port: u16) -> Option<(Self, Ports)> {
        Self::open_from(None, at, port).await
    }

    /// The same, asked from the address `own` where it is by IPv6: that is the one which it is opened for.
    pub(super) async fn open_from(own: Option<Ipv6Addr>, at: SocketAddr, port: u16) -> Option<(Self, Ports)> {
        let any: IpAddr =
            if at.is_ipv4() { [0; 4].into() } else { own.unwrap_or(Ipv6Addr::UNSPECIFIED).into() };
        let socket = UdpSocket::bind((any, 0)).await.ok()?;
        socket.connect(at).await.ok()?;
        let mut nonce = [0; 12];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut router = Self { socket, speech: Speech::Pcp(nonce), given: [port; 2] };
        let ports = match router.renew(port).await {
            Some(ports) => ports,
            // The older protocol knows IPv4 only (RFC 6886, section 1).
            None if at.is_ipv6() => return None,
            None => {
                router.speech = Speech::NatPmp;
                router.renew(port).await?
            }
        };
        Some((router, ports))
    }

    /// Has both kept open.
    pub(super) async fn renew(&mut self, port: u16) -> Option<Ports> {
        let mut seen = None;
        let mut lifetime = LIFETIME;
        for (at, transport) in BOTH.into_iter().enumerate() {
            let wish = Wish { transport, port, external: self.given[at], lifetime: LIFETIME };
            let granted = self.ask(&wish).await?;
            self.given[at] = granted.port;
            lifetime = lifetime.min(granted.lifetime);
            seen = seen.or(granted.address);
        }
        if seen.is_none() && matches!(self.speech, Speech::NatPmp) {
            seen = self.exchange(&ADDRESS, |bytes| address(bytes).map(Some)).await.flatten();
        }
        Some(Ports { external: self.given[0], address: seen, lifetime })
    }

    /// Has both closed again.
    pub(super) async fn close(&mut self, port: u16) {
        for (at, transport) in BOTH.into_iter().enumerate() {
            // Where nobody answers the router forgets it by itself.
            let wish = Wish { transport, port, external: self.given[at], lifetime: 0 };
            let _ = tokio::time::timeout(TRIES[2], self.ask(&wish)).await;
        }
    }

    async fn ask(&self, wish: &Wish) -> Option<Granted> {
        let speech = self.speech;
        let question = match speech {
            Speech::Pcp(nonce) => wish.pcp(self.socket.local_addr().ok()?.ip(), &nonce).to_vec(),
            Speech::NatPmp => wish.natpmp().to_vec(),
        };
        let read = |bytes: &[u8]| {
            let answer = match speech {
                Speech::Pcp(nonce) => wish.pcp_answer(bytes, &nonce),
                Speech::NatPmp => wish.natpmp_answer(bytes),
            };
            match answer {
                Answer::Granted(granted) => Some(Some(granted)),
                Answer::Refused(_) => Some(None),
                Answer::Other => None,
            }
        };
        self.exchange(&question, read).await.flatten()
    }

    /// Sends a question until there is an answer that `read` takes for one.
    async fn exchange<T>(&self, question: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        for wait in TRIES {
            self.socket.send(question).await.ok()?;
            let answer = async {
                let mut space = [0; LONGEST];
                loop {
                    let length = self.socket.recv(&mut space).await?;
                    if let Some(answer) = read(&space[..length]) {
                        return Ok::<_, io::Error>(answer);
                    }
                }
            };
            match tokio::time::timeout(wait, answer).await {
                Ok(Ok(answer)) => return Some(answer),
                // Nobody listens there.
                Ok(Err(_)) => return None,
                Err(_) => {}
            }
        }
        None
    }
}
