//! Every command that README.md and docs/ show is run, in a sandbox: with a daemon of its own on free ports, a real apt in a
//! private root, a repository, another peer and a DHT. What cannot be run there is named below, with the place that runs it. A
//! command that is new in a document and does not work fails here; so does one that is not known to be harmless.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod pages;
mod sandbox;

use std::fs;
use std::path::Path;

use pages::{Page, blocks, inline};
use sandbox::{Sandbox, all_keys, check_config, refusal};
use support::daemon::Setup;

/// Commands that no sandbox can run, and where the gate runs them: a file, and words of it.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    ("scripts/check", ".ci/run", "exec bash -c \"$command\""),
    ("scripts/demo", "scripts/check", "step scripts/demo"),
    (
        "sudo apt-get install \"$(scripts/deb)\"",
        "packaging/test",
        "root.apt(\"install\", \"/tmp/aptpeer.deb\")",
    ),
    ("cargo build --release --locked", "scripts/deb", "cargo build --quiet --locked --profile"),
];

/// Commands within sentences that need more than a sandbox: where the gate runs them, or looks at what they show.
const MENTIONED: [(&str, &str, &str); 12] = [
    (
        "/usr/libexec/aptpeer/detect http://mirror.example.org/",
        "packaging/test",
        "http://mirror.example.org/",
    ),
    ("apt-config dump Acquire::http", "packaging/test", "\"apt-config\", \"dump\", \"Acquire::http\""),
    (
        "apt-get -o Acquire::http::Proxy-Auto-Detect= -o Acquire::http::Proxy=DIRECT download hello",
        "packaging/test",
        "apt-get -o Acquire::http::Proxy-Auto-Detect= -o Acquire::http::Proxy=DIRECT download hello",
    ),
    ("sudo apt-get purge aptpeer", "packaging/test", "root.apt(\"purge\", \"aptpeer\")"),
    ("ufw allow aptpeer", "packaging/test", "ufw allow aptpeer"),
    ("firewall-cmd --add-service=aptpeer", "packaging/test", "firewall-cmd --add-service=aptpeer"),
    ("man aptpeer", "scripts/deb", "man --output"),
    ("avahi-browse _aptpeer._tcp", "src/discovery/lan/driver.rs", "_aptpeer._tcp"),
    // These need a running systemd, which no test has; the units are started by hand in packaging/test.
    ("systemctl status aptpeer", "packaging/aptpeer.service", "ExecStart="),
    ("journalctl -u aptpeer", "packaging/aptpeer.service", "ExecStart="),
    ("systemctl edit aptpeer", "packaging/aptpeer.service", "ExecStart="),
    ("systemctl edit aptpeer.socket", "packaging/aptpeer.socket", "ListenStream="),
];

/// What begins a command within a sentence, besides `aptpeer` and `curl`; with a word behind it.
const PROGRAMS: [&str; 10] = [
    "/usr/libexec/",
    "apt-config ",
    "apt-get -",
    "avahi-browse ",
    "firewall-cmd ",
    "journalctl ",
    "man ",
    "sudo ",
    "systemctl ",
    "ufw ",
];

/// Commands that go on until they are ended.
const SERVERS: [&str; 2] = ["aptpeer daemon", "aptpeer bootstrap"];

/// Commands that may end so: `doctor` finds something in a sandbox.
const MAY_END_WITH: [(&str, i32); 1] = [("aptpeer doctor", 1)];

/// The pages whose commands are run. docs/protocol.md has words in code that look like commands and are none: what is signed.
fn pages() -> Vec<Page> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(top.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    paths.retain(|path| !path.ends_with("protocol.md"));
    paths.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| top.join(name)));
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

fn elsewhere(command: &str) -> bool {
    ELSEWHERE.iter().any(|(known, ..)| *known == command)
}

#[test]
fn every_command_of_a_block_works() {
    let sandbox = Sandbox::new();
    let (mut failed, mut run) = (Vec::new(), 0);
    for page in pages() {
        for (line, command) in blocks(&page, &["sh", "console"]) {
            if elsewhere(&command) {
                continue;
            }
            run += 1;
            let plain = command.trim_start_matches("sudo ");
            let outcome = if SERVERS.iter().any(|server| plain.starts_with(server)) {
                sandbox.serve(&command)
            } else {
                let other =
                    MAY_END_WITH.iter().find(|(known, _)| plain.starts_with(known)).map(|(_, code)| *code);
                sandbox.run(&command, other)
            };
            println!("{}:{line}: {command}", page.name);
            failed.extend(outcome.err().map(|why| format!("{}:{line}: {command}\n    {why}", page.name)));
        }
    }
    assert!(run > 20, "only {run} commands");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_command_within_a_sentence_exists() {
    let sandbox = Sandbox::new();
    let (mut failed, mut run) = (Vec::new(), 0);
    for page in pages() {
        for (line, code) in inline(&page) {
            let outcome = if code.starts_with("aptpeer ") {
                // Not all of them are whole: what is there must be known.
                sandbox.run(&format!("{code} --help"), None)
            } else if code.starts_with("curl ") && code.contains("://") {
                // A stream has no end.
                let endless = code.contains(" -N ").then_some(28);
                sandbox.run(&format!("{code} --silent --show-error --fail --max-time 3"), endless)
            } else if code.starts_with("cargo ") {
                known_to_cargo(&code)
            } else if code.contains(' ') && PROGRAMS.iter().any(|program| code.starts_with(program)) {
                let known = MENTIONED.iter().any(|(known, ..)| *known == code);
                known.then_some(()).ok_or_else(|| "run it somewhere, and say where in MENTIONED".to_owned())
            } else {
                continue;
            };
            run += 1;
            println!("{}:{line}: {code}", page.name);
            failed.extend(outcome.err().map(|why| format!("{}:{line}: {code}\n    {why}", page.name)));
        }
    }
    assert!(run > 20, "only {run} commands");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Whether cargo has the test or benchmark that a command names. They are run, or too long for that, by themselves.
fn known_to_cargo(command: &str) -> Result<(), String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words: Vec<&str> = command.split(' ').collect();
    for pair in words.windows(2) {
        let folder = match pair[0] {
            "--test" => "tests",
            "--bench" => "benches",
            _ => continue,
        };
        let name = top.join(folder).join(pair[1]);
        if !(name.join("main.rs").exists() || name.with_extension("rs").exists()) {
            return Err(format!("there is no {folder}/{}", pair[1]));
        }
    }
    Ok(())
}

#[test]
fn every_piece_of_configuration_is_accepted() {
    let mut failed = Vec::new();
    for page in pages() {
        for (line, block) in page.blocks("toml") {
            let outcome = check_config(&block);
            failed.extend(outcome.err().map(|why| format!("{}:{line}: {why}", page.name)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// `section.key`, where that is what this code is, with or without a value; `keys` are those that there are.
fn key<'a>(code: &'a str, keys: &[String]) -> Option<&'a str> {
    let key = code.split(" =").next()?;
    let (section, name) = key.split_once('.')?;
    let is_section = keys.iter().any(|key| key.split('.').next() == Some(section));
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    // `dht.json` and `status.rs` are files.
    (is_section && is_name && !["json", "rs", "md", "toml"].contains(&name)).then_some(key)
}

#[test]
fn every_key_and_every_metric_that_a_page_names_is_there() {
    let (config, metrics) = (all_keys(), Setup::new().start().metrics());
    let (mut unknown, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for (line, code) in inline(&page) {
            let metric = code.split('{').next().filter(|name| name.starts_with("aptpeer_"));
            let known = match (key(&code, &config), metric) {
                (Some(key), _) => config.iter().any(|other| other == key),
                (None, Some(metric)) => metrics.contains(&format!("\n# TYPE {metric} ")),
                (None, None) => continue,
            };
            seen += 1;
            if !known {
                unknown.push(format!("{}:{line}: {code}", page.name));
            }
        }
    }
    assert!(seen > 60, "only {seen} of them");
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// The files that a page points at: by a link, as code, or by the name of another page.
fn files(page: &Page) -> Vec<String> {
    let links = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://")).map(str::to_owned);
    let is_ours = |code: &String| {
        let folders = ["src/", "tests/", "packaging/", "scripts/", "docs/", "benches/", "interop/"];
        folders.iter().any(|folder| code.starts_with(folder)) && !code.contains([' ', '*'])
    };
    let codes = inline(page).into_iter().map(|(_, code)| code).filter(is_ours);
    let words = page.text.split(|c: char| !c.is_ascii_alphanumeric() && !"/.-_".contains(c));
    let pages = words.filter(|word| word.starts_with("docs/") && word.ends_with(".md")).map(str::to_owned);
    links.chain(codes).chain(pages).collect()
}

#[test]
fn every_file_that_a_page_points_at_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut missing, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for file in files(&page) {
            seen += 1;
            // A room's file without its `.rs`, as code is often named.
            let there = top.join(&file).exists() || top.join(format!("{file}.rs")).exists();
            if !there {
                missing.push(format!("{}: {file}", page.name));
            }
        }
    }
    assert!(seen > 100, "only {seen}");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn what_is_run_elsewhere_is_shown_and_run_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    let of_blocks = pages.iter().flat_map(|page| blocks(page, &["sh", "console"]));
    let shown: Vec<String> =
        of_blocks.chain(pages.iter().flat_map(inline)).map(|(_, command)| command).collect();
    for (command, file, words) in ELSEWHERE.iter().chain(&MENTIONED) {
        assert!(shown.iter().any(|other| other == command), "no page shows {command:?} any more");
        let text = fs::read_to_string(top.join(file)).unwrap();
        assert!(text.contains(words), "{file} has no {words:?}, which stands for {command:?}");
    }
}

#[test]
fn what_could_do_harm_is_not_run() {
    for command in [
        "rm -r x",
        "cat /etc/passwd",
        "aptpeer version | dd",
        "sudo apt-get install x",
        "tee ~/x",
        "curl -o /x",
    ] {
        assert!(refusal(command).is_some(), "{command}");
    }
    for command in ["sudo aptpeer doctor", "aptpeer config init | sudo tee x >/dev/null", "apt-get update"] {
        assert_eq!(refusal(command), None, "{command}");
    }
}

#[test]
fn no_command_hides_in_a_block_without_a_language() {
    for page in pages() {
        for (line, text) in page.text.lines().enumerate() {
            let indented = text.strip_prefix("    ").is_some_and(|rest| rest.starts_with("aptpeer "));
            assert!(!indented, "{}:{}: put it between ```sh and ```", page.name, line + 1);
        }
    }
}
