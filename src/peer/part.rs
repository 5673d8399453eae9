//! Objects that are still on their way: what of them may be given away already, and waiting for more of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::ready;
use futures_util::stream::{Stream, TryStreamExt as _, try_unfold};
use tokio::sync::watch;

use crate::digest::Sha256;
use crate::http::Throttle;
use crate::pieces::{Geometry, PieceList, PieceSet};
use crate::wire::Intent;

/// How much is handed out at once: a full socket buffer, and soon enough.
const CHUNK: u64 = 256 << 10;

/// Who knows the objects of which a part is here.
pub trait Parts: Send + Sync + 'static {
    /// What is here of the object `id`, if it is on its way.
    fn part(&self, id: &Sha256) -> Option<Part>;
}

/// Nothing is ever on its way: for a site that serves a store and no more.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoParts;

impl Parts for NoParts {
    fn part(&self, _id: &Sha256) -> Option<Part> {
        None
    }
}

/// What of an object may be given away at one moment.
#[derive(Debug, Clone)]
pub struct Held {
    /// The pieces.
    pub have: PieceSet,
    /// The states that we vouch for.
    pub states: PieceList,
    /// What we are about to do about the rest; `None` where that concerns nobody.
    pub intent: Option<Intent>,
    /// Differs between any two of these, also of different downloads.
    pub tag: (u64, u64),
    /// How often a piece was taken back that could be had before: who is being sent something gets no more of it.
    pub withdrawals: u64,
}

/// Gives the bytes of a range that is held, without a copy; `None` where they turn out not to be what they were. It may read
/// the disk, within a multi-thread runtime.
pub type Reading = Arc<dyn Fn(Range<u64>) -> Option<Bytes> + Send + Sync>;

/// An object that is on its way.
#[derive(Clone)]
pub struct Part {
    id: Sha256,
    geometry: Geometry,
    held: watch::Receiver<Arc<Held>>,
    bytes: Reading,
    local: bool,
}

/// A piece that was being sent has been taken back.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("what is being sent proved wrong")]
pub(super) struct Withdrawn;

impl Part {
    /// The object `id`; `held` changes as more of it comes, `bytes` gives what is held.
    pub fn new(id: Sha256, geometry: Geometry, held: watch::Receiver<Arc<Held>>, bytes: Reading) -> Self {
        Self { id, geometry, held, bytes, local: false }
    }

    /// The same; where `local`, it is for the local network and members of our private swarm alone.
    #[must_use]
    pub fn within(self, local: bool) -> Self {
        Self { local, ..self }
    }

    pub(super) const fn is_local(&self) -> bool {
        self.local
    }

    pub(super) const fn id(&self) -> Sha256 {
        self.id
    }

    pub(super) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What may be given away now.
    pub(super) fn held(&self) -> Arc<Held> {
        self.held.borrow().clone()
    }

    /// Waits until `enough` is held, for `limit` at most; at once where nothing will come any more.
    pub(super) async fn wait(&mut self, limit: Duration, enough: impl Fn(&Held) -> bool) {
        let enough = self.held.wait_for(|held| enough(held));
        let _ = tokio::time::timeout(limit, enough).await;
    }

    /// The beginning of `range`, as far as it is held without a gap; `None` where not even its first byte is.
    pub(super) fn run(&self, range: Range<u64>) -> Option<Range<u64>> {
        let held = self.held();
        let first = self.geometry.piece_at(range.start);
        let last = self.geometry.piece_at(range.end.saturating_sub(1).max(range.start));
        let end = (first..=last).take_while(|piece| held.have.contains(*piece)).last()?;
        Some(range.start..range.end.min(self.geometry.range(end).end))
    }

    /// The bytes of a range that is held, chunk by chunk, no faster than the limit allows. It ends with an error where some of
    /// them were taken back: a connection that breaks off is better than bytes that are not the object's.
    pub(super) fn chunks(
        self,
        range: Range<u64>,
        throttle: &Throttle,
    ) -> impl Stream<Item = Result<Bytes, Withdrawn>> + Send + use<> {
        let withdrawals = self.held.borrow().withdrawals;
        let now = self.held.clone();
        let chunks = try_unfold((self, range), |(part, mut range)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            let bytes = (part.bytes)(range.start..range.end.min(range.start + CHUNK)).ok_or(Withdrawn)?;
            range.start += bytes.len() as u64;
            Ok(Some((bytes, (part, range))))
        });
        // Looked at after the slice was taken, and after it had its turn: what is in it was right until now.
        throttle.stream(chunks).and_then(move |bytes| {
            ready(if now.borrow().withdrawals == withdrawals { Ok(bytes) } else { Err(Withdrawn) })
        })
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("id", &self.id).field("held", &self.held()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::PIECE_LENGTH;

    const LENGTH: u64 = 3 * PIECE_LENGTH + 5;

    fn held(pieces: &[u32], withdrawals: u64) -> Arc<Held> {
        let geometry = Geometry::new(LENGTH).unwrap();
        let mut have = PieceSet::none(4);
        pieces.iter().for_each(|piece| have.insert(*piece));
        let states = PieceList::unknown(geometry);
        Arc::new(Held { have, states, intent: None, tag: (1, withdrawals), withdrawals })
    }

    fn part(pieces: &[u32]) -> (watch::Sender<Arc<Held>>, Part) {
        let (sender, receiver) = watch::channel(held(pieces, 0));
        let bytes =
            |range: Range<u64>| Some(Bytes::from(vec![7; usize::try_from(range.end - range.start).unwrap()]));
        let geometry = Geometry::new(LENGTH).unwrap();
        (sender, Part::new(Sha256::of(b"x"), geometry, receiver, Arc::new(bytes)))
    }

    #[test]
    fn a_run_ends_where_something_is_missing() {
        let (_sender, part) = part(&[0, 1, 3]);
        assert_eq!(part.run(5..LENGTH), Some(5..2 * PIECE_LENGTH));
        assert_eq!(part.run(5..9), Some(5..9));
        assert_eq!(part.run(2 * PIECE_LENGTH..LENGTH), None);
        assert_eq!(part.run(3 * PIECE_LENGTH..LENGTH), Some(3 * PIECE_LENGTH..LENGTH));
    }

    #[tokio::test]
    async fn whoever_is_sent_what_is_taken_back_gets_no_more() {
        let (sender, part) = part(&[0, 1]);
        let mut chunks = Box::pin(part.clone().chunks(0..2 * PIECE_LENGTH, &Throttle::default()));
        assert_eq!(chunks.try_next().await.unwrap().unwrap().len() as u64, CHUNK);
        sender.send_replace(held(&[0, 1, 2], 0));
        assert!(chunks.try_next().await.unwrap().is_some(), "more of it is no reason to stop");
        sender.send_replace(held(&[0], 1));
        assert!(chunks.try_next().await.is_err());
    }

    #[tokio::test]
    async fn waiting_ends_with_what_is_waited_for_or_with_the_download() {
        let (sender, mut part) = part(&[0]);
        let later = tokio::spawn(async move {
            sender.send_replace(held(&[0, 1], 0));
            tokio::task::yield_now().await;
            drop(sender);
        });
        part.wait(Duration::from_secs(60), |held| held.have.contains(1)).await;
        assert!(part.held().have.contains(1));
        part.wait(Duration::from_secs(60), |held| held.have.contains(2)).await;
        later.await.unwrap();
    }
}
