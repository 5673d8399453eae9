//! An object as its readers see it: whole from the store, or growing.

use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::watch;

use super::canvas::Canvas;
use super::{DownloadError, OriginError, Progress, Stage, Tally};
use crate::digest::Sha256;
use crate::pieces::Geometry;
use crate::store::Object;

/// How much is handed on at once: large enough for a full socket buffer, small enough to come soon.
const CHUNK: u64 = 256 << 10;

/// An object that was asked for.
#[derive(Debug, Clone)]
pub struct Download {
    id: Sha256,
    geometry: Geometry,
    from: From,
    held: bool,
}

#[derive(Debug, Clone)]
enum From {
    Held(Arc<Object>),
    Flying(watch::Receiver<Progress>),
}

impl Download {
    pub(super) fn held(object: Arc<Object>) -> Self {
        Self { id: object.id(), geometry: object.geometry(), from: From::Held(object), held: true }
    }

    /// `held`: the object was whole before it was asked for, and is on its way into the store.
    pub(super) const fn flying(
        id: Sha256,
        geometry: Geometry,
        progress: watch::Receiver<Progress>,
        held: bool,
    ) -> Self {
        Self { id, geometry, from: From::Flying(progress), held }
    }

    /// The object's digest.
    pub const fn id(&self) -> Sha256 {
        self.id
    }

    /// Its length in bytes.
    pub const fn length(&self) -> u64 {
        self.geometry.length()
    }

    /// Whether it was in the store already, or whole and on its way into it.
    pub const fn is_held(&self) -> bool {
        self.held
    }

    /// Whether it has come to nothing: whoever wants it opens it anew.
    pub fn has_failed(&self) -> bool {
        match &self.from {
            From::Held(_) => false,
            From::Flying(progress) => matches!(progress.borrow().stage, Stage::Failed(_)),
        }
    }

    /// Where its bytes have come from so far; nothing for a stored object.
    pub fn tally(&self) -> Tally {
        match &self.from {
            From::Held(_) => Tally::default(),
            From::Flying(progress) => progress.borrow().tally,
        }
    }

    /// The mirror's `Last-Modified`, as far as it is known.
    pub fn last_modified(&self) -> Option<String> {
        match &self.from {
            From::Held(object) => object.last_modified().map(str::to_owned),
            From::Flying(progress) => progress.borrow().last_modified.clone(),
        }
    }

    /// What the mirror answered, where it gave nothing.
    pub fn mirror_error(&self) -> Option<OriginError> {
        match &self.from {
            From::Held(_) => None,
            From::Flying(progress) => progress.borrow().mirror_error.clone(),
        }
    }

    /// Whether the mirror's own bytes are not those its index names.
    pub fn mirror_differs(&self) -> bool {
        match &self.from {
            From::Held(_) => false,
            From::Flying(progress) => progress.borrow().mirror_differs,
        }
    }

    /// Waits until the bytes from the start to `end` may be read.
    ///
    /// # Errors
    /// Why they will not come.
    pub async fn ready(&self, end: u64) -> Result<(), DownloadError> {
        let From::Flying(progress) = &self.from else { return Ok(()) };
        let mut progress = progress.clone();
        loop {
            {
                let now = progress.borrow_and_update();
                if now.released >= end.min(self.length()) && now.canvas.is_some() {
                    return Ok(());
                }
                match &now.stage {
                    Stage::Running => {}
                    Stage::Closed => return Ok(()),
                    Stage::Failed(why) => return Err(why.clone()),
                }
            }
            if progress.changed().await.is_err() {
                return Err(DownloadError::NoSource);
            }
        }
    }

    /// Waits until the whole object is proven.
    ///
    /// # Errors
    /// Why it will not be.
    pub async fn closed(&self) -> Result<(), DownloadError> {
        self.ready(u64::MAX).await
    }

    /// Waits until the download is over with: a finished object is in the store then, unless it cannot be kept.
    pub async fn settled(&self) {
        let From::Flying(progress) = &self.from else { return };
        let mut progress = progress.clone();
        // The flight lets go of its end last of all.
        while progress.changed().await.is_ok() {}
    }

    /// The whole object for a reader that waits for nothing; `None` unless it is proven.
    pub fn read_whole(&self) -> Option<Box<dyn Read + Send>> {
        match &self.from {
            From::Held(object) => Some(Box::new(object.reader())),
            From::Flying(progress) => {
                let now = progress.borrow();
                // The last byte is released with the proof.
                if now.released < self.length() {
                    return None;
                }
                let canvas = now.canvas.clone()?;
                drop(now);
                if !canvas.is_sound(&(0..self.length())) {
                    return None;
                }
                let bytes = canvas.bytes(0..self.length());
                Some(Box::new(Cursor::new(bytes)))
            }
        }
    }

    /// The bytes of `range` as they become readable.
    pub fn chunks(&self, range: Range<u64>) -> Chunks {
        let taints = match &self.from {
            From::Held(_) => 0,
            From::Flying(progress) => progress.borrow().taints,
        };
        Chunks { download: self.clone(), at: range.start, end: range.end.min(self.length()), taints }
    }
}

/// The bytes of a range, in order. It ends with an error where they will not come, or where some that it gave proved
/// wrong.
#[derive(Debug)]
pub struct Chunks {
    download: Download,
    at: u64,
    end: u64,
    taints: u32,
}

impl Chunks {
    /// The next bytes, `None` after the last.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let bytes = match &mut self.download.from {
            From::Held(object) => next_held(object, self.at..self.end)?,
            From::Flying(progress) => next_flying(progress, self.at..self.end, self.taints).await?,
        };
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// One byte, if one may be read now; `None` if not, or at the end.
    ///
    /// # Errors
    /// Where bytes that were given proved wrong.
    pub fn next_byte(&mut self) -> Result<Option<Bytes>, DownloadError> {
        let From::Flying(progress) = &self.download.from else { return Ok(None) };
        let byte = {
            let now = progress.borrow();
            if now.taints != self.taints {
                return Err(DownloadError::Tainted);
            }
            let end = self.at + 1;
            let ready =
                |canvas: &&Arc<Canvas>| now.released >= end && end <= self.end && canvas.is_checked(self.at);
            let canvas = now.canvas.as_ref().filter(ready);
            canvas.map(|canvas| canvas.bytes(self.at..end))
        };
        self.at += u64::from(byte.is_some());
        Ok(byte)
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, DownloadError>> + Send {
        futures_util::stream::try_unfold(self, |mut chunks| async move {
            Ok(chunks.next().await?.map(|bytes| (bytes, chunks)))
        })
    }
}

fn next_held(object: &Object, range: Range<u64>) -> Result<Bytes, DownloadError> {
    object.next_chunk(range).map_err(|error| {
        tracing::warn!(%error, "a stored object cannot be read");
        DownloadError::Damaged
    })
}

async fn next_flying(
    progress: &mut watch::Receiver<Progress>,
    range: Range<u64>,
    taints: u32,
) -> Result<Bytes, DownloadError> {
    loop {
        let ready = {
            let now = progress.borrow_and_update();
            if now.taints != taints {
                return Err(DownloadError::Tainted);
            }
            let ready = now.canvas.clone().filter(|_| now.released > range.start);
            if ready.is_none()
                && let Stage::Failed(why) = &now.stage
            {
                return Err(why.clone());
            }
            ready.map(|canvas| (canvas, now.released, matches!(now.stage, Stage::Running)))
        };
        if let Some((canvas, released, running)) = ready {
            let chunk = range.start..range.end.min(released).min(range.start + CHUNK);
            if canvas.is_sound(&chunk) {
                let bytes = canvas.bytes(chunk.clone());
                // Looked at after the slice was taken: what is in it has not changed until now.
                if canvas.taints() != taints {
                    return Err(DownloadError::Tainted);
                }
                // Nor was it found damaged by somebody else, and opened for writing since.
                if progress.borrow().released >= chunk.end {
                    return Ok(bytes);
                }
                continue;
            }
            if !running {
                return Err(DownloadError::Damaged);
            }
        }
        if progress.changed().await.is_err() {
            return Err(DownloadError::NoSource);
        }
    }
}
