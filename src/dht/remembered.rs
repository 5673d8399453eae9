//! Who was closest to a point lately: announcing it again asks these instead of walking there anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::id::Id;
use super::lookup::Holder;

/// Walks that are remembered, 8 nodes and tokens each: some 1.2 KiB, 2.4 MiB in all.
const MAX_WALKS: usize = 2048;

/// The neighbourhood of a point hardly changes within an hour.
const NODES_KEEP: Duration = Duration::from_secs(60 * 60);

/// A token is accepted for up to ten minutes (BEP 5), and by careful nodes for five.
const TOKENS_KEEP: Duration = Duration::from_secs(4 * 60);

/// The nodes that were closest at the end of each walk.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    walks: BTreeMap<(Id, Kind), (Instant, Vec<Holder>)>,
}

/// What a token was given for: some nodes do not take that of one for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `get_peers`
    Peers,
    /// `get` (BEP 44)
    Items,
}

impl Remembered {
    /// Remembers the end of a walk; the oldest makes room.
    pub(super) fn keep(&mut self, target: Id, kind: Kind, closest: Vec<Holder>, now: Instant) {
        if closest.is_empty() {
            return;
        }
        if self.walks.len() >= MAX_WALKS && !self.walks.contains_key(&(target, kind)) {
            let oldest = self.walks.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| *key);
            oldest.map(|key| self.walks.remove(&key));
        }
        self.walks.insert((target, kind), (now, closest));
    }

    /// The nodes that are worth asking first.
    pub(super) fn nodes(&self, target: Id, kind: Kind, now: Instant) -> &[Holder] {
        match self.walks.get(&(target, kind)) {
            Some((at, closest)) if now.saturating_duration_since(*at) < NODES_KEEP => closest,
            _ => &[],
        }
    }

    /// The nodes that can be told something without being asked before: all of them, or none.
    pub(super) fn with_tokens(&self, target: Id, kind: Kind, now: Instant) -> Option<Vec<Holder>> {
        let closest = self.nodes(target, kind, now);
        let fresh = |holder: &Holder| now.saturating_duration_since(holder.told_at) < TOKENS_KEEP;
        (!closest.is_empty() && closest.iter().all(fresh)).then(|| closest.to_vec())
    }

    /// Forgets a walk that led nowhere the second time.
    pub(super) fn forget(&mut self, target: Id, kind: Kind) {
        self.walks.remove(&(target, kind));
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        self.walks.retain(|_, (at, _)| now.saturating_duration_since(*at) < NODES_KEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::address::Contact;

    fn holders(told_at: Instant) -> Vec<Holder> {
        let node = Contact { id: Id::new([1; 20]), address: ([60, 1, 1, 1], 1).into() };
        vec![Holder { node, token: b"token".as_slice().into(), told_at }]
    }

    fn point(n: usize) -> Id {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        Id::new(bytes)
    }

    #[test]
    fn tokens_age_faster_than_nodes() {
        let start = Instant::now();
        let mut remembered = Remembered::default();
        remembered.keep(point(1), Kind::Peers, holders(start), start);
        assert!(remembered.with_tokens(point(1), Kind::Items, start).is_none());
        let soon = start + Duration::from_secs(200);
        assert!(remembered.with_tokens(point(1), Kind::Peers, soon).is_some());
        let later = start + Duration::from_secs(30 * 60);
        assert!(remembered.with_tokens(point(1), Kind::Peers, later).is_none());
        assert_eq!(remembered.nodes(point(1), Kind::Peers, later).len(), 1);
        let too_late = start + NODES_KEEP;
        assert!(remembered.nodes(point(1), Kind::Peers, too_late).is_empty());
        remembered.expire(too_late);
        assert!(remembered.walks.is_empty());
    }

    #[test]
    fn the_oldest_makes_room() {
        let start = Instant::now();
        let mut remembered = Remembered::default();
        for n in 0..=MAX_WALKS {
            let now = start + Duration::from_millis(n as u64);
            remembered.keep(point(n), Kind::Peers, holders(now), now);
        }
        assert_eq!(remembered.walks.len(), MAX_WALKS);
        assert!(!remembered.walks.contains_key(&(point(0), Kind::Peers)));
    }
}
