//! `lan.enabled = false`: nothing of multicast in the process. `lan.interfaces`: nothing of it on others.

use crate::network::on_a_network;
use crate::support::wait_for;

/// The port of multicast DNS (RFC 6762) in hexadecimal, as /proc writes it.
const PORT: &str = ":14E9 ";

fn udp_sockets(pid: u32) -> String {
    ["udp", "udp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap()).concat()
}

#[test]
fn nothing_listens_for_multicast_where_it_is_off() {
    on_a_network("off::nothing_listens_for_multicast_where_it_is_off", |network| {
        let (quiet, loud) = (network.host(2), network.host(3));
        let off = quiet.setup().with("[lan]\nenabled = false\n").start();
        let on = loud.setup().start();
        // What is looked for is there where it is on.
        assert!(
            wait_for(crate::network::LIMIT, || udp_sockets(on.pid()).contains(PORT).then_some(())).is_some()
        );
        assert!(!udp_sockets(off.pid()).contains(PORT), "{}", udp_sockets(off.pid()));
        let tasks = std::fs::read_dir(format!("/proc/{}/task", off.pid())).unwrap();
        let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
        assert!(names.into_iter().all(|name| !name.contains("mDNS")));
        assert!(quiet.peers().is_empty() && loud.peers().is_empty());
    });
}

#[test]
fn only_the_interfaces_that_are_named_are_used() {
    on_a_network("off::only_the_interfaces_that_are_named_are_used", |network| {
        let [first, second, other] = [2, 3, 4].map(|number| network.host(number));
        let elsewhere = other.setup().with("[lan]\ninterfaces = [\"eth1\"]\n").start();
        let named = first.setup().with("[lan]\ninterfaces = [\"eth1\", \"eth0\"]\n").start();
        let all = second.setup().start();
        first.wait_for_peers(&named, &[second.peer()]);
        second.wait_for_peers(&all, &[first.peer()]);
        assert!(other.peers().is_empty(), "{:?}\n{}", other.peers(), elsewhere.log());
    });
}
