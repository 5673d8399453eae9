//! Does the daemon run, does it listen, does it know others?

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::Finding;
use super::ports::{Protocol, is_free};
use crate::cli::ask;
use crate::config::Settings;
use crate::daemon::Record;

/// How long a daemon on this machine may take.
const PATIENCE: Duration = Duration::from_secs(5);

const ABOUT: &str = "daemon";

pub(super) fn daemon(settings: &Settings, record: Option<&Record>) -> Vec<Finding> {
    let Some(record) = record else {
        let mut findings = vec![Finding::failure(
            ABOUT,
            format!("none runs on {} (state.path)", settings.state.path.display()),
            "start it: `systemctl start aptpeer`, or `aptpeer daemon`",
        )];
        findings.extend(ports(settings));
        return findings;
    };
    let Some(status) = record.status.map(ask::reachable) else { return Vec::new() };
    let health = match ask::answer(status, "/health", PATIENCE) {
        Ok(Some(_)) => Finding::ok(ABOUT, format!("process {} is well", record.pid)),
        Ok(None) => Finding::failure(
            ABOUT,
            format!("process {} says that it is not well", record.pid),
            format!("`curl http://{status}/health` says what ails it"),
        ),
        Err(error) => Finding::failure(
            ABOUT,
            format!("process {} does not answer at {status}: {error}", record.pid),
            "start it again: `systemctl restart aptpeer`",
        ),
    };
    let stats = ask::answer(status, "/stats", PATIENCE).ok().flatten();
    let stats: Option<Value> = stats.and_then(|stats| serde_json::from_slice(&stats).ok());
    let mut findings = vec![health];
    findings.extend(stats.iter().flat_map(others));
    let port = record.peers.first().map(SocketAddr::port);
    findings.extend(stats.iter().map(|stats| outside(stats, unwanted(settings), port)));
    findings
}

/// What the daemon says of peers and nodes.
fn others(stats: &Value) -> Vec<Finding> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let dht = &stats["dht"];
    let dht = match dht["waiting_for"].as_str() {
        _ if dht.is_null() => Finding::warning(
            "DHT",
            "switched off: only named peers and those of the local network are found",
            "set dht.enabled = true where that is not what is wanted",
        ),
        Some(what) => Finding::warning(
            "DHT",
            format!("waits for {what}"),
            "let UDP out to any port, and name a node that answers in dht.bootstrap",
        ),
        None => Finding::ok("DHT", format!("{} good nodes", number(&dht["good_nodes"]))),
    };
    let peers = Finding::ok("peers", format!("{} of late", number(&stats["peers"])));
    vec![dht, peers]
}

/// Why strangers are not wanted at all, where they are not.
const fn unwanted(settings: &Settings) -> Option<&'static str> {
    match (settings.privacy.lan_only, settings.dht.enabled) {
        (true, _) => Some("privacy.lan_only is true"),
        (_, false) => Some("dht.enabled is false"),
        _ => None,
    }
}

/// Whether strangers can reach the peer port, and what to do where they cannot.
fn outside(stats: &Value, unwanted: Option<&str>, port: Option<u16>) -> Finding {
    const ABOUT: &str = "outside";
    let Some(port) = port else {
        return Finding::ok(ABOUT, "nobody gets files from here, for network.listen is empty");
    };
    if let Some(why) = unwanted {
        return Finding::ok(ABOUT, format!("strangers are not to find port {port}, for {why}"));
    }
    let why = stats["reachable_because"].as_str().unwrap_or("nobody from outside has come so far");
    match stats["reachable"].as_str() {
        Some("yes") => Finding::ok(ABOUT, format!("strangers reach port {port}: {why}")),
        Some("no") => Finding::warning(
            ABOUT,
            format!("strangers do not reach port {port}: {why}"),
            format!(
                "forward port {port}, TCP and UDP, to this machine in the settings of the router, and let it in at the \
                 firewall; then set network.port_mapping = false. apt gets its files all the same"
            ),
        ),
        _ => Finding::ok(
            ABOUT,
            format!("nobody knows yet whether strangers reach port {port}, TCP and UDP: {why}"),
        ),
    }
}

/// Whether a daemon could have what the configuration names.
fn ports(settings: &Settings) -> Vec<Finding> {
    let tcp = |key, address| (key, address, Protocol::Tcp);
    let mut wanted =
        vec![tcp("proxy.listen", settings.proxy.listen), tcp("status.listen", settings.status.listen)];
    for address in &settings.network.listen {
        wanted.push(tcp("network.listen", *address));
        if settings.dht.enabled {
            wanted.push(("network.listen", *address, Protocol::Udp));
        }
    }
    wanted.into_iter().map(|(key, address, protocol)| port(key, address, protocol)).collect()
}

fn port(key: &str, address: SocketAddr, protocol: Protocol) -> Finding {
    let name = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    match is_free(address, protocol) {
        Ok(()) => Finding::ok("ports", format!("{name} {address} is free ({key})")),
        Err(why) => Finding::failure(
            "ports",
            format!("{name} {address} cannot be had ({key}): {why}"),
            format!("end that program, or set {key} to another address"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    #[test]
    fn who_wants_strangers_and_does_not_get_them_is_warned_with_the_port_to_forward() {
        let port = Some(9979);
        let stats =
            |reachable: &str| serde_json::json!({ "reachable": reachable, "reachable_because": "so" });
        let no = outside(&stats("no"), None, port);
        assert_eq!(no.verdict, Verdict::Warning);
        assert!(
            no.text.ends_with("9979: so") && no.remedy.unwrap().contains("forward port 9979, TCP and UDP")
        );
        for reachable in ["yes", "unknown"] {
            assert_eq!(outside(&stats(reachable), None, port).verdict, Verdict::Ok);
        }
        assert_eq!(outside(&stats("no"), None, None).verdict, Verdict::Ok, "it serves nobody");
        assert_eq!(outside(&stats("no"), Some("so"), port).verdict, Verdict::Ok, "it wants nobody");
    }
}
