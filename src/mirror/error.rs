//! What can go wrong between a mirror and us.

use std::error::Error;
use std::time::Duration;

use super::dial::DialError;
use super::policy::Refusal;

/// Why a mirror gave nothing, or not all of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MirrorError {
    /// We do not ask there: 403 for the client.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No connection: no such name, refused, too slow, or the proxy on the way would not.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// Whom we asked.
        host: String,
        /// What happened.
        why: String,
    },
    /// The connection broke before the answer was complete.
    #[error("{host} broke off: {why}")]
    Broken {
        /// Whom we asked.
        host: String,
        /// What happened.
        why: String,
    },
    /// Nothing came for too long.
    #[error("{host} sent nothing for {} s", .during.as_secs_f32())]
    Stalled {
        /// Whom we asked.
        host: String,
        /// How long we waited.
        during: Duration,
    },
    /// The other side is not who it should be: asking again would not help.
    #[error("cannot trust the certificate of {host}: {why}")]
    Untrusted {
        /// Whom we asked.
        host: String,
        /// What is wrong with the certificate.
        why: String,
    },
    /// An answer that makes no sense, or does not fit what came before: asking again would not help.
    #[error("{host} answered what cannot be used: {why}")]
    Unusable {
        /// Whom we asked.
        host: String,
        /// What is wrong with the answer.
        why: String,
    },
}

impl MirrorError {
    /// Whether asking the same again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. } | Self::Stalled { .. })
    }

    /// An answer of `host` that cannot be used.
    pub fn unusable(host: &impl ToString, why: impl Into<String>) -> Self {
        Self::Unusable { host: host.to_string(), why: why.into() }
    }

    pub(super) fn broken(host: &impl ToString, error: &(dyn Error + 'static)) -> Self {
        Self::Broken { host: host.to_string(), why: innermost(error) }
    }

    /// What the client's error means; ours are somewhere in its chain of causes.
    pub(super) fn from_client(host: &impl ToString, error: &hyper_util::client::legacy::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(ours) = error.downcast_ref::<DialError>() {
                return ours.to_mirror_error();
            }
            if let Some(http) = error.downcast_ref::<hyper::Error>()
                && http.is_parse()
            {
                return Self::unusable(host, innermost(http));
            }
            cause = error.source();
        }
        Self::broken(host, error)
    }
}

/// The last cause says what happened; those above it only say where.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
