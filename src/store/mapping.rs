//! The shared, read-only mapping of a file: the one place where memory is unsafe.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// Maps the first `length` bytes of `file` for reading; an empty range needs no mapping.
///
/// The mapping lives as long as any slice of what is returned, also when the file is unlinked. `rent` is given back
/// when it ends.
pub(super) fn map(file: &File, length: u64, rent: Option<Rent>) -> io::Result<Bytes> {
    if length == 0 {
        return Ok(Bytes::new());
    }
    let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    // SAFETY: a mapping is sound as long as its bytes neither vanish nor change under a reader. What we promise:
    //
    // - Nobody but this store writes below its directory, and no code of the store ever truncates a file once it is
    //   mapped. A published object is never written again. An assembly is written with pwrite(2), never through
    //   memory; its readers ask for pieces that are linked, and those are written again only where a download starts
    //   over, after which nobody trusts the old slices.
    // - A file that somebody else may write, one in place or one with another name than ours, is never mapped but read.
    // - Should a stranger break the first promise: an object is compared with its file (length, mtime, ctime) before
    //   every slice is handed out, and each piece is verified by read(2), not through the mapping, before its first
    //   slice. What remains is a change between that look and the use of the slice.
    // - The users of slices hand them to the kernel (writev(2) on a vanished page answers EFAULT, where a load would
    //   raise SIGBUS) or hash and copy them as plain bytes: no value read from them is trusted to stay the same.
    let map = unsafe { MmapOptions::new().len(length).map(file) }?;
    Ok(Bytes::from_owner(Mapping { map, _rent: rent }))
}

struct Mapping {
    map: Mmap,
    _rent: Option<Rent>,
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Bytes taken out of a bounded budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Rent {
    budget: Arc<AtomicU64>,
    bytes: u64,
}

impl Rent {
    /// Takes `bytes` out of what is left in `budget`, `None` where less is left.
    pub(super) fn take(budget: &Arc<AtomicU64>, bytes: u64) -> Option<Self> {
        budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .ok()
            .map(|_| Self { budget: Arc::clone(budget), bytes })
    }
}

impl Drop for Rent {
    fn drop(&mut self) {
        self.budget.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_mapping_shows_what_is_written_later() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10_000).unwrap();
        let bytes = map(&file, 10_000, None).unwrap();
        file.write_all_at(b"later", 9_000).unwrap();
        assert_eq!(bytes.slice(9_000..9_005), "later");
    }

    #[test]
    fn rent_is_given_back_with_the_last_slice() {
        let budget = Arc::new(AtomicU64::new(100));
        let file = tempfile::tempfile().unwrap();
        file.set_len(60).unwrap();
        let bytes = map(&file, 60, Rent::take(&budget, 60)).unwrap();
        assert!(Rent::take(&budget, 60).is_none());
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert!(Rent::take(&budget, 60).is_none());
        drop(slice);
        assert!(Rent::take(&budget, 60).is_some());
    }

    #[test]
    fn nothing_is_mapped_for_an_empty_file() {
        assert!(map(&tempfile::tempfile().unwrap(), 0, None).unwrap().is_empty());
    }
}
