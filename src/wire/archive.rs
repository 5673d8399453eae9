//! The name of an archive: under it those meet who use the same suite.

use crate::digest::Sha256;

/// What the name is derived from begins with this, so that it is the name of nothing else.
const PREFIX: &[u8] = b"aptpeer archive 1";

/// The name of the archive whose Release says this `Origin`, and this `Codename` (or `Suite`, where it has no
/// `Codename`). Its info-hash is made of it as that of an object is made of the object's digest.
pub fn archive_name(origin: &str, codename: &str) -> Sha256 {
    Sha256::of(&[PREFIX, origin.as_bytes(), &[0], codename.as_bytes()].concat())
}
