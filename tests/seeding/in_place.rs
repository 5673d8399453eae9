//! A tree that is served where it is.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::daemon::Setup;
use crate::support::{http, noise, wait_for};
use crate::{SOON, ask, copies, have, import, is_served, put, run};
use aptpeer::digest::Sha256;

/// Objects of one piece, of several, and of one piece twice.
fn pool(folder: &Path) -> [Vec<u8>; 3] {
    let files = [noise(1, 50_000), noise(2, 9_000_000), noise(3, 70_000)];
    put(folder, "pool/a/a.deb", &files[0]);
    put(folder, "pool/b/b.deb", &files[1]);
    put(folder, "pool/c/c.deb", &files[2]);
    put(folder, "pool/c/twin.deb", &files[2]);
    files
}

#[test]
fn a_tree_is_served_without_a_copy_and_is_nobody_elses_to_remove() {
    let folder = tempfile::tempdir().unwrap();
    let files = pool(folder.path());
    // Nothing of it has room in the cache.
    let mut daemon = Setup::new().with("[cache]\nmax_size = \"10kB\"").start();
    let done = import(&daemon, &["--in-place"], folder.path());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let counts = done.counts(["files", "in_place_files", "hashed_files", "hashed_bytes", "failed"]);
    assert_eq!(counts, [4, 4, 4, 9_190_000, 0]);
    assert_eq!(copies(&daemon.cache()), 0);

    let listed = wait_for(SOON, || {
        let set = have(&daemon);
        files.iter().all(|file| set.contains(&Sha256::of(file))).then_some(())
    });
    assert!(listed.is_some(), "not in the have-set");
    let list = http::get(daemon.peer(), &format!("/hash/{}/pieces", Sha256::of(&files[1]))).text();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!((list["states"].as_array().unwrap().len(), &list["have"]), (2, &"0-2".into()));
    assert!(files.iter().all(|file| is_served(&daemon, file)));

    let cleared = run(&daemon.config(), &["cache", "clear", "--json"], &[]);
    assert_eq!(cleared.counts(["files"]), [0]);
    let stats = run(&daemon.config(), &["cache", "stats", "--json"], &[]);
    assert_eq!(stats.counts(["files", "bytes", "in_place_files", "in_place_bytes"]), [0, 0, 3, 9_120_000]);
    assert_eq!(run(&daemon.config(), &["cache", "verify"], &[]).code, Some(0));
    daemon.terminate();
    daemon.restart();
    assert!(files.iter().all(|file| is_served(&daemon, file)), "after a restart");
    daemon.wait_for_log("the cache is in order");
    assert!(files.iter().all(|file| is_served(&daemon, file)), "after what a start puts in order");

    let seeds = run(&daemon.config(), &["seed", "list", "--json"], &[]).json();
    assert!(
        seeds.as_array().unwrap().iter().all(|seed| seed["in_place"] == true && seed["announce"] == true)
    );
    let removed = run(&daemon.config(), &["seed", "remove", "--json"], &[&folder.path().join("pool")]);
    assert_eq!(removed.counts(["removed"]), [4]);
    assert!(files.iter().all(|file| ask(&daemon, file).0 == 404));
    assert_eq!(fs::read(folder.path().join("pool/b/b.deb")).unwrap(), files[1]);
}

#[test]
fn what_was_changed_is_not_served_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Setup::new().start();
    let names = ["over", "kept times", "replaced", "cut", "gone", "link"];
    // Of three pieces: a change may be anywhere.
    let files: Vec<_> = (10..16).map(|seed| noise(seed, 8_400_000)).collect();
    let path = |name: &str| folder.path().join(name);
    for (name, bytes) in names.iter().zip(&files) {
        put(folder.path(), name, bytes);
    }
    assert_eq!(import(&daemon, &["--in-place"], folder.path()).counts(["files"]), [6]);
    // They are open, mapped or not, and verified by now.
    assert!(files.iter().all(|file| is_served(&daemon, file)));

    let write = |name: &str| {
        let file = File::options().write(true).open(path(name)).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"another word", 5_000_000).unwrap();
        (file, before)
    };
    write("over");
    let (file, before) = write("kept times");
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
    put(folder.path(), "new", &noise(20, 8_400_000));
    fs::rename(path("new"), path("replaced")).unwrap();
    File::options().write(true).open(path("cut")).unwrap().set_len(8_300_000).unwrap();
    fs::remove_file(path("gone")).unwrap();
    fs::rename(path("link"), path("moved")).unwrap();
    std::os::unix::fs::symlink(path("moved"), path("link")).unwrap();

    for (name, bytes) in names.iter().zip(&files) {
        assert!(!is_served(&daemon, bytes), "{name}: whole, as if nothing had happened");
        assert_eq!(ask(&daemon, bytes).0, 404, "{name}: once it was noticed");
    }
    assert!(wait_for(SOON, || have(&daemon).is_empty().then_some(())).is_some(), "still in the have-set");
    assert_eq!(fs::metadata(path("cut")).unwrap().len(), 8_300_000);
}

#[test]
fn importing_again_takes_what_changed_and_forgets_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let files = pool(folder.path());
    let daemon = Setup::new().start();
    let hashed = ["hashed_files", "hashed_bytes", "unchanged_files", "gone_files"];
    assert_eq!(import(&daemon, &["--in-place"], folder.path()).counts(hashed), [4, 9_190_000, 0, 0]);
    assert_eq!(import(&daemon, &["--in-place"], folder.path()).counts(hashed), [0, 0, 4, 0]);

    fs::remove_file(folder.path().join("pool/b/b.deb")).unwrap();
    fs::remove_file(folder.path().join("pool/c/c.deb")).unwrap();
    let newer = noise(4, 60_000);
    put(folder.path(), "pool/a/a.deb", &newer);
    let new = noise(5, 1_000);
    put(folder.path(), "pool/d/d.deb", &new);
    assert_eq!(import(&daemon, &["--in-place"], folder.path()).counts(hashed), [2, 61_000, 1, 2]);
    assert!(is_served(&daemon, &newer) && is_served(&daemon, &new));
    assert!(is_served(&daemon, &files[2]), "its twin is there");
    assert!(!is_served(&daemon, &files[0]) && !is_served(&daemon, &files[1]));

    // The whole tree is gone: that is no mistake of the files', but one of the path's.
    fs::remove_dir_all(folder.path().join("pool")).unwrap();
    let done = import(&daemon, &["--in-place"], &folder.path().join("pool"));
    assert_eq!((done.code, done.counts(["gone_files", "failed"])), (Some(1), [3, 1]));
    assert!(!is_served(&daemon, &files[2]));
}

#[test]
fn what_the_cache_has_moves_out_and_comes_back_when_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let files = pool(folder.path());
    let daemon = Setup::new().start();
    let other = folder.path().join("pool/b");
    assert_eq!(import(&daemon, &["-r", "--hard-link"], folder.path()).counts(["files", "failed"]), [4, 0]);
    assert!(is_served(&daemon, &files[1]));
    assert_eq!(copies(&daemon.cache()), 3);
    let done = import(&daemon, &["--in-place"], &other).counts(["files", "unchanged_files"]);
    assert_eq!(done, [1, 1], "it was hashed before");
    assert_eq!(copies(&daemon.cache()), 2);
    assert!(is_served(&daemon, &files[1]));
    // What is in place is there already for an import into the cache; without the file it is gone.
    assert_eq!(import(&daemon, &["-r"], &other).counts(["hashed_files", "unchanged_files"]), [0, 1]);
    fs::remove_file(other.join("b.deb")).unwrap();
    assert!(!is_served(&daemon, &files[1]));
    put(&other, "b.deb", &files[1]);
    assert_eq!(import(&daemon, &["-r"], &other).counts(["files", "hashed_files"]), [1, 1]);
    assert!(is_served(&daemon, &files[1]));
    assert_eq!(copies(&daemon.cache()), 3);
}

#[test]
fn the_cache_is_no_tree_to_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let files = pool(folder.path());
    let daemon = Setup::new().start();
    import(&daemon, &["-r"], folder.path());
    let done = import(&daemon, &["--in-place"], &daemon.cache());
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("belongs to the cache itself"), "{}", done.stderr);
    assert!(files.iter().all(|file| is_served(&daemon, file)));
    assert_eq!(copies(&daemon.cache()), 3);
}
