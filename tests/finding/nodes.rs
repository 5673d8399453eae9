//! Nodes within the test itself: a network to enter, to leave half dead, and to write rubbish into.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aptpeer::dht::{Ended, Limits, OwnedItem};
use aptpeer::digest::{InfoHash, Sha256};
use aptpeer::discovery::{Dht, DhtConfig, Discovery as _, Found, Names};
use aptpeer::metrics::Metrics;
use aptpeer::pieces::Geometry;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::wait_for;

/// Long enough for anything among a few nodes, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Nodes of ours on loopback, and the threads that they run on. Dropping it ends them.
pub(crate) struct Network {
    runtime: Runtime,
    /// A node of another network to enter by.
    outside: Option<SocketAddr>,
    pub(crate) nodes: Vec<Node>,
}

/// One of them.
pub(crate) struct Node {
    pub(crate) dht: Dht,
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Network {
    /// So many nodes that entered by the first and know some of the others.
    pub(crate) fn new(nodes: usize) -> Self {
        let mut network = Self::of(None);
        for _ in 0..nodes {
            network.add("127.0.0.1:0".parse().unwrap());
        }
        network.settle();
        network
    }

    /// One node that enters another network.
    pub(crate) fn one_within(entrance: SocketAddr) -> Self {
        let mut network = Self::of(Some(entrance));
        network.add("0.0.0.0:0".parse().unwrap());
        assert!(network.runtime.block_on(network.nodes[0].dht.ready(SOON)), "no way in");
        network
    }

    fn of(outside: Option<SocketAddr>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { runtime, outside, nodes: Vec::new() }
    }

    /// Waits until everybody knows a bucket's worth of the others.
    pub(crate) fn settle(&self) {
        let enough = (self.nodes.len() - 1).min(8);
        let know = || self.nodes.iter().all(|node| node.dht.status().good_nodes >= enough);
        assert!(wait_for(SOON, || know().then_some(())).is_some(), "they do not get to know each other");
    }

    /// One more, at this address, that may still be on its way in; gives its place.
    pub(crate) fn add(&mut self, address: SocketAddr) -> usize {
        let entrance: Vec<String> = self
            .outside
            .or(self.nodes.first().map(|node| node.address))
            .iter()
            .map(ToString::to_string)
            .collect();
        let shutdown = CancellationToken::new();
        let node = self.runtime.block_on(async {
            let socket = UdpSocket::bind(address).await.unwrap();
            let address = socket.local_addr().unwrap();
            let (dht, driver) = Dht::new(DhtConfig {
                sockets: vec![socket],
                bootstrap: Names::new(entrance),
                state: None,
                read_only: false,
                allow_local: true,
                background_rate: 10_000,
                limits: Limits::daemon(),
                publishers: Vec::new(),
                swarm: aptpeer::wire::Swarm::PUBLIC,
                metrics: Metrics::new(Instant::now()),
            })
            .unwrap();
            let task = tokio::spawn(driver.run(shutdown.clone()));
            Node { dht, address, shutdown, task }
        });
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Where to enter.
    pub(crate) fn entrance(&self) -> SocketAddr {
        self.nodes[0].address
    }

    /// Ends all nodes from the `first` on, as a power cut would: nobody is told, nobody answers.
    pub(crate) fn kill_from(&mut self, first: usize) {
        for node in self.nodes.split_off(first) {
            node.shutdown.cancel();
            self.runtime.block_on(node.task).unwrap();
        }
    }

    /// Has a node tell the others that it has the object, at this port of its own address.
    pub(crate) fn announce(&self, node: usize, object: Sha256, port: u16) -> Ended {
        let told = self.nodes[node].dht.announce(InfoHash::from(object), port);
        let ended = self.runtime.block_on(told).unwrap();
        assert!(ended.stored > 0, "{ended:?}");
        ended
    }

    /// Whom a node finds that may have the object, of one piece.
    pub(crate) fn look_up(&self, node: usize, object: Sha256) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        let mut look_up = self.nodes[node].dht.look_up(&object, Geometry::new(1).unwrap()).unwrap();
        self.runtime.block_on(async {
            while let Some(Found::Provider(provider)) = look_up.next().await {
                found.push(provider.address);
            }
        });
        found
    }

    /// Has a node store a value, whatever comes of it.
    pub(crate) fn store(&self, node: usize, item: OwnedItem) -> Ended {
        self.runtime.block_on(self.nodes[node].dht.store(item)).unwrap()
    }
}
