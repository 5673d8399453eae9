//! The look-ups of the downloads: how many at a time, for how long, and what nobody had.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock;
use crate::clock;
use crate::digest::Sha256;
use crate::discovery::{Discovery, Found, LookUp};
use crate::pieces::Geometry;

/// Downloads that look for peers at a time; the others go without. Each look-up costs some hundred packets, and apt wants
/// hundreds of objects at once.
const AT_A_TIME: usize = 16;

/// How long a download looks for peers: an iterative look-up ends within seconds, and apt's patience is 30 s.
const LIMIT: Duration = Duration::from_secs(10);

/// How long it is remembered that nobody had an object: apt's retries come within this time, and whoever gets the object
/// meanwhile may be found a little later.
const FRUITLESS_MEMORY: Duration = Duration::from_secs(180);

/// And one of several pieces, that others may have a part of soon.
const FRUITLESS_MEMORY_LARGE: Duration = Duration::from_secs(10);

/// How many of the places those may have who look once more: downloads that begin come first.
const AGAIN_AT_A_TIME: usize = 8;

/// How long after one look-up the next may begin: about as long as it takes others to get a piece and to be told of.
const PAUSE: Duration = Duration::from_secs(10);

/// After so many look-ups in a row that found nobody new, the pause doubles with each, up to [`LONGEST_PAUSE`].
const PATIENT: u32 = 4;

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(160);

/// Look-ups of one download, all in all: hours of a download that nobody helps.
const MOST: u32 = 64;

/// The most objects that nobody had which are remembered; the oldest makes room.
const FRUITLESS: usize = 4096;

/// What the look-ups of all downloads share.
#[derive(Debug)]
pub(super) struct LookUps {
    places: Arc<Semaphore>,
    again: Arc<Semaphore>,
    fruitless: Mutex<HashMap<Sha256, Instant>>,
}

/// The look-ups of one download, under way. Dropping them cancels them.
#[derive(Debug)]
pub(super) struct Findings {
    look_ups: Vec<LookUp>,
    object: Sha256,
    shared: Arc<LookUps>,
    /// When to look no further.
    until: Instant,
    found: bool,
    _place: OwnedSemaphorePermit,
    _again: Option<OwnedSemaphorePermit>,
}

/// When a download of several pieces looks for more peers.
#[derive(Debug)]
pub(super) struct Again {
    not_before: Instant,
    pause: Duration,
    in_vain: u32,
    left: u32,
}

impl Again {
    /// The first look-up begins, or would if there were a place.
    pub(super) fn after_first(now: Instant) -> Self {
        Self { not_before: now + PAUSE, pause: PAUSE, in_vain: 0, left: MOST - 1 }
    }

    /// Whether the download may look once more, if that is of use to it.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.left > 0 && now >= self.not_before
    }

    /// It looks once more.
    pub(super) fn note_start(&mut self, now: Instant) {
        self.left -= 1;
        self.in_vain += 1;
        if self.in_vain > PATIENT {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.not_before = now + self.pause;
    }

    /// It has nothing to look for now, or no place.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.not_before = now + Duration::from_secs(1);
    }

    /// Whether it has.
    pub(super) const fn has_looked_again(&self) -> bool {
        self.left < MOST - 1
    }

    /// Somebody new was found.
    pub(super) fn note_found(&mut self) {
        (self.in_vain, self.pause) = (0, PAUSE);
    }
}

impl LookUps {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            again: Arc::new(Semaphore::new(AGAIN_AT_A_TIME)),
            fruitless: Mutex::default(),
        }
    }

    /// Looks for peers that hold the object in every way there is; `None` where there is none, where nobody had it a
    /// moment ago, or where enough downloads look already.
    pub(super) fn start(
        self: &Arc<Self>,
        discovery: &[Arc<dyn Discovery>],
        object: Sha256,
        geometry: Geometry,
    ) -> Option<Findings> {
        let now = clock::now();
        let memory = if geometry.pieces() == 1 { FRUITLESS_MEMORY } else { FRUITLESS_MEMORY_LARGE };
        if lock(&self.fruitless).get(&object).is_some_and(|at| now < *at + memory) {
            return None;
        }
        let place = self.places.clone().try_acquire_owned().ok()?;
        let look_ups = discovery.iter().filter_map(|discovery| discovery.look_up(&object, geometry));
        self.findings(look_ups.collect(), object, place, None)
    }

    /// Looks for more peers of an object that is on its way; `None` as for [`LookUps::start`], and where enough downloads look
    /// once more already.
    pub(super) fn start_again(
        self: &Arc<Self>,
        discovery: &[Arc<dyn Discovery>],
        object: Sha256,
        geometry: Geometry,
    ) -> Option<Findings> {
        let again = self.again.clone().try_acquire_owned().ok()?;
        let place = self.places.clone().try_acquire_owned().ok()?;
        let look_ups = discovery.iter().filter_map(|discovery| discovery.look_again(&object, geometry));
        self.findings(look_ups.collect(), object, place, Some(again))
    }

    fn findings(
        self: &Arc<Self>,
        look_ups: Vec<LookUp>,
        object: Sha256,
        place: OwnedSemaphorePermit,
        again: Option<OwnedSemaphorePermit>,
    ) -> Option<Findings> {
        if look_ups.is_empty() {
            return None;
        }
        let (shared, until) = (self.clone(), clock::now() + LIMIT);
        Some(Findings { look_ups, object, shared, until, found: false, _place: place, _again: again })
    }

    fn note_fruitless(&self, object: Sha256) {
        let now = clock::now();
        let mut fruitless = lock(&self.fruitless);
        if fruitless.len() >= FRUITLESS {
            fruitless.retain(|_, at| now < *at + FRUITLESS_MEMORY);
        }
        if fruitless.len() >= FRUITLESS {
            let oldest = fruitless.iter().min_by_key(|(_, at)| **at).map(|(object, _)| *object);
            oldest.map(|object| fruitless.remove(&object));
        }
        fruitless.insert(object, now);
    }
}

impl Findings {
    /// When the look-ups are over at the latest.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// What is found next; `None` at the end of all look-ups. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Found> {
        let found = tokio::time::timeout_at(
            self.until.into(),
            poll_fn(|context| {
                let mut at = 0;
                while let Some(look_up) = self.look_ups.get_mut(at) {
                    match look_up.poll_next(context) {
                        Poll::Ready(Some(found)) => return Poll::Ready(Some(found)),
                        Poll::Ready(None) => drop(self.look_ups.swap_remove(at)),
                        Poll::Pending => at += 1,
                    }
                }
                if self.look_ups.is_empty() { Poll::Ready(None) } else { Poll::Pending }
            }),
        );
        let found = found.await;
        self.found |= matches!(found, Ok(Some(_)));
        // Where it took too long there may have been nobody to ask: that says nothing of the object.
        if matches!(found, Ok(None)) && !self.found {
            self.shared.note_fruitless(self.object);
        }
        found.unwrap_or(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{Memory, Provider};
    use crate::swarm::PeerKind;

    fn found(port: u16) -> Found {
        Found::Provider(Provider { address: ([127, 0, 0, 1], port).into(), kind: PeerKind::Stranger })
    }

    fn object(number: u64) -> Sha256 {
        Sha256::of(&number.to_be_bytes())
    }

    #[tokio::test]
    async fn findings_of_several_look_ups_come_as_one_stream() {
        let (one, mut asked_one) = Memory::with_look_ups(Vec::new());
        let (two, mut asked_two) = Memory::with_look_ups(Vec::new());
        let ways: Vec<Arc<dyn Discovery>> = vec![Arc::new(one), Arc::new(Memory::default()), Arc::new(two)];
        let look_ups = Arc::new(LookUps::new());
        let geometry = Geometry::new(1).unwrap();
        let mut findings = look_ups.start(&ways, object(1), geometry).unwrap();
        let (one, two) = (asked_one.recv().await.unwrap(), asked_two.recv().await.unwrap());
        two.finder.tell(found(2));
        drop(two);
        assert_eq!(findings.next().await, Some(found(2)));
        one.finder.tell(found(1));
        assert_eq!(findings.next().await, Some(found(1)));
        drop(one);
        assert_eq!(findings.next().await, None);
        assert!(look_ups.start(&ways, object(1), geometry).is_some(), "somebody had it");
    }

    #[tokio::test]
    async fn what_nobody_had_is_not_looked_for_again_at_once() {
        let (memory, mut asked) = Memory::with_look_ups(Vec::new());
        let ways: Vec<Arc<dyn Discovery>> = vec![Arc::new(memory)];
        let look_ups = Arc::new(LookUps::new());
        let geometry = Geometry::new(1).unwrap();
        let mut findings = look_ups.start(&ways, object(1), geometry).unwrap();
        drop(asked.recv().await.unwrap());
        assert_eq!(findings.next().await, None);
        assert!(look_ups.start(&ways, object(1), geometry).is_none());
        assert!(look_ups.start(&ways, object(2), geometry).is_some());
    }

    #[tokio::test]
    async fn only_so_many_look_at_a_time() {
        let (memory, _asked) = Memory::with_look_ups(Vec::new());
        let ways: Vec<Arc<dyn Discovery>> = vec![Arc::new(memory)];
        let look_ups = Arc::new(LookUps::new());
        let geometry = Geometry::new(1).unwrap();
        let start = |number| look_ups.start(&ways, object(number), geometry);
        let mut under_way: Vec<Findings> = (0..100).filter_map(start).collect();
        assert_eq!(under_way.len(), AT_A_TIME);
        under_way.pop();
        assert!(start(200).is_some(), "a look-up that ends makes room");
    }

    #[tokio::test]
    async fn a_look_up_that_does_not_end_is_ended() {
        let (memory, mut asked) = Memory::with_look_ups(Vec::new());
        let ways: Vec<Arc<dyn Discovery>> = vec![Arc::new(memory)];
        let look_ups = Arc::new(LookUps::new());
        let mut findings = look_ups.start(&ways, object(1), Geometry::new(1).unwrap()).unwrap();
        let asked = asked.recv().await.unwrap();
        findings.until = clock::now();
        assert_eq!(findings.next().await, None);
        drop(findings);
        assert!(asked.finder.is_cancelled());
    }

    #[tokio::test]
    async fn whoever_looks_again_leaves_places_to_those_who_begin() {
        let (memory, _asked) = Memory::with_look_ups(Vec::new());
        let ways: Vec<Arc<dyn Discovery>> = vec![Arc::new(memory)];
        let look_ups = Arc::new(LookUps::new());
        let geometry = Geometry::new(9_000_000).unwrap();
        let again = |number| look_ups.start_again(&ways, object(number), geometry);
        let mut under_way: Vec<Findings> = (0..100).filter_map(again).collect();
        assert_eq!(under_way.len(), AGAIN_AT_A_TIME);
        under_way.extend((100..200).filter_map(|number| look_ups.start(&ways, object(number), geometry)));
        assert_eq!(under_way.len(), AT_A_TIME);
    }

    #[test]
    fn a_download_looks_every_ten_seconds_less_often_in_vain_and_not_for_ever() {
        let mut now = Instant::now();
        let mut again = Again::after_first(now);
        let mut wait = |again: &mut Again| {
            let since = now;
            while !again.is_due(now) && now < since + LONGEST_PAUSE * 2 {
                now += Duration::from_secs(1);
            }
            again.note_start(now);
            (now - since).as_secs()
        };
        let pauses: Vec<u64> = (0..9).map(|_| wait(&mut again)).collect();
        assert_eq!(pauses, [10, 10, 10, 10, 10, 20, 40, 80, 160]);
        again.note_found();
        assert_eq!([wait(&mut again), wait(&mut again)], [160, 10]);
        (0..MOST - 12).for_each(|_| again.note_start(Instant::now()));
        assert!(again.has_looked_again() && !again.is_due(now + Duration::from_secs(9999)));
    }

    #[test]
    fn the_memory_of_what_nobody_had_is_bounded() {
        let look_ups = LookUps::new();
        (0..FRUITLESS as u64 + 10).for_each(|number| look_ups.note_fruitless(object(number)));
        assert_eq!(lock(&look_ups.fruitless).len(), FRUITLESS);
    }
}
