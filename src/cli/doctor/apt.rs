//! Does apt come to us, and with all of its sources?

use std::path::Path;
use std::process::{Command, Stdio};

use super::Finding;
use crate::cli::ask::reachable;
use crate::config::Settings;
use crate::daemon::Record;
use crate::mirror::sources;

const ABOUT: &str = "apt";

/// Where apt's sources are.
const APT: &str = "/etc/apt";

/// What takes apt to us where nothing else does.
const POINT: &str =
    "put the line `Acquire::http::Proxy \"http://127.0.0.1:9977\";` into /etc/apt/apt.conf.d/30aptpeer";

pub(super) fn findings(settings: &Settings, record: Option<&Record>) -> Vec<Finding> {
    let ours = record.and_then(|record| record.proxy).unwrap_or(settings.proxy.listen);
    let ours = format!("http://{}", reachable(ours));
    let uris: Vec<String> = sources(Path::new(APT)).into_iter().map(|source| source.uri).collect();
    let dump = dump();
    let mut findings = vec![proxy(&dump, &ours, &uris, record.is_some())];
    let direct: Vec<&String> = uris.iter().filter(|uri| bypasses(uri)).collect();
    findings.extend(direct.iter().map(|uri| {
        let rewritten = uri.replacen("https://", "http://HTTPS///", 1);
        Finding::warning(
            ABOUT,
            format!("the source {uri} bypasses us: it is https"),
            format!("write {rewritten} in its place: we speak TLS to the mirror"),
        )
    }));
    if direct.is_empty() && !uris.is_empty() {
        findings.push(Finding::ok(ABOUT, format!("all of its {} sources can come through us", uris.len())));
    }
    findings
}

/// https is tunnelled or goes direct; what we are asked to speak TLS for starts with `http://HTTPS///`.
fn bypasses(uri: &str) -> bool {
    uri.rsplit('+').next().is_some_and(|uri| uri.starts_with("https://"))
}

/// Whether apt would take us for its http sources, by the precedence that it has: auto-detection, then the setting.
fn proxy(dump: &str, ours: &str, uris: &[String], is_running: bool) -> Finding {
    let value = |key: &str| {
        let line = dump
            .lines()
            .find(|line| line.split_once(' ').is_some_and(|(name, _)| name.eq_ignore_ascii_case(key)))?;
        let value = line.split_once(' ')?.1.trim_end_matches(';').trim_matches('"');
        (!value.is_empty()).then(|| value.to_owned())
    };
    let detector =
        value("Acquire::http::Proxy-Auto-Detect").or_else(|| value("Acquire::http::ProxyAutoDetect"));
    let named = value("Acquire::http::Proxy");
    if let Some(detector) = detector {
        if !Path::new(&detector).exists() {
            return Finding::failure(
                ABOUT,
                format!("Proxy-Auto-Detect names {detector}, which does not exist: every run of apt fails"),
                "install the package again, or remove /etc/apt/apt.conf.d/30aptpeer",
            );
        }
        let uri = uris
            .iter()
            .find(|uri| uri.starts_with("http://"))
            .map_or("http://mirror.example.org/", String::as_str);
        let said = Command::new(&detector).arg(uri).stdin(Stdio::null()).output();
        let said =
            said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        return match said.as_str() {
            said if said == ours => Finding::ok(ABOUT, format!("it finds us with {detector}")),
            "" if is_running => Finding::warning(
                ABOUT,
                format!("{detector} does not name us for {uri}"),
                "see what is wrong with the daemon above, and whether mirrors.allow has that host",
            ),
            "" => Finding::warning(
                ABOUT,
                "it goes to the mirrors itself as long as no daemon runs",
                "start the daemon",
            ),
            other => Finding::warning(
                ABOUT,
                format!("{detector} says {other}, not {ours}"),
                "see who owns that program",
            ),
        };
    }
    match named {
        Some(named) if named.trim_end_matches('/') == ours && is_running => {
            Finding::ok(ABOUT, format!("Acquire::http::Proxy is {ours}"))
        }
        Some(named) if named.trim_end_matches('/') == ours => Finding::failure(
            ABOUT,
            format!("Acquire::http::Proxy is {ours}, where nobody listens: apt fails"),
            "start the daemon, or remove that line; the package's auto-detection does without it",
        ),
        Some(named) => Finding::warning(ABOUT, format!("it does not ask us, but the proxy {named}"), POINT),
        None => Finding::warning(ABOUT, "it does not ask us, but goes straight to the mirrors", POINT),
    }
}

fn dump() -> String {
    let dump = Command::new("apt-config").args(["dump", "Acquire"]).stdin(Stdio::null()).output();
    dump.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const OURS: &str = "http://127.0.0.1:9977";

    fn of(dump: &str, is_running: bool) -> Verdict {
        proxy(dump, OURS, &[], is_running).verdict
    }

    #[test]
    fn what_apt_would_do_is_read_from_its_configuration() {
        let named = "Acquire::http::Proxy \"http://127.0.0.1:9977/\";";
        assert_eq!(of(named, true), Verdict::Ok);
        assert_eq!(of(named, false), Verdict::Failure, "nobody listens there");
        assert_eq!(of("Acquire::http::Proxy \"http://proxy.example.org:3128\";", true), Verdict::Warning);
        assert_eq!(of("", true), Verdict::Warning);
        assert_eq!(of("Acquire::http::Proxy-Auto-Detect \"/nowhere/detect\";", true), Verdict::Failure);
        // It prints the URI, which is not ours.
        assert_eq!(of("Acquire::http::Proxy-Auto-Detect \"/bin/echo\";", true), Verdict::Warning);
        assert_eq!(of("Acquire::http::ProxyAutoDetect \"/bin/true\";", false), Verdict::Warning);
    }

    #[test]
    fn only_https_bypasses_us() {
        assert!(
            bypasses("https://mirror.example.org/debian")
                && bypasses("mirror+https://mirror.example.org/list")
        );
        assert!(!bypasses("http://HTTPS///mirror.example.org/debian") && !bypasses("file:/srv/debian"));
    }
}
