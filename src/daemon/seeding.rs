//! What is offered out of files of others: those that were imported in place are looked at now and then, and new packages
//! in apt's archives are taken in the same way.
//!
//! A package of apt's archives is offered only if an index names it, and to everybody only if that index is public for sure:
//! it passed through the proxy, or apt's sources name its host and apt has no credentials for it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::causes::Causes;
use crate::digest::Sha256;
use crate::index::{Index, Naming};
use crate::mirror::{Mirror, Target, sources};
use crate::store::{Hashed, Origin, Scope, Store};

/// How often files are looked at. A changed one is noticed before it is served in any case; until then others may ask for it.
const LOOK_EVERY: Duration = Duration::from_secs(180);

/// How long a start waits for the indexes, without which no package is known.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// The most packages of apt's archives that are looked at: more than a full upgrade of a desktop.
const MOST_PACKAGES: usize = 10_000;

/// How many packages are hashed before what is known of them is used: what they take in memory until then is small.
const AT_ONCE: usize = 64;

/// apt's own configuration.
const APT: &str = "/etc/apt";

/// What seeding works with.
pub(super) struct Seeding {
    pub(super) store: Store,
    pub(super) index: Index,
    pub(super) mirror: Mirror,
    /// apt's archives, where they are to be offered.
    pub(super) archives: Option<PathBuf>,
    /// `privacy.share_private_mirrors`.
    pub(super) share_private: bool,
}

/// Packages that no index names, by when they were written: they are not hashed again before something was learnt.
type Strange = HashMap<PathBuf, Option<SystemTime>>;

impl Seeding {
    /// Looks every few minutes, until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut learnt = self.index.learnt();
        let mut strange = Strange::new();
        loop {
            let looked = async {
                self.check(&shutdown).await;
                if let Some(archives) = &self.archives {
                    self.index.settled(SETTLE_LIMIT).await;
                    if learnt.has_changed().unwrap_or(false) {
                        learnt.mark_unchanged();
                        strange.clear();
                    }
                    self.take(archives, &mut strange).await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = looked => {}
            }
            if tokio::time::timeout(LOOK_EVERY, shutdown.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Forgets the files in place that are not what they were.
    async fn check(&self, shutdown: &CancellationToken) {
        let (store, shutdown) = (self.store.clone(), shutdown.clone());
        match in_background(move || store.check_in_place(Path::new("/"), || shutdown.is_cancelled())).await {
            Some(Ok(found)) => {
                if found.gone > 0 {
                    info!(
                        files = found.gone,
                        "files in place were changed or removed, and are no longer offered"
                    );
                }
                if let Some(path) = found.first_unreadable {
                    let path = path.display();
                    warn!(files = found.unreadable, %path, "files in place cannot be read: see who may read them");
                }
            }
            Some(Err(error)) => warn!(error = %Causes(&error), "the files in place cannot be looked at"),
            None => {}
        }
    }

    /// Takes what is new in apt's archives.
    async fn take(&self, archives: &Path, strange: &mut Strange) {
        let folder = archives.to_owned();
        let packages = in_background(move || packages_in(&folder)).await.unwrap_or_default();
        strange.retain(|path, _| packages.iter().any(|(package, _)| package == path));
        let new: Vec<_> =
            packages.into_iter().filter(|(path, written)| strange.get(path) != Some(written)).collect();
        for part in new.chunks(AT_ONCE) {
            let mut hashed = Vec::new();
            for (path, written) in part.iter().cloned() {
                let store = self.store.clone();
                hashed.extend(in_background(move || hash(&store, path, written)).await.flatten());
            }
            let (known, unknown) = self.judge(hashed).await;
            let count = known.len();
            let store = self.store.clone();
            let kept = in_background(move || store.keep_in_place(&known, Origin::Download)).await;
            match kept {
                Some(Ok(())) if count > 0 => info!(packages = count, "offering packages of apt's archives"),
                Some(Err(error)) => warn!(error = %Causes(&error), "cannot offer apt's archives"),
                _ => {}
            }
            strange.extend(unknown);
        }
    }

    /// With whom each package may be shared, and those that no index names.
    async fn judge(
        &self,
        hashed: Vec<NewPackage>,
    ) -> (Vec<(Hashed, Scope)>, Vec<(PathBuf, Option<SystemTime>)>) {
        let (index, ids) =
            (self.index.clone(), hashed.iter().map(|new| new.file.id()).collect::<HashSet<_>>());
        let namings = match ids.is_empty() {
            true => Vec::new(),
            false => in_background(move || index.namings(&ids)).await.unwrap_or_default(),
        };
        let open = in_background(|| Open::of(Path::new(APT))).await;
        let mut scopes: HashMap<Sha256, Scope> = HashMap::new();
        for naming in namings {
            let scope = scopes.entry(naming.id).or_insert(Scope::Local);
            if *scope == Scope::Local && self.is_public(&naming, open.as_ref()).await {
                *scope = Scope::Public;
            }
        }
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        for NewPackage { path, written, file } in hashed {
            match scopes.get(&file.id()) {
                Some(scope) => known.push((file, *scope)),
                None => unknown.push((path, written)),
            }
        }
        (known, unknown)
    }

    async fn is_public(&self, naming: &Naming, open: Option<&Open>) -> bool {
        if !naming.passed && !open.is_some_and(|open| open.has(&naming.host)) {
            return false;
        }
        match Target::parse(&format!("http://{}/", naming.host)) {
            Ok(target) => self.share_private || !self.mirror.find_private(&target).await,
            Err(_) => false,
        }
    }
}

/// A package that was hashed just now.
struct NewPackage {
    path: PathBuf,
    written: Option<SystemTime>,
    file: Hashed,
}

/// The packages in a directory, with the times they were written at.
fn packages_in(folder: &Path) -> Vec<(PathBuf, Option<SystemTime>)> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            debug!(folder = %folder.display(), %error, "apt's archives cannot be listed");
            return Vec::new();
        }
    };
    let packages = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "deb"));
    let stamped = packages.map(|entry| {
        let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        (entry.path(), written)
    });
    stamped.take(MOST_PACKAGES).collect()
}

/// Hashes it if it is new; what cannot be read, or is being written, is left for the next time.
fn hash(store: &Store, path: PathBuf, written: Option<SystemTime>) -> Option<NewPackage> {
    match store.hash_if_new(&path) {
        Ok(file) => file.map(|file| NewPackage { path, written, file }),
        Err(error) => {
            debug!(error = %Causes(&error), "a package in apt's archives cannot be offered");
            None
        }
    }
}

/// The hosts that apt's sources name and that apt has no credentials for.
struct Open {
    hosts: HashSet<String>,
}

impl Open {
    /// By what is in `folder`, usually `/etc/apt`. Nobody is in it where apt's credentials (apt_auth.conf(5)) cannot be read.
    fn of(folder: &Path) -> Self {
        let mut hosts = HashSet::new();
        let mut closed = HashSet::new();
        for source in sources(folder) {
            let Some((_, rest)) = source.uri.split_once("://") else { continue };
            let authority = rest.split('/').next().unwrap_or(rest).to_ascii_lowercase();
            match authority.rsplit_once('@') {
                Some((_, host)) => closed.insert(host.to_owned()),
                None => hosts.insert(authority),
            };
        }
        match machines(folder) {
            Some(machines) => closed.extend(machines),
            None => hosts.clear(),
        }
        hosts.retain(|host| {
            !closed.contains(host) && !closed.contains(host.split(':').next().unwrap_or(host))
        });
        Self { hosts }
    }

    fn has(&self, host: &str) -> bool {
        self.hosts.contains(&host.to_ascii_lowercase())
    }
}

/// The machines that apt has credentials for; `None` where a file of them cannot be read.
fn machines(folder: &Path) -> Option<HashSet<String>> {
    let mut files = vec![folder.join("auth.conf")];
    match fs::read_dir(folder.join("auth.conf.d")) {
        Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(_) => return None,
    }
    let mut machines = HashSet::new();
    for file in files {
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.ok()?,
        };
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            if word == "machine" {
                let name = words.next()?;
                let name = name.split_once("://").map_or(name, |(_, rest)| rest);
                machines.insert(name.split('/').next().unwrap_or(name).to_ascii_lowercase());
            }
        }
    }
    Some(machines)
}

/// The disk may keep a thread waiting. `None` where the runtime ends.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_open_when_apt_names_it_and_has_no_credentials_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "sources.list",
            "deb http://open.example.org/debian x main\ndeb https://user:word@paid.example.org/ x main\n\
             deb https://Sold.example.org:8443/ x main\ndeb https://other.example.org/ x main\n",
        );
        fs::create_dir(folder.path().join("auth.conf.d")).unwrap();
        write("auth.conf.d/one.conf", "machine https://sold.example.org/debian login a password b");
        write("auth.conf", "machine other.example.org\nlogin a\npassword b\n");
        let open = Open::of(folder.path());
        assert!(open.has("open.example.org"));
        for host in
            ["paid.example.org", "sold.example.org:8443", "other.example.org", "elsewhere.example.org"]
        {
            assert!(!open.has(host), "{host}");
        }
        // What cannot be read as a text may name anybody.
        fs::write(folder.path().join("auth.conf"), b"\xff").unwrap();
        assert!(!Open::of(folder.path()).has("open.example.org"));
    }
}
