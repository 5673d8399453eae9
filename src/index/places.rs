//! What is known now: Releases, where they stand, and the tables of the indexes that they name.
//!
//! A Release stands in a directory of a host. The files that it names itself (indexes and whatever else) lie below
//! that directory; those that its Packages and Sources name lie below a root, which is the directory before `/dists/`
//! or, in a flat repository, any directory above.

use super::reading::{Expected, IndexKind};
use super::table::{Key, Table, TableBuilder};
use super::{Kind, Known, Learned, Naming};
use crate::debian::{ByHash, Release, RepoPath, RepoUrl};
use crate::digest::Sha256;
use crate::wire::{archive_name, is_local};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most Releases that are kept of what passes, the least recently used being forgotten: some four machines'
/// worth of different repositories. What apt's own lists hold is bounded by them.
pub(super) const MAX_PASSING: usize = 64;

/// The most entries in the tables of Releases that passed, all together: 117 MB.
const MAX_PASSING_ENTRIES: usize = 2 << 20;

/// How an index file may be compressed, by the end of its name.
const SUFFIXES: [&str; 6] = [".xz", ".gz", ".bz2", ".zst", ".lz4", ".lzma"];

/// How much a Release is worth where two disagree: first whether it is proven, then when it was made, then when it
/// was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Weight {
    proven: bool,
    date: u64,
    arrival: u64,
}

/// A Release with the place where it stands.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory, `host/path`.
    pub(super) base: String,
    pub(super) learned: Learned,
    /// The digest of the body, to know it again.
    pub(super) body: Sha256,
    /// The name of the archive that it is the Release of.
    pub(super) archive: Option<Sha256>,
    /// Whether apt takes packages from it by itself.
    pub(super) automatic: bool,
    pub(super) weight: Weight,
    names: Arc<Table>,
    slots: Vec<Slot>,
    /// By the digest of every file that holds the index of a slot.
    variants: HashMap<Sha256, usize>,
    used: AtomicU64,
}

/// An index that a Release names, in one or more compressions.
#[derive(Debug)]
struct Slot {
    /// Its path without the suffix of a compression.
    stem: RepoPath,
    kind: IndexKind,
    /// The digest of one of its files, the same one wherever the same Release stands: the name of its table.
    id: Sha256,
    content: Option<Sha256>,
    table: Option<Arc<Table>>,
}

/// What came of a Release that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    Same,
    Older,
}

/// An index that a Release names and that was not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) id: Sha256,
    pub(super) kind: IndexKind,
}

impl Place {
    /// The place of the Release in directory `base`. `now` is the wall clock in seconds.
    pub(super) fn new(
        base: &str,
        release: &Release,
        body: Sha256,
        learned: Learned,
        proven: bool,
        now: u64,
    ) -> Option<Self> {
        /// A Release from further in the future, in seconds, would never be replaced: its date says nothing.
        const TOO_NEW: u64 = 24 * 3600;
        let date = release.date.filter(|date| *date <= now.saturating_add(TOO_NEW)).unwrap_or(0);
        let (slots, variants) = slots(release);
        Some(Self {
            base: base.to_owned(),
            learned,
            body,
            archive: archive(release),
            automatic: !release.not_automatic,
            weight: Weight { proven, date, arrival: 0 },
            names: Arc::new(names(release)?),
            slots,
            variants,
            used: AtomicU64::new(0),
        })
    }

    /// Where the paths in its indexes begin. The first is its own, the others are guesses for a flat repository,
    /// whose sources URI may end anywhere above it.
    pub(super) fn roots(&self) -> Vec<&str> {
        let suite = self.base.rfind("/dists/").or_else(|| self.base.strip_suffix("/dists").map(str::len));
        if let Some(at) = suite {
            return vec![&self.base[..at]];
        }
        let above = self.base.rmatch_indices('/').map(|(at, _)| &self.base[..at]);
        std::iter::once(self.base.as_str()).chain(above).collect()
    }

    /// Whether `digest` is that of a file that holds one of its indexes.
    pub(super) fn has_index(&self, digest: &Sha256) -> bool {
        self.variants.contains_key(digest)
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.slots.iter().filter_map(|slot| slot.table.as_ref())
    }

    /// How many entries it keeps in memory, those that it shares included.
    fn entries(&self) -> usize {
        self.names.len() + self.tables().map(|table| table.len()).sum::<usize>()
    }

    /// Whether there is room for a table; what apt has itself always has room.
    fn has_room(&self, table: &Table) -> bool {
        self.learned == Learned::FromApt || self.entries() + table.len() <= MAX_PASSING_ENTRIES
    }
}

/// The paths that a Release names, by-hash addresses included, relative to its directory.
fn names(release: &Release) -> Option<Table> {
    let mut builder = TableBuilder::default();
    for file in &release.files {
        builder.add(file.path.as_str(), file.length, file.sha256);
        let folder = match file.path.split_last() {
            ("", _) => "by-hash".to_owned(),
            (directory, _) => format!("{directory}/by-hash"),
        };
        builder.add(&format!("{folder}/SHA256/{}", file.sha256), file.length, file.sha256);
        for (algorithm, hex) in &file.others {
            builder.add(&format!("{folder}/{}/{hex}", algorithm.folder()), file.length, file.sha256);
        }
    }
    builder.finish()
}

/// Which files of a Release are indexes worth reading: those called Packages or Sources, wherever they stand.
fn index_stem(path: &RepoPath) -> Option<(&str, IndexKind)> {
    let stem = without_suffix(path.as_str());
    match stem.rsplit_once('/').map_or(stem, |(_, name)| name) {
        "Packages" => Some((stem, IndexKind::Packages)),
        "Sources" => Some((stem, IndexKind::Sources)),
        _ => None,
    }
}

/// `name` without the suffix of a compression.
pub(super) fn without_suffix(name: &str) -> &str {
    SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn slots(release: &Release) -> (Vec<Slot>, HashMap<Sha256, usize>) {
    let mut slots: Vec<Slot> = Vec::new();
    let mut by_stem: HashMap<&str, usize> = HashMap::new();
    let mut variants = HashMap::new();
    for file in &release.files {
        let Some((stem, kind)) = index_stem(&file.path) else { continue };
        let Ok(path) = RepoPath::from_name(stem) else { continue };
        let at = *by_stem.entry(stem).or_insert_with(|| {
            slots.push(Slot { stem: path, kind, id: file.sha256, content: None, table: None });
            slots.len() - 1
        });
        let slot = &mut slots[at];
        if stem == file.path.as_str() {
            slot.content = Some(file.sha256);
            slot.id = file.sha256;
        } else if slot.content.is_none() {
            slot.id = slot.id.min(file.sha256);
        }
        variants.insert(file.sha256, at);
    }
    (slots, variants)
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    /// Positions in `places` by the directory of the Release, and by the roots of its files with whether that root
    /// is its own.
    bases: HashMap<String, Vec<usize>>,
    roots: HashMap<String, Vec<(usize, bool)>>,
    ticks: AtomicU64,
}

impl Places {
    /// What `url` is, if anything that was learnt names it.
    pub(super) fn lookup(&self, url: &RepoUrl) -> Option<Known> {
        if let Some(ByHash::Sha256(id)) = url.by_hash() {
            // The address says what the file is; a Release may say how long.
            let length = self.named(url).filter(|(_, named)| *named == id).map(|(length, _)| length);
            return Some(Known { id, length, kind: Kind::Index });
        }
        if let Some((_, (length, id))) = self.named_at(url) {
            return Some(Known { id, length: Some(length), kind: Kind::Index });
        }
        self.packaged(url).map(|(_, (length, id))| Known { id, length: Some(length), kind: Kind::File })
    }

    /// The name of the archive whose Release, or whose indexes, name `url`.
    pub(super) fn archive_of(&self, url: &RepoUrl) -> Option<Sha256> {
        let (at, _) = self.named_at(url).or_else(|| self.packaged(url))?;
        self.places[at].archive
    }

    /// The names of the archives that are used, each once, the one used last first. Those that stand on hosts of a
    /// local network only where `local`: nobody else uses them.
    pub(super) fn archives(&self, local: bool) -> Vec<Sha256> {
        let shared = self.places.iter().filter(|place| local || !is_of_local_network(&place.base));
        let mut used: Vec<_> =
            shared.filter_map(|place| Some((place.used.load(Ordering::Relaxed), place.archive?))).collect();
        used.sort_unstable_by(|a, b| b.cmp(a));
        let mut seen = HashSet::new();
        used.into_iter().map(|(_, archive)| archive).filter(|archive| seen.insert(*archive)).collect()
    }

    /// Who names these packages. It goes through everything that is known.
    pub(super) fn namings(&self, ids: &HashSet<Sha256>) -> Vec<Naming> {
        let mut namings = HashSet::new();
        for place in &self.places {
            let host = place.base.split('/').next().unwrap_or(&place.base);
            let passed = place.learned == Learned::Passing;
            let named = place.tables().flat_map(|table| table.digests()).filter(|id| ids.contains(id));
            namings.extend(named.map(|id| Naming { id: *id, host: host.to_owned(), passed }));
        }
        namings.into_iter().collect()
    }

    /// Looks among the files that Releases name.
    fn named(&self, url: &RepoUrl) -> Option<(u64, Sha256)> {
        self.named_at(url).map(|(_, named)| named)
    }

    /// The same, with the position of the Release.
    fn named_at(&self, url: &RepoUrl) -> Option<(usize, (u64, Sha256))> {
        url.ancestors().find_map(|(directory, rest)| {
            let here = self.bases.get(directory)?;
            let key = Key::of(rest);
            self.heaviest(here.iter().filter_map(|at| Some((*at, self.places[*at].names.get(&key)?))))
        })
    }

    /// Looks among the files that Packages and Sources name, in the deepest directory first.
    fn packaged(&self, url: &RepoUrl) -> Option<(usize, (u64, Sha256))> {
        let mut owned = false;
        for (directory, rest) in url.ancestors() {
            let Some(here) = self.roots.get(directory) else { continue };
            let key = Key::of(rest);
            let found = here.iter().filter_map(|(at, own)| {
                let place = &self.places[*at];
                // Below the root of one repository, another one's guess at its own root counts for nothing.
                if !own && owned && !is_below(url.as_str(), &place.base) {
                    return None;
                }
                Some((*at, place.tables().find_map(|table| table.get(&key))?))
            });
            if let Some(found) = self.heaviest(found) {
                return Some(found);
            }
            owned |= here.iter().any(|(_, own)| *own);
        }
        None
    }

    fn heaviest(
        &self,
        found: impl Iterator<Item = (usize, (u64, Sha256))>,
    ) -> Option<(usize, (u64, Sha256))> {
        let (at, entry) = found.max_by_key(|(at, _)| self.places[*at].weight)?;
        self.places[at].used.store(self.tick(), Ordering::Relaxed);
        Some((at, entry))
    }

    /// Takes a Release in, instead of what stood at the same place, unless that is worth more.
    ///
    /// apt's own lists are what apt believes, so they always count; beside them what passes is kept apart.
    pub(super) fn admit(&mut self, mut place: Place) -> Admission {
        place.weight.arrival = self.tick();
        place.used.store(place.weight.arrival, Ordering::Relaxed);
        let old = self.position(&place.base, place.learned);
        if let Some(at) = old {
            let old = &mut self.places[at];
            if old.body == place.body {
                old.weight.proven |= place.weight.proven;
                old.used.store(place.weight.arrival, Ordering::Relaxed);
                return Admission::Same;
            }
            if place.learned == Learned::Passing && old.weight > place.weight {
                return Admission::Older;
            }
        }
        for at in 0..place.slots.len() {
            place.slots[at].table = self.table(&place.slots[at].id).filter(|table| place.has_room(table));
        }
        match old {
            Some(at) => self.places[at] = place,
            None => self.places.push(place),
        }
        self.forget_the_least_used();
        self.map();
        Admission::Admitted
    }

    /// Forgets every place that `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Place) -> bool) {
        self.places.retain(keep);
        self.map();
    }

    /// Whether `digest` is that of an index that a Release names and that is not in a table yet.
    pub(super) fn wanted(&self, digest: &Sha256) -> Option<Wanted> {
        self.slots_of(digest)
            .find(|slot| slot.table.is_none())
            .map(|slot| Wanted { id: slot.id, kind: slot.kind })
    }

    /// The digests of all files that hold an index of the Releases in directory `base`.
    pub(super) fn indexes_of(&self, base: &str) -> Vec<Sha256> {
        let there = self.places.iter().filter(|place| place.base == base);
        there.flat_map(|place| place.variants.keys().copied()).collect()
    }

    /// Whether the table called `id` is there.
    pub(super) fn has_table(&self, id: &Sha256) -> bool {
        self.table(id).is_some()
    }

    fn slots_of(&self, digest: &Sha256) -> impl Iterator<Item = &Slot> {
        self.places.iter().filter_map(move |place| Some(&place.slots[*place.variants.get(digest)?]))
    }

    /// The index behind a file of apt's lists: what to expect of it, and whether it is in a table.
    pub(super) fn listed(&self, url: &RepoUrl) -> Option<(Wanted, Expected, bool)> {
        url.ancestors().find_map(|(directory, rest)| {
            let place = &self.places[self.position(directory, Learned::FromApt)?];
            let stem = without_suffix(rest);
            let slot = place.slots.iter().find(|slot| slot.stem.as_str() == stem)?;
            let expected = match slot.content {
                Some(content) => Expected::Content(content),
                None => Expected::Nothing,
            };
            Some((Wanted { id: slot.id, kind: slot.kind }, expected, slot.table.is_some()))
        })
    }

    /// Puts a table wherever a Release names its index. Says which places (of what passed) it went to.
    pub(super) fn fill(&mut self, id: &Sha256, table: &Arc<Table>) -> Vec<(String, Sha256)> {
        let now = self.tick();
        let mut filled = Vec::new();
        for place in &mut self.places {
            let room = place.has_room(table);
            let slots = place.slots.iter_mut().filter(|slot| room && slot.id == *id);
            let count = slots.map(|slot| slot.table = Some(Arc::clone(table))).count();
            if count > 0 {
                place.used.store(now, Ordering::Relaxed);
                if place.learned == Learned::Passing {
                    filled.push((place.base.clone(), place.body));
                }
            }
        }
        if self.forget_the_least_used() {
            self.map();
        }
        filled
    }

    /// The directories that hold a Release of this kind, with its body's digest.
    pub(super) fn held(&self, learned: Learned) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(move |place| place.learned == learned)
    }

    /// How many Releases, tables and entries there are.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let tables: HashMap<_, _> =
            self.places.iter().flat_map(Place::tables).map(|t| (Arc::as_ptr(t), t.len())).collect();
        (self.places.len(), tables.len(), tables.values().sum())
    }

    fn table(&self, id: &Sha256) -> Option<Arc<Table>> {
        let slots = self.places.iter().flat_map(|place| &place.slots);
        slots.filter(|slot| slot.id == *id).find_map(|slot| slot.table.clone())
    }

    fn position(&self, base: &str, learned: Learned) -> Option<usize> {
        let here = self.bases.get(base)?;
        here.iter().copied().find(|at| self.places[*at].learned == learned)
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps what passed within its limits.
    fn forget_the_least_used(&mut self) -> bool {
        let mut forgot = false;
        loop {
            let passing = || self.held(Learned::Passing);
            let mut seen = HashSet::new();
            let tables = passing().flat_map(|place| place.tables().chain([&place.names]));
            let entries: usize =
                tables.filter(|table| seen.insert(Arc::as_ptr(table))).map(|table| table.len()).sum();
            let count = passing().count();
            if count <= 1 || (count <= MAX_PASSING && entries <= MAX_PASSING_ENTRIES) {
                return forgot;
            }
            let Some(least) = passing().map(|place| place.used.load(Ordering::Relaxed)).min() else {
                return forgot;
            };
            self.places.retain(|p| p.learned != Learned::Passing || p.used.load(Ordering::Relaxed) != least);
            forgot = true;
        }
    }

    /// Makes the maps anew; there are too few places for anything cleverer.
    fn map(&mut self) {
        self.bases.clear();
        self.roots.clear();
        for (at, place) in self.places.iter().enumerate() {
            self.bases.entry(place.base.clone()).or_default().push(at);
            for (nth, root) in place.roots().into_iter().enumerate() {
                self.roots.entry(root.to_owned()).or_default().push((at, nth == 0));
            }
        }
    }
}

/// Whether `path` lies in `directory` or below.
fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// What the archive is called that this is the Release of; one that says nothing of itself is nobody's.
fn archive(release: &Release) -> Option<Sha256> {
    let name = release.codename.as_deref().or(release.suite.as_deref())?;
    let origin = release.origin.as_deref().filter(|origin| !origin.is_empty())?;
    Some(archive_name(origin, name))
}

/// Whether the host in this directory is one that other networks do not know, by its address or its name.
fn is_of_local_network(base: &str) -> bool {
    let authority = base.split('/').next().unwrap_or(base);
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split(':').next().unwrap_or(authority),
    };
    match host.parse() {
        Ok(address) => is_local(address),
        // RFC 6762 and RFC 6761, and the one that ICANN keeps for private use.
        Err(_) => {
            !host.contains('.') || [".local", ".localhost", ".internal"].iter().any(|end| host.ends_with(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_local_network_are_told_from_those_of_all() {
        for base in
            ["10.0.0.1/debian", "127.0.0.1:8080/x", "[fd00::1]:80/x", "[::1]", "mirror/debian", "nas.local/x"]
        {
            assert!(is_of_local_network(base), "{base}");
        }
        for base in ["mirror.example.org/debian", "9.9.9.9:80/x", "[2a00::1]/x", "local.example.org"] {
            assert!(!is_of_local_network(base), "{base}");
        }
    }

    #[test]
    fn an_archive_is_named_by_its_origin_and_its_code_name_or_suite() {
        let release = |origin: &str, codename: &str, suite: &str| Release {
            origin: Some(origin.to_owned()).filter(|text| !text.is_empty()),
            codename: Some(codename.to_owned()).filter(|text| !text.is_empty()),
            suite: Some(suite.to_owned()).filter(|text| !text.is_empty()),
            ..Release::default()
        };
        let named = archive(&release("Debian", "bookworm", "stable"));
        assert_eq!(named, Some(archive_name("Debian", "bookworm")));
        assert_eq!(archive(&release("Debian", "", "stable")), Some(archive_name("Debian", "stable")));
        assert_eq!(archive(&release("", "bookworm", "stable")), None);
        assert_eq!(archive(&release("Debian", "", "")), None);
    }
}
