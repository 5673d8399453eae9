//! What the machine orders: fetches begun, and ended before their time.

use std::ops::Range;
use std::sync::Arc;

use tokio::task::AbortHandle;
use tracing::debug;

use super::{Flight, Running};
use crate::digest::Sha256;
use crate::download::canvas::Licence;
use crate::download::fetch::{Event, Own, PieceFetch, Stream, WalkFetch};
use crate::download::origin;
use crate::download::sheet::{Sheet, Span};
use crate::peer::{News, PeerError};
use crate::pieces::{ChainWalk, Link, PieceIndex, State};
use crate::swarm::{FetchId, Order, SourceId, Walker};

impl Flight {
    /// Does what the machine has ordered, and takes note of what it has found out.
    pub(super) async fn carry_out(&mut self) {
        while let Some(order) = self.machine.poll_order() {
            match order {
                Order::AskList(source) => self.ask_list(source, None),
                Order::AwaitNews(source, wait) => {
                    let than = self.tags.get(&source).cloned();
                    self.ask_list(source, Some(News { than, wait }));
                }
                Order::FetchPiece { fetch, source, piece, start, expected, .. } => {
                    self.start_piece(fetch, source, piece, Link { start, end: expected });
                }
                Order::FetchPart { fetch, source, piece, helps, cut, range } => {
                    let range = self.cut(fetch, cut, range);
                    self.start_part(fetch, source, piece, helps, range);
                }
                Order::Compare { source, range, digest } => {
                    let bytes = self.canvas.bytes(range);
                    if tokio::task::block_in_place(|| Sha256::of(&bytes)) != digest {
                        self.machine.handle_other_bytes(source);
                    }
                }
                Order::Walk { fetch, walker, range, start } => self.start_walk(fetch, walker, range, start),
                Order::Cancel(fetch) => {
                    if let Some(running) = self.running.remove(&fetch) {
                        running.abort.abort();
                        if let Some((span, sheet)) = &running.of_piece {
                            span.close();
                            // Nobody brings anything of a piece whose own fetch is given up.
                            running.link.iter().for_each(|_| sheet.close());
                        }
                        debug!(object = %self.shared.want.id, ?fetch, walk = running.walk, pieces = ?running.pieces, "given up");
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

    fn start_piece(&mut self, fetch: FetchId, source: SourceId, piece: PieceIndex, link: Link) {
        let range = self.canvas.geometry().range(piece);
        let (span, sheet) = (Arc::new(Span::new(range.clone())), Arc::new(Sheet::new(range)));
        let licence = Licence::default();
        let own = Own { piece, start: link.start, expected: link.end, licence: licence.clone() };
        let Some(abort) = self.spawn_piece(fetch, source, &span, &sheet, Some(own)) else { return };
        let (pieces, link, of_piece) = (piece..piece + 1, Some(link), Some((span, sheet)));
        let running = Running { licence, pieces, abort, source: Some(source), walk: false, link, of_piece };
        self.running.insert(fetch, running);
    }

    fn start_part(
        &mut self,
        fetch: FetchId,
        source: SourceId,
        piece: PieceIndex,
        helps: FetchId,
        range: Range<u64>,
    ) {
        let Some((_, sheet)) = self.running.get(&helps).and_then(|own| own.of_piece.clone()) else { return };
        if range.is_empty() {
            return;
        }
        debug!(object = %self.shared.want.id, ?fetch, piece, ?range, "help with a piece");
        let span = Arc::new(Span::new(range));
        let Some(abort) = self.spawn_piece(fetch, source, &span, &sheet, None) else { return };
        let (licence, pieces, of_piece) = (Licence::default(), piece..piece + 1, Some((span, sheet)));
        let running =
            Running { licence, pieces, abort, source: Some(source), walk: false, link: None, of_piece };
        self.running.insert(fetch, running);
    }

    /// Ends a fetch where a part begins that is left to another, and says what that part is.
    fn cut(&mut self, part: FetchId, cut: Option<FetchId>, range: Range<u64>) -> Range<u64> {
        let Some(cut) = cut else { return range };
        let span = self.running.get(&cut).and_then(|running| running.of_piece.as_ref());
        let at = span.map_or(range.end, |(span, _)| span.cut(range.start)).min(range.end);
        self.machine.handle_cut(part, at);
        at..range.end
    }

    fn spawn_piece(
        &mut self,
        fetch: FetchId,
        source: SourceId,
        span: &Arc<Span>,
        sheet: &Arc<Sheet>,
        own: Option<Own>,
    ) -> Option<AbortHandle> {
        let task = PieceFetch {
            fetch,
            source,
            peer: self.address(source)?,
            span: span.clone(),
            sheet: sheet.clone(),
            own,
            canvas: self.canvas.clone(),
            client: self.context.peers.clone(),
            queue: self.context.queue.clone(),
            throttle: self.context.throttle.clone(),
            events: self.events.clone(),
        };
        Some(self.tasks.spawn(task.run()))
    }

    fn start_walk(&mut self, fetch: FetchId, walker: Walker, range: Range<u64>, start: State) {
        debug!(object = %self.shared.want.id, ?fetch, ?walker, ?range, "a walk begins");
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
        let (walk, link, of_piece) = (true, None, None);
        self.running.insert(fetch, Running { licence, pieces, abort, source, walk, link, of_piece });
    }

    /// Opens a piece again that a fetch has committed and the machine does not know as linked so: nobody vouches for its
    /// bytes, and while it is closed no walk can put others in their place. Where it was linked by other bytes a moment before,
    /// these are gone.
    pub(super) fn give_up_unlinked(&mut self, piece: PieceIndex, committed: &Link) {
        match self.machine.ledger().get(piece) {
            Some(link) if link == *committed => {}
            Some(_) => self.machine.handle_overwritten(piece),
            None => self.canvas.reopen(piece),
        }
    }
}
