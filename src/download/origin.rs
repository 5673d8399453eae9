//! The mirror as a download sees it: a stream of a range of the object, of the right length.

use std::ops::Range;

use bytes::{Buf as _, Bytes};
use hyper::StatusCode;

use crate::mirror::{
    Mirror, MirrorError, MirrorRequest, MirrorResponse, Resume, ResumingBody, RetryPolicy, Target, Wanted,
};

/// Why the mirror gives nothing of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// It could not be asked, or broke off for good.
    #[error("{text}")]
    Failed {
        /// What happened.
        text: String,
        /// We do not ask there.
        refused: bool,
        /// It kept silent for too long.
        silent: bool,
    },
    /// It answered with another status than success.
    #[error("the mirror answered {0}")]
    Answered(StatusCode),
    /// Its file has another length than the index says.
    #[error("the mirror has a file of {got} bytes, the index names one of {expected}")]
    OtherLength {
        /// The mirror's.
        got: u64,
        /// The index's.
        expected: u64,
    },
}

impl OriginError {
    /// Whether the mirror itself has said something that the client should hear: a status, or a file of another
    /// length.
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Answered(_) | Self::OtherLength { .. })
    }
}

impl From<MirrorError> for OriginError {
    fn from(error: MirrorError) -> Self {
        Self::Failed {
            text: error.to_string(),
            refused: matches!(error, MirrorError::Refused(_)),
            silent: matches!(error, MirrorError::Stalled { .. }),
        }
    }
}

/// The bytes of a range, as the mirror sends them.
#[derive(Debug)]
pub(super) struct OriginBody {
    body: ResumingBody,
    /// Bytes before the range, where the mirror sends more than was asked for.
    skip: u64,
}

/// A stream that is open, and what the mirror's head told.
pub(super) struct OpenOrigin {
    pub(super) body: OriginBody,
    pub(super) last_modified: Option<String>,
}

/// Opens the mirror's stream of `range` of an object that is `length` bytes long.
pub(super) async fn open(
    mirror: &Mirror,
    target: Target,
    range: Range<u64>,
    length: u64,
) -> Result<OpenOrigin, OriginError> {
    let mut request = MirrorRequest::get(target);
    if range != (0..length) {
        request.range = Some(Wanted::Span(range.clone()));
    }
    let response = mirror.open(request, Resume::Verified, RetryPolicy::default()).await?;
    if !matches!(response.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Err(OriginError::Answered(response.status));
    }
    check_length(&response, length)?;
    let last_modified =
        response.last_modified.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned);
    let skip = range.start.saturating_sub(response.body.position());
    Ok(OpenOrigin { body: OriginBody { body: response.body, skip }, last_modified })
}

fn check_length<B>(response: &MirrorResponse<B>, expected: u64) -> Result<(), OriginError> {
    match response.total_length() {
        Some(got) if got != expected => Err(OriginError::OtherLength { got, expected }),
        _ => Ok(()),
    }
}

impl OriginBody {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, MirrorError> {
        loop {
            let Some(mut bytes) = self.body.chunk().await? else { return Ok(None) };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            bytes.advance(skipped);
            self.skip -= skipped as u64;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }
}
