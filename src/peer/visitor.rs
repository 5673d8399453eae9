//! What a stranger took us for, by the first bytes that he sent.

use crate::metrics::Visitor;

/// The beginning of a BitTorrent handshake (BEP 3, "peer protocol").
const BITTORRENT: &[u8] = b"\x13BitTorrent protocol";

/// The beginning of a TLS record with a handshake, whatever the version (RFC 8446, section 5.1).
const TLS: &[u8] = b"\x16\x03";

/// The longest method that is taken for one: the longest of the common ones has 9 letters.
const MAX_METHOD: usize = 12;

/// What a connection was, of which these were the first bytes.
pub(super) fn visitor(opening: &[u8]) -> Visitor {
    if opening.is_empty() {
        Visitor::Other
    } else if opening.starts_with(BITTORRENT) || BITTORRENT.starts_with(opening) {
        Visitor::BitTorrent
    } else if opening.starts_with(TLS) || TLS.starts_with(opening) {
        Visitor::Tls
    } else if is_request(opening) {
        Visitor::Http
    } else {
        Visitor::Other
    }
}

/// Whether this begins as a request does: a method in capitals, a blank, a target (RFC 9112, section 3; HTTP/0.9 too).
fn is_request(opening: &[u8]) -> bool {
    let opening = opening.trim_ascii_start();
    let Some(end) = opening.iter().position(|byte| *byte == b' ') else { return false };
    let target = opening.get(end + 1);
    (1..=MAX_METHOD).contains(&end)
        && opening[..end].iter().all(u8::is_ascii_uppercase)
        && target.is_some_and(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_are_told_by_their_first_bytes() {
        for (opening, kind) in [
            (&b"\x13BitTorrent protocol"[..], Visitor::BitTorrent),
            (b"\x13BitTo", Visitor::BitTorrent),
            (b"\x13BitCoin", Visitor::Other),
            (b"\x16\x03\x01\x02\x00", Visitor::Tls),
            (b"\x16", Visitor::Tls),
            (b"\x16\x04", Visitor::Other),
            (b"GET / HTTP/1.1\r\n", Visitor::Http),
            (b"GET /\r\n", Visitor::Http),
            (b"\r\nOPTIONS * HTTP/1.0", Visitor::Http),
            (b"CONNECT example.org:", Visitor::Http),
            (b"GET", Visitor::Other),
            (b"GET ", Visitor::Other),
            (b"get / HTTP/1.1", Visitor::Other),
            (b"HELLOHELLOHELLO / ", Visitor::Other),
            (b" /", Visitor::Other),
            (b"SSH-2.0-OpenSSH_9.2\r", Visitor::Other),
            (b"\x41\x00\x12\x34", Visitor::Other),
            (b"", Visitor::Other),
        ] {
            assert_eq!(visitor(opening), kind, "{}", opening.escape_ascii());
        }
    }
}
