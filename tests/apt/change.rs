//! What changes between two runs of apt: the repository, the daemon, who fetched the lists.

use super::*;

#[test]
fn new_bytes_under_an_old_name_are_what_apt_gets() {
    let mut repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    apt.install(&["plain", "native"]).succeeded();
    let before = repository.package("plain").clone();

    repository.put(before.package.clone().reseeded(1));
    repository.put(Package::new("native", "12.5", 10_000));
    repository.publish();
    assert_ne!(repository.package("plain").sha256, before.sha256);
    apt.clean();
    apt.update().succeeded();
    apt.install(&["plain", "native"]).succeeded();
    has(&apt, &repository, &["plain", "native"]);
    // What others may still want under the old lists stays.
    until_cached(&daemon, &repository, &["plain", "native"]);
    assert!(cached(&daemon).contains(&before.sha256));
}

#[test]
fn hashes_are_still_known_after_a_restart() {
    let repository = few();
    for crash in [false, true] {
        let mirror = Mirror::start(&repository.root());
        let mut daemon = trusting(&repository).start();
        through(&daemon, &mirror, &repository).update().succeeded();
        // Known, that is: the index was read to its end.
        assert_eq!(cache_status(&fetch(&daemon, &mirror, &path_of(&repository, "plain"))), MISS);
        // The indexes too: what is known is told from the cache.
        until_cached(&daemon, &repository, &["plain"]);
        until_cached_files(&daemon, 3);
        if crash {
            daemon.kill();
        } else {
            assert!(daemon.terminate().success());
        }
        daemon.restart();
        for name in ["native", "libgreet++1"] {
            let answer = fetch(&daemon, &mirror, &path_of(&repository, name));
            assert_eq!(cache_status(&answer), MISS, "{name}, crash: {crash}");
            assert!(answer.body == repository.bytes(name));
        }
        assert_eq!(cache_status(&fetch(&daemon, &mirror, &path_of(&repository, "plain"))), "aptpeer; hit");
    }
}

#[test]
fn apt_goes_on_with_a_restarted_daemon_between_update_and_install() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let mut daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    assert!(daemon.terminate().success());
    daemon.restart();
    let apt = apt.proxy(daemon.proxy());
    apt.install(&names(&repository)).succeeded();
    // What is kept was known.
    until_cached(&daemon, &repository, &names(&repository));
    apt.update().succeeded();
}

/// The machine's first install after aptpeer was: its lists are there, and nothing of them ever passed through.
#[test]
fn lists_that_apt_fetched_without_us_teach_the_hashes() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    for deb822 in [false, true] {
        let apt = Apt::new();
        let apt = match deb822 {
            true => apt.deb822(&mirror.url(), &repository),
            false => apt.one_line(&mirror.url(), &repository),
        };
        apt.update().succeeded();
        let daemon = with_lists(&repository, &apt);
        let apt = apt.proxy(daemon.proxy());
        apt.install(&names(&repository)).succeeded();
        has(&apt, &repository, &names(&repository));
        until_cached(&daemon, &repository, &names(&repository));
    }
}

#[test]
fn lists_that_apt_renews_without_us_are_read_at_once() {
    let mut repository = few();
    let mirror = Mirror::start(&repository.root());
    let apt = Apt::new().one_line(&mirror.url(), &repository);
    let daemon = with_lists(&repository, &apt);
    apt.update().succeeded();
    let answer = fetch(&daemon, &mirror, &path_of(&repository, "native"));
    assert_eq!(cache_status(&answer), MISS);

    repository.put(Package::new("native", "13", 10_000));
    repository.publish();
    apt.update().succeeded();
    let answer = fetch(&daemon, &mirror, &path_of(&repository, "native"));
    assert_eq!(cache_status(&answer), MISS);
    assert!(answer.body == repository.bytes("native"));
}

/// Fetched from the mirror, by a hash that is known.
const MISS: &str = "aptpeer; fwd=miss; fwd-status=200; detail=mirror";

/// A daemon that looks at the lists of `apt`.
fn with_lists(repository: &Repository, apt: &Apt) -> Daemon {
    trusting(repository).with(&format!("[mirrors]\nlists_dir = \"{}\"", apt.lists().display())).start()
}
