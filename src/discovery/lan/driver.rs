//! The roll kept up to date by multicast DNS.
//!
//! The protocol itself is the business of the crate, which has a thread of its own for its sockets. It is started here and
//! ended here: [`LanDriver::run`] returns after that thread has said good-bye for us.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mdns_sd::{IfKind, IfPredicate, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::interfaces::{is_used, used};
use super::{Lan, LanConfig};
use crate::clock;
use crate::swarm::NodeId;

/// The kind of service (RFC 6763, section 7): nothing of it is registered with anybody.
const SERVICE: &str = "_aptpeer._tcp.local.";

/// What the TXT record is written in (RFC 6763, section 6.7).
const VERSION: &str = "1";

/// How often interfaces and addresses are looked at, in seconds: a laptop that comes home has its neighbours this soon.
const LOOK_SECONDS: u32 = 2;

/// The same for our own log, and for nodes whose time has come.
const LOOK: Duration = Duration::from_secs(5);

/// How long to wait before multicast DNS is started again that has failed.
const AGAIN: Duration = Duration::from_secs(10);

/// How long the good-bye may take; it is a datagram.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long a node that is in doubt may take to say that it is there (RFC 6762, section 10.4).
const CONFIRM: Duration = Duration::from_secs(3);

/// Nodes in one stretch of listening, wrong ones included: what they told is remembered by the crate as long as they wish, so
/// a flood ends with a new beginning.
const FLOOD: usize = 2048;

/// Our own addresses that are remembered.
const OWN: usize = 64;

/// Keeps a [`Lan`] up to date; to be run beside the work.
#[derive(Debug)]
pub struct LanDriver {
    lan: Lan,
    config: LanConfig,
    doubted: mpsc::Receiver<NodeId>,
    own: Arc<Mutex<BTreeSet<IpAddr>>>,
}

/// Why a stretch of listening ended.
enum End {
    Shutdown,
    Broken(String),
}

impl LanDriver {
    pub(super) fn new(lan: Lan, config: LanConfig, doubted: mpsc::Receiver<NodeId>) -> Self {
        Self { lan, config, doubted, own: Arc::default() }
    }

    /// Tells the network of us and listens to others until `shutdown`, and says good-bye then.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut interfaces = used(&self.config.interfaces);
        info!(?interfaces, id = %self.config.id, "looking for peers on the local network");
        loop {
            let end = match ServiceDaemon::new() {
                Ok(mdns) => {
                    let end = self.listen(&mdns, &mut interfaces, &shutdown).await;
                    goodbye(&mdns).await;
                    end
                }
                Err(error) => End::Broken(error.to_string()),
            };
            self.lan.roll().clear();
            self.lan.show();
            match end {
                End::Shutdown => return,
                End::Broken(why) => warn!(error = why, "multicast DNS has failed and is started again"),
            }
            if tokio::time::timeout(AGAIN, shutdown.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    async fn listen(
        &mut self,
        mdns: &ServiceDaemon,
        interfaces: &mut Vec<String>,
        shutdown: &CancellationToken,
    ) -> End {
        let events = match self.begin(mdns) {
            Ok(events) => events,
            Err(error) => return End::Broken(error.to_string()),
        };
        let mut look = tokio::time::interval(LOOK);
        let mut names: HashMap<String, NodeId> = HashMap::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return End::Shutdown,
                event = events.recv_async() => match event {
                    Ok(event) => self.handle(event, &mut names),
                    Err(_) => return End::Broken("it has stopped".to_owned()),
                },
                Some(id) = self.doubted.recv() => {
                    debug!(peer = %id, "a peer of the local network cannot be reached");
                    if let Err(error) = mdns.verify(full_name(&id), CONFIRM) {
                        debug!(%error, "nobody can be asked whether it is there");
                    }
                }
                _ = look.tick() => {
                    let now = used(&self.config.interfaces);
                    if now != *interfaces {
                        info!(interfaces = ?now, "the local network is another now");
                        *interfaces = now;
                    }
                    // Those who are tried again after a while.
                    self.lan.show();
                }
            }
            if names.len() > FLOOD {
                return End::Broken("more nodes than any network has".to_owned());
            }
        }
    }

    /// Starts to listen, and tells of ourselves where there is something to tell.
    fn begin(&self, mdns: &ServiceDaemon) -> mdns_sd::Result<mdns_sd::Receiver<ServiceEvent>> {
        mdns.set_ip_check_interval(LOOK_SECONDS)?;
        let (chosen, own) = (self.config.interfaces.clone(), self.own.clone());
        mdns.disable_interface(IfKind::Predicate(IfPredicate::new(move |interface| {
            let used = is_used(&interface.name, &chosen);
            let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
            if used && own.len() < OWN {
                own.insert(interface.ip());
            }
            !used
        })))?;
        let events = mdns.browse(SERVICE)?;
        if let Some(service) = self.service()? {
            mdns.register(service)?;
        }
        Ok(events)
    }

    /// What is told of us; `None` where we serve nobody outside this machine.
    fn service(&self) -> mdns_sd::Result<Option<ServiceInfo>> {
        let outside = self.config.listen.iter().copied().filter(|listen| !listen.ip().is_loopback());
        let listen: Vec<SocketAddr> = outside.collect();
        // A service has one port (RFC 2782).
        let Some(port) = listen.first().map(SocketAddr::port) else { return Ok(None) };
        let id = self.config.id.to_string();
        // Whoever was given up is looked at again when it was started again.
        let run = format!("{:08x}", std::process::id() ^ clock::unix_seconds() as u32);
        let text = [("v", VERSION), ("id", &id), ("swarm", &self.config.tag), ("run", &run)];
        let host = format!("aptpeer-{id}.local.");
        let mut service = ServiceInfo::new(SERVICE, &id, &host, "", port, &text[..])?.enable_addr_auto();
        // The name is random: nobody else has it who could be asked first (RFC 6762, section 8.1).
        service.set_requires_probe(false);
        let chosen = self.config.interfaces.clone();
        service.set_interfaces(vec![IfKind::Predicate(IfPredicate::new(move |interface| {
            let serves = |listen: &SocketAddr| {
                let any = listen.ip().is_unspecified() && listen.is_ipv4() == interface.ip().is_ipv4();
                listen.port() == port && (any || listen.ip() == interface.ip())
            };
            is_used(&interface.name, &chosen) && listen.iter().any(serves)
        }))]);
        Ok(Some(service))
    }

    fn handle(&self, event: ServiceEvent, names: &mut HashMap<String, NodeId>) {
        match event {
            ServiceEvent::ServiceFound(_, name) => {
                if let Some(id) = id_of(&name) {
                    names.insert(name, id);
                }
            }
            ServiceEvent::ServiceResolved(service) => self.handle_resolved(&service),
            ServiceEvent::ServiceRemoved(_, name) => {
                names.remove(&name);
                if let Some(id) = id_of(&name) {
                    debug!(peer = %id, "a peer has left the local network");
                    self.lan.roll().left(id);
                    self.lan.show();
                }
            }
            _ => {}
        }
    }

    fn handle_resolved(&self, service: &ResolvedService) {
        let text = |key| service.get_property_val_str(key).unwrap_or_default();
        let Some(id) = id_of(service.get_fullname()).filter(|id| id.to_string() == text("id")) else {
            return;
        };
        if id == self.config.id || text("v") != VERSION || text("swarm") != self.config.tag {
            return;
        }
        let at = |ip: IpAddr| SocketAddr::new(ip, service.get_port());
        let told: Vec<SocketAddr> = service.get_addresses().iter().map(|ip| at(ip.to_ip_addr())).collect();
        let own: Vec<IpAddr> =
            self.own.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let taken = self.lan.roll().seen(id, text("run"), &told, &own);
        debug!(peer = %id, addresses = ?told, taken, "a peer of the local network");
        self.lan.show();
    }
}

/// The name of a node's service.
fn full_name(id: &NodeId) -> String {
    format!("{id}.{SERVICE}")
}

/// Whose service has this name.
fn id_of(name: &str) -> Option<NodeId> {
    name.strip_suffix(SERVICE)?.strip_suffix('.')?.parse().ok()
}

/// Ends the thread, which says good-bye first (RFC 6762, section 10.1).
async fn goodbye(mdns: &ServiceDaemon) {
    match mdns.shutdown() {
        Ok(ended) => {
            if tokio::time::timeout(GOODBYE, ended.recv_async()).await.is_err() {
                debug!("multicast DNS does not end");
            }
        }
        Err(error) => debug!(%error, "multicast DNS cannot be ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_name_of_its_node() {
        let id = NodeId::new([0, 1, 2, 3, 4, 5, 6, 0xff]);
        assert_eq!(full_name(&id), "00010203040506ff._aptpeer._tcp.local.");
        assert_eq!(id_of(&full_name(&id)), Some(id));
        for wrong in [
            "",
            "x._aptpeer._tcp.local.",
            "00010203040506ff (2)._aptpeer._tcp.local.",
            "_aptpeer._tcp.local.",
        ] {
            assert_eq!(id_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn whoever_serves_only_this_machine_is_not_told_of() {
        let config = |listen: &[&str]| LanConfig {
            id: NodeId::new([7; 8]),
            tag: "public".to_owned(),
            listen: listen.iter().map(|listen| listen.parse().unwrap()).collect(),
            interfaces: Vec::new(),
        };
        let service = |listen| Lan::new(config(listen)).1.service().unwrap();
        assert!(service(&[]).is_none() && service(&["127.0.0.1:1", "[::1]:1"]).is_none());
        let told = service(&["127.0.0.1:1", "0.0.0.0:9979"]).unwrap();
        assert_eq!((told.get_port(), told.get_property_val_str("swarm")), (9979, Some("public")));
    }
}
