//! The places of pieces in flight from peers, all downloads together: each is a buffer for one piece.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bounded number of places. Their buffers are used again while any place is taken: a fresh buffer of 4 MiB costs a
/// thousand page faults, a tenth of all that a download from fast peers costs. The last one out gives the memory back.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    buffers: Arc<Mutex<Buffers>>,
}

#[derive(Debug, Default)]
struct Buffers {
    taken: usize,
    /// Empty, but with the room they had; at most as many as there are places.
    idle: Vec<Vec<u8>>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), buffers: Arc::default() }
    }

    /// Waits for a place whose buffer is empty and has room for `length` bytes.
    pub(super) async fn take(&self, length: usize) -> Option<Place> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        let mut buffer = {
            let mut buffers = lock(&self.buffers);
            buffers.taken += 1;
            buffers.idle.pop().unwrap_or_default()
        };
        buffer.reserve_exact(length);
        Some(Place { buffers: self.buffers.clone(), buffer, _permit: permit })
    }
}

fn lock(buffers: &Mutex<Buffers>) -> MutexGuard<'_, Buffers> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    buffers: Arc<Mutex<Buffers>>,
    pub(super) buffer: Vec<u8>,
    // Dropped last: there are never more buffers than places.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut buffers = lock(&self.buffers);
        buffers.taken -= 1;
        buffers.idle.push(buffer);
        let unused = if buffers.taken == 0 { std::mem::take(&mut buffers.idle) } else { Vec::new() };
        // Freeing takes its time: not under the lock.
        drop(buffers);
        drop(unused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_is_used_again_while_another_place_is_taken() {
        let places = Places::new(2);
        let _other = places.take(10).await.unwrap();
        let mut place = places.take(1000).await.unwrap();
        place.buffer.extend_from_slice(b"bytes");
        let address = place.buffer.as_ptr();
        drop(place);
        let again = places.take(500).await.unwrap();
        assert!(again.buffer.is_empty());
        assert_eq!(again.buffer.as_ptr(), address);
    }

    #[tokio::test]
    async fn the_last_one_out_gives_the_memory_back() {
        let places = Places::new(2);
        let (one, two) = (places.take(1000).await, places.take(1000).await);
        drop(one);
        assert_eq!(lock(&places.buffers).idle.len(), 1);
        drop(two);
        assert!(lock(&places.buffers).idle.is_empty());
    }
}
