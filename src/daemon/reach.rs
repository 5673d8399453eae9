//! How others reach this node, from all that its rooms know.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{Announcing, Settings};
use crate::discovery::Dht;
use crate::peer::PeerSite;
use crate::reach::{Evidence, Mapped, Mapper, Pinhole, Reachable, Ways, own_addresses};

/// What is known of it at any moment.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) site: Arc<PeerSite>,
    pub(super) dht: Option<Dht>,
    /// Where we serve peers; `None` where we do not.
    pub(super) port: Option<u16>,
    /// `None` where no router is asked.
    pub(super) mapped: Option<watch::Receiver<Mapped>>,
    /// Whether we are to be announced.
    pub(super) announce: Announcing,
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

    /// The port that others are to be told of, which the router may have made another than ours. `None` where they are to
    /// be told nothing: nobody could come, or a router is being asked for the first time.
    pub(super) fn announced(&self) -> Option<u16> {
        let wanted = match self.announce {
            Announcing::Never => false,
            Announcing::Always => true,
            Announcing::Reachable => !matches!(self.verdict(), Reachable::No(_)),
        };
        let own = self.port.filter(|_| wanted)?;
        let Some(mapped) = &self.mapped else { return Some(own) };
        let mapping = (*mapped.borrow())?;
        Some(mapping.map_or(own, |mapping| mapping.port))
    }

    /// Waits until the router has answered, or has not.
    pub(super) async fn settled(&self) {
        let Some(mapped) = &self.mapped else { return };
        // Nobody asks any more: what is known is all that will be.
        let _ = mapped.clone().wait_for(Option::is_some).await;
    }
}

/// What asks the router to keep the peer port open, where it is to be asked: a port of this machine alone needs none.
pub(super) fn mapper(settings: &Settings, peers: &[SocketAddr]) -> Option<Mapper> {
    mapped_port(settings, peers, SocketAddr::is_ipv4).map(|port| Mapper::new(port, Ways::default()))
}

/// The same for IPv6.
pub(super) fn pinhole(settings: &Settings, peers: &[SocketAddr]) -> Option<Pinhole> {
    mapped_port(settings, peers, SocketAddr::is_ipv6).map(|port| Pinhole::new(port, None))
}

fn mapped_port(settings: &Settings, peers: &[SocketAddr], of: fn(&SocketAddr) -> bool) -> Option<u16> {
    let wanted = settings.network.port_mapping && !settings.privacy.lan_only;
    let port = peers.iter().find(|address| of(address) && !address.ip().is_loopback())?.port();
    wanted.then_some(port)
}
