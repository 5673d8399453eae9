//! The key of a publisher of piece lists: 64 hexadecimal digits on one line of a file that is the publisher's alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::output::{Failure, Tone, complain, remedy};
use crate::dht::Signer;
use crate::digest::{parse_hex, to_hex};

/// Only its owner may read or write a private key.
const MODE: u32 = 0o600;

/// More than any key file has: 64 digits and a line end.
const MAX_FILE_BYTES: u64 = 1024;

/// An Ed25519 key (RFC 8032) and the seed that it comes from.
pub(super) struct Publisher {
    seed: [u8; 32],
    signer: Signer,
}

impl Publisher {
    /// A new key, from the system's randomness.
    pub(super) fn generate() -> Result<Self, Failure> {
        let mut seed = [0; 32];
        let filled = SystemRandom::new().fill(&mut seed);
        filled
            .map_err(|_| Failure::Work("cannot make a key: the system gives no random bytes".to_owned()))?;
        Self::from_seed(seed)
    }

    /// The key that [`Publisher::save`] wrote to `path`. A file that others can read is used, with a warning: it may lie
    /// on a file system that knows no modes.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::Work(format!(
                "cannot read the key {}: {error}; `aptpeer keygen FILE` makes one",
                path.display()
            ))
        };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            complain(
                Tone::Warning,
                format_args!(
                    "the key {} is not its owner's alone (mode {:04o}): run chmod 600 on it",
                    path.display(),
                    mode & 0o7777
                ),
            );
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        let seed = parse_hex(text.trim_end()).ok_or_else(|| {
            Failure::Work(format!(
                "{} is no key: expected one line of 64 hexadecimal digits, as `aptpeer keygen FILE` writes it",
                path.display()
            ))
        })?;
        Self::from_seed(seed)
    }

    /// Writes the seed to a new file, which only its owner can read; what exists there is left alone.
    pub(super) fn save(&self, path: &Path) -> Result<(), Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
        let mut file = match file {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Failure::Work(format!(
                    "{} exists, and a key is never overwritten: name another file",
                    path.display()
                )));
            }
            opened => opened.map_err(|error| cannot_write(path, &error))?,
        };
        // A key that is not on disk for certain must not be handed out.
        let written = writeln!(file, "{}", to_hex(&self.seed)).and_then(|()| file.sync_all());
        written.map_err(|error| {
            // Half a key is worth nothing; where it cannot be removed either, the message still names it.
            let _ = fs::remove_file(path);
            cannot_write(path, &error)
        })
    }

    /// The public key, as `dht.publishers` names it.
    pub(super) fn public_key_hex(&self) -> String {
        to_hex(self.signer.public_key())
    }

    /// What signs its lists.
    pub(super) const fn signer(&self) -> &Signer {
        &self.signer
    }

    fn from_seed(seed: [u8; 32]) -> Result<Self, Failure> {
        let signer = Signer::from_seed(&seed);
        let signer = signer.ok_or_else(|| Failure::Work("the key cannot be used".to_owned()))?;
        Ok(Self { seed, signer })
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Work(format!("cannot write the key to {}: {error}{}", path.display(), remedy(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        match Publisher::read(path) {
            Err(Failure::Work(text)) => text,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{} was read", path.display()),
        }
    }

    #[test]
    fn a_key_that_was_saved_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let publisher = Publisher::generate().unwrap();
        publisher.save(&path).unwrap();
        assert_eq!(Publisher::read(&path).unwrap().public_key_hex(), publisher.public_key_hex());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Publisher::read(&path).is_ok(), "a warning, no more");
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let text = refused(&path);
        assert!(text.contains("No such file") && text.contains("aptpeer keygen"), "{text}");
        for wrong in ["", "abc\n", &"g".repeat(64), &"0".repeat(65), &"0".repeat(5000)] {
            fs::write(&path, wrong).unwrap();
            let text = refused(&path);
            assert!(text.contains(path.to_str().unwrap()) && text.contains("64 hexadecimal"), "{text}");
            assert!(!text.contains("000"), "a key that is nearly right is not printed: {text}");
        }
        assert!(refused(folder.path()).contains("directory"));
    }
}
