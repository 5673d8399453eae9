//! Hosts on one switch, each with a wire whose rate and length are chosen and that can be cut.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::namespaces::{Namespace, must, must_tc};
use super::relay::Relay;

/// A full frame on Ethernet with its header, and what it carries for TCP with time stamps.
const FRAME: (u64, u64) = (1514, 1448);

/// A switch that is as fast as the machine.
pub struct Switch {
    hub: Namespace,
    hosts: AtomicU8,
}

/// A host with an address of its own, in a /24 that is its own too.
pub struct Host {
    /// Goes before the namespaces that its ends lie in.
    _long: Option<Relay>,
    namespace: Namespace,
    hub: String,
    /// The switch's end of its wire.
    port: String,
    ip: Ipv4Addr,
}

/// Something that runs on a host, and ends there: its sockets can only be reached from the switch.
pub struct Placed<'a, T: Send> {
    host: &'a Host,
    thing: Option<T>,
}

impl Switch {
    /// `None` where we may not make namespaces.
    pub fn new() -> Option<Self> {
        let hub = Namespace::new("hub")?;
        must(&format!("-n {} link add switch type bridge", hub.name()));
        must(&format!("-n {} link set switch up", hub.name()));
        Some(Self { hub, hosts: AtomicU8::new(0) })
    }

    /// A host next door.
    pub fn host(&self) -> Host {
        self.add(Duration::ZERO)
    }

    /// A host so far away that a packet to it and back takes this long.
    pub fn distant(&self, round_trip: Duration) -> Host {
        self.add(round_trip)
    }

    fn add(&self, round_trip: Duration) -> Host {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        let namespace = Namespace::new("host").unwrap();
        let (hub, own, port) = (self.hub.name(), namespace.name(), format!("port{number}"));
        let long = if round_trip.is_zero() {
            must(&format!("-n {hub} link add {port} type veth peer name eth0 netns {own}"));
            None
        } else {
            Some(Relay::new([(hub, &port), (own, "eth0")], round_trip / 2))
        };
        must(&format!("-n {hub} link set {port} master switch up"));
        let ip = Ipv4Addr::new(10, 77, number, 2);
        must(&format!("-n {own} addr add {ip}/16 dev eth0"));
        must(&format!("-n {own} link set eth0 up"));
        Host { hub: hub.to_owned(), port, ip, namespace, _long: long }
    }
}

impl Host {
    pub fn ip(&self) -> IpAddr {
        self.ip.into()
    }

    /// From now on its wire carries so many bytes a second away from it, headers not counted.
    pub fn send_at_most(&self, bytes: u64) {
        let bits = bytes * 8 * FRAME.0 / FRAME.1;
        // A burst is what goes out at once: a tenth of a second would hide what a short transfer takes.
        must_tc(&format!(
            "-n {} qdisc replace dev eth0 root tbf rate {bits}bit burst 64kb latency 100ms",
            self.namespace.name()
        ));
    }

    /// Cuts its wire: nothing goes through, and nobody is told.
    pub fn cut(&self) {
        must(&format!("-n {} link set {} down", self.hub, self.port));
    }

    /// The wire is whole again.
    pub fn mend(&self) {
        must(&format!("-n {} link set {} up", self.hub, self.port));
    }

    /// Packets of ours for `gone` go out and are never heard of: that host is not even there to be asked for.
    pub fn believe_in(&self, gone: Ipv4Addr) {
        let own = self.namespace.name();
        must(&format!("-n {own} neigh replace {gone} lladdr 02:00:00:00:00:01 dev eth0 nud permanent"));
    }

    /// Does it on this host; see [`Namespace::within`].
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.within(work)
    }

    /// Makes something that runs on this host.
    pub fn place<T: Send>(&self, make: impl FnOnce() -> T + Send) -> Placed<'_, T> {
        Placed { host: self, thing: Some(self.within(make)) }
    }
}

impl<T: Send> Placed<'_, T> {
    /// Has it do something that needs this host's network.
    pub fn on<R: Send>(&mut self, work: impl FnOnce(&mut T) -> R + Send) -> R {
        let thing = self.thing.as_mut().unwrap();
        self.host.within(|| work(thing))
    }
}

impl<T: Send> Deref for Placed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().unwrap()
    }
}

impl<T: Send> Drop for Placed<'_, T> {
    fn drop(&mut self) {
        let thing = self.thing.take();
        self.host.within(|| drop(thing));
    }
}
