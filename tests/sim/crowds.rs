//! Crowds that want the same object at about the same time.

use std::time::Duration;

use aptpeer::swarm::Prefer;

use crate::report::{HEADER, Report};
use crate::world::{MBIT, Plan};

/// A thousand within a minute, scaled down: as many that a run takes seconds in a debug build, and as much of a mirror for
/// each of them.
fn minute(prefer: Prefer) -> Plan {
    Plan { mirror: Some(60.0 * MBIT), ..Plan::crowd(60, prefer) }
}

/// The same within seconds, before anybody has anything to give.
fn sudden(prefer: Prefer) -> Plan {
    Plan { joining: Duration::from_secs(4), ..minute(prefer) }
}

fn check(name: &str, plan: &Plan) -> Report {
    eprintln!("{HEADER}");
    let report = Report::of(name, plan);
    assert_eq!(report.finished, report.wanted, "{}", report.line);
    report
}

#[test]
fn a_crowd_in_haste_feeds_itself() {
    let report = check("speed", &minute(Prefer::Speed));
    assert!(report.median <= 2.0 * report.bound, "{}", report.line);
    assert!(report.egress <= 0.2, "{}", report.line);
    assert!(report.first_byte_p99 <= 1.5, "{}", report.line);
}

#[test]
fn a_crowd_that_spares_the_mirror_keeps_apt_from_hanging_up() {
    let report = check("offload", &minute(Prefer::Offload));
    assert!(report.median <= 3.0 * report.bound, "{}", report.line);
    assert!(report.egress <= 0.15, "{}", report.line);
    assert!(report.first_byte_p99 <= 25.0, "apt hangs up after 30 s: {}", report.line);
}

#[test]
fn liars_cost_a_crowd_little() {
    let report = check("speed, a tenth lies", &Plan { liars: 0.1, ..minute(Prefer::Speed) });
    assert!(report.median <= 2.4 * report.bound, "{}", report.line);
}

#[test]
fn a_crowd_outlives_those_who_leave() {
    let report = check("speed, half leave when done", &Plan { leavers: 0.5, ..minute(Prefer::Speed) });
    assert!(report.median <= 2.4 * report.bound, "{}", report.line);
}

#[test]
fn those_who_come_all_at_once_do_not_walk_the_mirror_side_by_side() {
    let report = check("speed, sudden", &sudden(Prefer::Speed));
    // What 60 walks side by side take.
    let alone = 60.0 * 100e6 / (60.0 * MBIT);
    assert!(report.median <= alone / 4.0, "{alone} s without each other: {}", report.line);
}

#[test]
fn each_node_of_a_larger_crowd_costs_the_mirror_less() {
    let of = |nodes| check("speed", &Plan::crowd(nodes, Prefer::Speed));
    let (few, more) = (of(8), of(80));
    assert!(more.egress < few.egress, "{}\n{}", few.line, more.line);
    // A tenfold crowd takes no longer than log N would: ln 80 / ln 8 is 2.1.
    assert!(more.median <= 2.1 * few.median, "{}\n{}", few.line, more.line);
}

#[test]
fn neighbours_fetch_it_about_once_together() {
    let lan = |nodes| Plan {
        neighbours: Some(nodes),
        up: 1000.0 * MBIT,
        down: 1000.0 * MBIT,
        mirror: Some(100.0 * MBIT),
        ..Plan::crowd(nodes, Prefer::Offload)
    };
    let report = check("neighbours of one network, offload", &lan(20));
    assert!(report.first_byte_p99 <= 25.0, "{}", report.line);
}

#[test]
#[ignore = "takes minutes in a debug build; the figures of docs/swarms.md"]
fn figures() {
    let number =
        |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (count, slots) = (number("NODES", 1000), number("SLOTS", 4));
    eprintln!("{HEADER}");
    for prefer in [Prefer::Speed, Prefer::Offload] {
        let plan = || Plan { slots, ..Plan::crowd(count, prefer) };
        check(&format!("{prefer:?}, {slots} slots"), &plan());
        check(&format!("{prefer:?}, {slots} slots, a tenth lies"), &Plan { liars: 0.1, ..plan() });
        check(&format!("{prefer:?}, {slots} slots, half leave"), &Plan { leavers: 0.5, ..plan() });
    }
}
