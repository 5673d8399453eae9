//! The page: whole at both addresses, and true.

use std::thread;

use crate::support::daemon::{Daemon, Setup};
use crate::support::http;
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::peers::{Fault as Sin, Peer};
use crate::world::{fetch, learn, repository, snapshot, url, wait_until};

#[test]
fn the_page_is_whole_and_guarded_at_both_addresses() {
    let daemon = Daemon::start();
    for address in [daemon.status(), daemon.proxy()] {
        let page = http::get(address, "/");
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        let html = page.text();
        for wanted in
            ["All is well", "<noscript><meta http-equiv=\"refresh\"", "<main", "<caption>", "aria-live"]
        {
            assert!(html.contains(wanted), "{wanted} is missing in {html}");
        }
        for foreign in ["http:", "https:", "//"] {
            let (body, _) = html.split_once("<script>").unwrap();
            assert!(!body.contains(foreign), "something from elsewhere: {foreign} in {html}");
        }
        for link in ["/stats", "/snapshot", "/peers", "/metrics", "/health"] {
            assert!(html.contains(&format!("href=\"{link}\"")), "{link}");
            assert_eq!(http::get(address, link).status, 200, "{link}");
        }
        let head = http::request(address, "HEAD", "/", &[]);
        assert!(head.status == 200 && head.header("content-security-policy").is_some());
        assert_eq!(http::request(address, "HEAD", "/events", &[]).status, 200);
    }
    assert_eq!(http::request(daemon.status(), "POST", "/", &[]).status, 405);
}

#[test]
fn a_page_of_another_site_whose_name_leads_here_learns_nothing() {
    let daemon = Daemon::start();
    for address in [daemon.status(), daemon.proxy()] {
        let ask = |path: &str, host: &str| {
            let mut client = http::Wire::connect(address);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
            client.head().unwrap().status
        };
        for path in ["/", "/stats", "/snapshot", "/events", "/peers", "/metrics", "/health"] {
            assert_eq!(ask(path, "rebound.example:9978"), 421, "{path}");
        }
        for host in [address.to_string(), "localhost:9978".to_owned(), "[::1]:9978".to_owned()] {
            assert_eq!(ask("/stats", &host), 200, "{host}");
        }
    }
}

#[test]
fn every_figure_moves_and_the_totals_outlive_the_daemon() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let (one, three) = (repository.bytes("one"), repository.bytes("three"));
    let peer = Peer::honest(&[&three]);
    let mut daemon = Setup::new().peer(peer.address()).start();
    learn(daemon.proxy(), &mirror);
    fetch(&daemon, &mirror, &repository, "one");
    // The last byte goes out before the object is in the store.
    wait_until(&daemon, |now| now["downloads_total"] == 0);
    fetch(&daemon, &mirror, &repository, "one");
    mirror.script(Rule::new("*three*", Fault::StallHead));
    fetch(&daemon, &mirror, &repository, "three");

    let now = wait_until(&daemon, |now| now["cache"]["objects"].as_u64() >= Some(2));
    assert_eq!(now["day"]["cache"], one.len());
    assert_eq!(now["day"]["peers"], three.len());
    assert!(now["day"]["mirror"].as_u64().unwrap() >= one.len() as u64, "{now:#}");
    assert_eq!(now["day"], now["ever"]);
    let by_hour = now["hours"].as_array().unwrap().iter().filter_map(|hour| hour["peers"].as_u64());
    assert_eq!(by_hour.sum::<u64>(), three.len() as u64);
    let recent = now["recent"].as_array().unwrap();
    let from = |name: &str| {
        let of = recent.iter().filter(|object| object["name"].as_str().unwrap().starts_with(name));
        of.map(|object| object["from"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((from("three_"), from("one_")), (vec!["peers"], vec!["cache", "mirror"]));
    let known = &now["peers"][0];
    assert_eq!((&known["way"], &known["bytes_received"]), (&"named".into(), &three.len().into()));
    assert_eq!(known["address"], peer.address().to_string());

    let html = http::get(daemon.status(), "/").text();
    for shown in [&*repository.package("three").filename, &*repository.package("one").filename] {
        let name = shown.rsplit('/').next().unwrap();
        assert!(html.contains(name), "{name} is missing in {html}");
    }
    assert!(html.contains(&peer.address().to_string()));

    assert!(daemon.terminate().success());
    daemon.restart();
    let later = snapshot(&daemon);
    assert_eq!((&later["ever"], &later["since"]), (&now["ever"], &now["since"]));
    fetch(&daemon, &mirror, &repository, "one");
    let more = snapshot(&daemon)["ever"]["cache"].as_u64().unwrap();
    assert_eq!(more, 2 * one.len() as u64);
}

#[test]
fn a_download_is_shown_with_its_pieces_and_who_gives_them() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let three = repository.bytes("three");
    let length = three.len() as u64;
    // Never a whole piece.
    let peer = Peer::start(&[&three], &[Sin::CloseAfter(1_000_000)]);
    let daemon = Setup::new().peer(peer.address()).start();
    learn(daemon.proxy(), &mirror);
    mirror.script(Rule::new("*three*", Fault::Rate(1_000_000)));
    let url = url(&mirror, &repository, "three");
    thread::scope(|scope| {
        let proxy = daemon.proxy();
        let reader = scope.spawn(move || http::get(proxy, &url));
        let now = wait_until(&daemon, |now| {
            let download = &now["downloads"][0];
            download["held"].as_u64() > Some(0) && download["sources"][0]["bytes"].as_u64() > Some(0)
        });
        assert_eq!(now["downloads_total"], 1);
        let download = &now["downloads"][0];
        assert_eq!((&download["length"], &download["pieces"]), (&length.into(), &3.into()));
        let map = download["map"].as_str().unwrap();
        assert!(map.len() == 3 && map.contains('u'), "{map}");
        assert!(download["sources"].as_array().unwrap().iter().any(|source| source["kind"] == "mirror"));
        let html = http::get(daemon.status(), "/").text();
        assert!(
            html.contains("One object is being downloaded.") && html.contains("of 3 pieces here"),
            "{html}"
        );
        assert!(reader.join().unwrap().body == three);
    });
    let after = wait_until(&daemon, |now| now["downloads_total"] == 0);
    assert_eq!(after["downloads"], serde_json::json!([]));
}
