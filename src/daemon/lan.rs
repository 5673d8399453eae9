//! The local network as the settings want it.

use std::net::SocketAddr;

use super::DaemonError;
use crate::config::Settings;
use crate::discovery::{Lan, LanConfig, LanDriver};

/// The swarm of everybody.
const PUBLIC: &str = "public";

/// The local network, for a node that serves peers at `listen`; `None` where it is switched off.
pub(super) fn open(
    settings: &Settings,
    listen: &[SocketAddr],
) -> Result<Option<(Lan, LanDriver)>, DaemonError> {
    if !settings.lan.enabled {
        return Ok(None);
    }
    let state = settings.state.path.clone();
    let id = Lan::identity(&state).map_err(|source| DaemonError::Identity { path: state, source })?;
    let interfaces = settings.lan.interfaces.iter().map(|name| name.as_str().to_owned()).collect();
    let config = LanConfig { id, tag: PUBLIC.to_owned(), listen: listen.to_vec(), interfaces };
    Ok(Some(Lan::new(config)))
}
