//! What systemd gives a service and wants to hear from it: sockets that it holds open, and how the service stands.
//!
//! Without systemd all of it does nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Listening TCP sockets that were open before us and stay open after us (sd_listen_fds(3)): whoever connects between two
/// daemons waits instead of being refused.
pub(super) struct Inherited(Vec<std::net::TcpListener>);

impl Inherited {
    /// Takes them over; once in a process.
    pub(super) fn from_environment() -> Self {
        let mut passed = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            match passed.take_tcp_listener(index) {
                Ok(socket) => sockets.extend(socket),
                Err(error) => warn!(%error, "an inherited socket is of no use: only TCP sockets are"),
            }
        }
        Self(sockets)
    }

    /// The one at `address`.
    pub(super) fn take(&mut self, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        let is_there =
            |socket: &std::net::TcpListener| socket.local_addr().is_ok_and(|local| local == address);
        self.0.iter().position(is_there).map(|index| ready(self.0.swap_remove(index))).transpose()
    }

    /// The one at `address`, or else any: whoever moves the socket in its unit has moved the service.
    pub(super) fn take_any(&mut self, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        match self.take(address)? {
            Some(socket) => Ok(Some(socket)),
            None => self.0.pop().map(ready).transpose(),
        }
    }
}

fn ready(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Says that every listener is bound (sd_notify(3), `READY=1`).
pub(super) fn say_ready() {
    say(&[NotifyState::Ready]);
}

/// Says that the end has begun.
pub(super) fn say_stopping() {
    say(&[NotifyState::Stopping]);
}

/// Says that we are alive, twice as often as the unit's `WatchdogSec` asks for, until `shutdown`. A runtime whose threads
/// are all stuck says nothing, and is ended and started again.
pub(super) async fn keep_watchdog(shutdown: CancellationToken) {
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    let every = (every / 2).max(Duration::from_millis(10));
    loop {
        say(&[NotifyState::Watchdog]);
        if tokio::time::timeout(every, shutdown.cancelled()).await.is_ok() {
            return;
        }
    }
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd cannot be told how we stand");
    }
}
