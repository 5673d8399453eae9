//! Asking the running daemon, on its status port.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::Context;
use super::output::Failure;
use crate::daemon::Record;

/// How long the daemon may take for a step: it is on this machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state directory of the machine's own daemon, where nothing else is configured.
const SYSTEM_STATE: &str = "/var/lib/aptpeer";

/// The longest answer, in bytes: many times what all the peers that a daemon remembers take.
const MAX_ANSWER: u64 = 16 << 20;

/// The most header fields of an answer.
const MAX_HEADERS: usize = 64;

/// The body of the daemon's answer at `path`.
pub(super) fn daemon(context: &Context, path: &str) -> Result<Vec<u8>, Failure> {
    let state = context.settings()?.state.path;
    let none = || {
        let state = state.display();
        Failure::Work(format!("no daemon runs on {state} (state.path): start one with `aptpeer daemon`"))
    };
    // Whoever is not root has a state directory of his own; the machine's daemon is meant all the same.
    let record = Record::read(&state).or_else(|| Record::read(Path::new(SYSTEM_STATE)));
    let address = reachable(record.ok_or_else(none)?.status.ok_or_else(none)?);
    let told = |error: std::io::Error| {
        Failure::Work(format!("cannot ask the daemon at {address}: {error}; does it still run?"))
    };
    answer(address, path, PATIENCE).map_err(told)?.ok_or_else(|| {
        Failure::Work(format!("the daemon at {address} gave no answer for {path}; is it older?"))
    })
}

/// Where we reach a listener of this machine.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let here: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(here);
    }
    address
}

/// The body of what is answered at `path`; `None` where that is no whole success. Each step may take `patience`.
pub(super) fn answer(
    address: SocketAddr,
    path: &str,
    patience: Duration,
) -> std::io::Result<Option<Vec<u8>>> {
    exchange(address, path, patience).map(|answer| body(&answer))
}

fn exchange(address: SocketAddr, path: &str, patience: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The body of an answer that is a success and whole. The status port always says how long its answers are.
fn body(answer: &[u8]) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(answer).ok()? else { return None };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    let body = answer.get(start..)?;
    (head.code == Some(200) && body.len() == length).then(|| body.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_success_is_an_answer() {
        let of = |text: &str| body(text.as_bytes());
        assert_eq!(of("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"), Some(b"ab".to_vec()));
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nab",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
