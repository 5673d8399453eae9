//! The bytes are fetched, too: before apt asks, never while it does, and not where each of them costs.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::mirror::Mirror;
use crate::support::repository::Repository;
use crate::{Dpkg, package, update, upgrade, wait_for_log};

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

#[test]
fn nothing_is_fetched_over_a_metered_network() {
    let repository = Repository::with(&[package("wanted", 300_000)]);
    let dpkg = Dpkg::new(&[("wanted", "1", "install")]);
    let mirror = Mirror::start(&repository.root());
    let programs = tempfile::tempdir().unwrap();
    let busctl = programs.path().join("busctl");
    std::fs::write(&busctl, "#!/bin/sh\necho u 1\n").unwrap();
    std::fs::set_permissions(&busctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let daemon = dpkg.node(&repository, "data").environment("PATH", &path).start();
    update(&daemon, &mirror);
    wait_for_log(&daemon, "the network is metered", 1);
    assert_eq!(mirror.requests("*/pool/*"), 0, "{:?}", mirror.records());
}
