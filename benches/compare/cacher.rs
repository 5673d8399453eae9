//! apt-cacher-ng, where it is installed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::{Server, free_address};

const PROGRAM: &str = "/usr/sbin/apt-cacher-ng";

/// A running apt-cacher-ng in front of a mirror; its cache is empty.
pub struct Cacher {
    server: Server,
    address: SocketAddr,
}

impl Cacher {
    /// Starts one with its files in `own`; `None` where there is none on this machine.
    pub fn start(own: &Path) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            return None;
        }
        let address = free_address([127, 0, 0, 1]);
        let config = format!(
            "CacheDir: {cache}\nLogDir: {log}\nSupportDir: /usr/lib/apt-cacher-ng\nBindAddress: 127.0.0.1\nPort: {port}\n\
             ForeGround: 1\nAllowUserPorts: 0\nVerboseLog: 0\nExThreshold: 4\n",
            cache = own.join("cache").display(),
            log = own.join("logs").display(),
            port = address.port(),
        );
        for name in ["cache", "logs", "conf"] {
            fs::create_dir_all(own.join(name)).unwrap();
        }
        fs::write(own.join("conf/acng.conf"), config).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(own.join("conf")).env_remove("http_proxy").env_remove("HTTP_PROXY");
        Some(Self { server: Server::start(command, address, &own.join("log")), address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
