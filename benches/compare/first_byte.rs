//! How soon the first byte of a cached file comes through the proxy port.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use bytes::Bytes;

use crate::fixture::{Folder, Thing, lay_out, write_lists};
use crate::load::{parse, request};
use crate::nginx::{Nginx, OpenFiles};
use crate::node;
use crate::rounds::{Better, Contender, Figure, Goal, Scale, compare};

/// A package of middling size.
const LENGTH: usize = 100_000;
const FILES: u64 = 50;

/// Requests of one sample, one after another on one connection.
const REQUESTS: usize = 5000;

const FIGURES: &[Figure] = &[
    Figure { name: "first byte, median", unit: "µs", better: Better::Less },
    Figure { name: "first byte, 99th percentile", unit: "µs", better: Better::Less },
];

const NGINX: &str = "nginx";
const PROXY: &str = "aptpeer, proxy port";
const PEER: &str = "aptpeer, peer port";

pub fn run(scale: &Scale) {
    let folder = Folder::in_memory();
    let things: Vec<Thing> =
        (0..FILES).map(|n| Thing::noise(folder.join(&format!("file{n}")), n, LENGTH)).collect();
    lay_out(folder.path(), &things);
    let nginx = Nginx::start([127, 0, 0, 1], folder.path(), &folder.fresh("nginx"), OpenFiles::Forgotten);
    let lists = folder.fresh("lists");
    let mirror = nginx.address().to_string();
    write_lists(&lists, &mirror, &things);
    let daemon = node::holding(&folder.fresh("cache"), Some(&lists), &things);

    let ask = |host: &str, target: &dyn Fn(&Thing) -> String| -> Vec<Bytes> {
        things.iter().map(|thing| request(&target(thing), host, None)).collect()
    };
    let path = |thing: &Thing| format!("/debian/{}", thing.pool_path());
    let plain = ask(&mirror, &path);
    let proxied = ask(&mirror, &|thing| format!("http://{mirror}{}", path(thing)));
    let by_hash = ask("peer", &|thing| format!("/hash/{}", thing.id));
    let asking = |name, address: SocketAddr, requests: Vec<Bytes>| {
        Contender::new(name, move || first_bytes(address, &requests))
    };
    let contenders = vec![
        asking(NGINX, nginx.address(), plain),
        asking(PROXY, daemon.proxy(), proxied),
        asking(PEER, daemon.peer(), by_hash),
    ];
    let goal = |figure| Goal { contender: PROXY, against: NGINX, figure, ratio: 2.0 };
    compare(
        "first-byte: a cached 100 KB file, sequential requests",
        scale,
        FIGURES,
        contenders,
        &[goal(0), goal(1)],
    );
}

/// The median and the 99th percentile, in microseconds.
fn first_bytes(address: SocketAddr, requests: &[Bytes]) -> Vec<f64> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut times: Vec<f64> = (0..REQUESTS)
        .map(|number| {
            let asked = Instant::now();
            stream.write_all(&requests[number % requests.len()]).unwrap();
            let mut filled = stream.read(&mut buffer).unwrap();
            let first = asked.elapsed();
            loop {
                assert!(filled > 0, "the connection ended");
                if let Some((head, length)) = parse(&buffer[..filled]).unwrap()
                    && filled as u64 >= head as u64 + length
                {
                    return first.as_secs_f64() * 1e6;
                }
                filled += stream.read(&mut buffer[filled..]).unwrap();
            }
        })
        .collect();
    times.sort_by(f64::total_cmp);
    vec![times[REQUESTS / 2], times[REQUESTS * 99 / 100]]
}
