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
    let packages: Vec<Package> = (0..32)
        .map(|number| Package::new(&format!("small{number:02}"), "1.0", 2_000 + number).all())
        .collect();
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

#[test]
fn several_apts_at_once_cost_the_mirror_one_download() {
    let repository = Repository::with(&[
        Package::new("large", "5.0~beta2-1", 9_000_000).all(),
        Package::new("native", "12.4+deb12u5", 300_000),
    ]);
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apts: Vec<Apt> = (0..4).map(|_| through(&daemon, &mirror, &repository)).collect();
    // Slow enough for all of them to come while it flows.
    mirror.script(Rule::new("*/large_*", Fault::Rate(2_000_000)));
    std::thread::scope(|scope| {
        for apt in &apts {
            scope.spawn(|| {
                apt.update().succeeded();
                apt.install(&names(&repository)).succeeded();
                has(apt, &repository, &names(&repository));
            });
        }
    });
    assert_eq!(
        (mirror.requests("*/large_*"), mirror.requests("*/native_*")),
        (1, 1),
        "{:?}",
        mirror.records()
    );
    assert_eq!(mirror.requests("*/by-hash/*"), 2);
}

/// What was read is kept for a while, and what comes later is not fetched twice.
#[test]
fn a_client_that_breaks_off_and_comes_back_goes_on_where_it_was() {
    let repository = Repository::with(&[Package::new("large", "5.0~beta2-1", 9_000_000).all()]);
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    through(&daemon, &mirror, &repository).update().succeeded();
    mirror.script(Rule::new("*/large_*", Fault::Rate(3_000_000)));
    let url = format!("{}{}", mirror.url(), path_of(&repository, "large"));
    let mut wire = http::Wire::connect(daemon.proxy());
    wire.ask("GET", &url, &[]);
    let head = wire.head().unwrap();
    let begin = wire.bytes(2_000_000).unwrap();
    drop(wire);
    let date = head.header("last-modified").unwrap();
    let rest = http::request(daemon.proxy(), "GET", &url, &[("Range", "bytes=2000000-"), ("If-Range", date)]);
    assert_eq!(rest.status, 206, "{}", rest.head);
    assert!([begin, rest.body].concat() == repository.bytes("large"));
    assert_eq!(mirror.requests("*/large_*"), 1, "{:?}", mirror.records());
}
