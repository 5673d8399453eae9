//! What of the downloads under way is given to other peers meanwhile.

use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::watch;

use super::canvas::Canvas;
use super::{Downloads, lock};
use crate::clock;
use crate::digest::Sha256;
use crate::peer::{Held, Part, Parts};
use crate::pieces::{Geometry, PieceList, PieceSet};
use crate::swarm::Servable;
use crate::wire::Intent;

/// What a flight shows to those who serve peers. They keep no flight in the air: whoever asks is a stranger, and what is
/// wanted here is what apt reads.
#[derive(Debug)]
pub(super) struct Window {
    held: watch::Sender<Arc<Held>>,
    canvas: OnceLock<Arc<Canvas>>,
    /// When the flight began.
    since: OnceLock<Instant>,
}

/// An object of several pieces on its way. Of one that has just begun there is nothing to give away yet, but those who want it
/// too can find us: in a crowd nobody is ahead before they know of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growing {
    /// The object.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// Since when it is on its way.
    pub since: Instant,
}

impl Window {
    /// Nothing is held yet; `intent` is what is said of that until there is more to say.
    pub(super) fn new(geometry: Geometry, intent: Option<Intent>) -> Self {
        // Every `RandomState` has keys of its own: enough to tell this download's tags from those of others.
        let nonce = RandomState::new().build_hasher().finish();
        let nothing = Held {
            have: PieceSet::none(geometry.pieces()),
            states: PieceList::unknown(geometry),
            intent,
            tag: (nonce, 0),
            withdrawals: 0,
        };
        Self { held: watch::Sender::new(Arc::new(nothing)), canvas: OnceLock::new(), since: OnceLock::new() }
    }

    /// The flight begins: its bytes are in `canvas`.
    pub(super) fn open(&self, canvas: Arc<Canvas>) {
        let _ = self.canvas.set(canvas);
        let _ = self.since.set(clock::now());
    }

    /// From here on this is what may be given away. Call it before anything is written over a piece that may not be any
    /// more.
    pub(super) fn show(&self, now: Servable, intent: Option<Intent>) {
        self.held.send_if_modified(|held| {
            if held.have == now.have && held.states == now.states && held.intent == intent {
                return false;
            }
            let taken_back = !now.have.includes(&held.have);
            let (nonce, count) = held.tag;
            *held = Arc::new(Held {
                have: now.have,
                states: now.states,
                intent,
                tag: (nonce, count + 1),
                withdrawals: held.withdrawals + u64::from(taken_back),
            });
            true
        });
    }

    /// The download has come to nothing.
    pub(super) fn close(&self, geometry: Geometry) {
        let nothing =
            Servable { have: PieceSet::none(geometry.pieces()), states: PieceList::unknown(geometry) };
        self.show(nothing, None);
    }
}

impl Downloads {
    /// What is on its way and can be given away in part, now or soon.
    pub fn growing(&self) -> Vec<Growing> {
        let flights = lock(&self.flights);
        let growing = flights.iter().filter_map(|(id, shared)| {
            let geometry = shared.window.canvas.get()?.geometry();
            let since = *shared.window.since.get()?;
            let shown = geometry.pieces() > 1 && !shared.is_local();
            shown.then(|| Growing { id: *id, length: geometry.length(), since })
        });
        growing.collect()
    }

    /// Changes whenever there is another one of these.
    pub fn begun(&self) -> watch::Receiver<u64> {
        self.context.growing.subscribe()
    }
}

impl Parts for Downloads {
    fn part(&self, id: &Sha256) -> Option<Part> {
        let shared = lock(&self.flights).get(id).cloned()?;
        let canvas = shared.window.canvas.get()?.clone();
        let geometry = canvas.geometry();
        let bytes = Arc::new(move |range| canvas.is_sound(&range).then(|| canvas.bytes(range)));
        let part = Part::new(*id, geometry, shared.window.held.subscribe(), bytes);
        Some(part.within(shared.is_local()))
    }
}
