//! Who is on the local network: this machine, and addresses that are private and directly connected.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The longest table of routes that is read, in bytes: some thousand routes. Beyond that nobody is near but by his address.
const LONGEST: usize = 1 << 20;

/// Flags of a route (route(8), `linux/route.h`): it is up; it leads nowhere.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// Whether an address is this machine's or on a network to which it is directly connected: loopback, link-local, or private
/// (RFC 1918, RFC 4193) and routed without a gateway. An address that the internet knows is not near, wherever it is.
pub fn is_near(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    match ip {
        _ if ip.is_loopback() => true,
        IpAddr::V4(v4) => {
            v4.is_link_local() || (v4.is_private() && contain(&connected_v4(&read("route")), ip))
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || (v6.is_unique_local() && contain(&connected_v6(&read("ipv6_route")), ip))
        }
    }
}

fn contain(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// A table of the network that this process is in (proc(5)); nothing where it cannot be read.
fn read(table: &str) -> String {
    let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
    if text.len() > LONGEST { String::new() } else { text }
}

/// The networks of `/proc/net/route` without a gateway.
fn connected_v4(table: &str) -> Vec<IpNet> {
    let network = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let (destination, gateway, flags, mask) = (number(1)?, number(2)?, number(3)?, number(7)?);
        // The kernel prints the bytes of an address as they lie in memory, read as a number.
        let address = |number: u32| Ipv4Addr::from(number.to_ne_bytes());
        let network = Ipv4Net::with_netmask(address(destination), address(mask)).ok()?;
        (gateway == 0 && flags & UP != 0 && flags & REJECT == 0 && mask != 0).then_some(IpNet::V4(network))
    };
    table.lines().skip(1).filter_map(network).collect()
}

/// The same of `/proc/net/ipv6_route`.
fn connected_v6(table: &str) -> Vec<IpNet> {
    let network = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |at: usize| u128::from_str_radix(fields.get(at)?, 16).ok();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let (destination, length, gateway, flags) = (address(0)?, number(1)?, address(4)?, number(8)?);
        let network = Ipv6Net::new(Ipv6Addr::from(destination), u8::try_from(length).ok()?).ok()?;
        (gateway == 0 && flags & UP != 0 && flags & REJECT == 0 && length != 0).then_some(IpNet::V6(network))
    };
    table.lines().filter_map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_its_links_are_near_and_the_world_is_not() {
        for near in ["127.0.0.1", "127.9.9.9", "::1", "169.254.1.1", "fe80::1", "::ffff:127.0.0.1"] {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["8.8.8.8", "2a00::1", "100.64.0.1", "0.0.0.0"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn of_private_networks_those_without_a_gateway_are_near() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     eth0\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n\
                     lo\t000010AC\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     rubbish\n";
        let networks = connected_v4(table);
        assert_eq!(networks, ["192.168.1.0/24".parse::<IpNet>().unwrap()]);
        assert!(contain(&networks, "192.168.1.77".parse().unwrap()));
        assert!(!contain(&networks, "10.1.2.3".parse().unwrap()), "behind a gateway");
        let zero = "0".repeat(32);
        let route = |destination: &str, length: &str, gateway: &str, flags: &str| {
            format!("{destination} {length} {zero} 00 {gateway} 00000100 00000001 00000000 {flags} eth0\n")
        };
        let home = format!("fd00{}", "0".repeat(28));
        let table = [
            route(&zero, "00", &format!("fe80{}", "1".repeat(28)), "00000003"),
            route(&home, "40", &zero, "00000001"),
            route(&format!("fd01{}", "0".repeat(28)), "40", &zero, "00200200"),
            route(&format!("fd02{}", "0".repeat(28)), "40", &home, "00000003"),
        ];
        assert_eq!(connected_v6(&table.concat()), ["fd00::/64".parse::<IpNet>().unwrap()]);
    }
}
