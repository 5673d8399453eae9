//! A daemon to look at, for scripts/screenshots: real downloads from a mirror and from peers, slow enough to be seen from a busy
//! machine, too.

use std::fs;
use std::io::{Read as _, stdin};
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::daemon::Setup;
use crate::support::http;
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::peers::{Fault as Sin, Peer};
use crate::support::repository::{Package, Repository};
use crate::world::{learn, url, wait_until};

/// Name, version, bytes.
const PACKAGES: [(&str, &str, usize); 9] = [
    ("hello", "2.10-3", 53_000),
    ("jq", "1.6-2.1+deb12u2", 64_000),
    ("cowsay", "3.03+dfsg2-8", 21_000),
    ("curl", "7.88.1-10+deb12u8", 315_000),
    ("libperl5.36", "5.36.0-7+deb12u3", 4_210_000),
    ("vim-runtime", "2:9.0.1378-2+deb12u2", 7_020_000),
    ("fonts-noto-cjk", "1:20220127+repack1-1", 57_000_000),
    ("linux-image-6.1.0-28-amd64", "6.1.119-1", 69_000_000),
    ("firmware-misc-nonfree", "20230210-5", 19_000_000),
];

/// Prints `status ADDRESS` when there is something to see, and goes on until its input ends.
#[test]
#[ignore = "for scripts/screenshots: it waits for its input to end"]
fn demo() {
    let packages: Vec<Package> =
        PACKAGES.iter().map(|(name, version, size)| Package::new(name, version, *size).all()).collect();
    let repository = Repository::with(&packages);
    let mirror = Mirror::start(&repository.root());
    let bytes = |name: &str| repository.bytes(name);
    let (kernel, fonts, firmware) =
        (bytes("linux-image-6.1.0-28-amd64"), bytes("fonts-noto-cjk"), bytes("firmware-misc-nonfree"));
    let (vim, perl, curl) = (bytes("vim-runtime"), bytes("libperl5.36"), bytes("curl"));
    let host = |last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
    let quick = Peer::start_on(host(12), &[&vim, &perl, &curl], &[]);
    let slow: Vec<Peer> = [(31, 125_000), (47, 210_000), (58, 80_000)]
        .map(|(last, rate)| Peer::start_on(host(last), &[&kernel, &fonts, &firmware], &[Sin::Slow(rate)]))
        .into();
    let entrance = Setup::bootstrap().start();
    let setup =
        slow.iter().fold(Setup::new().peer(quick.address()), |setup, peer| setup.peer(peer.address()));
    let setup = setup.dht(&[entrance.dht()]).with("[cache]\nmax_size = \"200MB\"\n");
    let mut daemon = setup.start();
    assert!(daemon.terminate().success());
    fs::write(daemon.state().join("totals.json"), yesterday()).unwrap();
    daemon.restart();

    learn(daemon.proxy(), &mirror);
    for name in ["hello", "vim-runtime", "jq", "hello", "libperl5.36", "curl", "cowsay", "jq"] {
        assert_eq!(http::get(daemon.proxy(), &url(&mirror, &repository, name)).status, 200);
    }
    mirror.script(Rule::new("*.deb", Fault::RateInAll(350_000)));
    thread::scope(|scope| {
        for name in ["linux-image-6.1.0-28-amd64", "fonts-noto-cjk", "firmware-misc-nonfree"] {
            let (proxy, url) = (daemon.proxy(), url(&mirror, &repository, name));
            // It ends with the daemon.
            scope.spawn(move || {
                let mut wire = http::Wire::connect(proxy);
                wire.ask("GET", &url, &[]);
                let _ = wire.response();
            });
        }
        wait_until(&daemon, |now| {
            let downloads = now["downloads"].as_array().unwrap();
            let linked = downloads.iter().filter_map(|download| download["linked"].as_u64()).sum::<u64>();
            downloads.len() == 3 && linked >= 6
        });
        println!("status {}", daemon.status());
        let _ = stdin().read_to_end(&mut Vec::new());
        daemon.kill();
    });
}

/// The totals of a node that has been busy for some weeks.
fn yesterday() -> String {
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600;
    let busy = [
        (22, 3),
        (21, 1),
        (15, 14),
        (14, 60),
        (13, 22),
        (11, 8),
        (9, 35),
        (8, 12),
        (6, 5),
        (5, 18),
        (2, 41),
        (1, 27),
    ];
    let hours: Vec<String> = busy
        .iter()
        .map(|(ago, megabytes)| {
            let (cache, peers, mirror) = (megabytes * 310_000, megabytes * 560_000, megabytes * 130_000);
            let served = megabytes * 900_000;
            format!(
                "[{},{{\"cache\":{cache},\"peers\":{peers},\"mirror\":{mirror},\"served\":{served}}}]",
                hour - ago
            )
        })
        .collect();
    format!(
        "{{\"since\":{},\"ever\":{{\"cache\":18400000000,\"peers\":41700000000,\"mirror\":6900000000,\"served\":52300000000}},\
         \"hours\":[{}]}}",
        (hour - 24 * 63) * 3600,
        hours.join(",")
    )
}
