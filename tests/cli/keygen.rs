//! `aptpeer keygen`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::{Place, has_all};

/// The seed that the file spells.
fn seed(text: &str) -> Vec<u8> {
    let digits = text.strip_suffix('\n').unwrap();
    assert_eq!(digits.len(), 64, "{digits}");
    assert_eq!(digits, digits.to_lowercase());
    (0..64).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_public_key_printed_is_that_of_the_seed_written() {
    let place = Place::new();
    let file = place.path("publisher.key");
    let printed = place.run(&["keygen", file.to_str().unwrap()]).good();
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed(&fs::read_to_string(&file).unwrap())).unwrap();
    let public: String = pair.public_key().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(printed, format!("{public}\n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);

    let other = place.path("other.key");
    assert_ne!(place.run(&["keygen", other.to_str().unwrap()]).good(), printed, "every key is new");
}

#[test]
fn a_file_that_exists_is_never_overwritten() {
    let place = Place::new();
    let file = place.file("kept", "precious");
    let link = place.path("link");
    std::os::unix::fs::symlink(place.path("nowhere"), &link).unwrap();
    for path in [&file, &link] {
        let stderr = place.run(&["keygen", path.to_str().unwrap()]).bad(1);
        has_all(&stderr, &["error: ", path.to_str().unwrap(), "exists", "another file"]);
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
    assert!(!place.path("nowhere").exists(), "nothing is written through a link");
}

#[test]
fn a_key_that_cannot_be_written_is_not_printed() {
    let place = Place::new();
    let file = place.path("no/such/folder/key");
    let stderr = place.run(&["keygen", file.to_str().unwrap()]).bad(1);
    has_all(&stderr, &["error: ", file.to_str().unwrap(), "No such file"]);
    place.run(&["keygen"]).bad(2);
    has_all(&place.run(&["keygen", "/dev/full"]).bad(1), &["/dev/full", "exists"]);
}
