//! Fetches that survive a mirror's bad moments: retried before the first byte, resumed after it.

use std::fmt;
use std::pin::Pin;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use futures_util::stream::{Stream, unfold};
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use tracing::debug;

use super::error::MirrorError;
use super::origin::{Mirror, MirrorBody};
use super::pace::Pace;
use super::request::{MirrorRequest, MirrorResponse, Wanted};
use super::retry::{Attempts, Failure, RetryPolicy, is_transient};
use crate::clock;
use crate::http::ContentRange;

/// The most that is read of an error's body: a page for a person.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// What may be done about a body that breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The file may change at any time: start over if no byte was handed out, else fail.
    Never,
    /// Go on if the mirror says that it is still the same file.
    IfUnchanged,
    /// The hash of the file is known and will be checked: go on, whatever the mirror says.
    Verified,
}

impl Mirror {
    /// Asks until there is an answer worth handing on, or no time left; the body resumes where it breaks off.
    ///
    /// A transient error status is handed on only when the budget is spent. The body of an error status is read to its
    /// end, or to 64 KiB, before.
    pub async fn open(
        &self,
        request: MirrorRequest,
        resume: Resume,
        retry: RetryPolicy,
    ) -> Result<MirrorResponse<ResumingBody>, MirrorError> {
        let mut attempts = Attempts::new(retry, clock::now());
        let response = loop {
            let fetched = self.fetch_within(&request, attempts.deadline()).await;
            self.note(&fetched.as_ref().map(|response| response.status));
            let (again, outcome) = match fetched {
                Ok(response) if is_transient(response.status) => {
                    debug!(host = response.body.host(), status = %response.status, "a mirror cannot answer now");
                    (attempts.next(Failure::Hard, clock::now()), Ok(response))
                }
                Ok(response) => (None, Ok(response)),
                Err(error) => (self.again(&mut attempts, &error), Err(error)),
            };
            match again {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => break outcome?,
            }
        };
        if response.status.is_success() {
            return Ok(ResumingBody::begin(self.clone(), request, resume, attempts, response));
        }
        Ok(hold_text(self, request, response).await)
    }

    /// One attempt, within the time that is left for all.
    async fn fetch_within(
        &self,
        request: &MirrorRequest,
        deadline: Instant,
    ) -> Result<MirrorResponse<MirrorBody>, MirrorError> {
        let started = clock::now();
        let fetched = tokio::time::timeout_at(deadline.into(), self.fetch_twice(request)).await;
        fetched.unwrap_or_else(|_| {
            let host = request.target.host.to_string();
            Err(MirrorError::Stalled { host, during: clock::now() - started })
        })
    }

    /// One attempt, with a second one beside it when the first gets no answer for a while: a slow mirror keeps its time,
    /// and one that has lost the request is asked again before apt hangs up.
    async fn fetch_twice(&self, request: &MirrorRequest) -> Result<MirrorResponse<MirrorBody>, MirrorError> {
        let mut first = pin!(self.fetch(request));
        if let Ok(fetched) = tokio::time::timeout(self.patience().second_try, first.as_mut()).await {
            return fetched;
        }
        debug!(host = %request.target.host, "no answer for long: asking a second time");
        let mut second = pin!(self.fetch(request));
        tokio::select! {
            fetched = first.as_mut() => match fetched {
                Ok(response) => Ok(response),
                Err(_) => second.await,
            },
            fetched = second.as_mut() => match fetched {
                Ok(response) => Ok(response),
                Err(_) => first.await,
            },
        }
    }

    /// When to ask again after `error`, if at all.
    fn again(&self, attempts: &mut Attempts, error: &MirrorError) -> Option<Instant> {
        debug!(%error, "a mirror failed");
        let failure = match error {
            MirrorError::Stalled { .. } => Failure::Stall,
            error if error.is_transient() => Failure::Hard,
            _ => return None,
        };
        attempts.next(failure, clock::now())
    }
}

/// An answer that is no file, with as much of its text as is worth having.
async fn hold_text(
    mirror: &Mirror,
    request: MirrorRequest,
    response: MirrorResponse<MirrorBody>,
) -> MirrorResponse<ResumingBody> {
    let mut response = response;
    let mut text = Vec::new();
    let reading = async {
        while let Ok(Some(bytes)) = response.body.chunk().await {
            let room = MAX_ERROR_BODY - text.len();
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if text.len() == MAX_ERROR_BODY {
                break;
            }
        }
    };
    // After an error, or too long a time, what came will do.
    let _ = tokio::time::timeout(mirror.patience().stall, reading).await;
    if text.is_empty() && request.method != Method::HEAD && is_error(response.status) {
        // apt takes an error without a body for final where it would ask again after one with a body.
        text.extend_from_slice(format!("the mirror answered {}\n", response.status).as_bytes());
        response.content_type = Some(HeaderValue::from_static("text/plain"));
        response.content_encoding = None;
    }
    if request.method != Method::HEAD && response.status != StatusCode::NOT_MODIFIED {
        response.content_length = Some(text.len() as u64);
    }
    response.map(|_| ResumingBody::held(mirror.clone(), request, text.into()))
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// A body that goes on where it broke off.
pub struct ResumingBody {
    mirror: Mirror,
    request: MirrorRequest,
    resume: Resume,
    attempts: Attempts,
    source: Source,
    /// The first byte that was asked for and came.
    start: u64,
    /// The next byte to hand out, counted in the whole file.
    position: u64,
    /// Where the body ends, and how long the whole file is, where known.
    end: Option<u64>,
    total: Option<u64>,
    /// What must not change if the file is to be the same.
    validator: Option<HeaderValue>,
    pace: Pace,
}

type Reopening = Pin<Box<dyn Future<Output = Result<MirrorResponse<MirrorBody>, MirrorError>> + Send>>;

enum Source {
    /// Coming in; `skip` more bytes have been handed out before.
    Live { body: MirrorBody, skip: u64 },
    /// To be asked for again, not before this time.
    Waiting(Instant),
    /// Being asked for again. Kept here, so that a cancelled wait does not ask anew.
    Reopening(Reopening),
    /// All here.
    Held(Bytes),
    /// Nothing more, be it the end or an error.
    Done,
}

impl fmt::Debug for ResumingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResumingBody({:?} from byte {})", self.request, self.position)
    }
}

impl ResumingBody {
    fn begin(
        mirror: Mirror,
        request: MirrorRequest,
        resume: Resume,
        attempts: Attempts,
        response: MirrorResponse<MirrorBody>,
    ) -> MirrorResponse<Self> {
        let (start, end) = span(&response);
        let (total, validator) = (response.total_length(), response.validator().cloned());
        let has_body = request.method != Method::HEAD && end != Some(start);
        let pace = Pace::new(mirror.patience().slow);
        response.map(|body| Self {
            mirror,
            request,
            resume,
            attempts,
            source: if has_body { Source::Live { body, skip: 0 } } else { Source::Done },
            start,
            position: start,
            end,
            total,
            validator,
            pace,
        })
    }

    fn held(mirror: Mirror, request: MirrorRequest, bytes: Bytes) -> Self {
        let end = bytes.len() as u64;
        let pace = Pace::new(mirror.patience().slow);
        Self {
            mirror,
            request,
            resume: Resume::Never,
            attempts: Attempts::new(RetryPolicy::default(), clock::now()),
            source: Source::Held(bytes),
            start: 0,
            position: 0,
            end: Some(end),
            total: None,
            validator: None,
            pace,
        }
    }

    /// The next byte to come, counted from the start of the whole file.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes, never empty; `None` at the end. May be cancelled and called again. After an error comes the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, MirrorError> {
        loop {
            let step = match &mut self.source {
                Source::Done => return Ok(None),
                Source::Held(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.source = Source::Done;
                    return Ok(Some(bytes).filter(|bytes| !bytes.is_empty()));
                }
                Source::Waiting(at) => {
                    tokio::time::sleep_until((*at).into()).await;
                    self.source = Source::Reopening(self.reopen());
                    Ok(Step::Nothing)
                }
                Source::Reopening(reopening) => {
                    let response = reopening.await;
                    response.and_then(|response| self.go_on(response))
                }
                Source::Live { body, .. } => {
                    let since = body.waiting_since();
                    self.attempts.waiting(since);
                    let arrived = body.chunk().await;
                    let now = clock::now();
                    arrived.and_then(|bytes| self.take(bytes, now - since, now))
                }
            };
            match step {
                Ok(Step::Nothing) => {}
                Ok(Step::Bytes(bytes)) => return Ok(Some(bytes)),
                Ok(Step::End) => self.source = Source::Done,
                Err(error) => {
                    self.source = Source::Done;
                    self.source = self.after(error)?;
                }
            }
        }
    }

    /// The bytes as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, MirrorError>> + Send {
        unfold(self, |mut body| async { body.chunk().await.transpose().map(|item| (item, body)) })
    }

    /// Takes in what came after we waited so long for it.
    fn take(&mut self, arrived: Option<Bytes>, waited: Duration, now: Instant) -> Result<Step, MirrorError> {
        let may_go_on = self.may_go_on();
        let Source::Live { body, skip } = &mut self.source else { return Ok(Step::Nothing) };
        let Some(mut bytes) = arrived else {
            return match self.end {
                Some(end) if self.position < end => Err(MirrorError::Broken {
                    host: body.host().to_owned(),
                    why: "the body is too short".to_owned(),
                }),
                _ => Ok(Step::End),
            };
        };
        let fast = self.pace.note(waited, bytes.len() as u64);
        let known = at_most(*skip, bytes.len());
        bytes.advance(known);
        *skip -= known as u64;
        if let Some(end) = self.end {
            // A mirror without ranges sends the whole file where we had asked for a part.
            bytes.truncate(at_most(end - self.position, bytes.len()));
        }
        self.position += bytes.len() as u64;
        self.attempts.progress(bytes.len() as u64, now);
        if self.end == Some(self.position) {
            self.source = Source::Done;
        } else if !fast && may_go_on {
            // Another connection may do better; what came is good all the same.
            debug!(host = body.host(), "a mirror sends hardly anything: asking again");
            self.source = Source::Waiting(now);
        }
        Ok(if bytes.is_empty() { Step::Nothing } else { Step::Bytes(bytes) })
    }

    /// What to do after `error`: wait and ask again, or pass it on.
    fn after(&mut self, error: MirrorError) -> Result<Source, MirrorError> {
        if !self.may_go_on() {
            return Err(error);
        }
        self.mirror.again(&mut self.attempts, &error).map(Source::Waiting).ok_or(error)
    }

    fn may_go_on(&self) -> bool {
        match self.resume {
            Resume::Verified => true,
            _ if self.position == self.start => true,
            Resume::IfUnchanged => self.validator.is_some(),
            Resume::Never => false,
        }
    }

    /// Asks for the rest.
    fn reopen(&self) -> Reopening {
        let (mirror, request) = (self.mirror.clone(), self.request_for_rest());
        let deadline = self.attempts.deadline();
        Box::pin(async move { mirror.fetch_within(&request, deadline).await })
    }

    /// Takes this answer for the rest, if it is.
    fn go_on(&mut self, response: MirrorResponse<MirrorBody>) -> Result<Step, MirrorError> {
        let host = response.target.host.to_string();
        if is_transient(response.status) {
            return Err(MirrorError::Broken { host, why: format!("it answered {}", response.status) });
        }
        let skip = self.fit(&response).map_err(|why| MirrorError::unusable(&host, why))?;
        self.total = self.total.or(response.total_length());
        self.end = self.end.or(self.total);
        self.pace = Pace::new(self.mirror.patience().slow);
        self.source = Source::Live { body: response.body, skip };
        Ok(Step::Nothing)
    }

    fn request_for_rest(&self) -> MirrorRequest {
        let mut request = self.request.clone();
        // The conditions were met by the first answer; a 304 would be no use now.
        (request.if_modified_since, request.if_none_match) = (None, None);
        request.if_range.clone_from(&self.validator);
        request.range = match (&self.request.range, self.end) {
            (Some(Wanted::Span(_)), Some(end)) => Some(Wanted::Span(self.position..end)),
            _ => Some(self.position).filter(|position| *position > 0).map(Wanted::From),
        };
        request
    }

    /// How many bytes of this answer we have already, if it is the file that we began with.
    fn fit<B>(&self, response: &MirrorResponse<B>) -> Result<u64, String> {
        let skip = match response.status {
            StatusCode::PARTIAL_CONTENT => 0,
            StatusCode::OK => self.position,
            status => return Err(format!("{status} instead of the rest of the file")),
        };
        if let (Some(before), Some(now)) = (self.total, response.total_length())
            && before != now
        {
            return Err(format!("a file of {now} bytes, which had {before} before"));
        }
        let same = self.resume == Resume::Verified
            || match (&self.validator, response.validator()) {
                (Some(before), Some(now)) => before == now,
                // A part under If-Range is of the same file (RFC 9110 §13.1.5); and where nothing was handed out,
                // any file will do.
                (Some(_), None) => skip == 0,
                (None, _) => self.position == self.start,
            };
        if same { Ok(skip) } else { Err("another version of the file than before".to_owned()) }
    }
}

/// What came of one step.
enum Step {
    /// Nothing to hand out, but something has changed.
    Nothing,
    /// These bytes, not empty.
    Bytes(Bytes),
    /// The end.
    End,
}

/// Which part of the whole file an answer holds: its start, and its end where known.
fn span<B>(response: &MirrorResponse<B>) -> (u64, Option<u64>) {
    match &response.content_range {
        Some(ContentRange::Bytes { range, .. }) if response.status == StatusCode::PARTIAL_CONTENT => {
            (range.start, Some(range.end))
        }
        _ => (0, response.content_length),
    }
}

fn at_most(limit: u64, length: usize) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX).min(length)
}
