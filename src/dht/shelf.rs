//! A bounded shelf of what strangers leave here: when it is full, the oldest makes room, and no provider has more than
//! its share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::address::is_local;
use super::id::Id;
use super::prefix::Prefix;

/// The part of a shelf that one provider's addresses ([`Prefix::provider`]) may fill: so many providers at least must
/// join to push out what others left.
const SHARES: usize = 8;

/// What there is room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The most entries.
    pub(super) entries: usize,
    /// The most bytes of all entries.
    pub(super) bytes: usize,
}

/// Entries by their point, by age and by whose share they count to: his who left the entry first. An address of a
/// local network has no share: there are no strangers there, and often nobody else.
#[derive(Debug)]
pub(super) struct Shelf<V> {
    room: Room,
    started: Instant,
    entries: BTreeMap<Id, Entry<V>>,
    all: Pile,
    shares: BTreeMap<Prefix, Pile>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    /// In seconds since the start.
    heard: u32,
    owner: Option<Prefix>,
}

/// Entries by age, and what they weigh.
#[derive(Debug, Default)]
struct Pile {
    ages: BTreeSet<(u32, Id)>,
    bytes: usize,
}

impl<V> Shelf<V> {
    pub(super) const fn new(room: Room, now: Instant) -> Self {
        let all = Pile { ages: BTreeSet::new(), bytes: 0 };
        Self { room, started: now, entries: BTreeMap::new(), all, shares: BTreeMap::new() }
    }

    /// A time as the entries keep it: seconds since the shelf began.
    pub(super) fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.started).as_secs()).unwrap_or(u32::MAX)
    }

    pub(super) fn get(&self, id: &Id) -> Option<&V> {
        self.entries.get(id).map(|entry| &entry.value)
    }

    /// Puts a value of so many bytes in, in the place of the one that was there.
    pub(super) fn put(&mut self, id: Id, value: V, bytes: usize, from: IpAddr, now: Instant) {
        let former = self.remove(&id);
        let owner = match former {
            Some(entry) => entry.owner,
            None => (!is_local(from)).then(|| Prefix::provider(from)),
        };
        self.make_room(owner, bytes);
        let heard = self.seconds(now);
        self.all.insert(heard, id, bytes);
        if let Some(owner) = owner {
            self.shares.entry(owner).or_default().insert(heard, id, bytes);
        }
        self.entries.insert(id, Entry { value, bytes, heard, owner });
    }

    /// The value there, which counts as heard of now.
    pub(super) fn refresh(&mut self, id: &Id, now: Instant) -> Option<&mut V> {
        let heard = self.seconds(now);
        let entry = self.entries.get_mut(id)?;
        let share = entry.owner.and_then(|owner| self.shares.get_mut(&owner));
        for pile in [Some(&mut self.all), share].into_iter().flatten() {
            pile.ages.remove(&(entry.heard, *id));
            pile.ages.insert((heard, *id));
        }
        entry.heard = heard;
        Some(&mut entry.value)
    }

    /// Forgets what was not heard of for so long.
    pub(super) fn expire(&mut self, after: Duration, now: Instant) {
        let now = self.seconds(now);
        while let Some((heard, id)) = self.all.ages.first().copied() {
            if u64::from(now.saturating_sub(heard)) < after.as_secs() {
                return;
            }
            self.remove(&id);
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of all entries, as they were put in.
    pub(super) const fn bytes(&self) -> usize {
        self.all.bytes
    }

    fn make_room(&mut self, owner: Option<Prefix>, bytes: usize) {
        let share = Room { entries: (self.room.entries / SHARES).max(1), bytes: self.room.bytes / SHARES };
        while let Some(id) = owner.and_then(|owner| self.shares.get(&owner)?.too_much(share, bytes)) {
            self.remove(&id);
        }
        while let Some(id) = self.all.too_much(self.room, bytes) {
            self.remove(&id);
        }
    }

    fn remove(&mut self, id: &Id) -> Option<Entry<V>> {
        let entry = self.entries.remove(id)?;
        self.all.remove(entry.heard, *id, entry.bytes);
        if let Some(owner) = entry.owner
            && let Some(share) = self.shares.get_mut(&owner)
        {
            share.remove(entry.heard, *id, entry.bytes);
            if share.ages.is_empty() {
                self.shares.remove(&owner);
            }
        }
        Some(entry)
    }
}

impl Pile {
    fn insert(&mut self, heard: u32, id: Id, bytes: usize) {
        self.ages.insert((heard, id));
        self.bytes += bytes;
    }

    fn remove(&mut self, heard: u32, id: Id, bytes: usize) {
        self.ages.remove(&(heard, id));
        self.bytes -= bytes;
    }

    /// The oldest entry, if it has to go before one of so many bytes comes.
    fn too_much(&self, room: Room, bytes: usize) -> Option<Id> {
        let full = self.ages.len() >= room.entries || self.bytes + bytes > room.bytes;
        self.ages.first().filter(|_| full).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> Id {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Id::new(bytes)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const ROOM: Room = Room { entries: 80, bytes: 8000 };

    #[test]
    fn the_one_heard_of_longest_ago_makes_room() {
        let start = Instant::now();
        let mut shelf = Shelf::new(ROOM, start);
        for number in 0..80 {
            let from = IpAddr::from([9, number as u8, 0, 1]);
            shelf.put(id(number), number, 1, from, start + Duration::from_secs(number.into()));
        }
        assert_eq!(shelf.refresh(&id(0), start + Duration::from_secs(100)), Some(&mut 0));
        shelf.put(id(100), 100, 1, ip("8.8.8.8"), start + Duration::from_secs(101));
        assert_eq!((shelf.len(), shelf.get(&id(0)), shelf.get(&id(1))), (80, Some(&0), None));
        shelf.put(id(100), 101, 7000, ip("8.8.8.8"), start + Duration::from_secs(101));
        assert_eq!((shelf.len(), shelf.bytes()), (80, 7079), "its own place");
    }

    #[test]
    fn a_provider_has_its_share_and_pushes_out_its_own() {
        let start = Instant::now();
        let mut shelf = Shelf::new(ROOM, start);
        shelf.put(id(1000), 0, 1, ip("8.8.8.8"), start);
        for number in 0..500 {
            shelf.put(id(number), number, 1, IpAddr::from([9, 9, 9, number as u8]), start);
        }
        assert_eq!(shelf.len(), 11);
        assert!(shelf.get(&id(1000)).is_some());
        shelf.put(id(1), 1, 950, ip("9.9.9.9"), start);
        assert_eq!((shelf.get(&id(1)), shelf.bytes()), (Some(&1), 960), "the share of the bytes holds too");
        for number in 2000..2200 {
            shelf.put(id(number), number, 1, ip("192.168.1.1"), start + Duration::from_secs(1));
        }
        assert_eq!(shelf.len(), 80, "a local network may fill it");
    }

    #[test]
    fn the_books_are_right_whatever_happens() {
        let start = Instant::now();
        let mut shelf = Shelf::new(ROOM, start);
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for round in 0..5000 {
            let now = start + Duration::from_secs(round);
            let id = id(next(200) as u32);
            match next(4) {
                0 => drop(shelf.refresh(&id, now)),
                1 if next(50) == 0 => shelf.expire(Duration::from_secs(100), now),
                _ => {
                    let from = IpAddr::from([[8, 10][next(2) as usize], 0, next(20) as u8, 1]);
                    shelf.put(id, 0, next(400) as usize, from, now);
                }
            }
            let bytes: usize = shelf.entries.values().map(|entry| entry.bytes).sum();
            assert_eq!((shelf.all.ages.len(), shelf.all.bytes), (shelf.len(), bytes));
            assert!(shelf.len() <= ROOM.entries && bytes <= ROOM.bytes);
            for (owner, share) in &shelf.shares {
                let those = shelf.entries.values().filter(|entry| entry.owner == Some(*owner));
                let (count, bytes) = those.fold((0, 0), |(n, bytes), entry| (n + 1, bytes + entry.bytes));
                assert_eq!((share.ages.len(), share.bytes), (count, bytes));
                assert!((1..=ROOM.entries / SHARES).contains(&count) && bytes <= ROOM.bytes / SHARES);
            }
        }
    }

    #[test]
    fn what_nobody_speaks_of_any_more_is_forgotten() {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut shelf = Shelf::new(ROOM, start);
        shelf.put(id(1), 1, 10, ip("8.8.8.8"), start);
        shelf.put(id(2), 2, 20, ip("8.8.8.8"), start);
        shelf.refresh(&id(2), start + hour);
        shelf.expire(2 * hour, start + 2 * hour - Duration::from_secs(1));
        assert_eq!(shelf.len(), 2);
        shelf.expire(2 * hour, start + 2 * hour);
        assert_eq!((shelf.len(), shelf.bytes(), shelf.get(&id(2))), (1, 20, Some(&2)));
        shelf.expire(2 * hour, start + 3 * hour);
        assert_eq!((shelf.len(), shelf.bytes(), shelf.shares.len()), (0, 0, 0));
    }
}
