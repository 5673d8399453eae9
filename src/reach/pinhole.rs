//! A hole in an IPv6 router's firewall for the peer port, by PCP: nothing is translated there, and yet nobody comes in
//! unasked (RFC 6887, section 11: a MAP request with the address that this machine has; RFC 6092, "simple security").

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::router::Router;
use super::{AGAIN, CLOSING, LEAST, Ports, messages, own_addresses};
use crate::dht::is_local;

/// Where to ask, and for which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// Our address: the router opens for whoever asks only.
    pub own: Ipv6Addr,
    /// The router.
    pub router: SocketAddr,
}

impl Door {
    /// That of this machine now: towards the world, through the router of the default route.
    fn current() -> Option<Self> {
        let own = own_addresses().into_iter().find_map(|own| match own {
            IpAddr::V6(own) if !is_local(own.into()) => Some(own),
            _ => None,
        })?;
        let routes = std::fs::read_to_string("/proc/self/net/ipv6_route").ok()?;
        let (router, interface) = gateway_of(&routes)?;
        // A link-local address says nothing without its interface.
        let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).ok()?;
        let scope = index.trim().parse().ok()?;
        Some(Self { own, router: SocketAddrV6::new(router, messages::PORT, 0, scope).into() })
    }
}

/// Keeps the peer port open for IPv6, for TCP and UDP.
#[derive(Debug)]
pub struct Pinhole {
    port: u16,
    door: Option<Door>,
    opened: watch::Sender<bool>,
}

impl Pinhole {
    /// One for `port`, at `door`; `None` is the machine's own, which may change. Nothing happens before [`Pinhole::run`].
    pub fn new(port: u16, door: Option<Door>) -> Self {
        Self { port, door, opened: watch::Sender::new(false) }
    }

    /// Whether the router has opened it, as it changes.
    pub fn opened(&self) -> watch::Receiver<bool> {
        self.opened.subscribe()
    }

    /// Asks, renews, and takes back at `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut open: Option<(Door, Router)> = None;
        loop {
            let pause = tokio::select! {
                () = shutdown.cancelled() => break,
                pause = self.keep(&mut open) => pause,
            };
            if tokio::time::timeout(pause, shutdown.cancelled()).await.is_ok() {
                break;
            }
        }
        if let Some((_, mut router)) = open {
            let _ = tokio::time::timeout(CLOSING, router.close(self.port)).await;
        }
    }

    /// Opens it, or keeps it open where it is for the address that we still have; when to ask again.
    async fn keep(&self, open: &mut Option<(Door, Router)>) -> Duration {
        let door = self.door.or_else(Door::current);
        let renewed = match open {
            Some((at, router)) if Some(*at) == door => router.renew(self.port).await,
            _ => None,
        };
        let ports = match (renewed, door) {
            (Some(ports), _) => Some(ports),
            (None, Some(door)) => {
                let opened = Router::open_from(Some(door.own), door.router, self.port).await;
                let (router, ports) = opened.unzip();
                match ports {
                    Some(_) => info!(address = %door.own, "the router lets others in by IPv6"),
                    None => {
                        debug!(router = %door.router, "the router does not say that it lets others in by IPv6");
                    }
                }
                *open = router.map(|router| (door, router));
                ports
            }
            (None, None) => {
                *open = None;
                None
            }
        };
        self.opened.send_replace(ports.is_some());
        let half = ports.map(|Ports { lifetime, .. }| Duration::from_secs(u64::from(lifetime / 2)));
        half.map_or(AGAIN, |half| half.max(LEAST))
    }
}

/// The router of the default route, and the interface that leads there (`/proc/net/ipv6_route`: destination, its prefix,
/// source, its prefix, next hop, metric, two counters, flags, interface; the kernel's `net/ipv6/route.c`).
fn gateway_of(table: &str) -> Option<(Ipv6Addr, &str)> {
    const NOWHERE: &str = "00000000000000000000000000000000";
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, "00", _, _, next, .., interface] = fields[..] else { return None };
        let router = Ipv6Addr::from(u128::from_str_radix(next, 16).ok()?);
        (destination == NOWHERE && !router.is_unspecified()).then_some((router, interface))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_names_the_router_and_its_interface() {
        let zero = "00000000000000000000000000000000";
        let router = "fe80000000000000021122fffe334455";
        let table = format!(
            "20010db8000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0\n\
             {zero} 00 {zero} 00 {router} 00000400 00000002 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        let expected: Ipv6Addr = "fe80::211:22ff:fe33:4455".parse().unwrap();
        assert_eq!(gateway_of(&table), Some((expected, "eth0")));
        assert_eq!(gateway_of(&format!("{zero} 00 {zero} 00 {zero} 0 0 0 0 lo\n")), None);
        assert_eq!(gateway_of("rubbish\n"), None);
    }
}
