//! A whole object of the store, open for reading.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures_util::Stream;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::Shared;
use super::catalog::Record;
use super::disk::{self, Stamp};
use super::error::StoreError;
use super::files::Lying;
use super::mapping;
use crate::digest::Sha256;
use crate::pieces::{Geometry, PieceIndex, State};

/// How much is handed out at once: a full socket buffer, and soon enough.
const CHUNK: u64 = 256 << 10;

/// How often a range of a file that others write meanwhile is read before we give up.
const READ_TRIES: u32 = 3;

/// A whole object, open for reading. It stays readable for as long as it is held, also when the store evicts it.
pub struct Object {
    id: Sha256,
    geometry: Geometry,
    states: Vec<State>,
    last_modified: Option<String>,
    file: Arc<File>,
    /// The mapping; `None` where others may write the file: a page that they cut off would end this process.
    whole: Option<Bytes>,
    /// The file, where it is somebody else's.
    place: Option<Lying>,
    seen: Mutex<Seen>,
    store: Weak<Shared>,
}

/// An object whose file was looked at now: it need not be looked at again for what is sent at once.
#[derive(Debug)]
pub struct Sighting {
    object: Arc<Object>,
    /// What it showed; `None` where it was opened now.
    shown: Option<Stamp>,
}

impl Sighting {
    pub(super) const fn new(object: Arc<Object>, shown: Option<Stamp>) -> Self {
        Self { object, shown }
    }

    /// The object.
    pub const fn object(&self) -> &Arc<Object> {
        &self.object
    }

    pub(super) fn into_object(self) -> Arc<Object> {
        self.object
    }

    /// The bytes of `range`, chunk by chunk.
    pub fn chunks(&self, range: Range<u64>) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + use<> {
        self.object.chunks_since(self.shown, range)
    }
}

/// What we know of the file's bytes, good for as long as the file shows this stamp.
struct Seen {
    stamp: Stamp,
    verified: Vec<bool>,
}

/// What an [`Object`] is made of.
pub(super) struct Parts {
    pub(super) id: Sha256,
    pub(super) geometry: Geometry,
    pub(super) states: Vec<State>,
    pub(super) last_modified: Option<String>,
    pub(super) file: Arc<File>,
    pub(super) whole: Option<Bytes>,
    pub(super) place: Option<Lying>,
    pub(super) store: Weak<Shared>,
}

impl Object {
    /// Opens the file at `path`, of which the catalog says `record`. A file of another length is damaged.
    pub(super) fn open(
        id: Sha256,
        record: Record,
        path: &Path,
        store: Weak<Shared>,
    ) -> Result<Self, OpenError> {
        Self::open_as(id, record, path, None, store)
    }

    /// Opens the object in a file of somebody else's. One that is not what it was when it was hashed is damaged.
    pub(super) fn open_in_place(
        id: Sha256,
        record: Record,
        place: Lying,
        store: Weak<Shared>,
    ) -> Result<Self, OpenError> {
        let path = place.path.clone();
        Self::open_as(id, record, &path, Some(place), store)
    }

    fn open_as(
        id: Sha256,
        record: Record,
        path: &Path,
        place: Option<Lying>,
        store: Weak<Shared>,
    ) -> Result<Self, OpenError> {
        let file = Arc::new(disk::open_regular(path, true).map_err(OpenError::Io)?);
        let stamp = Stamp::of(&file).map_err(OpenError::Io)?;
        let damaged = |what| OpenError::Damaged { stamp, what };
        if stamp.length != record.length {
            return Err(damaged(format!("{} bytes instead of {}", stamp.length, record.length)));
        }
        if place.as_ref().is_some_and(|place| place.mark != stamp.mark()) {
            return Err(damaged("its file was changed".to_owned()));
        }
        let geometry = Geometry::new(record.length).map_err(|error| damaged(error.to_string()))?;
        if record.states.len() != geometry.last() as usize {
            return Err(damaged("the catalog has another number of states than it has pieces".to_owned()));
        }
        // A file that has another name as well, a hard link into somebody's mirror, is not only ours.
        let whole = match place.is_none() && stamp.links == 1 {
            true => Some(mapping::map(&file, record.length, None).map_err(OpenError::Io)?),
            false => None,
        };
        let Record { states, last_modified, .. } = record;
        let unverified = vec![false; geometry.pieces() as usize];
        Ok(Self::new(
            Parts { id, geometry, states, last_modified, file, whole, place, store },
            stamp,
            unverified,
        ))
    }

    /// An object whose pieces are `verified` or will be at their first use.
    pub(super) fn new(parts: Parts, stamp: Stamp, verified: Vec<bool>) -> Self {
        let Parts { id, geometry, states, last_modified, file, whole, place, store } = parts;
        let seen = Mutex::new(Seen { stamp, verified });
        Self { id, geometry, states, last_modified, file, whole, place, seen, store }
    }

    /// The digest that names the object.
    pub fn id(&self) -> Sha256 {
        self.id
    }

    /// The length in bytes.
    pub fn length(&self) -> u64 {
        self.geometry.length()
    }

    /// How the object is cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The piece-hash list: the chain's state after each piece but the last.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The mirror's `Last-Modified`, byte for byte.
    pub fn last_modified(&self) -> Option<&str> {
        self.last_modified.as_deref()
    }

    /// The bytes of `range`, cut off at the object's end: without a copy, unless somebody else may write the file. Meant for
    /// ranges within one piece.
    ///
    /// Before the first use of a piece the whole piece is read and verified, which takes milliseconds, or as long as
    /// the disk takes ([`Object::is_verified`] tells beforehand); later uses look at the file's metadata only.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where the bytes are not those that the digest names. The object has then left the
    /// store, and must be had from elsewhere.
    pub fn bytes(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let end = range.end.min(self.length());
        let start = range.start.min(end);
        let Some(whole) = &self.whole else { return self.read(start..end) };
        self.verify_range(start..end)?;
        Ok(slice(whole, start..end))
    }

    /// The bytes of a range within the object, of a file that others may write: what was read counts only if the file was
    /// verified before and shows the same stamp after it.
    fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        for _ in 0..READ_TRIES {
            let stamp = self.verify_range(range.clone())?;
            if let Some(bytes) = self.read_while(stamp, &range)? {
                return Ok(bytes);
            }
        }
        Err(self.unreadable(io::Error::other("it is being written")))
    }

    /// The same bytes once, `None` where the file does not show `stamp` any more.
    fn read_while(&self, stamp: Stamp, range: &Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut buffer = Vec::with_capacity(length);
        while buffer.len() < length {
            let at = range.start + buffer.len() as u64;
            match pread(&self.file, spare_capacity(&mut buffer), at) {
                // It was cut off, which its stamp tells.
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(self.unreadable(error.into())),
            }
        }
        // The allocator may have given room for more.
        buffer.truncate(length);
        let same = buffer.len() == length && Stamp::of(&self.file).is_ok_and(|now| now == stamp);
        Ok(same.then(|| buffer.into()))
    }

    /// Whether [`Object::bytes`] would answer without reading the disk first.
    pub fn is_verified(&self, range: Range<u64>) -> bool {
        let Ok(stamp) = Stamp::of(&self.file) else { return false };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.stamp == stamp && self.pieces_of(&range).all(|piece| seen.verified[piece as usize])
    }

    /// The next bytes of a not empty `range`: at most 256 KiB, and not beyond the piece they begin in. Where the piece
    /// has to be read and verified first, the other tasks of this thread go on meanwhile; call it within a multi-thread
    /// runtime.
    ///
    /// # Errors
    /// As [`Object::bytes`].
    pub fn next_chunk(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.chunk_of(range, self.current_stamp()?)
    }

    /// The same of a file that shows this stamp.
    fn chunk_of(&self, range: Range<u64>, stamp: Stamp) -> Result<Bytes, StoreError> {
        let piece_end = self.geometry.range(self.geometry.piece_at(range.start)).end;
        let chunk = range.start..range.end.min(piece_end).min(range.start + CHUNK);
        if self.pieces_of(&chunk).all(|piece| self.was_verified(piece, stamp)) {
            let read = match &self.whole {
                Some(whole) => Some(slice(whole, chunk.clone())),
                None => self.read_while(stamp, &chunk)?,
            };
            if let Some(bytes) = read {
                return Ok(bytes);
            }
        }
        tokio::task::block_in_place(|| self.bytes(chunk))
    }

    /// The bytes of `range`, chunk by chunk.
    pub fn chunks(
        self: &Arc<Self>,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + use<> {
        self.chunks_since(None, range)
    }

    /// The same; what the file showed a moment ago, if it was looked at, will do for the first chunk.
    fn chunks_since(
        self: &Arc<Self>,
        shown: Option<Stamp>,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + use<> {
        let state = (Arc::clone(self), shown, range.start..range.end.min(self.length()));
        futures_util::stream::try_unfold(state, |(object, shown, mut range)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            let stamp = shown.map_or_else(|| object.current_stamp(), Ok)?;
            let bytes = object.chunk_of(range.clone(), stamp)?;
            range.start += bytes.len() as u64;
            Ok(Some((bytes, (object, None, range))))
        })
    }

    /// Reads the object from its start to its end, each piece verified before it is handed out.
    pub fn reader(self: &Arc<Self>) -> ObjectReader {
        ObjectReader { object: Arc::clone(self), at: 0 }
    }

    /// Reads and verifies every piece, whatever was verified before.
    pub(super) fn verify_all(&self) -> Result<(), StoreError> {
        (0..self.geometry.pieces()).try_for_each(|piece| {
            let stamp = self.current_stamp()?;
            self.verify_piece(piece, stamp)
        })
    }

    /// The file of somebody else's that it lies in.
    pub(super) fn place(&self) -> Option<&Lying> {
        self.place.as_ref()
    }

    /// What the file shows, if it is still the one that the store has under this name as far as its metadata tell.
    pub(super) fn shows(&self) -> Option<Stamp> {
        Stamp::of(&self.file).ok().filter(|stamp| stamp.links > 0 && stamp.length == self.length())
    }

    /// Verifies the pieces of `range` that are not yet; what the file showed then.
    fn verify_range(&self, range: Range<u64>) -> Result<Stamp, StoreError> {
        let stamp = self.current_stamp()?;
        for piece in self.pieces_of(&range) {
            if !self.was_verified(piece, stamp) {
                self.verify_piece(piece, stamp)?;
            }
        }
        Ok(stamp)
    }

    fn pieces_of(&self, range: &Range<u64>) -> Range<PieceIndex> {
        let last = self.geometry.piece_at(range.end.saturating_sub(1).max(range.start));
        self.geometry.piece_at(range.start)..last + 1
    }

    /// What the file shows now; a file of another length is damaged. Unlinking it, or making a link to it, changes its
    /// stamp as well: then its bytes are looked at again, no more.
    fn current_stamp(&self) -> Result<Stamp, StoreError> {
        let stamp = Stamp::of(&self.file).map_err(|error| self.unreadable(error))?;
        if stamp.length != self.length() {
            return Err(self.damaged(stamp, format!("{} bytes instead of {}", stamp.length, self.length())));
        }
        Ok(stamp)
    }

    fn was_verified(&self, piece: PieceIndex, stamp: Stamp) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.stamp != stamp {
            seen.stamp = stamp;
            seen.verified.fill(false);
        }
        seen.verified[piece as usize]
    }

    /// Reads piece `piece` of the file that showed `stamp`, and walks the chain over it.
    fn verify_piece(&self, piece: PieceIndex, stamp: Stamp) -> Result<(), StoreError> {
        let before = piece.checked_sub(1).map_or(State::INITIAL, |before| self.states[before as usize]);
        let walk = match disk::walk_piece(&self.file, self.geometry, piece, before) {
            Ok(walk) => walk,
            // A file that ends early was truncated; a disk that cannot read a sector will not read it next time.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof || is_bad_sector(&error) => {
                return Err(self.damaged(stamp, format!("piece {piece}: {error}")));
            }
            Err(error) => return Err(self.unreadable(error)),
        };
        let right = match self.states.get(piece as usize) {
            Some(after) => walk.state() == Some(*after),
            None => walk.finish(self.length()) == self.id,
        };
        if !right {
            return Err(self.damaged(stamp, format!("piece {piece} is not what it was")));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.stamp == stamp {
            seen.verified[piece as usize] = true;
        }
        Ok(())
    }

    fn damaged(&self, stamp: Stamp, what: String) -> StoreError {
        match (self.store.upgrade(), &self.place) {
            (Some(store), None) => store.drop_damaged(self.id, stamp, what),
            (Some(store), Some(place)) => store.drop_changed(self.id, place, what),
            (None, _) => StoreError::Damaged { id: self.id, what },
        }
    }

    fn unreadable(&self, source: io::Error) -> StoreError {
        let own =
            || self.store.upgrade().map_or_else(Default::default, |store| store.layout.object(&self.id));
        let path = self.place.as_ref().map_or_else(own, |place| place.path.clone());
        StoreError::Io { doing: "reading", path, source }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("id", &self.id).field("length", &self.length()).finish_non_exhaustive()
    }
}

/// These bytes of a mapped object.
// Lossless: they are mapped.
#[allow(clippy::cast_possible_truncation, reason = "the mapping is as long as a usize can say")]
fn slice(whole: &Bytes, range: Range<u64>) -> Bytes {
    whole.slice(range.start as usize..range.end as usize)
}

/// Why an object could not be opened.
pub(super) enum OpenError {
    Io(io::Error),
    Damaged { stamp: Stamp, what: String },
}

fn is_bad_sector(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Reads a whole object in order. Made by [`Object::reader`]; its errors wrap [`StoreError`].
#[derive(Debug)]
pub struct ObjectReader {
    object: Arc<Object>,
    at: u64,
}

impl io::Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.object.length().min(self.at.saturating_add(buffer.len() as u64));
        // Within one piece, so that a small read verifies no more than it must.
        let piece = self.object.geometry.piece_at(self.at);
        let end = end.min(self.object.geometry.range(piece).end);
        let Ok(count) = usize::try_from(end.saturating_sub(self.at)) else { return Ok(0) };
        if count == 0 {
            return Ok(0);
        }
        if self.object.whole.is_some() {
            self.object.verify_range(self.at..end).map_err(io::Error::other)?;
            self.object.file.read_exact_at(&mut buffer[..count], self.at)?;
        } else {
            let bytes = self.object.read(self.at..end).map_err(io::Error::other)?;
            buffer[..count].copy_from_slice(&bytes);
        }
        self.at = end;
        Ok(count)
    }
}
