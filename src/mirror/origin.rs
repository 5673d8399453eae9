//! One attempt at one file: the request, the redirects, the body as it comes.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Mutex;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tracing::{debug, warn};

use super::apt_sources::named_hosts;
use super::dial::{Bare, Dial, DialPlan, proxy_authorization};
use super::error::MirrorError;
use super::policy::{Pattern, Policy};
use super::pulse::{Pulse, Wrist};
use super::request::{MirrorRequest, MirrorResponse};
use super::target::{Scheme, Target};
use super::upstream::{Upstream, UpstreamSetting};
use crate::clock;
use crate::http::ContentRange;

/// How often a mirror may send us elsewhere for one file.
const MAX_HOPS: usize = 5;
/// How long a connection is kept for the next file: most servers close theirs after 5 to 75 s.
const KEEP_IDLE: Duration = Duration::from_secs(15);
const KEEP_IDLE_PER_HOST: usize = 8;
/// How much of an answer is read at once: more gains nothing, and each connection has such a buffer.
const READ_BUFFER: usize = 32 << 10;
/// What we call ourselves.
const USER_AGENT: &str = concat!("aptpeer/", env!("CARGO_PKG_VERSION"));

/// How the room is set up.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// `mirrors.allow`.
    pub allow: Vec<Pattern>,
    /// `mirrors.allow_private`.
    pub allow_private: bool,
    /// Where apt's sources are, usually `/etc/apt`; `None` asks nobody.
    pub apt_dir: Option<PathBuf>,
    /// Where we listen ourselves.
    pub own: Vec<SocketAddr>,
    /// `mirrors.proxy`.
    pub upstream: UpstreamSetting,
    /// `mirrors.ca_file`: certificates (PEM) to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// How long each step may take.
    pub patience: Patience,
}

impl Default for MirrorConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            allow_private: false,
            apt_dir: Some(PathBuf::from("/etc/apt")),
            own: Vec::new(),
            upstream: UpstreamSetting::Auto,
            ca_file: None,
            patience: Patience::default(),
        }
    }
}

/// How long a mirror is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection, whichever of its addresses answers.
    pub connect: Duration,
    /// For the head of an answer, redirects and connections included.
    pub first_byte: Duration,
    /// For the head of an answer, before a second request is sent beside the first.
    pub second_try: Duration,
    /// For the next bytes of a body.
    pub stall: Duration,
    /// For a body that can be resumed to come at 1 KiB/s or more, counted while we wait for it.
    pub slow: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            // apt waits 30 s.
            first_byte: Duration::from_secs(28),
            second_try: Duration::from_secs(8),
            stall: Duration::from_secs(10),
            slow: Duration::from_secs(20),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MirrorConfigError {
    /// `mirrors.ca_file`.
    #[error("cannot read certificates from mirrors.ca_file {path}: {why}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The TLS library.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

/// All mirrors. Cheap to clone; connections are kept and shared.
#[derive(Clone)]
pub struct Mirror(Arc<Inner>);

struct Inner {
    client: Client<Dial, Empty<Bytes>>,
    plan: Arc<DialPlan>,
    patience: Patience,
    apt_dir: Option<PathBuf>,
    /// Held while apt's sources are read again: once at a time, however many requests are refused.
    reread: Mutex<()>,
    wrist: Wrist,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mirror")
    }
}

impl Mirror {
    /// Reads apt's sources, the system's certificates and the user's proxy settings: blocks for a moment.
    pub fn new(config: MirrorConfig) -> Result<Self, MirrorConfigError> {
        let tls = Arc::new(trust(config.ca_file)?);
        let upstream = Upstream::detect(&config.upstream, &config.own);
        let named = config.apt_dir.as_ref().map_or_else(HashSet::new, |dir| named_hosts(dir, &config.own));
        let policy =
            Policy { allow: config.allow, allow_private: config.allow_private, named, own: config.own };
        let plan = Arc::new(DialPlan {
            policy: RwLock::new(Arc::new(policy)),
            upstream,
            tls,
            limit: config.patience.connect,
            private: std::sync::Mutex::default(),
        });
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(KEEP_IDLE_PER_HOST)
            .http1_max_buf_size(READ_BUFFER)
            .http1_ignore_invalid_headers_in_responses(true)
            .build(Dial(plan.clone()));
        Ok(Self(Arc::new(Inner {
            client,
            plan,
            patience: config.patience,
            apt_dir: config.apt_dir,
            reread: Mutex::new(()),
            wrist: Wrist::default(),
        })))
    }

    /// How mirrors have answered lately.
    pub fn pulse(&self) -> Pulse {
        self.0.wrist.take()
    }

    /// Takes note of how an attempt went. An error of the server is no answer; that we do not ask somewhere is not its fault.
    pub(super) fn note(&self, outcome: &Result<StatusCode, &MirrorError>) {
        let now = clock::now();
        match outcome {
            Ok(status) if status.is_server_error() => {
                self.0.wrist.failed(now, format!("the mirror answered {status}"));
            }
            Ok(_) => self.0.wrist.answered(now),
            Err(MirrorError::Refused(_)) => {}
            Err(error) => self.0.wrist.failed(now, error.to_string()),
        }
    }

    /// A bare connection to the TLS port of `host`, for a client that speaks TLS to it itself.
    pub async fn tunnel(&self, host: &str) -> Result<Bare, MirrorError> {
        let url = format!("https://{host}/");
        let target = Target::parse(&url).map_err(|error| MirrorError::unusable(&host, error.to_string()))?;
        self.0.plan.policy().permit_host(&target.host)?;
        self.0.plan.connect_blind(&target).await.map_err(|error| error.to_mirror_error())
    }

    /// Whether the mirror of `target` is where not everybody reaches it: at a private or loopback address, or under a name
    /// of a local network. `None` where nobody has looked yet.
    pub fn is_private(&self, target: &Target) -> Option<bool> {
        self.0.plan.is_private(target)
    }

    /// The same; looks where nobody has yet, which may take as long as a connection.
    pub async fn find_private(&self, target: &Target) -> bool {
        self.0.plan.find_private(target).await
    }

    pub(super) fn patience(&self) -> Patience {
        self.0.patience
    }

    /// Asks once, following redirects. An answer of any status is an answer.
    ///
    /// A part that was asked for has been checked to begin where it should; a mirror may send the whole file instead.
    pub async fn fetch(&self, request: &MirrorRequest) -> Result<MirrorResponse<MirrorBody>, MirrorError> {
        let policy = self.0.plan.policy();
        match self.fetch_once(request).await {
            // The sources may have been edited since they were read.
            Err(MirrorError::Refused(_)) if self.reread_sources(&policy).await => {
                self.fetch_once(request).await
            }
            result => result,
        }
    }

    async fn fetch_once(&self, request: &MirrorRequest) -> Result<MirrorResponse<MirrorBody>, MirrorError> {
        let limit = self.0.patience.first_byte;
        let silent = |_| MirrorError::Stalled { host: request.target.host.to_string(), during: limit };
        tokio::time::timeout(limit, self.follow(request)).await.map_err(silent)?
    }

    /// The answer at the end of the redirects.
    async fn follow(&self, request: &MirrorRequest) -> Result<MirrorResponse<MirrorBody>, MirrorError> {
        let mut target = request.target.clone();
        let mut headers = request.headers();
        for _ in 0..=MAX_HOPS {
            self.0.plan.policy().permit_host(&target.host)?;
            let response = self.send(request, &target, headers.clone()).await?;
            let Some(next) = redirect(&target, &response)? else {
                return self.receive(request, target, response);
            };
            debug!(from = %target.host, to = %next.host, "a mirror redirects");
            if !target.same_origin(&next) {
                // Credentials are for the host they were given for (RFC 9110 §15.4).
                headers.remove(header::AUTHORIZATION);
            }
            target = next;
        }
        Err(MirrorError::unusable(&request.target.host, format!("more than {MAX_HOPS} redirects")))
    }

    async fn send(
        &self,
        request: &MirrorRequest,
        target: &Target,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, MirrorError> {
        let host = &target.host;
        let uri = target.uri().map_err(|error| MirrorError::unusable(host, error.to_string()))?;
        let mut outgoing = Request::new(Empty::new());
        *outgoing.method_mut() = request.method.clone();
        *outgoing.uri_mut() = uri;
        *outgoing.headers_mut() = headers;
        outgoing.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if let Some(value) = proxy_authorization(&self.0.plan.upstream, target) {
            outgoing.headers_mut().insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        self.0.client.request(outgoing).await.map_err(|error| MirrorError::from_client(host, &error))
    }

    fn receive(
        &self,
        request: &MirrorRequest,
        target: Target,
        response: Response<Incoming>,
    ) -> Result<MirrorResponse<MirrorBody>, MirrorError> {
        let (head, incoming) = response.into_parts();
        let host = target.host.to_string();
        let answer = MirrorResponse::read(head.status, &head.headers, target);
        if answer.status == StatusCode::PARTIAL_CONTENT {
            check_part(request, &answer).map_err(|why| MirrorError::unusable(&host, why))?;
        }
        let stall = self.0.patience.stall;
        Ok(answer.map(|()| MirrorBody { incoming, host, stall, waiting: None }))
    }

    /// Reads apt's sources anew; true if they name other hosts than the policy that refused.
    async fn reread_sources(&self, refused_by: &Policy) -> bool {
        let Some(dir) = self.0.apt_dir.clone() else { return false };
        let _alone = self.0.reread.lock().await;
        let policy = self.0.plan.policy();
        if policy.named != refused_by.named {
            return true; // Somebody else has just done it.
        }
        let own = policy.own.clone();
        let Ok(named) = tokio::task::spawn_blocking(move || named_hosts(&dir, &own)).await else {
            return false;
        };
        if named == policy.named {
            return false;
        }
        let policy = Arc::new(Policy { named, ..(*policy).clone() });
        *self.0.plan.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
        true
    }
}

/// The bytes of an answer.
#[derive(Debug)]
pub struct MirrorBody {
    incoming: Incoming,
    host: String,
    stall: Duration,
    /// Since when the next bytes are waited for. Outlives a cancelled wait: a stall is a stall however often we ask.
    waiting: Option<Instant>,
}

impl MirrorBody {
    /// The next bytes, never empty; `None` at the end. May be cancelled and called again.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, MirrorError> {
        loop {
            let deadline = self.waiting_since() + self.stall;
            let frame = match tokio::time::timeout_at(deadline.into(), self.incoming.frame()).await {
                Ok(frame) => frame,
                Err(_) => {
                    let host = self.host.clone();
                    return Err(MirrorError::Stalled { host, during: self.stall });
                }
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(MirrorError::broken(&self.host, &error)),
                // Trailers say nothing we need.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => {
                        self.waiting = None;
                        return Ok(Some(bytes));
                    }
                    _ => {}
                },
            }
        }
    }

    /// The bytes as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, MirrorError>> + Send {
        unfold(Some(self), |body| async {
            let mut body = body?;
            match body.chunk().await.transpose()? {
                Ok(bytes) => Some((Ok(bytes), Some(body))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// When the wait for the next bytes began, which is now if none is going on.
    pub(super) fn waiting_since(&mut self) -> Instant {
        *self.waiting.get_or_insert_with(clock::now)
    }

    /// Who sends them.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

/// Where this answer sends us, if it does.
fn redirect<B>(from: &Target, response: &Response<B>) -> Result<Option<Target>, MirrorError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(header::LOCATION) else { return Ok(None) };
    let unusable = |why: String| MirrorError::unusable(&from.host, why);
    let location = location.to_str().map_err(|_| unusable("its redirect is not text".to_owned()))?;
    let next = from.join(location).map_err(|error| unusable(format!("its redirect is {error}")))?;
    if (from.scheme, next.scheme) == (Scheme::Https, Scheme::Http) {
        return Err(unusable(format!("it redirects from https to plain http on {}", next.host)));
    }
    Ok(Some(next))
}

/// Whether a 206 is the part that was asked for (RFC 9110 §15.3.7: one part carries its `Content-Range`).
fn check_part(request: &MirrorRequest, answer: &MirrorResponse<()>) -> Result<(), String> {
    let Some(wanted) = &request.range else { return Err("a part of the file, unasked".to_owned()) };
    match &answer.content_range {
        Some(ContentRange::Bytes { range, .. }) if range.start == wanted.start() => {
            let length = range.end - range.start;
            match answer.content_length {
                Some(announced) if announced != length => {
                    Err(format!("{announced} bytes that claim to be {length}"))
                }
                _ => Ok(()),
            }
        }
        Some(other) => Err(format!("{other} instead of from byte {}", wanted.start())),
        None => Err("a part of the file without saying which".to_owned()),
    }
}

/// The certificates of the system (or of `SSL_CERT_FILE` and `SSL_CERT_DIR`) and those of `ca_file`.
fn trust(ca_file: Option<PathBuf>) -> Result<ClientConfig, MirrorConfigError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        warn!(%error, "cannot read some of the system's certificates");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        let own = read_certificates(&path).and_then(|certificates| {
            if certificates.is_empty() {
                return Err("it holds none".to_owned());
            }
            certificates.into_iter().try_for_each(|one| roots.add(one).map_err(|error| error.to_string()))
        });
        own.map_err(|why| MirrorConfigError::CaFile { path, why })?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read_certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    all.collect::<Result<_, _>>().map_err(|error| error.to_string())
}
