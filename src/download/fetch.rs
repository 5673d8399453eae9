//! One fetch: bytes of one source, hashed as they come, into the canvas.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::canvas::{Canvas, Licence, Written};
use super::origin::{OriginBody, OriginError};
use super::places::Places;
use super::sheet::{Brought, Sheet, Span};
use crate::clock;
use crate::digest::Sha256;
use crate::http::{Throttle, Turn};
use crate::peer::{PeerBody, PeerClient, PeerError};
use crate::pieces::{ChainWalk, End, PieceIndex, State};
use crate::store::StoreError;
use crate::swarm::{FetchId, PeerFault, SourceId};
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// How much of a walk is collected at most before it is written: large writes cost a fraction of small ones.
const WRITE: usize = 1 << 20;

/// How much of a piece comes before its download is told, or how long it takes: each telling makes the download decide
/// anew, which costs more than a packet does.
const TELL_BYTES: u64 = 1 << 20;
const TELL_AFTER: Duration = Duration::from_millis(250);

/// What a fetch tells the download it belongs to.
#[derive(Debug)]
pub(super) enum Event {
    /// The peer is being asked, or its body is being read: from here on it is the peer that takes time.
    Begun(FetchId),
    /// The peer has answered; the body waits for a place.
    Answered(FetchId),
    /// Bytes have come and wait for their turn under our own limit, until the fetch is begun again.
    HeldBack(FetchId),
    /// More bytes came; for a walk its own are in the object up to `offset`.
    Progress { fetch: FetchId, offset: u64, bytes: u64 },
    /// A part of a piece is here, of several.
    PartCame(FetchId),
    /// A piece of peers is in the object.
    Linked { fetch: FetchId, piece: PieceIndex, parts: Vec<Brought> },
    /// A piece of peers led elsewhere; where several parts of it came, what each of them was.
    Unlinked { fetch: FetchId, end: End, digests: Vec<(FetchId, Sha256)> },
    /// The peer does not hold it.
    NotHeld(FetchId),
    /// The peer cannot send it now.
    Busy(FetchId),
    /// A peer failed.
    PeerFailed(FetchId, PeerFault, String),
    /// A walk came to the end of a piece.
    Walked { fetch: FetchId, end: End, whole: bool },
    /// A walk ended for good before its range did.
    WalkFailed { fetch: FetchId, fault: PeerFault, why: String },
    /// The mirror gives nothing of what a walk asked for.
    MirrorFailed(FetchId, OriginError),
    /// The mirror's `Last-Modified`.
    LastModified(String),
    /// The disk refused; nothing more can be written.
    DiskFailed(StoreError),
}

/// How quick a fetch was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// From the question to the answer's head.
    pub(super) first_byte: Duration,
    /// The body, without the time that it waited for us.
    pub(super) transfer: Duration,
    pub(super) bytes: u64,
    /// Our own limit slowed it down: it says nothing of the peer's throughput.
    pub(super) held_back: bool,
}

/// Why a fetch of a piece came to nothing.
enum Stopped {
    Peer(PeerError),
    Disk(StoreError),
    Led(End, Vec<(FetchId, Sha256)>),
    Cancelled,
}

impl From<PeerError> for Stopped {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

/// What all fetches share, so that their memory is bounded whatever the number of downloads.
#[derive(Debug)]
pub(super) struct Queue {
    /// Bodies of pieces that are read at a time; each takes a buffer of a piece's length.
    places: Places,
    /// Peers that are asked for pieces at a time; each takes a connection with its buffer. Who brings a part of a piece that has
    /// its place does not wait for others, which may wait for that place; there are three such for each place at most.
    questions: Semaphore,
    /// Walks under way, which share [`WALK_MEMORY`].
    walks: AtomicUsize,
}

/// Questions for each place: peers that do not answer must not keep those that do from being asked.
const QUESTIONS_PER_PLACE: usize = 2;

/// What all walks together may collect before they write, in bytes.
const WALK_MEMORY: usize = 4 << 20;

/// The least that a walk collects before it writes, in bytes.
const LEAST_WRITE: usize = 64 << 10;

impl Queue {
    pub(super) fn new(places: NonZeroUsize) -> Self {
        Self {
            places: Places::new(places.get()),
            questions: Semaphore::new(places.get().saturating_mul(QUESTIONS_PER_PLACE)),
            walks: AtomicUsize::new(0),
        }
    }

    /// How much a walk should collect before it writes, while as many walk as now.
    fn write_size(&self) -> usize {
        (WALK_MEMORY / self.walks.load(Ordering::Relaxed).max(1)).clamp(LEAST_WRITE, WRITE)
    }
}

/// A walk that counts among those under way.
struct Walking<'a>(&'a AtomicUsize);

impl<'a> Walking<'a> {
    fn among(queue: &'a Queue) -> Self {
        queue.walks.fetch_add(1, Ordering::Relaxed);
        Self(&queue.walks)
    }
}

impl Drop for Walking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a fetch of a piece needs, or of a part of one.
pub(super) struct PieceFetch {
    pub(super) fetch: FetchId,
    pub(super) source: SourceId,
    pub(super) peer: std::net::SocketAddr,
    pub(super) span: Arc<Span>,
    pub(super) sheet: Arc<Sheet>,
    /// What becomes of the piece; none where this helps another fetch, which knows that.
    pub(super) own: Option<Own>,
    pub(super) canvas: Arc<Canvas>,
    pub(super) client: PeerClient,
    pub(super) queue: Arc<Queue>,
    pub(super) throttle: Throttle,
    pub(super) events: mpsc::Sender<Event>,
}

/// What a piece is, and the right to put it into the object.
pub(super) struct Own {
    pub(super) piece: PieceIndex,
    pub(super) start: State,
    pub(super) expected: End,
    pub(super) licence: Licence,
}

impl PieceFetch {
    pub(super) async fn run(self) {
        let fetch = self.fetch;
        let mut delay = OwnDelay::default();
        let result = self.fetch(&mut delay).await;
        if self.own.is_some() {
            self.sheet.close();
        }
        let event = match result {
            Ok(event) => event,
            Err(Stopped::Led(end, digests)) => Event::Unlinked { fetch, end, digests },
            Err(Stopped::Peer(PeerError::NotHeld)) => Event::NotHeld(fetch),
            Err(Stopped::Peer(PeerError::Busy)) => Event::Busy(fetch),
            Err(Stopped::Peer(PeerError::Fault { fault, .. })) if delay.excuses(fault) => {
                Event::NotHeld(fetch)
            }
            Err(Stopped::Peer(PeerError::Fault { fault, detail })) => Event::PeerFailed(fetch, fault, detail),
            Err(Stopped::Disk(error)) => Event::DiskFailed(error),
            Err(Stopped::Cancelled) => return,
        };
        self.tell(event).await;
    }

    async fn fetch(&self, delay: &mut OwnDelay) -> Result<Event, Stopped> {
        let Some(own) = &self.own else {
            self.receive(None, None, delay).await?;
            return Ok(Event::PartCame(self.fetch));
        };
        let Ok(question) = self.queue.questions.acquire().await else { return Err(Stopped::Cancelled) };
        let mut walk = ChainWalk::from_state(own.start);
        self.receive(Some(&mut walk), Some(question), delay).await?;
        let here = self.span.here();
        if here != self.canvas.geometry().range(own.piece) {
            self.tell(Event::PartCame(self.fetch)).await;
        }
        self.sheet.whole().await;
        self.link(own, walk, self.sheet.within(&here).end)
    }

    /// Takes what the peer sends of its span; `walk` goes over it. The question is answered when this ends.
    async fn receive(
        &self,
        mut walk: Option<&mut ChainWalk>,
        _question: Option<SemaphorePermit<'_>>,
        delay: &mut OwnDelay,
    ) -> Result<(), Stopped> {
        let asked_for = self.span.asked();
        let length = asked_for.end - asked_for.start;
        self.tell(Event::Begun(self.fetch)).await;
        let asked = clock::now();
        let (id, of) = (self.canvas.assembly().id(), self.canvas.geometry().length());
        let mut body = self.client.open(self.peer, id, asked_for, of).await?;
        let first_byte = clock::now() - asked;
        self.tell(Event::Answered(self.fetch)).await;
        if self.own.is_some() {
            let room = usize::try_from(length).unwrap_or(0);
            let Some(place) = self.queue.places.take(room).await else { return Err(Stopped::Cancelled) };
            self.sheet.furnish(place);
        }
        self.tell(Event::Begun(self.fetch)).await;
        let begun = clock::now();
        delay.0 += begun.saturating_duration_since(asked + first_byte);
        let mut held_back = Duration::ZERO;
        let (mut untold, mut told) = (0, begun);
        while !self.span.is_cut_off() {
            let next = tokio::select! {
                biased;
                next = body.next() => next?,
                () = self.span.cut_off() => None,
            };
            let Some(mut bytes) = next else { break };
            while !bytes.is_empty() && !self.span.is_cut_off() {
                let mut turn = self.throttle.turn(bytes.len());
                if !turn.is_now() {
                    let waited = hold_back(&mut turn, self.fetch, &self.events).await;
                    (held_back, delay.0) = (held_back + waited, delay.0 + waited);
                }
                let part = bytes.split_to(turn.bytes());
                let taken = self.sheet.put(&self.span, &part).ok_or(Stopped::Cancelled)?;
                walk.iter_mut().for_each(|walk| walk.update(&part[..taken]));
                untold += taken as u64;
                if untold >= TELL_BYTES || clock::now() - told >= TELL_AFTER {
                    self.tell(Event::Progress { fetch: self.fetch, offset: 0, bytes: untold }).await;
                    (untold, told) = (0, clock::now());
                }
            }
        }
        if untold > 0 {
            self.tell(Event::Progress { fetch: self.fetch, offset: 0, bytes: untold }).await;
        }
        let range = self.span.here();
        let bytes = range.end - range.start;
        let transfer = (clock::now() - begun).saturating_sub(held_back);
        let timing = Timing { first_byte, transfer, bytes, held_back: !held_back.is_zero() };
        let brought = Brought { fetch: self.fetch, source: self.source, range, timing };
        if self.sheet.note_brought(&self.span, brought) { Ok(()) } else { Err(Stopped::Cancelled) }
    }

    /// Walks over what others have brought, from `from` in the buffer on, and puts the piece where it belongs.
    fn link(&self, own: &Own, mut walk: ChainWalk, from: usize) -> Result<Event, Stopped> {
        let (fetch, piece) = (self.fetch, own.piece);
        let geometry = self.canvas.geometry();
        let look = |bytes: &[u8], parts: &[Brought]| {
            walk.update(bytes.get(from..).unwrap_or_default());
            let end = end_of(walk, piece == geometry.last(), geometry.length());
            if end != Some(own.expected) {
                let Some(end) = end else { return Err(Stopped::Peer(PeerError::NotHeld)) };
                let digest = |part: &Brought| {
                    let bytes = bytes.get(self.sheet.within(&part.range)).unwrap_or_default();
                    (part.fetch, Sha256::of(bytes))
                };
                let several = if parts.len() > 1 { parts } else { &[] };
                return Err(Stopped::Led(end, several.iter().map(digest).collect()));
            }
            match self.canvas.commit(piece, bytes, &own.licence).map_err(Stopped::Disk)? {
                Written::Cancelled => Err(Stopped::Cancelled),
                Written::Done | Written::Skipped => Ok(Event::Linked { fetch, piece, parts: parts.to_vec() }),
            }
        };
        write(&self.canvas, || self.sheet.read(look)).unwrap_or(Err(Stopped::Cancelled))
    }

    async fn tell(&self, event: Event) {
        // A download that has ended hears nothing, and aborts this task.
        let _ = self.events.send(event).await;
    }
}

/// How long a fetch waited for us, be it for a place or for its turn.
#[derive(Debug, Default)]
struct OwnDelay(Duration);

/// A server may give up a client that takes nothing for a while; whoever waited this long for us is not to blame for it.
const OWN_DELAY: Duration = Duration::from_secs(10);

impl OwnDelay {
    /// Whether a fault is our own doing.
    fn excuses(&self, fault: PeerFault) -> bool {
        self.0 >= OWN_DELAY && matches!(fault, PeerFault::Short | PeerFault::Stalled)
    }
}

/// Waits for a turn, and tells the download that nobody else is waited for meanwhile; how long it took.
async fn hold_back(turn: &mut Turn, fetch: FetchId, events: &mpsc::Sender<Event>) -> Duration {
    let since = clock::now();
    // A download that has ended hears nothing, and aborts this task.
    let _ = events.send(Event::HeldBack(fetch)).await;
    turn.come().await;
    let _ = events.send(Event::Begun(fetch)).await;
    clock::now() - since
}

/// What bytes lead to: the state behind an inner piece, the digest behind the last.
fn end_of(walk: ChainWalk, last: bool, length: u64) -> Option<End> {
    if last { Some(End::Digest(walk.finish(length))) } else { walk.state().map(End::State) }
}

/// Writes without holding up the other tasks of this thread: the disk may take its time.
fn write<T>(canvas: &Canvas, write: impl FnOnce() -> T) -> T {
    if canvas.assembly().is_in_memory() { write() } else { tokio::task::block_in_place(write) }
}

/// Where a walk's bytes come from.
pub(super) enum Stream {
    Mirror(Box<OriginBody>),
    Peer(Box<PeerBody>),
}

impl Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, (PeerFault, String)> {
        match self {
            Self::Mirror(body) => body.next().await.map_err(|error| (PeerFault::Short, error.to_string())),
            Self::Peer(body) => body.next().await.map_err(|error| match error {
                PeerError::Fault { fault, detail } => (fault, detail),
                PeerError::NotHeld | PeerError::Busy => (PeerFault::Short, error.to_string()),
            }),
        }
    }
}

/// A walk: bytes in order, written as they come, the state told at the end of each piece.
pub(super) struct WalkFetch {
    pub(super) fetch: FetchId,
    pub(super) until: u64,
    pub(super) licence: Licence,
    pub(super) canvas: Arc<Canvas>,
    pub(super) queue: Arc<Queue>,
    pub(super) throttle: Throttle,
    pub(super) events: mpsc::Sender<Event>,
    /// Where it is.
    pub(super) offset: u64,
    pub(super) chain: ChainWalk,
    /// Whether every byte of the present piece so far was written by this walk.
    pub(super) whole: bool,
    /// How far the bytes are this walk's own. What it skips is a peer's, and not for the mirror to vouch for.
    pub(super) solid: u64,
}

impl WalkFetch {
    /// Walks over `stream` from where it is to its end.
    pub(super) async fn run(mut self, mut stream: Stream) {
        let fetch = self.fetch;
        let mut delay = OwnDelay::default();
        let of_peer = matches!(stream, Stream::Peer(_));
        let event = match self.walk(&mut stream, &mut delay).await {
            Ok(()) => return,
            Err(WalkStop::Source(fault, _)) if of_peer && delay.excuses(fault) => Event::NotHeld(fetch),
            Err(WalkStop::Source(fault, why)) => Event::WalkFailed { fetch, fault, why },
            Err(WalkStop::Disk(error)) => Event::DiskFailed(error),
            Err(WalkStop::Cancelled) => return,
        };
        let _ = self.events.send(event).await;
    }

    async fn walk(&mut self, stream: &mut Stream, delay: &mut OwnDelay) -> Result<(), WalkStop> {
        let queue = self.queue.clone();
        let _walking = Walking::among(&queue);
        let mut pending: Vec<u8> = Vec::new();
        while self.offset + (pending.len() as u64) < self.until {
            // What has arrived is written at once when nothing more is there, so that a slow source is not held back
            // for the sake of a large write.
            let mut next = std::pin::pin!(stream.next());
            let next = match futures_util::poll!(next.as_mut()) {
                std::task::Poll::Ready(next) => next,
                std::task::Poll::Pending => {
                    self.flush(&mut pending).await?;
                    next.await
                }
            };
            let Some(mut bytes) = next.map_err(|(fault, why)| WalkStop::Source(fault, why))? else {
                self.flush(&mut pending).await?;
                return Err(WalkStop::Source(PeerFault::Short, "the body ended early".into()));
            };
            while !bytes.is_empty() {
                let mut turn = self.throttle.turn(bytes.len());
                if !turn.is_now() {
                    // What had its turn goes on to apt while the rest waits.
                    self.flush(&mut pending).await?;
                    delay.0 += hold_back(&mut turn, self.fetch, &self.events).await;
                }
                pending.extend_from_slice(&bytes.split_to(turn.bytes()));
                if pending.len() >= queue.write_size() {
                    self.flush(&mut pending).await?;
                }
            }
        }
        self.flush(&mut pending).await
    }

    /// Writes what is pending, piece by piece.
    async fn flush(&mut self, pending: &mut Vec<u8>) -> Result<(), WalkStop> {
        let left = usize::try_from(self.until - self.offset).unwrap_or(usize::MAX);
        pending.truncate(left);
        let mut rest = &pending[..];
        while !rest.is_empty() {
            let geometry = self.canvas.geometry();
            let piece = geometry.piece_at(self.offset);
            let room = usize::try_from(geometry.range(piece).end - self.offset).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            rest = later;
            self.chain.update(now);
            let written = write(&self.canvas, || self.canvas.paint(piece, self.offset, now, &self.licence))
                .map_err(WalkStop::Disk)?;
            match written {
                Written::Cancelled => return Err(WalkStop::Cancelled),
                Written::Skipped => self.whole = false,
                Written::Done => {}
            }
            self.offset += now.len() as u64;
            if self.whole {
                self.solid = self.offset;
            }
            let progress = Event::Progress { fetch: self.fetch, offset: self.solid, bytes: now.len() as u64 };
            self.tell(progress).await;
            if self.offset == geometry.range(piece).end {
                self.end_piece(piece).await;
            }
        }
        pending.clear();
        Ok(())
    }

    async fn end_piece(&mut self, piece: PieceIndex) {
        let geometry = self.canvas.geometry();
        if let Some(end) = end_of(self.chain.clone(), piece == geometry.last(), geometry.length()) {
            self.tell(Event::Walked { fetch: self.fetch, end, whole: self.whole }).await;
        }
        self.whole = true;
    }

    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }
}

enum WalkStop {
    Source(PeerFault, String),
    Disk(StoreError),
    Cancelled,
}
