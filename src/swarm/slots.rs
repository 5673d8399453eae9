//! Who may be sent something now: a bounded number of slots, which nobody can take all of.

use std::collections::HashMap;
use std::hash::Hash;

/// How many times the slots that are free one origin may hold. Of 20 slots it gets 16 when it is alone, as many as one of
/// our own downloaders asks for at most; with others it comes down to an equal share as its answers end.
const GREED: usize = 4;

/// The slots for answers that are being sent, by who gets them.
///
/// The more are taken, the fewer one origin may have, and the last free one is for somebody who has none. So nobody is
/// kept out by a single other, and nobody is held back while nobody else comes.
#[derive(Debug)]
pub struct Slots<K> {
    most: usize,
    taken: usize,
    /// No more entries than there are slots.
    held: HashMap<K, usize>,
}

impl<K: Eq + Hash + Clone> Slots<K> {
    /// So many slots, all free.
    pub fn new(most: usize) -> Self {
        Self { most, taken: 0, held: HashMap::new() }
    }

    /// Takes a slot for `origin`; false where it may not have one now.
    pub fn take(&mut self, origin: &K) -> bool {
        let free = self.most.saturating_sub(self.taken);
        let held = self.held.get(origin).copied().unwrap_or(0);
        // One more must be left for somebody else.
        let fair = held == 0 || held < GREED.saturating_mul(free.saturating_sub(1));
        if free == 0 || !fair {
            return false;
        }
        self.taken += 1;
        *self.held.entry(origin.clone()).or_default() += 1;
        true
    }

    /// Gives a slot of `origin` back.
    pub fn give_back(&mut self, origin: &K) {
        let Some(held) = self.held.get_mut(origin) else { return };
        *held -= 1;
        if *held == 0 {
            self.held.remove(origin);
        }
        self.taken -= 1;
    }

    /// How many are taken.
    pub const fn taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many slots an origin gets that takes what it can.
    fn grab(slots: &mut Slots<u8>, origin: u8) -> usize {
        (0..1000).take_while(|_| slots.take(&origin)).count()
    }

    #[test]
    fn one_alone_gets_most_and_never_all() {
        for (most, alone) in [(0, 0), (1, 1), (2, 1), (3, 2), (4, 3), (20, 16), (100, 80)] {
            let mut slots = Slots::new(most);
            assert_eq!(grab(&mut slots, 1), alone, "of {most}");
            assert_eq!(slots.take(&2), most > 1, "of {most}: somebody else");
        }
    }

    #[test]
    fn a_crowd_gets_every_slot_and_no_more() {
        let mut slots = Slots::new(20);
        let served = (0..30).filter(|origin| slots.take(origin)).count();
        assert_eq!((served, slots.taken()), (20, 20));
        (0..30).for_each(|origin| slots.give_back(&origin));
        assert_eq!((slots.taken(), slots.held.len()), (0, 0));
    }

    #[test]
    fn whoever_came_first_comes_down_to_an_equal_share() {
        let mut slots = Slots::new(20);
        grab(&mut slots, 1);
        // Answers end one by one, and both ask for more at once.
        for _ in 0..100 {
            slots.give_back(&1);
            grab(&mut slots, 2);
            grab(&mut slots, 1);
        }
        let held = |origin| slots.held.get(&origin).copied().unwrap_or(0);
        assert!(held(2) >= held(1), "{} and {}", held(1), held(2));
        assert!(held(1) > 0);
    }
}
