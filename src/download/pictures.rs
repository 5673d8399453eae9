//! What is being downloaded and what came lately, for people to look at. All of it is bounded.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::flight::Shared;
use super::{Downloads, Stage, Tally, lock};
use crate::clock;
use crate::digest::Sha256;
use crate::swarm::Picture;

/// The most downloads that are shown: a person reads no more.
const MAX_ONGOING: usize = 50;

/// The most objects that are remembered after they came.
const MAX_DELIVERED: usize = 50;

/// The most cells that pieces are drawn in: more are not told apart on a screen.
pub(super) const MAX_CELLS: usize = 200;

/// The most sources that are shown of a download.
const MAX_GIVERS: usize = 12;

/// The longest name that is kept, in characters: a URL decides how long it is.
const MAX_NAME: usize = 200;

/// A download under way.
#[derive(Debug, Clone)]
pub struct Ongoing {
    /// The object.
    pub id: Sha256,
    /// What it is called; whoever asked decides.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Since when.
    pub began: Instant,
    /// How far it is.
    pub picture: Picture,
    /// What came so far.
    pub tally: Tally,
    /// Who gave how much, the most first.
    pub givers: Vec<Giver>,
    /// How many more there are.
    pub further: usize,
}

/// A source of a download, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Giver {
    /// Who.
    pub who: Who,
    /// How many bytes came from there.
    pub bytes: u64,
    /// Whether it is asked for something now.
    pub active: bool,
}

/// Who gives something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The mirror, by its host.
    Mirror(String),
    /// A peer.
    Peer(SocketAddr),
}

/// An object that apt has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The object.
    pub id: Sha256,
    /// What it was called.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Where it came from; `None` is the cache.
    pub tally: Option<Tally>,
    /// When.
    pub at: Instant,
}

impl Delivered {
    pub(super) fn new(id: Sha256, name: &str, length: u64, tally: Option<Tally>, at: Instant) -> Self {
        Self { id, name: name.chars().take(MAX_NAME).collect(), length, tally, at }
    }
}

/// What came lately, the newest first.
#[derive(Debug, Default)]
pub(super) struct Deliveries(VecDeque<Delivered>);

impl Deliveries {
    /// The same from the same again is no news: apt asks for parts.
    pub(super) fn note(&mut self, delivered: Delivered) {
        let same = |known: &Delivered| known.id == delivered.id && known.tally == delivered.tally;
        if self.0.front().is_some_and(same) {
            self.0.pop_front();
        }
        self.0.push_front(delivered);
        self.0.truncate(MAX_DELIVERED);
    }
}

impl Downloads {
    /// The downloads under way, those that began first, 50 at most; and how many there are.
    pub fn ongoing(&self) -> (Vec<Ongoing>, usize) {
        let running = |shared: &Arc<Shared>| matches!(shared.progress.borrow().stage, Stage::Running);
        let mut flights: Vec<_> = lock(&self.flights).values().cloned().collect();
        // What is whole only waits for the disk.
        flights.retain(running);
        let mut ongoing: Vec<Ongoing> =
            flights.iter().filter_map(|shared| lock(&shared.picture).clone()).collect();
        ongoing.sort_by_key(|download| (download.began, download.id));
        ongoing.truncate(MAX_ONGOING);
        (ongoing, flights.len())
    }

    /// The objects that apt has got lately, the newest first, 50 at most.
    pub fn delivered(&self) -> Vec<Delivered> {
        lock(&self.context.deliveries).0.iter().cloned().collect()
    }

    /// An object was given from the store; `path` is what it was asked for by.
    pub fn note_served(&self, id: Sha256, length: u64, path: &str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        lock(&self.context.deliveries).note(Delivered::new(id, name, length, None, clock::now()));
    }
}

/// Those that gave most, and how many are left out.
pub(super) fn shown_first(mut givers: Vec<Giver>) -> (Vec<Giver>, usize) {
    givers.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.who.rank().cmp(&b.who.rank())));
    let further = givers.len().saturating_sub(MAX_GIVERS);
    givers.truncate(MAX_GIVERS);
    (givers, further)
}

impl Who {
    const fn rank(&self) -> Option<&SocketAddr> {
        match self {
            Self::Mirror(_) => None,
            Self::Peer(address) => Some(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_lately_is_bounded_and_the_same_again_is_one() {
        let (mut lately, now) = (Deliveries::default(), clock::now());
        let one = |number: u32, tally| Delivered::new(Sha256::of(&number.to_be_bytes()), "x", 1, tally, now);
        (0..100).for_each(|number| lately.note(one(number, None)));
        assert_eq!((lately.0.len(), lately.0[0].id), (MAX_DELIVERED, one(99, None).id));
        lately.note(one(99, None));
        assert_ne!(lately.0[1].id, one(99, None).id);
        lately.note(one(99, Some(Tally::default())));
        assert_eq!(lately.0[1], one(99, None));
        let long = Delivered::new(Sha256::of(b""), &"ü".repeat(5000), 1, None, now);
        assert_eq!(long.name.chars().count(), MAX_NAME);
    }

    #[test]
    fn those_who_gave_most_are_shown_and_the_others_counted() {
        let peer = |port: u16| Giver {
            who: Who::Peer(([192, 0, 2, 1], port).into()),
            bytes: u64::from(port),
            active: false,
        };
        let mirror = Giver { who: Who::Mirror("mirror.example.org".into()), bytes: 100, active: true };
        let all = (1..=20).map(peer).chain([mirror.clone()]).collect();
        let (shown, further) = shown_first(all);
        assert_eq!((shown.len(), further), (MAX_GIVERS, 9));
        assert_eq!((&shown[0], &shown[1]), (&mirror, &peer(20)));
    }
}
