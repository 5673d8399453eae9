//! `aptpeer daemon`: the whole node, until SIGTERM or Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::output::{Failure, warn_of};
use super::{Context, arenas, logging};
use crate::daemon::Node;

/// Threads that may wait for the disk at a time. Each costs some 50 KiB, and many downloads that write at once would
/// have hundreds of them; a disk has no use for more.
const BLOCKED_THREADS: usize = 64;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    arenas::share();
    let loaded = context.load()?;
    logging::start(&loaded.settings.log);
    warn_of(&loaded.warnings);
    let work = |error: &dyn std::fmt::Display| Failure::Work(error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKED_THREADS)
        .build()
        .map_err(|error| Failure::Work(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let node = Node::new(loaded.settings, Vec::new()).await.map_err(|error| work(&error))?;
        let ended = until_signal(shutdown.clone(), node.run(shutdown)).await?;
        ended.map_err(|error| work(&error))
    })
}

/// Runs `work`, and asks for its shutdown at the first SIGTERM or SIGINT.
pub(super) async fn until_signal<T>(
    shutdown: CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let signals = watch_signals(shutdown.clone())
        .map_err(|error| Failure::Work(format!("cannot wait for signals: {error}")))?;
    let work = async {
        let ended = work.await;
        shutdown.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(work, signals);
    Ok(ended)
}

/// Asks for a shutdown at the first SIGTERM or SIGINT; ends once one was asked for.
fn watch_signals(shutdown: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: finishing what is being read"),
            _ = interrupt.recv() => info!("interrupted: finishing what is being read"),
            () = shutdown.cancelled() => {}
        }
        shutdown.cancel();
    })
}
