//! How the flight looks from outside, drawn now and then for people.

use std::time::{Duration, Instant};

use super::Flight;
use crate::download::lock;
use crate::download::pictures::{Delivered, Giver, MAX_CELLS, Ongoing, Who, shown_first};
use crate::swarm::SourceId;

/// How often it is drawn: twice as often as anybody is shown it, and an object of 2^18 pieces takes a millisecond.
const EVERY: Duration = Duration::from_millis(500);

impl Flight {
    pub(super) fn draw_if_due(&mut self, now: Instant) {
        if self.drawn_at.is_some_and(|at| now < at + EVERY) {
            return;
        }
        self.drawn_at = Some(now);
        let want = &self.shared.want;
        let (givers, further) = shown_first(self.givers());
        let ongoing = Ongoing {
            id: want.id,
            name: want.name.clone(),
            length: want.length,
            began: self.began,
            picture: self.machine.picture(MAX_CELLS),
            tally: self.tally,
            givers,
            further,
        };
        *lock(&self.shared.picture) = Some(ongoing);
    }

    /// Everybody who gave something, or is asked for something now.
    fn givers(&self) -> Vec<Giver> {
        let asked = |source: Option<SourceId>| self.running.values().any(|fetch| fetch.source == source);
        let idle =
            self.running.values().map(|fetch| fetch.source).filter(|source| !self.given.contains_key(source));
        let mut idle: Vec<_> = idle.map(|source| (source, 0)).collect();
        idle.sort_unstable_by_key(|(source, _)| *source);
        idle.dedup();
        let all = self.given.iter().map(|(source, bytes)| (*source, *bytes)).chain(idle);
        all.filter_map(|(source, bytes)| {
            let who = match source {
                None => Who::Mirror(self.shared.want.mirror.as_ref()?.authority()),
                Some(source) => Who::Peer(self.address(source)?),
            };
            Some(Giver { who, bytes, active: asked(source) })
        })
        .collect()
    }

    /// The object is whole: it goes to those that were delivered lately.
    pub(super) fn note_delivered(&self) {
        let want = &self.shared.want;
        let tally = Some(self.tally);
        let delivered = Delivered::new(want.id, &want.name, want.length, tally, crate::clock::now());
        lock(&self.context.deliveries).note(delivered);
    }
}
