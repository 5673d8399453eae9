//! How others reach this node, from all that its rooms know.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Settings;
use crate::discovery::Dht;
use crate::peer::PeerSite;
use crate::reach::{Evidence, Mapped, Mapper, Reachable, Ways, own_addresses};

/// What is known of it at any moment.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) site: Arc<PeerSite>,
    pub(super) dht: Option<Dht>,
    /// Where we serve peers; `None` where we do not.
    pub(super) port: Option<u16>,
    /// `None` where no router is asked.
    pub(super) mapped: Option<watch::Receiver<Mapped>>,
}

impl Reach {
    /// Whether others can reach us.
    pub(super) fn verdict(&self) -> Reachable {
        let mapped = self.mapped.as_ref().and_then(|mapped| *mapped.borrow());
        let evidence = Evidence {
            listens: self.port.is_some(),
            visited: self.site.was_visited(),
            mapped: mapped.map(|mapping| mapping.is_some()),
            own: own_addresses(),
            seen: self.dht.iter().filter_map(|dht| dht.status().external).collect(),
        };
        evidence.verdict()
    }

    /// The port by which others reach the peer port `own`.
    pub(super) fn port(&self, own: u16) -> u16 {
        let mapped = self.mapped.as_ref().and_then(|mapped| *mapped.borrow()).flatten();
        mapped.map_or(own, |mapping| mapping.port)
    }
}

/// What asks the router to keep the peer port open, where it is to be asked: a port of this machine alone needs none.
pub(super) fn mapper(settings: &Settings, peers: &[SocketAddr]) -> Option<Mapper> {
    let port = peers.iter().find(|address| address.is_ipv4() && !address.ip().is_loopback())?.port();
    let wanted = settings.network.port_mapping && !settings.privacy.lan_only;
    wanted.then(|| Mapper::new(port, Ways::default()))
}
