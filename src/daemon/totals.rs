//! `totals.json` in the state directory: how much came from where, over restarts.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::HOUSEKEEPING;
use crate::clock;
use crate::metrics::Metrics;
use crate::status::{self, History};

/// The longest file that is read, in bytes: several times what a day takes.
const MAX_FILE: u64 = 64 << 10;

/// The totals, as they are in memory and as they were written down last. Clones share them.
#[derive(Clone)]
pub(super) struct Totals {
    path: PathBuf,
    metrics: Metrics,
    history: Arc<Mutex<History>>,
}

impl Totals {
    /// The totals of this state directory. A file that cannot be read counts from 0.
    pub(super) fn open(state: &Path, metrics: Metrics) -> Self {
        let path = state.join("totals.json");
        let history = match read(&path) {
            Ok(history) => history,
            Err(error) if error.kind() == io::ErrorKind::NotFound => History::default(),
            Err(error) => {
                warn!(path = %path.display(), %error, "how much came from where cannot be read: counted from 0");
                History::default()
            }
        };
        Self { path, metrics, history: Arc::new(Mutex::new(history)) }
    }

    /// What came until now.
    pub(super) fn now(&self) -> History {
        let counters = status::Totals::of(&self.metrics.stats(clock::now()));
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.note(counters, clock::unix_seconds());
        history.clone()
    }

    fn save(&self, history: &History) {
        if let Err(error) = write(&self.path, history) {
            warn!(path = %self.path.display(), %error, "how much came from where cannot be written down");
        }
    }
}

/// Keeps the file true until `shutdown`, and once more then. A kill costs the last minute.
pub(super) async fn keep(totals: Totals, shutdown: CancellationToken) {
    let mut written = None;
    loop {
        let stopping = shutdown.is_cancelled();
        let now = totals.now();
        if written.as_ref() != Some(&now) {
            tokio::task::block_in_place(|| totals.save(&now));
            written = Some(now);
        }
        if stopping {
            return;
        }
        // Over or cancelled: looked at above.
        let _ = tokio::time::timeout(HOUSEKEEPING, shutdown.cancelled()).await;
    }
}

fn read(path: &Path) -> io::Result<History> {
    let mut json = Vec::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut json)?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

fn write(path: &Path, history: &History) -> io::Result<()> {
    let new = path.with_extension("json.new");
    fs::write(&new, serde_json::to_vec(history).map_err(io::Error::other)?)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Source;

    #[test]
    fn totals_go_on_over_a_restart_and_rubbish_counts_from_0() {
        let folder = tempfile::tempdir().unwrap();
        for start in 1..=3 {
            let metrics = Metrics::new(clock::now());
            let totals = Totals::open(folder.path(), metrics.clone());
            metrics.bytes_received(Source::Mirror, 7);
            let history = totals.now();
            assert_eq!(history.ever().mirror, 7 * start);
            totals.save(&history);
        }
        for rubbish in ["", "[]", "{\"ever\":5}", "\u{0}"] {
            fs::write(folder.path().join("totals.json"), rubbish).unwrap();
            let totals = Totals::open(folder.path(), Metrics::new(clock::now()));
            assert_eq!(totals.now().ever().mirror, 0, "{rubbish:?}");
        }
    }
}
