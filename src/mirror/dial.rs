//! Makes connections: resolves, checks every address against the policy, tries them side by side, goes through the
//! user's proxy and speaks TLS where that is asked for.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, Error as TlsError};

use super::error::MirrorError;
use super::policy::{Policy, Refusal, is_private_name, is_public};
use super::target::{Host, Scheme, Target};
use super::upstream::{Proxy, Upstream};

/// How long one address has the field to itself before the next is tried beside it (RFC 8305 §8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// More addresses than this are not tried: no mirror has more that are worth it.
const MAX_ADDRESSES: usize = 8;
/// A proxy's answer to CONNECT is a line and a few fields.
const MAX_CONNECT_ANSWER: usize = 8 * 1024;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("cannot reach {host}: {why}")]
    Unreachable { host: String, why: String },
    #[error("cannot trust {host}: {why}")]
    Untrusted { host: String, why: String },
}

impl DialError {
    fn unreachable(host: &impl ToString, why: &impl ToString) -> Self {
        Self::Unreachable { host: host.to_string(), why: why.to_string() }
    }

    pub(super) fn to_mirror_error(&self) -> MirrorError {
        match self.clone() {
            Self::Refused(refusal) => MirrorError::Refused(refusal),
            Self::Unreachable { host, why } => MirrorError::Unreachable { host, why },
            Self::Untrusted { host, why } => MirrorError::Untrusted { host, why },
        }
    }
}

/// The connector under the pooled client.
#[derive(Clone)]
pub(super) struct Dial(pub(super) Arc<DialPlan>);

/// What every connection needs to know.
pub(super) struct DialPlan {
    pub(super) policy: RwLock<Arc<Policy>>,
    pub(super) upstream: Upstream,
    pub(super) tls: Arc<ClientConfig>,
    /// The limit of one connection: name, handshakes and all.
    pub(super) limit: Duration,
    /// Which hosts were found at addresses that not everybody reaches, and which were not.
    pub(super) private: Mutex<HashMap<Host, bool>>,
}

/// The most hosts of which it is remembered where they are: more than anybody's sources name.
const MAX_HOSTS: usize = 1024;

impl tower_service::Service<Uri> for Dial {
    type Response = Link;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let plan = self.0.clone();
        Box::pin(async move {
            let target = Target::parse(&uri.to_string()).map_err(|e| DialError::unreachable(&uri, &e))?;
            let too_slow = || DialError::unreachable(&target.host, &"the connection took too long");
            tokio::time::timeout(plan.limit, plan.connect(&target)).await.map_err(|_| too_slow())?
        })
    }
}

impl DialPlan {
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connect(&self, target: &Target) -> Result<Link, DialError> {
        let Some(proxy) = self.upstream.route(target) else {
            let bare = self.connect_direct(target).await?;
            return match target.scheme {
                Scheme::Http => Ok(Link::new(bare, false)),
                Scheme::Https => Ok(Link::new(self.secure(bare, &target.host).await?, false)),
            };
        };
        let mut bare = self.connect_proxy(proxy).await?;
        match target.scheme {
            Scheme::Http => Ok(Link::new(bare, true)),
            Scheme::Https => {
                open_tunnel(&mut bare, target, proxy).await?;
                Ok(Link::new(self.secure(bare, &target.host).await?, false))
            }
        }
    }

    /// A connection on which the client itself speaks TLS.
    pub(super) async fn connect_blind(&self, target: &Target) -> Result<Bare, DialError> {
        let connect = async {
            let Some(proxy) = self.upstream.route(target) else { return self.connect_direct(target).await };
            let mut bare = self.connect_proxy(proxy).await?;
            open_tunnel(&mut bare, target, proxy).await?;
            Ok(bare)
        };
        let too_slow = || DialError::unreachable(&target.host, &"the connection took too long");
        tokio::time::timeout(self.limit, connect).await.map_err(|_| too_slow())?
    }

    async fn connect_direct(&self, target: &Target) -> Result<Bare, DialError> {
        let mut refusal = None;
        let policy = self.policy();
        let found = self.resolve(target).await?;
        let permitted: Vec<_> = found
            .into_iter()
            .filter(|address| match policy.permit_address(&target.host, *address) {
                Ok(()) => true,
                Err(reason) => {
                    refusal = Some(reason);
                    false
                }
            })
            .collect();
        // One forbidden address among good ones is only left out.
        if let (true, Some(refusal)) = (permitted.is_empty(), refusal) {
            return Err(refusal.into());
        }
        let stream = race(permitted).await.map_err(|e| DialError::unreachable(&target.host, &e))?;
        Ok(Box::new(stream))
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, DialError> {
        let found = resolve(&target.host, target.port).await?;
        let private = found.iter().any(|address| !is_public(address.ip().to_canonical()));
        let mut hosts = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() < MAX_HOSTS || hosts.contains_key(&target.host) {
            hosts.insert(target.host.clone(), private);
        }
        drop(hosts);
        Ok(found)
    }

    /// Whether a mirror is where not everybody reaches it, as far as that is known.
    pub(super) fn is_private(&self, target: &Target) -> Option<bool> {
        match &target.host {
            Host::Address(ip) => Some(!is_public(ip.to_canonical())),
            // The proxy resolves the name, and nobody here.
            Host::Name(name) if self.upstream.route(target).is_some() => Some(is_private_name(name)),
            Host::Name(name) if is_private_name(name) => Some(true),
            Host::Name(_) => {
                self.private.lock().unwrap_or_else(PoisonError::into_inner).get(&target.host).copied()
            }
        }
    }

    /// The same, found out now where it is not known. A name that leads nowhere is judged as a name.
    pub(super) async fn find_private(&self, target: &Target) -> bool {
        if self.is_private(target).is_none() {
            // What was found is remembered; of a failure the dialling tells.
            let _ = tokio::time::timeout(self.limit, self.resolve(target)).await;
        }
        self.is_private(target).unwrap_or(false)
    }

    /// The user named the proxy: it may be anywhere.
    async fn connect_proxy(&self, proxy: &Proxy) -> Result<Bare, DialError> {
        let name = format!("the proxy {}", proxy.host);
        let addresses = resolve(&proxy.host, proxy.port).await?;
        let stream = race(addresses).await.map_err(|error| DialError::unreachable(&name, &error))?;
        match proxy.scheme {
            Scheme::Http => Ok(Box::new(stream)),
            Scheme::Https => self.secure(Box::new(stream), &proxy.host).await,
        }
    }

    async fn secure(&self, bare: Bare, host: &Host) -> Result<Bare, DialError> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()),
            Host::Address(ip) => Ok(ServerName::IpAddress((*ip).into())),
        };
        let name = name.map_err(|error| DialError::unreachable(host, &error))?;
        match TlsConnector::from(self.tls.clone()).connect(name, bare).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if is_untrusted(&error) => {
                Err(DialError::Untrusted { host: host.to_string(), why: error.to_string() })
            }
            Err(error) => Err(DialError::unreachable(host, &error)),
        }
    }
}

fn is_untrusted(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    matches!(tls, Some(TlsError::InvalidCertificate(_)))
}

/// The addresses of `host`, the two families by turns (RFC 8305 §4).
async fn resolve(host: &Host, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let name = match host {
        Host::Address(ip) => return Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Name(name) => name.as_str(),
    };
    let found = tokio::net::lookup_host((name, port)).await;
    let found: Vec<_> = found.map_err(|error| DialError::unreachable(host, &error))?.collect();
    // The system has put its favourite first.
    let favourite = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| a.is_ipv6() == favourite);
    let mut turns = Vec::new();
    first.reverse();
    second.reverse();
    while turns.len() < MAX_ADDRESSES && !(first.is_empty() && second.is_empty()) {
        turns.extend(first.pop());
        turns.extend(second.pop());
    }
    Ok(turns)
}

/// The first of these addresses that answers; each starts a little after the one before it, or when that has failed.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address");
    loop {
        let next = waiting.len() > 0;
        tokio::select! {
            Some(result) = running.next() => match result {
                Ok(stream) => {
                    let stream: TcpStream = stream;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if next && !running.is_empty() => {}
            else => {}
        }
        match waiting.next() {
            Some(address) => running.push(TcpStream::connect(address)),
            None if running.is_empty() => return Err(last),
            None => {}
        }
    }
}

/// Asks the proxy for a bare connection to `target` (RFC 9110 §9.3.6).
async fn open_tunnel(bare: &mut Bare, target: &Target, proxy: &Proxy) -> Result<(), DialError> {
    let name = format!("{} through the proxy {}", target.host, proxy.host);
    let failed = |why: &dyn ToString| DialError::unreachable(&name, &why.to_string());
    let authority = format!("{}:{}", target.host, target.port);
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(value) = &proxy.authorization {
        request.extend([b"Proxy-Authorization: ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    bare.write_all(&request).await.map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the head is already the mirror's.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_CONNECT_ANSWER {
            return Err(failed(&"its answer has no end"));
        }
        answer.push(bare.read_u8().await.map_err(|error| failed(&error))?);
    }
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    match line.split(' ').nth(1) {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
        _ => Err(failed(&line)),
    }
}

/// A connection, whatever it runs through.
pub trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for T {}
/// A connection behind a pointer.
pub type Bare = Box<dyn Bytestream>;

/// A connection as hyper wants it.
pub(super) struct Link {
    stream: TokioIo<Bare>,
    /// A proxy at the other end wants the whole URL in the request line (RFC 9112 §3.2.2).
    proxied: bool,
}

impl Link {
    fn new(stream: Bare, proxied: bool) -> Self {
        Self { stream: TokioIo::new(stream), proxied }
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl Write for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a plain request that goes through a proxy has to carry.
pub(super) fn proxy_authorization<'a>(upstream: &'a Upstream, target: &Target) -> Option<&'a HeaderValue> {
    let proxy = upstream.route(target).filter(|_| target.scheme == Scheme::Http)?;
    proxy.authorization.as_ref()
}
