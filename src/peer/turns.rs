//! Turns of those who are sent pieces of an object that is still on its way.
//!
//! A piece can be given on when it is whole, so few bodies at a time spread an object faster than many: of 20 that share
//! an uplink none is whole before all are. Where the line is fast a turn is over in a moment, so whoever finds none free
//! waits that moment instead of being sent away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::digest::Sha256;
use crate::swarm::Slots;

/// Bodies of one object that are sent at a time while it is on its way (docs/swarms.md has the figures).
const AT_A_TIME: usize = 4;

/// How long somebody waits for a turn before he is told to come again: four pieces take less at 35 MB/s, and a client
/// gives nobody up who is silent for less than 2 s (docs/protocol.md, section 9).
const PATIENCE: Duration = Duration::from_millis(500);

/// Who has a turn, by object. No more entries than there are turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    objects: Mutex<HashMap<Sha256, Slots<IpAddr>>>,
    ended: Notify,
}

/// A turn, given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    object: Sha256,
    origin: IpAddr,
}

impl Turns {
    /// A turn for `origin`, at once if one is free.
    pub(super) fn take(self: &Arc<Self>, object: Sha256, origin: IpAddr) -> Option<Turn> {
        let taken = self.lock().entry(object).or_insert_with(|| Slots::new(AT_A_TIME)).take(&origin);
        taken.then(|| Turn { turns: self.clone(), object, origin })
    }

    /// A turn for `origin`, if one becomes free within a moment.
    pub(super) async fn wait(self: &Arc<Self>, object: Sha256, origin: IpAddr) -> Option<Turn> {
        let turn = async {
            loop {
                // From before the look, so that no end is missed.
                let mut ended = pin!(self.ended.notified());
                ended.as_mut().enable();
                if let Some(turn) = self.take(object, origin) {
                    return turn;
                }
                ended.await;
            }
        };
        tokio::time::timeout(PATIENCE, turn).await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sha256, Slots<IpAddr>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut objects = self.turns.lock();
        if let Some(slots) = objects.get_mut(&self.object) {
            slots.give_back(&self.origin);
            if slots.taken() == 0 {
                objects.remove(&self.object);
            }
        }
        drop(objects);
        // Whoever waits may be of an origin that has its share already: all look.
        self.turns.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    fn object(name: &[u8]) -> Sha256 {
        Sha256::of(name)
    }

    #[test]
    fn four_have_a_turn_at_each_object_and_one_alone_has_not_all() {
        let turns = Arc::new(Turns::default());
        let alone: Vec<_> = (0..9).filter_map(|_| turns.take(object(b"a"), host(1))).collect();
        assert_eq!(alone.len(), AT_A_TIME - 1);
        let other = turns.take(object(b"a"), host(2));
        assert!(other.is_some() && turns.take(object(b"a"), host(3)).is_none());
        assert!(turns.take(object(b"b"), host(3)).is_some(), "another object");
        drop((alone, other));
        assert!(turns.lock().is_empty());
    }

    #[tokio::test]
    async fn a_turn_that_ends_within_a_moment_is_waited_for() {
        let turns = Arc::new(Turns::default());
        let mut taken: Vec<_> = (1..5).filter_map(|number| turns.take(object(b"a"), host(number))).collect();
        assert_eq!(taken.len(), AT_A_TIME);
        let mut waiting = pin!(turns.wait(object(b"a"), host(9)));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        taken.pop();
        assert!(waiting.await.is_some());
        assert!(turns.wait(object(b"a"), host(8)).await.is_some(), "it was given back");
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_a_moment() {
        let turns = Arc::new(Turns::default());
        let taken: Vec<_> = (1..5).filter_map(|number| turns.take(object(b"a"), host(number))).collect();
        assert!(turns.wait(object(b"a"), host(9)).await.is_none());
        assert_eq!(taken.len(), AT_A_TIME);
    }
}
