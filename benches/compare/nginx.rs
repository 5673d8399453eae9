//! nginx as a mirror, as a plain peer, and as the rival that is hard to beat at giving files away.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::{Server, free_address};

/// Whether nginx keeps files open between requests. Debian's configuration does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFiles {
    Forgotten,
    Kept,
}

/// One worker that serves a folder of [`crate::fixture::lay_out`].
pub struct Nginx {
    server: Server,
    address: SocketAddr,
}

impl Nginx {
    /// Starts one at `ip`; its own files go to `own`.
    pub fn start(ip: [u8; 4], files: &Path, own: &Path, open_files: OpenFiles) -> Self {
        let address = free_address(ip);
        let config = own.join("nginx.conf");
        fs::write(&config, configuration(address, files, own, open_files)).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(own).arg("-e").arg(own.join("error.log")).arg("-c").arg(&config);
        Self { server: Server::start(command, address, &own.join("log")), address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}

fn configuration(address: SocketAddr, files: &Path, own: &Path, open_files: OpenFiles) -> String {
    let (files, own) = (files.display(), own.display());
    let cache = match open_files {
        OpenFiles::Forgotten => "",
        OpenFiles::Kept => "open_file_cache max=4096 inactive=10m; open_file_cache_valid 10m;",
    };
    // Only root has a user to change; the worker must be able to read our folders.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "daemon off; worker_processes 1; {user} pid {own}/pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; {cache}\n\
           client_body_temp_path {own}/t1; proxy_temp_path {own}/t2; fastcgi_temp_path {own}/t3;\n\
           uwsgi_temp_path {own}/t4; scgi_temp_path {own}/t5;\n\
           default_type application/octet-stream;\n\
           server {{\n\
             listen {address} backlog=1024;\n\
             location ~ \"^/hash/([0-9a-f]{{64}})$\" {{ alias {files}/hash/$1; }}\n\
             location ~ \"^/hash/([0-9a-f]{{64}})/pieces$\" {{ default_type application/json; alias {files}/pieces/$1; }}\n\
             location /debian/ {{ root {files}/mirror; }}\n\
           }}\n\
         }}\n"
    )
}
