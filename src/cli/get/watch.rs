//! Waiting for the file, with a bar that follows the bytes as they come.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::time::timeout;

use super::place::Place;
use super::{Context, Setback};
use crate::cli::output::Failure;
use crate::cli::progress::Progress;
use crate::download::{Chunks, Download, DownloadError, Downloads};
use crate::status::rounded_bytes;

/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// A download and its bar.
struct Watched<'a> {
    downloads: &'a Downloads,
    download: &'a Download,
    progress: Progress,
    /// How far the bar is. It does not go back where a piece turns out to be of no use.
    reached: u64,
}

/// Waits for the whole, or writes it to standard output as it comes.
pub(super) async fn fetch(
    downloads: &Downloads,
    download: &Download,
    place: &Place,
    context: &mut Context,
) -> Result<(), Setback> {
    // A file that is written to the terminal and a bar on it would spoil each other.
    let shared = matches!(place, Place::Output) && io::stdout().is_terminal();
    let progress = if shared { Progress::none() } else { Progress::of_bytes(Some(download.length())) };
    let mut watched = Watched { downloads, download, progress, reached: 0 };
    match place {
        Place::File(_) => watched.closed().await.map_err(|error| failed(download, &error))?,
        Place::Output => {
            let mut chunks = download.chunks(0..download.length());
            let mut written = false;
            loop {
                let next = watched.next(&mut chunks).await.map_err(|error| match failed(download, &error) {
                    // What is out cannot be taken back.
                    Setback::Fruitless(failure) if written => Setback::Final(failure),
                    setback => setback,
                });
                let Some(bytes) = next? else { break };
                context.output.bytes(&bytes)?;
                written = true;
            }
        }
    }
    watched.finish();
    Ok(())
}

fn failed(download: &Download, error: &DownloadError) -> Setback {
    let mirror = download.mirror_error().map(|error| format!("; {error}")).unwrap_or_default();
    Setback::Fruitless(Failure::Work(format!("{}: {error}{mirror}", download.id())))
}

impl Watched<'_> {
    async fn closed(&mut self) -> Result<(), DownloadError> {
        loop {
            match timeout(SHOW_EVERY, self.download.closed()).await {
                Ok(ended) => return ended,
                Err(_) => self.show(),
            }
        }
    }

    async fn next(&mut self, chunks: &mut Chunks) -> Result<Option<bytes::Bytes>, DownloadError> {
        loop {
            // Nothing is lost where the time is up: a chunk is taken only when it is there.
            match timeout(SHOW_EVERY, chunks.next()).await {
                Ok(next) => {
                    self.show();
                    return next;
                }
                Err(_) => self.show(),
            }
        }
    }

    /// How much came, and from whom. A piece that was fetched twice counts twice, so the sum may be more than the file.
    fn show(&mut self) {
        let (ongoing, _) = self.downloads.ongoing();
        let id = self.download.id();
        let picture = ongoing.into_iter().find(|ongoing| ongoing.id == id).map(|ongoing| ongoing.picture);
        let (held, arriving) = picture.map_or((0, 0), |picture| (picture.held, picture.arriving));
        self.reach(held);
        self.tell(arriving);
    }

    fn reach(&mut self, bytes: u64) {
        self.reached = self.reached.max(bytes).min(self.download.length());
        self.progress.reach(self.reached);
    }

    fn tell(&self, arriving: u64) {
        let tally = self.download.tally();
        let (peers, mirror) = (rounded_bytes(tally.peers + arriving), rounded_bytes(tally.mirror));
        self.progress.tell(format!("peers {peers}, mirror {mirror}"));
    }

    fn finish(mut self) {
        self.reach(self.download.length());
        self.tell(0);
        self.progress.finish();
    }
}
