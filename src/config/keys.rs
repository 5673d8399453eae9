//! The list of every key. A new key is one entry here; the field, the sample file and the checks follow.

use super::choices::{Announcing, LogFormat, LogLevel, Prefer, Prefetch, Signatures, UpstreamProxy};
use super::load::Reader;
use super::table::{Effect, Key, effect, settings};
use super::units::{PacketRate, Rate, Size, Span};
use super::values::{HostPattern, HostPort, InterfaceName, PublicKey, Setting, Whole};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;

settings! {
    /// The side that apt talks to.
    proxy: Proxy {
        /// Where apt finds the proxy. Port 0 takes any free port.
        listen: SocketAddr = "127.0.0.1:9977";
        /// Networks whose machines may use the proxy. An address outside this machine in proxy.listen
        /// is refused unless this key is set.
        allow_clients: Vec<IpNet> = ["127.0.0.0/8", "::1"];
    }
    /// The servers that apt's sources name.
    mirrors: Mirrors {
        /// Hosts that may be asked. Empty: any mirror on a public address, and those that apt's own sources name.
        allow: Vec<HostPattern> = [];
        /// Whether mirrors on private or loopback addresses may be asked that apt's sources do not name.
        allow_private: bool = false;
        /// The directory where apt keeps its indexes; hashes are learnt from it. Empty: not read.
        lists_dir: Option<PathBuf> = "/var/lib/apt/lists";
        /// Keyrings, or directories of them, that signatures of indexes are checked against.
        keyrings: Vec<PathBuf> = ["/usr/share/keyrings", "/etc/apt/trusted.gpg.d", "/etc/apt/keyrings"];
        /// auto: learn nothing from a bad signature; enforce: learn only from a good one; off: do not check.
        verify_signatures: Signatures = "auto";
        /// The proxy between this machine and the mirrors. auto: what the environment or apt's configuration
        /// says; none: connect directly.
        proxy: UpstreamProxy = "auto";
        /// A file of PEM certificates trusted for https mirrors, besides those of the system. Empty: no others.
        ca_file: Option<PathBuf> = "";
    }
    /// The side that other peers talk to.
    network: Network {
        /// Where peers reach this node. Empty: it serves nobody. Port 0 takes any free port.
        listen: Vec<SocketAddr> = ["0.0.0.0:9979", "[::]:9979"];
        /// Peers that are always asked.
        peers: Vec<HostPort> = [];
        /// Whether peers on private addresses are asked that are not named in network.peers.
        allow_private_peers: bool = false;
        /// Whether the router is asked to keep the port open (PCP, NAT-PMP, UPnP IGD).
        port_mapping: bool = true;
    }
    /// A private swarm.
    swarm: Swarm {
        /// A file with the secret that all members share, as `aptpeer swarm create` writes it. Empty: the public swarm.
        secret_file: Option<PathBuf> = "";
    }
    /// The files that are kept.
    cache: Cache {
        /// Where they are kept. Empty: $CACHE_DIRECTORY, /var/cache/aptpeer for root, ~/.cache/aptpeer else.
        path: PathBuf = "";
        /// How much they may take; the files unused for longest go first.
        max_size: Size = "10GB";
        /// How much of the disk stays free, whatever max_size says.
        min_free_space: Size = "1GB";
    }
    /// What is offered to others besides what passed through.
    seed: Seed {
        /// The directory where apt keeps the packages that it has downloaded, such as "/var/cache/apt/archives". Those that an
        /// index names are offered to peers from there, without a copy. Empty: they are not.
        apt_archives: Option<PathBuf> = "";
    }
    /// What the node remembers besides files.
    state: State {
        /// Where that is kept. Empty: $STATE_DIRECTORY, /var/lib/aptpeer for root, ~/.local/state/aptpeer else.
        path: PathBuf = "";
    }
    /// How fast and how much at once.
    transfer: Transfer {
        /// How fast all peers together may be served.
        max_upload_rate: Rate = "0";
        /// How fast peers and mirrors together may be read.
        max_download_rate: Rate = "0";
        /// How many files are served to peers at once; one address, or one IPv6 /64, gets most of them, never all.
        max_concurrent_uploads: Whole<0, 10_000> = 20;
        /// How many pieces of 4 MiB are fetched from peers at once, all files together.
        max_concurrent_downloads: Whole<1, 1_000> = 8;
        /// speed: race the mirror; offload: wait a little for peers, to spare the mirror.
        prefer: Prefer = "speed";
        /// What is done ahead after an update, for the upgrades of this machine. sources: find peers that have them;
        /// data: fetch them, too, slowly, while nothing else is fetched and the network is not metered; off: nothing.
        prefetch: Prefetch = "sources";
    }
    /// Finding peers through the BitTorrent Mainline DHT.
    dht: Dht {
        /// Whether this node takes part.
        enabled: bool = true;
        /// Nodes to enter the network by when none that was known before answers.
        bootstrap: Vec<HostPort> = ["router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "router.utorrent.com:6881"];
        /// How often a file is announced again.
        announce_interval: Span = "25m";
        /// How many packets are spent on announcing and upkeep.
        announce_budget: PacketRate = "50/s";
        /// The public keys of publishers whose signed piece lists are trusted.
        publishers: Vec<PublicKey> = [];
    }
    /// Finding peers on the local network.
    lan: Lan {
        /// Whether this node looks and answers there, by multicast DNS.
        enabled: bool = true;
        /// The network interfaces to do so on. Empty: all but those of containers, virtual machines and tunnels.
        interfaces: Vec<InterfaceName> = [];
    }
    /// What others may learn.
    privacy: Privacy {
        /// Whether this node tells the swarm which files it has.
        /// true: where it can be reached; always: in any case; false: never, which keeps no file from being downloaded.
        announce: Announcing = true;
        /// Whether only the local network and network.peers are talked to: no DHT, no strangers.
        lan_only: bool = false;
        /// Whether files of repositories on private addresses are shared with everybody. Otherwise they stay on the local
        /// network and in the private swarm.
        share_private_mirrors: bool = false;
    }
    /// The page, the figures and the health check for the person in charge.
    status: Status {
        /// Where they are served. Port 0 takes any free port.
        listen: SocketAddr = "127.0.0.1:9978";
    }
    /// The log, on standard error.
    log: Log {
        /// How much is said.
        level: LogLevel = "info";
        /// text for people, json for programs: one document a line.
        format: LogFormat = "text";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_default_and_every_off_value_is_allowed() {
        let mut reader = Reader::default();
        assert!(Settings::read(&mut reader).is_some(), "{:?}", reader.problems());
        for key in KEYS {
            if let Effect::Later { off: Some(off) } = key.effect {
                assert_eq!(
                    off, "false",
                    "{}: the check of `off` values knows only what tests cover",
                    key.name
                );
            }
        }
    }

    #[test]
    fn names_and_variables_are_unique() {
        let names: HashSet<_> = KEYS.iter().map(|key| key.name).collect();
        let variables: HashSet<_> = KEYS.iter().map(Key::variable).collect();
        assert_eq!(names.len(), KEYS.len());
        assert_eq!(variables.len(), KEYS.len());
        assert!(variables.contains("APTPEER_PROXY_ALLOW_CLIENTS"));
    }

    #[test]
    fn every_key_says_what_it_means_and_what_is_allowed() {
        for key in KEYS {
            assert!(key.meaning.trim().ends_with('.'), "{}: {:?}", key.name, key.meaning);
            assert!(
                !key.allowed.is_empty() && !key.allowed.ends_with('.'),
                "{}: {:?}",
                key.name,
                key.allowed
            );
        }
    }
}
