//! Peers that help each other with a piece.

use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::peers::{Fault, Peer};
use crate::world::{self, Fetched, fetch, learn, lies_noticed, objects, slices, url};

use aptpeer::pieces::PIECE_LENGTH;

/// Slow enough that others have time to help.
const SLOW: Fault = Fault::Slow(1_500_000);

/// A package of three pieces, from these peers alone.
fn three(faults: &[&[Fault]]) -> (Daemon, Vec<Peer>, Fetched) {
    let repository = world::repository();
    let objects = objects(&repository);
    let peers: Vec<Peer> = faults.iter().map(|faults| Peer::start(&slices(&objects), faults)).collect();
    let mirror = Mirror::start(&repository.root());
    let daemon = peers.iter().fold(Setup::new(), |setup, peer| setup.peer(peer.address())).start();
    learn(daemon.proxy(), &mirror);
    let url = url(&mirror, &repository, "three");
    drop(mirror);
    let fetched = fetch(daemon.proxy(), &url, &[]);
    assert!(fetched.head.status == 200 && fetched.body == objects[1], "{}", fetched.head.head);
    (daemon, peers, fetched)
}

/// How often a peer was asked for what begins within a piece.
fn parts(peer: &Peer) -> usize {
    let begins = |range: &str| range.strip_prefix("bytes=")?.split('-').next()?.parse::<u64>().ok();
    let records = peer.records();
    let asked = records.iter().filter_map(|record| begins(record.head.header("range")?));
    asked.filter(|start| !start.is_multiple_of(PIECE_LENGTH)).count()
}

/// Whom a daemon has charged with what.
fn charged(daemon: &Daemon) -> Vec<(String, String)> {
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let fault = |line: serde_json::Value| {
        let fields = &line["fields"];
        (fields["message"] == "peer faulted").then(|| {
            (fields["peer"].as_str().unwrap().to_owned(), fields["fault"].as_str().unwrap().to_owned())
        })
    };
    lines.filter_map(fault).collect()
}

#[test]
fn whoever_has_nothing_to_do_helps_and_nobody_is_charged() {
    let (daemon, peers, _) = three(&[&[SLOW], &[SLOW], &[SLOW], &[SLOW]]);
    assert!(peers.iter().map(parts).sum::<usize>() > 0);
    assert_eq!(charged(&daemon), []);
}

#[test]
fn whoever_lies_in_a_part_of_a_piece_is_charged_and_who_brought_the_rest_is_not() {
    let (daemon, peers, _) = three(&[&[SLOW], &[SLOW], &[Fault::WrongParts]]);
    assert!(parts(&peers[2]) > 0, "it was not asked for a part");
    assert_eq!(charged(&daemon), [(peers[2].address().to_string(), "wrong-piece".to_owned())]);
    // It spoils what is under way, and is not mixed with others again.
    assert!(lies_noticed(&daemon.metrics()) <= 2);
}

#[test]
fn a_part_that_breaks_off_is_brought_by_another() {
    let (daemon, peers, _) = three(&[&[SLOW], &[SLOW], &[SLOW], &[Fault::CloseAfter(PIECE_LENGTH / 8)]]);
    assert!(peers.iter().map(parts).sum::<usize>() > 0);
    let breaker = peers[3].address().to_string();
    assert!(charged(&daemon).iter().all(|(peer, fault)| *peer == breaker && fault == "short"));
}
