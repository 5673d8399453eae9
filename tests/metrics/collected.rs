//! What Prometheus and Grafana make of it: `promtool` reads the page and the rules of packaging/prometheus, and all that the
//! rules and the dashboard of packaging/grafana ask for is there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::daemon::Setup;
use crate::support::mirror::Mirror;
use crate::world::{fetch_whole, learn, node, repository, url};

/// What promtool says of the page and is not to be helped: the name is part of the interface.
const KNOWN: &str =
    r#"aptpeer_cache_count non-histogram and non-summary metrics should not have "_count" suffix"#;

/// The names that Prometheus itself adds.
const OF_PROMETHEUS: [&str; 1] = ["up"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// promtool, where there is one. `scripts/check` says where (`PROMTOOL`), so that no check of these is left out there.
fn promtool() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PROMTOOL") {
        return Some(path.into());
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&paths).map(|folder| folder.join("promtool")).find(|path| path.is_file());
    if found.is_none() {
        println!(
            "left out: there is no promtool here; scripts/promtool gets it, scripts/check does so itself"
        );
    }
    found
}

fn run(promtool: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(promtool);
    command.args(arguments).current_dir(top().join("packaging/prometheus"));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{}: {error}", promtool.display()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn promtool_reads_the_page() {
    let Some(promtool) = promtool() else { return };
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let daemon = node(&repository).start();
    learn(&daemon, &mirror);
    fetch_whole(&daemon, &url(&mirror, &repository, "one"));
    let words = said(&run(&promtool, &["check", "metrics"], &daemon.metrics()));
    assert_eq!(words.trim(), KNOWN);
}

#[test]
fn the_alert_rules_are_sound_and_fire_when_they_should() {
    let Some(promtool) = promtool() else { return };
    for arguments in [["check", "rules", "aptpeer.rules.yml"], ["test", "rules", "aptpeer.rules.test.yml"]] {
        let output = run(&promtool, &arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let read = |name: &str| fs::read_to_string(top().join("packaging/prometheus").join(name)).unwrap();
    let (rules, tests) = (read("aptpeer.rules.yml"), read("aptpeer.rules.test.yml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for alert in alerts {
        let fires = tests
            .split("alertname: ")
            .skip(1)
            .any(|case| case.starts_with(&format!("{alert}\n")) && case.contains("exp_labels:"));
        assert!(fires, "{alert} fires in no test");
    }
}

/// The names of series in an expression.
fn names(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("aptpeer_") || OF_PROMETHEUS.contains(word)).collect()
}

/// Fails unless a daemon shows everything that is asked for.
#[track_caller]
fn check_shown<'a>(expressions: impl IntoIterator<Item = &'a str>) {
    let page = Setup::new().start().metrics();
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let shown: BTreeSet<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
    let mut asked = 0;
    for expression in expressions {
        for name in names(expression) {
            asked += 1;
            assert!(
                shown.contains(name) || OF_PROMETHEUS.contains(&name),
                "{name} is not there: {expression}"
            );
        }
    }
    assert!(asked > 5, "only {asked} names");
}

#[test]
fn all_that_the_alert_rules_ask_for_is_there() {
    let rules = fs::read_to_string(top().join("packaging/prometheus/aptpeer.rules.yml")).unwrap();
    let expressions: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(expressions.len() > 5, "{expressions:?}");
    check_shown(expressions);
}

/// What the panels of the dashboard ask for.
fn queries() -> Vec<String> {
    let text = fs::read_to_string(top().join("packaging/grafana/aptpeer.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let targets =
            panel["targets"].as_array().unwrap_or_else(|| panic!("{} has no targets", panel["title"]));
        let of_panel = targets.iter().filter_map(|target| target["expr"].as_str());
        let before = found.len();
        found.extend(of_panel.filter(|expression| !names(expression).is_empty()).map(str::to_owned));
        assert!(found.len() > before, "{} asks for nothing of ours", panel["title"]);
    }
    found
}

#[test]
fn all_that_the_dashboard_asks_for_is_there() {
    let queries = queries();
    check_shown(queries.iter().map(String::as_str));
}

#[test]
fn the_dashboard_asks_in_words_that_prometheus_reads() {
    let Some(promtool) = promtool() else { return };
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, query) in queries().iter().enumerate() {
        // As Grafana fills them in.
        let query = query.replace("$__rate_interval", "5m").replace("$__range", "6h").replace("$job", ".*");
        let query = serde_json::Value::from(query.replace("$instance", ".*"));
        rules += &format!("  - record: query{number}\n    expr: {query}\n");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    let output = run(&promtool, &["check", "rules", file.path().to_str().unwrap()], "");
    assert!(output.status.success(), "{}", said(&output));
}
