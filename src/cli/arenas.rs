//! How the allocator keeps memory for threads: `mallopt(3)`, which no crate wraps.
#![allow(unsafe_code)]

/// How many arenas the threads share. glibc gives each thread its own, up to eight for each core, and what one of them has freed
/// is of no use to the others: many downloads, whose buffers are filled by one thread and emptied by another, leave
/// some 40 MiB in them. With two nobody waits noticeably for another, for large buffers are few.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Lets all threads share a few arenas. Call it before there is a second thread.
pub(super) fn share() {
    // SAFETY: mallopt is not safe beside threads that allocate; by contract of this function there are none. It has no other
    // conditions, and a value that it does not know changes nothing.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
