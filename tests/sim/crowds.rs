//! Crowds that want the same object at about the same time.

use std::time::Duration;

use aptpeer::swarm::Prefer;

use crate::plan::{MBIT, Plan};
use crate::report::{HEADER, Report};

/// A thousand who want 100 MB within a minute, scaled down so that a run takes a second or two in a debug build: fewer, with
/// a mirror that is not quite as crowded, and a shorter object in a shorter time.
fn minute(prefer: Prefer) -> Plan {
    Plan {
        length: 60_000_000,
        joining: Duration::from_secs(36),
        mirror: Some(80.0 * MBIT),
        ..Plan::crowd(40, prefer)
    }
}

/// The same within seconds, before anybody has anything to give.
fn sudden(prefer: Prefer) -> Plan {
    Plan { joining: Duration::from_secs(4), ..minute(prefer) }
}

fn check(name: &str, plan: &Plan) -> Report {
    let report = Report::of(name, plan);
    assert_eq!(report.finished, report.wanted, "{}", report.line);
    report
}

#[test]
fn a_crowd_in_haste_feeds_itself() {
    let report = check("speed", &minute(Prefer::Speed));
    assert!(report.median <= 1.7 * report.bound, "{}", report.line);
    assert!(report.egress <= 0.2, "{}", report.line);
    assert!(report.first_byte_p99 <= 1.5, "{}", report.line);
}

#[test]
fn a_crowd_that_spares_the_mirror_keeps_apt_from_hanging_up() {
    let report = check("offload", &minute(Prefer::Offload));
    assert!(report.median <= 1.8 * report.bound, "{}", report.line);
    assert!(report.egress <= 0.15, "{}", report.line);
    assert!(report.first_byte_p99 <= 15.0, "apt hangs up after 30 s: {}", report.line);
}

#[test]
fn liars_cost_a_crowd_little() {
    let report = check("speed, a tenth lies", &Plan { liars: 0.1, ..minute(Prefer::Speed) });
    assert!(report.median <= 2.0 * report.bound, "{}", report.line);
}

#[test]
fn a_crowd_outlives_those_who_leave() {
    let of =
        |seed| check("speed, half leave when done", &Plan { seed, leavers: 0.5, ..minute(Prefer::Speed) });
    // Who leaves when makes a large difference among so few.
    let reports: Vec<Report> = (1..=4).map(of).collect();
    let times: f64 = reports.iter().map(|report| report.median / report.bound).sum();
    let lines: Vec<&str> = reports.iter().map(|report| &*report.line).collect();
    assert!(times <= 4.0 * 2.2, "{}", lines.join("\n"));
}

#[test]
fn a_crowd_outlives_those_who_vanish_and_come_back_and_lines_that_slow_down() {
    let plan = Plan { vanishing: 0.3, halving: 0.3, ..minute(Prefer::Speed) };
    let report = check("speed, 30 % vanish for a while, 30 % slow down", &plan);
    assert!(report.median <= 1.9 * report.bound, "{}", report.line);
    assert!(report.egress <= 0.25, "{}", report.line);
}

#[test]
fn those_who_come_all_at_once_do_not_walk_the_mirror_side_by_side() {
    let report = check("speed, sudden", &sudden(Prefer::Speed));
    // What so many walks side by side take.
    let alone = 60e6 / (2.0 * MBIT);
    assert!(report.median <= alone / 3.0, "{alone} s without each other: {}", report.line);
}

#[test]
fn each_node_of_a_larger_crowd_costs_the_mirror_less() {
    let of = |nodes| check("speed", &Plan::crowd(nodes, Prefer::Speed));
    let (few, more) = (of(8), of(80));
    assert!(more.egress < few.egress, "{}\n{}", few.line, more.line);
    // Less than log N: ln 80 / ln 8 is 2.1.
    assert!(more.median <= 1.8 * few.median, "{}\n{}", few.line, more.line);
}

/// Neighbours with lines of 1 Gbit/s who share so many Mbit/s to the mirror.
fn neighbours(nodes: usize, line: f64, joining: u64, prefer: Prefer) -> Plan {
    Plan {
        neighbours: Some(nodes),
        up: 1000.0 * MBIT,
        down: 1000.0 * MBIT,
        mirror: Some(line * MBIT),
        joining: Duration::from_secs(joining),
        ..Plan::crowd(nodes, prefer)
    }
}

#[test]
fn neighbours_fetch_it_about_once_together() {
    let report = check("neighbours, offload", &neighbours(20, 100.0, 60, Prefer::Offload));
    assert!(report.egress * 20.0 <= 1.5, "{}", report.line);
    assert!(report.first_byte_p99 <= 5.0, "what offload lets apt wait: {}", report.line);
    let alone = 8.0;
    assert!(report.p99 <= 1.2 * alone, "{}", report.line);
}

#[test]
fn neighbours_who_begin_at_once_share_what_their_line_brings() {
    let report = check("neighbours at once, speed", &neighbours(20, 100.0, 1, Prefer::Speed));
    assert!(report.egress <= 0.6, "each of them walked the mirror: {}", report.line);
    assert!(report.first_byte_p99 <= 5.0, "{}", report.line);
}

#[test]
#[ignore = "takes minutes; the figures of docs/swarms.md"]
fn neighbours_in_figures() {
    eprintln!("{HEADER}");
    for (line, joining) in [(100.0, 60), (100.0, 4), (100.0, 1), (20.0, 60), (20.0, 10), (20.0, 1)] {
        for prefer in [Prefer::Speed, Prefer::Offload] {
            for seed in 1..=5 {
                let plan = Plan { seed, ..neighbours(20, line, joining, prefer) };
                check(&format!("{prefer:?}, {line} Mbit/s, within {joining} s"), &plan);
            }
        }
    }
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
#[ignore = "takes many minutes; the figures of docs/swarms.md"]
fn figures() {
    let (count, slots) = (number("NODES", 1000), number("SLOTS", 4));
    eprintln!("{HEADER}");
    for seed in (number("SEED", 1)..).take(number("SEEDS", 5)).map(|seed| u64::try_from(seed).unwrap()) {
        for prefer in [Prefer::Speed, Prefer::Offload] {
            let plan = || Plan { slots, seed, ..Plan::crowd(count, prefer) };
            check(&format!("{prefer:?}"), &plan());
            check(&format!("{prefer:?}, a tenth lies"), &Plan { liars: 0.1, ..plan() });
            check(&format!("{prefer:?}, half leave"), &Plan { leavers: 0.5, ..plan() });
            let churn = Plan { vanishing: 0.3, halving: 0.3, ..plan() };
            check(&format!("{prefer:?}, 30 % vanish for a while, 30 % slow down"), &churn);
        }
    }
}

#[test]
#[ignore = "takes many minutes; the figures of docs/swarms.md"]
#[allow(clippy::cast_precision_loss)]
fn growth() {
    let (least, most) = (number("LEAST", 10), number("NODES", 10_000));
    let seed = u64::try_from(number("SEED", 1)).unwrap();
    eprintln!("{HEADER}");
    for nodes in
        [10, 30, 100, 300, 1000, 3000, 10_000].into_iter().filter(|nodes| (least..=most).contains(nodes))
    {
        let plan = || Plan { seed, ..Plan::crowd(nodes, Prefer::Speed) };
        check("speed", &plan());
        let mirror = Some(nodes as f64 * MBIT);
        check("speed, as much of a mirror for each", &Plan { mirror, ..plan() });
    }
}

/// As many of the mirror's bytes for each as in a crowd many times larger, which takes that much longer to simulate.
#[test]
#[ignore = "takes minutes; the figures of docs/swarms.md"]
#[allow(clippy::cast_precision_loss)]
fn crowded() {
    eprintln!("{HEADER}");
    let (nodes, mbits) = (number("NODES", 300), number("MBITS", 100));
    for seed in (number("SEED", 1)..).take(number("SEEDS", 1)).map(|seed| u64::try_from(seed).unwrap()) {
        let limit = Duration::from_secs(1200);
        let plan =
            Plan { seed, mirror: Some(mbits as f64 * MBIT), limit, ..Plan::crowd(nodes, Prefer::Speed) };
        eprintln!("{}", Report::of(&format!("speed, {mbits} Mbit/s"), &plan).line);
    }
}
