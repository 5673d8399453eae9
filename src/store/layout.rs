//! Where everything of the cache lies on disk: the only file that spells its paths.
//!
//! ```text
//! <cache>/v1/objects/ab/<64 hex>          a whole, verified object, mode 0644, never changed; ab are its first digits
//! <cache>/v1/partial/<64 hex>.<16 hex>    an assembly in progress, flock(2)ed by the process that owns it; unlocked, a
//!                                         leftover if the catalog has a row for it, else rubbish
//! <cache>/v1/catalog.sqlite               what is known of every object (and SQLite's -wal and -shm beside it)
//! ```
//!
//! The version in the directory changes when an older program could no longer live with what a newer one wrote. The
//! directory `v1` itself is flock(2)ed while a process opens the catalog, so that two of them migrate one by one.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::digest::Sha256;

/// The paths below one cache directory.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(cache: &Path) -> Self {
        Self { root: cache.join("v1") }
    }

    /// Makes the directories and the catalog's file where they are missing.
    pub(super) fn create(&self) -> io::Result<()> {
        if let Some(cache) = self.root.parent() {
            fs::create_dir_all(cache)?;
        }
        for folder in [self.root.clone(), self.objects(), self.partials()] {
            create_directory(&folder)?;
        }
        match File::create_new(self.catalog()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => share(&made?, &self.root),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub(super) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(super) fn catalog(&self) -> PathBuf {
        self.root.join("catalog.sqlite")
    }

    /// The directory of the objects whose digest starts with `first`.
    pub(super) fn shard(&self, first: u8) -> PathBuf {
        self.objects().join(format!("{first:02x}"))
    }

    pub(super) fn object(&self, id: &Sha256) -> PathBuf {
        self.shard(id.as_bytes()[0]).join(id.to_string())
    }

    /// A name for a new assembly of `id` that nobody else has.
    pub(super) fn new_partial(&self, id: &Sha256) -> PathBuf {
        // Every `RandomState` has keys of its own: random enough for a name, which is created exclusively anyway.
        let random = RandomState::new().build_hasher().finish();
        self.partials().join(format!("{id}.{random:016x}"))
    }

    /// The partial file of this name, `None` for a name that is none of an assembly of `id`.
    pub(super) fn partial_named(&self, id: &Sha256, name: &str) -> Option<PathBuf> {
        let (of, random) = name.split_once('.')?;
        let fits =
            of == id.to_string() && random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit());
        fits.then(|| self.partials().join(name))
    }

    /// Makes the directory that holds object `id`; whether it was missing. It survives a power cut once the folder of objects
    /// is on disk.
    pub(super) fn create_shard(&self, id: &Sha256) -> io::Result<bool> {
        let shard = self.shard(id.as_bytes()[0]);
        match create_directory(&shard) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create()?;
                create_directory(&shard)
            }
            made => made,
        }
    }
}

/// Makes one directory; whether it was missing.
fn create_directory(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made?,
    }
    if let Some(folder) = path.parent() {
        share(&File::open(path)?, folder)?;
    }
    Ok(true)
}

/// Gives what was just made in `folder` to the owner of `folder`, where we are root: the daemon, which runs as a user of its
/// own, must be able to use and remove what root's commands have put into its cache.
pub(super) fn share(made: &File, folder: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(folder)?;
    fchown(made, Some(owner.uid()), Some(owner.gid()))
}

/// The object that a file of `shard` is, `None` for a name that the store never gives.
pub(super) fn object_in_shard(shard: u8, name: &str) -> Option<Sha256> {
    let id: Sha256 = name.parse().ok()?;
    (id.as_bytes()[0] == shard && id.to_string() == name).then_some(id)
}

/// Makes the names in `directory` survive a power cut.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_under_the_name_it_was_given() {
        let layout = Layout::new(Path::new("/cache"));
        let id = Sha256::of(b"abc");
        let path = layout.object(&id);
        assert_eq!(path, Path::new(&format!("/cache/v1/objects/ba/{id}")));
        assert_eq!(object_in_shard(0xba, path.file_name().unwrap().to_str().unwrap()), Some(id));
    }

    #[test]
    fn names_the_store_never_gives_are_no_objects() {
        let id = Sha256::of(b"abc").to_string();
        assert_eq!(object_in_shard(0xbb, &id), None, "in the wrong directory");
        assert_eq!(object_in_shard(0xba, &id.to_uppercase()), None);
        assert_eq!(object_in_shard(0xba, "README"), None);
    }

    #[test]
    fn partial_names_differ() {
        let layout = Layout::new(Path::new("/cache"));
        let id = Sha256::of(b"abc");
        assert_ne!(layout.new_partial(&id), layout.new_partial(&id));
    }
}
