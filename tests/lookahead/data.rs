//! The bytes are fetched, too: before apt asks, never while it does, and not where each of them costs.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::mirror::Mirror;
use crate::support::repository::Repository;
use crate::support::wait_for;
use crate::{Dpkg, SOON, package, update, upgrade, wait_for_log};

/// A `busctl` that answers one question, which the reference of NetworkManager's D-Bus API has so: the property `Metered` of
/// the interface `org.freedesktop.NetworkManager`; 1 is `NM_METERED_YES`.
const ANSWERS_METERED: &str = "#!/bin/sh\n\
    [ \"$*\" = \"--system get-property org.freedesktop.NetworkManager /org/freedesktop/NetworkManager org.freedesktop.NetworkManager Metered\" ] && echo u 1\n";

const BEGUN: &str = "fetching ahead";

#[test]
fn an_upgrade_is_in_the_cache_before_apt_asks_for_it() {
    let repository = Repository::with(&[package("wanted", 300_000), package("absent", 310_000)]);
    let dpkg = Dpkg::new(&[("wanted", "1", "install")]);
    let mirror = Mirror::start(&repository.root());
    let daemon = dpkg.node(&repository, "data").start();
    update(&daemon, &mirror);
    wait_for_log(&daemon, "fetched ahead", 1);
    assert_eq!(mirror.requests("*/pool/*"), 1, "{:?}", mirror.records());
    upgrade(&daemon, &mirror, &repository, "wanted");
    assert_eq!(mirror.requests("*/pool/*"), 1, "{:?}", mirror.records());
}

#[test]
fn it_stops_for_apt_and_goes_on_later_where_it_was() {
    // Half a minute at the rate of what nobody waits for.
    let repository = Repository::with(&[package("slow", 15_000_000), package("other", 50_000)]);
    let dpkg = Dpkg::new(&[("slow", "1", "install")]);
    let mirror = Mirror::start(&repository.root());
    let daemon = dpkg.node(&repository, "data").start();
    update(&daemon, &mirror);
    wait_for_log(&daemon, BEGUN, 1);
    upgrade(&daemon, &mirror, &repository, "other");
    wait_for_log(&daemon, "fetched ahead", 1);
    let log = daemon.log();
    let end = log.lines().find(|line| line.contains("fetched ahead")).unwrap();
    assert!(end.contains("\"held\":false"), "{end}");
    wait_for_log(&daemon, BEGUN, 2);
}

/// Where the latest request for this package begins, in bytes.
fn latest_start(mirror: &Mirror, package: &str) -> u64 {
    let records = mirror.records();
    let of = records.iter().rfind(|record| record.path.contains(package)).expect("it was asked for");
    let range = of.head.header("range").and_then(|range| range.strip_prefix("bytes="));
    range.map_or(0, |range| range.split('-').next().unwrap().parse().unwrap())
}

#[test]
fn what_is_there_when_it_stops_is_not_fetched_twice_whoever_goes_on() {
    let repository = Repository::with(&[package("slow", 15_000_000), package("other", 50_000)]);
    let dpkg = Dpkg::new(&[("slow", "1", "install")]);
    let mirror = Mirror::start(&repository.root());
    let daemon = dpkg.node(&repository, "data").start();
    update(&daemon, &mirror);
    // A piece, and a bit more.
    let piece = aptpeer::pieces::PIECE_LENGTH;
    let fetched = || (daemon.stat("bytes_from_mirror") > piece + 200_000).then_some(());
    assert!(wait_for(SOON, fetched).is_some(), "{}", daemon.stats());
    assert_eq!((mirror.requests("*slow*"), latest_start(&mirror, "slow")), (1, 0));
    upgrade(&daemon, &mirror, &repository, "other");
    wait_for_log(&daemon, "fetched ahead", 1);
    let goes_on = || (mirror.requests("*slow*") == 2).then_some(());
    assert!(wait_for(SOON, goes_on).is_some(), "{}", daemon.log());
    assert_eq!(latest_start(&mirror, "slow"), piece);
    // apt wants the very file that is being fetched.
    upgrade(&daemon, &mirror, &repository, "slow");
    assert_eq!(mirror.requests("*slow*"), 3);
    assert!(latest_start(&mirror, "slow") >= piece);
}

#[test]
fn nothing_is_fetched_over_a_metered_network() {
    let repository = Repository::with(&[package("wanted", 300_000)]);
    let dpkg = Dpkg::new(&[("wanted", "1", "install")]);
    let mirror = Mirror::start(&repository.root());
    let programs = tempfile::tempdir().unwrap();
    let busctl = programs.path().join("busctl");
    std::fs::write(&busctl, ANSWERS_METERED).unwrap();
    std::fs::set_permissions(&busctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let daemon = dpkg.node(&repository, "data").environment("PATH", &path).start();
    update(&daemon, &mirror);
    wait_for_log(&daemon, "the network is metered", 1);
    assert_eq!(mirror.requests("*/pool/*"), 0, "{:?}", mirror.records());
}
