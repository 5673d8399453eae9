//! The bytes of a small object until it has a file: a file of its own in memory would cost more than all that is in it.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::lock;
use super::mapping::Rent;

/// The bytes of an object of known length. Its memory is part of a budget, until nobody holds a slice of it any more.
pub(super) struct Heap {
    length: usize,
    held: Mutex<Held>,
    rent: Arc<Rent>,
}

enum Held {
    /// What is written so far, without the zeros behind it.
    Growing(Vec<u8>),
    /// All of it was written at once: it is handed out without a copy.
    Whole(Bytes),
}

/// What is handed out, and what its memory belongs to.
struct Rented {
    bytes: Box<[u8]>,
    _rent: Arc<Rent>,
}

impl AsRef<[u8]> for Rented {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Heap {
    /// Room for `length` bytes, for which `rent` was taken: all zeros.
    pub(super) fn new(length: usize, rent: Rent) -> Self {
        Self { length, held: Mutex::new(Held::Growing(Vec::new())), rent: Arc::new(rent) }
    }

    /// Writes `bytes` at `offset`; what is beyond the end is left out. Slices that were taken before do not change.
    pub(super) fn write_at(&self, offset: usize, bytes: &[u8]) {
        let mut held = lock(&self.held);
        if offset == 0 && bytes.len() >= self.length {
            let rented = Rented { bytes: bytes[..self.length].into(), _rent: Arc::clone(&self.rent) };
            *held = Held::Whole(Bytes::from_owner(rented));
            return;
        }
        let mut written = match &mut *held {
            Held::Growing(written) => std::mem::take(written),
            Held::Whole(bytes) => bytes.to_vec(),
        };
        let end = self.length.min(offset + bytes.len());
        if written.capacity() < end {
            written.reserve_exact(self.length - written.len());
        }
        if written.len() < end {
            written.resize(end, 0);
        }
        if let Some(place) = written.get_mut(offset..end) {
            place.copy_from_slice(&bytes[..place.len()]);
        }
        *held = Held::Growing(written);
    }

    /// The bytes of `range`, cut off at the end.
    pub(super) fn bytes(&self, range: Range<usize>) -> Bytes {
        let end = range.end.min(self.length);
        let range = range.start.min(end)..end;
        match &*lock(&self.held) {
            Held::Whole(bytes) => bytes.slice(range),
            Held::Growing(written) => {
                let there = range.start.min(written.len())..range.end.min(written.len());
                let mut bytes = written[there].to_vec();
                bytes.resize(range.len(), 0);
                bytes.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn heap(length: u64) -> (Arc<AtomicU64>, Heap) {
        let budget = Arc::new(AtomicU64::new(length));
        let rent = Rent::take(&budget, length).unwrap();
        (budget, Heap::new(usize::try_from(length).unwrap(), rent))
    }

    #[test]
    fn what_is_written_in_any_order_is_read_and_the_rest_is_zeros() {
        let (_, heap) = heap(8);
        assert_eq!(heap.bytes(0..100)[..], [0; 8]);
        heap.write_at(3, b"de");
        assert_eq!(&heap.bytes(2..7)[..], b"\0de\0\0");
        heap.write_at(0, b"abc");
        heap.write_at(5, b"fghijk");
        assert_eq!(heap.bytes(0..8), "abcdefgh");
        assert!(heap.bytes(8..9).is_empty() && heap.bytes(100..200).is_empty());
    }

    #[test]
    fn a_slice_of_the_whole_stays_what_it_was() {
        let (_, heap) = heap(4);
        heap.write_at(0, b"abcd");
        let (before, again) = (heap.bytes(1..4), heap.bytes(1..4));
        assert_eq!(before.as_ptr(), again.as_ptr(), "without a copy");
        heap.write_at(2, b"X");
        assert_eq!((before, heap.bytes(0..4)), ("bcd".into(), "abXd".into()));
        heap.write_at(0, b"efgh");
        assert_eq!(heap.bytes(0..4), "efgh");
    }

    #[test]
    fn the_memory_is_given_back_with_the_last_slice() {
        let (budget, heap) = heap(4);
        heap.write_at(0, b"abcd");
        let slice = heap.bytes(0..1);
        drop(heap);
        assert!(Rent::take(&budget, 1).is_none());
        drop(slice);
        assert!(Rent::take(&budget, 4).is_some());
    }
}
