//! The HTTP origin: asks mirrors, and nobody else, for files.
//!
//! A [`Target`] says what, the [`Policy`] whether that host may be asked, [`Upstream`] whether by way of the user's own
//! proxy. [`Mirror::fetch`] is one attempt; [`Mirror::open`] absorbs what can be retried and resumes what was cut.

mod apt_sources;
mod dial;
mod error;
mod origin;
mod pace;
mod policy;
mod pulse;
mod request;
mod resume;
mod retry;
mod target;
mod upstream;

pub use apt_sources::{Source, named_hosts, sources};
pub use dial::{Bare, Bytestream};
pub use error::MirrorError;
pub use origin::{Mirror, MirrorBody, MirrorConfig, MirrorConfigError, Patience};
pub use policy::{Pattern, Policy, Refusal, is_public};
pub use pulse::Pulse;
pub use request::{MirrorRequest, MirrorResponse, Wanted};
pub use resume::{Resume, ResumingBody};
pub use retry::RetryPolicy;
pub use target::{Host, Scheme, Target, TargetError};
pub use upstream::{Proxy, Upstream, UpstreamSetting};
