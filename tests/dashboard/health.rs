//! `/health`: what stands in the way, and when a supervisor should act.

use crate::support::daemon::Setup;
use crate::support::http;
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::world::{fetch, learn, repository, snapshot, url};

#[test]
fn a_mirror_that_does_not_answer_is_grave_until_it_does() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let daemon = Setup::new().start();
    learn(daemon.proxy(), &mirror);
    let healthy = http::get(daemon.status(), "/health");
    assert_eq!((healthy.status, &*healthy.text()), (200, "ok\n"));

    mirror.script(Rule::new("*three*", Fault::Reset));
    let failed = http::get(daemon.proxy(), &url(&mirror, &repository, "three"));
    assert_eq!(failed.status, 502);
    let ailing = http::get(daemon.status(), "/health");
    assert_eq!(ailing.status, 503);
    assert!(ailing.text().starts_with("no mirror answered the last "), "{}", ailing.text());
    assert_eq!(snapshot(&daemon)["state"], "ailing");
    let page = http::get(daemon.status(), "/").text();
    assert!(page.contains("Does not work") && page.contains("What to do: "), "{page}");

    fetch(&daemon, &mirror, &repository, "one");
    assert_eq!(http::get(daemon.status(), "/health").status, 200);
}

#[test]
fn a_disk_without_room_is_told_and_apt_does_not_mind() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let daemon = Setup::new().with("[cache]\nmin_free_space = \"9000000GB\"\n").start();
    learn(daemon.proxy(), &mirror);
    fetch(&daemon, &mirror, &repository, "one");
    let health = http::get(daemon.status(), "/health");
    assert_eq!(health.status, 200);
    assert!(health.text().starts_with("ok\nthe disk of the cache has "), "{}", health.text());
    assert_eq!(snapshot(&daemon)["state"], "attention");
}

#[test]
fn a_cache_that_cannot_be_written_is_told_and_apt_does_not_mind() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let daemon = Setup::new().start();
    learn(daemon.proxy(), &mirror);
    // In the place of the folder of what is being put together: root could write to any folder.
    let folder = daemon.cache().join("v1/partial");
    let _ = std::fs::remove_dir_all(&folder);
    std::os::unix::fs::symlink("/proc/self", &folder).unwrap();
    fetch(&daemon, &mirror, &repository, "one");
    let health = http::get(daemon.status(), "/health");
    assert_eq!(health.status, 200);
    assert!(health.text().starts_with("ok\nthe cache cannot be used: "), "{}", health.text());
}
