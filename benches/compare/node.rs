//! `aptpeer daemon` as it is built, with files in its cache.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aptpeer::store::{Origin, Store, StoreConfig};

use crate::fixture::Thing;
use crate::support::daemon::{Daemon, Setup};

/// A daemon like any other, but for its log, which says no more than a user's would, and the limit on uploads, which
/// would refuse most of 64 connections at once.
pub fn setup(cache: &Path) -> Setup {
    Setup::new().with(&format!(
        "[log]\nlevel = \"info\"\nformat = \"text\"\n\
         [cache]\npath = \"{}\"\nmax_size = \"100GB\"\n\
         [transfer]\nmax_concurrent_uploads = 256\n",
        cache.display()
    ))
}

/// A daemon that holds `things`; `lists` is what apt knows.
pub fn holding(cache: &Path, lists: Option<&Path>, things: &[Thing]) -> Daemon {
    let config = StoreConfig { path: cache.to_owned(), max_size: u64::MAX, min_free_space: 0 };
    let store = Store::open(config).unwrap();
    for thing in things {
        // Others than root may write it: so it is copied, as what was downloaded lies in the cache. A linked file is served
        // more carefully, for its owner may write to it.
        fs::set_permissions(&thing.path, fs::Permissions::from_mode(0o664)).unwrap();
        assert_eq!(store.import_file(&thing.path, Origin::Seed).unwrap().id, thing.id);
    }
    drop(store);
    let setup = setup(cache);
    match lists {
        Some(lists) => setup.with(&format!("[mirrors]\nlists_dir = \"{}\"\n", lists.display())).start(),
        None => setup.start(),
    }
}
