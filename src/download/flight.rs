//! One object's download as it happens: the pure machine of [`crate::swarm`] joined to peers, mirror and store.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::admission::Admission;
use super::canvas::{Canvas, Licence};
use super::fetch::{Event, PieceFetch, Stream, Timing, WalkFetch};
use super::findings::Findings;
use super::origin;
use super::seeding::Window;
use super::{Context, DownloadError, Progress, Stage, Tally, Want};
use crate::clock;
use crate::digest::Sha256;
use crate::discovery::{Found, Provider};
use crate::metrics::{Source, VerificationFailure};
use crate::peer::{ListAnswer, ListTag, News, PeerError};
use crate::pieces::{ChainWalk, Geometry, Kept, Link, PieceIndex, State};
use crate::store::StoreError;
use crate::swarm::{Download, Fact, FetchId, Order, Outcome, PeerFault, PeerKind, Prefer, SourceId, Walker};

/// Events that wait for the machine; fetches that are faster than it wait in turn.
const EVENTS: usize = 64;

/// How long a look-up may keep the mirror's own refusal from the client, counted from the start of the download: apt often
/// knows another way, which must not wait for long.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(3);

/// How long a download goes on when nobody reads it any more: apt comes back within seconds where it was cut off.
const LINGER: std::time::Duration = std::time::Duration::from_secs(20);

/// How often it is written down what a download has: so much is lost at most when the process is killed. The bytes must be on
/// disk before, which they will have to be in the end anyway.
const CHECKPOINT: std::time::Duration = std::time::Duration::from_secs(3);

/// What a flight shares with those who read it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) want: Want,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) window: Window,
}

impl Shared {
    pub(super) fn new(want: Want, geometry: Geometry) -> Self {
        let progress = watch::Sender::new(Progress::default());
        Self { want, progress, window: Window::new(geometry) }
    }
}

/// A download in the air. [`Flight::run`] ends when the object is whole and in the store, when nobody can give what is
/// missing, or when nobody wants it any more.
pub(super) struct Flight {
    context: Arc<Context>,
    shared: Arc<Shared>,
    machine: Download,
    canvas: Arc<Canvas>,
    peers: HashMap<SourceId, Provider>,
    /// The lists that holders of a part told last.
    tags: HashMap<SourceId, ListTag>,
    admission: Admission,
    /// `None` before a look-up is due and after its end.
    findings: Option<Findings>,
    looked_up: bool,
    tasks: JoinSet<()>,
    running: HashMap<FetchId, Running>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    lists: JoinSet<(SourceId, Result<ListAnswer, PeerError>)>,
    /// Checkpoints being written, one at a time.
    saving: JoinSet<Result<(), StoreError>>,
    saved_at: Instant,
    saved: u64,
    tally: Tally,
    /// Our own limit slowed it down: how fast it was says nothing of the mirror.
    held_back: bool,
    began: Instant,
    /// Up to which of the machine's revisions peers know what they may have.
    shown: Option<u64>,
    last_modified: Option<String>,
    why: Option<DownloadError>,
}

struct Running {
    licence: Licence,
    pieces: Range<PieceIndex>,
    abort: AbortHandle,
    source: Option<SourceId>,
    walk: bool,
    /// What a fetched piece leads from and to.
    link: Option<Link>,
}

impl Flight {
    /// Prepares the download of what `shared` wants; `canvas` is where it goes.
    pub(super) fn new(context: Arc<Context>, shared: Arc<Shared>, canvas: Canvas) -> Self {
        let now = clock::now();
        let Want { id, .. } = shared.want;
        let geometry = canvas.geometry();
        let mut machine = Download::new(id, geometry, context.prefer, now).seeded(context.seed);
        if let Some(target) = &shared.want.mirror {
            machine.add_mirror(context.mirror_rate(target));
        }
        let (events, inbox) = mpsc::channel(EVENTS);
        let canvas = Arc::new(canvas);
        shared.window.open(canvas.clone());
        let mut flight = Self {
            context,
            shared,
            machine,
            canvas,
            peers: HashMap::new(),
            tags: HashMap::new(),
            admission: Admission::default(),
            findings: None,
            looked_up: false,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            events,
            inbox,
            lists: JoinSet::new(),
            saving: JoinSet::new(),
            saved_at: now,
            saved: 0,
            tally: Tally::default(),
            held_back: false,
            began: now,
            shown: None,
            last_modified: None,
            why: None,
        };
        flight.resume();
        for provider in flight.context.providers(&id) {
            flight.add_known(provider, now);
        }
        flight
    }

    /// Goes on from what an earlier download has left.
    fn resume(&mut self) {
        let kept = self.canvas.assembly().resumed();
        if kept.is_empty() {
            return;
        }
        self.machine.resume(&kept);
        let geometry = self.canvas.geometry();
        let length = |kept: &Kept| geometry.range(kept.piece).end - geometry.range(kept.piece).start;
        let bytes = kept.iter().map(length).sum();
        self.context.metrics.bytes_resumed(bytes);
        info!(object = %self.shared.want.id, name = self.shared.want.name, bytes, "going on with a download");
    }

    /// Downloads until the end, whichever it is.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let _active = self.context.metrics.download_started();
        let mut unread_since: Option<Instant> = None;
        let canvas = self.canvas.clone();
        loop {
            // Counted in the canvas, so that a write is never missed that its task could not report.
            while self.machine.taints() < self.canvas.taints() {
                self.machine.handle_differing();
            }
            self.look_up_if_due();
            self.machine.handle_timeout(clock::now());
            // Before anything is written over what peers may not have any more.
            self.show_held();
            self.carry_out().await;
            self.publish_progress(Stage::Running);
            self.checkpoint_if_due();
            if self.machine.outcome() != Outcome::Running || self.why.is_some() {
                break;
            }
            let unread = self.shared.progress.receiver_count() == 0;
            unread_since = unread.then(|| unread_since.unwrap_or_else(clock::now));
            let deadline = self.deadline(unread_since);
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.why = Some(DownloadError::ShuttingDown);
                    break;
                }
                Some(event) = self.inbox.recv() => {
                    self.handle(event);
                    // Whatever else has come is handled before the machine decides again.
                    while let Ok(event) = self.inbox.try_recv() {
                        self.handle(event);
                    }
                }
                Some(Ok((source, answer))) = self.lists.join_next() => self.handle_list(source, answer),
                Some(_) = self.tasks.join_next() => {}
                Some(saved) = self.saving.join_next() => note_saved(self.shared.want.id, saved),
                piece = canvas.next_damaged() => self.handle_damaged(piece),
                found = next_finding(&mut self.findings) => self.handle_found(found),
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            if unread_since.is_some_and(|since| clock::now() >= since + LINGER) {
                self.why = Some(DownloadError::Unwanted);
                break;
            }
        }
        self.end().await;
    }

    /// A piece that an earlier download has left is not what it was.
    fn handle_damaged(&mut self, piece: PieceIndex) {
        // Several readers may have come upon it.
        if !self.machine.handle_damaged(piece) {
            return;
        }
        warn!(object = %self.shared.want.id, piece, "a piece of a broken off download is damaged on disk");
        self.context.metrics.verification_failed(VerificationFailure::Stored);
        // Before it is opened for writing: whoever looks at it then sees that it is not released.
        self.publish_progress(Stage::Running);
    }

    /// Writes down what is linked, now and then, beside the work.
    fn checkpoint_if_due(&mut self) {
        let (now, revision) = (clock::now(), self.machine.revision());
        let due = now >= self.saved_at + CHECKPOINT && revision != self.saved;
        if !due || !self.saving.is_empty() || self.canvas.geometry().pieces() == 1 {
            return;
        }
        (self.saved_at, self.saved) = (now, revision);
        let (canvas, kept) = (self.canvas.clone(), self.machine.worth_keeping(now));
        self.saving.spawn_blocking(move || canvas.assembly().checkpoint(&kept));
    }

    /// Leaves what there is to the next who wants the object.
    async fn leave(&mut self) {
        let (canvas, kept) = (self.canvas.clone(), self.machine.worth_keeping(clock::now()));
        self.saving.spawn_blocking(move || canvas.assembly().leave(&kept));
        while let Some(saved) = self.saving.join_next().await {
            note_saved(self.shared.want.id, saved);
        }
    }

    fn deadline(&self, unread_since: Option<Instant>) -> Instant {
        let now = clock::now();
        // Readers come and go without an event: look once a second.
        let look = now + std::time::Duration::from_secs(1);
        let unread = unread_since.map(|since| since + LINGER);
        [self.machine.next_timeout(now), unread].into_iter().flatten().fold(look, Instant::min)
    }

    /// Starts to look for peers: at once where an object has several pieces, or no peer is known; for a small one that
    /// somebody may hold, only when it turns out that none of those does. It costs apt nothing: nothing waits for it
    /// that could be had elsewhere.
    fn look_up_if_due(&mut self) {
        let small = self.canvas.geometry().pieces() == 1;
        let spared = small && self.machine.has_live_peer();
        if self.looked_up || spared || self.machine.ledger().is_closed() {
            return;
        }
        self.looked_up = true;
        let Want { id, .. } = self.shared.want;
        self.findings = self.context.look_ups.start(&self.context.discovery, id, self.canvas.geometry());
        if let Some(findings) = &self.findings {
            self.machine.expect_findings(findings.until());
        }
    }

    fn handle_found(&mut self, found: Option<Found>) {
        match found {
            Some(Found::Provider(provider)) => self.add_found(provider),
            Some(Found::List { list, signed }) => self.machine.handle_found_list(list, signed),
            None => {
                self.findings = None;
                self.machine.handle_findings_end();
            }
        }
    }

    /// A peer that was known when the download began.
    fn add_known(&mut self, provider: Provider, now: Instant) {
        let Some(standing) = self.context.standing(provider.address, now) else { return };
        if self.admission.admit(&provider, &self.context.borders) {
            let source = self.machine.add_peer(provider.kind, provider.address.ip(), standing, now);
            self.peers.insert(source, provider);
        }
    }

    /// A peer that a look-up has found. Nothing waits for a stranger that has not proved itself before, unless the user
    /// wants the mirror to be spared.
    fn add_found(&mut self, provider: Provider) {
        let now = clock::now();
        let Some(mut standing) = self.context.standing(provider.address, now) else { return };
        if !self.admission.admit(&provider, &self.context.borders) {
            return;
        }
        debug!(object = %self.shared.want.id, peer = %provider.address, "a look-up found a peer");
        let untried = provider.kind == PeerKind::Stranger && standing.first_byte.is_none();
        standing.doubtful |= untried && self.context.prefer == Prefer::Speed;
        let source = self.machine.add_peer(provider.kind, provider.address.ip(), standing, now);
        self.peers.insert(source, provider);
    }

    async fn end(mut self) {
        // Whoever still looks need not any more; keeping the object may take a while.
        self.findings = None;
        self.tasks.shutdown().await;
        self.lists.shutdown().await;
        while let Some(saved) = self.saving.join_next().await {
            note_saved(self.shared.want.id, saved);
        }
        if self.machine.outcome() == Outcome::Closed {
            self.report_end();
            self.show_held();
            self.publish_progress(Stage::Closed);
            self.keep().await;
            return;
        }
        if self.machine.has_regrets() {
            self.context.note_taint(self.shared.want.id);
        }
        let why = self.why.take().unwrap_or(DownloadError::NoSource);
        debug!(object = %self.shared.want.id, error = %why, "download given up");
        self.shared.window.close(self.canvas.geometry());
        if !matches!(why, DownloadError::NoRoom(_)) {
            self.leave().await;
        }
        self.publish_progress(Stage::Failed(why));
    }

    /// Puts the finished object into the store. Readers have all of it already; that it cannot be kept is no error of
    /// theirs.
    async fn keep(&mut self) {
        if self.canvas.assembly().is_in_memory() {
            return;
        }
        let states = self.machine.ledger().inner_states().unwrap_or_default();
        let (canvas, last_modified) = (self.canvas.clone(), self.last_modified.take());
        let kept =
            tokio::task::spawn_blocking(move || canvas.assembly().publish(states, last_modified)).await;
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(object = %self.shared.want.id, %error, "a finished object could not be kept");
            }
            Err(error) => warn!(object = %self.shared.want.id, %error, "keeping a finished object failed"),
        }
    }

    fn report_end(&self) {
        let Tally { peers, mirror } = self.tally;
        let source = if peers > mirror { Source::Peer } else { Source::Mirror };
        self.context.metrics.object_delivered(source);
        let took = clock::now() - self.began;
        if mirror > 0
            && !self.held_back
            && let Some(target) = &self.shared.want.mirror
        {
            self.context.note_mirror_rate(target, mirror, took);
        }
        info!(
            object = %self.shared.want.id,
            name = self.shared.want.name,
            length = self.shared.want.length,
            bytes_peers = peers,
            bytes_mirror = mirror,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "download finished"
        );
    }

    async fn carry_out(&mut self) {
        while let Some(order) = self.machine.poll_order() {
            match order {
                Order::AskList(source) => self.ask_list(source, None),
                Order::AwaitNews(source, wait) => {
                    let than = self.tags.get(&source).cloned();
                    self.ask_list(source, Some(News { than, wait }));
                }
                Order::FetchPiece { fetch, source, piece, start, expected, .. } => {
                    let Some(peer) = self.address(source) else { continue };
                    let licence = Licence::default();
                    let task = PieceFetch {
                        fetch,
                        peer,
                        piece,
                        start,
                        expected,
                        licence: licence.clone(),
                        canvas: self.canvas.clone(),
                        client: self.context.peers.clone(),
                        queue: self.context.queue.clone(),
                        throttle: self.context.throttle.clone(),
                        events: self.events.clone(),
                    };
                    let abort = self.tasks.spawn(task.run());
                    let running = Running {
                        licence,
                        pieces: piece..piece + 1,
                        abort,
                        source: Some(source),
                        walk: false,
                        link: Some(Link { start, end: expected }),
                    };
                    self.running.insert(fetch, running);
                }
                Order::Walk { fetch, walker, range, start } => self.start_walk(fetch, walker, range, start),
                Order::Cancel(fetch) => {
                    if let Some(running) = self.running.remove(&fetch) {
                        running.abort.abort();
                        let committed = self.canvas.revoke(&running.licence, running.pieces.clone());
                        if committed && let Some(link) = running.link {
                            self.give_up_unlinked(running.pieces.start, &link);
                        }
                    }
                }
                Order::Reopen(piece) => self.canvas.reopen(piece),
            }
        }
        while let Some(fact) = self.machine.poll_fact() {
            self.note(&fact);
        }
    }

    fn address(&self, source: SourceId) -> Option<SocketAddr> {
        self.peers.get(&source).map(|peer| peer.address)
    }

    fn ask_list(&mut self, source: SourceId, news: Option<News>) {
        let Some(peer) = self.address(source) else { return };
        let (client, canvas) = (self.context.peers.clone(), self.canvas.clone());
        self.lists.spawn(async move {
            let id = canvas.assembly().id();
            (source, client.list(peer, id, canvas.geometry(), news).await)
        });
    }

    fn start_walk(&mut self, fetch: FetchId, walker: Walker, range: Range<u64>, start: State) {
        let geometry = self.canvas.geometry();
        let licence = Licence::default();
        let walk = WalkFetch {
            fetch,
            until: range.end,
            licence: licence.clone(),
            canvas: self.canvas.clone(),
            queue: self.context.queue.clone(),
            throttle: self.context.throttle.clone(),
            events: self.events.clone(),
            offset: range.start,
            chain: ChainWalk::from_state(start),
            whole: true,
            solid: range.start,
        };
        let pieces = geometry.piece_at(range.start)..geometry.piece_at(range.end.saturating_sub(1)) + 1;
        let abort = match walker {
            Walker::Mirror => {
                let Some(target) = self.shared.want.mirror.clone() else { return };
                let (mirror, events) = (self.context.mirror.clone(), self.events.clone());
                self.tasks.spawn(async move {
                    match origin::open(&mirror, target, range, geometry.length()).await {
                        Ok(opened) => {
                            if let Some(text) = opened.last_modified {
                                let _ = events.send(Event::LastModified(text)).await;
                            }
                            walk.run(Stream::Mirror(Box::new(opened.body))).await;
                        }
                        Err(error) => {
                            let _ = events.send(Event::MirrorFailed(fetch, error)).await;
                        }
                    }
                })
            }
            Walker::Peer(source) => {
                let Some(peer) = self.address(source) else { return };
                let (client, id, events) =
                    (self.context.peers.clone(), self.shared.want.id, self.events.clone());
                self.tasks.spawn(async move {
                    match client.open(peer, id, range, geometry.length()).await {
                        Ok(body) => walk.run(Stream::Peer(Box::new(body))).await,
                        Err(PeerError::NotHeld) => drop(events.send(Event::NotHeld(fetch)).await),
                        Err(PeerError::Busy) => drop(events.send(Event::Busy(fetch)).await),
                        Err(PeerError::Fault { fault, detail: why }) => {
                            drop(events.send(Event::WalkFailed { fetch, fault, why }).await);
                        }
                    }
                })
            }
        };
        let source = match walker {
            Walker::Mirror => None,
            Walker::Peer(source) => Some(source),
        };
        self.running.insert(fetch, Running { licence, pieces, abort, source, walk: true, link: None });
    }

    fn handle(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Answered(fetch) => self.machine.handle_answered(fetch),
            Event::HeldBack(fetch) => {
                self.held_back = true;
                self.machine.handle_held_back(fetch, now);
            }
            Event::Begun(fetch) => self.machine.handle_begun(fetch, now),
            Event::Progress { fetch, offset, bytes } => {
                if let Some(running) = self.running.get(&fetch)
                    && running.walk
                {
                    let source = if running.source.is_none() { Source::Mirror } else { Source::Peer };
                    self.tally.add(source, bytes);
                    self.context.metrics.bytes_received(source, bytes);
                }
                self.machine.handle_progress(fetch, offset, bytes, now);
            }
            Event::Linked { fetch, piece, timing } => self.handle_linked(fetch, piece, timing, now),
            Event::Unlinked(fetch, end) => {
                self.context.metrics.verification_failed(VerificationFailure::Piece);
                self.running.remove(&fetch);
                self.machine.handle_piece_unlinked(fetch, end);
            }
            Event::NotHeld(fetch) => {
                self.running.remove(&fetch);
                self.machine.handle_piece_not_held(fetch);
            }
            Event::Busy(fetch) => {
                let source = self.running.remove(&fetch).and_then(|running| running.source);
                let peer = source.and_then(|source| self.address(source));
                debug!(object = %self.shared.want.id, ?peer, "a peer is busy");
                self.machine.handle_busy(fetch, now);
            }
            Event::PeerFailed(fetch, fault, detail) => {
                let source = self.running.remove(&fetch).and_then(|running| running.source);
                let peer = source.and_then(|source| self.address(source));
                debug!(object = %self.shared.want.id, ?peer, %fault, detail, "a fetch from a peer failed");
                self.machine.handle_piece_failure(fetch, fault);
            }
            Event::Walked { fetch, end, whole } => self.machine.handle_walked(fetch, end, whole),
            Event::WalkFailed { fetch, fault, why } => {
                debug!(object = %self.shared.want.id, %fault, why, "a walk broke off");
                self.running.remove(&fetch);
                self.machine.handle_walk_failure(fetch, fault);
            }
            Event::MirrorFailed(fetch, error) => {
                debug!(object = %self.shared.want.id, %error, "the mirror gives nothing");
                self.running.remove(&fetch);
                if let Some(findings) = self.findings.as_ref().filter(|_| error.is_answer()) {
                    self.machine.expect_findings(findings.until().min(self.began + REFUSED));
                }
                self.shared.progress.send_modify(|progress| progress.mirror_error = Some(error));
                self.machine.handle_walk_failure(fetch, PeerFault::Short);
            }
            Event::LastModified(text) => self.last_modified = Some(text),
            Event::DiskFailed(error) => {
                warn!(object = %self.shared.want.id, %error, "an object being downloaded could not be written");
                self.why = Some(DownloadError::NoRoom(Arc::new(error)));
            }
        }
    }

    fn handle_linked(&mut self, fetch: FetchId, piece: PieceIndex, timing: Timing, now: Instant) {
        // Where it was cancelled after it had committed, its piece was given up then.
        let Some(running) = self.running.remove(&fetch) else { return };
        self.tally.add(Source::Peer, timing.bytes);
        self.context.metrics.bytes_received(Source::Peer, timing.bytes);
        self.context.metrics.piece_fetched(timing.first_byte + timing.transfer);
        self.context.metrics.peer_answered(timing.first_byte);
        if let Some(peer) = running.source.and_then(|source| self.peers.get(&source)) {
            self.context.note_success(peer, timing, now);
        }
        self.machine.handle_piece_linked(fetch);
        // The machine may have cancelled the fetch a moment ago.
        if let Some(link) = running.link {
            self.give_up_unlinked(piece, &link);
        }
    }

    /// Opens a piece again that a fetch has committed and the machine does not know as linked so: nobody vouches for its
    /// bytes, and while it is closed no walk can put others in their place. Where it was linked by other bytes a moment before,
    /// these are gone.
    fn give_up_unlinked(&mut self, piece: PieceIndex, committed: &Link) {
        match self.machine.ledger().get(piece) {
            Some(link) if link == *committed => {}
            Some(_) => self.machine.handle_overwritten(piece),
            None => self.canvas.reopen(piece),
        }
    }

    fn handle_list(&mut self, source: SourceId, answer: Result<ListAnswer, PeerError>) {
        let now = clock::now();
        match answer {
            Ok(ListAnswer::List { list, have, tag }) => {
                match tag {
                    Some(tag) => drop(self.tags.insert(source, tag)),
                    None => drop(self.tags.remove(&source)),
                }
                self.machine.handle_list(source, list, have, now);
            }
            Ok(ListAnswer::NoNews) => self.machine.handle_no_news(source),
            Ok(ListAnswer::None) => self.machine.handle_no_list(source, now),
            Err(PeerError::NotHeld) => self.machine.handle_not_held(source),
            // The client says so of bytes only; a list takes no place.
            Err(PeerError::Busy) => self.machine.handle_list_failure(source, PeerFault::ServerError),
            Err(PeerError::Fault { fault, detail }) => {
                let peer = self.address(source);
                debug!(object = %self.shared.want.id, ?peer, %fault, detail, "a peer's piece list could not be had");
                self.machine.handle_list_failure(source, fault);
            }
        }
    }

    fn note(&self, fact: &Fact) {
        let object = self.shared.want.id;
        match fact {
            Fact::PeerFaulted(source, fault) => {
                let Some(peer) = self.peers.get(source) else { return };
                debug!(%object, peer = %peer.address, %fault, "peer faulted");
                if *fault == PeerFault::WrongList {
                    self.context.metrics.verification_failed(VerificationFailure::PieceList);
                }
                self.context.note_fault(peer, *fault);
            }
            Fact::PeerLate(source) => {
                let Some(peer) = self.peers.get(source) else { return };
                debug!(%object, peer = %peer.address, "peer is late");
                self.context.note_late(peer);
            }
            Fact::PublisherWrong => {
                warn!(
                    %object,
                    name = self.shared.want.name,
                    "a piece list signed by a publisher of dht.publishers is not the file's"
                );
                self.context.metrics.verification_failed(VerificationFailure::PieceList);
            }
            Fact::MirrorDiffers => {
                warn!(%object, name = self.shared.want.name, "the mirror's file is not the one its index names");
                self.context.metrics.verification_failed(VerificationFailure::Mirror);
                self.shared.progress.send_modify(|progress| progress.mirror_differs = true);
                if self.machine.released() > 0 {
                    // Whoever has read some of it must not resume behind it.
                    self.context.note_taint(object);
                }
            }
            Fact::Tainted => {
                warn!(%object, "bytes that were handed out proved wrong: whoever reads them starts over");
                self.context.note_taint(object);
            }
            Fact::PieceLinked(..) | Fact::NotHeld(_) | Fact::ListDiscarded | Fact::MirrorJoined => {
                debug!(%object, ?fact, "download");
            }
        }
    }

    /// Tells those who serve peers what these may have now.
    fn show_held(&mut self) {
        let revision = Some(self.machine.revision());
        if self.shown != revision {
            self.shown = revision;
            self.shared.window.show(self.machine.servable());
        }
    }

    fn publish_progress(&self, stage: Stage) {
        let released = self.machine.released();
        self.canvas.note_released(released);
        let taints = self.machine.taints();
        let tally = self.tally;
        self.shared.progress.send_if_modified(|progress| {
            let changed = progress.released != released
                || progress.taints != taints
                || progress.last_modified != self.last_modified
                || !matches!(stage, Stage::Running)
                || progress.canvas.is_none();
            progress.released = released;
            progress.taints = taints;
            progress.tally = tally;
            progress.last_modified.clone_from(&self.last_modified);
            progress.canvas.get_or_insert_with(|| self.canvas.clone());
            progress.stage = stage;
            changed
        });
    }
}

fn note_saved(object: Sha256, saved: Result<Result<(), StoreError>, JoinError>) {
    match saved {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%object, %error, "what there is of a download could not be written down"),
        Err(error) => warn!(%object, %error, "writing down what there is of a download failed"),
    }
}

/// The next finding; never, where nobody looks.
async fn next_finding(findings: &mut Option<Findings>) -> Option<Found> {
    match findings {
        Some(findings) => findings.next().await,
        None => std::future::pending().await,
    }
}

/// Where an object is put together: on disk, in memory where the disk has no room.
pub(super) fn canvas(context: &Context, id: Sha256, geometry: Geometry) -> Result<Canvas, StoreError> {
    let assembly = match context.store.assemble(id, geometry) {
        Err(StoreError::Full { .. }) => context.store.assemble_in_memory(id, geometry)?,
        other => other?,
    };
    Ok(Canvas::new(assembly, context.metrics.clone()))
}
