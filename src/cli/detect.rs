//! `aptpeer detect URI`: what apt's `Acquire::http::Proxy-Auto-Detect` asks before a file is fetched.
//!
//! Prints our URL where the daemon is well and would ask that mirror. Otherwise it prints nothing, and apt goes on with
//! whatever proxy its user has set, or none. It never fails: with another exit status than 0 apt would end with an error
//! although every file came.

use std::path::Path;
use std::time::Duration;

use super::{Context, ask};
use crate::config::Settings;
use crate::daemon::{Record, mirror_config};
use crate::mirror::{Policy, Target, Upstream, UpstreamSetting, named_hosts};

/// How long a healthy daemon may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// Where apt's sources are.
const APT: &str = "/etc/apt";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What apt is about to fetch
    #[arg(value_name = "URI")]
    uri: Option<String>,
}

/// How the daemon is.
enum State {
    Well(String),
    /// It is there and does not answer.
    Hung,
    Absent,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) {
    let Ok(loaded) = context.load() else { return };
    let settings = loaded.settings;
    let target = arguments.uri.as_deref().and_then(|uri| Target::parse(uri).ok());
    if target.as_ref().is_some_and(|target| !is_for_us(&settings, target)) {
        return;
    }
    let said = match state(&settings) {
        State::Well(url) => Some(url),
        // apt keeps an answer for all files of a host, and asks again for each as long as there is none: fifty files would
        // wait fifty times. So say what no answer comes to, where that is sure.
        State::Hung if target.is_some_and(|target| is_direct(&target)) => Some("DIRECT".to_owned()),
        State::Hung | State::Absent => None,
    };
    // If apt is gone, nobody needs it.
    let _ = said.map(|said| context.output.line(said));
}

fn state(settings: &Settings) -> State {
    let record = Record::read(&settings.state.path);
    let Some((proxy, status)) = record.and_then(|record| Some((record.proxy?, record.status?))) else {
        return State::Absent;
    };
    match ask::answer(ask::reachable(status), "/health", PATIENCE) {
        Ok(Some(_)) => State::Well(format!("http://{}", ask::reachable(proxy))),
        Err(error) if is_timeout(&error) => State::Hung,
        Ok(None) | Err(_) => State::Absent,
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

/// Whether the daemon would ask the mirror at all: what it refuses, apt gets by itself.
fn is_for_us(settings: &Settings, target: &Target) -> bool {
    let config = mirror_config(settings, Vec::new());
    let named = named_hosts(Path::new(APT), &[]);
    let policy = Policy { allow: config.allow, allow_private: config.allow_private, named, own: Vec::new() };
    policy.permit_host(&target.host).is_ok()
}

/// Whether apt would go straight to the mirror without us: no proxy in its configuration, none in the environment.
fn is_direct(target: &Target) -> bool {
    Upstream::detect(&UpstreamSetting::Auto, &[]).route(target).is_none()
}
