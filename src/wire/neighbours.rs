//! The answer to `GET /neighbours`: peers that a peer knows.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The most peers that are told, and that are read of an answer.
pub const MAX_NEIGHBOURS_TOLD: usize = 50;

/// The longest answer that is read, in bytes: 50 addresses of IPv6 take 2.5 KB.
pub const MAX_NEIGHBOURS_BYTES: usize = 8 << 10;

#[derive(Serialize, Deserialize)]
struct Document {
    neighbours: Vec<String>,
}

/// The JSON document that tells of `peers`; of too many, the first.
pub fn neighbours_to_json(peers: &[SocketAddr]) -> String {
    let neighbours = peers.iter().take(MAX_NEIGHBOURS_TOLD).map(ToString::to_string).collect();
    serde_json::to_string(&Document { neighbours }).unwrap_or_default()
}

/// The peers that a document tells of: the first [`MAX_NEIGHBOURS_TOLD`] entries, without those that are no address.
/// `None` for what is not such a document or is too long.
pub fn neighbours_from_json(json: &[u8]) -> Option<Vec<SocketAddr>> {
    if json.len() > MAX_NEIGHBOURS_BYTES {
        return None;
    }
    let document: Document = serde_json::from_slice(json).ok()?;
    let told = document.neighbours.iter().take(MAX_NEIGHBOURS_TOLD);
    Some(told.filter_map(|text| text.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_told_is_read() {
        let peers = [address("203.0.113.7:9979"), address("[2001:db8::1]:9979")];
        let json = neighbours_to_json(&peers);
        assert_eq!(json, r#"{"neighbours":["203.0.113.7:9979","[2001:db8::1]:9979"]}"#);
        assert_eq!(neighbours_from_json(json.as_bytes()), Some(peers.to_vec()));
    }

    #[test]
    fn a_flood_and_rubbish_are_cut_short() {
        let flood: Vec<_> = (1..=10_000).map(|port| address(&format!("9.9.9.9:{port}"))).collect();
        let told = neighbours_from_json(neighbours_to_json(&flood).as_bytes()).unwrap();
        assert_eq!(told, flood[..MAX_NEIGHBOURS_TOLD]);
        let named: Vec<String> = flood.iter().map(|peer| format!("{peer:?}")).collect();
        let whole = serde_json::to_string(&Document { neighbours: named[..300].to_vec() }).unwrap();
        assert_eq!(neighbours_from_json(whole.as_bytes()).unwrap().len(), MAX_NEIGHBOURS_TOLD);
        let whole = serde_json::to_string(&Document { neighbours: named }).unwrap();
        assert_eq!(neighbours_from_json(whole.as_bytes()), None);
        let odd = br#"{"neighbours":["example.org:1","9.9.9.9","9.9.9.9:1","9.9.9.9:99999"],"more":1}"#;
        assert_eq!(neighbours_from_json(odd), Some(vec![address("9.9.9.9:1")]));
        for rubbish in ["", "[]", "{}", r#"{"neighbours":[1]}"#, "\u{0}"] {
            assert_eq!(neighbours_from_json(rubbish.as_bytes()), None, "{rubbish}");
        }
    }
}
