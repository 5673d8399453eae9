//! Static peers (`network.peers`): named in the config, resolved again and again, always neighbours.

use std::net::SocketAddr;
use std::sync::RwLock;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Discovery, Provider};
use crate::digest::Sha256;
use crate::swarm::PeerKind;

/// How often names are resolved again: a peer whose address changes is found again within this time.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);

/// How long one name may take.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// The peers that the config names.
#[derive(Debug)]
pub struct Fixed {
    names: Vec<String>,
    addresses: RwLock<Vec<SocketAddr>>,
}

impl Fixed {
    /// The peers `names`, each `host:port`. Literal addresses are known at once, names after [`Self::run`] has
    /// resolved them.
    pub fn new(names: Vec<String>) -> Self {
        let literal = names.iter().filter_map(|name| name.parse().ok()).collect();
        Self { names, addresses: RwLock::new(literal) }
    }

    /// Their addresses, as far as they are known now.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Keeps the addresses fresh until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        if self.names.iter().all(|name| name.parse::<SocketAddr>().is_ok()) {
            return;
        }
        loop {
            let resolved = tokio::select! {
                () = shutdown.cancelled() => return,
                resolved = self.resolve() => resolved,
            };
            *self.addresses.write().unwrap_or_else(std::sync::PoisonError::into_inner) = resolved;
            if tokio::time::timeout(RESOLVE_EVERY, shutdown.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    async fn resolve(&self) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for name in &self.names {
            match tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host(name)).await {
                // One address a name: the same peer must not count twice.
                Ok(Ok(mut found)) => addresses.extend(found.next()),
                Ok(Err(error)) => debug!(peer = %name, %error, "a static peer cannot be resolved"),
                Err(_) => debug!(peer = %name, "resolving a static peer takes too long"),
            }
        }
        addresses
    }
}

impl Discovery for Fixed {
    fn providers(&self, _object: &Sha256) -> Vec<Provider> {
        let neighbour = |address| Provider { address, kind: PeerKind::Neighbour };
        self.addresses().into_iter().map(neighbour).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literal_peers_are_known_at_once_and_names_once_resolved() {
        let fixed = Fixed::new(vec!["127.0.0.1:1".into(), "localhost:2".into()]);
        let object = Sha256::of(b"");
        assert_eq!(fixed.providers(&object).len(), 1);
        let shutdown = CancellationToken::new();
        let run = fixed.run(shutdown.clone());
        let both = async {
            while fixed.providers(&object).len() < 2 {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
        };
        tokio::join!(run, both);
        assert!(fixed.providers(&object).iter().all(|provider| provider.kind == PeerKind::Neighbour));
    }
}
