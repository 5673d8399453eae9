//! The file with the secret of a private swarm (`swarm.secret_file`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::config::Settings;
use crate::wire::{Secret, SecretProblem, Swarm};

/// Only its owner may read or write a secret.
const MODE: u32 = 0o600;

/// What others may not do with it: anything. A group may read it, so that root can own the file of a daemon that runs as
/// somebody else.
const FORBIDDEN: u32 = 0o027;

/// More than any secret file has, in bytes.
const MAX_FILE: u64 = 4096;

/// Why a file is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error(
        "cannot read the secret {path} (swarm.secret_file): {source}; `aptpeer swarm create FILE` makes one"
    )]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error(
        "the secret {path} (swarm.secret_file) is not its owner's alone (mode {mode:04o}): run chmod 600 on it, and make \
         another secret if somebody may have read it"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Something else is in it.
    #[error("{path} (swarm.secret_file): {problem}; `aptpeer swarm create FILE` makes a secret")]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: SecretProblem,
    },
    /// A new one cannot be written.
    #[error("cannot write the secret to {path}: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new one would take the place of a file.
    #[error("{0} exists, and a secret is never overwritten: name another file")]
    Exists(PathBuf),
}

/// The swarm that the settings name.
///
/// # Errors
/// Where there is no secret in the file that they name, or others may read it.
pub fn swarm_of(settings: &Settings) -> Result<Swarm, SecretError> {
    match &settings.swarm.secret_file {
        Some(path) => read(path).map(Swarm::private),
        None => Ok(Swarm::PUBLIC),
    }
}

/// Makes the secret of a new swarm and writes it to a new file.
///
/// # Errors
/// Where the file exists or cannot be written, or the system gives no random bytes.
pub fn create_secret(path: &Path) -> Result<Swarm, SecretError> {
    let failed = |source| SecretError::Write { path: path.to_owned(), source };
    let secret = loop {
        let mut bytes = [0; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| failed(io::Error::other("the system gives no random bytes")))?;
        if let Ok(secret) = Secret::new(bytes) {
            break secret;
        }
    };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SecretError::Exists(path.to_owned()));
        }
        opened => opened.map_err(failed)?,
    };
    let written = file.write_all(secret.to_text().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a secret is worth nothing; where it cannot be removed either, the message still names it.
        let _ = fs::remove_file(path);
        failed(error)
    })?;
    Ok(Swarm::private(secret))
}

fn read(path: &Path) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & FORBIDDEN != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
    Secret::parse(&text).map_err(|problem| SecretError::Wrong { path: path.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_is_its_owners_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let swarm = create_secret(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Swarm::private(read(&path).unwrap()).tag(), swarm.tag());
        let before = fs::read(&path).unwrap();
        assert!(matches!(create_secret(&path), Err(SecretError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).is_ok(), "for the group of a daemon");
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_no_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let refused = || read(&path).unwrap_err().to_string();
        assert!(refused().contains("aptpeer swarm create") && refused().contains("secret_file"));
        create_secret(&path).unwrap();
        for mode in [0o644, 0o604, 0o620, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let text = refused();
            assert!(text.contains("chmod 600") && text.contains(&format!("{mode:04o}")), "{text}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for (wrong, what) in [("", "empty"), ("secret\n", "too short"), ("é", "too short")] {
            fs::write(&path, wrong).unwrap();
            assert!(refused().contains(what), "{}", refused());
        }
    }
}
