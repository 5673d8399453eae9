//! One object's download as it happens: the pure machine of [`crate::swarm`] joined to peers, mirror and store.

mod company;
mod drawing;
mod keeping;
mod orders;
mod scope;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::company::next_finding;
use self::keeping::note_saved;
use super::admission::Admission;
use super::canvas::{Canvas, Licence};
use super::entrance::Whole;
use super::fetch::Event;
use super::findings::{Again, Findings};
use super::pictures::Ongoing;
use super::seeding::Window;
use super::sheet::{Brought, Sheet, Span};
use super::{Context, DownloadError, Progress, Stage, Tally, Want};
use crate::clock;
use crate::digest::Sha256;
use crate::discovery::{Outlook, Provider};
use crate::metrics::{Source, VerificationFailure};
use crate::peer::{ListAnswer, ListTag, PeerError};
use crate::pieces::{Geometry, Link, PieceIndex};
use crate::store::StoreError;
use crate::swarm::{Download, FetchId, Outcome, PeerFault, SourceId};
use crate::wire::Intent;

/// Events that wait for the machine; fetches that are faster than it wait in turn.
const EVENTS: usize = 64;

/// How long a look-up may keep the mirror's own refusal from the client, counted from the start of the download: apt often
/// knows another way, which must not wait for long.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(3);

/// How long a download goes on when nobody reads it any more: apt comes back within seconds where it was cut off.
const LINGER: std::time::Duration = std::time::Duration::from_secs(20);

/// What a flight shares with those who read it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) want: Want,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) window: Window,
    /// Not for everybody, or not known to be.
    local: AtomicBool,
    /// For people who look, drawn now and then.
    pub(super) picture: Mutex<Option<Ongoing>>,
}

impl Shared {
    pub(super) fn new(want: Want, geometry: Geometry, intent: Option<Intent>) -> Self {
        let progress = watch::Sender::new(Progress::default());
        let (window, local) = (Window::new(geometry, intent), AtomicBool::new(true));
        Self { want, progress, window, local, picture: Mutex::default() }
    }

    /// Whether the object is for the local network and members of our private swarm alone.
    pub(super) fn is_local(&self) -> bool {
        self.local.load(Ordering::Relaxed)
    }
}

/// A download in the air. [`Flight::run`] ends when the object is whole, when nobody can give what is missing, or when nobody
/// wants it any more.
pub(super) struct Flight {
    context: Arc<Context>,
    shared: Arc<Shared>,
    machine: Download,
    canvas: Arc<Canvas>,
    peers: HashMap<SourceId, Provider>,
    /// The lists that holders of a part told last.
    tags: HashMap<SourceId, ListTag>,
    admission: Admission,
    /// `None` while nobody looks.
    findings: Option<Findings>,
    /// `None` before the first look-up.
    again: Option<Again>,
    outlook: Outlook,
    /// Finds out whether the object is for everybody, where that is not known.
    scoping: JoinSet<bool>,
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
    /// What each source gave; `None` is the mirror.
    given: HashMap<Option<SourceId>, u64>,
    drawn_at: Option<Instant>,
    /// Our own limit slowed it down: how fast it was says nothing of the mirror.
    held_back: bool,
    began: Instant,
    /// Up to which of the machine's revisions peers know what they may have, and what they know of our intent.
    shown: Option<(u64, Option<Intent>)>,
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
    /// What a fetch brings of a piece, and where it puts it.
    of_piece: Option<(Arc<Span>, Arc<Sheet>)>,
}

impl Flight {
    /// Prepares the download of what `shared` wants; `canvas` is where it goes.
    pub(super) fn new(context: Arc<Context>, shared: Arc<Shared>, canvas: Canvas) -> Self {
        let now = clock::now();
        let id = shared.want.id;
        let geometry = canvas.geometry();
        let mut machine = Download::new(id, geometry, context.prefer, now).seeded(context.seed);
        if let Some(target) = &shared.want.mirror {
            machine.add_mirror(context.mirror_rate(target));
        }
        let (events, inbox) = mpsc::channel(EVENTS);
        let canvas = Arc::new(canvas);
        shared.window.open(canvas.clone());
        if geometry.pieces() > 1 {
            context.growing.send_modify(|count| *count = count.wrapping_add(1));
        }
        let mut flight = Self {
            context,
            shared,
            machine,
            canvas,
            peers: HashMap::new(),
            tags: HashMap::new(),
            admission: Admission::default(),
            findings: None,
            again: None,
            outlook: Outlook::default(),
            scoping: JoinSet::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            events,
            inbox,
            lists: JoinSet::new(),
            saving: JoinSet::new(),
            saved_at: now,
            saved: 0,
            tally: Tally::default(),
            given: HashMap::new(),
            drawn_at: None,
            held_back: false,
            began: now,
            shown: None,
            last_modified: None,
            why: None,
        };
        flight.resume();
        flight.find_scope(now);
        flight.machine.join_lan(flight.context.node);
        flight.gather(now);
        flight
    }

    /// Downloads until the end, whichever it is: what is to be put into the store. Readers have all of it already.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Option<Whole> {
        let mut unread_since: Option<Instant> = None;
        let canvas = self.canvas.clone();
        loop {
            // Counted in the canvas, so that a write is never missed that its task could not report.
            while self.machine.taints() < self.canvas.taints() {
                self.machine.handle_differing();
            }
            self.look_up_if_due();
            self.tell_positions();
            self.machine.handle_timeout(clock::now());
            // Before anything is written over what peers may not have any more.
            self.show_held();
            self.carry_out().await;
            self.publish_progress(Stage::Running);
            self.draw_if_due(clock::now());
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
                Some(local) = self.scoping.join_next() => self.handle_scope(local.unwrap_or(true)),
                Some(_) = self.tasks.join_next() => {}
                Some(saved) = self.saving.join_next() => note_saved(self.shared.want.id, saved),
                piece = canvas.next_damaged() => self.handle_damaged(piece),
                found = next_finding(&mut self.findings) => self.handle_found(found),
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            // Nobody is to be waited for in vain whose answer is here already.
            while let Some(Ok((source, answer))) = self.lists.try_join_next() {
                self.handle_list(source, answer);
            }
            if unread_since.is_some_and(|since| clock::now() >= since + LINGER) {
                self.why = Some(DownloadError::Unwanted);
                break;
            }
        }
        self.end().await
    }

    /// How far each piece has come by now: more than its fetch has told.
    fn tell_positions(&mut self) {
        for (fetch, running) in &self.running {
            if let Some((span, _)) = &running.of_piece {
                self.machine.handle_position(*fetch, span.here().end);
            }
        }
    }

    fn deadline(&self, unread_since: Option<Instant>) -> Instant {
        let now = clock::now();
        // Readers come and go without an event: look once a second.
        let look = now + std::time::Duration::from_secs(1);
        let unread = unread_since.map(|since| since + LINGER);
        [self.machine.next_timeout(now), unread].into_iter().flatten().fold(look, Instant::min)
    }

    async fn end(mut self) -> Option<Whole> {
        // Whoever still looks need not any more.
        self.findings = None;
        self.tasks.shutdown().await;
        self.lists.shutdown().await;
        self.scoping.shutdown().await;
        while let Some(saved) = self.saving.join_next().await {
            note_saved(self.shared.want.id, saved);
        }
        if self.machine.outcome() == Outcome::Closed {
            self.report_end();
            self.show_held();
            self.publish_progress(Stage::Closed);
            return self.whole();
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
        None
    }

    fn report_end(&self) {
        let Tally { peers, mirror } = self.tally;
        let source = if peers > mirror { Source::Peer } else { Source::Mirror };
        self.context.metrics.object_delivered(source);
        self.note_delivered();
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
                let source = self.running.get(&fetch).and_then(|running| running.source);
                if let Some(peer) = source.and_then(|source| self.address(source)) {
                    self.context.metrics.exchanged_with(peer.ip(), now);
                }
                if let Some(running) = self.running.get(&fetch)
                    && running.walk
                {
                    let source = if running.source.is_none() { Source::Mirror } else { Source::Peer };
                    self.tally.add(source, bytes);
                    *self.given.entry(running.source).or_default() += bytes;
                    self.context.metrics.bytes_received(source, bytes);
                }
                self.machine.handle_progress(fetch, offset, bytes, now);
            }
            Event::PartCame(fetch) => {
                // The piece's own fetch goes on until the piece is whole.
                if self.running.get(&fetch).is_some_and(|running| running.link.is_none()) {
                    self.running.remove(&fetch);
                }
                self.machine.handle_part_came(fetch);
            }
            Event::Linked { fetch, piece, parts } => self.handle_linked(fetch, piece, &parts, now),
            Event::Unlinked { fetch, end, digests } => {
                self.context.metrics.verification_failed(VerificationFailure::Piece);
                self.running.remove(&fetch);
                if digests.is_empty() {
                    self.machine.handle_piece_unlinked(fetch, end);
                } else {
                    self.machine.handle_mixture_unlinked(fetch, end, &digests);
                }
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

    fn handle_linked(&mut self, fetch: FetchId, piece: PieceIndex, parts: &[Brought], now: Instant) {
        // Where it was cancelled after it had committed, its piece was given up then.
        let Some(running) = self.running.remove(&fetch) else { return };
        let longest = parts.iter().map(|part| part.timing.first_byte + part.timing.transfer).max();
        self.context.metrics.piece_fetched(longest.unwrap_or_default());
        for Brought { source, timing, .. } in parts {
            self.tally.add(Source::Peer, timing.bytes);
            *self.given.entry(Some(*source)).or_default() += timing.bytes;
            self.context.metrics.bytes_received(Source::Peer, timing.bytes);
            self.context.metrics.peer_answered(timing.first_byte);
            if let Some(peer) = self.peers.get(source) {
                self.context.note_success(peer, *timing, now);
                self.context.note_tried(&self.shared.want.id, peer, true);
            }
        }
        self.machine.handle_piece_linked(fetch);
        // The machine may have cancelled the fetch a moment ago.
        if let Some(link) = running.link {
            self.give_up_unlinked(piece, &link);
        }
    }

    /// Tells those who serve peers what these may have now.
    fn show_held(&mut self) {
        let (revision, intent) = (self.machine.revision(), self.machine.intent());
        if self.shown != Some((revision, intent)) {
            self.note_intent(intent);
            self.shown = Some((revision, intent));
            self.shared.window.show(self.machine.servable(), intent);
        }
    }

    /// For the log: what nodes of the local network hear of us, but not each step of a walk.
    fn note_intent(&self, now: Option<Intent>) {
        let before = self.shown.and_then(|(_, intent)| intent);
        let on_the_way = matches!((before, now), (Some(Intent::Walks(_)), Some(Intent::Walks(_))));
        if before != now && !on_the_way {
            debug!(object = %self.shared.want.id, name = self.shared.want.name, ?before, ?now, "what the local network hears of us");
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

/// Where an object is put together: on disk, in memory where the disk has no room.
pub(super) fn canvas(context: &Context, id: Sha256, geometry: Geometry) -> Result<Canvas, StoreError> {
    let assembly = match context.store.assemble(id, geometry) {
        Err(StoreError::Full { .. }) => context.store.assemble_in_memory(id, geometry)?,
        other => other?,
    };
    Ok(Canvas::new(assembly, context.metrics.clone()))
}
