//! `aptpeer publish`: piece lists that a publisher vouches for, into the DHT.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Context;
use super::output::{Failure, Output, Tone, complain};
use super::publisher::Publisher;
use super::walk::{Refused, regular_files};
use crate::clock;
use crate::daemon;
use crate::dht::OwnedItem;
use crate::digest::Sha256;
use crate::discovery::{Dht, list_items};
use crate::metrics::Metrics;
use crate::pieces::{ChainWalk, PIECE_LENGTH, State};
use crate::wire::Swarm;

/// How much of a file is in memory at once while it is hashed.
const BLOCK: usize = 256 << 10;

/// How long entering the DHT may take: resolving the names of its nodes, and some that are dead.
const ENTER_LIMIT: Duration = Duration::from_secs(30);

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

/// Hashes the files, signs their lists and stores them in the DHT, as a node that answers nobody.
pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let publisher = Publisher::read(&arguments.key)?;
    let settings = context.settings()?;
    let swarm = daemon::swarm_of(&settings).map_err(|error| Failure::Usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Work(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        let (dht, driver) =
            daemon::dht_client(&settings, &swarm, &Metrics::new(clock::now())).ok_or_else(|| {
                Failure::Work(
                    "the DHT is off: set dht.enabled = true and privacy.lan_only = false".to_owned(),
                )
            })?;
        let shutdown = CancellationToken::new();
        let work = async {
            let done = if dht.ready(ENTER_LIMIT).await {
                let put = async |items| store(&dht, items).await;
                publish(arguments, &publisher, &swarm, &mut context.output, put).await
            } else {
                let limit = ENTER_LIMIT.as_secs();
                Err(Failure::Work(format!(
                    "no node of the DHT answers within {limit} s: see dht.bootstrap and whether UDP gets out"
                )))
            };
            shutdown.cancel();
            done
        };
        let (done, ()) = tokio::join!(work, driver.run(shutdown.clone()));
        done
    })
}

/// Stores the values of one list; the number of nodes that took its head.
async fn store(dht: &Dht, items: Vec<OwnedItem>) -> Result<u32, &'static str> {
    match dht.store_list(items).await.stored {
        0 => Err("no node of the DHT took it"),
        stored => Ok(stored),
    }
}

/// Signs the lists of all files that the arguments name and hands the values of each to `put`, which stores them and
/// gives the number of nodes that took the list, or what went wrong. Prints a line for each: digest, nodes, path.
///
/// Does what it can and says what it cannot; fails at the end if there was any of the latter.
async fn publish<E: fmt::Display>(
    arguments: &Arguments,
    publisher: &Publisher,
    swarm: &Swarm,
    output: &mut Output,
    mut put: impl AsyncFnMut(Vec<OwnedItem>) -> Result<u32, E>,
) -> Result<(), Failure> {
    let mut failed = 0_u64;
    let mut refuse = |path: &Path, reason: &dyn fmt::Display| {
        complain(Tone::Error, format_args!("cannot publish {}: {reason}", path.display()));
        failed += 1;
    };
    for found in regular_files(&arguments.paths, arguments.recursive) {
        let hashed = tokio::task::spawn_blocking(|| hashed(found)).await;
        let (path, file) = match hashed.map_err(|error| Failure::Work(format!("cannot hash: {error}")))? {
            Ok(file) => file,
            Err((path, error)) => {
                refuse(&path, &error);
                continue;
            }
        };
        let items = list_items(&file.object, file.length, &file.inner, Some(publisher.signer()), swarm);
        let Some(items) = items else {
            complain(Tone::Note, format_args!("skipped {}: {}", path.display(), file.reason_for_none()));
            continue;
        };
        match put(items).await {
            Ok(nodes) => {
                output.line(format_args!("{}  {nodes} nodes  {}", file.object, path.display()))?;
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

fn hashed(found: Result<PathBuf, Refused>) -> Result<(PathBuf, Hashed), Refused> {
    let path = found?;
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
    use std::fs;

    const PIECE: usize = 4 << 20;

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
