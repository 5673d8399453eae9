//! Two nodes: what the first has, the second gets from it.

use super::*;

/// Lets the first node fetch everything, then the second; returns it, its apt and the two mirrors' one.
fn second_node_gets_everything(repository: &Repository) {
    let mirror = Mirror::start(&repository.root());
    let first = trusting(repository).start();
    let all = names(repository);
    let apt = through(&first, &mirror, repository);
    apt.update().succeeded();
    apt.install(&all).succeeded();
    until_cached(&first, repository, &all);

    // With "speed" the mirror would help out where the cores are busy.
    let offload = "[transfer]\nprefer = \"offload\"\n";
    let second = trusting(repository).peer(first.peer()).with(offload).start();
    let apt = through(&second, &mirror, repository);
    apt.update().succeeded();
    mirror.forget_records();
    apt.install(&all).succeeded();
    has(&apt, repository, &all);

    let size: u64 = repository.built().iter().map(|built| built.size).sum();
    assert_eq!(mirror.bytes("/debian/pool/*"), 0, "{:?}", mirror.records());
    assert_eq!(second.stat("bytes_from_p2p"), size + indexes(repository));
    assert_eq!(first.stat("bytes_uploaded"), size + indexes(repository));
    assert_eq!(second.stat("requests_p2p"), all.len() as u64 + 2);
}

/// The bytes of the indexes that apt fetches.
fn indexes(repository: &Repository) -> u64 {
    let root = repository.root().join("debian/dists/test/main");
    let native = support::repository::native();
    let names = [format!("binary-{native}/Packages.xz"), "source/Sources.gz".to_owned()];
    names.iter().map(|name| std::fs::metadata(root.join(name)).unwrap().len()).sum()
}

#[test]
fn a_second_node_gets_small_packages_from_the_first_and_none_from_the_mirror() {
    second_node_gets_everything(&Repository::small());
}

#[test]
fn a_second_node_gets_large_packages_from_the_first_and_none_from_the_mirror() {
    second_node_gets_everything(&Repository::big());
}

#[test]
fn an_answer_says_that_it_came_from_peers() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let first = trusting(&repository).start();
    let apt = through(&first, &mirror, &repository);
    apt.update().succeeded();
    apt.install(&["native", "plain"]).succeeded();
    until_cached(&first, &repository, &["native", "plain"]);
    let second = trusting(&repository).peer(first.peer()).start();
    through(&second, &mirror, &repository).update().succeeded();
    mirror.forget_records();

    let native = path_of(&repository, "native");
    let answer = fetch(&second, &mirror, &native);
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(cache_status(&answer), "aptpeer; fwd=miss; fwd-status=200; detail=peers");
    assert!(answer.body == repository.bytes("native"));
    until_cached(&second, &repository, &["native"]);
    let again = fetch(&second, &mirror, &native);
    assert_eq!(cache_status(&again), "aptpeer; hit");
    assert!(again.body == answer.body);
    assert_eq!(mirror.records().len(), 0, "{:?}", mirror.records());
    // What the first node does not have comes from the mirror.
    let other = fetch(&second, &mirror, &path_of(&repository, "libgreet++1"));
    assert_eq!(cache_status(&other), "aptpeer; fwd=miss; fwd-status=200; detail=mirror");
}

/// The mirror's files are gone, as after a new publication, while apt and a peer still live by the old lists.
#[test]
fn a_peer_has_what_the_mirror_has_no_more() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let first = trusting(&repository).start();
    let apt = through(&first, &mirror, &repository);
    apt.update().succeeded();
    apt.install(&names(&repository)).succeeded();
    until_cached(&first, &repository, &names(&repository));
    let second = trusting(&repository).peer(first.peer()).start();
    let apt = through(&second, &mirror, &repository);
    apt.update().succeeded();
    std::fs::remove_dir_all(repository.root().join("debian/pool")).unwrap();
    apt.install(&names(&repository)).succeeded();
    assert_eq!(downloaded(&apt), digests(&repository, &names(&repository)));
}

#[test]
fn a_dead_peer_costs_apt_nothing_but_a_moment() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let (dead, _kept) = support::peers::dead();
    let silent = support::peers::Peer::start(&[], &[support::peers::Fault::Silent]);
    let daemon = trusting(&repository).peer(dead).peer(silent.address()).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    apt.install(&names(&repository)).succeeded();
    has(&apt, &repository, &names(&repository));
}
