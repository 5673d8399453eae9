//! Pieces of peers, and parts of them, as they come.

use std::ops::Range;

use aptpeer::pieces::{End, PieceIndex, State};
use aptpeer::swarm::{FetchId, SourceId};

use super::{Event, MIXED, Piece, SLICE, World, digest_of, step};

impl World {
    pub(super) fn ask(
        &mut self,
        fetch: FetchId,
        source: SourceId,
        piece: PieceIndex,
        range: Range<u64>,
        link: Option<(State, End)>,
        helps: Option<FetchId>,
    ) {
        let who = self.source(source);
        let source = self.sources[who].clone();
        let mut left = range.end - range.start;
        self.pieces.insert(fetch, Piece { who, piece, link, range, got: 0, helps, brought: Vec::new() });
        self.machine.handle_begun(fetch, self.now);
        if source.empty_handed || (helps.is_some() && source.whole_only) {
            self.at(self.now + source.latency, Event::NotHeld(fetch));
        } else if source.dead {
            self.at(self.now + source.latency, Event::PieceFails(fetch));
        } else if !source.silent {
            let mut done = self.now + source.latency;
            while left > 0 {
                let bytes = left.min(SLICE);
                left -= bytes;
                done = Self::transfer(done, bytes, &source);
                if left == 0 && source.stalls_at == Some(piece) {
                    break;
                }
                self.at(done, Event::PieceBytes(fetch, bytes));
            }
        }
    }

    /// Leaves the end of what a fetch is to bring to another; says where that begins.
    pub(super) fn cut(&mut self, fetch: FetchId, at: u64) -> u64 {
        let piece = self.pieces.get_mut(&fetch).unwrap();
        piece.range.end = at.max(piece.range.start + piece.got).min(piece.range.end);
        let end = piece.range.end;
        if piece.range.start + piece.got == end {
            self.at(self.now, Event::PieceBytes(fetch, 0));
        }
        end
    }

    pub(super) fn piece_bytes(&mut self, fetch: FetchId, bytes: u64) {
        let Some(part) = self.pieces.get_mut(&fetch) else { return };
        let length = part.range.end - part.range.start;
        let bytes = bytes.min(length - part.got);
        if part.brought.iter().any(|(of, ..)| *of == fetch) {
            return;
        }
        part.got += bytes;
        let (who, here, at) = (part.who, part.got == length, part.range.start + part.got);
        self.carried[who] += bytes;
        if bytes > 0 {
            self.machine.handle_progress(fetch, 0, bytes, self.now);
            self.machine.handle_position(fetch, at);
        }
        if here {
            self.part_came(fetch);
        }
    }

    pub(super) fn part_came(&mut self, fetch: FetchId) {
        let Piece { who, piece, range, helps, .. } = &self.pieces[&fetch];
        let (own, whole) = (helps.unwrap_or(fetch), self.geometry.range(*piece));
        let brought = (fetch, range.clone(), (self.sources[*who].variant)(*piece));
        if *range != whole {
            self.machine.handle_part_came(fetch);
        }
        if own != fetch {
            self.pieces.remove(&fetch);
        }
        let Some(of) = self.pieces.get_mut(&own) else { return };
        of.brought.push(brought);
        let here: u64 = of.brought.iter().map(|(_, range, _)| range.end - range.start).sum();
        if here == whole.end - whole.start {
            self.piece_whole(own);
        }
    }

    pub(super) fn piece_whole(&mut self, fetch: FetchId) {
        let Piece { piece, link, brought, .. } = self.pieces.remove(&fetch).unwrap();
        let (start, expected) = link.unwrap();
        let first = brought[0].2;
        // Of different bytes another piece comes than any of those who sent them has.
        let variant = if brought.iter().all(|(.., variant)| *variant == first) { first } else { MIXED };
        let led = step(self.geometry, start, piece, variant);
        if led != expected {
            let digests: Vec<_> =
                brought.iter().map(|(of, range, variant)| (*of, digest_of(range, *variant))).collect();
            return match digests.len() {
                1 => self.machine.handle_piece_unlinked(fetch, led),
                _ => {
                    self.mixtures += 1;
                    self.machine.handle_mixture_unlinked(fetch, led, &digests);
                }
            };
        }
        self.write(piece, variant);
        self.committed[piece as usize] = true;
        self.machine.handle_piece_linked(fetch);
    }
}
