//! Nodes of the `mainline` crate, one per address, that do what lines of JSON on standard input say; see
//! libtorrent_nodes.py, which speaks the same.
//!
//!     mainline_nodes BOOTSTRAP LISTEN...
//!
//! The crate stores byte strings: `value` must be one, bencoded.
// The blocking calls are deprecated in favour of asynchronous ones; a thread for each question wants nothing else.
#![allow(deprecated, clippy::unwrap_used, clippy::print_stdout)]

use std::io::BufRead as _;
use std::net::SocketAddrV4;
use std::thread;

use mainline::{Dht, Id, MutableItem, SigningKey};
use serde_json::{Value, json};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap();
    let listen: Vec<String> = arguments.collect();
    let nodes: Vec<Dht> = (0..listen.len()).map(|index| start(&bootstrap, &listen, index)).collect();
    println!("{}", json!({ "version": "mainline 8" }));
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let node = nodes[request["node"].as_u64().unwrap() as usize].clone();
        // Each question blocks until its answer is there.
        thread::spawn(move || {
            let mut answer = answer(&node, &request).unwrap_or_else(|error| json!({ "error": error }));
            answer["id"] = request["id"].clone();
            println!("{answer}");
        });
    }
}

fn start(bootstrap: &str, listen: &[String], index: usize) -> Dht {
    let address: SocketAddrV4 = listen[index].parse().unwrap();
    let first = listen[..index.min(3)].iter().map(String::as_str);
    let known: Vec<&str> = bootstrap.split(',').filter(|name| !name.is_empty()).chain(first).collect();
    let mut builder = Dht::builder();
    builder.server_mode().bind_address(*address.ip()).port(address.port());
    // A node that was given nodes to begin with never learns of those who ask it.
    if known.is_empty() {
        builder.no_bootstrap()
    } else {
        builder.bootstrap(&known)
    };
    let node = builder.build().unwrap();
    node.bootstrapped();
    node
}

fn answer(node: &Dht, request: &Value) -> Result<Value, String> {
    let bytes = |name: &str| request[name].as_str().map(hex_decoded);
    let id = |name: &str| Id::from_bytes(bytes(name).unwrap_or_default()).map_err(|error| error.to_string());
    let salt = bytes("salt");
    match request["do"].as_str().unwrap_or_default() {
        "nodes" => Ok(json!({ "nodes": u8::from(node.bootstrapped()) })),
        "get_peers" => {
            let found = node.get_peers(id("info_hash")?).flatten();
            let peers: Vec<_> = found.map(|peer| json!([peer.ip().to_string(), peer.port()])).collect();
            Ok(json!({ "peers": peers }))
        }
        "announce" => {
            // Its own announce looks for nodes with `get`, which those without BEP 44 do not answer; this one's tokens are kept.
            let info_hash = id("info_hash")?;
            node.get_peers(info_hash).for_each(drop);
            let port = request["port"].as_u64().map(|port| port as u16);
            node.announce_peer(info_hash, port).map_err(|error| error.to_string())?;
            Ok(json!({}))
        }
        "put" => {
            let value = text_of(&bytes("value").unwrap_or_default())?;
            match bytes("seed").map(|seed| <[u8; 32]>::try_from(seed).unwrap()) {
                None => node.put_immutable(&value).map(drop).map_err(|error| error.to_string())?,
                Some(seed) => {
                    let item = MutableItem::new(SigningKey::from_bytes(&seed), &value, 1, salt.as_deref());
                    node.put_mutable(item, None).map(drop).map_err(|error| error.to_string())?;
                }
            }
            Ok(json!({}))
        }
        "get" => {
            let value = match bytes("key").map(|key| <[u8; 32]>::try_from(key).unwrap()) {
                None => node.get_immutable(id("target")?).map(Vec::from),
                Some(key) => {
                    node.get_mutable(&key, salt.as_deref(), None).next().map(|item| item.value().to_vec())
                }
            };
            Ok(json!({ "value": value.map(|value| hex_encoded(&bencoded(&value))) }))
        }
        other => Err(format!("no such thing: {other:?}")),
    }
}

/// The bytes of a bencoded byte string.
fn text_of(bencoded: &[u8]) -> Result<Vec<u8>, String> {
    let colon = bencoded.iter().position(|byte| *byte == b':');
    let length = colon.filter(|_| bencoded[0].is_ascii_digit());
    length
        .map(|colon| bencoded[colon + 1..].to_vec())
        .ok_or_else(|| "the crate stores byte strings only".to_owned())
}

fn bencoded(text: &[u8]) -> Vec<u8> {
    [format!("{}:", text.len()).as_bytes(), text].concat()
}

fn hex_decoded(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn hex_encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
