//! The schedule of announces in virtual time: hours pass in milliseconds, and always the same way.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop; it prints its table"
)]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use aptpeer::pieces::PIECE_LENGTH;
use aptpeer::swarm::announce::{Candidate, Last, ListOutcome, MAX_IN_FLIGHT, Outcome, Plan, Schedule, Start};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// How long the nodes of this network remember an announce.
const REMEMBERED: Duration = Duration::from_secs(30 * 60);

const PLAN: Plan = Plan { interval: Duration::from_secs(25 * 60), list_interval: HOUR, budget: 50.0 };

fn name(number: u32) -> Sha256 {
    Sha256::of(&number.to_be_bytes())
}

fn candidate(number: u32, length: u64) -> Candidate {
    Candidate { id: name(number), length, unused: Duration::ZERO, last: None, announce: true, whole: true }
}

/// A whole cache as archives are: many small files, few large ones, each used at some time within a month.
fn cache(count: u32) -> Vec<Candidate> {
    let of = |number: u32| {
        let dice = u64::from(u32::from_be_bytes(name(number).as_bytes()[..4].try_into().unwrap()));
        // 16 KiB, doubled for every second object: half below 32 KiB, one in a thousand above 16 MiB.
        let length = (16_384 + dice % 16_384) << (dice | 1 << 12).trailing_zeros();
        let unused = Duration::from_secs(dice % (30 * 86_400));
        Candidate { unused, ..candidate(number, length) }
    };
    (0..count).map(of).collect()
}

/// A network that takes every announce, and the schedule that is tried on it.
struct Trial {
    schedule: Schedule,
    epoch: Instant,
    now: Instant,
    ends: BTreeMap<(Instant, u32), Start>,
    numbers: u32,
    starts: Vec<(Duration, Start)>,
    done: HashMap<Sha256, Duration>,
    datagrams: u64,
    network: fn(&Start) -> Outcome,
}

fn stored(start: &Start) -> Outcome {
    let list = start.list.then_some(ListOutcome { stored: 8, datagrams: Some(60) });
    Outcome { stored: 8, others: 0, datagrams: Some(60), list }
}

fn lost(_: &Start) -> Outcome {
    Outcome { stored: 0, others: 0, datagrams: Some(20), list: None }
}

impl Trial {
    fn new(plan: Plan, objects: &[Candidate]) -> Self {
        let epoch = Instant::now();
        let mut schedule = Schedule::new(plan, epoch);
        schedule.handle_list(objects, epoch);
        Self {
            schedule,
            epoch,
            now: epoch,
            ends: BTreeMap::new(),
            numbers: 0,
            starts: Vec::new(),
            done: HashMap::new(),
            datagrams: 0,
            network: stored,
        }
    }

    /// Lets so much time pass. An announce takes two seconds: some of its nodes are always dead.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(start) = self.schedule.poll_start(self.now) {
                self.numbers += 1;
                self.ends.insert((self.now + Duration::from_secs(2), self.numbers), start);
                self.starts.push((self.now - self.epoch, start));
                assert!(self.ends.len() <= MAX_IN_FLIGHT);
            }
            let timeout = self.schedule.next_timeout(self.now);
            let next = self.ends.keys().next().map(|(at, _)| *at).into_iter().chain(timeout).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            assert!(next > self.now || timeout.is_none_or(|at| at > self.now), "it spins");
            self.now = next;
            let ended: Vec<_> =
                self.ends.range(..=(next, u32::MAX)).map(|(key, start)| (*key, *start)).collect();
            for (key, start) in ended {
                self.ends.remove(&key);
                let outcome = (self.network)(&start);
                let lists = outcome.list.and_then(|list| list.datagrams).unwrap_or(0);
                self.datagrams += u64::from(outcome.datagrams.unwrap_or(0) + lists);
                if outcome.stored > 0 {
                    self.done.insert(start.id, self.now - self.epoch);
                }
                self.schedule.handle_done(&start.id, &outcome, self.now);
            }
        }
        self.now = end;
    }

    fn elapsed(&self) -> Duration {
        self.now - self.epoch
    }

    /// Whether the nodes remember the object now.
    fn alive(&self, id: &Sha256) -> bool {
        self.done.get(id).is_some_and(|at| self.elapsed() - *at < REMEMBERED)
    }

    fn starts_of(&self, id: &Sha256) -> Vec<Duration> {
        self.starts.iter().filter(|(_, start)| start.id == *id).map(|(at, _)| *at).collect()
    }

    /// The most starts within any such time.
    fn most_within(&self, time: Duration) -> usize {
        let times: Vec<Duration> = self.starts.iter().map(|(at, _)| *at).collect();
        (0..times.len()).map(|i| times[i..].partition_point(|at| *at < times[i] + time)).max().unwrap_or(0)
    }
}

#[test]
fn what_is_held_is_announced_at_once_and_again_within_its_period() {
    let mut trial = Trial::new(PLAN, &[candidate(1, 1000), candidate(2, 1000)]);
    trial.run(3 * HOUR);
    let first = trial.starts[0].1.id;
    assert_eq!(trial.starts_of(&first)[0], Duration::ZERO);
    for number in [1, 2] {
        let starts = trial.starts_of(&name(number));
        assert!(starts.len() >= 7, "{starts:?}");
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= PLAN.interval + Duration::from_secs(5)));
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= PLAN.interval), "too often: {starts:?}");
    }
}

#[test]
fn starts_are_paced_and_never_a_burst() {
    let mut trial = Trial::new(PLAN, &cache(2000));
    trial.run(2 * HOUR);
    // 60 datagrams at 50 a second: one start in 1.2 s, 50 a minute.
    assert!(trial.most_within(Duration::from_millis(1100)) <= 1);
    assert!(trial.most_within(MINUTE) <= 51, "{}", trial.most_within(MINUTE));
}

#[test]
fn after_a_restart_nothing_is_announced_before_it_is_due() {
    let ago = |number: u32| Duration::from_secs(u64::from(number) * 15);
    let last = |number| Some(Last { ago: ago(number), others: 0 });
    let objects: Vec<_> = (0..100).map(|n| Candidate { last: last(n), ..candidate(n, 1000) }).collect();
    let mut trial = Trial::new(PLAN, &objects);
    trial.run(PLAN.interval);
    for number in 0..100 {
        let starts = trial.starts_of(&name(number));
        let due = PLAN.interval - ago(number);
        let late = Duration::from_secs(2);
        assert!((due..=due + late).contains(&starts[0]), "{number}: {starts:?}");
    }
}

#[test]
fn a_clock_that_jumps_ahead_makes_no_burst() {
    let last = Some(Last { ago: Duration::from_secs(u64::MAX), others: 3 });
    let objects: Vec<_> =
        (0..500).map(|n| Candidate { last, unused: Duration::MAX, ..candidate(n, 1000) }).collect();
    let mut trial = Trial::new(PLAN, &objects);
    trial.run(HOUR);
    trial.schedule.handle_slept(Duration::MAX);
    trial.run(HOUR);
    assert!(trial.most_within(MINUTE) <= 51, "{}", trial.most_within(MINUTE));
    assert!((0..500).all(|number| trial.alive(&name(number))));
}

#[test]
fn after_a_sleep_of_the_machine_what_the_nodes_forgot_is_announced_again() {
    let mut trial = Trial::new(PLAN, &[candidate(1, 1000)]);
    trial.run(MINUTE);
    trial.schedule.handle_slept(HOUR);
    trial.run(MINUTE);
    assert_eq!(trial.starts_of(&name(1)).len(), 2);
}

#[test]
fn at_another_address_everything_is_announced_anew_without_a_burst() {
    let mut trial = Trial::new(PLAN, &cache(500));
    trial.run(20 * MINUTE);
    let before = trial.starts.len();
    assert_eq!(before, 500);
    trial.schedule.handle_moved(trial.now);
    trial.run(11 * MINUTE);
    let again: std::collections::HashSet<Sha256> =
        trial.starts[before..].iter().map(|(_, start)| start.id).collect();
    assert_eq!(again.len(), 500);
    assert!(trial.most_within(MINUTE) <= 51, "{}", trial.most_within(MINUTE));
    trial.run(2 * HOUR);
    assert!((0..500).all(|number| trial.alive(&name(number))));
}

#[test]
fn an_announce_in_flight_while_the_address_changes_is_made_again() {
    let now = Instant::now();
    let mut schedule = Schedule::new(PLAN, now);
    schedule.handle_held(&candidate(1, 1000), now);
    assert!(schedule.poll_start(now).is_some());
    schedule.handle_moved(now);
    assert_eq!(schedule.poll_start(now + MINUTE), None, "it is still in flight");
    let outcome = Outcome { stored: 8, others: 0, datagrams: Some(60), list: None };
    schedule.handle_done(&name(1), &outcome, now + MINUTE);
    assert!(schedule.poll_start(now + 2 * MINUTE).is_some());
    schedule.handle_done(&name(1), &outcome, now + 2 * MINUTE);
    assert_eq!(schedule.poll_start(now + 3 * MINUTE), None, "once is enough");
}

#[test]
fn with_another_network_the_pauses_of_the_old_one_are_over() {
    let now = Instant::now();
    let mut schedule = Schedule::new(PLAN, now);
    schedule.handle_held(&candidate(1, 1000), now);
    let failed = Outcome { stored: 0, others: 0, datagrams: Some(20), list: None };
    let mut later = now;
    for _ in 0..12 {
        later = schedule.next_timeout(later).unwrap().max(later);
        if schedule.poll_start(later).is_some() {
            schedule.handle_done(&name(1), &failed, later);
        }
    }
    assert_eq!(schedule.poll_start(later + Duration::from_secs(5)), None, "it pauses");
    schedule.handle_moved(later);
    assert!(schedule.poll_start(later + Duration::from_secs(5)).is_some());
}

#[test]
fn what_is_gone_is_never_announced_again() {
    let objects = [1, 2, 3, 4].map(|number| candidate(number, 1000));
    let mut trial = Trial::new(PLAN, &objects);
    trial.run(MINUTE);
    trial.schedule.handle_gone(&name(1));
    let silent = Candidate { announce: false, ..objects[1] };
    trial.schedule.handle_list(&[silent, objects[3]], trial.now);
    trial.run(2 * HOUR);
    let counts = [1, 2, 3, 4].map(|number| trial.starts_of(&name(number)).len());
    assert!(counts[..3] == [1, 1, 1] && counts[3] >= 4, "{counts:?}");
    assert_eq!(trial.schedule.summary().held, 1);
}

#[test]
fn what_is_forgotten_by_now_is_announced_by_worth_and_not_by_age() {
    let last = |n: u64| Some(Last { ago: 3 * HOUR - Duration::from_secs(n), others: 0 });
    let objects: Vec<_> =
        (0..50).map(|n| Candidate { last: last(n.into()), ..candidate(n, 1000 + u64::from(n)) }).collect();
    let mut trial = Trial::new(PLAN, &objects);
    trial.run(5 * MINUTE);
    let order: Vec<Sha256> = trial.starts.iter().map(|(_, start)| start.id).collect();
    assert_eq!(order, (0..50).rev().map(name).collect::<Vec<_>>());
}

#[test]
fn an_object_worth_a_little_more_does_not_drive_out_one_that_is_announced() {
    // One object fits: 0.05 datagrams a second for 25 minutes.
    let plan = Plan { budget: 0.05, ..PLAN };
    let mut trial = Trial::new(plan, &[candidate(1, 1100), candidate(2, 1000)]);
    trial.run(24 * HOUR);
    trial.schedule.handle_used(&name(2), trial.now);
    trial.run(6 * HOUR);
    assert_eq!(trial.starts_of(&name(2)), [], "1000 bytes now, 1100 a day ago");
    trial.schedule.handle_used(&name(2), trial.now + 72 * HOUR);
    trial.run(72 * HOUR);
    assert!(trial.alive(&name(2)) && !trial.alive(&name(1)), "1000 bytes now, 1100 four days ago");
}

#[test]
fn what_an_announce_costs_beyond_the_mean_is_waited_for() {
    fn dear(start: &Start) -> Outcome {
        Outcome { datagrams: Some(600), ..stored(start) }
    }
    let mut trial = Trial::new(PLAN, &cache(1000));
    trial.network = dear;
    trial.run(2 * MINUTE);
    // 50 a second, and those in flight before the first was measured.
    assert!((5000..=7800).contains(&trial.datagrams), "{}", trial.datagrams);
}

#[test]
fn what_is_gone_in_flight_leaves_no_trace() {
    let mut trial = Trial::new(PLAN, &[candidate(1, 1000)]);
    trial.run(Duration::from_secs(1));
    assert_eq!(trial.schedule.summary().in_flight, 1);
    trial.schedule.handle_gone(&name(1));
    trial.run(2 * HOUR);
    assert_eq!((trial.starts.len(), trial.schedule.summary().in_flight), (1, 0));
}

#[test]
fn a_newcomer_is_announced_soon_although_all_the_others_are_due() {
    let mut trial = Trial::new(PLAN, &cache(1000));
    trial.run(HOUR);
    trial.schedule.handle_held(&candidate(5000, 50 << 20), trial.now);
    trial.run(MINUTE / 2);
    assert_eq!(trial.starts_of(&name(5000)).len(), 1);
}

#[test]
fn under_a_small_budget_the_most_worthwhile_are_kept_at_their_full_period() {
    // 10 datagrams a second for 25 minutes, 90 % of it for 60 each: 225.
    let plan = Plan { budget: 10.0, ..PLAN };
    let objects: Vec<_> = (0..1000).map(|n| candidate(n, 1000 + u64::from(n))).collect();
    let mut trial = Trial::new(plan, &objects);
    trial.run(6 * HOUR);
    let summary = trial.schedule.summary();
    assert_eq!((summary.held, summary.kept, summary.waiting), (1000, 225, 775));
    assert!(summary.per_second <= 9.0, "{summary:?}");
    assert!((775..1000).all(|number| trial.alive(&name(number))));
    assert!((0..775).all(|number| trial.starts_of(&name(number)).is_empty()));
}

#[test]
fn what_others_hold_makes_room_for_what_nobody_else_has() {
    fn common(start: &Start) -> Outcome {
        let others = if (0..200).any(|number| start.id == name(number)) { 9 } else { 0 };
        Outcome { others, ..stored(start) }
    }
    let plan = Plan { budget: 10.0, ..PLAN };
    let objects: Vec<_> = (0..400).map(|n| candidate(n, if n < 200 { 2000 } else { 1000 })).collect();
    let mut trial = Trial::new(plan, &objects);
    trial.network = common;
    trial.run(6 * HOUR);
    assert!((200..400).all(|number| trial.alive(&name(number))));
}

#[test]
fn an_announce_that_costs_more_keeps_fewer_objects() {
    fn dear(start: &Start) -> Outcome {
        Outcome { datagrams: Some(240), ..stored(start) }
    }
    let objects: Vec<_> = (0..3000).map(|n| candidate(n, 1000)).collect();
    let mut trial = Trial::new(PLAN, &objects);
    trial.run(HOUR);
    let before = trial.schedule.summary().kept;
    trial.network = dear;
    let (datagrams, from) = (trial.datagrams, trial.elapsed());
    trial.run(6 * HOUR);
    let after = trial.schedule.summary().kept;
    assert!((4 * after).abs_diff(before) < before / 20, "{before} before, {after} after");
    let rate = (trial.datagrams - datagrams) as f64 / (trial.elapsed() - from).as_secs_f64();
    assert!(rate <= 51.0, "{rate} datagrams a second");
}

#[test]
fn failures_back_off_and_a_network_that_is_away_is_left_alone() {
    let mut trial = Trial::new(PLAN, &cache(1000));
    trial.network = lost;
    trial.run(HOUR);
    let tries = trial.starts.len();
    assert!((10..100).contains(&tries), "{tries} tries in an hour");
    trial.network = stored;
    trial.run(HOUR);
    let alive = (0..1000).filter(|number| trial.alive(&name(*number))).count();
    assert_eq!(alive, trial.schedule.summary().kept, "it is back");
}

#[test]
fn what_waited_for_the_network_is_announced_soon_after_it_is_back() {
    for objects in [1, 3, 20] {
        let mut trial = Trial::new(PLAN, &cache(objects));
        trial.network = lost;
        trial.run(6 * HOUR);
        trial.network = stored;
        trial.run(11 * MINUTE);
        assert!((0..objects).all(|number| trial.alive(&name(number))), "{objects}: {:?}", trial.starts.len());
    }
}

#[test]
fn one_object_that_fails_does_not_hold_up_the_others() {
    fn one(start: &Start) -> Outcome {
        if start.id == name(1) { lost(start) } else { stored(start) }
    }
    let objects: Vec<_> = (0..100).map(|n| candidate(n, 1000)).collect();
    let mut trial = Trial::new(PLAN, &objects);
    trial.network = one;
    trial.run(4 * HOUR);
    assert!((0..100).all(|number| number == 1 || trial.alive(&name(number))));
    let tries = trial.starts_of(&name(1));
    assert!((8..20).contains(&tries.len()), "{tries:?}");
}

#[test]
fn lists_of_large_objects_are_published_within_their_period() {
    let mut trial = Trial::new(PLAN, &[candidate(1, PIECE_LENGTH + 1), candidate(2, PIECE_LENGTH)]);
    trial.run(5 * HOUR);
    let of = |id| {
        let lists = trial.starts.iter().filter(move |(_, start)| start.id == id && start.list);
        lists.map(|(at, _)| *at).collect::<Vec<_>>()
    };
    let lists = of(name(1));
    assert_eq!(lists[0], Duration::ZERO);
    assert!(lists.len() >= 5 && lists.windows(2).all(|pair| pair[1] - pair[0] <= HOUR), "{lists:?}");
    assert!(of(name(2)).is_empty(), "one piece has no list");
}

#[test]
fn nothing_is_announced_without_a_budget() {
    let mut trial = Trial::new(Plan { budget: 0.0, ..PLAN }, &cache(10));
    trial.run(HOUR);
    assert!(trial.starts.is_empty());
}

/// How long the table is measured, after two hours to settle.
const MEASURED: Duration = Duration::from_secs(4 * 3600);

/// The table of docs/dht.md. To print it: `cargo test --test announcing the_budget -- --nocapture`.
#[test]
fn the_budget_is_kept_for_caches_of_every_size() {
    println!("| objects | kept announced | announces/s | datagrams/s | of the bytes | of the worth |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for count in [200, 2000, 20_000, 60_000] {
        let objects = cache(count);
        let mut trial = Trial::new(PLAN, &objects);
        trial.run(2 * HOUR);
        let (starts, datagrams) = (trial.starts.len(), trial.datagrams);
        trial.run(MEASURED);

        let per_second = |events: f64| events / MEASURED.as_secs_f64();
        let announces = per_second((trial.starts.len() - starts) as f64);
        let datagrams = per_second((trial.datagrams - datagrams) as f64);
        let alive: Vec<_> = objects.iter().filter(|object| trial.alive(&object.id)).collect();
        let bytes = |of: &mut dyn Iterator<Item = u64>| of.sum::<u64>() as f64;
        let share = bytes(&mut alive.iter().map(|o| o.length)) / bytes(&mut objects.iter().map(|o| o.length));
        let summary = trial.schedule.summary();
        println!(
            "| {count} | {} | {announces:.2} | {datagrams:.1} | {:.0} % | {:.0} % |",
            alive.len(),
            100.0 * share,
            100.0 * summary.worth
        );
        assert!(datagrams <= 50.0, "the budget");
        assert!(alive.len() >= summary.kept, "{} of {} are alive", alive.len(), summary.kept);
        assert!(count > 1000 || alive.len() == objects.len(), "200 fit");
    }
}

fn growing(number: u32, length: u64) -> Candidate {
    Candidate { whole: false, ..candidate(number, length) }
}

#[test]
fn what_is_on_its_way_is_announced_at_once_and_with_its_list_when_it_is_whole() {
    let others: Vec<_> = (10..2000).map(|number| candidate(number, 1 << 30)).collect();
    let (part, whole) = (growing(1, 5 * PIECE_LENGTH), candidate(1, 5 * PIECE_LENGTH));
    let mut trial = Trial::new(PLAN, &others);
    trial.run(MINUTE);
    trial.schedule.handle_held(&part, trial.now);
    trial.run(Duration::from_secs(5));
    let starts = trial.starts_of(&part.id);
    assert!(starts.len() == 1 && starts[0] <= MINUTE + Duration::from_secs(4), "{starts:?}");
    let lists = |trial: &Trial| trial.starts.iter().filter(|(_, s)| s.id == part.id && s.list).count();
    assert_eq!(lists(&trial), 0, "its list is not known");
    // It is listed again and again meanwhile.
    let mut all = others.clone();
    all.push(part);
    trial.schedule.handle_list(&all, trial.now);
    trial.run(MINUTE);
    assert_eq!(trial.starts_of(&part.id).len(), 1);

    all.pop();
    all.push(whole);
    trial.schedule.handle_list(&all, trial.now);
    trial.run(MINUTE);
    assert_eq!((trial.starts_of(&part.id).len(), lists(&trial)), (2, 1));
}

#[test]
fn what_becomes_whole_while_it_is_being_announced_gets_its_list_too() {
    let mut trial = Trial::new(PLAN, &[]);
    trial.schedule.handle_list(&[growing(1, 5 * PIECE_LENGTH)], trial.now);
    trial.run(Duration::from_secs(1));
    assert_eq!(trial.starts.len(), 1);
    trial.schedule.handle_list(&[candidate(1, 5 * PIECE_LENGTH)], trial.now);
    trial.run(MINUTE);
    assert_eq!(trial.starts.iter().map(|(_, start)| start.list).collect::<Vec<_>>(), [false, true]);
    trial.run(20 * MINUTE);
    assert_eq!(trial.starts.len(), 2, "until its period is over");
}

#[test]
fn a_download_that_comes_to_nothing_is_not_announced_again() {
    let mut trial = Trial::new(PLAN, &[]);
    trial.schedule.handle_list(&[growing(1, 5 * PIECE_LENGTH)], trial.now);
    trial.run(MINUTE);
    trial.schedule.handle_list(&[], trial.now);
    trial.run(3 * HOUR);
    assert_eq!(trial.starts.len(), 1);
}
