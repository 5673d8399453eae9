//! A piece on its way from one peer or several: its buffer, and which parts of it are here.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::fetch::Timing;
use super::places::Place;
use crate::swarm::{FetchId, SourceId};

/// The buffer of a piece, which all who bring a part of it share: the parts need no memory of their own.
#[derive(Debug)]
pub(super) struct Sheet {
    piece: Range<u64>,
    pad: Mutex<Pad>,
    whole: Notify,
}

#[derive(Debug)]
pub(super) struct Pad {
    /// None before the piece's own fetch has a place, and after the piece is put where it belongs or given up.
    place: Option<Place>,
    brought: Vec<Brought>,
}

/// A part that is here.
#[derive(Debug, Clone)]
pub(super) struct Brought {
    pub(super) fetch: FetchId,
    pub(super) source: SourceId,
    pub(super) range: Range<u64>,
    pub(super) timing: Timing,
}

/// What one fetch is to bring of a piece. Its end moves when the rest is left to somebody else.
#[derive(Debug)]
pub(super) struct Span {
    asked: Range<u64>,
    state: Mutex<Reach>,
    cut: Notify,
}

#[derive(Debug)]
struct Reach {
    at: u64,
    end: u64,
    /// It was given up: what is here of it counts for nothing.
    closed: bool,
}

impl Sheet {
    /// A sheet for the piece with these bytes, without its buffer.
    pub(super) fn new(piece: Range<u64>) -> Self {
        Self { piece, pad: Mutex::new(Pad { place: None, brought: Vec::new() }), whole: Notify::new() }
    }

    /// Gives it its buffer, which is empty.
    pub(super) fn furnish(&self, place: Place) {
        self.lock().place = Some(place);
    }

    /// Gives its buffer back.
    pub(super) fn close(&self) {
        let place = self.lock().place.take();
        drop(place);
    }

    /// Puts down what comes next of a span, as far as that goes; says how much that was. None where the piece is given up.
    pub(super) fn put(&self, span: &Span, bytes: &[u8]) -> Option<usize> {
        let mut reach = lock(&span.state);
        let room = usize::try_from(reach.end - reach.at).unwrap_or(usize::MAX);
        let bytes = &bytes[..room.min(bytes.len())];
        let from = usize::try_from(reach.at - self.piece.start).ok()?;
        let mut pad = self.lock();
        let buffer = &mut pad.place.as_mut()?.buffer;
        if from == buffer.len() {
            buffer.extend_from_slice(bytes);
        } else {
            if buffer.len() < from + bytes.len() {
                buffer.resize(usize::try_from(self.piece.end - self.piece.start).ok()?, 0);
            }
            buffer.get_mut(from..from + bytes.len())?.copy_from_slice(bytes);
        }
        reach.at += bytes.len() as u64;
        Some(bytes.len())
    }

    /// A part is here, all of its span; says whether it still counts.
    pub(super) fn note_brought(&self, span: &Span, brought: Brought) -> bool {
        let reach = lock(&span.state);
        if reach.closed {
            return false;
        }
        let mut pad = self.lock();
        pad.brought.push(brought);
        if pad.covered() == self.piece.end - self.piece.start {
            self.whole.notify_one();
        }
        true
    }

    /// Waits until all parts are here. For one at a time.
    pub(super) async fn whole(&self) {
        while self.lock().covered() < self.piece.end - self.piece.start {
            self.whole.notified().await;
        }
    }

    /// What `look` makes of the bytes and the parts that they came in; None where the piece is given up.
    pub(super) fn read<T>(&self, look: impl FnOnce(&[u8], &[Brought]) -> T) -> Option<T> {
        let pad = self.lock();
        pad.place.as_ref().map(|place| look(&place.buffer, &pad.brought))
    }

    /// Where a part lies in the buffer.
    pub(super) fn within(&self, range: &Range<u64>) -> Range<usize> {
        let at = |offset: u64| usize::try_from(offset.saturating_sub(self.piece.start)).unwrap_or(usize::MAX);
        at(range.start)..at(range.end)
    }

    fn lock(&self) -> MutexGuard<'_, Pad> {
        lock(&self.pad)
    }
}

impl Pad {
    fn covered(&self) -> u64 {
        self.brought.iter().map(|brought| brought.range.end - brought.range.start).sum()
    }
}

impl Span {
    pub(super) fn new(range: Range<u64>) -> Self {
        let (at, end) = (range.start, range.end);
        Self { asked: range, state: Mutex::new(Reach { at, end, closed: false }), cut: Notify::new() }
    }

    /// What the peer is asked for.
    pub(super) fn asked(&self) -> Range<u64> {
        self.asked.clone()
    }

    /// What is here of it.
    pub(super) fn here(&self) -> Range<u64> {
        self.asked.start..lock(&self.state).at
    }

    /// Whether nothing more is wanted of it, although more was asked for.
    pub(super) fn is_cut_off(&self) -> bool {
        let reach = lock(&self.state);
        reach.at == reach.end && reach.end < self.asked.end
    }

    /// Leaves what is behind `at` to somebody else; says where that begins, for more may be here already. Nothing that comes
    /// later is put down behind it.
    pub(super) fn cut(&self, at: u64) -> u64 {
        let mut reach = lock(&self.state);
        reach.end = at.max(reach.at).min(reach.end);
        self.cut.notify_one();
        reach.end
    }

    /// Takes nothing more, and gives up what is here.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.cut(0);
    }

    /// Waits until it is cut off where it is. For one at a time.
    pub(super) async fn cut_off(&self) {
        while !self.is_cut_off() {
            self.cut.notified().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::places::Places;
    use std::time::Duration;

    fn brought(number: u64, span: &Span) -> Brought {
        let timing =
            Timing { first_byte: Duration::ZERO, transfer: Duration::ZERO, bytes: 0, held_back: false };
        let (fetch, source) = (FetchId::numbered(number), SourceId::numbered(0));
        Brought { fetch, source, range: span.here(), timing }
    }

    async fn sheet() -> Sheet {
        let sheet = Sheet::new(100..110);
        sheet.furnish(Places::new(1).take(10).await.unwrap());
        sheet
    }

    fn text(sheet: &Sheet) -> String {
        sheet.read(|bytes, _| String::from_utf8_lossy(bytes).into_owned()).unwrap()
    }

    #[tokio::test]
    async fn two_bring_a_piece_and_what_is_cut_off_is_the_others() {
        let (sheet, own) = (sheet().await, Span::new(100..110));
        assert_eq!(sheet.put(&own, b"abc"), Some(3));
        assert_eq!(own.cut(106), 106);
        let helper = Span::new(106..110);
        assert_eq!(sheet.put(&helper, b"ghij"), Some(4));
        assert!(sheet.note_brought(&helper, brought(2, &helper)));
        assert_eq!(sheet.put(&own, b"defxyz"), Some(3), "what is behind the cut is not put down");
        assert!(own.is_cut_off() && !helper.is_cut_off());
        assert!(sheet.note_brought(&own, brought(1, &own)));
        sheet.whole().await;
        assert_eq!(text(&sheet), "abcdefghij");
    }

    #[tokio::test]
    async fn what_is_here_already_is_not_cut_off() {
        let (sheet, own) = (sheet().await, Span::new(100..110));
        sheet.put(&own, b"abcde");
        assert_eq!(own.cut(102), 105);
        own.cut_off().await;
        let late = Span::new(100..110);
        sheet.put(&late, b"0123456789");
        assert_eq!(late.cut(103), 110, "it is through");
        assert!(!late.is_cut_off());
    }

    #[tokio::test]
    async fn what_is_given_up_counts_for_nothing_and_changes_nothing() {
        let (sheet, own, helper) = (sheet().await, Span::new(100..106), Span::new(106..110));
        sheet.put(&helper, b"gh");
        helper.close();
        assert_eq!(sheet.put(&helper, b"xx"), Some(0));
        assert!(!sheet.note_brought(&helper, brought(2, &helper)));
        let again = Span::new(106..110);
        sheet.put(&again, b"GHIJ");
        assert!(sheet.note_brought(&again, brought(3, &again)));
        sheet.put(&own, b"abcdef");
        assert!(sheet.note_brought(&own, brought(1, &own)));
        sheet.whole().await;
        assert_eq!(text(&sheet), "abcdefGHIJ");
        sheet.close();
        assert_eq!(sheet.put(&again, b"x"), None);
    }
}
