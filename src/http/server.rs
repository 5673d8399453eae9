//! The accept loop: who may connect, how many at a time, and an orderly end.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::body::Body;
use super::connection::drive;
#[cfg(doc)]
use super::limits::OPENING_BYTES;
use super::limits::{Limits, Overflow, UNSENT_BYTES};
use super::scanner::Head;

/// How long to leave the listener alone when the process or the system has run out of something.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What a connection above the limits is told, if the kernel takes it at once.
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\
    Connection: close\r\n\r\ntoo many connections\n";

/// Answers requests. Any `Fn(Request<Incoming>, Conn) -> impl Future<Output = Result<Response<Body>, Hangup>>` is one.
pub trait Site: Send + Sync + 'static {
    /// What the site remembers for the length of one connection.
    type State: Default + Send + Sync + 'static;

    /// Answers one request. Requests of one connection are answered one after another.
    fn answer(
        &self,
        request: Request<Incoming>,
        conn: Conn<Self::State>,
    ) -> impl Future<Output = Result<Response<Body>, Hangup>> + Send;

    /// A request has arrived and will be answered when its turn comes: what takes long may begin now.
    ///
    /// Called at most once per request, in order, also for one whose turn is at once; a hint only, for which nothing
    /// may be owed. Must not block.
    fn foresee(&self, _head: &Head, _conn: &Conn<Self::State>) {}

    /// A connection is over, whatever the client spoke. `opening` are its first bytes, at most [`OPENING_BYTES`]. Not
    /// called for connections that were turned away or became a tunnel. Must not block.
    fn left(&self, _opening: &[u8], _conn: &Conn<Self::State>) {}
}

impl<F, A> Site for F
where
    F: Fn(Request<Incoming>, Conn) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Response<Body>, Hangup>> + Send,
{
    type State = ();

    fn answer(
        &self,
        request: Request<Incoming>,
        conn: Conn,
    ) -> impl Future<Output = Result<Response<Body>, Hangup>> + Send {
        self(request, conn)
    }
}

/// Close this connection without an answer: apt connects again, once, without a word to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hanging up without an answer")]
pub struct Hangup;

/// One connection, as a site sees it.
#[derive(Debug)]
pub struct Conn<S = ()> {
    /// Who asks.
    pub remote: SocketAddr,
    /// Which of our addresses was asked.
    pub local: SocketAddr,
    /// What the site remembers as long as the connection lasts.
    pub state: Arc<S>,
}

impl<S> Clone for Conn<S> {
    fn clone(&self) -> Self {
        Self { remote: self.remote, local: self.local, state: self.state.clone() }
    }
}

impl<S: Default> Conn<S> {
    pub(super) fn new(remote: SocketAddr, local: SocketAddr) -> Self {
        Self { remote, local, state: Arc::default() }
    }
}

/// Serves `site` on `listener` until `shutdown`: then no more connections, the answers in flight within
/// [`Limits::grace`], and what is left is cut. Nothing it started is left running when it returns.
pub async fn serve<S: Site>(
    listener: TcpListener,
    limits: Limits,
    site: Arc<S>,
    shutdown: CancellationToken,
) {
    let limits = Arc::new(limits);
    let mut crowd = Crowd::default();
    loop {
        let room = crowd.tasks.len() < limits.connections || limits.overflow == Overflow::TurnAway;
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = crowd.tasks.join_next_with_id() => {
                crowd.left(ended);
                continue;
            }
            accepted = listener.accept(), if room => accepted,
        };
        match accepted {
            Ok((stream, remote)) if crowd.welcomes(remote, &limits) => {
                if let Some(local) = prepare(&stream) {
                    let (limits, site, shutdown) = (limits.clone(), site.clone(), shutdown.clone());
                    crowd.entered(remote, drive(stream, remote, local, limits, site, shutdown));
                }
            }
            Ok((stream, remote)) => {
                debug!(%remote, "turned away: too many connections");
                let _ = stream.try_write(TURNED_AWAY);
            }
            Err(error) if is_exhaustion(&error) => {
                warn!(%error, "cannot accept connections for now");
                let _ = tokio::time::timeout(EXHAUSTED_PAUSE, shutdown.cancelled()).await;
            }
            // The client was gone before we came to it.
            Err(error) => debug!(%error, "a connection failed before it was accepted"),
        }
    }
    drop(listener);
    crowd.drain(limits.grace).await;
}

/// Everybody who is connected.
#[derive(Default)]
struct Crowd {
    tasks: JoinSet<()>,
    origin_of: HashMap<Id, IpAddr>,
    per_origin: HashMap<IpAddr, usize>,
}

impl Crowd {
    fn welcomes(&self, remote: SocketAddr, limits: &Limits) -> bool {
        let same_origin = self.per_origin.get(&origin(remote.ip())).copied().unwrap_or(0);
        self.tasks.len() < limits.connections && same_origin < limits.connections_per_origin
    }

    fn entered(&mut self, remote: SocketAddr, connection: impl Future<Output = ()> + Send + 'static) {
        let origin = origin(remote.ip());
        let id = self.tasks.spawn(connection).id();
        self.origin_of.insert(id, origin);
        *self.per_origin.entry(origin).or_default() += 1;
    }

    fn left(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(failed) => {
                if failed.is_panic() {
                    error!(error = %failed, "a connection panicked");
                }
                failed.id()
            }
        };
        let Some(origin) = self.origin_of.remove(&id) else { return };
        if let Some(count) = self.per_origin.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.per_origin.remove(&origin);
            }
        }
    }

    async fn drain(mut self, grace: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            warn!(connections = self.tasks.len(), "cutting connections after the grace period");
            self.tasks.shutdown().await;
        }
    }
}

/// Sets what every connection needs; `None` if it is gone already.
fn prepare(stream: &TcpStream) -> Option<SocketAddr> {
    // Without this a small answer waits 40 ms for the client's delayed ACK.
    stream.set_nodelay(true).ok()?;
    // Only a finer measure of progress: not worth a connection.
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
    stream.local_addr().ok()
}

/// What connections and uploads are counted by: one person has one IPv4 address or one IPv6 /64.
pub fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Whether accepting will go on failing until something is given back; the connection stays in the backlog then.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_is_told_from_a_client_that_went_away() {
        for (errno, exhausted) in [(24, true), (23, true), (105, true), (12, true), (103, false), (71, false)]
        {
            assert_eq!(is_exhaustion(&io::Error::from_raw_os_error(errno)), exhausted, "errno {errno}");
        }
    }

    #[test]
    fn a_whole_ipv6_network_is_one_origin() {
        let of = |text: &str| origin(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::7"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::7"), of("2001:db8:1:3::7"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
