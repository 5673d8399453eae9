//! Pieces of peers, and parts of them, as they come.

use std::collections::BTreeSet;
use std::ops::Range;

use aptpeer::swarm::FetchId;

use super::{Event, MIXED, World};
use crate::net::Host;
use crate::node::{Fetch, From, Node};
use crate::object::Variant;

impl World {
    /// A part of a piece came, most often all of it.
    pub(super) fn piece_came(&mut self, host: Host, fetch: FetchId) {
        let Some(entry) = self.nodes[host].fetches.get(&fetch) else { return };
        let From::Node(other) = entry.from else { return };
        let (own, range) = (entry.helps.unwrap_or(fetch), entry.range.clone());
        let brought = (fetch, other, range.clone(), self.nodes[other].sends(entry.piece));
        let node = &mut self.nodes[host];
        if own != fetch {
            node.fetches.remove(&fetch);
        }
        let Some(piece) = node.fetches.get_mut(&own) else { return };
        piece.brought.push(brought);
        let whole = self.object.geometry.range(piece.piece);
        if range != whole {
            node.machine.as_mut().unwrap().handle_part_came(fetch);
        }
        let here: u64 = piece.brought.iter().map(|(_, _, range, _)| range.end - range.start).sum();
        if here == whole.end - whole.start {
            self.piece_whole(host, own);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn piece_whole(&mut self, host: Host, fetch: FetchId) {
        let node = &mut self.nodes[host];
        let Some(entry) = node.fetches.remove(&fetch) else { return };
        let variants: BTreeSet<Variant> = entry.brought.iter().map(|(.., variant)| *variant).collect();
        // Of different bytes another piece comes than any of those who sent them has.
        let variant = if variants.len() == 1 { entry.brought[0].3 } else { MIXED };
        let led = self.object.led(entry.start, entry.piece, variant);
        let machine = node.machine.as_mut().unwrap();
        if Some(led) == entry.expected {
            node.content[entry.piece as usize] = Some(variant);
            machine.handle_piece_linked(fetch);
            for (_, other, range, _) in entry.brought {
                node.carried.entry(other).or_default().push((self.now, (range.end - range.start) as f64));
            }
            return;
        }
        let length = self.object.geometry.range(entry.piece);
        self.wasted += (length.end - length.start) as f64;
        let digest = |(of, _, range, variant): &(FetchId, Host, Range<u64>, Variant)| {
            (*of, self.object.digest_of(range, *variant))
        };
        let digests: Vec<_> = entry.brought.iter().map(digest).collect();
        if digests.len() > 1 {
            machine.handle_mixture_unlinked(fetch, led, &digests);
        } else {
            machine.handle_piece_unlinked(fetch, led);
        }
    }

    /// Leaves the end of what a fetch is to bring to another; says where that begins.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn cut(&mut self, host: Host, fetch: FetchId, at: u64) -> u64 {
        let entry = self.nodes[host].fetches.get_mut(&fetch).unwrap();
        let Some(flow) = entry.flow else { return entry.range.end };
        let come = entry.range.start + self.net.done(flow, self.now).ceil() as u64;
        entry.range.end = at.max(come).min(entry.range.end);
        self.net.shorten(flow, entry.range.end - entry.range.start, self.now);
        entry.range.end
    }

    pub(super) fn start_part(&mut self, host: Host, fetch: FetchId, cut: Option<FetchId>, mut part: Fetch) {
        let From::Node(other) = part.from else { return };
        if let Some(cut) = cut {
            part.range.start = self.cut(host, cut, part.range.start).min(part.range.end);
            self.nodes[host].machine.as_mut().unwrap().handle_cut(fetch, part.range.start);
        }
        if !part.range.is_empty() {
            self.nodes[host].fetches.insert(fetch, part);
            self.nodes[host].machine.as_mut().unwrap().handle_begun(fetch, self.now);
            self.at(self.now + self.round_trip(host, other), Event::Answer(host, fetch));
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn tell_positions(&mut self, host: Host) {
        let Node { machine: Some(machine), fetches, .. } = &mut self.nodes[host] else { return };
        for (fetch, entry) in fetches {
            if let Some(flow) = entry.flow.filter(|_| entry.walk.is_none()) {
                machine.handle_position(*fetch, entry.range.start + self.net.done(flow, self.now) as u64);
            }
        }
    }
}
