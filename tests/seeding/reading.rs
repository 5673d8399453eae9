//! The daemon runs as a user of its own: what it could not read is not taken in place.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::process::geteuid;

use crate::{configure, put, run};

/// A user that nobody is.
const DAEMON: u32 = 54_321;

#[test]
fn what_the_daemon_may_not_read_is_told_with_the_remedy() {
    if !geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let config = configure(folder.path());
    fs::create_dir(folder.path().join("cache")).unwrap();
    chown(folder.path().join("cache"), Some(DAEMON), Some(DAEMON)).unwrap();
    let pool = folder.path().join("pool");
    put(&pool, "open.deb", b"open");
    let secret = put(&pool, "secret.deb", b"secret");
    fs::set_permissions(&secret, Permissions::from_mode(0o640)).unwrap();
    let shared = put(&pool, "shared.deb", b"shared");
    fs::set_permissions(&shared, Permissions::from_mode(0o640)).unwrap();
    chown(&shared, None, Some(DAEMON)).unwrap();
    put(&pool, "closed/one.deb", b"one");
    fs::set_permissions(pool.join("closed"), Permissions::from_mode(0o700)).unwrap();

    let done = run(&config, &["seed", "import", "--json", "--in-place"], &[&pool]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.counts(["files", "failed"]), [2, 2], "{}", done.stderr);
    for words in
        ["secret.deb: the daemon (user id 54321) may not read it: `chmod o+r`", "may not enter", "chmod o+x"]
    {
        assert!(done.stderr.contains(words), "{words:?} is not in {}", done.stderr);
    }
    // A copy has no such needs.
    assert_eq!(
        run(&config, &["seed", "import", "--json", "-r"], &[&pool]).counts(["files", "failed"]),
        [4, 0]
    );
    let cache = folder.path().join("cache/v1");
    let made = fs::read_dir(cache.join("objects")).unwrap().map(|shard| shard.unwrap().path());
    for path in made.chain(["objects", "partial", "catalog.sqlite"].map(|name| cache.join(name))) {
        assert_eq!(fs::metadata(&path).unwrap().uid(), DAEMON, "{}", path.display());
    }
}
