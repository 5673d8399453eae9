//! A local network in virtual time: the real machines, and between them nothing but delays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::NodeId;
use super::scene::{MS, node, object};
use crate::pieces::{End, Geometry, PieceList, PieceSet};
use crate::swarm::download::{Download, Prefer};
use crate::swarm::order::{FetchId, Order, Outcome};
use crate::swarm::source::{SourceId, Standing};
use crate::wire::Intent;

/// Machines that want one object of one piece.
pub(super) struct Lan {
    /// When each begins, after the first.
    pub(super) begins: Vec<Duration>,
    /// A question and its answer take this long, half as long or half as long again.
    pub(super) trip: Duration,
    /// A machine looks at what has come after such a time at most.
    pub(super) turn: Duration,
    /// How long the mirror takes.
    pub(super) mirror: Duration,
    pub(super) seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Report {
    /// How often the mirror was asked.
    pub(super) walks: usize,
    /// When the first walk began, after the first download did.
    pub(super) walked_at: Duration,
    /// How long the slowest took from its own beginning.
    pub(super) slowest: Duration,
    /// Questions of all to all.
    pub(super) questions: usize,
}

/// What a machine says when it is asked for its list.
type Said = Option<(bool, Option<Intent>)>;

#[derive(Debug, Clone)]
enum Event {
    Begin,
    Look,
    /// Another's question for the list, or for another than that.
    Asked {
        by: usize,
        source: SourceId,
        than: Option<Said>,
    },
    Answered {
        source: SourceId,
        said: Said,
    },
    PieceAsked {
        by: usize,
        fetch: FetchId,
    },
    Piece {
        fetch: FetchId,
        held: bool,
    },
    Walked(FetchId),
}

#[derive(Default)]
struct Machine {
    download: Option<Download>,
    began: Option<Instant>,
    sources: BTreeMap<SourceId, usize>,
    /// What others said last.
    heard: BTreeMap<SourceId, Said>,
    /// Who waits for news.
    waiting: Vec<(usize, SourceId, Said)>,
    done: Option<Instant>,
    given_up: BTreeSet<FetchId>,
}

impl Machine {
    fn says(&self) -> Said {
        let download = self.download.as_ref()?;
        let whole = download.outcome() == Outcome::Closed;
        Some((whole, download.intent().filter(|_| !whole)))
    }
}

struct World<'a> {
    lan: &'a Lan,
    names: Vec<NodeId>,
    now: Instant,
    events: BTreeMap<(Instant, u64), (usize, Event)>,
    count: u64,
    random: u64,
    machines: Vec<Machine>,
    walks: Vec<Instant>,
    questions: usize,
}

const LENGTH: u64 = 50_000;

impl Lan {
    /// Everything until all have it, from `began`.
    pub(super) fn run(&self, began: Instant) -> Report {
        let machines: Vec<Machine> = self.begins.iter().map(|_| Machine::default()).collect();
        let mut world = World {
            lan: self,
            names: (0..machines.len() as u64).map(|n| node(n + 100 * self.seed)).collect(),
            now: began,
            events: BTreeMap::new(),
            count: 0,
            random: self.seed,
            machines,
            walks: Vec::new(),
            questions: 0,
        };
        for (machine, after) in self.begins.iter().enumerate() {
            world.put(began + *after, machine, Event::Begin);
        }
        while let Some(((at, _), (machine, event))) = world.events.pop_first() {
            world.now = at;
            world.handle(machine, &event);
            assert!(at < began + Duration::from_secs(30), "it never ends");
        }
        let took = |machine: &Machine| machine.done.unwrap() - machine.began.unwrap();
        Report {
            walks: world.walks.len(),
            walked_at: world.walks[0] - began,
            slowest: world.machines.iter().map(took).max().unwrap(),
            questions: world.questions,
        }
    }
}

impl World<'_> {
    fn put(&mut self, at: Instant, machine: usize, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), (machine, event));
    }

    /// Part of a time at random, from 0 to 1 (SplitMix64).
    fn part(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % 65_536) as f64 / 65_536.0
    }

    /// Something comes to a machine over the network, which looks at it when it comes to its turn.
    fn send(&mut self, to: usize, event: Event) {
        let (trip, turn) = (0.5 + self.part(), self.part());
        let at = self.now + self.lan.trip.mul_f64(trip / 2.0) + self.lan.turn.mul_f64(turn);
        self.put(at, to, event);
    }

    fn handle(&mut self, at: usize, event: &Event) {
        let now = self.now;
        match *event {
            Event::Begin => self.begin(at),
            Event::Look => {}
            Event::Asked { by, source, than } => {
                let said = self.machines[at].says();
                if than.is_some_and(|than| than == said) && said.is_some_and(|(whole, _)| !whole) {
                    self.machines[at].waiting.push((by, source, said));
                } else {
                    self.send(by, Event::Answered { source, said });
                }
                return;
            }
            Event::PieceAsked { by, fetch } => {
                let held = self.machines[at].says().is_some_and(|(whole, _)| whole);
                return self.send(by, Event::Piece { fetch, held });
            }
            Event::Answered { source, said } => self.hear(at, source, said),
            Event::Piece { fetch, held } => {
                let download = self.machines[at].download.as_mut().unwrap();
                download.handle_progress(fetch, 0, LENGTH, now);
                if held { download.handle_piece_linked(fetch) } else { download.handle_piece_not_held(fetch) }
            }
            Event::Walked(fetch) => {
                let machine = &mut self.machines[at];
                if !machine.given_up.contains(&fetch) {
                    let download = machine.download.as_mut().unwrap();
                    download.handle_progress(fetch, LENGTH, LENGTH, now);
                    download.handle_walked(fetch, End::Digest(object()), true);
                }
            }
        }
        self.go_on(at);
    }

    fn begin(&mut self, at: usize) {
        let mut download = Download::new(object(), Geometry::new(LENGTH).unwrap(), Prefer::Speed, self.now);
        download.add_mirror(None);
        download.join_lan(Some(self.names[at]));
        let others = (0..self.names.len()).filter(|other| *other != at);
        let add = |other| {
            (download.add_node(self.names[other], [10, 0, 0, 1].into(), Standing::default(), self.now), other)
        };
        let sources = others.map(add).collect();
        let machine = &mut self.machines[at];
        (machine.sources, machine.began, machine.download) = (sources, Some(self.now), Some(download));
    }

    fn hear(&mut self, at: usize, source: SourceId, said: Said) {
        let machine = &mut self.machines[at];
        let download = machine.download.as_mut().unwrap();
        let before = machine.heard.insert(source, said);
        match said {
            None => download.handle_no_list(source, self.now),
            Some(_) if before == Some(said) => download.handle_no_news(source),
            Some((whole, intent)) => {
                let have = if whole { PieceSet::all(1) } else { PieceSet::none(1) };
                download.handle_intent(source, intent, self.now);
                let list = PieceList::unknown(Geometry::new(LENGTH).unwrap());
                download.handle_list(source, list, have, self.now);
            }
        }
    }

    fn go_on(&mut self, at: usize) {
        let now = self.now;
        if self.machines[at].done.is_some() {
            return;
        }
        let download = self.machines[at].download.as_mut().unwrap();
        download.handle_timeout(now);
        let orders: Vec<Order> = std::iter::from_fn(|| download.poll_order()).collect();
        let next = download.next_timeout(now);
        for order in orders {
            self.obey(at, &order);
        }
        if self.machines[at].says().is_some_and(|(whole, _)| whole) {
            self.machines[at].done = Some(now);
        } else if let Some(next) = next {
            let late = self.part();
            let late = self.lan.turn.mul_f64(late);
            self.put(next.max(now + MS) + late, at, Event::Look);
        }
        let said = self.machines[at].says();
        let waiting = std::mem::take(&mut self.machines[at].waiting);
        for (by, source, than) in waiting {
            if than == said {
                self.machines[at].waiting.push((by, source, than));
            } else {
                self.send(by, Event::Answered { source, said });
            }
        }
    }

    fn obey(&mut self, at: usize, order: &Order) {
        let to = |source: SourceId| self.machines[at].sources[&source];
        match *order {
            Order::AskList(source) => {
                self.questions += 1;
                self.send(to(source), Event::Asked { by: at, source, than: None });
            }
            Order::AwaitNews(source, _) => {
                self.questions += 1;
                let than = self.machines[at].heard.get(&source).copied();
                self.send(to(source), Event::Asked { by: at, source, than });
            }
            Order::FetchPiece { fetch, source, .. } => {
                self.questions += 1;
                self.send(to(source), Event::PieceAsked { by: at, fetch });
                self.machines[at].download.as_mut().unwrap().handle_begun(fetch, self.now);
            }
            Order::Walk { fetch, .. } => {
                self.walks.push(self.now);
                self.put(self.now + self.lan.mirror, at, Event::Walked(fetch));
            }
            Order::Cancel(fetch) => _ = self.machines[at].given_up.insert(fetch),
            Order::Reopen(_) | Order::Compare { .. } => {}
            Order::FetchPart { .. } => unreachable!("what has one piece is asked for once"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight machines that begin one after the other within `spread`; with each of some seeds.
    fn eight(spread: Duration, trip: Duration, turn: Duration) -> Vec<Report> {
        let run = |seed| {
            let begins = (0..8_u32).map(|n| spread * (n * 37 % 8) / 8).collect();
            Lan { begins, trip, turn, mirror: 10 * MS, seed }.run(Instant::now())
        };
        (0..20).map(run).collect()
    }

    /// The mean of some figure.
    fn mean(reports: &[Report], figure: impl Fn(&Report) -> f64) -> f64 {
        reports.iter().map(figure).sum::<f64>() / reports.len() as f64
    }

    fn tell(what: &str, reports: &[Report]) {
        println!(
            "{what}: {:.2} walks, at most {}, the first after {:.1} ms; the slowest after {:.1} ms; {:.1} questions",
            mean(reports, |report| report.walks as f64),
            reports.iter().map(|report| report.walks).max().unwrap(),
            1e3 * mean(reports, |report| report.walked_at.as_secs_f64()),
            1e3 * mean(reports, |report| report.slowest.as_secs_f64()),
            mean(reports, |report| report.questions as f64)
        );
    }

    #[test]
    fn machines_with_time_get_a_small_object_once_and_soon() {
        for (spread, turn) in [(0, 1), (10, 1), (10, 10), (30, 20)] {
            let reports = eight(spread * MS, MS, turn * MS);
            tell(&format!("within {spread} ms, turns of {turn} ms"), &reports);
            assert!(reports.iter().all(|report| report.walks == 1));
            // Each of seven asks twice, hears twice of news and is sent it; and who gets it asks everybody.
            assert!(mean(&reports, |report| report.questions as f64) <= 58.0);
            // A few turns of each before the walk, and as many after.
            let most = 0.025 + 0.008 * f64::from(turn);
            assert!(mean(&reports, |report| report.slowest.as_secs_f64()) <= most);
        }
    }

    #[test]
    fn machines_that_are_busy_get_a_small_object_twice_at_most() {
        let reports = eight(100 * MS, 5 * MS, 50 * MS);
        tell("within 100 ms, turns of 50 ms", &reports);
        assert!(reports.iter().all(|report| report.walks <= 2));
    }
}
