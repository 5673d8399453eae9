//! apt asks for ten packages ahead on one connection; a mirror across the world is asked for all of them at once.

use super::*;
use support::mirror::{Fault, Record, Rule};

/// What the mirror takes for each answer.
const LATENCY: Duration = Duration::from_millis(200);

/// The most requests that the mirror had in hand at one time.
fn most_at_once(records: &[Record]) -> usize {
    let at_once = |now: &Record| {
        records.iter().filter(|other| other.at <= now.at && now.at < other.at + LATENCY).count()
    };
    records.iter().map(at_once).max().unwrap_or(0)
}

#[test]
fn packages_that_apt_asks_for_ahead_are_fetched_side_by_side_and_answered_in_order() {
    let packages: Vec<Package> =
        (0..32).map(|number| Package::new(&format!("small{number:02}"), "1.0", 2_000 + number).all()).collect();
    let repository = Repository::with(&packages);
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    mirror.script(Rule::new("*.deb", Fault::Latency(LATENCY)));
    mirror.forget_records();

    let all = names(&repository);
    apt.install(&all).succeeded();
    has(&apt, &repository, &all);
    let records = mirror.records();
    assert_eq!(records.len(), 32, "each was asked for once: {records:?}");
    assert!(most_at_once(&records) >= 8, "at most {} at once", most_at_once(&records));
}

#[test]
fn a_file_that_takes_long_does_not_keep_those_behind_it_from_being_fetched() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    through(&daemon, &mirror, &repository).update().succeeded();
    mirror.script(Rule::new("*/native_*", Fault::Latency(Duration::from_secs(3))));
    mirror.forget_records();

    let mut wire = http::Wire::connect(daemon.proxy());
    for name in ["native", "plain", "libgreet++1"] {
        wire.ask("GET", &format!("{}{}", mirror.url(), path_of(&repository, name)), &[]);
    }
    for name in ["native", "plain", "libgreet++1"] {
        assert!(wire.response().unwrap().body == repository.bytes(name), "{name}");
    }
    let records = mirror.records();
    let late = records.iter().map(|record| record.at).max().unwrap() - records[0].at;
    assert_eq!(records.len(), 3);
    assert!(late < Duration::from_secs(3), "the others waited for the slow one: {records:?}");
}
