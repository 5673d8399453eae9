//! What is remembered of peers, and what the person in charge sees of it.

use std::process::Command;
use std::time::Duration;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http;
use crate::support::mirror::Mirror;
use crate::support::peers::{Fault, Peer, dead};
use crate::world::{self, fetch, learn, objects, slices, url};

/// What a command says that works beside the daemon.
fn say(daemon: &Daemon, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
    let output = command.arg("--config").arg(daemon.config()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn peers(daemon: &Daemon) -> Vec<serde_json::Value> {
    let document: serde_json::Value = serde_json::from_str(&say(daemon, &["peers", "--json"])).unwrap();
    document["peers"].as_array().unwrap().clone()
}

#[test]
fn a_liar_stays_banned_over_a_restart() {
    let repository = world::repository();
    let objects = objects(&repository);
    let liar = Peer::start(&slices(&objects), &[Fault::WrongEverywhere]);
    let honest = Peer::honest(&slices(&objects));
    let mirror = Mirror::start(&repository.root());
    let mut daemon = Setup::new().peer(liar.address()).start();
    learn(daemon.proxy(), &mirror);
    assert!(fetch(daemon.proxy(), &url(&mirror, &repository, "one"), &[]).body == objects[0]);
    let banned = |daemon: &Daemon| {
        let known = peers(daemon);
        let known = known.iter().find(|peer| peer["address"] == liar.address().to_string()).unwrap().clone();
        assert_eq!(known["state"], "banned", "{known}");
        known["seconds_left"].as_u64().unwrap()
    };
    let before = banned(&daemon);
    assert!((3000..=3600).contains(&before));

    assert!(daemon.terminate().success());
    daemon.reconfigure(Setup::new().peer(liar.address()).peer(honest.address()));
    daemon.restart();
    let asked = liar.records().len();
    learn(daemon.proxy(), &mirror);
    assert!(fetch(daemon.proxy(), &url(&mirror, &repository, "three"), &[]).body == objects[1]);
    assert_eq!(liar.records().len(), asked, "whoever lied is not asked again");
    assert!(honest.bytes() > 0);
    assert!(banned(&daemon) <= before);
}

#[test]
fn a_ban_outlives_a_kill() {
    let repository = world::repository();
    let objects = objects(&repository);
    let liar = Peer::start(&slices(&objects), &[Fault::WrongEverywhere]);
    let mirror = Mirror::start(&repository.root());
    let mut daemon = Setup::new().peer(liar.address()).start();
    learn(daemon.proxy(), &mirror);
    assert!(fetch(daemon.proxy(), &url(&mirror, &repository, "one"), &[]).body == objects[0]);
    // Sooner than everything else is written down.
    let file = daemon.state().join("peers.json");
    let written = crate::support::wait_for(Duration::from_secs(30), || {
        let json = std::fs::read_to_string(&file).ok()?;
        json.contains(&liar.address().to_string()).then_some(())
    });
    assert!(written.is_some());
    daemon.kill();
    daemon.restart();
    assert_eq!(peers(&daemon)[0]["state"], "banned");
}

#[test]
fn the_daemon_says_what_it_knows_of_its_peers() {
    let repository = world::repository();
    let objects = objects(&repository);
    let honest = Peer::honest(&slices(&objects));
    let (corpse, _kept) = dead();
    let mirror = Mirror::start(&repository.root());
    let daemon = Setup::new().peer(honest.address()).peer(corpse).start();
    let before = peers(&daemon);
    assert_eq!(before.len(), 2, "those that the configuration names are known from the start");
    assert!(before.iter().all(|peer| peer["kind"] == "neighbour" && peer["score"] == 0.425), "{before:?}");

    learn(daemon.proxy(), &mirror);
    assert!(fetch(daemon.proxy(), &url(&mirror, &repository, "three"), &[]).body == objects[1]);
    let known = crate::support::wait_for(Duration::from_secs(10), || {
        let known = peers(&daemon);
        known.iter().any(|peer| peer["last_fault"] == "unreachable").then_some(known)
    });
    let known = known.expect("the corpse is found out");
    // The best comes first.
    assert_eq!(known[0]["address"], honest.address().to_string());
    assert!(known[0]["score"].as_f64() > known[1]["score"].as_f64());
    assert!(known[0]["first_byte_milliseconds"].as_f64().unwrap() > 0.0);
    assert!(known[0]["bytes_received"].as_u64().unwrap() > 0);
    assert_eq!((&known[0]["state"], &known[0]["faults"]), (&"well".into(), &0.into()));

    let table = say(&daemon, &["peers"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ADDRESS ") && lines.len() == 3, "{table}");
    assert!(lines[1].contains(&honest.address().to_string()) && lines[1].ends_with("well"), "{table}");
    assert!(lines[2].contains("(unreachable)"), "{table}");

    let status = say(&daemon, &["status"]);
    assert!(status.contains("from peers") && status.contains("switched off"), "{status}");
    let figures: serde_json::Value = serde_json::from_str(&say(&daemon, &["status", "--json"])).unwrap();
    assert_eq!(figures["bytes_from_p2p"].as_u64(), Some(daemon.stat("bytes_from_p2p")));
    assert_eq!(http::get(daemon.status(), "/peers").header("content-type"), Some("application/json"));
}
