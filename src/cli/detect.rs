//! `aptpeer detect URI`: what apt's `Acquire::http::Proxy-Auto-Detect` asks before a file is fetched.
//!
//! Prints our URL where the daemon is well and would ask that mirror. Anything else prints nothing, so that apt goes on with
//! whatever proxy its user has set, or none: `DIRECT` would override that. It never fails: with another exit status than 0
//! apt would end with an error although every file came.

use std::path::Path;
use std::time::Duration;

use super::{Context, ask};
use crate::config::Settings;
use crate::daemon::{Record, mirror_config};
use crate::mirror::{Policy, Target, named_hosts};

/// How long a healthy daemon may take. apt asks once for each file as long as we say nothing.
const PATIENCE: Duration = Duration::from_millis(250);

/// Where apt's sources are.
const APT: &str = "/etc/apt";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What apt is about to fetch
    #[arg(value_name = "URI")]
    uri: Option<String>,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) {
    let Ok(loaded) = context.load() else { return };
    let settings = loaded.settings;
    if let Some(url) = proxy(&settings).filter(|_| is_for_us(&settings, arguments.uri.as_deref())) {
        // apt is gone: then nobody needs it.
        let _ = context.output.line(url);
    }
}

/// The URL of a daemon that says that it is well.
fn proxy(settings: &Settings) -> Option<String> {
    let record = Record::read(&settings.state.path)?;
    let (proxy, status) = (ask::reachable(record.proxy?), ask::reachable(record.status?));
    ask::answer(status, "/health", PATIENCE).ok()??;
    Some(format!("http://{proxy}"))
}

/// Whether the daemon would ask the mirror at all: what it refuses, apt gets by itself.
fn is_for_us(settings: &Settings, uri: Option<&str>) -> bool {
    let Some(uri) = uri else { return true };
    let Ok(target) = Target::parse(uri) else { return false };
    let config = mirror_config(settings, Vec::new());
    let named = named_hosts(Path::new(APT), &[]);
    let policy = Policy { allow: config.allow, allow_private: config.allow_private, named, own: Vec::new() };
    policy.permit_host(&target.host).is_ok()
}
