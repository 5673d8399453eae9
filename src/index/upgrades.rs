//! What this machine would upgrade: dpkg's status held against the indexes that are known.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Learned;
use super::places::{Place, Places};
use crate::debian::{Installed, Newer, RepoPath, Version};
use crate::digest::Sha256;

/// The longest status file that is read, in bytes. A full desktop has some 5 MB.
const MAX_STATUS: u64 = 64 << 20;

/// A package that this machine would upgrade to, as far as that can be told without solving dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Its digest.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// Where a mirror has it, as `http://host/path`: the scheme, and for a flat repository the directory, are guesses.
    pub url: String,
    /// The name of the archive that it belongs to ([`crate::wire::archive_name`]).
    pub archive: Option<Sha256>,
}

/// dpkg's status file, read when it is another than before.
#[derive(Debug)]
pub(super) struct Status {
    path: PathBuf,
    read: Mutex<(Option<(SystemTime, u64)>, Arc<Installed>)>,
}

impl Status {
    /// The status file at `path`, which need not exist.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// What is installed now; nothing, where that cannot be read. Blocks on the disk.
    pub(super) fn installed(&self) -> Arc<Installed> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(file) = File::open(&self.path) else { return Arc::default() };
        let stamp = file.metadata().and_then(|is| Ok((is.modified()?, is.len()))).ok();
        if stamp.is_none() || read.0 != stamp {
            match Installed::read(file.take(MAX_STATUS)) {
                Ok(installed) => *read = (stamp, Arc::new(installed)),
                Err(error) => {
                    tracing::info!(%error, path = %self.path.display(), "dpkg's status cannot be read");
                    return Arc::default();
                }
            }
        }
        Arc::clone(&read.1)
    }
}

impl Places {
    /// The highest version of each installed package that is higher than the installed one. What apt would not take by
    /// itself is left out; where two archives have the same version, the one that is worth more says which file it is.
    pub(super) fn upgrades(&self, installed: &Installed) -> Vec<Upgrade> {
        let mut best: HashMap<(&str, &str), (&Version, _, Upgrade)> = HashMap::new();
        for (newer, place) in self.newer() {
            let Some(replaced) = installed.replaced_by(&newer.package, &newer.architecture, &newer.version)
            else {
                continue;
            };
            let (id, length, url) = (newer.digest, newer.length, place.url_of(&newer.path));
            let upgrade = Upgrade { id, length, url, archive: place.archive };
            let this = (&newer.version, place.weight, upgrade);
            match best.entry((&*newer.package, replaced)) {
                Entry::Vacant(vacant) => drop(vacant.insert(this)),
                Entry::Occupied(mut held) if (held.get().0, held.get().1) < (this.0, this.1) => {
                    held.insert(this);
                }
                Entry::Occupied(_) => {}
            }
        }
        let mut upgrades: Vec<_> = best.into_values().map(|(.., upgrade)| upgrade).collect();
        upgrades.sort_unstable_by_key(|upgrade| upgrade.id);
        upgrades.dedup_by_key(|upgrade| upgrade.id);
        upgrades
    }

    /// What was newer than the installed packages, with the Release that it stands under.
    fn newer(&self) -> impl Iterator<Item = (&Newer, &Place)> {
        let places = [Learned::FromApt, Learned::Passing].into_iter().flat_map(|learned| self.held(learned));
        places.filter(|place| place.automatic).flat_map(|place| {
            let newer = place.tables().flat_map(|table| table.newer());
            newer.map(move |newer| (newer, place))
        })
    }
}

impl Place {
    /// `http://host/path` of a file that its indexes name, under its own root, with what is odd percent-encoded.
    fn url_of(&self, path: &RepoPath) -> String {
        const NEARLY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_');
        const ODD: &AsciiSet = &NEARLY.remove(b'~').remove(b'+').remove(b':');
        let root = self.roots().first().copied().unwrap_or(&self.base);
        let (host, directory) = root.split_once('/').unwrap_or((root, ""));
        let slash = if directory.is_empty() { "" } else { "/" };
        let (directory, path) =
            (utf8_percent_encode(directory, ODD), utf8_percent_encode(path.as_str(), ODD));
        format!("http://{host}/{directory}{slash}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::Release;
    use crate::index::reading::{Expected, IndexKind, read_table_beside};

    /// What is upgraded of the indexes in these directories, each with more fields of its Release and its only version.
    fn upgrades(places: &[(&str, &str, &str)]) -> Vec<Upgrade> {
        let status = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n";
        let installed = Installed::read(status.as_bytes()).unwrap();
        let mut known = Places::default();
        for (base, fields, version) in places {
            let digest = Sha256::of(version.as_bytes());
            let packages = format!(
                "Package: a\nVersion: {version}\nArchitecture: all\nFilename: ./a_{version}.deb\nSize: 3\nSHA256: {digest}\n"
            );
            let id = Sha256::of(packages.as_bytes());
            let release = format!("{fields}SHA256:\n {id} {} Packages\n", packages.len());
            let read = Release::parse(release.as_bytes()).unwrap();
            let body = Sha256::of(release.as_bytes());
            known.admit(Place::new(base, &read, body, Learned::Passing, true, 0).unwrap());
            let table = read_table_beside(
                packages.as_bytes(),
                IndexKind::Packages,
                Expected::Content(id),
                &installed,
            );
            known.fill(&id, &Arc::new(table.unwrap()));
        }
        known.upgrades(&installed)
    }

    #[test]
    fn the_highest_version_counts_but_not_of_what_apt_takes_nothing_from_by_itself() {
        let found = upgrades(&[
            ("mirror.example.org/debian/dists/stable", "Suite: stable\n", "2"),
            ("mirror.example.org/debian/dists/security", "Suite: security\n", "1:0.1+b~1"),
            ("mirror.example.org/debian/dists/backports", "NotAutomatic: yes\n", "9:9"),
        ]);
        let urls: Vec<_> = found.iter().map(|upgrade| upgrade.url.as_str()).collect();
        assert_eq!(urls, ["http://mirror.example.org/debian/a_1:0.1+b~1.deb"]);
        assert_eq!((found[0].id, found[0].length), (Sha256::of(b"1:0.1+b~1"), 3));
        assert_eq!(upgrades(&[("mirror.example.org/debian/dists/stable", "", "1")]), []);
    }

    #[test]
    fn files_of_a_flat_repository_lie_beside_its_release() {
        let of =
            |base| upgrades(&[(base, "", "2")]).into_iter().map(|upgrade| upgrade.url).collect::<Vec<_>>();
        assert_eq!(
            of("mirror.example.org:8080/odd name"),
            ["http://mirror.example.org:8080/odd%20name/a_2.deb"]
        );
        assert_eq!(of("mirror.example.org"), ["http://mirror.example.org/a_2.deb"]);
    }
}
