//! DNS rebinding: a page of somebody else's, in a browser on this machine, whose name was made to lead here. The browser then
//! takes our answers for that page's own and lets it read them.

use std::net::{IpAddr, Ipv6Addr};

use hyper::Request;
use hyper::header::HOST;

use super::Conn;

/// What such a page is told, with 421 (RFC 9110, section 15.5.20).
pub const MISDIRECTED: &str = "another site's name led here: ask for this by its address, or as localhost";

/// The names of this machine that no name server decides on (hosts(5)).
const HOSTS: &str = "/etc/hosts";

/// Whether a request over a connection of this machine to itself came under a name that a name server of somebody else may have
/// led here. Whoever listens on other addresses has given them names of his own: nothing is said of those.
///
/// Addresses, `localhost` and what is below it (RFC 6761, section 6.3), names without a dot, and those in `/etc/hosts` are
/// no such names. No browser leaves `Host` out.
pub fn is_rebound<B, S>(request: &Request<B>, conn: &Conn<S>) -> bool {
    let host = request.headers().get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    let known = |name: &str| std::fs::read_to_string(HOSTS).is_ok_and(|hosts| names(&hosts, name));
    conn.local.ip().to_canonical().is_loopback() && host.is_some_and(|host| is_foreign(&host, known))
}

fn is_foreign(host: &str, known: impl Fn(&str) -> bool) -> bool {
    let end = host.rfind(']').map_or(0, |at| at + 1);
    let name = host[end..].find(':').map_or(host, |at| &host[..end + at]);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_address =
        name.parse::<IpAddr>().is_ok() || bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok());
    !(is_address || !name.contains('.') || name.ends_with(".localhost") || known(&name))
}

/// Whether the text of a hosts(5) has this name.
fn names(hosts: &str, name: &str) -> bool {
    let lines = hosts.lines().filter_map(|line| line.split('#').next());
    lines.flat_map(|line| line.split_whitespace().skip(1)).any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_of_this_machine_are_not_foreign() {
        let known = |name: &str| names("127.0.1.1 box.example.org box # evil.example\n", name);
        for ours in [
            "127.0.0.1:9978",
            "127.0.0.1",
            "[::1]:9978",
            "[::1]",
            "localhost:9978",
            "LOCALHOST.",
            "apt.localhost",
            "box",
            "Box.Example.org:9978",
            "",
        ] {
            assert!(!is_foreign(ours, known), "{ours}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9978",
            "127.0.0.1.evil.example",
            "[::1].evil.example:1",
            "localhost.evil.example",
            "127.0.1.1 box.example.org",
        ] {
            assert!(is_foreign(foreign, known), "{foreign}");
        }
    }
}
