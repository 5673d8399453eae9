//! `daemon.json`: where a running daemon listens, for commands and scripts.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DaemonError;
use super::listeners::Listeners;

/// The right to be the one daemon of a state directory, given back when it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: fs::File,
}

impl Claim {
    /// Claims the state directory.
    pub(super) fn of(state: &Path) -> Result<Self, DaemonError> {
        match Self::take(state) {
            Ok(Some(claim)) => Ok(claim),
            Ok(None) => Err(DaemonError::Claimed(state.to_owned())),
            Err(source) => Err(DaemonError::State { path: state.to_owned(), source }),
        }
    }

    /// `None` where another daemon has it.
    fn take(state: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(state)?;
        let lock =
            fs::File::options().create(true).truncate(false).write(true).open(state.join("daemon.lock"))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The addresses of a running daemon. `None` is written as `null`: switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The daemon's process.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// Where apt is served.
    pub proxy: Option<SocketAddr>,
    /// Where the figures are.
    pub status: Option<SocketAddr>,
    /// Where peers are served.
    pub peers: Vec<SocketAddr>,
    /// Where the DHT node listens.
    pub dht: Option<SocketAddr>,
}

impl Record {
    pub(super) fn new(listeners: &Listeners) -> Self {
        let address = |listener: &tokio::net::TcpListener| listener.local_addr().ok();
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proxy: address(&listeners.proxy),
            status: address(&listeners.status),
            peers: listeners.peers.iter().filter_map(address).collect(),
            dht: listeners.dht.first().and_then(|socket| socket.local_addr().ok()),
        }
    }

    /// The record of a node that is on the DHT only.
    pub(super) fn of_bootstrap(status: &tokio::net::TcpListener, sockets: &[tokio::net::UdpSocket]) -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proxy: None,
            status: status.local_addr().ok(),
            peers: Vec::new(),
            dht: sockets.first().and_then(|socket| socket.local_addr().ok()),
        }
    }

    /// The record of the daemon that runs on this state directory; `None` where none is found.
    pub fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(place(state)).ok()?).ok()
    }

    /// An address on this machine where the daemon serves peers.
    pub fn reachable_peer(&self) -> Option<SocketAddr> {
        let mut address = *self.peers.first()?;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                [0, 0, 0, 0, 0, 0, 0, 1].into()
            });
        }
        Some(address)
    }

    /// Writes the record into the state directory, in one step: a reader sees all of it or nothing.
    pub(super) fn write(&self, state: &Path) -> io::Result<()> {
        fs::create_dir_all(state)?;
        let path = place(state);
        let new = path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        fs::rename(new, path)
    }

    /// Removes the record, unless another daemon's has taken its place.
    pub(super) fn remove(state: &Path) {
        let path = place(state);
        let ours = fs::read(&path).ok().and_then(|json| serde_json::from_slice::<Self>(&json).ok());
        if ours.is_some_and(|record| record.pid == std::process::id()) {
            // What is gone already is removed.
            let _ = fs::remove_file(path);
        }
    }
}

fn place(state: &Path) -> PathBuf {
    state.join("daemon.json")
}
