//! Fetches ahead while nobody else fetches: one file at a time, slowly, and only where it is in nobody's way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{LookaheadConfig, metered};
use crate::download::{Downloads, Want};
use crate::store::{Stats, Store};

/// Makes downloads that know the same store, mirrors and peers as those of apt, and keep to a rate of their own.
pub type MakeDownloads = Box<dyn Fn() -> Downloads + Send + Sync>;

/// How long nobody else must have fetched anything: between two files of apt's there is less.
const CALM: Duration = Duration::from_secs(3);

/// How often it is looked whether a metered network has become another one.
const METERED_EVERY: Duration = Duration::from_secs(300);

/// Why one file is not being fetched any more.
enum End {
    /// It is there, or cannot be had.
    Over,
    /// Somebody else fetches: later.
    Busy,
    /// Nothing more is wanted.
    Stopped,
}

/// Fetches what is wanted, in this order, until `stop`.
pub(super) async fn fetch(config: Arc<LookaheadConfig>, wanted: Vec<Want>, stop: CancellationToken) {
    let mut busy = config.downloads.under_way();
    for want in wanted {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = until_calm(&mut busy) => {}
            }
            if config.store.contains(&want.id) || !has_room(config.store.clone(), want.length).await {
                break;
            }
            match fetch_one(&config, &want, &mut busy, &stop).await {
                End::Over => break,
                End::Busy => {}
                End::Stopped => return,
            }
        }
    }
}

async fn fetch_one(
    config: &LookaheadConfig,
    want: &Want,
    busy: &mut watch::Receiver<usize>,
    stop: &CancellationToken,
) -> End {
    let Some(make) = &config.fetching else { return End::Stopped };
    if metered::is_metered().await {
        debug!("the network is metered: nothing is fetched ahead");
        let waited = timeout(METERED_EVERY, stop.cancelled()).await;
        return if waited.is_ok() { End::Stopped } else { End::Busy };
    }
    let downloads = make();
    config.downloads.set_ahead(Some(want.id));
    // Who was found lying there is a liar here, and the other way round.
    downloads.restore_bans(&config.downloads.bans());
    debug!(object = %want.id, name = want.name, "fetching ahead");
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => End::Stopped,
        () = until_busy(busy) => End::Busy,
        () = fetched(&downloads, want.clone()) => End::Over,
    };
    // What is there by now stays, and the next download of it goes on from it.
    downloads.stop().await;
    config.downloads.set_ahead(None);
    config.downloads.restore_bans(&downloads.bans());
    debug!(object = %want.id, held = config.store.contains(&want.id), "fetched ahead");
    end
}

async fn fetched(downloads: &Downloads, want: Want) {
    let Ok(download) = downloads.open(want) else { return };
    if download.closed().await.is_ok() {
        download.settled().await;
    }
}

/// Waits until nobody has fetched anything for a while.
async fn until_calm(busy: &mut watch::Receiver<usize>) {
    loop {
        if busy.wait_for(|count| *count == 0).await.is_err() || timeout(CALM, until_busy(busy)).await.is_err()
        {
            return;
        }
    }
}

/// Waits until somebody begins to fetch something. One that is over already counts as well.
async fn until_busy(busy: &mut watch::Receiver<usize>) {
    if busy.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether the store has room for so many bytes without evicting anything. It looks at the disk.
async fn has_room(store: Store, length: u64) -> bool {
    let stats = tokio::task::spawn_blocking(move || store.stats()).await;
    matches!(stats, Ok(Ok(stats)) if fits(&stats, length))
}

fn fits(stats: &Stats, length: u64) -> bool {
    let taken = stats.bytes.saturating_add(stats.assembling_bytes).saturating_add(length);
    taken <= stats.max_size && stats.min_free_space.saturating_add(length) <= stats.free_space
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_without_evicting_anything_is_fetched() {
        let stats = Stats {
            objects: 1,
            bytes: 40,
            pinned_objects: 0,
            pinned_bytes: 0,
            in_place_objects: 0,
            in_place_bytes: 0,
            assembling_bytes: 10,
            free_space: 100,
            max_size: 100,
            min_free_space: 60,
        };
        assert!(fits(&stats, 40) && !fits(&stats, 41), "the disk");
        let roomy = Stats { free_space: 1000, ..stats };
        assert!(fits(&roomy, 50) && !fits(&roomy, 51), "the cache");
        assert!(!fits(&roomy, u64::MAX));
    }
}
