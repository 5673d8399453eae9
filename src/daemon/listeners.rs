//! The sockets that the daemon serves on.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tracing::warn;

use super::DaemonError;
use super::systemd::Inherited;
use crate::config::Settings;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// How often a free port is tried for peers and the DHT together, where any may be taken.
const PORT_TRIES: u32 = 16;

/// How many bytes of datagrams may wait for us, where the system allows it: answers to several look-ups come at once.
const DATAGRAM_BUFFER: usize = 1 << 20;

/// Every listener, bound.
pub(super) struct Listeners {
    pub(super) proxy: TcpListener,
    pub(super) status: TcpListener,
    pub(super) peers: Vec<TcpListener>,
    /// For the DHT, at most one for each address family.
    pub(super) dht: Vec<UdpSocket>,
}

impl Listeners {
    pub(super) async fn bind(settings: &Settings) -> Result<Self, DaemonError> {
        let mut inherited = Inherited::from_environment();
        let status = match inherited.take(settings.status.listen) {
            Ok(Some(socket)) => socket,
            _ => bind(settings.status.listen, "status.listen")?,
        };
        let proxy = match inherited.take_any(settings.proxy.listen) {
            Ok(Some(socket)) => socket,
            _ => bind(settings.proxy.listen, "proxy.listen")?,
        };
        let (mut peers, mut dht): (Vec<TcpListener>, Vec<UdpSocket>) = (Vec::new(), Vec::new());
        for address in &settings.network.listen {
            let with_dht = takes_part(settings) && !dht.iter().any(|socket| is_of_family(socket, *address));
            let bound = skip_missing_ipv6(*address, bind_both(*address, with_dht))?;
            let Some((listener, socket)) = bound else { continue };
            peers.push(listener);
            dht.extend(socket);
        }
        if settings.network.listen.is_empty() && takes_part(settings) {
            dht = unannounced()?;
        }
        Ok(Self { proxy, status, peers, dht })
    }

    /// The addresses, as they were bound.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        let others = [&self.proxy, &self.status].into_iter();
        others.chain(&self.peers).filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

/// Whether this node is to be seen on the DHT.
pub(super) const fn takes_part(settings: &Settings) -> bool {
    settings.dht.enabled && !settings.privacy.lan_only
}

/// Sockets of a node without an address of its own, for a client.
pub(super) fn unannounced() -> Result<Vec<UdpSocket>, DaemonError> {
    let any = [SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from(([0; 16], 0))];
    udp(&any)
}

/// The first address of each family, bound for datagrams.
pub(super) fn udp(addresses: &[SocketAddr]) -> Result<Vec<UdpSocket>, DaemonError> {
    let mut sockets: Vec<UdpSocket> = Vec::new();
    for address in addresses {
        if sockets.iter().any(|socket| is_of_family(socket, *address)) {
            continue;
        }
        sockets.extend(skip_missing_ipv6(*address, bind_udp(*address, "network.listen"))?);
    }
    Ok(sockets)
}

fn is_of_family(socket: &UdpSocket, address: SocketAddr) -> bool {
    socket.local_addr().is_ok_and(|local| local.is_ipv4() == address.is_ipv4())
}

/// A machine without IPv6 serves on IPv4.
fn skip_missing_ipv6<T>(
    address: SocketAddr,
    bound: Result<T, DaemonError>,
) -> Result<Option<T>, DaemonError> {
    match bound {
        Ok(bound) => Ok(Some(bound)),
        Err(DaemonError::Listen { source, .. }) if address.is_ipv6() && has_no_ipv6(&source) => {
            warn!(%address, error = %source, "no IPv6 here: not listening there");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Peers and the DHT on one port number: who finds us by the one finds us by the other.
fn bind_both(address: SocketAddr, with_dht: bool) -> Result<(TcpListener, Option<UdpSocket>), DaemonError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let listener = bind(address, "network.listen")?;
        if !with_dht {
            return Ok((listener, None));
        }
        let failed = |source| DaemonError::Listen { address, key: "network.listen", source };
        match bind_udp(listener.local_addr().map_err(failed)?, "network.listen") {
            Ok(socket) => return Ok((listener, Some(socket))),
            // Somebody else has that port for datagrams; another will do.
            Err(_) if address.port() == 0 && tries < PORT_TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

fn bind_udp(address: SocketAddr, key: &'static str) -> Result<UdpSocket, DaemonError> {
    let failed = |source| DaemonError::Listen { address, key, source };
    let socket =
        Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(failed)?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(failed)?;
    }
    if let Err(error) = socket.set_recv_buffer_size(DATAGRAM_BUFFER) {
        tracing::debug!(%error, "the buffer of a DHT socket stays as it is");
    }
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    UdpSocket::from_std(socket.into()).map_err(failed)
}

pub(super) fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, DaemonError> {
    let failed = |source| DaemonError::Listen { address, key, source };
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
    // [::] and 0.0.0.0 are two listeners, so that each says what it is.
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(failed)?;
    }
    socket.set_reuse_address(true).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    TcpListener::from_std(socket.into()).map_err(failed)
}

fn has_no_ipv6(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}
