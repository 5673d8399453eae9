//! One address family: its socket and its machine.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tracing::{debug, trace};

use crate::dht::message::MAX_DATAGRAM;
use crate::dht::{Event, Node};

/// How long a socket is left alone after it failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Datagrams that are taken from one socket before anything else has its turn.
const BATCH: usize = 64;

/// A socket and the machine that speaks on it.
#[derive(Debug)]
pub(super) struct Lane {
    socket: UdpSocket,
    pub(super) node: Node,
    deaf_until: Option<Instant>,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Lane {
    pub(super) const fn new(socket: UdpSocket, node: Node) -> Self {
        Self { socket, node, deaf_until: None, received: 0, sent: 0 }
    }

    /// Takes what has arrived, as much as a turn allows; ready once there was something.
    pub(super) fn poll_receive(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.deaf_until.is_some_and(|until| now < until) {
            return Poll::Pending;
        }
        // One byte more, so that what is too long can be told.
        let mut space = [0; MAX_DATAGRAM + 1];
        for taken in 0..BATCH {
            let mut buffer = ReadBuf::new(&mut space);
            match self.socket.poll_recv_from(context, &mut buffer) {
                Poll::Ready(Ok(from)) => {
                    self.received += 1;
                    self.node.handle_datagram(canonical(from), buffer.filled(), now);
                }
                Poll::Ready(Err(error)) => {
                    debug!(%error, "a DHT socket cannot be read");
                    self.deaf_until = Some(now + PAUSE);
                    return Poll::Ready(());
                }
                Poll::Pending if taken > 0 => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    /// Sends what the machine has to say. What the system does not take now is lost, as datagrams may be.
    pub(super) fn flush(&mut self) {
        while let Some(transmit) = self.node.poll_transmit() {
            match self.socket.try_send_to(&transmit.payload, transmit.to) {
                Ok(_) => self.sent += 1,
                Err(error) => trace!(to = %transmit.to, %error, "a datagram was not sent"),
            }
        }
    }

    /// What it is bound to.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn good_nodes(&self, now: Instant) -> usize {
        self.node.status(now).good_nodes
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.node.poll_event()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        [self.node.next_timeout(), self.deaf_until].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.deaf_until = self.deaf_until.filter(|until| now < *until);
        self.node.handle_timeout(now);
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
