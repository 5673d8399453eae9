//! A socket that reads ahead: what a client has already sent is taken in while hyper still answers an earlier request.
//!
//! apt sends up to ten requests at once and wants the answers in order; hyper looks at a request only when the one
//! before it is answered. Here the connection's own future takes in what has arrived ([`Socket::pump`]), shows every
//! request head once as a hint, and hyper reads the untouched bytes from the queue when it gets to them. There is no
//! task of its own, and the queue is bounded: past [`READ_AHEAD_BYTES`] the kernel's window slows the client down.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, BufMut as _, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::limits::{OPENING_BYTES, READ_AHEAD_BYTES, READ_AHEAD_REQUESTS};
use super::patience::{Activity, Wanted};
use super::scanner::{Head, Place, Scanner};
use crate::clock;

type Hint = Box<dyn Fn(&Head) + Send + Sync>;

/// One client's socket, shared by hyper (through [`Ahead`]) and the connection's driver.
pub(super) struct Socket {
    stream: TcpStream,
    hint: Hint,
    traffic: Mutex<Traffic>,
}

/// What is known of the bytes in both directions. The lock is only ever held within one poll.
struct Traffic {
    queue: BytesMut,
    /// The first bytes that ever came.
    opening: Opening,
    scanner: Scanner,
    /// How the client's bytes ended, once they have and the queue is still to be read.
    end: Option<End>,
    /// hyper asked for bytes and there were none.
    reader_waits: bool,
    /// Heads seen, and requests that hyper has begun to answer.
    seen: u64,
    begun: u64,
    last_read: Instant,
    head_began: Instant,
    last_write: Instant,
    write_blocked: Option<Instant>,
}

/// The first bytes of a connection.
#[derive(Default, Clone, Copy)]
struct Opening {
    bytes: [u8; OPENING_BYTES],
    length: usize,
}

impl Opening {
    fn feed(&mut self, input: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let taken = input.len().min(room.len());
        room[..taken].copy_from_slice(&input[..taken]);
        self.length += taken;
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Eof,
    Failed(io::ErrorKind),
}

impl Socket {
    pub(super) fn new(stream: TcpStream, hint: Hint) -> Arc<Self> {
        let now = clock::now();
        let traffic = Traffic {
            queue: BytesMut::new(),
            opening: Opening::default(),
            scanner: Scanner::new(),
            end: None,
            reader_waits: false,
            seen: 0,
            begun: 0,
            last_read: now,
            head_began: now,
            last_write: now,
            write_blocked: None,
        };
        Arc::new(Self { stream, hint, traffic: Mutex::new(traffic) })
    }

    /// Takes in what has arrived and gives the hints; true if that is something hyper waits for.
    ///
    /// Registers the task to be woken for more, unless the queue is full or the client has ended.
    pub(super) fn pump(&self, cx: &mut Context<'_>) -> bool {
        let mut traffic = self.traffic();
        self.take_in(&mut traffic, cx) && traffic.reader_waits
    }

    /// hyper begins to answer the next request.
    pub(super) fn begin(&self) {
        self.traffic().begun += 1;
    }

    /// Gives the client's first bytes to `told`.
    pub(super) fn opening(&self, told: impl FnOnce(&[u8])) {
        let Opening { bytes, length } = self.traffic().opening;
        told(&bytes[..length]);
    }

    /// What the connection is doing, for [`super::patience`].
    pub(super) fn activity(&self) -> Activity {
        let traffic = self.traffic();
        let wanted = traffic.reader_waits.then(|| match traffic.scanner.place() {
            Place::Between if traffic.begun == 0 => Wanted::FirstByte,
            Place::Between => Wanted::NextRequest,
            Place::InHead => Wanted::RestOfHead,
            Place::InBody | Place::Unknown => Wanted::MoreBody,
        });
        Activity {
            wanted,
            last_read: traffic.last_read,
            head_began: traffic.head_began,
            last_write: traffic.last_write,
            write_blocked: traffic.write_blocked,
        }
    }

    /// Sends `last` if the kernel takes it at once, then ends our direction.
    pub(super) fn finish(&self, last: &[u8]) {
        // The client may be gone already: nobody is left to tell.
        let _ = self.stream.try_write(last);
        let _ = self.shut_down_write();
    }

    /// Forgets what the client still sends: the number of bytes thrown away, 0 when it has closed too.
    fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut traffic = self.traffic();
        traffic.scanner = Scanner::blind(); // Nobody will answer: no more hints.
        if traffic.queue.is_empty() && traffic.end.is_none() && !self.take_in(&mut traffic, cx) {
            return Poll::Pending;
        }
        let length = traffic.queue.len();
        traffic.queue.clear();
        Poll::Ready(length)
    }

    fn shut_down_write(&self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the queue with what has arrived; true if there was anything, be it the end.
    fn take_in(&self, traffic: &mut Traffic, cx: &mut Context<'_>) -> bool {
        let mut news = false;
        while traffic.end.is_none() && traffic.queue.len() < READ_AHEAD_BYTES {
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => traffic.end = Some(End::Failed(error.kind())),
                Poll::Ready(Ok(())) => match self.read_once(traffic) {
                    Ok(0) => traffic.end = Some(End::Eof),
                    Ok(length) => self.scan(traffic, length),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => traffic.end = Some(End::Failed(error.kind())),
                },
            }
            news = true;
        }
        news
    }

    fn read_once(&self, traffic: &mut Traffic) -> io::Result<usize> {
        /// What one read makes room for: apt's pipeline of ten fits.
        const ONE_READ: usize = 8 * 1024;
        let room = (READ_AHEAD_BYTES - traffic.queue.len()).min(ONE_READ);
        traffic.queue.reserve(room);
        let mut short = None;
        let read = self.stream.try_io(Interest::READABLE, || {
            match self.stream.try_read_buf(&mut (&mut traffic.queue).limit(room))? {
                // The kernel has no more: as good as the empty read that would tell us so (epoll(7), question 9).
                length @ 1.. if length < room => {
                    short = Some(length);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                length => Ok(length),
            }
        });
        short.map_or(read, Ok)
    }

    /// Goes over the `length` bytes that came last.
    fn scan(&self, traffic: &mut Traffic, length: usize) {
        let Traffic { queue, opening, scanner, seen, begun, .. } = traffic;
        let was_in_head = scanner.place() == Place::InHead;
        let seen_before = *seen;
        let news = &queue[queue.len() - length..];
        opening.feed(news);
        scanner.feed(news, |head| {
            *seen += 1;
            // A stranger could make work without end by asking and never reading: far ahead is not announced.
            if seen.saturating_sub(*begun) <= READ_AHEAD_REQUESTS {
                (self.hint)(&head);
            }
        });
        traffic.last_read = clock::now();
        if !was_in_head || traffic.seen > seen_before {
            traffic.head_began = traffic.last_read;
        }
    }
}

/// The socket as hyper sees it: what was read ahead, then what comes.
pub(super) struct Ahead(pub(super) Arc<Socket>);

impl Read for Ahead {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &self.0;
        let mut traffic = socket.traffic();
        if traffic.queue.is_empty() {
            socket.take_in(&mut traffic, cx);
        }
        traffic.reader_waits = false;
        if !traffic.queue.is_empty() {
            let length = traffic.queue.len().min(into.remaining());
            into.put_slice(&traffic.queue[..length]);
            traffic.queue.advance(length);
            return Poll::Ready(Ok(()));
        }
        match traffic.end {
            Some(End::Eof) => Poll::Ready(Ok(())),
            Some(End::Failed(kind)) => Poll::Ready(Err(kind.into())),
            None => {
                traffic.reader_waits = true;
                Poll::Pending
            }
        }
    }
}

impl Ahead {
    /// Writes when the kernel has room, and keeps the record of when it had.
    fn poll_try_write(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket = &self.0;
        loop {
            if socket.stream.poll_write_ready(cx)?.is_pending() {
                socket.traffic().write_blocked.get_or_insert_with(clock::now);
                return Poll::Pending;
            }
            match write(&socket.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    let mut traffic = socket.traffic();
                    traffic.write_blocked = None;
                    traffic.last_write = clock::now();
                    return Poll::Ready(written);
                }
            }
        }
    }
}

impl Write for Ahead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, |stream| stream.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shut_down_write())
    }

    /// The head of an answer and a small body leave in one `writev`, so in one segment.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, |stream| stream.try_write_vectored(slices))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Waits until the client has closed its side too, and throws away at most about `limit` bytes meanwhile.
///
/// Closing at once would reset the connection if anything it sent is unread, and our last answer with it
/// (RFC 9112 §9.6).
pub(super) async fn discard(socket: &Socket, limit: usize) {
    let mut left = limit;
    std::future::poll_fn(|cx| {
        while left > 0 {
            match ready!(socket.poll_discard(cx)) {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Poll::Ready(())
    })
    .await;
}
