//! Where the file goes, and where it lies until it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Arguments, What};
use crate::cli::output::{Failure, remedy};

/// Where the file goes.
pub(super) enum Place {
    File(PathBuf),
    Output,
}

impl Place {
    pub(super) fn of(arguments: &Arguments, what: &What) -> Result<Self, Failure> {
        let path = match (&arguments.output, what) {
            (Some(path), _) if path == Path::new("-") => return Ok(Self::Output),
            (Some(path), _) => path.clone(),
            (None, What::Hash(id)) => id.to_string().into(),
            (None, What::Url(target)) => {
                let name = target.path_and_query.path().rsplit('/').next().unwrap_or_default().to_owned();
                if name.is_empty() {
                    return Err(Failure::Usage(format!("{target} names no file: give one with -o FILE")));
                }
                name.into()
            }
        };
        if path.is_dir() {
            return Err(Failure::Usage(format!("{} is a folder: give a file with -o FILE", path.display())));
        }
        Ok(Self::File(path))
    }
}

pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Work(format!("cannot write to {}: {error}{}", path.display(), remedy(error)))
}

/// A folder for the unfinished file, beside the finished one so that it can be moved there; removed in the end.
pub(super) struct WorkFolder(pub(super) PathBuf);

impl WorkFolder {
    pub(super) fn beside(place: &Place) -> Result<Self, Failure> {
        let folder = match place {
            Place::File(path) => match path.parent() {
                Some(parent) if parent != Path::new("") => parent.to_owned(),
                _ => PathBuf::from("."),
            },
            Place::Output => std::env::temp_dir(),
        };
        let work = folder.join(format!(".aptpeer-get.{}", std::process::id()));
        fs::create_dir(&work).map_err(|error| cannot_write(&folder, &error))?;
        Ok(Self(work))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // What cannot be removed is only space.
        let _ = fs::remove_dir_all(&self.0);
    }
}
