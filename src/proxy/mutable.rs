//! Release files: the only files of a repository that change under one name. Always asked of the mirror, never resumed,
//! and read for what they teach.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::time::{timeout, timeout_at};
use tracing::debug;

use super::answer::{Origin, own, sign};
use super::bypass::{APT_LIMIT, copy_head};
use super::object::Named;
use super::passing::{Lesson, hand_on};
use super::{Asked, ProxySite, status_of};
use crate::debian::RepoUrl;
use crate::digest::Sha256;
use crate::download::Download;
use crate::http::{Body, Hangup};
use crate::index::{Index, Offer};
use crate::mirror::{MirrorError, MirrorRequest, MirrorResponse, Resume, ResumingBody, RetryPolicy, Target};

/// The longest Release that is read, in bytes; Debian's have 150 kB.
pub(super) const MAX_RELEASE: usize = 16 << 20;

/// How long a Release file is held back until it is whole, so that apt sees nothing of a mirror's mistakes; what takes
/// longer goes out as it comes, before apt's 30 s are over.
const HOLD: Duration = Duration::from_secs(15);

/// The most Release files whose date is remembered.
const MAX_STAMPS: usize = 1024;

/// Which of the files that sign a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReleasePart {
    /// `InRelease`: hashes and signature in one.
    Inline,
    /// `Release`: hashes.
    Plain,
    /// `Release.gpg`: its signature.
    Signature,
}

impl ReleasePart {
    /// The part that a URL names by its last segment.
    pub(super) fn of(url: &RepoUrl) -> Option<Self> {
        match url.path().rsplit('/').next() {
            Some("InRelease") => Some(Self::Inline),
            Some("Release") => Some(Self::Plain),
            Some("Release.gpg") => Some(Self::Signature),
            _ => None,
        }
    }
}

/// The `Last-Modified` of the Release files that were read since the start, by URL.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamps(Arc<Mutex<HashMap<String, HeaderValue>>>);

impl Stamps {
    /// Whether a client that has the file of this date has what was read here.
    fn is_current(&self, target: &Target, date: &HeaderValue) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&target.to_string()) == Some(date)
    }

    pub(super) fn put(&self, target: &Target, date: Option<&HeaderValue>) {
        let mut stamps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(date) = date else {
            stamps.remove(&target.to_string());
            return;
        };
        if stamps.len() < MAX_STAMPS || stamps.contains_key(&target.to_string()) {
            stamps.insert(target.to_string(), date.clone());
        }
    }
}

/// A mirror's answer to a request for a Release file.
enum Fetched {
    /// All of it.
    Whole(Box<MirrorResponse<()>>, Bytes),
    /// Its beginning; the rest is still to come.
    Growing(Box<MirrorResponse<ResumingBody>>, Bytes),
}

impl Fetched {
    /// The mirror's `Last-Modified`.
    fn date(&self) -> Option<&HeaderValue> {
        match self {
            Self::Whole(response, _) => response.last_modified.as_ref(),
            Self::Growing(response, _) => response.last_modified.as_ref(),
        }
    }
}

impl ProxySite {
    /// Answers with a Release file as the mirror has it now.
    pub(super) async fn release(
        &self,
        asked: &Asked,
        target: &Target,
        url: &RepoUrl,
        part: ReleasePart,
    ) -> Result<Response<Body>, Hangup> {
        match timeout(APT_LIMIT, self.fetch_release(asked, target)).await {
            Ok(Ok(fetched)) => {
                let date = fetched.date().cloned();
                let (index, stamps, metrics) =
                    (self.index.clone(), self.releases.clone(), self.metrics.clone());
                let lesson =
                    Lesson { index, stamps, target: target.clone(), url: url.clone(), part, date, metrics };
                Ok(match fetched {
                    Fetched::Whole(response, body) => {
                        self.answer_release(asked, *response, body, lesson).await
                    }
                    Fetched::Growing(response, begun) => self.hand_release_on(*response, begun, lesson),
                })
            }
            Ok(Err(error)) => {
                debug!(%target, %error, "a Release file could not be had");
                Ok(own(status_of(&error), format!("{target}: {error}")))
            }
            Err(_) => Err(Hangup),
        }
    }

    /// The mirror's answer, whole if it comes in time. A body that breaks off before is asked for again from its start:
    /// the file may change at any time.
    async fn fetch_release(&self, asked: &Asked, target: &Target) -> Result<Fetched, MirrorError> {
        let mut request = MirrorRequest::get(target.clone());
        request.method = asked.method.clone();
        request.cache_control = Some(HeaderValue::from_static("max-age=0"));
        // The mirror may answer 304 only where this very file has been read here, or its hashes would stay unknown.
        let since = asked.headers.get(header::IF_MODIFIED_SINCE);
        request.if_modified_since = since.filter(|date| self.releases.is_current(target, date)).cloned();
        let mut last_error = None;
        for _ in 0..3 {
            let response = self.mirror.open(request.clone(), Resume::Never, RetryPolicy::default()).await?;
            match collect(response, asked.at + HOLD).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.unwrap_or_else(|| MirrorError::unusable(&target.host, "a Release without an end")))
    }

    async fn answer_release(
        &self,
        asked: &Asked,
        response: MirrorResponse<()>,
        body: Bytes,
        lesson: Lesson,
    ) -> Response<Body> {
        self.metrics.bytes_received(crate::metrics::Source::Mirror, body.len() as u64);
        if response.status == StatusCode::OK && asked.method == Method::GET {
            lesson.learn(&body).await;
        }
        let fresh = response.status == StatusCode::OK;
        let unchanged = fresh
            && response.last_modified.is_some()
            && response.last_modified.as_ref() == asked.headers.get(header::IF_MODIFIED_SINCE);
        let mut answer = Response::new(Body::empty());
        copy_head(&response, answer.headers_mut());
        *answer.status_mut() = if unchanged { StatusCode::NOT_MODIFIED } else { response.status };
        *answer.body_mut() = match () {
            () if unchanged || response.status == StatusCode::NOT_MODIFIED => Body::empty(),
            () if asked.method == Method::HEAD => Body::absent(response.content_length.unwrap_or(0)),
            () => Body::full(body),
        };
        if asked.method == Method::GET && (fresh || response.status == StatusCode::NOT_MODIFIED) {
            self.metrics.object_delivered(crate::metrics::Source::Mirror);
        }
        sign(answer, Origin::Revalidated { status: response.status })
    }

    /// Answers with a Release file that is still coming.
    fn hand_release_on(
        &self,
        response: MirrorResponse<ResumingBody>,
        begun: Bytes,
        lesson: Lesson,
    ) -> Response<Body> {
        debug!(target = %lesson.target, "a Release file comes slowly: handed on as it comes");
        let (status, length) = (response.status, response.content_length);
        let mut answer = Response::new(Body::empty());
        copy_head(&response, answer.headers_mut());
        *answer.status_mut() = status;
        *answer.body_mut() =
            Body::stream(hand_on(begun, response.body, length, lesson, self.metrics.clone()), length);
        self.metrics.object_delivered(crate::metrics::Source::Mirror);
        sign(answer, Origin::Revalidated { status })
    }

    /// Has an index read that is passing: requests for what it names wait until that is done. `whole`: it has passed.
    pub(super) fn learn_index(&self, named: &Named, download: &Download, whole: bool) {
        if !self.index.wants(&named.id) {
            return;
        }
        let (index, id, download) = (self.index.clone(), named.id, download.clone());
        if whole {
            offer(&index, id, download);
            return;
        }
        self.learning.spawn(async move {
            if download.closed().await.is_ok() {
                offer(&index, id, download);
            }
        });
    }
}

fn offer(index: &Index, id: Sha256, download: Download) {
    let open = move || download.read_whole().ok_or_else(|| std::io::Error::other("the index is not whole"));
    let offered = index.offer_index(id, Box::new(open));
    if offered == Offer::Full {
        debug!(object = %id, "too many indexes wait to be read: this one is not");
    }
}

/// Takes in a body until it ends, until the time is over, or until it is too long to be held.
async fn collect(mut response: MirrorResponse<ResumingBody>, until: Instant) -> Result<Fetched, MirrorError> {
    let mut held = BytesMut::new();
    while held.len() <= MAX_RELEASE {
        let Ok(chunk) = timeout_at(until.into(), response.body.chunk()).await else { break };
        match chunk? {
            Some(bytes) => held.extend_from_slice(&bytes),
            None => return Ok(Fetched::Whole(Box::new(response.map(|_| ())), held.freeze())),
        }
    }
    Ok(Fetched::Growing(Box::new(response), held.freeze()))
}
