//! `aptpeer doctor`: what it says of a machine, and how it ends.

use std::net::TcpListener;

use serde_json::Value;

use crate::{Ended, Place};

/// The findings about one thing.
fn about<'a>(findings: &'a Value, what: &str) -> Vec<&'a Value> {
    findings.as_array().unwrap().iter().filter(|finding| finding["about"] == what).collect()
}

fn examine(place: &Place, config: &str) -> (i32, Value, String) {
    let config = place.file("config.toml", config);
    let mut command = place.command(&["doctor", "--json", "--config"]);
    // apt-config and gpgv are found as everywhere.
    command.arg(config).env("PATH", "/usr/bin:/bin");
    let Ended { code, stdout, stderr } = Ended::from(command.output().unwrap());
    (code, serde_json::from_str(&stdout).unwrap(), stderr)
}

#[test]
fn a_daemon_that_does_not_run_and_a_port_that_is_taken_are_failures_with_a_remedy() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!(
        "[proxy]\nlisten = \"{address}\"\n[status]\nlisten = \"127.0.0.1:0\"\n[network]\nlisten = [\"127.0.0.1:0\"]\n"
    );
    let (code, findings, stderr) = examine(&place, &config);
    assert_eq!(code, 1);
    assert!(stderr.contains("things do not work") || stderr.contains("one thing does not work"), "{stderr}");
    let daemon = about(&findings, "daemon");
    assert_eq!(daemon[0]["verdict"], "failure");
    assert!(daemon[0]["remedy"].as_str().unwrap().contains("systemctl start aptpeer"), "{daemon:?}");
    let ports = about(&findings, "ports");
    let failed: Vec<_> = ports.iter().filter(|port| port["verdict"] == "failure").collect();
    assert_eq!(failed.len(), 1, "{ports:?}");
    let text = failed[0]["text"].as_str().unwrap();
    let here = format!("(process {})", std::process::id());
    assert!(
        text.contains(&address.to_string()) && text.contains(&here) && text.contains("proxy.listen"),
        "{text}"
    );
    assert!(!about(&findings, "apt").is_empty() && !about(&findings, "mirror").is_empty(), "{findings}");
}

#[test]
fn a_disk_without_room_is_told_and_nothing_is_made_where_nothing_was() {
    let place = Place::new();
    let cache = place.path("cache");
    let config = format!(
        "[cache]\npath = \"{}\"\nmin_free_space = \"9000TB\"\n[proxy]\nlisten = \"127.0.0.1:0\"\n",
        cache.display()
    );
    let (_, findings, _) = examine(&place, &config);
    assert_eq!(about(&findings, "disk")[0]["verdict"], "ok");
    assert!(!cache.exists());
    std::fs::create_dir(&cache).unwrap();
    let (_, findings, _) = examine(&place, &config);
    let disk = about(&findings, "disk");
    assert_eq!(disk[0]["verdict"], "warning", "{disk:?}");
    assert!(disk[0]["remedy"].as_str().unwrap().contains("cache.min_free_space"));
    assert_eq!(about(&findings, "cache")[0]["verdict"], "ok");
}
