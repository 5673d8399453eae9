//! Peers are looked for: of the upgrades only, and not by everybody.

use std::collections::BTreeSet;

use aptpeer::digest::InfoHash;

use crate::support::apt::Apt;
use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::peers::Peer;
use crate::support::repository::Repository;
use crate::tracker::Tracker;
use crate::{Dpkg, package, update, upgrade, wait_for_log};

/// What a daemon says when one look-up is over.
const LOOKED: &str = "looked ahead for peers";

/// Enters the DHT by `tracker`, and is not told to take minutes; it announces nothing, so that whatever it asks there it asks
/// for itself.
fn quick(setup: Setup, tracker: &Tracker) -> Daemon {
    let daemon = setup
        .dht(&[tracker.address()])
        .with("[dht]\nannounce_budget = \"10000/s\"\n[privacy]\nannounce = false\n")
        .start();
    daemon.wait_for_dht();
    daemon
}

/// The packages that the daemon has asked the DHT for.
fn asked(tracker: &Tracker, daemon: &Daemon, repository: &Repository) -> BTreeSet<String> {
    let asked = tracker.asked_by(daemon.dht());
    let packages = repository.built().iter();
    let wanted = packages.filter(|built| asked.contains(&InfoHash::from(built.sha256)));
    wanted.map(|built| built.package.name.clone()).collect()
}

fn look_ups(daemon: &Daemon) -> Option<u64> {
    let text = daemon.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix("aptpeer_object_look_ups_total "));
    line.and_then(|value| value.parse().ok())
}

#[test]
fn after_an_update_the_upgrades_are_looked_for_and_their_peers_found_without_another_look_up() {
    let repository = Repository::with(&[
        package("large", 2_000_000),
        package("medium", 300_000),
        package("tiny", 5_000),
        package("current", 310_000),
        package("held", 320_000),
        package("absent", 330_000),
    ]);
    let dpkg = Dpkg::new(&[
        ("large", "1.9-3", "install"),
        ("medium", "2~beta", "install"),
        ("tiny", "1", "install"),
        ("current", "2", "install"),
        ("held", "1", "hold"),
    ]);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let objects = ["large", "medium"].map(|name| repository.bytes(name));
    let peer = Peer::honest(&[&objects[0], &objects[1]]);
    for name in ["large", "medium"] {
        tracker.add(InfoHash::from(repository.package(name).sha256), peer.address());
    }
    let daemon = quick(dpkg.node(&repository, "sources"), &tracker);
    update(&daemon, &mirror);
    wait_for_log(&daemon, LOOKED, 2);
    assert_eq!(peer.records().len(), 0, "nothing is fetched");

    let before = look_ups(&daemon);
    mirror.forget_records();
    for name in ["large", "medium"] {
        upgrade(&daemon, &mirror, &repository, name);
    }
    assert_eq!(look_ups(&daemon), before);
    assert_eq!(mirror.bytes("*/pool/*"), 0, "{:?}", mirror.records());
    let wanted = ["large", "medium"].map(str::to_owned);
    assert_eq!(asked(&tracker, &daemon, &repository), BTreeSet::from(wanted));
}

#[test]
fn nothing_is_looked_for_where_that_is_off_or_the_mirror_is_private() {
    let repository = Repository::with(&[package("large", 2_000_000)]);
    let dpkg = Dpkg::new(&[("large", "1", "install")]);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let off = quick(dpkg.node(&repository, "off"), &tracker);
    let private = "[privacy]\nshare_private_mirrors = false\n";
    let private = quick(dpkg.node(&repository, "sources").with(private), &tracker);
    let open = quick(dpkg.node(&repository, "sources"), &tracker);
    for daemon in [&off, &private, &open] {
        update(daemon, &mirror);
    }
    wait_for_log(&private, "looking ahead", 1);
    // What the last one has done by now the first would have done as well.
    wait_for_log(&open, LOOKED, 1);
    assert_eq!(asked(&tracker, &open, &repository).len(), 1);
    for daemon in [&off, &private] {
        assert_eq!(asked(&tracker, daemon, &repository), BTreeSet::new());
    }
    assert!(!off.log().contains("looking ahead"));
}

#[test]
fn an_update_that_went_another_way_is_seen_in_apts_lists() {
    let repository = Repository::with(&[package("large", 2_000_000)]);
    let dpkg = Dpkg::new(&[("large", "1", "install")]);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let apt = Apt::new().one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    let lists = format!("[mirrors]\nlists_dir = \"{}\"\n", apt.lists().display());
    let daemon = quick(dpkg.node(&repository, "sources").with(&lists), &tracker);
    wait_for_log(&daemon, LOOKED, 1);
    assert_eq!(asked(&tracker, &daemon, &repository).len(), 1);
}
