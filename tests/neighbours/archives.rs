//! Two nodes that know nothing of each other but a way into the DHT, and use the same archive.

use aptpeer::digest::InfoHash;
use aptpeer::swarm::neighbourhood::ENOUGH;
use aptpeer::wire::HaveSet;

use crate::liars::{Liar, have};
use crate::support::daemon::Daemon;
use crate::support::http::get;
use crate::support::mirror::Mirror;
use crate::support::repository::{Package, Repository};
use crate::tracker::Tracker;
use crate::{PATIENT, SOON, archive, install, metric, node, packages, through, wait_for, wait_for_sets};

/// Waits until the daemon has announced itself as a user of the archive.
#[track_caller]
fn until_met(tracker: &Tracker, daemon: &Daemon) {
    let announced = || {
        let peers = tracker.peers(InfoHash::from(archive()));
        peers.iter().any(|peer| peer.port() == daemon.peer().port()).then_some(())
    };
    assert!(wait_for(SOON, announced).is_some(), "never announced");
}

#[test]
fn small_packages_come_from_a_stranger_of_the_same_archive_without_a_look_up() {
    let repository = packages(40);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let first = node(&repository, &tracker).with(PATIENT).start();
    first.wait_for_dht();
    let apt = through(&first, &mirror, &repository);
    apt.update().succeeded();
    install(&apt, &repository);
    until_met(&tracker, &first);

    let second = node(&repository, &tracker).with(PATIENT).start();
    second.wait_for_dht();
    let apt = through(&second, &mirror, &repository);
    apt.update().succeeded();
    wait_for_sets(&second, 1);
    until_met(&tracker, &second);
    let looked_up = metric(&second, "aptpeer_object_look_ups_total");
    mirror.forget_records();
    install(&apt, &repository);

    assert_eq!(mirror.bytes("*/pool/*"), 0, "{:?}", mirror.records());
    assert_eq!(metric(&second, "aptpeer_object_look_ups_total"), looked_up);
    let asked = tracker.asked_by(second.dht());
    assert!(asked.contains(&InfoHash::from(archive())), "it never looked for others");
}

#[test]
fn nothing_is_announced_where_the_user_does_not_want_it_and_others_are_found_all_the_same() {
    let repository = packages(30);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let open = node(&repository, &tracker).with(PATIENT).start();
    open.wait_for_dht();
    let apt = through(&open, &mirror, &repository);
    apt.update().succeeded();
    install(&apt, &repository);
    until_met(&tracker, &open);

    let quiet = node(&repository, &tracker).with(PATIENT).with("[privacy]\nannounce = false\n").start();
    quiet.wait_for_dht();
    let apt = through(&quiet, &mirror, &repository);
    apt.update().succeeded();
    wait_for_sets(&quiet, 1);
    mirror.forget_records();
    install(&apt, &repository);
    assert_eq!(mirror.bytes("*/pool/*"), 0, "{:?}", mirror.records());
    // It announces nothing, so that whatever it asks it asks for its downloads.
    let asked = tracker.asked_by(quiet.dht());
    let of_packages = repository.built().iter().map(|built| InfoHash::from(built.sha256));
    assert!(!of_packages.into_iter().any(|package| asked.contains(&package)), "a datagram for a package");
    let announced = tracker.announced();
    assert!(!announced.iter().any(|(_, port)| *port == quiet.peer().port()), "{announced:?}");
}

#[test]
fn what_enough_neighbours_do_not_have_is_not_looked_for_unless_it_is_large() {
    let small = |number: usize| Package::new(&format!("small{number}"), "1.0", 5_000);
    let large = Package::new("large", "1.0", 2_000_000);
    let repository = Repository::with(&(0..8).map(small).chain([large]).collect::<Vec<_>>());
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let poor: Vec<_> = (1..=ENOUGH)
        .map(|network| Liar::start(&format!("127.7.{network}.1"), have(HaveSet::default().to_bytes())))
        .collect();
    poor.iter().for_each(|poor| tracker.add(InfoHash::from(archive()), poor.server.address()));
    let daemon = node(&repository, &tracker).start();
    daemon.wait_for_dht();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    wait_for_sets(&daemon, ENOUGH);
    let before = metric(&daemon, "aptpeer_object_look_ups_total");
    install(&apt, &repository);
    assert_eq!(metric(&daemon, "aptpeer_object_look_ups_total") - before, 1, "the large one");
    let large = InfoHash::from(repository.package("large").sha256);
    assert!(tracker.asked_by(daemon.dht()).contains(&large));
    assert!(poor.iter().all(|poor| poor.asked("/hash/") == 0), "nobody is asked for what he has not");
}

#[test]
fn neighbours_are_shown_with_what_they_told_before_anybody_asked_them_for_a_file() {
    let repository = packages(3);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let held: Vec<_> = repository.built().iter().map(|built| built.sha256).collect();
    let stranger = Liar::start("127.7.1.1", have(HaveSet::of(&held).to_bytes()));
    let named = Liar::start("127.7.2.1", have(HaveSet::of(&held[..1]).to_bytes()));
    tracker.add(InfoHash::from(archive()), stranger.server.address());
    let daemon = node(&repository, &tracker).peer(named.server.address()).start();
    daemon.wait_for_dht();
    through(&daemon, &mirror, &repository).update().succeeded();
    wait_for_sets(&daemon, 2);

    let document = get(daemon.status(), "/peers").text();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    for (who, kind, way, objects) in
        [(&named, "neighbour", "named", 1), (&stranger, "stranger", "archive", 3)]
    {
        let address = who.server.address().to_string();
        let all = document["peers"].as_array().unwrap();
        let peer = all.iter().find(|peer| peer["address"] == address).expect("it is known");
        assert_eq!(
            (&peer["kind"], &peer["way"], &peer["objects"]),
            (&kind.into(), &way.into(), &objects.into())
        );
        assert!(peer["objects_age_seconds"].as_u64().unwrap() < SOON.as_secs(), "{peer}");
    }
    assert_eq!(stranger.asked("/hash/"), 0);
    let page = get(daemon.status(), "/").text();
    assert!(page.contains("same archive") && page.contains("3 objects"), "{page}");
    let table = std::process::Command::new(env!("CARGO_BIN_EXE_aptpeer"))
        .args(["--config", daemon.config().to_str().unwrap(), "peers"])
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let line = table.lines().find(|line| line.contains(&stranger.server.address().to_string())).unwrap();
    assert!(line.contains("archive") && line.contains(" ago"), "{table}");
}
