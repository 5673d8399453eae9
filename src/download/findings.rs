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

/// The most objects that nobody had which are remembered; the oldest makes room.
const FRUITLESS: usize = 4096;

/// What the look-ups of all downloads share.
#[derive(Debug)]
pub(super) struct LookUps {
    places: Arc<Semaphore>,
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
}

impl LookUps {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_A_TIME)), fruitless: Mutex::default() }
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
        if lock(&self.fruitless).get(&object).is_some_and(|at| now < *at + FRUITLESS_MEMORY) {
            return None;
        }
        let place = self.places.clone().try_acquire_owned().ok()?;
        let look_ups: Vec<LookUp> =
            discovery.iter().filter_map(|discovery| discovery.look_up(&object, geometry)).collect();
        if look_ups.is_empty() {
            return None;
        }
        let (shared, until) = (self.clone(), now + LIMIT);
        Some(Findings { look_ups, object, shared, until, found: false, _place: place })
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

    #[test]
    fn the_memory_of_what_nobody_had_is_bounded() {
        let look_ups = LookUps::new();
        (0..FRUITLESS as u64 + 10).for_each(|number| look_ups.note_fruitless(object(number)));
        assert_eq!(lock(&look_ups.fruitless).len(), FRUITLESS);
    }
}
