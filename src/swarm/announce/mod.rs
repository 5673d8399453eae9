//! Which held objects are announced in the DHT, and when: the most worthwhile first, within a budget of datagrams.
//!
//! Announcing one object costs some sixty datagrams and has to be repeated before the nodes forget it. A few hundred
//! objects fit any budget, sixty thousand fit none. So from time to time a *plan* ranks the objects by their worth and
//! keeps as many as the budget carries at their full period; the others wait, and are found by other ways. Between two
//! plans nothing looks at all objects: starting an announce takes one from the head of a queue.
//!
//! Times are kept as whole seconds since the schedule was made: 4 bytes instead of 16, and none of it is the wall clock.

mod terms;
mod worth;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use crate::digest::Sha256;
use crate::pieces::PIECE_LENGTH;

pub use terms::{Candidate, Last, ListOutcome, Outcome, Plan, Start, Summary};
use worth::{Others, worth};

/// Announces in flight. Many walks at once overflow the socket's receive buffer: up to 8 lose nothing.
pub const MAX_IN_FLIGHT: usize = 8;

/// The part of the budget that the plan gives to objects that are kept announced. The rest is for newcomers, and for
/// announces that cost more than the mean.
const PLANNED: f64 = 0.9;

/// Every so many starts a newcomer goes before those that are due again, so that it does not wait for all of them. It is
/// the part of the budget that [`PLANNED`] leaves.
const FRESH_EVERY: u32 = 10;

/// What an announce, or a list, is taken to cost before one was measured, in datagrams.
const FIRST_COST: f64 = 60.0;

/// No announce is taken to cost less, in datagrams: eight nodes are asked and told.
const LEAST_COST: f64 = 16.0;

/// How much a new measurement counts against the memory of the earlier ones.
const NEWEST: f64 = 0.1;

/// A plan is made again after this time, as worth changes with age and with what the announces saw.
const PLAN_EVERY: i32 = 300;

/// A plan is made again after this time where objects came: it looks at all of them.
const PLAN_LEAST: i32 = 10;

/// Nodes forget an announce after half an hour or so, our period leaves them five minutes. What is later than this is
/// forgotten already and waits in the order of its worth like a newcomer.
const FORGOTTEN: i32 = 300;

/// The first pause of an object after a failure, in seconds; each further failure doubles it, up to the period.
const FIRST_PAUSE: i32 = 30;

/// So many failures in a row are no accident of one object: the network is away, and all pause.
const AWAY: u32 = 4;

/// The longest pause of all, in seconds: the network is noticed again within this time.
const LONGEST_PAUSE: i32 = 300;

/// An object that is kept announced counts for this much more than one that is not, so that two of the same worth do not
/// take turns, each announced for nothing.
const INCUMBENT: f64 = 1.25;

/// The longest sleep of the machine that counts, in seconds; everything is due after a day.
const LONGEST_SLEEP: i32 = 86_400;

/// What is known of one object: 40 bytes beside its name.
#[derive(Debug, Clone)]
struct Held {
    length: u64,
    /// When it was last used.
    used: i32,
    /// When it is to be announced again; `None` before the first announce.
    due: Option<i32>,
    /// When its list was published.
    listed: Option<i32>,
    others: Others,
    failures: u8,
    kept: bool,
    seen: bool,
    whole: bool,
    /// It was announced on its way, without its list.
    unlisted: bool,
}

/// Decides what is announced when. Events and the time go in, starts come out.
///
/// Memory: 73 bytes for each place of a table that is between 7/16 and 7/8 full, and 48 more an object while a plan is
/// made. 60,000 objects take 9.6 MB, and for some milliseconds 2.9 MB more.
#[derive(Debug)]
pub struct Schedule {
    plan: Plan,
    epoch: Instant,
    slept: i32,
    held: HashMap<Sha256, Held>,
    /// Kept objects that were announced before, by the time at which they are due. An entry that is no longer true is
    /// passed over.
    due: BinaryHeap<Reverse<(i32, Sha256)>>,
    /// Kept objects that were never announced, or are forgotten by now; the most worthwhile last.
    fresh: Vec<Sha256>,
    in_flight: Vec<(Sha256, f64)>,
    /// Those in flight whose announce may tell of an address that we no longer have.
    outdated: Vec<Sha256>,
    announce_cost: f64,
    list_cost: f64,
    next_start: Instant,
    starts: u32,
    failures_in_a_row: u32,
    planned: Option<i32>,
    changed: bool,
    summary: Summary,
}

impl Schedule {
    /// An empty schedule that keeps to `plan`.
    pub fn new(plan: Plan, now: Instant) -> Self {
        let plan = Plan { interval: plan.interval.max(Duration::from_secs(1)), ..plan };
        Self {
            plan,
            epoch: now,
            slept: 0,
            held: HashMap::new(),
            due: BinaryHeap::new(),
            fresh: Vec::new(),
            in_flight: Vec::new(),
            outdated: Vec::new(),
            announce_cost: FIRST_COST,
            list_cost: FIRST_COST,
            next_start: now,
            starts: 0,
            failures_in_a_row: 0,
            planned: None,
            changed: false,
            summary: Summary::default(),
        }
    }

    /// An object is held. What is said of its last announce counts only where the schedule does not know better.
    pub fn handle_held(&mut self, object: &Candidate, now: Instant) {
        if !object.announce {
            self.handle_gone(&object.id);
            return;
        }
        let now = self.seconds(now);
        let interval = seconds(self.plan.interval);
        let used = now.saturating_sub(seconds(object.unused));
        if let Some(held) = self.held.get_mut(&object.id) {
            held.used = held.used.max(used);
            held.seen = true;
            if object.whole && !held.whole {
                self.handle_whole(&object.id, now);
            }
            return;
        }
        let announced = object.last.map(|last| (now.saturating_sub(seconds(last.ago)), last.others));
        let held = Held {
            length: object.length,
            used,
            due: announced.map(|(at, _)| at.saturating_add(interval)),
            listed: None,
            others: announced.map(|(at, others)| Others::new(others, at)).unwrap_or_default(),
            failures: 0,
            kept: !object.whole,
            seen: true,
            whole: object.whole,
            unlisted: false,
        };
        self.held.insert(object.id, held);
        self.changed = true;
        if !object.whole {
            // Its time is now: the next plan may come when it is over.
            self.fresh.push(object.id);
        }
    }

    /// An object that was on its way is whole: if it was announced, its list is still to be published.
    fn handle_whole(&mut self, id: &Sha256, now: i32) {
        let is_flying = self.is_flying(id);
        let Some(held) = self.held.get_mut(id) else { return };
        held.whole = true;
        if held.unlisted && !is_flying {
            (held.unlisted, held.due) = (false, Some(now));
            if held.kept {
                self.due.push(Reverse((now, *id)));
            }
        }
    }

    /// These are the objects that are held, and there are no others.
    pub fn handle_list(&mut self, objects: &[Candidate], now: Instant) {
        self.held.values_mut().for_each(|held| held.seen = false);
        self.held.reserve(objects.len().saturating_sub(self.held.len()));
        for object in objects {
            self.handle_held(object, now);
        }
        let before = self.held.len();
        self.held.retain(|_, held| held.seen);
        self.changed |= self.held.len() < before;
    }

    /// An object is held no longer. It is not announced again, and so forgotten.
    pub fn handle_gone(&mut self, id: &Sha256) {
        self.changed |= self.held.remove(id).is_some_and(|held| held.kept);
    }

    /// An object was used.
    pub fn handle_used(&mut self, id: &Sha256, now: Instant) {
        let now = self.seconds(now);
        if let Some(held) = self.held.get_mut(id) {
            held.used = now;
        }
    }

    /// The machine slept for so long, which the monotonic clock did not see.
    pub fn handle_slept(&mut self, time: Duration) {
        self.slept = self.slept.saturating_add(seconds(time).min(LONGEST_SLEEP));
        self.changed = true;
    }

    /// We have another address: what was announced leads nowhere. Everything is announced anew, the most worthwhile
    /// first, as quickly as the budget allows; where the network was away, it is there now.
    pub fn handle_moved(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            held.due = None;
            held.failures = 0;
        }
        self.outdated = self.in_flight.iter().map(|(id, _)| *id).collect();
        self.failures_in_a_row = 0;
        self.next_start = self.next_start.min(now + self.time_for(self.announce_cost + self.list_cost));
        self.planned = None;
    }

    /// An announce ended.
    pub fn handle_done(&mut self, id: &Sha256, outcome: &Outcome, now: Instant) {
        let Some(at) = self.in_flight.iter().position(|(flying, _)| flying == id) else { return };
        let (_, reserved) = self.in_flight.swap_remove(at);
        self.settle(reserved, outcome, now);
        let seconds_now = self.seconds(now);
        let outdated = self.outdated.iter().position(|flying| flying == id);
        if let Some(at) = outdated {
            self.outdated.swap_remove(at);
            // Neither the success nor the failure of it says anything now.
            self.changed = true;
            return;
        }
        let pause = self.note_success(outcome.stored > 0);
        self.next_start = self.next_start.max(now + pause);

        let interval = seconds(self.plan.interval);
        let Some(held) = self.held.get_mut(id) else { return };
        if outcome.list.is_some_and(|list| list.stored > 0) {
            held.listed = Some(seconds_now);
        }
        let due = if outcome.stored > 0 {
            held.failures = 0;
            held.others = Others::new(outcome.others, seconds_now);
            // Whole meanwhile.
            let again = std::mem::take(&mut held.unlisted) && held.whole;
            held.unlisted |= !held.whole;
            if again { seconds_now } else { seconds_now.saturating_add(interval) }
        } else {
            held.failures = held.failures.saturating_add(1);
            // Where it is the network that is away, the object is to be there soon after it.
            let longest = if self.failures_in_a_row >= AWAY { LONGEST_PAUSE } else { interval };
            seconds_now.saturating_add(doubled(FIRST_PAUSE, held.failures.into()).min(longest))
        };
        held.due = Some(due);
        if held.kept {
            self.due.push(Reverse((due, *id)));
        }
    }

    /// An announce that was to start did not, because its object turned out to be gone: no failure, and it cost nothing.
    pub fn handle_skipped(&mut self, id: &Sha256) {
        self.handle_gone(id);
        let Some(at) = self.in_flight.iter().position(|(flying, _)| flying == id) else { return };
        let (_, reserved) = self.in_flight.swap_remove(at);
        self.outdated.retain(|flying| flying != id);
        self.next_start = self.next_start.checked_sub(self.time_for(reserved)).unwrap_or(self.next_start);
    }

    /// The announce to start now, if it is time for one. To be called until it gives none.
    pub fn poll_start(&mut self, now: Instant) -> Option<Start> {
        let seconds_now = self.seconds(now);
        if self.plan_at().is_some_and(|at| at <= seconds_now) {
            self.make_plan(seconds_now);
        }
        if self.in_flight.len() >= MAX_IN_FLIGHT || now < self.next_start || self.plan.budget <= 0.0 {
            return None;
        }
        let id = self.take(seconds_now)?;
        let list = self.held.get(&id).is_some_and(|held| self.wants_list(held, seconds_now));
        if let Some(held) = self.held.get_mut(&id) {
            held.unlisted |= !held.whole;
        }
        let cost = self.announce_cost + if list { self.list_cost } else { 0.0 };
        // From now, not from when it could have started: time that went by unused is no credit for a burst.
        self.next_start = now + self.time_for(cost);
        self.in_flight.push((id, cost));
        Some(Start { id, list })
    }

    /// When to call [`Schedule::poll_start`] again, unless something happens before.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let plan = self.plan_at().map(|at| self.instant(at));
        if self.in_flight.len() >= MAX_IN_FLIGHT || self.plan.budget <= 0.0 {
            return plan;
        }
        let due = self.due.peek().map(|Reverse((due, _))| self.instant(*due));
        let fresh = (!self.fresh.is_empty()).then_some(now);
        let start = due.into_iter().chain(fresh).min().map(|at| at.max(self.next_start));
        plan.into_iter().chain(start).min()
    }

    /// The schedule in figures.
    pub fn summary(&self) -> Summary {
        Summary { held: self.held.len(), in_flight: self.in_flight.len(), ..self.summary }
    }

    /// What an announce cost is set off against what was set apart for it when it started.
    fn settle(&mut self, reserved: f64, outcome: &Outcome, now: Instant) {
        let measured = |known: f64, stored: u32, datagrams: Option<u32>| match datagrams {
            Some(datagrams) if stored > 0 => {
                (known + NEWEST * (f64::from(datagrams) - known)).max(LEAST_COST)
            }
            _ => known,
        };
        let list = outcome.list.map_or(Some(0), |list| list.datagrams);
        if let (Some(announce), Some(list)) = (outcome.datagrams, list) {
            let more = f64::from(announce) + f64::from(list) - reserved;
            self.next_start = if more > 0.0 {
                self.next_start.max(now) + self.time_for(more)
            } else {
                self.next_start.checked_sub(self.time_for(-more)).unwrap_or(now)
            };
        }
        self.announce_cost = measured(self.announce_cost, outcome.stored, outcome.datagrams);
        if let Some(list) = outcome.list {
            self.list_cost = measured(self.list_cost, list.stored, list.datagrams);
        }
    }

    /// How long all have to pause after an announce that went well, or did not.
    fn note_success(&mut self, success: bool) -> Duration {
        self.failures_in_a_row = if success { 0 } else { self.failures_in_a_row.saturating_add(1) };
        let beyond = self.failures_in_a_row.saturating_sub(AWAY);
        let pause = if beyond == 0 { 0 } else { doubled(FIRST_PAUSE, beyond).min(LONGEST_PAUSE) };
        Duration::from_secs(pause.unsigned_abs().into())
    }

    /// The next object, taken out of its queue.
    fn take(&mut self, now: i32) -> Option<Sha256> {
        self.starts = self.starts.wrapping_add(1);
        let fresh_first = self.starts.is_multiple_of(FRESH_EVERY);
        let first = if fresh_first { self.take_fresh(now) } else { self.take_due(now) };
        first.or_else(|| if fresh_first { self.take_due(now) } else { self.take_fresh(now) })
    }

    fn take_due(&mut self, now: i32) -> Option<Sha256> {
        while self.due.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Reverse((due, id)) = self.due.pop()?;
            if self.may_start(&id) && self.held.get(&id).is_some_and(|held| held.due == Some(due)) {
                return Some(id);
            }
        }
        None
    }

    fn take_fresh(&mut self, now: i32) -> Option<Sha256> {
        while let Some(id) = self.fresh.pop() {
            if self.may_start(&id) && self.held.get(&id).is_some_and(|held| held.is_fresh(now)) {
                return Some(id);
            }
        }
        None
    }

    fn may_start(&self, id: &Sha256) -> bool {
        self.held.get(id).is_some_and(|held| held.kept) && !self.is_flying(id)
    }

    fn is_flying(&self, id: &Sha256) -> bool {
        self.in_flight.iter().any(|(flying, _)| flying == id)
    }

    /// Whether the list goes along: at the last announce before it is due.
    fn wants_list(&self, held: &Held, now: i32) -> bool {
        let next = now.saturating_add(seconds(self.plan.interval));
        let due = |listed: i32| listed.saturating_add(seconds(self.plan.list_interval));
        held.whole && held.length > PIECE_LENGTH && held.listed.is_none_or(|listed| due(listed) < next)
    }

    fn plan_at(&self) -> Option<i32> {
        match self.planned {
            None if self.held.is_empty() => None,
            None => Some(0),
            Some(at) if self.changed => Some(at.saturating_add(PLAN_LEAST)),
            Some(_) if self.held.is_empty() => None,
            Some(at) => Some(at.saturating_add(PLAN_EVERY)),
        }
    }

    /// Ranks all objects, keeps those for which the budget is enough and fills the queues anew.
    fn make_plan(&mut self, now: i32) {
        self.planned = Some(now);
        self.changed = false;
        let mut ranked: Vec<(f64, f64, Sha256)> =
            self.held.iter().map(|(id, held)| held.rank(*id, now)).collect();
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));

        let room = self.plan.budget.max(0.0) * self.plan.interval.as_secs_f64() * PLANNED;
        let (mut spent, mut worth, mut all, mut kept) = (0.0, 0.0, 0.0, 0);
        let (mut due, mut fresh) = (Vec::new(), Vec::new());
        for (_, value, id) in ranked {
            let Some(held) = self.held.get_mut(&id) else { continue };
            let cost = self.announce_cost + self.list_cost * lists_per_announce(held.length, &self.plan);
            all += value;
            held.kept = spent + cost <= room;
            if !held.kept {
                continue;
            }
            spent += cost;
            worth += value;
            kept += 1;
            match held.due {
                Some(at) if !held.is_fresh(now) => due.push(Reverse((at, id))),
                _ => fresh.push(id),
            }
        }
        fresh.reverse();
        (self.due, self.fresh) = (due.into(), fresh);
        self.summary = Summary {
            kept,
            waiting: self.held.len() - kept,
            per_second: spent / self.plan.interval.as_secs_f64(),
            worth: if all > 0.0 { worth / all } else { 1.0 },
            ..Summary::default()
        };
    }

    /// How long the budget needs for so many datagrams; at most an hour, for a budget of next to nothing.
    fn time_for(&self, datagrams: f64) -> Duration {
        let seconds = (datagrams / self.plan.budget).clamp(0.0, 3600.0);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    fn seconds(&self, now: Instant) -> i32 {
        seconds(now.saturating_duration_since(self.epoch)).saturating_add(self.slept)
    }

    /// The moment at which [`Schedule::seconds`] says `at`; the epoch for what lies before.
    fn instant(&self, at: i32) -> Instant {
        let since = at.saturating_sub(self.slept).max(0);
        self.epoch + Duration::from_secs(since.unsigned_abs().into())
    }
}

impl Held {
    /// Whether nobody remembers the object: it was never announced, or too long ago.
    fn is_fresh(&self, now: i32) -> bool {
        self.due.is_none_or(|due| due.saturating_add(FORGOTTEN) < now)
    }

    /// Its place among the others, its worth, and its name.
    fn rank(&self, id: Sha256, now: i32) -> (f64, f64, Sha256) {
        let unused = f64::from(now.saturating_sub(self.used).max(0));
        let value = worth(self.length, unused, self.others.at(now));
        let rank = match (self.whole, self.kept) {
            // Others want it now, and there are never many.
            (false, _) => f64::INFINITY,
            (true, true) => value * INCUMBENT,
            (true, false) => value,
        };
        (rank, value, id)
    }
}

/// How many of an object's announces come with its list, on average.
fn lists_per_announce(length: u64, plan: &Plan) -> f64 {
    if length <= PIECE_LENGTH {
        return 0.0;
    }
    1.0 / (plan.list_interval.as_secs_f64() / plan.interval.as_secs_f64()).floor().max(1.0)
}

/// `first`, doubled for each of `times` after the first.
fn doubled(first: i32, times: u32) -> i32 {
    first.saturating_mul(1 << times.saturating_sub(1).min(16))
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_takes_no_more_memory_than_the_documents_say() {
        assert!(size_of::<(Sha256, Held)>() <= 72, "{}", size_of::<(Sha256, Held)>());
    }
}
