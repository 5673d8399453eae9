//! The keyrings of apt, gathered into files that a verifier takes.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most keyring files that are looked at: a machine has some tens.
const MAX_FILES: usize = 512;

/// The longest keyring that is read, in bytes: the largest of Debian has 60 kB.
const MAX_KEYRING: u64 = 4 << 20;

/// Writes all OpenPGP keys of `places` (keyring files, or directories of `*.gpg` and `*.asc`) into `folder` and
/// returns the keyrings to give to a verifier: one for all keys that can be joined, and the keyboxes, which cannot.
///
/// # Errors
/// Only for what cannot be written; places that are missing or unreadable have no keys.
pub(super) fn gather(places: &[PathBuf], folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut joined = Vec::new();
    let mut keyrings = Vec::new();
    for path in files(places) {
        let Some(bytes) = read(&path) else { continue };
        match Form::of(&bytes) {
            Form::Binary => joined.extend_from_slice(&bytes),
            Form::Armored => joined.extend(dearmor(&bytes)),
            Form::Keybox => keyrings.push(path),
        }
    }
    if !joined.is_empty() {
        let path = folder.join("keys.gpg");
        fs::write(&path, joined)?;
        keyrings.push(path);
    }
    Ok(keyrings)
}

fn files(places: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in places {
        match fs::read_dir(place) {
            Ok(entries) => {
                let paths = entries.flatten().map(|entry| entry.path());
                found.extend(paths.filter(|path| is_keyring(path)));
            }
            Err(_) => found.push(place.clone()),
        }
    }
    found.sort();
    found.truncate(MAX_FILES);
    found
}

fn is_keyring(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "gpg" || end == "asc")
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_KEYRING + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_KEYRING).then_some(bytes)
}

/// How keys are kept in a file; its name does not always tell.
enum Form {
    Binary,
    Armored,
    Keybox,
}

impl Form {
    fn of(bytes: &[u8]) -> Self {
        if bytes.get(8..12) == Some(b"KBXf") {
            Self::Keybox
        } else if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            // Every packet begins with a set bit (RFC 9580 §4.2).
            Self::Binary
        } else {
            Self::Armored
        }
    }
}

/// The packets in every public key block of an armored text (RFC 9580 §6.2). The checksum is not looked at: a key
/// that is damaged verifies nothing.
fn dearmor(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut digits = Digits::default();
    let mut part = Part::Outside;
    for line in text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii) {
        part = match part {
            _ if line == b"-----BEGIN PGP PUBLIC KEY BLOCK-----" => {
                digits = Digits::default();
                Part::Headers
            }
            _ if line.starts_with(b"-----") => Part::Outside,
            Part::Headers if line.is_empty() => Part::Keys,
            Part::Keys if line.starts_with(b"=") => Part::Outside,
            Part::Keys => {
                digits.decode(line, &mut out);
                Part::Keys
            }
            other => other,
        };
    }
    out
}

enum Part {
    Outside,
    Headers,
    Keys,
}

/// Base64 (RFC 4648 §4) that may be broken into lines anywhere; what is not in the alphabet is passed over.
#[derive(Default)]
struct Digits {
    bits: u32,
    held: u32,
}

impl Digits {
    fn decode(&mut self, line: &[u8], out: &mut Vec<u8>) {
        for byte in line {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => continue,
            };
            self.bits = self.bits << 6 | u32::from(digit);
            self.held += 6;
            if self.held >= 8 {
                self.held -= 8;
                out.push((self.bits >> self.held & 0xff) as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armor_is_taken_off_every_block() {
        let text = "Comment\n-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: x\n\nmAEC\nAwQ=\n=abcd\n\
                    -----END PGP PUBLIC KEY BLOCK-----\n\n-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n\r\nBQYH\r\n\
                    -----END PGP PUBLIC KEY BLOCK-----\n";
        assert_eq!(dearmor(text.as_bytes()), [0x98, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn keyrings_are_told_by_content_and_gathered() {
        let home = tempfile::tempdir().unwrap();
        let ring = |name: &str, bytes: &[u8]| fs::write(home.path().join(name), bytes).unwrap();
        ring("a.gpg", b"\x99abc");
        ring(
            "armored.gpg",
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmAEC\n-----END PGP PUBLIC KEY BLOCK-----\n",
        );
        ring("box.gpg", b"\0\0\0\x20\x01\x01\0\x02KBXf....");
        ring("ignored.txt", b"\x99xyz");
        let out = tempfile::tempdir().unwrap();
        let places = [home.path().to_owned(), home.path().join("missing")];
        let keyrings = gather(&places, out.path()).unwrap();
        assert_eq!(keyrings, [home.path().join("box.gpg"), out.path().join("keys.gpg")]);
        assert_eq!(fs::read(&keyrings[1]).unwrap(), b"\x99abc\x98\x01\x02");
    }
}
