//! Objects that lie in files of others: a mirror's pool, apt's archives.
//!
//! Such a file is never written, never removed and never evicted, and takes no room of the cache's. Its owner may change it
//! at any time: it is compared with what it was when it was hashed ([`disk::Mark`]) before each opening, and each piece is
//! verified before its first use. A file that is not what it was is forgotten, and the object with the last one that it lay in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};

use super::catalog::{self, Durability, NewRow, Origin, Scope};
use super::disk::{self, Mark, READ_BLOCK, Stamp};
use super::error::StoreError;
use super::files::{self, Known, Lying};
use super::object::{Object, OpenError};
use super::{Shared, Store, lock};
use crate::clock::unix_seconds;
use crate::digest::Sha256;
use crate::pieces::{Geometry, State};

/// How many files are looked at, or forgotten, between two questions to the catalog: others wait for milliseconds.
const PAGE: u32 = 512;

/// What became of the files that objects lie in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InPlace {
    /// Those that are as they were.
    pub kept: u64,
    /// Those that were changed or removed, and are forgotten.
    pub gone: u64,
    /// Those that this process may not read.
    pub unreadable: u64,
    /// One of them.
    pub first_unreadable: Option<PathBuf>,
}

/// A file that was hashed.
#[derive(Debug, Clone)]
pub struct Hashed {
    pub(super) path: PathBuf,
    pub(super) mark: Mark,
    pub(super) id: Sha256,
    pub(super) states: Vec<State>,
}

impl Hashed {
    /// The digest of the file.
    pub fn id(&self) -> Sha256 {
        self.id
    }

    /// The length in bytes.
    pub fn length(&self) -> u64 {
        self.mark.length
    }
}

impl Store {
    /// Looks at every file in place at or below `folder` (all of them below `/`) and forgets those that are not what they
    /// were. It ends early when `is_over` says so: a million files on a slow disk take minutes.
    ///
    /// # Errors
    /// What SQLite refused; what was forgotten by then is.
    pub fn check_in_place(&self, folder: &Path, is_over: impl Fn() -> bool) -> Result<InPlace, StoreError> {
        let mut sum = InPlace::default();
        self.shared.each_page(folder, |page| {
            let gone: Vec<Lying> = page.into_iter().filter(|file| sum.look_at(file)).collect();
            self.shared.forget_files(&gone)?;
            Ok(!is_over())
        })?;
        Ok(sum)
    }

    /// Forgets every file in place at or below `folder`, with the objects that lie nowhere else; how many files. The files
    /// stay.
    ///
    /// # Errors
    /// What SQLite refused; what was forgotten by then is.
    pub fn forget_in_place(&self, folder: &Path) -> Result<u64, StoreError> {
        let mut sum = 0;
        self.shared.each_page(folder, |page| {
            sum += self.shared.forget_files(&page)?;
            Ok(true)
        })?;
        Ok(sum)
    }

    /// The regular file at `path`, hashed; `None` where it is what it was when it was last, and its object is here.
    ///
    /// # Errors
    /// What the system refused, also where the file changes while it is read.
    pub fn hash_if_new(&self, path: &Path) -> Result<Option<Hashed>, StoreError> {
        let file = disk::open_regular(path, true).map_err(StoreError::io("opening", path))?;
        let stamp = Stamp::of(&file).map_err(StoreError::io("looking at", path))?;
        if self.shared.known_file(path, &stamp.mark())?.is_some() {
            return Ok(None);
        }
        let geometry = Geometry::new(stamp.length)?;
        let (id, states) = disk::walk_file(&file, geometry, READ_BLOCK, |_, _| Ok(()))
            .map_err(StoreError::io("reading", path))?;
        disk::unchanged(&file, &stamp.mark()).map_err(StoreError::io("reading", path))?;
        Ok(Some(Hashed { path: path.to_owned(), mark: stamp.mark(), id, states }))
    }

    /// Has objects lie in files that were hashed, each to be shared as it says. An object that the cache has itself stays
    /// there; its file is only known from then on.
    ///
    /// # Errors
    /// What SQLite refused; then none is.
    pub fn keep_in_place(&self, found: &[(Hashed, Scope)], origin: Origin) -> Result<(), StoreError> {
        if found.is_empty() {
            return Ok(());
        }
        self.shared.catalog.write(Durability::Relaxed, |catalog| {
            for (file, scope) in found {
                let in_place = catalog::is_in_place(catalog, &file.id)? != Some(false);
                if in_place {
                    catalog::insert(catalog, &file.row(origin, *scope), unix_seconds())?;
                }
                files::keep(catalog, &file.path, &file.mark, &file.id, in_place)?;
            }
            Ok(())
        })?;
        self.shared.note_change();
        Ok(())
    }
}

impl Hashed {
    fn row(&self, origin: Origin, scope: Scope) -> NewRow<'_> {
        let (id, length, states) = (&self.id, self.mark.length, &self.states);
        NewRow { id, length, states, last_modified: None, origin, scope, in_place: true }
    }
}

impl InPlace {
    /// Counts the file; whether it is gone.
    fn look_at(&mut self, file: &Lying) -> bool {
        let gone = is_gone(file);
        if gone {
            self.gone += 1;
        } else if access(&file.path, Access::READ_OK).is_ok() {
            self.kept += 1;
        } else {
            // A disk that fails, or a folder that is closed to us: the file may be what it was.
            self.unreadable += 1;
            self.first_unreadable.get_or_insert_with(|| file.path.clone());
        }
        gone
    }
}

/// Whether the file is not what it was. Of one that cannot be looked at that is not known.
fn is_gone(file: &Lying) -> bool {
    match fs::symlink_metadata(&file.path) {
        Ok(metadata) => !metadata.is_file() || Mark::of(&metadata) != file.mark,
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

impl Shared {
    /// What is known of the file at `path`, if it is as it was and its object is here.
    pub(super) fn known_file(&self, path: &Path, mark: &Mark) -> Result<Option<Known>, StoreError> {
        let known = self.catalog.read(|catalog| files::known(catalog, path))?;
        let Some(known) = known.filter(|known| known.mark == *mark) else { return Ok(None) };
        let here = match self.catalog.read(|catalog| catalog::is_in_place(catalog, &known.id))? {
            Some(true) => true,
            Some(false) => self.layout.object(&known.id).exists(),
            None => false,
        };
        Ok(here.then_some(known))
    }

    /// The object `id`, in the first of its files that is what it was.
    pub(super) fn open_in_place(
        self: &Arc<Self>,
        id: &Sha256,
        record: &catalog::Record,
    ) -> Result<Option<Object>, StoreError> {
        let mut refused = None;
        for place in self.catalog.read(|catalog| files::places_of(catalog, id))? {
            if is_gone(&place) {
                self.forget_place(id, &place, "it was changed or removed")?;
                continue;
            }
            let opened = Object::open_in_place(*id, record.clone(), place.clone(), Arc::downgrade(self));
            match opened {
                Ok(object) => return Ok(Some(object)),
                Err(OpenError::Io(error)) => {
                    refused = Some(StoreError::io("opening", &place.path)(error));
                }
                Err(OpenError::Damaged { what, .. }) => self.forget_place(id, &place, &what)?,
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// Whether an object that is kept open may still be served out of that file: it may have been forgotten by another
    /// process, or moved away.
    pub(super) fn still_lies(&self, id: &Sha256, place: &Lying) -> bool {
        let known = self.catalog.read(|catalog| files::known(catalog, &place.path));
        let is_known = known.is_ok_and(|known| known.is_some_and(|known| known.id == *id && known.in_place));
        is_known && !is_gone(place)
    }

    /// Forgets a file whose bytes are no longer what they were. Returns the error to be reported.
    pub(super) fn drop_changed(&self, id: Sha256, place: &Lying, what: String) -> StoreError {
        if let Err(error) = self.forget_place(&id, place, &what) {
            tracing::warn!(%id, %error, "cannot forget a file that was changed");
        }
        StoreError::Damaged { id, what }
    }

    fn forget_place(&self, id: &Sha256, place: &Lying, what: &str) -> Result<(), StoreError> {
        tracing::info!(%id, path = %place.path.display(), what, "a file in place is no longer used");
        let _closed = lock(&self.hot).remove(id);
        self.forget_files(std::slice::from_ref(place)).map(|_| ())
    }

    /// How many were known.
    fn forget_files(&self, gone: &[Lying]) -> Result<u64, StoreError> {
        if gone.is_empty() {
            return Ok(0);
        }
        let forgotten = self.catalog.write(Durability::Relaxed, |catalog| {
            gone.iter().try_fold(0, |sum, file| Ok(sum + u64::from(files::forget(catalog, file)?)))
        })?;
        self.note_change();
        Ok(forgotten)
    }

    /// Every file in place at or below `folder`, page by page, as long as `each` wants more.
    fn each_page(
        &self,
        folder: &Path,
        mut each: impl FnMut(Vec<Lying>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut after = PathBuf::new();
        loop {
            let page = self.catalog.read(|catalog| files::in_place(catalog, folder, &after, PAGE))?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.path);
            if !each(page)? {
                return Ok(());
            }
        }
    }
}
