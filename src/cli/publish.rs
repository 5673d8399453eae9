//! `aptpeer publish`

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Context;
use super::output::{Failure, Tone, complain};
use super::publisher::Publisher;
use super::walk::{Refused, regular_files};
use crate::digest::Sha256;
use crate::pieces::{ChainWalk, PIECE_LENGTH, State};
use crate::wire::{Chunk, LIST_SEQUENCE, ListItems};

/// How much of a file is in memory at once while it is hashed.
const BLOCK: usize = 256 << 10;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file with the publisher's private key, as `aptpeer keygen` writes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Also take the files below directories
    #[arg(short, long)]
    recursive: bool,
    /// Files, and with -r directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// A piece list as a publisher vouches for it: a mutable item of BEP 44, and the immutable ones that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignedList {
    /// The publisher's public key.
    pub(super) key: [u8; 32],
    /// The object; its 32 bytes are the salt of the item.
    pub(super) object: Sha256,
    /// The item's `seq`.
    pub(super) sequence: i64,
    /// The bencoded value of the item.
    pub(super) value: Vec<u8>,
    /// Over salt, `seq` and value.
    pub(super) signature: [u8; 64],
    /// To be stored before the item.
    pub(super) chunks: Vec<Chunk>,
}

/// Signs the lists of all files that the arguments name and hands each to `put`, which stores it in the DHT and gives
/// the number of nodes that took the item, or what went wrong. Prints a line for each: digest, nodes, path.
///
/// Does what it can and says what it cannot; fails at the end if there was any of the latter.
pub(super) fn publish<E: fmt::Display>(
    arguments: &Arguments,
    context: &mut Context,
    mut put: impl FnMut(&SignedList) -> Result<usize, E>,
) -> Result<(), Failure> {
    let publisher = Publisher::read(&arguments.key)?;
    let mut failed = 0_u64;
    let mut refuse = |path: &Path, reason: &dyn fmt::Display| {
        complain(Tone::Error, format_args!("cannot publish {}: {reason}", path.display()));
        failed += 1;
    };
    for found in regular_files(&arguments.paths, arguments.recursive) {
        let (path, file) = match found.and_then(hashed) {
            Ok(file) => file,
            Err((path, error)) => {
                refuse(&path, &error);
                continue;
            }
        };
        let Some(list) = file.signed_by(&publisher) else {
            complain(Tone::Note, format_args!("skipped {}: {}", path.display(), file.reason_for_none()));
            continue;
        };
        match put(&list) {
            Ok(nodes) => {
                context.output.line(format_args!("{}  {nodes} nodes  {}", list.object, path.display()))?;
            }
            Err(error) => refuse(&path, &error),
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::Work("1 path was not published, all others were".to_owned())),
        count => Err(Failure::Work(format!("{count} paths were not published, all others were"))),
    }
}

fn hashed(path: PathBuf) -> Result<(PathBuf, Hashed), Refused> {
    match Hashed::read(&path) {
        Ok(file) => Ok((path, file)),
        Err(error) => Err((path, error)),
    }
}

/// A file as its list knows it.
struct Hashed {
    object: Sha256,
    length: u64,
    inner: Vec<[u8; 32]>,
}

impl Hashed {
    /// Walks the chain over a regular file.
    fn read(path: &Path) -> io::Result<Self> {
        // Opening a pipe would wait for somebody to write to it.
        if !path.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut file = File::open(path)?;
        let mut walk = ChainWalk::from_state(State::INITIAL);
        let mut inner = Vec::new();
        let mut block = vec![0; BLOCK];
        let mut length = 0_u64;
        loop {
            let to_boundary = PIECE_LENGTH - length % PIECE_LENGTH;
            let room = usize::try_from(to_boundary).unwrap_or(BLOCK).min(BLOCK);
            let count = match file.read(&mut block[..room]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // The state behind the last byte belongs to no list: it is recorded when a further piece begins.
            if length > 0 && length.is_multiple_of(PIECE_LENGTH) {
                inner.extend(walk.state().map(State::to_bytes));
            }
            walk.update(&block[..count]);
            length += count as u64;
        }
        Ok(Self { object: walk.finish(length), length, inner })
    }

    /// Its list with the publisher's signature, if it has one in the DHT.
    fn signed_by(&self, publisher: &Publisher) -> Option<SignedList> {
        let items = ListItems::of(self.length, &self.inner)?;
        Some(SignedList {
            key: publisher.public_key(),
            object: self.object,
            sequence: LIST_SEQUENCE,
            signature: publisher.sign(self.object.as_bytes(), &items.head),
            value: items.head,
            chunks: items.chunks,
        })
    }

    fn reason_for_none(&self) -> &'static str {
        if self.inner.is_empty() {
            "it has one piece, so no list"
        } else {
            "its list is too long for the DHT"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, Typed};
    use crate::wire::ListHead;
    use std::fs;

    const PIECE: usize = 4 << 20;

    fn context() -> Context {
        Context {
            typed: Typed { config: None, flags: Vec::new() },
            around: Surroundings::of_this_process(),
            output: super::super::Output::new(),
        }
    }

    /// A key, a file of two pieces and a byte, and one of one piece.
    fn folder() -> (tempfile::TempDir, Arguments, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        Publisher::from_seed([7; 32]).unwrap().save(&key).unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        let big: Vec<u8> = (0..=2 * PIECE).map(|at| (at % 249) as u8).collect();
        fs::write(files.join("big.deb"), &big).unwrap();
        fs::write(files.join("small.deb"), &big[..PIECE]).unwrap();
        let arguments = Arguments { key, recursive: true, paths: vec![files] };
        (folder, arguments, big)
    }

    #[test]
    fn files_of_several_pieces_are_signed_and_put() {
        let (_folder, arguments, big) = folder();
        let mut put = Vec::new();
        let published = publish(&arguments, &mut context(), |list| {
            put.push(list.clone());
            Ok::<_, io::Error>(20)
        });
        published.unwrap();
        let [list] = &put[..] else { panic!("the file of one piece has no list: {put:?}") };
        assert_eq!(list.object, Sha256::of(&big));
        let after = |pieces: usize| {
            let mut walk = ChainWalk::from_state(State::INITIAL);
            walk.update(&big[..pieces * PIECE]);
            walk.state().unwrap().to_bytes()
        };
        let head = ListHead::parse(&list.value, big.len() as u64).unwrap();
        assert_eq!(head, ListHead::States(vec![after(1), after(2)]));

        let mut message = b"4:salt32:".to_vec();
        message.extend(list.object.as_bytes());
        message.extend(b"3:seqi1e1:v");
        message.extend(&list.value);
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, list.key);
        key.verify(&message, &list.signature).unwrap();
        assert_eq!(list.sequence, 1);
    }

    #[test]
    fn what_cannot_be_published_does_not_keep_the_rest() {
        let (folder, mut arguments, _) = folder();
        arguments.paths.insert(0, folder.path().join("nowhere"));
        let mut calls = 0;
        let failure = publish(&arguments, &mut context(), |_| {
            calls += 1;
            Ok::<_, io::Error>(1)
        });
        assert_eq!(calls, 1);
        let Err(Failure::Work(text)) = failure else { panic!("{failure:?}") };
        assert!(text.starts_with("1 path was not published"), "{text}");
        let failure = publish(&arguments, &mut context(), |_| Err::<usize, _>("no node answers"));
        let Err(Failure::Work(text)) = failure else { panic!("{failure:?}") };
        assert!(text.starts_with("2 paths"), "{text}");
    }

    #[test]
    fn an_empty_file_and_whole_pieces_have_the_states_of_their_boundaries() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (length, inner) in [(0, 0), (1, 0), (PIECE, 0), (PIECE + 1, 1), (2 * PIECE, 1)] {
            fs::write(&path, vec![9; length]).unwrap();
            let file = Hashed::read(&path).unwrap();
            assert_eq!((file.length, file.inner.len()), (length as u64, inner), "{length}");
            assert_eq!(file.object, Sha256::of(&vec![9; length]), "{length}");
        }
        assert!(Hashed::read(folder.path()).is_err(), "a directory");
    }
}
