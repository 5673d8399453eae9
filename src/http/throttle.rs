//! A limit on how fast bytes move, shared by all streams that pass through it.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::stream::{Stream, StreamExt as _, try_unfold};

use super::bucket::Bucket;
use crate::clock;

/// A turn that is due so soon has come: what goes early now makes the next one wait longer, and a large limit does not cost a
/// timer for every frame.
const SOON: Duration = Duration::from_millis(5);

/// A limit in bytes a second. Clones share it.
///
/// Nobody holds anything while he waits: a stream whose reader has gone away keeps no other waiting.
#[derive(Debug, Clone, Default)]
pub struct Throttle(Option<Arc<Mutex<Bucket>>>);

impl Throttle {
    /// A limit of so many bytes a second; `None` is none.
    pub fn new(rate: Option<NonZeroU64>) -> Self {
        Self(rate.map(|rate| Arc::new(Mutex::new(Bucket::new(rate, clock::now())))))
    }

    /// The next turn of a stream that has `wanted` bytes to move, at least one.
    pub fn turn(&self, wanted: usize) -> Turn {
        let Some(bucket) = &self.0 else { return Turn { bytes: wanted, reserved: None } };
        let now = clock::now();
        let (bytes, due) = lock(bucket).reserve(wanted as u64, now);
        let bytes = usize::try_from(bytes).unwrap_or(wanted);
        Turn { bytes, reserved: (due > now + SOON).then(|| Reserved { bucket: bucket.clone(), bytes, due }) }
    }

    /// The bytes of `stream`, no faster than the limit allows; frames are split where they are too large for a turn.
    pub fn stream<S, E>(&self, stream: S) -> impl Stream<Item = Result<Bytes, E>> + Send + use<S, E>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Send,
    {
        if self.0.is_none() {
            return Either::Left(stream);
        }
        let passing = (Box::pin(stream), Bytes::new(), self.clone());
        Either::Right(try_unfold(passing, |(mut stream, mut held, throttle)| async move {
            if held.is_empty() {
                let Some(next) = stream.next().await else { return Ok(None) };
                held = next?;
            }
            if held.is_empty() {
                return Ok(Some((held, (stream, Bytes::new(), throttle))));
            }
            let mut turn = throttle.turn(held.len());
            turn.come().await;
            let bytes = held.split_to(turn.bytes());
            Ok(Some((bytes, (stream, held, throttle))))
        }))
    }
}

/// A turn: how many bytes may move, and when. One that is dropped before it has come is given back.
#[derive(Debug)]
pub struct Turn {
    bytes: usize,
    /// `None` once it has come.
    reserved: Option<Reserved>,
}

#[derive(Debug)]
struct Reserved {
    bucket: Arc<Mutex<Bucket>>,
    bytes: usize,
    due: Instant,
}

impl Turn {
    /// How many bytes may move; never more than were wanted.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether they may move at once.
    pub const fn is_now(&self) -> bool {
        self.reserved.is_none()
    }

    /// Waits for it.
    pub async fn come(&mut self) {
        if let Some(reserved) = &self.reserved {
            tokio::time::sleep_until(reserved.due.into()).await;
            self.reserved = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(Reserved { bucket, bytes, .. }) = self.reserved.take() {
            lock(&bucket).give_back(bytes as u64, clock::now());
        }
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;
    use futures_util::stream;
    use std::convert::Infallible;

    fn limit(rate: u64) -> Throttle {
        Throttle::new(NonZeroU64::new(rate))
    }

    fn frames(count: usize, length: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        stream::iter((0..count).map(move |_| Ok(Bytes::from(vec![1; length]))))
    }

    async fn length(stream: impl Stream<Item = Result<Bytes, Infallible>>) -> usize {
        stream.try_fold(0, |sum, bytes| async move { Ok(sum + bytes.len()) }).await.unwrap()
    }

    #[tokio::test]
    async fn every_byte_passes_and_takes_its_time() {
        let started = clock::now();
        assert_eq!(length(limit(500_000).stream(frames(5, 100_000))).await, 500_000);
        assert!(clock::now() - started >= Duration::from_millis(750));
        assert_eq!(length(limit(0).stream(frames(5, 100_000))).await, 500_000);
    }

    #[tokio::test]
    async fn streams_that_nobody_reads_keep_no_other_waiting() {
        let throttle = limit(1_000_000);
        let mut stuck: Vec<_> = (0..50).map(|_| Box::pin(throttle.stream(frames(9, 100_000)))).collect();
        for stream in &mut stuck {
            // Each takes what there is, or reserves its turn; then nobody asks it again.
            let _ = futures_util::poll!(stream.next());
        }
        let started = clock::now();
        assert_eq!(length(throttle.stream(frames(1, 100_000))).await, 100_000);
        assert!(clock::now() - started < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn what_is_given_up_is_given_back() {
        let throttle = limit(10_000);
        for _ in 0..1_000 {
            drop(throttle.turn(1 << 20));
        }
        let started = clock::now();
        let mut turn = throttle.turn(1 << 20);
        turn.come().await;
        assert!(clock::now() - started < Duration::from_secs(1));
    }
}
