//! libtorrent as a rival: four seeds and a client, driven by `benches/torrent.py`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Server, Usage, free_address};

/// The interpreter that Debian's python3-libtorrent belongs to.
pub const PYTHON: &str = "/usr/bin/python3";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/torrent.py");

/// Seeds of one file.
pub struct Seeds {
    torrent: PathBuf,
    addresses: Vec<SocketAddr>,
    _servers: Vec<Server>,
}

impl Seeds {
    /// Makes a torrent of `file` and seeds it at `ips`; `None` where there is no libtorrent.
    pub fn start(file: &Path, own: &Path, ips: &[[u8; 4]]) -> Option<Self> {
        let torrent = own.join("bench.torrent");
        let made = script("make").arg(file).arg(&torrent).status().ok()?;
        if !made.success() {
            return None;
        }
        let mut addresses = Vec::new();
        let servers = ips.iter().map(|ip| {
            let address = free_address(*ip);
            addresses.push(address);
            let mut command = script("seed");
            command.arg(&torrent).arg(file.parent().unwrap()).arg(address.to_string());
            Server::start(command, address, &own.join(format!("seed{}.log", addresses.len())))
        });
        let servers = servers.collect();
        Some(Self { torrent, addresses, _servers: servers })
    }

    /// Downloads into `folder`: from the moment the torrent is added until it is complete and checked, without the start
    /// of the interpreter.
    pub fn get(&self, folder: &Path) -> Usage {
        let mut command = script("get");
        command.arg(&self.torrent).arg(folder);
        command.args(self.addresses.iter().map(ToString::to_string));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let mut numbers = said.split_ascii_whitespace().map(|number| number.parse().unwrap());
        Usage { wall: numbers.next().unwrap(), cpu: numbers.next().unwrap() }
    }
}

fn script(action: &str) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg(SCRIPT).arg(action);
    command
}
