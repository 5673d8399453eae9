//! What look-ups find while a download runs: peers and piece lists of nobody in particular, with real sockets.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use aptpeer::discovery::{Asked, Found, Provider};
use aptpeer::pieces::{Geometry, PieceList, State};
use aptpeer::swarm::PeerKind;
use tokio::sync::mpsc::Receiver;

use crate::node::Node;
use crate::support::mirror::{Fault as MirrorFault, Mirror, Rule};
use crate::support::peers::{self, Fault, Peer, states};
use crate::support::repository::Repository;
use crate::world::{Fetched, faults_in, fetch, learn, lies_noticed, objects, repository, slices, url};

const TAINT: &str = "bytes that were handed out proved wrong";
const FALSE_SIGNATURE: &str = "a piece list signed by a publisher";

/// An address in the `number`-th of many /24 networks of this machine.
fn network(number: u8) -> IpAddr {
    [127, 0, number, 1].into()
}

fn stranger(address: SocketAddr) -> Found {
    Found::Provider(Provider { address, kind: PeerKind::Stranger })
}

fn list(object: &[u8], states: impl IntoIterator<Item = State>, signed: bool) -> Found {
    let geometry = Geometry::new(object.len() as u64).unwrap();
    let list = PieceList::new(geometry, states.into_iter().map(Some).collect()).unwrap();
    Found::List { list, signed }
}

/// States that have nothing to do with the object.
fn poison(object: &[u8]) -> Vec<State> {
    (1..).map(|seed| State::from_bytes(&[seed; 32])).take(states(object).len()).collect()
}

/// Waits for the look-up of this object; others find nothing.
#[track_caller]
fn asked_for(asked: &mut Receiver<Asked>, object: &[u8]) -> Asked {
    let id = Sha256::of(object);
    loop {
        let asked = asked.blocking_recv().expect("the node runs");
        if asked.object == id {
            assert_eq!(asked.geometry.length(), object.len() as u64);
            return asked;
        }
    }
}

fn slow_mirror(repository: &Repository, rate: u64) -> Mirror {
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*.deb", MirrorFault::Rate(rate)));
    mirror
}

#[track_caller]
fn check_whole(fetched: &Fetched, object: &[u8]) {
    assert_eq!(fetched.head.status, 200, "{}", fetched.head.head);
    assert!(fetched.body == object, "{} bytes came, or wrong ones", fetched.body.len());
}

/// Fetches the largest package while `finds` says what its look-up finds.
fn fetch_twelve(
    node: &Node,
    asked: &mut Receiver<Asked>,
    mirror: &Mirror,
    finds: impl FnOnce(Asked),
) -> Fetched {
    let repository = repository();
    let object = repository.bytes("twelve");
    learn(node.proxy, mirror);
    let fetched = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch(node.proxy, &url(mirror, &repository, "twelve"), &[]));
        finds(asked_for(asked, &object));
        fetching.join().unwrap()
    });
    check_whole(&fetched, &object);
    assert!(!node.log().contains(TAINT), "{}", node.log());
    fetched
}

#[test]
fn a_stranger_found_in_the_middle_takes_its_share() {
    let repository = repository();
    let objects = objects(&repository);
    let peer = Peer::start_on(network(1), &slices(&objects), &[]);
    let mirror = slow_mirror(&repository, 6_000_000);
    let (node, mut asked) = Node::looking();
    fetch_twelve(&node, &mut asked, &mirror, |asked| {
        // The mirror gives bytes already: nothing has waited.
        while mirror.bytes("*/twelve_*") == 0 {
            std::thread::yield_now();
        }
        asked.finder.tell(stranger(peer.address()));
    });
    let (from_peers, from_mirror) = node.tally("twelve");
    println!("{from_mirror} bytes came from the mirror, {from_peers} from the stranger");
    assert!(from_peers > objects[2].len() as u64 / 5 && from_mirror > 0);
    assert_eq!(lies_noticed(&node.metrics()), 0);
}

/// Others begin later than we do, and are found by whoever looks again.
#[test]
fn a_long_download_looks_for_peers_again() {
    let repository = repository();
    let objects = objects(&repository);
    let peer = Peer::start_on(network(1), &slices(&objects), &[]);
    let mirror = slow_mirror(&repository, 1_500_000);
    let (node, mut asked) = Node::looking();
    learn(node.proxy, &mirror);
    let fetched = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch(node.proxy, &url(&mirror, &repository, "twelve"), &[]));
        drop(asked_for(&mut asked, &objects[2]));
        let again = asked_for(&mut asked, &objects[2]);
        again.finder.tell(stranger(peer.address()));
        drop(again);
        fetching.join().unwrap()
    });
    check_whole(&fetched, &objects[2]);
    let (from_peers, from_mirror) = node.tally("twelve");
    println!(
        "{from_mirror} bytes came from the mirror, {from_peers} from the stranger, in {:?}",
        fetched.took
    );
    assert!(from_peers > objects[2].len() as u64 / 5, "{from_peers}");
}

#[test]
fn a_download_that_ends_cancels_its_look_up() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let (node, mut asked) = Node::looking();
    let mut kept = None;
    fetch_twelve(&node, &mut asked, &mirror, |asked| kept = Some(asked));
    // Waits for ever unless it is so.
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(kept.unwrap().finder.cancelled());
}

#[test]
fn a_poisoned_list_harms_nobody() {
    let repository = repository();
    let objects = objects(&repository);
    // One who tells his own list, and one who knows of none and would work under any.
    for faults in [&[][..], &[Fault::NoList]] {
        let peer = Peer::start_on(network(1), &slices(&objects), faults);
        let mirror = slow_mirror(&repository, 20_000_000);
        let took = |poisoned: bool| {
            let (node, mut asked) = Node::looking();
            let fetched = fetch_twelve(&node, &mut asked, &mirror, |asked| {
                if poisoned {
                    asked.finder.tell(list(&objects[2], poison(&objects[2]), false));
                }
                asked.finder.tell(stranger(peer.address()));
            });
            assert_eq!(faults_in(&node.log()), Vec::<String>::new(), "{}", node.log());
            fetched.took
        };
        let (without, with) = (took(false), took(true));
        println!("{faults:?}: {with:.2?} with the poisoned list, {without:.2?} without it");
        assert!(with < without + Duration::from_secs(1), "{with:?} instead of {without:?}");
    }
}

#[test]
fn an_honest_list_sets_a_peer_to_work_that_has_none() {
    let repository = repository();
    let objects = objects(&repository);
    let peer = Peer::start_on(network(1), &slices(&objects), &[Fault::NoList]);
    for signed in [false, true] {
        let mirror = slow_mirror(&repository, 6_000_000);
        let (node, mut asked) = Node::looking();
        fetch_twelve(&node, &mut asked, &mirror, |asked| {
            asked.finder.tell(list(&objects[2], states(&objects[2]), signed));
            asked.finder.tell(stranger(peer.address()));
        });
        let (from_peers, from_mirror) = node.tally("twelve");
        println!("signed {signed}: {from_mirror} bytes from the mirror, {from_peers} from the stranger");
        assert!(from_peers > objects[2].len() as u64 / 5, "{}", node.log());
        assert!(!node.log().contains(FALSE_SIGNATURE));
        assert_eq!(lies_noticed(&node.metrics()), 0);
    }
}

#[test]
fn a_false_list_of_a_publisher_is_told_to_the_user() {
    let repository = repository();
    let objects = objects(&repository);
    let mirror = slow_mirror(&repository, 40_000_000);
    let (node, mut asked) = Node::looking();
    fetch_twelve(&node, &mut asked, &mirror, |asked| {
        asked.finder.tell(list(&objects[2], poison(&objects[2]), true));
    });
    assert!(node.log().contains(FALSE_SIGNATURE), "{}", node.log());
}

#[test]
fn forty_bogus_peers_cost_nothing_and_no_more_than_some_are_asked() {
    let repository = repository();
    let silent = Peer::start_on([0, 0, 0, 0].into(), &[], &[Fault::Silent]);
    let port = silent.address().port();
    let (corpse, _kept) = peers::dead();
    let mirror = slow_mirror(&repository, 20_000_000);
    let took = |bogus: bool| {
        let (node, mut asked) = Node::looking();
        let fetched = fetch_twelve(&node, &mut asked, &mirror, |asked| {
            if bogus {
                asked.finder.tell(stranger(corpse));
                (1..=60).for_each(|number| {
                    asked.finder.tell(stranger((network(number), port).into()));
                });
            }
        });
        fetched.took
    };
    let (without, with) = (took(false), took(true));
    println!("{with:.2?} with bogus peers, {without:.2?} without");
    assert!(with < without + Duration::from_secs(1), "{with:?} instead of {without:?}");
    let questions = silent.records().len();
    assert!(questions > 0 && questions <= 32, "{questions} were asked");
}

#[test]
fn a_hostile_peer_that_is_found_again_and_again_is_left_alone() {
    let repository = repository();
    let objects = objects(&repository);
    let hostile = Peer::start_on(network(1), &[], &[Fault::Rubbish]);
    let mirror = slow_mirror(&repository, 40_000_000);
    let (node, mut asked) = Node::looking();
    fetch_twelve(&node, &mut asked, &mirror, |asked| {
        (0..10).for_each(|_| {
            asked.finder.tell(stranger(hostile.address()));
        });
    });
    assert_eq!(hostile.records().len(), 1, "it is taken once");
    assert_eq!(faults_in(&node.log()), ["rubbish"]);
    let fetched = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch(node.proxy, &url(&mirror, &repository, "three"), &[]));
        asked_for(&mut asked, &objects[1]).finder.tell(stranger(hostile.address()));
        fetching.join().unwrap()
    });
    check_whole(&fetched, &objects[1]);
    assert_eq!(hostile.records().len(), 1, "it is on the bench");
}

#[test]
fn with_the_mirror_down_apt_gets_what_a_look_up_finds() {
    let repository = repository();
    let objects = objects(&repository);
    let peer = Peer::start_on(network(1), &slices(&objects), &[]);
    let (node, mut asked) = Node::looking();
    let mirror = Mirror::start(&repository.root());
    learn(node.proxy, &mirror);
    let urls = ["one", "twelve"].map(|name| url(&mirror, &repository, name));
    drop(mirror);
    for (url, object) in urls.iter().zip([&objects[0], &objects[2]]) {
        let fetched = std::thread::scope(|scope| {
            let fetching = scope.spawn(|| fetch(node.proxy, url, &[]));
            asked_for(&mut asked, object).finder.tell(stranger(peer.address()));
            fetching.join().unwrap()
        });
        println!("{} bytes in {:.2?}", object.len(), fetched.took);
        check_whole(&fetched, object);
    }
}

#[test]
fn with_the_mirror_down_a_fruitless_look_up_ends_the_wait_and_is_not_tried_again() {
    let repository = repository();
    let objects = objects(&repository);
    let (node, mut asked) = Node::looking();
    let mirror = Mirror::start(&repository.root());
    learn(node.proxy, &mirror);
    let url = url(&mirror, &repository, "one");
    drop(mirror);
    let fetched = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch(node.proxy, &url, &[]));
        drop(asked_for(&mut asked, &objects[0]));
        fetching.join().unwrap()
    });
    assert!(fetched.head.status >= 500, "{}", fetched.head.head);
    assert!(fetched.took < Duration::from_secs(9), "it ended with the look-up: {:?}", fetched.took);
    let again = Instant::now();
    assert!(fetch(node.proxy, &url, &[]).head.status >= 500);
    println!("given up after {:.2?}, the second time after {:.2?}", fetched.took, again.elapsed());
    assert!(asked.try_recv().is_err(), "nobody had it a moment ago");
}

#[test]
fn a_file_that_the_mirror_lacks_is_found_elsewhere_or_lacking_soon() {
    let repository = repository();
    let objects = objects(&repository);
    let peer = Peer::start_on(network(1), &slices(&objects), &[]);
    let mirror = Mirror::start(&repository.root());
    let (node, mut asked) = Node::looking();
    learn(node.proxy, &mirror);
    mirror.script(Rule::new("*.deb", MirrorFault::Status(404)));
    let mut ask = |name: &str, object: &[u8], finds: Option<Found>| {
        std::thread::scope(|scope| {
            let fetching = scope.spawn(|| fetch(node.proxy, &url(&mirror, &repository, name), &[]));
            // Kept until the answer is there: a look-up that does not end.
            let asked = asked_for(&mut asked, object);
            finds.map(|found| asked.finder.tell(found));
            fetching.join().unwrap()
        })
    };
    check_whole(&ask("three", &objects[1], Some(stranger(peer.address()))), &objects[1]);
    let lacking = ask("one", &objects[0], None);
    assert_eq!(lacking.head.status, 404, "{}", lacking.head.head);
    println!("lacking after {:.2?}", lacking.took);
    assert!(lacking.took < Duration::from_secs(6), "{:?}", lacking.took);
}
