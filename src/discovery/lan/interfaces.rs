//! Which interfaces lead to a local network.

use std::fs;

/// How the names of interfaces begin that lead to containers, virtual machines or through tunnels: what is behind them is this
/// machine itself, or far away.
const ELSEWHERE: &[&str] = &[
    "br-",
    "calico",
    "cali",
    "cilium",
    "cni",
    "docker",
    "dummy",
    "flannel",
    "gre",
    "gretap",
    "ifb",
    "incusbr",
    "ipip",
    "kube",
    "lxc",
    "lxdbr",
    "nerdctl",
    "nordlynx",
    "ovs",
    "podman",
    "ppp",
    "sit",
    "tailscale",
    "tap",
    "tun",
    "utun",
    "vboxnet",
    "veth",
    "virbr",
    "vmnet",
    "vnet",
    "vti",
    "vxlan",
    "weave",
    "wg",
    "wwan",
    "zt",
];

/// The largest number of interfaces that are named in the log; a machine with more has them for containers.
const NAMED: usize = 32;

/// Whether the interface of this name is to be used. `chosen` names those that the user wants; where it is empty, all are used
/// that are not loopback and not of a kind that leads elsewhere.
pub(super) fn is_used(name: &str, chosen: &[String]) -> bool {
    if !chosen.is_empty() {
        return chosen.iter().any(|chosen| chosen == name);
    }
    name != "lo" && !ELSEWHERE.iter().any(|prefix| name.starts_with(prefix))
}

/// The names of the interfaces that are there and used, sorted.
pub(super) fn used(chosen: &[String]) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_used(name, chosen)).collect();
    names.sort();
    names.truncate(NAMED);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_virtual_machines_and_tunnels_are_left_alone() {
        for name in [
            "eth0", "enp3s0", "eno1", "ens18", "wlan0", "wlp2s0", "wlx00", "br0", "bond0", "eth0.5", "team0",
            "usb0",
        ] {
            assert!(is_used(name, &[]), "{name}");
        }
        for name in [
            "lo",
            "docker0",
            "docker_gwbridge",
            "br-5b2c",
            "veth12ab",
            "virbr0",
            "cni0",
            "cni-podman0",
            "flannel.1",
            "lxcbr0",
            "lxdbr0",
            "podman1",
            "tun0",
            "tap0",
            "wg0",
            "wg-home",
            "tailscale0",
            "zt5u4",
            "vnet3",
            "vboxnet0",
            "vmnet8",
            "ppp0",
            "cali123",
            "nordlynx",
            "sit0",
            "ifb0",
            "dummy0",
        ] {
            assert!(!is_used(name, &[]), "{name}");
        }
    }

    #[test]
    fn whoever_names_interfaces_gets_these_and_no_others() {
        let chosen = ["wg0".to_owned(), "lo".to_owned()];
        assert!(is_used("wg0", &chosen) && is_used("lo", &chosen));
        assert!(!is_used("eth0", &chosen) && !is_used("wg01", &chosen));
    }

    #[test]
    fn loopback_is_there_and_used_only_where_it_is_named() {
        assert_eq!(used(&["lo".to_owned(), "nonsuch0".to_owned()]), ["lo"]);
        assert!(!used(&[]).contains(&"lo".to_owned()));
    }
}
