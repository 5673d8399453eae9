//! Files into the cache: which are copied and which linked, what is refused, and what an import that is killed has done.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use rustix::process::geteuid;

use crate::support::daemon::Setup;
use crate::support::noise;
use crate::{command, configure, copies, import, is_served, put, run};

const HOW: [&str; 3] = ["copied_files", "cloned_files", "linked_files"];

#[test]
fn an_import_that_is_killed_goes_on_without_hashing_again() {
    let folder = tempfile::tempdir().unwrap();
    let pool = folder.path().join("pool");
    for number in 0..1_000_u64 {
        put(&pool, &format!("{:02}/{number}.deb", number % 32), &noise(number + 1, 1_000));
    }
    let daemon = Setup::new().start();
    let mut child = command(&daemon.config(), &["seed", "import", "-r"], &[&pool])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // A line is written when the file is in the catalog. Nobody reads the others, so that the import waits to be killed.
    let told = BufReader::new(child.stdout.as_mut().unwrap()).lines().take(200).filter(Result::is_ok).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told, 200);

    let done = import(&daemon, &["-r"], &pool);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let [files, hashed, unchanged] = done.counts(["files", "hashed_files", "unchanged_files"]);
    assert_eq!((files, hashed + unchanged), (1_000, 1_000));
    assert!((200..1_000).contains(&unchanged), "{unchanged} were not hashed again");
    assert_eq!(import(&daemon, &["-r"], &pool).counts(["hashed_files", "unchanged_files"]), [0, 1_000]);
    assert!((1..=1_000).step_by(97).all(|seed| is_served(&daemon, &noise(seed, 1_000))));
}

#[test]
fn a_file_is_linked_only_where_nobody_but_root_may_change_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path());
    let cache = folder.path().join("cache");
    let add = |name: &str, mode: u32, options: &[&str]| {
        let path = put(&folder.path().join("pool"), name, name.as_bytes());
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let done = run(&config, &[&["seed", "import", "--json"], options].concat(), &[&path]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        (done.counts(HOW), fs::metadata(&path).unwrap().nlink())
    };
    let apart = add("group.deb", 0o664, &[]);
    if apart.0 == [0, 1, 0] {
        // Its blocks are shared, which is better.
        return;
    }
    assert_eq!(apart, ([1, 0, 0], 1));
    assert_eq!(add("others.deb", 0o646, &[]), ([1, 0, 0], 1));
    assert_eq!(add("secret.deb", 0o600, &["--hard-link"]), ([1, 0, 0], 1), "the daemon could not read it");
    assert_eq!(add("asked.deb", 0o664, &["--hard-link"]), ([0, 0, 1], 2));
    let root = if geteuid().is_root() { ([0, 0, 1], 2) } else { ([1, 0, 0], 1) };
    assert_eq!(add("root.deb", 0o644, &[]), root);
    assert_eq!(copies(&cache), 5);
    let clear = run(&config, &["cache", "clear"], &[]);
    assert_eq!((clear.code, copies(&cache)), (Some(0), 0));
    assert_eq!(
        fs::read(folder.path().join("pool/root.deb")).unwrap(),
        b"root.deb",
        "only the cache's name goes"
    );
}

#[test]
fn a_file_of_another_file_system_is_copied() {
    let here = tempfile::tempdir().unwrap();
    let there = tempfile::tempdir_in("/dev/shm").unwrap();
    if fs::metadata(here.path()).unwrap().dev() == fs::metadata(there.path()).unwrap().dev() {
        return;
    }
    let bytes = noise(1, 5_000_000);
    let path = put(there.path(), "a.deb", &bytes);
    let daemon = Setup::new().start();
    assert_eq!(import(&daemon, &["--hard-link"], &path).counts(HOW), [1, 0, 0]);
    fs::remove_file(&path).unwrap();
    assert!(is_served(&daemon, &bytes));

    // The other way round: within a file system of memory.
    let config = configure(there.path());
    let path = put(there.path(), "b.deb", &bytes);
    let done = run(&config, &["seed", "import", "--json", "--hard-link"], &[&path]);
    assert_eq!(done.counts(HOW), [0, 0, 1]);
}

#[test]
fn what_cannot_be_imported_is_told_in_a_line_each_and_the_rest_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let pool = folder.path().join("pool");
    put(&pool, "good.deb", b"good");
    put(&pool, "two\nlines.deb", b"two lines");
    fs::write(pool.join(OsStr::from_bytes(b"caf\xe9.deb")), b"no UTF-8").unwrap();
    std::os::unix::fs::symlink(&pool, pool.join("loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", pool.join("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(pool.join("socket")).unwrap();
    let config = configure(folder.path());
    let import = |options: &[&str], paths: &[&Path]| {
        run(&config, &[&["seed", "import", "-r"], options].concat(), paths)
    };

    let (socket, nowhere) = (pool.join("socket"), pool.join("dangling"));
    let done = import(&[], &[&pool, &socket, &nowhere, Path::new("/dev/null")]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stdout.lines().count(), 3, "{}", done.stdout);
    assert!(done.stdout.contains("two\\nlines.deb"), "{}", done.stdout);
    let told = |words: &str| done.stderr.lines().filter(|line| line.contains(words)).count();
    assert_eq!(
        told("skipped") + told("cannot import") + told("3 paths were not imported"),
        7,
        "{}",
        done.stderr
    );
    assert_eq!(done.stderr.lines().count(), 7, "{}", done.stderr);
    assert_eq!(
        (told("loop: it is no regular file"), told("dangling: No such file")),
        (1, 1),
        "{}",
        done.stderr
    );

    let done = import(&["--json"], &[&pool, &nowhere]);
    assert_eq!(done.counts(["files", "unchanged_files", "failed"]), [3, 3, 1]);
    assert!(done.json()["errors"][0]["path"].as_str().unwrap().ends_with("dangling"));
}

#[test]
fn a_file_that_vanishes_while_others_are_imported_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let pool = folder.path().join("pool");
    for number in 0..600_u64 {
        put(&pool, &format!("{number:03}.deb"), &noise(number + 1, 100));
    }
    let config = configure(folder.path());
    let mut child = command(&config, &["seed", "import", "-r"], &[&pool])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().is_some());
    // The folder has been listed; these are far from being asked for, as nobody reads the lines before them.
    let gone: Vec<_> = (590..600).map(|number| pool.join(format!("{number:03}.deb"))).collect();
    gone.iter().for_each(|path| fs::remove_file(path).unwrap());
    let rest = lines.map_while(Result::ok).count();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let missing = told.lines().filter(|line| line.contains("No such file")).count();
    assert_eq!(1 + rest + missing, 600, "{told}");
    assert_eq!(output.status.code(), Some(i32::from(missing > 0)));
}
