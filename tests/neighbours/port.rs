//! `/have` and `/neighbours` as the peer port answers them.

use std::net::SocketAddr;

use aptpeer::digest::Sha256;
use aptpeer::wire::{HaveSet, neighbours_from_json};

use socket2::{Domain, Socket, Type};

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Response, Wire, get, request};
use crate::support::mirror::Mirror;
use crate::support::peers::Peer;
use crate::{SOON, install, packages, through, wait_for};

fn set(response: &Response) -> HaveSet {
    assert_eq!(response.status, 200, "{}", response.head);
    HaveSet::parse(&response.body).unwrap()
}

fn has_all(daemon: &Daemon, objects: &[Sha256]) -> Option<()> {
    let set = set(&get(daemon.peer(), "/have"));
    objects.iter().all(|object| set.contains(object)).then_some(())
}

#[test]
fn the_have_set_follows_the_store_and_is_told_once() {
    let repository = packages(6);
    let mirror = Mirror::start(&repository.root());
    let daemon =
        Setup::new().with(&format!("[mirrors]\nkeyrings = [\"{}\"]", repository.keyring().display())).start();
    let empty = get(daemon.peer(), "/have");
    assert!(set(&empty).is_empty());
    assert_eq!(empty.header("cache-control"), Some("max-age=5"));
    assert_eq!(empty.header("age"), Some("0"));
    assert_eq!(empty.header("content-type"), Some("application/octet-stream"));

    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    install(&apt, &repository);
    let held: Vec<_> = repository.built().iter().map(|built| built.sha256).collect();
    assert!(wait_for(SOON, || has_all(&daemon, &held)).is_some(), "it does not follow");

    let full = get(daemon.peer(), "/have");
    let etag = full.header("etag").unwrap().to_owned();
    assert_ne!(Some(&*etag), empty.header("etag"));
    let again = request(daemon.peer(), "GET", "/have", &[("If-None-Match", &etag)]);
    assert_eq!((again.status, again.body.len()), (304, 0), "{}", again.head);
    assert_eq!(again.header("etag"), Some(&*etag));
    assert!(again.header("age").is_some());
    let head = request(daemon.peer(), "HEAD", "/have", &[]);
    assert_eq!(head.header("content-length"), Some(&*full.body.len().to_string()));
    assert_eq!(request(daemon.peer(), "POST", "/have", &[]).status, 405);
    assert_eq!(daemon.stat("bytes_uploaded"), 0, "a set is no object");
    // However often it is asked for: the same bytes.
    for _ in 0..50 {
        assert_eq!(get(daemon.peer(), "/have").body, full.body);
    }
}

#[test]
fn neighbours_are_those_that_answered() {
    // The first peer knows no have-sets: it is a neighbour, but has told us nothing.
    let (plain, other) = (Peer::honest(&[]), Setup::new().start());
    let daemon = Setup::new().peer(plain.address()).peer(other.peer()).start();
    let told_at = |ip: [u8; 4]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        socket.connect(&daemon.peer().into()).unwrap();
        let mut wire = Wire::over(socket.into());
        wire.ask("GET", "/neighbours", &[]);
        let answer = wire.response().unwrap();
        assert_eq!(answer.header("content-type"), Some("application/json"));
        neighbours_from_json(&answer.body).unwrap()
    };
    let known = || (told_at([127, 0, 0, 2]) == [other.peer()]).then_some(());
    assert!(wait_for(SOON, known).is_some(), "{:?}", told_at([127, 0, 0, 2]));
    assert_eq!(told_at([127, 0, 0, 1]), [], "no one is told of himself");
}
