//! What is kept of a download: on the way, when it is broken off, and when it is whole.

use std::time::Duration;

use tokio::task::JoinError;
use tracing::{debug, info, warn};

use super::Flight;
use crate::clock;
use crate::digest::Sha256;
use crate::download::Stage;
use crate::download::entrance::Whole;
use crate::metrics::VerificationFailure;
use crate::pieces::{Kept, PieceIndex};
use crate::store::{Scope, StoreError};

/// How often it is written down what a download has: so much is lost at most when the process is killed. The bytes must be on
/// disk before, which they will have to be in the end anyway.
const CHECKPOINT: Duration = Duration::from_secs(3);

impl Flight {
    /// Goes on from what an earlier download has left.
    pub(super) fn resume(&mut self) {
        let kept = self.canvas.assembly().resumed();
        if kept.is_empty() {
            return;
        }
        self.machine.resume(&kept);
        let geometry = self.canvas.geometry();
        let length = |kept: &Kept| geometry.range(kept.piece).end - geometry.range(kept.piece).start;
        let bytes = kept.iter().map(length).sum();
        self.context.metrics.bytes_resumed(bytes);
        info!(object = %self.shared.want.id, name = self.shared.want.name, bytes, "going on with a download");
    }

    /// A piece that an earlier download has left is not what it was.
    pub(super) fn handle_damaged(&mut self, piece: PieceIndex) {
        // Several readers may have come upon it.
        if !self.machine.handle_damaged(piece) {
            return;
        }
        warn!(object = %self.shared.want.id, piece, "a piece of a broken off download is damaged on disk");
        self.context.metrics.verification_failed(VerificationFailure::Stored);
        // Before it is opened for writing: whoever looks at it then sees that it is not released.
        self.publish_progress(Stage::Running);
    }

    /// Writes down what is linked, now and then, beside the work.
    pub(super) fn checkpoint_if_due(&mut self) {
        let (now, revision) = (clock::now(), self.machine.revision());
        let due = now >= self.saved_at + CHECKPOINT && revision != self.saved;
        if !due || !self.saving.is_empty() || self.canvas.geometry().pieces() == 1 {
            return;
        }
        (self.saved_at, self.saved) = (now, revision);
        let (canvas, kept) = (self.canvas.clone(), self.machine.worth_keeping(now));
        self.saving.spawn_blocking(move || canvas.assembly().checkpoint(&kept));
    }

    /// Leaves what there is to the next who wants the object.
    pub(super) async fn leave(&mut self) {
        let (canvas, kept) = (self.canvas.clone(), self.machine.worth_keeping(clock::now()));
        self.saving.spawn_blocking(move || canvas.assembly().leave(&kept));
        while let Some(saved) = self.saving.join_next().await {
            note_saved(self.shared.want.id, saved);
        }
    }

    /// The finished object, if it can be kept.
    pub(super) fn whole(&mut self) -> Option<Whole> {
        self.canvas.assembly().is_publishable().then(|| Whole {
            canvas: self.canvas.clone(),
            states: self.machine.ledger().inner_states().unwrap_or_default(),
            last_modified: self.last_modified.take(),
            scope: if self.shared.is_local() { Scope::Local } else { Scope::Public },
            prompt: self.shared.want.prompt,
        })
    }
}

pub(super) fn note_saved(object: Sha256, saved: Result<Result<(), StoreError>, JoinError>) {
    match saved {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%object, %error, "what there is of a download could not be written down"),
        Err(error) => warn!(%object, %error, "writing down what there is of a download failed"),
    }
}
