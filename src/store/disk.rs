//! Files as the store uses them: looked at, preallocated, read in blocks, locked.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::Errno;

use crate::digest::Sha256;
use crate::pieces::{ChainWalk, Geometry, PIECE_LENGTH, PieceIndex, State};

/// How much of a file is in memory at once while it is hashed. A divisor of the piece length.
pub(super) const READ_BLOCK: usize = 256 << 10;

/// How much is written at once: large writes are several times cheaper on a disk. A divisor of the piece length.
pub(super) const WRITE_BLOCK: usize = 1 << 20;

/// What fstat(2) says of a file; a file that was written, truncated, linked or unlinked since shows another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) length: u64,
    pub(super) links: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What tells whether a file is the one that was hashed: the metadata that neither a new link nor a new mode changes, and
/// that outlive a restart (the number of a device does not).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) length: u64,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// As a signed number, for SQLite has no others.
    pub(super) inode: i64,
}

impl Mark {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { length: metadata.len(), modified, inode: metadata.ino().cast_signed() }
    }
}

impl Stamp {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            length: metadata.len(),
            links: metadata.nlink(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { length: self.length, modified: self.modified, inode: self.inode.cast_signed() }
    }

    /// Whether `path` names the very file that this stamp was taken of.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok_and(|at| (at.dev(), at.ino()) == (self.device, self.inode))
    }
}

/// Opens a regular file for reading, never waiting (a pipe would) and, with `own`, never following a symbolic link.
pub(super) fn open_regular(path: &Path, own: bool) -> io::Result<File> {
    let no_follow = if own { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = (OFlags::NONBLOCK | no_follow).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Opens a regular file of our own for reading and writing, as [`open_regular`] does.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Gives an empty file its length and, where the file system can, its blocks: a full disk is an error now and not in the
/// middle of a download. Elsewhere (ext2, NFS before 4.2) the blocks come with the bytes: writing zeros first would make
/// apt wait for the disk.
pub(super) fn preallocate(file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, length) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return file.set_len(length),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads `range` of `file` in blocks of `size` bytes, each handed on with its offset; a file that ends before is
/// [`io::ErrorKind::UnexpectedEof`].
pub(super) fn read_blocks<E: From<io::Error>>(
    file: &File,
    range: Range<u64>,
    size: usize,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let mut block = vec![0; wanted.min(size)];
    let mut at = range.start;
    while at < range.end {
        let now = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(block.len());
        file.read_exact_at(&mut block[..now], at)?;
        each(at, &block[..now])?;
        at += now as u64;
    }
    Ok(())
}

/// The chain after piece `index` of `file`, started at `start`, the state before that piece.
pub(super) fn walk_piece(
    file: &File,
    geometry: Geometry,
    index: PieceIndex,
    start: State,
) -> io::Result<ChainWalk> {
    let mut walk = ChainWalk::from_state(start);
    read_blocks(file, geometry.range(index), READ_BLOCK, |_, block| {
        walk.update(block);
        Ok::<_, io::Error>(())
    })?;
    Ok(walk)
}

/// The digest of the whole of `file` and the inner states of its chain; `each` sees every block on the way.
pub(super) fn walk_file<E: From<io::Error>>(
    file: &File,
    geometry: Geometry,
    size: usize,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(Sha256, Vec<State>), E> {
    let mut walk = ChainWalk::from_state(State::INITIAL);
    let mut states = Vec::with_capacity(geometry.last() as usize);
    read_blocks(file, 0..geometry.length(), size, |at, block| {
        // Blocks divide pieces, so that a piece starts where a block does.
        if at > 0 && at % PIECE_LENGTH == 0 {
            states.extend(walk.state());
        }
        walk.update(block);
        each(at, block)
    })?;
    Ok((walk.finish(geometry.length()), states))
}

/// An error where `file` is no longer what `mark` says. A new link to it is no change.
pub(super) fn unchanged(file: &File, mark: &Mark) -> io::Result<()> {
    match Mark::of(&file.metadata()?) == *mark {
        true => Ok(()),
        false => Err(io::Error::other("it changes while it is read")),
    }
}

/// Takes the exclusive lock of `file` if nobody, in this process or another, has it.
pub(super) fn try_lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Lets go of the lock of `file`. One that cannot be let go of ends with the file.
pub(super) fn unlock(file: &File) {
    let _ = flock(file, FlockOperation::Unlock);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_range_and_nothing_else() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..READ_BLOCK * 2 + 100).map(|i| (i % 251) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let mut read = Vec::new();
        let each = |at, block: &[u8]| {
            assert_eq!(at, 7 + read.len() as u64);
            read.extend_from_slice(block);
            Ok::<_, io::Error>(())
        };
        read_blocks(&file, 7..bytes.len() as u64 - 3, READ_BLOCK, each).unwrap();
        assert!(read == bytes[7..bytes.len() - 3]);
        let beyond = read_blocks(&file, 0..bytes.len() as u64 + 1, READ_BLOCK, |_, _| Ok::<_, io::Error>(()));
        assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_is_walked_to_the_states_its_pieces_link() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..2 * PIECE_LENGTH + 5).map(|i| (i % 249) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let geometry = Geometry::new(bytes.len() as u64).unwrap();
        for size in [READ_BLOCK, WRITE_BLOCK] {
            let walked = walk_file(&file, geometry, size, |_, _| Ok::<_, io::Error>(()));
            let (id, states) = walked.unwrap();
            assert_eq!(id, Sha256::of(&bytes));
            assert_eq!(states.len(), 2);
            assert_eq!(walk_piece(&file, geometry, 0, State::INITIAL).unwrap().state(), Some(states[0]));
            assert_eq!(walk_piece(&file, geometry, 1, states[0]).unwrap().state(), Some(states[1]));
            assert_eq!(walk_piece(&file, geometry, 2, states[1]).unwrap().finish(geometry.length()), id);
        }
    }

    #[test]
    fn pipes_and_directories_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open_regular(folder.path(), false).is_err());
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(open_regular(&pipe, false).is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(open_regular(&link, true).is_err(), "the store's own files are no links");
        assert!(open_regular(&link, false).is_ok());
    }
}
