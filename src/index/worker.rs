//! What waits to be read, and who reads it.

use super::inner::Inner;
use super::{Open, OpenStored};
use crate::digest::Sha256;
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

/// Work that waits, and the count of what is not done yet.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Job>,
    receiver: Mutex<Option<mpsc::Receiver<Job>>>,
    pending: watch::Sender<usize>,
}

struct Job {
    work: Work,
    _pending: Pending,
}

/// Something that was begun and is not done until this is dropped.
#[derive(Debug)]
pub(super) struct Pending(watch::Sender<usize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        Self { sender, receiver: Mutex::new(Some(receiver)), pending: watch::Sender::new(0) }
    }

    /// Counts something as begun.
    pub(super) fn pending(&self) -> Pending {
        self.pending.send_modify(|count| *count += 1);
        Pending(self.pending.clone())
    }

    /// False where too much waits, or nobody works any more.
    pub(super) fn push(&self, work: Work) -> bool {
        self.sender.try_send(Job { work, _pending: self.pending() }).is_ok()
    }

    pub(super) async fn settled(&self, patience: Duration) -> bool {
        let mut pending = self.pending.subscribe();
        let none_left = pending.wait_for(|count| *count == 0);
        tokio::time::timeout(patience, none_left).await.is_ok_and(|counted| counted.is_ok())
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
