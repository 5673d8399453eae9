//! Where finished objects wait to enter the store: as many as have come while the disk was busy enter together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::canvas::Canvas;
use super::lock;
use crate::pieces::State;
use crate::store::{Finished, Scope, Store, StoreError};

/// The most objects that enter together: while they do, nobody else can write to the catalog.
const TOGETHER: usize = 32;

/// An object that is whole.
pub(super) struct Whole {
    pub(super) canvas: Arc<Canvas>,
    pub(super) states: Vec<State>,
    pub(super) last_modified: Option<String>,
    pub(super) scope: Scope,
}

/// The way into the store. There is no task of its own: of those who wait, one takes all of them in. There are as many as
/// downloads at most.
#[derive(Default)]
pub(super) struct Entrance {
    waiting: Mutex<VecDeque<(Whole, oneshot::Sender<()>)>>,
    turn: tokio::sync::Mutex<()>,
}

impl Entrance {
    /// Waits until the object is in the store. That it cannot be kept is logged, and no error of its readers: they have all of
    /// it already.
    pub(super) async fn enter(&self, store: &Store, object: Whole) {
        let (told, mut hears) = oneshot::channel();
        lock(&self.waiting).push_back((object, told));
        loop {
            let _turn = self.turn.lock().await;
            if !matches!(hears.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                return;
            }
            self.take_in(store.clone()).await;
        }
    }

    async fn take_in(&self, store: Store) {
        let (objects, told): (Vec<_>, Vec<_>) = {
            let mut waiting = lock(&self.waiting);
            let count = waiting.len().min(TOGETHER);
            waiting.drain(..count).unzip()
        };
        let entered = tokio::task::spawn_blocking(move || publish(&store, objects)).await;
        if let Err(error) = entered {
            warn!(%error, "keeping finished objects failed");
        }
        for told in told {
            // Whoever waits no more need not hear it.
            let _ = told.send(());
        }
    }
}

fn publish(store: &Store, mut objects: Vec<Whole>) {
    let ids: Vec<_> = objects.iter().map(|object| object.canvas.assembly().id()).collect();
    let finished = objects.iter_mut().map(|object| {
        let (states, last_modified) = (std::mem::take(&mut object.states), object.last_modified.take());
        Finished::new(object.canvas.assembly(), states, last_modified, object.scope)
    });
    for (object, kept) in ids.iter().zip(store.publish_all(finished.collect())) {
        match kept {
            Ok(()) => {}
            Err(error @ StoreError::Full { .. }) => {
                debug!(%object, %error, "no room to keep a finished object");
            }
            Err(error) => warn!(%object, %error, "a finished object could not be kept"),
        }
    }
}
