//! The files that everybody serves and downloads.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aptpeer::digest::Sha256;
use aptpeer::pieces::{ChainWalk, Geometry, PieceSet, State};
use aptpeer::wire::PieceListMessage;

use crate::support::noise;

/// Where files lie in memory, so that no disk is measured.
const IN_MEMORY: &str = "/dev/shm";

/// A folder of our own, removed in the end.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// On tmpfs.
    pub fn in_memory() -> Self {
        Self(tempfile::Builder::new().prefix("aptpeer-bench.").tempdir_in(IN_MEMORY).unwrap())
    }

    /// On the file system where the build is.
    pub fn on_disk() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Self(tempfile::Builder::new().prefix("aptpeer-bench.").tempdir_in(target).unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// An empty folder in it, made anew.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

/// A file with its digest and its chain.
#[derive(Debug, Clone)]
pub struct Thing {
    pub id: Sha256,
    pub length: u64,
    pub path: PathBuf,
    pub states: Vec<State>,
}

impl Thing {
    /// A file of noise at `path`.
    pub fn noise(path: PathBuf, seed: u64, length: usize) -> Self {
        let mut file = File::create(&path).unwrap();
        // The same megabyte again and again, each with its number: quickly made, nowhere equal.
        let mut block = noise(seed, 1 << 20);
        let mut left = length;
        while left > 0 {
            block[..8].copy_from_slice(&(left as u64).to_le_bytes());
            let now = left.min(block.len());
            file.write_all(&block[..now]).unwrap();
            left -= now;
        }
        Self::of(path)
    }

    /// A file that is a hole but for its first bytes: any number of them take no room on a disk.
    pub fn hole(path: PathBuf, seed: u64, length: u64) -> Self {
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        file.write_all_at(&noise(seed, 64), 0).unwrap();
        Self::of(path)
    }

    fn of(path: PathBuf) -> Self {
        let file = File::open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        let geometry = Geometry::new(length).unwrap();
        let mut walk = ChainWalk::from_state(State::INITIAL);
        let mut states = Vec::new();
        for piece in 0..geometry.pieces() {
            let range = geometry.range(piece);
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
            file.read_exact_at(&mut bytes, range.start).unwrap();
            walk.update(&bytes);
            if piece != geometry.last() {
                states.push(walk.state().unwrap());
            }
        }
        Self { id: walk.finish(length), length, path, states }
    }

    /// The document at `/hash/<sha256>/pieces`.
    pub fn piece_list(&self) -> String {
        let pieces = Geometry::new(self.length).unwrap().pieces();
        let states = self.states.iter().map(|state| Some(state.to_bytes())).collect();
        PieceListMessage { length: self.length, states, have: PieceSet::all(pieces).ranges(), intent: None }
            .to_json()
    }

    /// Where it is in the pool of the mirror, from the archive's root.
    pub fn pool_path(&self) -> String {
        let name = &self.id.to_string()[..12];
        format!("pool/main/b/bench/bench_{name}_amd64.deb")
    }
}

/// Lays `things` out as static files: `hash/`, `pieces/` for peers and `mirror/debian/` with an (unsigned) index.
pub fn lay_out(folder: &Path, things: &[Thing]) {
    for name in ["hash", "pieces", "mirror/debian/pool/main/b/bench"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    for thing in things {
        fs::hard_link(&thing.path, folder.join("hash").join(thing.id.to_string())).unwrap();
        fs::write(folder.join("pieces").join(thing.id.to_string()), thing.piece_list()).unwrap();
        fs::hard_link(&thing.path, folder.join("mirror/debian").join(thing.pool_path())).unwrap();
    }
}

/// Writes what apt would have in its lists of a mirror at `authority`, so that a daemon knows the digests.
pub fn write_lists(folder: &Path, authority: &str, things: &[Thing]) {
    let packages: String = things
        .iter()
        .map(|thing| {
            let (path, length, id) = (thing.pool_path(), thing.length, thing.id);
            format!(
                "Package: bench\nVersion: {}\nArchitecture: amd64\nFilename: {path}\nSize: {length}\nSHA256: {id}\n\n",
                &id.to_string()[..12]
            )
        })
        .collect();
    let digest = Sha256::of(packages.as_bytes());
    let release = format!(
        "Origin: Bench\nSuite: bench\nCodename: bench\nDate: Sat, 21 Nov 2026 12:00:00 UTC\n\
         Acquire-By-Hash: yes\nArchitectures: amd64\nComponents: main\nSHA256:\n {digest} {} main/binary-amd64/Packages\n",
        packages.len()
    );
    let prefix = format!("{authority}_debian_dists_bench");
    fs::write(folder.join(format!("{prefix}_Release")), release).unwrap();
    fs::write(folder.join(format!("{prefix}_main_binary-amd64_Packages")), packages).unwrap();
}
