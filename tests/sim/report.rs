//! What came of a run, as a line of a table.

use std::time::Duration;

use crate::plan::Plan;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) wanted: usize,
    pub(crate) finished: usize,
    /// From each node's own start.
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) first_byte_p99: f64,
    /// What the mirror sent, as a part of what it would have sent without peers.
    pub(crate) egress: f64,
    /// Nobody can be faster than this on average, in seconds.
    pub(crate) bound: f64,
    pub(crate) line: String,
}

pub(crate) const HEADER: &str = "nodes  finished  median    p99  1st-p99  bound  median/bound  egress  wasted  busy  lists/node  events  real";

impl Report {
    /// Runs the swarm and prints its line.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn of(name: &str, plan: &Plan) -> Self {
        let began = std::time::Instant::now();
        let mut world = World::new(plan);
        world.run();
        let mut report = Self::read(&world);
        let wasted = 100.0 * world.wasted / (report.wanted as f64 * world.plan.length as f64);
        let lists = world.lists / report.wanted.max(1);
        report.line = format!(
            "{:>5}  {:>8}  {:>6.1} {:>6.1}  {:>7.2}  {:>5.1}  {:>12.2}  {:>5.1}%  {:>5.1}%  {:>4}  {:>10}  {:>6}  {:>3.1}s  seed {} {name}",
            report.wanted,
            report.finished,
            report.median,
            report.p99,
            report.first_byte_p99,
            report.bound,
            report.median / report.bound,
            100.0 * report.egress,
            wasted,
            world.busy,
            lists,
            world.events,
            began.elapsed().as_secs_f64(),
            world.plan.seed,
        );
        eprintln!("{}", report.line);
        report
    }

    #[allow(clippy::cast_precision_loss)]
    fn read(world: &World) -> Self {
        let wanting = || world.nodes.iter().filter(|node| node.wants());
        let seconds = |times: Vec<Duration>| {
            let mut times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let limit = world.plan.limit;
        let took = seconds(
            wanting().map(|node| node.finished.map_or(limit, |at| at - node.joins - node.away)).collect(),
        );
        let first = seconds(wanting().map(|node| node.first_byte.unwrap_or(limit)).collect());
        let (wanted, plan) = (took.len(), &world.plan);
        let (length, count) = (plan.length as f64, wanted as f64);
        let uplinks = plan.mirror.unwrap_or(0.0) + plan.up * count + plan.seeds.iter().sum::<f64>();
        Self {
            wanted,
            finished: wanting().filter(|node| node.finished.is_some()).count(),
            median: took[wanted / 2],
            p99: took[(wanted * 99 / 100).min(wanted - 1)],
            first_byte_p99: first[(wanted * 99 / 100).min(wanted - 1)],
            egress: world.mirror_bytes / (length * count),
            bound: (length / plan.down).max(length * count / uplinks),
            line: String::new(),
        }
    }
}
