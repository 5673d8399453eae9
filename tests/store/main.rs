//! The store as its users see it: real files, real file systems, several handles and processes.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod announced;
mod assembly;
mod full_disk;
mod import;
mod kill;
mod leftover;
mod objects;
mod quota;
mod recovery;
mod together;

use std::path::{Path, PathBuf};

use aptpeer::digest::Sha256;
use aptpeer::pieces::{ChainWalk, Geometry, PIECE_LENGTH, State};
use aptpeer::store::{Assembly, Store, StoreConfig};

/// A cache directory of its own.
struct Cache {
    folder: tempfile::TempDir,
}

impl Cache {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn open(&self) -> Store {
        self.open_with(u64::MAX, 0)
    }

    fn open_with(&self, max_size: u64, min_free_space: u64) -> Store {
        Store::open(StoreConfig { path: self.path().to_owned(), max_size, min_free_space }).unwrap()
    }

    fn object(&self, id: &Sha256) -> PathBuf {
        object_below(self.path(), id)
    }

    /// The partial files that are there.
    fn partials(&self) -> Vec<PathBuf> {
        files_in(&self.path().join("v1/partial"))
    }
}

fn object_below(cache: &Path, id: &Sha256) -> PathBuf {
    let hex = id.to_string();
    cache.join("v1/objects").join(&hex[..2]).join(&hex)
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The objects that lie on disk.
fn objects_on_disk(cache: &Path) -> Vec<Sha256> {
    let shards = files_in(&cache.join("v1/objects"));
    let files = shards.iter().flat_map(|shard| files_in(shard));
    let mut ids: Vec<Sha256> =
        files.map(|file| file.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect();
    ids.sort();
    ids
}

/// Bytes that differ for every `seed`.
fn sample(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn piece() -> usize {
    usize::try_from(PIECE_LENGTH).unwrap()
}

fn geometry(bytes: &[u8]) -> Geometry {
    Geometry::new(bytes.len() as u64).unwrap()
}

/// The inner states of the chain over `bytes`.
fn states(bytes: &[u8]) -> Vec<State> {
    let mut walk = ChainWalk::from_state(State::INITIAL);
    let inner = usize::try_from(geometry(bytes).last()).unwrap();
    let pieces = bytes.chunks(piece()).take(inner);
    pieces
        .map(|piece| {
            walk.update(piece);
            walk.state().unwrap()
        })
        .collect()
}

fn assemble(store: &Store, bytes: &[u8]) -> Assembly {
    let assembly = store.assemble(Sha256::of(bytes), geometry(bytes)).unwrap();
    assembly.write_at(0, bytes).unwrap();
    assembly
}

/// Puts `bytes` into the store.
fn publish(store: &Store, bytes: &[u8]) -> Sha256 {
    assemble(store, bytes).publish(states(bytes), None).unwrap();
    Sha256::of(bytes)
}

/// The whole object, as a server would read it.
fn read(store: &Store, id: &Sha256) -> Vec<u8> {
    let object = store.get(id).unwrap().unwrap();
    let pieces = 0..object.geometry().pieces();
    pieces.flat_map(|piece| object.bytes(object.geometry().range(piece)).unwrap().to_vec()).collect()
}
