//! The local network as the settings want it.

use std::net::SocketAddr;

use super::DaemonError;
use crate::config::Settings;
use crate::discovery::{Lan, LanConfig, LanDriver};
use crate::wire::Swarm;

/// The local network, for a node that serves peers at `listen`; `None` where it is switched off.
pub(super) fn open(
    settings: &Settings,
    listen: &[SocketAddr],
    swarm: &Swarm,
) -> Result<Option<(Lan, LanDriver)>, DaemonError> {
    if !settings.lan.enabled {
        return Ok(None);
    }
    let state = settings.state.path.clone();
    let id = Lan::identity(&state).map_err(|source| DaemonError::Identity { path: state, source })?;
    let interfaces = settings.lan.interfaces.iter().map(|name| name.as_str().to_owned()).collect();
    let config = LanConfig { id, tag: swarm.tag(), listen: listen.to_vec(), interfaces };
    Ok(Some(Lan::new(config)))
}
