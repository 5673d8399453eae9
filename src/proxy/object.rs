//! Files whose hash an index has told: from the store, from peers, from the mirror, verified in any case.

use std::ops::Range;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::time::timeout;
use tracing::debug;

use super::answer::{Origin, own, set, sign};
use super::{Asked, ProxySite, mirror_failure};
use crate::digest::Sha256;
use crate::download::{Download, DownloadError, Want};
use crate::http::{Body, Hangup, Outcome, Representation, precondition};
use crate::index::Kind;
use crate::metrics::Source;
use crate::mirror::Target;

/// When the answer's head goes out at the latest, bytes or no bytes: apt hangs up after 30 s without any.
const HEAD_LIMIT: Duration = Duration::from_secs(20);

/// How long an index may take before it is trickled: it goes out in one go if it is verified by then.
const INDEX_LIMIT: Duration = Duration::from_secs(15);

/// How long an index that teaches hashes may take to be on disk before apt gets it.
const STORE_LIMIT: Duration = Duration::from_secs(1);

/// How often a byte of a slow index goes out, so that apt's 30 s start anew.
const TRICKLE: Duration = Duration::from_secs(10);

/// A file of a repository, as an index names it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) id: Sha256,
    pub(super) length: u64,
    pub(super) kind: Kind,
    /// The archive that it belongs to.
    pub(super) archive: Option<Sha256>,
}

/// What became of a try to answer from a download.
enum Tried {
    Answer(Response<Body>),
    /// The mirror's own file is what apt would have got: hand that through.
    PassThrough,
}

impl ProxySite {
    pub(super) fn want(target: &Target, named: &Named) -> Want {
        let path = target.path_and_query.path();
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let archive = named.archive;
        // What teaches hashes is read again from the store.
        let prompt = named.kind == Kind::Index;
        Want { id: named.id, length: named.length, mirror: Some(target.clone()), name, archive, prompt }
    }

    /// Answers with a file that an index names. `begun` is its download, where one was begun ahead: what was fetched
    /// for this very request is no hit, and counted once.
    pub(super) async fn object(
        &self,
        asked: &Asked,
        target: &Target,
        named: &Named,
        begun: Option<Download>,
    ) -> Result<Response<Body>, Hangup> {
        if asked.method == Method::HEAD && self.downloads.held(&named.id, named.length).is_none() {
            // What is asked is what the mirror has, not its bytes.
            return self.pass_through(asked, target).await;
        }
        let mut begun = begun.filter(|download| download.length() == named.length && !download.has_failed());
        for _ in 0..2 {
            let opened = begun.take().map_or_else(|| self.downloads.open(Self::want(target, named)), Ok);
            let download = match opened {
                Ok(download) => download,
                Err(error) => return Ok(own(StatusCode::BAD_GATEWAY, format!("{target}: {error}"))),
            };
            match self.answer_from(asked, target, named, &download).await {
                Ok(Tried::Answer(response)) => return Ok(response),
                Ok(Tried::PassThrough) => return self.pass_through(asked, target).await,
                // What was tainted or damaged is gone now: the second try starts over.
                Err(DownloadError::Tainted | DownloadError::Damaged | DownloadError::Unwanted) => {}
                Err(DownloadError::ShuttingDown) => return Err(Hangup),
                Err(error) => return self.failure(asked, target, &download, &error).await,
            }
        }
        self.pass_through(asked, target).await
    }

    async fn answer_from(
        &self,
        asked: &Asked,
        target: &Target,
        named: &Named,
        download: &Download,
    ) -> Result<Tried, DownloadError> {
        let held = download.is_held();
        if held {
            self.metrics.cache_hit();
        } else {
            self.metrics.cache_miss();
        }
        let whole_first = named.kind == Kind::Index;
        let limit = if whole_first { INDEX_LIMIT } else { HEAD_LIMIT };
        let ready = async { if whole_first { download.closed().await } else { download.ready(1).await } };
        let in_time = match timeout(limit, ready).await {
            Ok(Ok(())) => true,
            Ok(Err(DownloadError::NoSource)) if download.mirror_differs() => return Ok(Tried::PassThrough),
            Ok(Err(DownloadError::NoRoom(error))) => {
                debug!(%target, %error, "handed through for want of room");
                return Ok(Tried::PassThrough);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => false,
        };
        if whole_first {
            if in_time && self.index.wants(&named.id) {
                // What apt has got must be known after a crash, too: once it is in the store it will be read again.
                let _ = timeout(STORE_LIMIT, download.settled()).await;
            }
            self.learn_index(named, download, in_time);
        }
        let source = match download.tally() {
            _ if held => Source::Cache,
            tally if tally.peers > tally.mirror => Source::Peer,
            _ => Source::Mirror,
        };
        self.metrics.first_byte(source, crate::clock::now() - asked.at);
        let trickle = whole_first && !in_time;
        Ok(Tried::Answer(self.describe(asked, named, download, trickle)))
    }

    /// The answer's head, and its body as the bytes become readable.
    fn describe(&self, asked: &Asked, named: &Named, download: &Download, trickle: bool) -> Response<Body> {
        let etag = HeaderValue::try_from(format!("\"{}\"", named.id)).ok();
        let last_modified = download.last_modified().and_then(|text| HeaderValue::try_from(text).ok());
        let file = Representation {
            length: named.length,
            etag: etag.as_ref(),
            last_modified: last_modified.as_ref(),
        };
        // A reader whose first part proved wrong must throw it away: 200 makes apt do so.
        let restart = self.downloads.was_tainted(&named.id) && asked.headers.contains_key(header::RANGE);
        let outcome =
            if restart { Outcome::Full } else { precondition(&asked.method, &asked.headers, &file) };
        let origin = |status| match download.is_held() {
            true => Origin::Hit,
            false => Origin::Miss { status, tally: download.tally() },
        };
        let (status, range) = match outcome {
            Outcome::Full => (StatusCode::OK, 0..named.length),
            Outcome::Partial(range) => (StatusCode::PARTIAL_CONTENT, range),
            Outcome::NotModified => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                put_validators(&mut response, etag, last_modified);
                return sign(response, origin(StatusCode::OK));
            }
            Outcome::NotSatisfiable => {
                let mut response = own(StatusCode::RANGE_NOT_SATISFIABLE, "no such range of the file");
                set(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", named.length));
                return response;
            }
        };
        let length = range.end - range.start;
        let body = if asked.method == Method::HEAD {
            Body::absent(length)
        } else {
            if download.is_held() {
                self.metrics.object_delivered(Source::Cache);
                self.metrics.bytes_received(Source::Cache, length);
                self.downloads.note_served(named.id, named.length, &asked.path);
            }
            body(download, range.clone(), trickle)
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        if status == StatusCode::PARTIAL_CONTENT {
            let value = format!("bytes {}-{}/{}", range.start, range.end - 1, named.length);
            set(&mut response, header::CONTENT_RANGE, &value);
        }
        put_validators(&mut response, etag, last_modified);
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        set(&mut response, header::CONTENT_TYPE, content_type(&asked.path));
        sign(response, origin(StatusCode::OK))
    }

    /// Nobody has it: the mirror's own words where it said any, else ours.
    async fn failure(
        &self,
        asked: &Asked,
        target: &Target,
        download: &Download,
        error: &DownloadError,
    ) -> Result<Response<Body>, Hangup> {
        let Some(mirror) = download.mirror_error() else {
            return Ok(own(StatusCode::BAD_GATEWAY, format!("{target}: {error}")));
        };
        debug!(%target, %mirror, "no source has a file");
        if mirror.is_answer() {
            // What the mirror says, or a file that the index does not know: apt gets what it would get directly.
            return self.pass_through(asked, target).await;
        }
        Ok(mirror_failure(target, &mirror))
    }
}

fn body(download: &Download, range: Range<u64>, trickle: bool) -> Body {
    let length = range.end - range.start;
    if trickle {
        return Body::stream(trickled(download.clone(), range), Some(length));
    }
    Body::stream(download.chunks(range).into_stream(), Some(length))
}

/// A body that goes out byte by byte until the whole object is proven, then at once.
fn trickled(
    download: Download,
    range: Range<u64>,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, DownloadError>> + Send {
    let chunks = download.chunks(range.clone());
    futures_util::stream::try_unfold(
        (download, chunks, range.start, false),
        |(download, mut chunks, at, closed)| async move {
            if closed {
                return Ok(chunks.next().await?.map(|bytes| (bytes, (download, chunks, at, true))));
            }
            loop {
                match timeout(TRICKLE, download.closed()).await {
                    Ok(Ok(())) => {
                        let next = chunks.next().await?;
                        return Ok(next.map(|bytes| (bytes, (download, chunks, at, true))));
                    }
                    Ok(Err(error)) => return Err(error),
                    Err(_) => {
                        if let Some(byte) = chunks.next_byte()? {
                            return Ok(Some((byte, (download, chunks, at + 1, false))));
                        }
                    }
                }
            }
        },
    )
}

fn put_validators(
    response: &mut Response<Body>,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
) {
    let headers: &mut HeaderMap = response.headers_mut();
    etag.map(|value| headers.insert(header::ETAG, value));
    last_modified.map(|value| headers.insert(header::LAST_MODIFIED, value));
}

/// What servers of Debian's archive say of such files.
fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("deb" | "udeb" | "ddeb") => "application/vnd.debian.binary-package",
        Some("gz") => "application/gzip",
        Some("xz") => "application/x-xz",
        Some("bz2") => "application/x-bzip2",
        Some("zst") => "application/zstd",
        _ => "application/octet-stream",
    }
}
