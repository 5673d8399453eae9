//! Sources with a user and a password, and sources over TLS.

use std::net::SocketAddr;

use super::*;
use support::mirror::{Fault, Rule};
use tls::Tls;

/// `user:correcthorse` in Base64.
const BASIC: &str = "dXNlcjpjb3JyZWN0aG9yc2U=";
const SECRET: &str = "correcthorse";

/// Fails when anything of the private repository can be found in what the daemon keeps.
fn leaves_no_trace(daemon: &Daemon) {
    assert_eq!(cached(daemon), []);
    let mut kept = files_below(&daemon.cache());
    kept.extend(files_below(&daemon.state()));
    kept.push(("log".into(), daemon.log().into_bytes()));
    for (name, bytes) in kept {
        // Neither the password nor what it opens.
        for secret in [SECRET, BASIC, "pool/main", "dists/test"] {
            assert!(!contains(&bytes, secret), "{secret:?} is in {name}");
        }
    }
}

#[test]
fn credentials_go_to_the_mirror_and_nothing_of_it_stays() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let base = |host: &dyn std::fmt::Display| format!("http://user:{SECRET}@{host}");
    for prefix in [false, true] {
        let mut daemon = trusting(&repository).with("[log]\nlevel = \"trace\"").start();
        let apt = match prefix {
            false => Apt::new().proxy(daemon.proxy()).one_line(&base(&mirror.address()), &repository),
            true => {
                let prefix = format!("{}/{}", daemon.proxy(), mirror.address());
                Apt::new().deb822(&base(&prefix), &repository)
            }
        };
        for _ in 0..2 {
            mirror.forget_records();
            apt.clean();
            apt.update().succeeded();
            apt.install(&names(&repository)).succeeded();
            has(&apt, &repository, &names(&repository));
            let records = mirror.records();
            assert_eq!(mirror.requests("/debian/pool/*"), 3, "{records:?}");
            for record in records {
                assert_eq!(
                    record.head.header("authorization"),
                    Some(&*format!("Basic {BASIC}")),
                    "{record:?}"
                );
            }
        }
        assert!(daemon.terminate().success());
        leaves_no_trace(&daemon);
    }
}

#[test]
fn a_failing_mirror_of_a_private_repository_is_not_named_in_the_log() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).with("[log]\nlevel = \"trace\"").start();
    let url = format!("{}{}", mirror.url(), path_of(&repository, "native"));
    let authorization = format!("Basic {BASIC}");
    let ask = || http::request(daemon.proxy(), "GET", &url, &[("Authorization", &authorization)]);
    for (fault, status) in [(Fault::Status(401), 401), (Fault::Status(403), 403), (Fault::Status(404), 404)] {
        mirror.behave();
        mirror.script(Rule::new("*", fault));
        assert_eq!(ask().status, status);
    }
    mirror.behave();
    mirror.script(Rule::new("*", Fault::Close));
    let answer = ask();
    assert_eq!(answer.status, 502);
    assert!(!answer.body.is_empty() && !contains(&answer.body, SECRET), "{}", answer.text());
    mirror.behave();
    mirror.script(Rule::new("*", Fault::Close).once());
    assert_eq!(ask().body, repository.bytes("native"));
    leaves_no_trace(&daemon);
}

/// What one user may read with his password, another may not without.
#[test]
fn a_file_fetched_with_credentials_is_not_given_to_others() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let native = path_of(&repository, "native");
    let url = format!("{}{native}", mirror.url());
    let authorization = format!("Basic {BASIC}");
    let private = http::request(daemon.proxy(), "GET", &url, &[("Authorization", &authorization)]);
    assert_eq!((private.status, cache_status(&private)), (200, "aptpeer; fwd=bypass"));
    mirror.script(Rule::new("*", Fault::Status(401)));
    assert_eq!(fetch(&daemon, &mirror, &native).status, 401);
    let peer = http::get(daemon.peer(), &format!("/hash/{}", repository.package("native").sha256));
    assert_eq!(peer.status, 404);
}

#[test]
fn repositories_over_tls_are_fetched_cached_and_shared() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let tls = Tls::before(mirror.address(), SocketAddr::from(([127, 0, 0, 1], 0)));
    let trust = format!("[mirrors]\nca_file = \"{}\"", tls.ca_file().display());
    let daemon = trusting(&repository).with(&trust).start();
    let all = names(&repository);
    let base = format!("HTTPS///{}", tls.address());
    let apt = Apt::new().proxy(daemon.proxy()).one_line(&format!("http://{base}"), &repository);
    apt.update().succeeded();
    apt.install(&all).succeeded();
    has(&apt, &repository, &all);
    until_cached(&daemon, &repository, &all);

    // The prefix form is the same repository: it is all here.
    mirror.forget_records();
    let apt = Apt::new().deb822(&format!("http://{}/{base}", daemon.proxy()), &repository);
    apt.update().succeeded();
    apt.install(&all).succeeded();
    has(&apt, &repository, &all);
    assert_eq!(mirror.requests("*.deb"), 0, "{:?}", mirror.records());

    // So it is for another node, which does not even trust the mirror's certificate for its packages.
    let other = trusting(&repository).with(&trust).peer(daemon.peer()).start();
    let apt = Apt::new().proxy(other.proxy()).one_line(&format!("http://{base}"), &repository);
    apt.update().succeeded();
    apt.install(&all).succeeded();
    assert_eq!(mirror.requests("*.deb"), 0, "{:?}", mirror.records());
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_named_in_the_answer() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let tls = Tls::before(mirror.address(), SocketAddr::from(([127, 0, 0, 1], 0)));
    let daemon = trusting(&repository).start();
    let target = format!("http://HTTPS///{}/debian/dists/test/InRelease", tls.address());
    let answer = http::get(daemon.proxy(), &target);
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("certificate"), "{}", answer.text());
    assert_eq!(mirror.records().len(), 0);
}

/// apt speaks TLS to the mirror itself and sees the mirror's own certificate.
#[test]
fn https_sources_go_through_a_blind_tunnel() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    // Tunnels go to port 443 only; every address of 127/8 is this machine.
    let address = SocketAddr::from(([127, 0, 77, 43], 443));
    if std::net::TcpListener::bind(address).is_err() {
        eprintln!("skipped: listening on port 443 needs root or CAP_NET_BIND_SERVICE");
        return;
    }
    let tls = Tls::before(mirror.address(), address);
    let daemon = trusting(&repository).start();
    let apt = Apt::new()
        .option("Acquire::https::Proxy", &format!("http://{}", daemon.proxy()))
        .option("Acquire::https::CAInfo", tls.ca_file().to_str().unwrap())
        .one_line("https://127.0.77.43", &repository);
    apt.update().succeeded();
    apt.install(&names(&repository)).succeeded();
    has(&apt, &repository, &names(&repository));
    assert_eq!(cached(&daemon), []);
}
