//! Piece-hash lists as claims: who says what, who agrees, and how far that is to be trusted.

use super::source::{Group, PeerKind, SourceId};
use crate::pieces::{End, Link, PieceIndex, PieceList, State};

/// Whether what links under a list may be released before the object is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// A stranger's word alone: it may work the backward front only.
    Lone,
    /// A neighbour's word, or that of two groups which share no network.
    Open,
}

#[derive(Debug)]
struct Claim {
    source: SourceId,
    kind: PeerKind,
    group: Group,
    list: PieceList,
    discarded: bool,
}

/// All the lists of one download.
///
/// Lists that agree form a camp; the camp of the first list that stands is the one that pieces are fetched under.
/// While there are two camps, somebody lies, and a neighbour's word alone opens nothing.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: Vec<Claim>,
    /// The sum of the leading camp's lists.
    camp: Option<PieceList>,
    contested: bool,
}

impl Claims {
    /// Takes a source's list; a later one of the same source replaces the earlier.
    pub(super) fn put(&mut self, source: SourceId, kind: PeerKind, group: Group, list: PieceList) {
        self.claims.retain(|claim| claim.source != source);
        self.claims.push(Claim { source, kind, group, list, discarded: false });
        self.form_camps();
    }

    /// Takes the leading camp's lists out of the game; says whose they were.
    pub(super) fn discard_camp(&mut self) -> Vec<SourceId> {
        let members = self.members();
        for claim in &mut self.claims {
            claim.discarded |= members.contains(&claim.source);
        }
        self.form_camps();
        members
    }

    /// Takes one source's list out of the game.
    pub(super) fn discard(&mut self, source: SourceId) {
        for claim in &mut self.claims {
            claim.discarded |= claim.source == source;
        }
        self.form_camps();
    }

    /// Hears again what was taken out.
    pub(super) fn revive(&mut self) {
        self.claims.iter_mut().for_each(|claim| claim.discarded = false);
        self.form_camps();
    }

    /// What the leading camp says of a boundary.
    pub(super) fn state(&self, boundary: PieceIndex) -> Option<State> {
        match &self.camp {
            Some(list) => list.state(boundary),
            None => (boundary == 0).then_some(State::INITIAL),
        }
    }

    /// Who stands behind the leading camp.
    pub(super) fn members(&self) -> Vec<SourceId> {
        self.in_camp().map(|claim| claim.source).collect()
    }

    /// Whether nobody but the source itself says what this piece leads from and to.
    pub(super) fn is_own_word(&self, source: SourceId, piece: PieceIndex, link: &Link) -> bool {
        let mut camp = self.in_camp();
        let (Some(claim), None) = (camp.next(), camp.next()) else { return false };
        let end_claimed = match link.end {
            End::State(state) => claim.list.state(piece + 1) == Some(state),
            End::Digest(_) => true,
        };
        claim.source == source && claim.list.state(piece) == Some(link.start) && end_claimed
    }

    /// Whether the source's list is one of the leading camp, or it has given none.
    pub(super) fn supports(&self, source: SourceId) -> bool {
        let own = self.claims.iter().find(|claim| claim.source == source);
        own.is_none_or(|_| self.in_camp().any(|claim| claim.source == source))
    }

    /// How far the leading camp's word on a boundary is to be trusted.
    pub(super) fn trust(&self, boundary: PieceIndex) -> Trust {
        if boundary == 0 {
            return Trust::Open;
        }
        let mut first_group = None;
        for claim in self.in_camp().filter(|claim| claim.list.state(boundary).is_some()) {
            let neighbour = claim.kind == PeerKind::Neighbour && !self.contested;
            if neighbour || first_group.is_some_and(|group| group != claim.group) {
                return Trust::Open;
            }
            first_group = Some(claim.group);
        }
        Trust::Lone
    }

    /// Whether the leading camp is one group's word only, so that it is worth proving from the end early.
    pub(super) fn is_lone(&self) -> bool {
        let mut groups = self.in_camp().map(|claim| claim.group);
        groups.next().is_some_and(|first| groups.all(|group| group == first))
    }

    /// Sources whose list differs somewhere from the proven inner states.
    pub(super) fn proven_wrong(&self, proven: &[State]) -> Vec<SourceId> {
        let wrong = |list: &PieceList| {
            list.inner()
                .iter()
                .zip(proven)
                .any(|(claimed, proven)| claimed.is_some_and(|claimed| claimed != *proven))
        };
        self.claims.iter().filter(|claim| wrong(&claim.list)).map(|claim| claim.source).collect()
    }

    fn in_camp(&self) -> impl Iterator<Item = &Claim> {
        let camp = self.camp.as_ref();
        self.claims
            .iter()
            .filter(move |claim| !claim.discarded && camp.is_some_and(|camp| camp.agrees_with(&claim.list)))
    }

    fn form_camps(&mut self) {
        self.camp = None;
        self.contested = false;
        // Neighbours first: a stranger's rubbish must not keep a neighbour's list from leading.
        for kind in [PeerKind::Neighbour, PeerKind::Stranger] {
            for claim in self.claims.iter().filter(|claim| !claim.discarded && claim.kind == kind) {
                match &mut self.camp {
                    None => self.camp = Some(claim.list.clone()),
                    Some(camp) if camp.agrees_with(&claim.list) => camp.fill_from(&claim.list),
                    // A stranger who contradicts a neighbour is not heard at all.
                    Some(_) => self.contested |= kind == PeerKind::Neighbour || self.neighbours() == 0,
                }
            }
        }
    }

    fn neighbours(&self) -> usize {
        self.claims.iter().filter(|claim| !claim.discarded && claim.kind == PeerKind::Neighbour).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::{Geometry, PIECE_LENGTH};
    use std::net::IpAddr;

    fn list(states: [Option<u8>; 2]) -> PieceList {
        let inner = states.map(|state| state.map(|seed| State::from_bytes(&[seed; 32]))).to_vec();
        PieceList::new(Geometry::new(2 * PIECE_LENGTH + 1).unwrap(), inner).unwrap()
    }

    fn group(third: u8) -> Group {
        Group::of(IpAddr::from([10, 0, third, 1]))
    }

    const FULL: [Option<u8>; 2] = [Some(1), Some(2)];

    #[test]
    fn a_group_is_a_network_not_a_host() {
        assert_eq!(Group::of("10.1.2.3".parse().unwrap()), Group::of("10.1.2.200".parse().unwrap()));
        assert_eq!(Group::of("10.1.2.3".parse().unwrap()), Group::of("::ffff:10.1.2.9".parse().unwrap()));
        assert_ne!(Group::of("10.1.2.3".parse().unwrap()), Group::of("10.1.3.3".parse().unwrap()));
        assert_eq!(
            Group::of("2001:db8:1:2::1".parse().unwrap()),
            Group::of("2001:db8:1:3::1".parse().unwrap())
        );
        assert_ne!(Group::of("2001:db8:1::1".parse().unwrap()), Group::of("2001:db8:2::1".parse().unwrap()));
    }

    #[test]
    fn one_stranger_or_two_of_one_network_are_lone() {
        let mut claims = Claims::default();
        claims.put(SourceId(1), PeerKind::Stranger, group(1), list(FULL));
        claims.put(SourceId(2), PeerKind::Stranger, group(1), list(FULL));
        assert_eq!(claims.trust(1), Trust::Lone);
        assert!(claims.is_lone());
        claims.put(SourceId(3), PeerKind::Stranger, group(2), list(FULL));
        assert_eq!(claims.trust(1), Trust::Open, "corroborated by another network");
        assert!(!claims.is_lone());
    }

    #[test]
    fn corroboration_counts_state_by_state() {
        let mut claims = Claims::default();
        claims.put(SourceId(1), PeerKind::Stranger, group(1), list([Some(1), None]));
        claims.put(SourceId(2), PeerKind::Stranger, group(2), list(FULL));
        assert_eq!(claims.trust(1), Trust::Open);
        assert_eq!(claims.trust(2), Trust::Lone, "only one of them says anything of it");
    }

    #[test]
    fn neighbours_that_contradict_each_other_open_nothing() {
        let mut claims = Claims::default();
        claims.put(SourceId(1), PeerKind::Neighbour, group(1), list(FULL));
        assert_eq!(claims.trust(2), Trust::Open);
        claims.put(SourceId(2), PeerKind::Neighbour, group(1), list([Some(1), Some(9)]));
        assert_eq!(claims.trust(2), Trust::Lone);
        assert!(claims.supports(SourceId(1)) && !claims.supports(SourceId(2)));
        assert_eq!(claims.discard_camp(), [SourceId(1)]);
        assert_eq!(claims.state(2), Some(State::from_bytes(&[9; 32])));
        assert_eq!(claims.trust(2), Trust::Open);
    }

    #[test]
    fn a_stranger_cannot_contest_a_neighbour() {
        let mut claims = Claims::default();
        claims.put(SourceId(1), PeerKind::Stranger, group(1), list([Some(8), Some(9)]));
        claims.put(SourceId(2), PeerKind::Neighbour, group(2), list(FULL));
        assert_eq!(claims.trust(1), Trust::Open);
        assert_eq!(claims.members(), [SourceId(2)]);
        let proven = [State::from_bytes(&[1; 32]), State::from_bytes(&[2; 32])];
        assert_eq!(claims.proven_wrong(&proven), [SourceId(1)]);
    }
}
