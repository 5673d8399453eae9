//! What apt knows already: the Releases and indexes in its lists directory.
//!
//! apt names each file after its URL: without the scheme, every `/` an `_`, and whatever is odd (a real `_` too)
//! percent-quoted. So a name is read back without guessing. apt may have compressed an index anew; its content is
//! compared with the Release all the same. apt has verified the signatures.

use super::Learned;
use super::inner::Inner;
use super::places::without_suffix;
use super::reading::Expected;
use crate::clock;
use crate::debian::{MAX_RELEASE, RepoUrl};
use crate::digest::Sha256;
use percent_encoding::percent_decode_str;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The most files that are looked at. A machine with fifty sources has some five hundred.
const MAX_FILES: usize = 10_000;

/// A directory that changed this recently may change again without its time showing it: clocks of file systems tick
/// some hundred times a second, those of network file systems once in one or two.
const UNSETTLED: Duration = Duration::from_secs(2);

/// apt's lists directory and what was read of it.
#[derive(Debug)]
pub(super) struct Lists {
    folder: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The time of the directory when it was last read, unless it was changing then.
    scanned: Option<SystemTime>,
    /// The Releases that were read, by file name.
    releases: HashMap<String, (Stamp, String)>,
    /// The indexes that could not be used, and those that could not be verified.
    tried: HashMap<String, (Stamp, Sha256)>,
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

impl Lists {
    /// The lists in `folder`, which need not exist. Nothing is read yet.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, seen: Mutex::default() }
    }

    /// Whether the directory is another than when it was last read. It costs one `stat`.
    pub(super) fn changed(&self) -> bool {
        let now = self.modified();
        now.is_some() && now != self.seen().scanned
    }

    /// Reads what is new: Releases first, then the indexes that they name.
    pub(super) fn scan(&self, inner: &Inner) {
        let mut seen = self.seen();
        let modified = self.modified();
        let files = self.files();
        seen.scan_releases(&files, inner);
        seen.scan_indexes(&files, inner);
        let settled = |time: &SystemTime| {
            let now = clock::wall_clock(Duration::ZERO);
            *time + UNSETTLED < now || *time > now
        };
        seen.scanned = modified.filter(settled);
    }

    fn modified(&self) -> Option<SystemTime> {
        fs::metadata(&self.folder).and_then(|folder| folder.modified()).ok()
    }

    /// The regular files, by name, with the addresses that they were fetched from.
    fn files(&self) -> Vec<ListFile> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut files: Vec<_> =
            entries.flatten().filter_map(|entry| ListFile::of(&entry)).take(MAX_FILES).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of the lists whose name is the address of a Release or an index.
struct ListFile {
    name: String,
    path: PathBuf,
    url: RepoUrl,
    stamp: Stamp,
}

impl ListFile {
    fn of(entry: &fs::DirEntry) -> Option<Self> {
        let name = entry.file_name().into_string().ok()?;
        let stem = without_suffix(&name);
        let wanted = ["_InRelease", "_Release", "_Packages", "_Sources"];
        if !wanted.iter().any(|end| stem.ends_with(end)) {
            return None;
        }
        let (path, url) = (entry.path(), url_of(&name)?);
        // Follows links, as apt does; directories such as `partial` are none of ours.
        let metadata = fs::metadata(&path).ok().filter(Metadata::is_file)?;
        Some(Self { name, path, url, stamp: Stamp::of(&metadata) })
    }

    /// The directory of the Release that this is, and whether it is an InRelease.
    fn release(&self) -> Option<(&str, bool)> {
        match self.url.split_last() {
            (base, "InRelease") => Some((base, true)),
            (base, "Release") => Some((base, false)),
            _ => None,
        }
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        File::open(&self.path)?.take(MAX_RELEASE as u64 + 1).read_to_end(&mut body)?;
        Ok(body)
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self { modified: (file.mtime(), file.mtime_nsec()), length: file.len(), inode: file.ino() }
    }
}

/// The address that a file of the lists was fetched from. The quoting is that of apt's `URItoFileName`; what it
/// quotes is the URL as it was requested, which has a quoting of its own.
fn url_of(name: &str) -> Option<RepoUrl> {
    let url = name.replace('_', "/");
    percent_decode_str(&url).decode_utf8().ok()?.parse().ok()
}

impl Seen {
    fn scan_releases(&mut self, files: &[ListFile], inner: &Inner) {
        let before = std::mem::take(&mut self.releases);
        let mut done = HashSet::new();
        // An InRelease comes before a Release of the same directory in the order of names.
        for file in files {
            let Some((base, clearsigned)) = file.release() else { continue };
            if !done.insert(base) {
                continue;
            }
            self.releases.insert(file.name.clone(), (file.stamp, base.to_owned()));
            if before.get(&file.name).is_some_and(|(stamp, _)| *stamp == file.stamp) {
                continue;
            }
            self.tried.clear();
            let taught = file.read().map_err(|error| error.to_string()).and_then(|body| {
                inner
                    .teach(base, &body, clearsigned, Learned::FromApt, true)
                    .map_err(|error| error.to_string())
            });
            match taught {
                Ok(_) => tracing::debug!(file = %file.name, "learnt a Release from apt's lists"),
                Err(error) => tracing::info!(error, file = %file.name, "cannot use a Release in apt's lists"),
            }
        }
        if before.values().any(|(_, base)| !done.contains(base.as_str())) {
            let gone = |base: &str| !done.contains(base);
            inner.write().retain(|place| place.learned != Learned::FromApt || !gone(&place.base));
        }
    }

    fn scan_indexes(&mut self, files: &[ListFile], inner: &Inner) {
        for file in files.iter().filter(|file| file.release().is_none()) {
            if inner.stopping() {
                return;
            }
            let Some((wanted, expected, filled)) = inner.read_lock().listed(&file.url) else { continue };
            let state = (file.stamp, wanted.id);
            let unverified = expected == Expected::Nothing;
            if (filled && !unverified) || self.tried.get(&file.name) == Some(&state) {
                continue;
            }
            let read = File::open(&file.path).map_err(Into::into);
            match read.and_then(|source| inner.read_and_fill(source, wanted, expected)) {
                Ok(entries) => tracing::debug!(file = %file.name, entries, "read an index of apt's lists"),
                Err(error) => tracing::info!(%error, file = %file.name, "cannot use an index in apt's lists"),
            }
            if unverified || !inner.read_lock().has_table(&wanted.id) {
                self.tried.insert(file.name.clone(), state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How apt names a list file: what is odd is quoted, then `/` becomes `_`.
    fn as_apt_names(url: &str) -> String {
        url.bytes()
            .map(|b| match b {
                b'\\' | b'|' | b'{' | b'}' | b'[' | b']' | b'<' | b'>' | b'"' | b'^' | b'~' | b'_' | b'='
                | b'!' => {
                    format!("%{b:02x}")
                }
                b'@' | b'#' | b'$' | b'%' | b'&' | b'*' | 0..=0x20 | 0x7f.. => format!("%{b:02x}"),
                b'/' => "_".to_owned(),
                _ => char::from(b).to_string(),
            })
            .collect()
    }

    #[test]
    fn names_are_read_back_as_addresses() {
        for (name, url) in [
            (
                "mirror.example.org_debian_dists_stable_InRelease",
                "mirror.example.org/debian/dists/stable/InRelease",
            ),
            ("mirror.example.org_deb%5frepo_._Packages.lz4", "mirror.example.org/deb_repo/Packages.lz4"),
            ("127.0.0.1:8080_a%7eb_Release", "127.0.0.1:8080/a~b/Release"),
            ("mirror.example.org_a%252bb_Release", "mirror.example.org/a+b/Release"),
            ("%5b::1%5d:3142_d_Release", "[::1]:3142/d/Release"),
        ] {
            assert_eq!(url_of(name).map(|url| url.to_string()).as_deref(), Some(url), "{name}");
        }
        assert_eq!(url_of("lock"), None);
        assert_eq!(url_of(".._.._etc_Release"), None);
    }

    proptest! {
        #[test]
        fn what_apt_names_is_read_back(path in "[a-z0-9_~+:=@%. -]{1,9}(/[a-z0-9_~+:.-]{1,9}){0,4}/InRelease") {
            let url = format!("mirror.example.org/{path}");
            prop_assert_eq!(url_of(&as_apt_names(&url)), url.parse().ok());
        }
    }
}
