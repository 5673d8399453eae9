//! Where to enter the network: names that are resolved when they are needed, again and again while they are.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::debug;

/// How long one name may take; a resolver that does not answer takes longer.
const NAME_LIMIT: Duration = Duration::from_secs(8);

/// Most addresses of one name that are used.
const ADDRESSES: usize = 8;

/// The nodes that the configuration names for a start, each `host:port`.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<String>);

impl Names {
    /// These names. Literal addresses are names, too.
    pub const fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their addresses; those that cannot be resolved now are left out.
    pub(super) async fn resolve(self) -> Vec<SocketAddr> {
        let resolved = futures_util::future::join_all(self.0.into_iter().map(resolve_one)).await;
        let mut seen = HashSet::new();
        resolved.into_iter().flatten().filter(|address| seen.insert(*address)).collect()
    }
}

async fn resolve_one(name: String) -> Vec<SocketAddr> {
    match tokio::time::timeout(NAME_LIMIT, tokio::net::lookup_host(&name)).await {
        Ok(Ok(found)) => found.take(ADDRESSES).collect(),
        Ok(Err(error)) => {
            debug!(node = %name, %error, "a bootstrap node cannot be resolved");
            Vec::new()
        }
        Err(_) => {
            debug!(node = %name, "resolving a bootstrap node takes too long");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_resolves_is_used_whatever_else_does_not() {
        let names = ["127.0.0.1:1", "no port", "nowhere.invalid:2", "127.0.0.1:1", "[::1]:3"];
        let resolved = Names::new(names.map(str::to_owned).to_vec()).resolve().await;
        assert_eq!(resolved, ["127.0.0.1:1".parse().unwrap(), "[::1]:3".parse().unwrap()]);
    }
}
