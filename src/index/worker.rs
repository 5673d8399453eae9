//! What waits to be read, and who reads it.

use super::inner::Inner;
use super::{Open, OpenStored};
use crate::digest::Sha256;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The most that waits. One `apt-get update` of a machine with many sources has some thirty indexes.
const MAX_QUEUED: usize = 128;

/// One thing to do, on a thread that may block.
pub(super) enum Work {
    Lists,
    Replay(OpenStored),
    Index { digest: Sha256, open: Open },
}

/// Work that waits, and all that is not done yet.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Job>,
    receiver: Mutex<Option<mpsc::Receiver<Job>>>,
    pending: watch::Sender<Outstanding>,
}

/// What was begun and is not done, by the number that it got when it was begun.
#[derive(Debug, Default)]
struct Outstanding {
    next: u64,
    numbers: BTreeSet<u64>,
}

struct Job {
    work: Work,
    _pending: Pending,
}

/// Something that was begun and is not done until this is dropped.
#[derive(Debug)]
pub(super) struct Pending {
    number: u64,
    all: watch::Sender<Outstanding>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.all.send_modify(|all| {
            all.numbers.remove(&self.number);
        });
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        Self { sender, receiver: Mutex::new(Some(receiver)), pending: watch::Sender::default() }
    }

    /// Counts something as begun.
    pub(super) fn pending(&self) -> Pending {
        let mut number = 0;
        self.pending.send_modify(|all| {
            number = all.next;
            all.next += 1;
            all.numbers.insert(number);
        });
        Pending { number, all: self.pending.clone() }
    }

    /// False where too much waits, or nobody works any more.
    pub(super) fn push(&self, work: Work) -> bool {
        self.sender.try_send(Job { work, _pending: self.pending() }).is_ok()
    }

    /// Waits until all that was begun before is done.
    pub(super) async fn settled(&self, patience: Duration) -> bool {
        let mut pending = self.pending.subscribe();
        // What is begun from now on is not waited for: where requests keep coming, something always is.
        let next = pending.borrow().next;
        let done = pending.wait_for(|all| all.numbers.first().is_none_or(|first| *first >= next));
        tokio::time::timeout(patience, done).await.is_ok_and(|waited| waited.is_ok())
    }
}

/// Does what is queued, one after the other, until `shutdown`.
pub(super) async fn run(inner: &Arc<Inner>, shutdown: &CancellationToken) {
    let receiver = inner.queue.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut jobs) = receiver else {
        tracing::error!("the index is run twice");
        return;
    };
    loop {
        let job = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            job = jobs.recv() => job,
        };
        let Some(job) = job else { break };
        let worker = Arc::clone(inner);
        let mut done = tokio::task::spawn_blocking(move || worker.work(job));
        let ended = tokio::select! {
            ended = &mut done => ended,
            () = shutdown.cancelled() => {
                inner.stopping.store(true, Ordering::Relaxed);
                done.await
            }
        };
        if let Err(error) = ended {
            tracing::error!(%error, "a reading of the index failed");
        }
    }
    inner.stopping.store(true, Ordering::Relaxed);
}

impl Inner {
    fn work(&self, job: Job) {
        match job.work {
            Work::Lists => {
                // Cleared first: what changes from now on needs another turn.
                self.lists_queued.store(false, Ordering::Release);
                if let Some(lists) = &self.lists {
                    lists.scan(self);
                }
            }
            Work::Replay(mut open) => self.replay(&mut open),
            Work::Index { digest, open } => {
                if let Err(error) = self.learn_index(digest, open) {
                    tracing::info!(%error, %digest, "cannot use an index");
                }
            }
        }
    }
}

/// A source that fails once the daemon stops, so that nobody waits for the end of a long index.
pub(super) struct Stoppable<'a, R> {
    pub(super) source: R,
    pub(super) stopping: &'a AtomicBool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the daemon is stopping"));
        }
        self.source.read(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_begins_later_is_not_waited_for() {
        let queue = Queue::new();
        let before = queue.pending();
        let waiting = queue.settled(Duration::from_secs(30));
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it did not wait for what had begun"),
            () = tokio::task::yield_now() => {}
        }
        let _later = queue.pending();
        drop(before);
        assert!(waiting.await);
        assert!(!queue.settled(Duration::from_millis(1)).await);
    }
}
