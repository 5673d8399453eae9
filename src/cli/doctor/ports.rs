//! Who has a port.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// Whether nobody has the address; else who does, as far as that can be seen, or why it cannot be had.
pub(super) fn is_free(address: SocketAddr, protocol: Protocol) -> Result<(), String> {
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    match bound {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(match holder(address.port(), protocol) {
                Some(holder) => format!("{holder} has it"),
                None => "another program has it".to_owned(),
            })
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The program that has a socket at the port, with its process id (proc(5), `/proc/net/tcp`).
fn holder(port: u16, protocol: Protocol) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(|line| inode_at(line, port)).collect::<Vec<_>>())
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|process| process.file_name().into_string().ok()?.parse::<u32>().ok()).find_map(
        |pid| {
            let holds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().any(|descriptor| {
                let Ok(target) = fs::read_link(descriptor.path()) else { return false };
                let target = target.to_string_lossy().into_owned();
                inodes.iter().any(|inode| target == format!("socket:[{inode}]"))
            });
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            holds.then(|| format!("{} (process {pid})", name.trim()))
        },
    )
}

/// The inode of the socket of this line, if it is at the port and of a listener (TCP state 0A) or without a connection.
fn inode_at(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
    let open = matches!(*fields.get(3)?, "0A" | "07");
    (local == port && open).then(|| fields.get(9).map(ToString::to_string)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_port_is_named() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = format!("(process {})", std::process::id());
        for (address, protocol) in
            [(tcp.local_addr().unwrap(), Protocol::Tcp), (udp.local_addr().unwrap(), Protocol::Udp)]
        {
            let said = is_free(address, protocol).unwrap_err();
            assert!(said.contains(&own), "{said}");
        }
        assert!(is_free("192.0.2.1:9979".parse().unwrap(), Protocol::Tcp).is_err(), "not of this machine");
    }
}
