//! What a Release file teaches, and Release files that come too slowly to be held back until they are whole.

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hyper::header::HeaderValue;
use tracing::debug;

use super::mutable::{MAX_RELEASE, ReleasePart, Stamps};
use crate::debian::RepoUrl;
use crate::index::{Index, Learned, Outcome, Taught};
use crate::metrics::{Metrics, Source, VerificationFailure};
use crate::mirror::{MirrorError, ResumingBody, Target};

/// A Release file that is to be learnt from, once its bytes are all here.
pub(super) struct Lesson {
    pub(super) index: Index,
    pub(super) stamps: Stamps,
    pub(super) target: Target,
    pub(super) url: RepoUrl,
    pub(super) part: ReleasePart,
    /// The mirror's `Last-Modified`.
    pub(super) date: Option<HeaderValue>,
    pub(super) metrics: Metrics,
}

impl Lesson {
    /// Learns from the whole body.
    pub(super) async fn learn(self, body: &[u8]) {
        let Self { index, stamps, target, url, part, date, metrics } = self;
        stamps.put(&target, None);
        match index.learn_release(&url, body, Learned::Passing).await {
            Ok(Taught::New | Taught::Same) if part != ReleasePart::Signature => {
                stamps.put(&target, date.as_ref());
            }
            Ok(Taught::Refused(Outcome::Bad)) => {
                metrics.verification_failed(VerificationFailure::Signature);
            }
            Ok(taught) => debug!(%target, ?taught, "a Release file passed"),
            Err(error) => debug!(%target, %error, "nothing was learnt from a Release file"),
        }
    }
}

/// A Release file on its way to the client.
struct Passing {
    /// What had come before the client's answer began; to go out first.
    begun: Option<Bytes>,
    body: ResumingBody,
    /// How long it is, where the mirror says so.
    length: Option<u64>,
    so_far: BytesMut,
    lesson: Option<Lesson>,
    metrics: Metrics,
}

/// The bytes that had come and those that come, as they come. The last of them goes out after the file was learnt from,
/// so that whatever the client asks for next is known.
pub(super) fn hand_on(
    begun: Bytes,
    body: ResumingBody,
    length: Option<u64>,
    lesson: Lesson,
    metrics: Metrics,
) -> impl Stream<Item = Result<Bytes, MirrorError>> + Send {
    let begun = Some(begun).filter(|begun| !begun.is_empty());
    let passing = Passing { begun, body, length, so_far: BytesMut::new(), lesson: Some(lesson), metrics };
    futures_util::stream::try_unfold(passing, |mut passing| async move {
        Ok(passing.next().await?.map(|bytes| (bytes, passing)))
    })
}

impl Passing {
    async fn next(&mut self) -> Result<Option<Bytes>, MirrorError> {
        let next = match self.begun.take() {
            Some(begun) => Some(begun),
            None => self.body.chunk().await?,
        };
        if let Some(bytes) = &next {
            self.metrics.bytes_received(Source::Mirror, bytes.len() as u64);
            self.keep(bytes);
        }
        let whole = next.is_none() || self.length == Some(self.so_far.len() as u64);
        if whole && let Some(lesson) = self.lesson.take() {
            lesson.learn(&self.so_far).await;
        }
        Ok(next)
    }

    /// Keeps what passes for the lesson; a file beyond all bounds teaches nothing.
    fn keep(&mut self, bytes: &Bytes) {
        if self.so_far.len() + bytes.len() > MAX_RELEASE {
            self.lesson = None;
        }
        if self.lesson.is_some() {
            self.so_far.extend_from_slice(bytes);
        }
    }
}
