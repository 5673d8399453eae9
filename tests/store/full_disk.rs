//! A disk that is really full: a small file system of its own.

use std::process::Command;

use super::*;
use aptpeer::store::StoreError;

/// A file system of 8 MiB, unmounted in the end.
struct SmallDisk {
    folder: tempfile::TempDir,
    _image: Option<tempfile::NamedTempFile>,
}

impl SmallDisk {
    /// A tmpfs; `None`, with the reason printed, where this process may not mount.
    fn mount() -> Option<Self> {
        Self::mounted(&["-t", "tmpfs", "-o", "size=8m", "none"], None)
    }

    /// An ext2, which cannot preallocate.
    fn mount_ext2() -> Option<Self> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(8 << 20).unwrap();
        let made = Command::new("/sbin/mkfs.ext2").args(["-q", "-m", "0"]).arg(image.path()).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: there is no mkfs.ext2");
            return None;
        }
        let path = image.path().to_str().unwrap().to_owned();
        Self::mounted(&["-o", "loop", &path], Some(image))
    }

    fn mounted(mount: &[&str], image: Option<tempfile::NamedTempFile>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("mount").args(mount).arg(folder.path()).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self { folder, _image: image });
        }
        eprintln!("skipped: mounting needs root and CAP_SYS_ADMIN");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot unmount {}",
            self.folder.path().display()
        );
    }
}

#[test]
fn a_full_disk_is_an_error_at_the_start_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let config = StoreConfig { path: disk.folder.path().to_owned(), max_size: u64::MAX, min_free_space: 0 };
    let store = Store::open(config).unwrap();
    let kept = publish(&store, &sample(1 << 20, 1));
    // Another program takes the room behind our back, so that our own count cannot know.
    let hog = std::fs::File::create(disk.folder.path().join("hog")).unwrap();
    let free = store.stats().unwrap().free_space;
    rustix::fs::fallocate(&hog, rustix::fs::FallocateFlags::empty(), 0, free - (1 << 20)).unwrap();

    let bytes = sample(3 << 20, 2);
    let refused = store.assemble(Sha256::of(&bytes), geometry(&bytes)).unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert!(files_in(&disk.folder.path().join("v1/partial")).is_empty());
    assert_eq!(read(&store, &kept), sample(1 << 20, 1), "nothing was evicted in vain");

    let assembly = store.assemble_in_memory(Sha256::of(&bytes), geometry(&bytes)).unwrap();
    assembly.write_at(0, &bytes).unwrap();
    assert!(assembly.bytes(0..u64::MAX) == bytes, "apt gets it all the same");
}

#[test]
fn a_disk_filled_by_the_cache_makes_room_by_itself() {
    let Some(disk) = SmallDisk::mount() else { return };
    let config =
        StoreConfig { path: disk.folder.path().to_owned(), max_size: u64::MAX, min_free_space: 2 << 20 };
    let store = Store::open(config).unwrap();
    let mut last = None;
    for seed in 0..20 {
        last = Some(publish(&store, &sample(1 << 20, seed)));
        assert!(
            store.stats().unwrap().free_space >= 1 << 20,
            "the catalog's own growth aside, it stays free"
        );
    }
    let stats = store.stats().unwrap();
    assert!((3..=6).contains(&stats.objects), "{stats:?}");
    assert!(store.contains(&last.unwrap()));
}

/// Nothing is written before the first byte comes, and what is promised to one object is not promised to another.
#[test]
fn a_disk_that_cannot_preallocate_keeps_the_room_it_promised() {
    let Some(disk) = SmallDisk::mount_ext2() else { return };
    let config = StoreConfig { path: disk.folder.path().to_owned(), max_size: u64::MAX, min_free_space: 0 };
    let store = Store::open(config).unwrap();
    let (first, second) = (sample(5 << 20, 1), sample(4 << 20, 2));
    let free = store.stats().unwrap().free_space;
    assert!(free > 6 << 20, "{free}");

    let assembly = store.assemble(Sha256::of(&first), geometry(&first)).unwrap();
    let left = store.stats().unwrap().free_space;
    assert!(free - left < 1 << 20, "{free} free before, {left} after");
    let refused = store.assemble(Sha256::of(&second), geometry(&second)).unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");

    assembly.write_at(0, &first).unwrap();
    let refused = store.assemble(Sha256::of(&second), geometry(&second)).unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    drop(assembly);
    store.assemble(Sha256::of(&second), geometry(&second)).unwrap().write_at(0, &second).unwrap();
}
