//! Where finished objects wait to enter the store: as many as have come while the disk was busy enter together.
//!
//! There are two ways in. What lies on disk already, or is to be read from the store right away, goes in at once. Small objects that
//! apt reads from memory wait for a lull ([`Queue`]): while apt fetches hundreds of them, what it costs to put them on disk would
//! be taken from what it takes to fetch them.

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::canvas::Canvas;
use super::lock;
use super::lull::Queue;
use crate::clock;
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
    /// It is needed from the store right away.
    pub(super) prompt: bool,
}

/// The ways into the store. There is no task of their own: of those who wait, one takes all of them in. There are as many as
/// downloads at most.
pub(super) struct Entrance {
    at_once: Way,
    in_a_lull: Way,
    /// Nobody waits for a lull any more.
    closing: CancellationToken,
}

/// One of them.
#[derive(Default)]
struct Way {
    waiting: Mutex<Queue<(Whole, oneshot::Sender<()>)>>,
    turn: tokio::sync::Mutex<()>,
    /// More waits than should.
    full: Notify,
    /// Nobody goes before it is time.
    patient: bool,
}

impl Entrance {
    /// An entrance where nobody waits longer than the disk takes once `closing` is cancelled.
    pub(super) fn new(closing: CancellationToken) -> Self {
        Self { at_once: Way::default(), in_a_lull: Way { patient: true, ..Way::default() }, closing }
    }

    /// Waits until the object is in the store. That it cannot be kept is logged, and no error of its readers: they have all of
    /// it already.
    pub(super) async fn enter(&self, store: &Store, object: Whole) {
        let way = if self.may_wait(&object) { &self.in_a_lull } else { &self.at_once };
        let length = object.canvas.geometry().length();
        let (told, mut hears) = oneshot::channel();
        {
            let mut waiting = lock(&way.waiting);
            waiting.push((object, told), length, clock::now());
            if waiting.is_full() {
                way.full.notify_one();
            }
        }
        loop {
            let _turn = tokio::select! {
                biased;
                _ = &mut hears => return,
                turn = way.turn.lock() => turn,
            };
            if !matches!(hears.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                return;
            }
            if way.patient {
                way.lull(&self.closing).await;
            }
            way.take_in(store.clone()).await;
        }
    }

    fn may_wait(&self, object: &Whole) -> bool {
        object.canvas.assembly().is_in_memory() && !object.prompt
    }
}

impl Way {
    /// Waits until it is time for those who wait, or until nobody is to wait any more.
    async fn lull(&self, closing: &CancellationToken) {
        loop {
            let Some(due) = lock(&self.waiting).due() else { return };
            if due <= clock::now() {
                return;
            }
            tokio::select! {
                () = closing.cancelled() => return,
                () = self.full.notified() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    async fn take_in(&self, store: Store) {
        let (objects, told): (Vec<_>, Vec<_>) = lock(&self.waiting).take(TOGETHER).unzip();
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
