//! Peers that nobody chose: what one, several and all of them together can do, and the rules of release.

use std::net::IpAddr;

use crate::faults::check_archives;
use crate::node::Node;
use crate::support::apt::Apt;
use crate::support::mirror::{Fault as MirrorFault, Mirror, Rule};
use crate::support::peers::{Fault, Peer};
use crate::support::repository::Repository;
use crate::world::{Fetched, PACKAGES, fetch, learn, lies_noticed, objects, repository, slices, url};

const TAINT: &str = "bytes that were handed out proved wrong";

/// An address in the `number`-th of many /24 networks of this machine.
fn network(number: u8) -> IpAddr {
    [127, 0, number, 1].into()
}

/// A mirror whose packages come at this many bytes a second.
fn slow_mirror(repository: &Repository, rate: u64) -> Mirror {
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*.deb", MirrorFault::Rate(rate)));
    mirror
}

/// How many bytes at the start of `bytes` are those of `object`.
fn true_prefix(bytes: &[u8], object: &[u8]) -> usize {
    bytes.iter().zip(object).take_while(|(a, b)| a == b).count()
}

#[track_caller]
fn check_whole(fetched: &Fetched, object: &[u8]) {
    assert_eq!(fetched.head.status, 200, "{}", fetched.head.head);
    assert!(fetched.body == object, "{} bytes came, or wrong ones", fetched.body.len());
}

/// apt downloads the packages, without a word of complaint.
#[track_caller]
fn apt_is_content(node: &Node, mirror: &Mirror, repository: &Repository) {
    let apt = Apt::new().proxy(node.proxy).one_line(&mirror.url(), repository);
    apt.update().succeeded();
    apt.install(&PACKAGES).succeeded();
    check_archives(&apt, repository, &PACKAGES);
}

#[test]
fn an_honest_stranger_and_a_slow_mirror_share_the_work() {
    let repository = repository();
    let objects = objects(&repository);
    let stranger = Peer::start_on(network(1), &slices(&objects), &[]);
    let mirror = slow_mirror(&repository, 6_000_000);
    let node = Node::start(&[stranger.address()]);
    learn(node.proxy, &mirror);
    check_whole(&fetch(node.proxy, &url(&mirror, &repository, "twelve"), &[]), &objects[2]);

    let length = objects[2].len() as u64;
    let (from_peers, from_mirror) = node.tally("twelve");
    println!("of {length} bytes {from_mirror} came from the mirror, {from_peers} from the stranger");
    assert!(from_mirror < length * 8 / 10, "{from_mirror} of {length} bytes from the mirror");
    assert!(from_mirror > 0 && from_peers > 0);
    // What was counted is what went over the wire, but for what was under way when the two met.
    assert!(stranger.bytes() >= from_peers);
    assert!(mirror.bytes("*/twelve_*") >= from_mirror);
    assert_eq!(lies_noticed(&node.metrics()), 0);
}

#[test]
fn apt_takes_what_an_honest_stranger_and_a_slow_mirror_give() {
    let repository = repository();
    let objects = objects(&repository);
    let stranger = Peer::start_on(network(1), &slices(&objects), &[]);
    let mirror = slow_mirror(&repository, 10_000_000);
    let node = Node::start(&[stranger.address()]);
    apt_is_content(&node, &mirror, &repository);
    assert!(stranger.bytes() > 0);
}

#[test]
fn a_lying_stranger_never_gets_a_byte_through_to_apt() {
    let repository = repository();
    let objects = objects(&repository);
    let lies: &[&[Fault]] = &[
        &[Fault::WrongPiece(0)],
        &[Fault::WrongPiece(1)],
        &[Fault::WrongPiece(2), Fault::WrongPiece(11)],
        &[Fault::WrongEverywhere],
        &[Fault::WrongPiece(0), Fault::Conspiracy],
        &[Fault::WrongPiece(1), Fault::Conspiracy],
        &[Fault::WrongEverywhere, Fault::Conspiracy],
        &[Fault::TrueTail(1)],
        &[Fault::FalseStates],
        &[Fault::FalseStates, Fault::WrongEverywhere],
        &[Fault::NullStates, Fault::WrongEverywhere],
        &[Fault::NoList, Fault::WrongEverywhere],
        &[Fault::RubbishList],
        &[Fault::WrongLength(1)],
        &[Fault::ShortBody(1)],
        &[Fault::LongBody(1)],
        &[Fault::WrongContentRange(64)],
        &[Fault::WrongEverywhere, Fault::SilentAfter(3_000_000)],
    ];
    let check = |lie: &[Fault]| {
        let stranger = Peer::start_on(network(1), &slices(&objects), lie);
        let mirror = slow_mirror(&repository, 40_000_000);
        let node = Node::start(&[stranger.address()]);
        println!("{lie:?}");
        apt_is_content(&node, &mirror, &repository);
        assert!(!node.log().contains(TAINT), "{lie:?}: false bytes were released\n{}", node.log());
    };
    // A few at a time: most of it is waiting for the mirror.
    for some in lies.chunks(6) {
        std::thread::scope(|scope| {
            for lie in some {
                scope.spawn(|| check(lie));
            }
        });
    }
}

/// Three networks that tell the same false story with a true end: enough to be believed for a while.
fn conspiracy(objects: &[Vec<u8>], faults: &[Fault]) -> Vec<Peer> {
    (1..=3).map(|number| Peer::start_on(network(number), &slices(objects), faults)).collect()
}

fn addresses(peers: &[Peer]) -> Vec<std::net::SocketAddr> {
    peers.iter().map(Peer::address).collect()
}

#[test]
fn a_conspiracy_gets_a_connection_cut_and_the_retry_gets_the_whole_truth() {
    let repository = repository();
    let objects = objects(&repository);
    let conspirators = conspiracy(&objects, &[Fault::TrueTail(5)]);
    let mirror = slow_mirror(&repository, 20_000_000);
    let node = Node::start(&addresses(&conspirators));
    learn(node.proxy, &mirror);
    let url = url(&mirror, &repository, "twelve");

    let first = fetch(node.proxy, &url, &[]);
    assert_eq!(first.head.status, 200, "{}", first.head.head);
    let (came, truth) = (first.body.len(), true_prefix(&first.body, &objects[2]));
    println!("{came} bytes came before the cut, {truth} of them true");
    assert!(truth < came, "nothing false was released: this test is to see it happen");
    assert!(!first.is_whole(), "a wrong file was completed");
    assert!(node.log().contains(TAINT), "{}", node.log());

    // What apt does next: the rest, if the file is still the one it was.
    let range = format!("bytes={came}-");
    let date = first.head.header("last-modified").map(str::to_owned);
    let mut headers = vec![("Range", range.as_str())];
    headers.extend(date.as_deref().map(|date| ("If-Range", date)));
    check_whole(&fetch(node.proxy, &url, &headers), &objects[2]);
    let etag = first.head.header("etag").unwrap();
    let again = fetch(node.proxy, &url, &[("Range", &range), ("If-Range", etag)]);
    check_whole(&again, &objects[2]);
    assert!(lies_noticed(&node.metrics()) > 0, "{}", node.metrics());
}

#[test]
fn apt_survives_a_conspiracy() {
    let repository = repository();
    let objects = objects(&repository);
    let stories: &[&[Fault]] =
        &[&[Fault::TrueTail(5)], &[Fault::WrongEverywhere, Fault::Conspiracy], &[Fault::TrueTail(1)]];
    for story in stories {
        let conspirators = conspiracy(&objects, story);
        let mirror = slow_mirror(&repository, 20_000_000);
        let node = Node::start(&addresses(&conspirators));
        let apt = Apt::new().proxy(node.proxy).one_line(&mirror.url(), &repository);
        apt.update().succeeded();
        let run = apt.install(&["twelve"]);
        println!("{story:?}: {:?}", run.retries());
        assert_eq!(run.code, 0, "{story:?}: {run}\n{}", node.log());
        check_archives(&apt, &repository, &["twelve"]);
        let asked = mirror.bytes("*.deb");
        assert!(asked <= 2 * objects[2].len() as u64, "the mirror was asked for {asked} bytes");
        if *story == [Fault::TrueTail(5)] {
            assert!(node.log().contains(TAINT), "nothing false was released: this test is to see it happen");
        }
    }
}

#[test]
fn a_conspiracy_of_one_network_is_one_voice() {
    let repository = repository();
    let objects = objects(&repository);
    let conspirators: Vec<Peer> = (1..=3)
        .map(|host| Peer::start_on([127, 0, 1, host].into(), &slices(&objects), &[Fault::TrueTail(5)]))
        .collect();
    let mirror = slow_mirror(&repository, 40_000_000);
    let node = Node::start(&addresses(&conspirators));
    learn(node.proxy, &mirror);
    check_whole(&fetch(node.proxy, &url(&mirror, &repository, "twelve"), &[]), &objects[2]);
    assert!(!node.log().contains(TAINT), "{}", node.log());
}

/// Starts a node that knows the repository whose mirror then goes away.
fn orphaned(strangers: &[Peer], repository: &Repository) -> (Node, [String; 3]) {
    let mirror = Mirror::start(&repository.root());
    let node = Node::start(&addresses(strangers));
    learn(node.proxy, &mirror);
    let urls = PACKAGES.map(|name| url(&mirror, repository, name));
    (node, urls)
}

#[test]
fn with_the_mirror_down_an_honest_stranger_is_enough() {
    let repository = repository();
    let objects = objects(&repository);
    let stranger = [Peer::start_on(network(1), &slices(&objects), &[])];
    let (node, urls) = orphaned(&stranger, &repository);
    for (url, object) in urls.iter().zip(&objects) {
        let fetched = fetch(node.proxy, url, &[]);
        println!("{} bytes from a stranger alone in {:.2?}", object.len(), fetched.took);
        check_whole(&fetched, object);
    }
}

#[test]
fn with_the_mirror_down_an_honest_stranger_outlives_the_liars() {
    let repository = repository();
    let objects = objects(&repository);
    let lies: &[&[Fault]] = &[
        &[Fault::WrongEverywhere],
        &[Fault::FalseStates],
        &[Fault::WrongEverywhere, Fault::Conspiracy],
        &[Fault::TrueTail(5)],
        &[Fault::NullStates],
    ];
    let check = |lie: &[Fault]| {
        let strangers = [
            Peer::start_on(network(1), &slices(&objects), lie),
            Peer::start_on(network(2), &slices(&objects), &[]),
        ];
        let (node, urls) = orphaned(&strangers, &repository);
        let mut fetched = fetch(node.proxy, &urls[2], &[]);
        let mut tries = 1;
        while !fetched.is_whole() && tries < 4 {
            // As apt does: the rest of what it has.
            let range = format!("bytes={}-", fetched.body.len());
            fetched = fetch(node.proxy, &urls[2], &[("Range", &range)]);
            tries += 1;
        }
        println!("{lie:?} beside an honest stranger: right after {tries} tries");
        check_whole(&fetched, &objects[2]);
    };
    std::thread::scope(|scope| {
        for lie in lies {
            scope.spawn(|| check(lie));
        }
    });
}

#[test]
fn with_the_mirror_down_a_liar_alone_never_completes_a_file() {
    let repository = repository();
    let objects = objects(&repository);
    let check = |lie: &[Fault]| {
        let strangers = [Peer::start_on(network(1), &slices(&objects), lie)];
        let (node, urls) = orphaned(&strangers, &repository);
        let fetched = fetch(node.proxy, &urls[2], &[]);
        println!("{lie:?} alone: {} and {} bytes", fetched.head.status, fetched.body.len());
        let refused = fetched.head.status == 502 || fetched.head.status == 504;
        assert!(refused || !fetched.is_whole(), "{lie:?}: a wrong file was completed");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| check(&[Fault::WrongEverywhere]));
        scope.spawn(|| check(&[Fault::WrongEverywhere, Fault::Conspiracy]));
        scope.spawn(|| check(&[Fault::TrueTail(5)]));
    });
}
