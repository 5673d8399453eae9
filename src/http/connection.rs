//! One connection from its first byte to its last, all in one task: hyper, the reading ahead, the time limits, the
//! drain, and a tunnel if it becomes one.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace};

use super::limits::{Limits, MAX_HEAD_BYTES};
use super::patience::{Overdue, deadline};
use super::readahead::{Ahead, Socket, discard};
use super::server::{Conn, Site};
use super::tunnel::{Start, Tunnel};

/// How long a client may take to notice that we have closed, and how much it may still send meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// The answer to a request that began and never ended. hyper would close without a word.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nContent-Length: 34\r\n\
    Connection: close\r\n\r\nthe request did not arrive in time";

/// How a connection ended.
enum Ending {
    /// hyper has said its last word and shut our side down, or the connection is a tunnel now.
    Done,
    /// hyper gave up: the site hung up, a body failed, the socket broke.
    Broken(hyper::Error),
    /// The client took too long.
    Overdue(Overdue),
}

/// Serves one connection until it ends; after `shutdown` only the answer in flight.
pub(super) async fn drive<S: Site>(
    stream: TcpStream,
    remote: SocketAddr,
    local: SocketAddr,
    limits: Arc<Limits>,
    site: Arc<S>,
    shutdown: CancellationToken,
) {
    let conn = Conn::new(remote, local);
    let socket = Socket::new(stream, {
        let (site, conn) = (site.clone(), conn.clone());
        Box::new(move |head| site.foresee(head, &conn))
    });
    let tunnel = TunnelSlot::default();
    let ending = converse(&socket, &limits, site.clone(), conn.clone(), &tunnel, &shutdown).await;
    if matches!(ending, Ending::Done)
        && let Some((upgrade, start)) = tunnel.into_inner().unwrap_or_else(PoisonError::into_inner)
        && let Ok(upgraded) = upgrade.await
    {
        return start(TokioIo::new(upgraded)).await;
    }
    socket.opening(|opening| site.left(opening, &conn));
    match ending {
        Ending::Done => {}
        Ending::Broken(error) => {
            debug!(%remote, %error, "connection ended early");
            socket.finish(b"");
        }
        Ending::Overdue(why) => {
            debug!(%remote, ?why, "connection given up");
            socket.finish(if why == Overdue::Request { REQUEST_TIMEOUT } else { b"" });
            if why == Overdue::Reader {
                return; // It reads nothing: no use in waiting for it to.
            }
        }
    }
    let _ = tokio::time::timeout(LINGER, discard(&socket, LINGER_BYTES)).await;
    trace!(%remote, "connection closed");
}

/// Where a request leaves what is to happen with the bare connection after its answer.
type TunnelSlot = Mutex<Option<(OnUpgrade, Start)>>;

/// Speaks HTTP until the connection is done, broken or overdue.
async fn converse<S: Site>(
    socket: &Arc<Socket>,
    limits: &Limits,
    site: Arc<S>,
    conn: Conn<S::State>,
    tunnel: &TunnelSlot,
    shutdown: &CancellationToken,
) -> Ending {
    let service = service_fn(|mut request: Request<Incoming>| {
        socket.begin();
        let (site, conn) = (site.clone(), conn.clone());
        async move {
            let upgrade = hyper::upgrade::on(&mut request);
            let mut response = site.answer(request, conn).await?;
            if let Some(start) = Tunnel::detach(&mut response) {
                *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, start));
            }
            Ok::<_, super::Hangup>(response)
        }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        // Our own limits tell an idle connection from a half-sent request; hyper's does not.
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD_BYTES)
        // A client that has said everything may close its side and still wait for the answer.
        .half_close(true)
        .serve_connection(Ahead(socket.clone()), service)
        .with_upgrades();
    let mut http = pin!(http);
    let mut stop = pin!(shutdown.cancelled());
    let mut stopping = false;
    let mut alarm = Alarm::new();
    poll_fn(|cx| {
        if !stopping && stop.as_mut().poll(cx).is_ready() {
            stopping = true;
            http.as_mut().graceful_shutdown();
        }
        loop {
            if let Poll::Ready(result) = http.as_mut().poll(cx) {
                return Poll::Ready(result.map_or_else(Ending::Broken, |()| Ending::Done));
            }
            if !socket.pump(cx) {
                break;
            }
        }
        alarm.poll(cx, deadline(&socket.activity(), limits)).map(Ending::Overdue)
    })
    .await
}

/// A timer for a deadline that moves with almost every byte: it is set anew only when it rings or must ring earlier.
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    const fn new() -> Self {
        Self { sleep: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>, due: Option<(std::time::Instant, Overdue)>) -> Poll<Overdue> {
        let Some((at, why)) = due else { return Poll::Pending };
        let at = Instant::from_std(at);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if at < sleep.deadline() {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if at <= sleep.deadline() {
                return Poll::Ready(why);
            }
            sleep.as_mut().reset(at);
        }
    }
}
