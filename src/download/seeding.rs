//! What of the downloads under way is given to other peers meanwhile.

use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::canvas::Canvas;
use super::{Downloads, lock};
use crate::digest::Sha256;
use crate::peer::{Held, Part, Parts};
use crate::pieces::{Geometry, PieceList, PieceSet};
use crate::swarm::Servable;

/// What a flight shows to those who serve peers. They keep no flight in the air: whoever asks is a stranger, and what is
/// wanted here is what apt reads.
#[derive(Debug)]
pub(super) struct Window {
    held: watch::Sender<Arc<Held>>,
    canvas: OnceLock<Arc<Canvas>>,
}

impl Window {
    pub(super) fn new(geometry: Geometry) -> Self {
        // Every `RandomState` has keys of its own: enough to tell this download's tags from those of others.
        let nonce = RandomState::new().build_hasher().finish();
        let nothing = Held {
            have: PieceSet::none(geometry.pieces()),
            states: PieceList::unknown(geometry),
            tag: (nonce, 0),
            withdrawals: 0,
        };
        Self { held: watch::Sender::new(Arc::new(nothing)), canvas: OnceLock::new() }
    }

    /// The flight begins: its bytes are in `canvas`.
    pub(super) fn open(&self, canvas: Arc<Canvas>) {
        let _ = self.canvas.set(canvas);
    }

    /// From here on this is what may be given away. Call it before anything is written over a piece that may not be any
    /// more.
    pub(super) fn show(&self, now: Servable) {
        self.held.send_if_modified(|held| {
            if held.have == now.have && held.states == now.states {
                return false;
            }
            let taken_back = !now.have.includes(&held.have);
            let (nonce, count) = held.tag;
            *held = Arc::new(Held {
                have: now.have,
                states: now.states,
                tag: (nonce, count + 1),
                withdrawals: held.withdrawals + u64::from(taken_back),
            });
            true
        });
    }

    /// The download has come to nothing.
    pub(super) fn close(&self, geometry: Geometry) {
        self.show(Servable { have: PieceSet::none(geometry.pieces()), states: PieceList::unknown(geometry) });
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
