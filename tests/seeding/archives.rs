//! Packages that apt has downloaded past us.

use std::fs;

use crate::support::apt::Apt;
use crate::support::daemon::Setup;
use crate::support::mirror::Mirror;
use crate::support::repository::{Package, Repository};
use crate::support::wait_for;
use crate::{SOON, copies, is_served, put};

#[test]
fn packages_of_apts_archives_are_offered_if_an_index_names_them() {
    let repository =
        Repository::with(&[Package::new("first", "1:1.0", 5_000), Package::new("second", "1.0", 5_000)]);
    let mirror = Mirror::start(&repository.root());
    let folder = tempfile::tempdir().unwrap();
    let archives = folder.path().join("archives");
    fs::create_dir(&archives).unwrap();
    let setup =
        || Setup::new().with(&format!("[mirrors]\nkeyrings = [\"{}\"]", repository.keyring().display()));
    let mut daemon = setup().start();
    Apt::new().proxy(daemon.proxy()).one_line(&mirror.url(), &repository).update().succeeded();

    let (first, second) = (repository.bytes("first"), repository.bytes("second"));
    put(&archives, "first_1%3a1.0_all.deb", &first);
    put(&archives, "strange.deb", b"no index names it");
    put(&archives, "partial/second.deb", &second);
    daemon.terminate();
    daemon.restart();
    daemon.wait_for_log("the cache is in order");
    assert!(!is_served(&daemon, &first), "nobody has asked for that");

    daemon.terminate();
    daemon.reconfigure(setup().with(&format!("[seed]\napt_archives = \"{}\"", archives.display())));
    daemon.restart();
    assert!(wait_for(SOON, || is_served(&daemon, &first).then_some(())).is_some(), "{}", daemon.log());
    assert!(!is_served(&daemon, b"no index names it") && !is_served(&daemon, &second));

    // apt-get clean
    fs::remove_file(archives.join("first_1%3a1.0_all.deb")).unwrap();
    assert!(!is_served(&daemon, &first));
    assert_eq!(mirror.bytes("*/pool/*"), 0);
    let indexes = copies(&daemon.cache());
    assert!(!indexes.eq(&0), "the indexes are the cache's own");
}
