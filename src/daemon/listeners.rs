//! The sockets that the daemon serves on.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tracing::warn;

use super::DaemonError;
use crate::config::Settings;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Every listener, bound.
pub(super) struct Listeners {
    pub(super) proxy: TcpListener,
    pub(super) status: TcpListener,
    pub(super) peers: Vec<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(settings: &Settings) -> Result<Self, DaemonError> {
        let proxy = bind(settings.proxy.listen, "proxy.listen")?;
        let status = bind(settings.status.listen, "status.listen")?;
        let mut peers: Vec<TcpListener> = Vec::new();
        for address in &settings.network.listen {
            match bind(*address, "network.listen") {
                Ok(listener) => peers.push(listener),
                // A machine without IPv6 serves on IPv4.
                Err(DaemonError::Listen { source, .. }) if address.is_ipv6() && has_no_ipv6(&source) => {
                    warn!(%address, error = %source, "no IPv6 here: not listening there");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { proxy, status, peers })
    }

    /// The addresses, as they were bound.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        let others = [&self.proxy, &self.status].into_iter();
        others.chain(&self.peers).filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, DaemonError> {
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
