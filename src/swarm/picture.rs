//! How far a download is, for people to look at.

use std::collections::BTreeMap;

use super::download::{Download, Fetch};
use crate::pieces::PieceIndex;

/// How far a piece is, or the pieces of one cell of a [`Picture`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceStage {
    /// Nobody fetches it.
    Missing,
    /// Somebody fetches it.
    UnderWay,
    /// It is here and fits the chain.
    Linked,
    /// It has been handed out.
    Released,
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The pieces in order; where there are too many, several share a cell, and it is as far as the least of them, or
    /// under way where any is.
    pub cells: Vec<PieceStage>,
    /// How many pieces the object has.
    pub pieces: PieceIndex,
    /// How many of them are linked.
    pub linked: PieceIndex,
    /// How many are being fetched.
    pub under_way: PieceIndex,
    /// How many of the linked ones an earlier download has left.
    pub resumed: PieceIndex,
    /// Bytes that are here, of pieces that are still being fetched, too. Falls back where such a fetch comes to nothing.
    pub held: u64,
    /// Bytes of pieces that peers are sending. They are nobody's merit before the piece is whole.
    pub arriving: u64,
    /// Bytes from the start that have been handed out.
    pub released: u64,
}

impl Download {
    /// How far it is, in `most` cells at most.
    pub fn picture(&self, most: usize) -> Picture {
        let geometry = self.geometry();
        let stages = self.stages();
        let count = |wanted: fn(&PieceStage) -> bool| {
            PieceIndex::try_from(stages.iter().filter(|stage| wanted(stage)).count())
                .unwrap_or(PieceIndex::MAX)
        };
        let linked = |piece: &PieceIndex| self.ledger.is_linked(*piece);
        let length = |piece: PieceIndex| {
            let range = geometry.range(piece);
            range.end - range.start
        };
        let under_way: u64 = self.bytes_under_way().values().sum();
        let whole: u64 = (0..geometry.pieces()).filter(linked).map(length).sum();
        Picture {
            pieces: geometry.pieces(),
            linked: count(|stage| matches!(stage, PieceStage::Linked | PieceStage::Released)),
            under_way: count(|stage| *stage == PieceStage::UnderWay),
            resumed: PieceIndex::try_from(self.resumed.count()).unwrap_or(PieceIndex::MAX),
            held: (whole + under_way).min(geometry.length()),
            arriving: self.fetches.values().map(|fetch| self.arrived(fetch)).sum(),
            released: self.released,
            cells: cells(&stages, most),
        }
    }

    fn stages(&self) -> Vec<PieceStage> {
        let geometry = self.geometry();
        let stage = |piece| match self.ledger.is_linked(piece) {
            true if geometry.range(piece).end <= self.released => PieceStage::Released,
            true => PieceStage::Linked,
            false => PieceStage::Missing,
        };
        let mut stages: Vec<PieceStage> = (0..geometry.pieces()).map(stage).collect();
        for fetch in self.fetches.values() {
            let (Fetch::Piece { piece, .. } | Fetch::Walk { piece, .. }) = fetch;
            if let Some(stage @ PieceStage::Missing) = stages.get_mut(*piece as usize) {
                *stage = PieceStage::UnderWay;
            }
        }
        stages
    }

    /// How much is here of each piece that is not linked yet; of one that several fetch, what the furthest of them has.
    fn bytes_under_way(&self) -> BTreeMap<PieceIndex, u64> {
        let mut pieces = BTreeMap::new();
        for fetch in self.fetches.values() {
            let (Fetch::Piece { piece, .. } | Fetch::Walk { piece, .. }) = fetch;
            let furthest: &mut u64 = pieces.entry(*piece).or_default();
            *furthest = (*furthest).max(self.walked(fetch)).max(self.arrived(fetch));
        }
        pieces
    }

    /// The bytes of a piece that is not linked yet, and is being walked.
    fn walked(&self, fetch: &Fetch) -> u64 {
        match fetch {
            Fetch::Walk { piece, offset, .. } if !self.ledger.is_linked(*piece) => {
                offset.saturating_sub(self.geometry().range(*piece).start)
            }
            _ => 0,
        }
    }

    /// The same where a peer sends it. No peer sends more than the piece has, whatever it says.
    fn arrived(&self, fetch: &Fetch) -> u64 {
        match fetch {
            Fetch::Piece { piece, arrived, .. } if !self.ledger.is_linked(*piece) => {
                let range = self.geometry().range(*piece);
                (*arrived).min(range.end - range.start)
            }
            _ => 0,
        }
    }
}

fn cells(stages: &[PieceStage], most: usize) -> Vec<PieceStage> {
    let count = stages.len().min(most);
    let cell = |index: usize| {
        let part = &stages[index * stages.len() / count..(index + 1) * stages.len() / count];
        let all = |far: fn(&PieceStage) -> bool| part.iter().all(far);
        if all(|stage| *stage == PieceStage::Released) {
            PieceStage::Released
        } else if all(|stage| matches!(stage, PieceStage::Released | PieceStage::Linked)) {
            PieceStage::Linked
        } else if part.contains(&PieceStage::UnderWay) {
            PieceStage::UnderWay
        } else {
            PieceStage::Missing
        }
    };
    (0..count).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::PieceStage::{Linked, Missing, Released, UnderWay};
    use super::*;
    use crate::digest::Sha256;
    use crate::pieces::{Geometry, PIECE_LENGTH};
    use crate::swarm::{Order, PeerFault, PeerKind, Prefer, Standing};
    use std::time::Instant;

    #[test]
    fn many_pieces_share_cells_and_a_cell_is_as_far_as_the_least_of_its_pieces() {
        let stages = [Released, Released, Released, Linked, Linked, UnderWay, Missing, Linked];
        assert_eq!(cells(&stages, 200), stages);
        assert_eq!(cells(&stages, 4), [Released, Linked, UnderWay, Missing]);
        assert_eq!(cells(&stages, 3), [Released, Linked, UnderWay]);
        assert_eq!(cells(&[Released; 262_144], 200), [Released; 200]);
    }

    #[test]
    fn what_the_mirror_is_asked_for_is_under_way() {
        let now = Instant::now();
        let geometry = Geometry::new(3 * PIECE_LENGTH).unwrap();
        let mut download = Download::new(Sha256::of(b"x"), geometry, Prefer::Speed, now);
        assert_eq!(download.picture(9).cells, [Missing; 3]);
        download.add_mirror(None);
        download.handle_timeout(now);
        while download.poll_order().is_some() {}
        let picture = download.picture(9);
        assert_eq!((picture.cells, picture.held), (vec![UnderWay, Missing, Missing], 0));
        assert_eq!((picture.pieces, picture.linked, picture.under_way), (3, 0, 1));
    }

    #[test]
    fn what_a_peer_has_sent_of_a_piece_is_here_before_the_piece_is_whole() {
        let (now, length) = (Instant::now(), 1000);
        let geometry = Geometry::new(length).unwrap();
        let mut download = Download::new(Sha256::of(b"x"), geometry, Prefer::Speed, now);
        download.add_peer(PeerKind::Neighbour, [192, 0, 2, 1].into(), Standing::default(), now);
        download.handle_timeout(now);
        let mut orders = std::iter::from_fn(|| download.poll_order());
        let fetch = orders.find_map(|order| match order {
            Order::FetchPiece { fetch, .. } => Some(fetch),
            _ => None,
        });
        let fetch = fetch.unwrap();
        let bytes = |download: &Download| (download.picture(9).held, download.picture(9).arriving);
        assert_eq!(bytes(&download), (0, 0));
        download.handle_progress(fetch, 0, 300, now);
        download.handle_progress(fetch, 0, 100, now);
        assert_eq!(bytes(&download), (400, 400));
        download.handle_progress(fetch, 0, 5000, now);
        assert_eq!(bytes(&download), (length, length), "never more than there is");
        download.handle_piece_failure(fetch, PeerFault::Short);
        assert_eq!(bytes(&download), (0, 0));
    }
}
