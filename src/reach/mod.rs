//! Whether others reach us, and ports that a router keeps open for us: PCP, NAT-PMP and UPnP; for IPv6 PCP.
//!
//! Nothing waits for it. A router that says no, or nothing, is asked again now and then.

mod igd;
mod messages;
mod pinhole;
mod router;
mod verdict;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::igd::Gateway;
pub use self::pinhole::{Door, Pinhole};
use self::router::Router;
pub use self::verdict::{Evidence, Reachable};

/// For how long a port is asked to be kept open, in seconds: after a crash it is closed an hour later.
const LIFETIME: u32 = 3600;

/// When a router that gave nothing is asked again: it may have been set up, or be another one by then.
const AGAIN: Duration = Duration::from_secs(600);

/// The shortest time after which a mapping is renewed, whatever the router says.
const LEAST: Duration = Duration::from_secs(30);

/// How long closing may take at the end.
const CLOSING: Duration = Duration::from_secs(3);

/// Where to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// The router for PCP and NAT-PMP; `None` asks the default gateway.
    pub router: Option<SocketAddr>,
    /// Where a UPnP router is searched.
    pub ssdp: SocketAddr,
}

impl Default for Ways {
    fn default() -> Self {
        Self { router: None, ssdp: ([239, 255, 255, 250], 1900).into() }
    }
}

/// What a router keeps open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    external: u16,
    address: Option<IpAddr>,
    /// In seconds.
    lifetime: u32,
}

/// A mapping that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The TCP port by which others reach our peer port.
    pub port: u16,
    /// By which address, where the router tells.
    pub address: Option<IpAddr>,
}

/// What became of the last try: `None` before the first.
pub type Mapped = Option<Option<Mapping>>;

/// Keeps the peer port open at the router, for TCP and UDP.
#[derive(Debug)]
pub struct Mapper {
    ways: Ways,
    port: u16,
    state: watch::Sender<Mapped>,
}

/// A router that has given something.
enum Giver {
    Datagrams(Router),
    Upnp(Gateway),
}

impl Mapper {
    /// A mapper of `port`; nothing happens before [`Mapper::run`].
    pub fn new(port: u16, ways: Ways) -> Self {
        Self { ways, port, state: watch::Sender::new(None) }
    }

    /// What came of it, as it changes.
    pub fn mapped(&self) -> watch::Receiver<Mapped> {
        self.state.subscribe()
    }

    /// Asks, renews, and takes back at `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut giver = None;
        loop {
            let pause = tokio::select! {
                () = shutdown.cancelled() => break,
                pause = self.map(&mut giver) => pause,
            };
            if tokio::time::timeout(pause, shutdown.cancelled()).await.is_ok() {
                break;
            }
        }
        if let Some(mut giver) = giver {
            let _ = tokio::time::timeout(CLOSING, giver.close(self.port)).await;
        }
    }

    /// Asks once, whoever gave before him first; when to ask again.
    async fn map(&self, giver: &mut Option<Giver>) -> Duration {
        let renewed = match giver {
            Some(giver) => giver.renew(self.port).await,
            None => None,
        };
        let ports = match renewed {
            Some(ports) => Some(ports),
            None => {
                let found = self.find().await;
                let (new, ports) = found.unzip();
                *giver = new;
                ports
            }
        };
        let mapping = ports.map(|ports| Mapping { port: ports.external, address: ports.address });
        let before = self.state.send_replace(Some(mapping));
        if before != Some(mapping) {
            match mapping {
                Some(Mapping { port, address }) => {
                    info!(port, ?address, "the router keeps a port open for us");
                }
                None => info!("no router opens a port for us: peers may not reach this node"),
            }
        }
        let half = ports.map(|ports| Duration::from_secs(u64::from(ports.lifetime / 2)));
        half.map_or(AGAIN, |half| half.max(LEAST))
    }

    async fn find(&self) -> Option<(Giver, Ports)> {
        let router =
            self.ways.router.or_else(|| Some(SocketAddr::new(default_gateway()?.into(), messages::PORT)));
        if let Some(at) = router {
            debug!(%at, "asking the router for a port");
            if let Some((router, ports)) = Router::open(at, self.port).await {
                return Some((Giver::Datagrams(router), ports));
            }
        }
        let (gateway, ports) = Gateway::open(self.ways.ssdp, self.port).await?;
        Some((Giver::Upnp(gateway), ports))
    }
}

impl Giver {
    async fn renew(&mut self, port: u16) -> Option<Ports> {
        match self {
            Self::Datagrams(router) => router.renew(port).await,
            Self::Upnp(gateway) => gateway.renew(port).await,
        }
    }

    async fn close(&mut self, port: u16) {
        match self {
            Self::Datagrams(router) => router.close(port).await,
            Self::Upnp(gateway) => gateway.close(port).await,
        }
    }
}

/// The addresses that this machine has towards the world. Nothing is sent.
pub fn own_addresses() -> Vec<IpAddr> {
    // Addresses that nobody has (RFC 5737, RFC 3849) lie where all the others do.
    let ways: [(SocketAddr, SocketAddr); 2] = [
        (([0; 4], 0).into(), ([192, 0, 2, 1], 9).into()),
        (([0; 16], 0).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into()),
    ];
    let own = ways.map(|(any, there)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(there).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    own.into_iter().flatten().collect()
}

/// The router of the default route (proc(5), `/proc/net/route`).
fn default_gateway() -> Option<Ipv4Addr> {
    gateway_of(&std::fs::read_to_string("/proc/self/net/route").ok()?)
}

fn gateway_of(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
        let (destination, gateway) = (number()?, number()?);
        // The kernel prints the bytes of an address as they lie in memory, read as a number.
        (destination == 0 && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_names_the_router() {
        let table = "Iface\tDestination\tGateway\tFlags\n\
                     eth0\t0001A8C0\t00000000\t0001\n\
                     eth0\t00000000\t0101A8C0\t0003\n";
        assert_eq!(gateway_of(table), Some([192, 168, 1, 1].into()));
        assert_eq!(gateway_of("Iface\n"), None);
    }
}
