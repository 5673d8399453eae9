//! Piece-hash lists as claims: who says what, who agrees, and how far that is to be trusted.

use std::collections::BTreeSet;

use super::source::{Group, PeerKind, SourceId};
use crate::pieces::{End, Link, PieceIndex, PieceList, State};

/// Lists that a download takes from look-ups, of each of the two sorts. A false one costs a failed check each; an honest
/// one is among the first unless somebody floods us, and then peers have lists of their own.
const FOUND_LISTS: usize = 3;

/// Whether what links under a list may be released before the object is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// A stranger's word alone: it may work the backward front only.
    Lone,
    /// A publisher's word, a neighbour's, or that of two witnesses who share no network.
    Open,
}

/// Who gave a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// It came by a look-up, signed by a publisher of the user's configuration.
    Publisher,
    /// A peer, which can be charged for it.
    Peer { source: SourceId, kind: PeerKind, group: Group },
    /// It came by a look-up and is anybody's word: no witness, for one hand may write it and be the peer that agrees.
    Found,
}

/// Whose list comes first, before the order in which they came. A list that nobody answers for comes last: it must not
/// keep one from leading that a peer answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Publisher,
    Neighbour,
    Stranger,
    Found,
}

impl Rank {
    const ALL: [Self; 4] = [Self::Publisher, Self::Neighbour, Self::Stranger, Self::Found];
}

impl Voice {
    const fn rank(self) -> Rank {
        match self {
            Self::Publisher => Rank::Publisher,
            Self::Peer { kind: PeerKind::Neighbour, .. } => Rank::Neighbour,
            Self::Peer { kind: PeerKind::Stranger, .. } => Rank::Stranger,
            Self::Found => Rank::Found,
        }
    }

    const fn source(self) -> Option<SourceId> {
        match self {
            Self::Peer { source, .. } => Some(source),
            Self::Publisher | Self::Found => None,
        }
    }

    /// Two voices of one network are one witness.
    const fn network(self) -> Option<Group> {
        match self {
            Self::Peer { group, .. } => Some(group),
            Self::Publisher | Self::Found => None,
        }
    }
}

#[derive(Debug)]
struct Claim {
    voice: Voice,
    list: PieceList,
    discarded: bool,
    /// Whether it is of the leading camp; [`Claims::form_camps`] says so.
    leads: bool,
}

/// All the lists of one download.
///
/// Lists that agree form a camp; the camp of the first list that stands is the one that pieces are fetched under.
/// While neighbours are of two camps, somebody lies, and a neighbour's word alone opens nothing; the same goes for
/// publishers.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: Vec<Claim>,
    /// The sum of the leading camp's lists.
    camp: Option<PieceList>,
    /// Ranks that contradict the leading camp.
    contested: Vec<Rank>,
    /// How far the camp's word on each inner boundary is to be trusted: asked for at every turn, with hundreds of lists.
    trust: Vec<Trust>,
    /// The first network that says anything of each inner boundary.
    first_networks: Vec<Option<Group>>,
    /// Which inner boundaries may be passed on.
    attested: Vec<bool>,
    /// Peers whose list is none of the camp's.
    outsiders: BTreeSet<SourceId>,
    /// Whether there is a list that nobody answers for.
    any_found: bool,
}

impl Claims {
    /// Takes a peer's list; a later one of the same peer replaces the earlier. Says whether anything follows from it that
    /// did not before.
    pub(super) fn put(&mut self, source: SourceId, kind: PeerKind, group: Group, list: PieceList) -> bool {
        let voice = Voice::Peer { source, kind, group };
        let claim = Claim { voice, list, discarded: false, leads: false };
        let place = self.claims.iter().position(|claim| claim.voice.source() == Some(source));
        let earlier = place.and_then(|place| self.claims.get(place));
        if earlier.is_some_and(|earlier| !earlier.discarded && earlier.list == claim.list) {
            return false;
        }
        if self.only_adds(earlier, &claim.list) {
            return self.add_to_camp(place, claim);
        }
        match place.and_then(|place| self.claims.get_mut(place)) {
            Some(earlier) => *earlier = claim,
            None => self.claims.push(claim),
        }
        self.form_camps();
        true
    }

    /// Whether all lists so far agree, this one with them, and it says no less than the same peer's earlier one. Then
    /// nothing has to be looked at anew: in a crowd hundreds of lists come that tell of a piece more.
    fn only_adds(&self, earlier: Option<&Claim>, list: &PieceList) -> bool {
        self.camp.as_ref().is_some_and(|camp| camp.agrees_with(list))
            && self.claims.iter().all(|claim| claim.leads)
            && earlier.is_none_or(|earlier| list.includes(&earlier.list))
    }

    fn add_to_camp(&mut self, place: Option<usize>, claim: Claim) -> bool {
        let Some(camp) = &mut self.camp else { return false };
        let mut news = !camp.includes(&claim.list);
        camp.fill_from(&claim.list);
        let claim = Claim { leads: true, ..claim };
        news |= self.weigh(&claim);
        match place.and_then(|place| self.claims.get_mut(place)) {
            Some(earlier) => *earlier = claim,
            None => self.claims.push(claim),
        }
        news
    }

    /// Takes a list that a look-up found; says whether it is a new one, and one of the first.
    pub(super) fn put_found(&mut self, list: PieceList, signed: bool) -> bool {
        let voice = if signed { Voice::Publisher } else { Voice::Found };
        let mut alike = self.claims.iter().filter(|claim| claim.voice == voice);
        if alike.clone().count() >= FOUND_LISTS || alike.any(|claim| claim.list == list) {
            return false;
        }
        self.claims.push(Claim { voice, list, discarded: false, leads: false });
        self.form_camps();
        true
    }

    /// Takes the leading camp's lists out of the game; says which peers gave them.
    pub(super) fn discard_camp(&mut self) -> Vec<SourceId> {
        let members = self.members();
        self.discard_in_camp(|_| true);
        members
    }

    /// Takes one source's list out of the game.
    pub(super) fn discard(&mut self, source: SourceId) {
        for claim in &mut self.claims {
            claim.discarded |= claim.voice.source() == Some(source);
        }
        self.form_camps();
    }

    /// Takes those lists of the leading camp out of the game that nobody answers for.
    pub(super) fn discard_found(&mut self) {
        self.discard_in_camp(|voice| voice == Voice::Found);
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

    /// The peers behind the leading camp.
    pub(super) fn members(&self) -> Vec<SourceId> {
        self.in_camp().filter_map(|claim| claim.voice.source()).collect()
    }

    /// Whether a publisher is behind the leading camp.
    pub(super) fn is_signed(&self) -> bool {
        self.in_camp().any(|claim| claim.voice == Voice::Publisher)
    }

    /// Whether the source itself says what this piece leads from and to, and no other peer is of its camp.
    pub(super) fn is_own_word(&self, source: SourceId, piece: PieceIndex, link: &Link) -> bool {
        let mut peers = self.in_camp().filter(|claim| claim.voice.source().is_some());
        let (Some(claim), None) = (peers.next(), peers.next()) else { return false };
        let end_claimed = match link.end {
            End::State(state) => claim.list.state(piece + 1) == Some(state),
            End::Digest(_) => true,
        };
        claim.voice.source() == Some(source) && claim.list.state(piece) == Some(link.start) && end_claimed
    }

    /// Whether the source's list is one of the leading camp, or it has given none.
    pub(super) fn supports(&self, source: SourceId) -> bool {
        !self.outsiders.contains(&source)
    }

    /// How far the leading camp's word on a boundary is to be trusted.
    pub(super) fn trust(&self, boundary: PieceIndex) -> Trust {
        match (boundary as usize).checked_sub(1) {
            None => Trust::Open,
            Some(inner) => self.trust.get(inner).copied().unwrap_or(Trust::Lone),
        }
    }

    /// Which of the boundaries 0 to `count` are beyond doubt enough to be passed on: said by a publisher whom no other
    /// contradicts, or by peers of two networks. The first needs nobody's word, the one behind the last piece is the
    /// digest.
    pub(super) fn attested(&self, count: PieceIndex) -> Vec<bool> {
        let inner =
            (1..count).map(|boundary| self.attested.get(boundary as usize - 1).copied().unwrap_or(false));
        std::iter::once(true).chain(inner).chain(std::iter::once(true)).collect()
    }

    /// Whether what the leading camp says of a boundary is said by found lists only, for which nobody answers.
    pub(super) fn is_found_only(&self, boundary: PieceIndex) -> bool {
        let mut said = false;
        boundary > 0
            && self.any_found
            && self.speaking_of(boundary).all(|claim| {
                said = true;
                claim.voice == Voice::Found
            })
            && said
    }

    /// Whether a found list of the leading camp says this of a boundary.
    pub(super) fn is_found(&self, boundary: PieceIndex, state: State) -> bool {
        let says = |claim: &Claim| claim.voice == Voice::Found && claim.list.state(boundary) == Some(state);
        self.in_camp().any(says)
    }

    /// Whether the leading camp is one witness's word at most, and no publisher's, so that it is worth proving from the
    /// end early.
    pub(super) fn is_lone(&self) -> bool {
        let mut networks = self.in_camp().filter_map(|claim| claim.voice.network());
        let first = networks.next();
        let one = networks.all(|network| Some(network) == first);
        one && !self.is_signed() && self.in_camp().next().is_some()
    }

    /// Peers whose list differs somewhere from the proven inner states.
    pub(super) fn proven_wrong(&self, proven: &[State]) -> Vec<SourceId> {
        self.wrong(proven).filter_map(Voice::source).collect()
    }

    /// Whether a publisher's list does.
    pub(super) fn is_publisher_wrong(&self, proven: &[State]) -> bool {
        self.wrong(proven).any(|voice| voice == Voice::Publisher)
    }

    fn wrong(&self, proven: &[State]) -> impl Iterator<Item = Voice> {
        let differs =
            |(claimed, proven): (&Option<State>, &State)| claimed.is_some_and(|state| state != *proven);
        let wrong = move |claim: &&Claim| claim.list.inner().iter().zip(proven).any(differs);
        self.claims.iter().filter(wrong).map(|claim| claim.voice)
    }

    fn in_camp(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| claim.leads)
    }

    fn speaking_of(&self, boundary: PieceIndex) -> impl Iterator<Item = &Claim> {
        self.in_camp().filter(move |claim| claim.list.state(boundary).is_some())
    }

    fn discard_in_camp(&mut self, which: impl Fn(Voice) -> bool) {
        for claim in &mut self.claims {
            claim.discarded |= claim.leads && which(claim.voice);
        }
        self.form_camps();
    }

    fn form_camps(&mut self) {
        let mut camp: Option<PieceList> = None;
        let mut contested = Vec::new();
        self.claims.iter_mut().for_each(|claim| claim.leads = false);
        for rank in Rank::ALL {
            let outvoted = if rank == Rank::Stranger { self.outvoted(camp.as_ref()) } else { Vec::new() };
            for claim in self.of_rank(rank).filter(|claim| !outvoted.contains(&claim.voice.source())) {
                match &mut camp {
                    None => camp = Some(claim.list.clone()),
                    Some(camp) if camp.agrees_with(&claim.list) => camp.fill_from(&claim.list),
                    // Who contradicts somebody of a higher rank is not heard at all: its own rank means nothing then.
                    Some(_) => contested.push(rank),
                }
            }
        }
        for claim in &mut self.claims {
            claim.leads = !claim.discarded && camp.as_ref().is_some_and(|camp| camp.agrees_with(&claim.list));
        }
        self.contested = contested;
        let outside = self.claims.iter().filter(|claim| !claim.leads);
        self.outsiders = outside.filter_map(|claim| claim.voice.source()).collect();
        self.any_found = self.claims.iter().any(|claim| claim.voice == Voice::Found);
        let boundaries = camp.as_ref().map_or(0, |camp| camp.inner().len());
        self.camp = camp;
        (self.trust, self.attested) = (vec![Trust::Lone; boundaries], vec![false; boundaries]);
        self.first_networks = vec![None; boundaries];
        let claims = std::mem::take(&mut self.claims);
        for claim in claims.iter().filter(|claim| claim.leads) {
            self.weigh(claim);
        }
        self.claims = claims;
    }

    fn of_rank(&self, rank: Rank) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |claim| !claim.discarded && claim.voice.rank() == rank)
    }

    /// Strangers who lose where lists part: there the way goes on that the most networks say, or the first one where
    /// equally many do. Else the first to answer would lead, and a liar has his answer ready.
    fn outvoted(&self, camp: Option<&PieceList>) -> Vec<Option<SourceId>> {
        let agrees = |claim: &&Claim| camp.is_none_or(|camp| camp.agrees_with(&claim.list));
        let mut left: Vec<&Claim> = self.of_rank(Rank::Stranger).filter(agrees).collect();
        let mut outvoted = Vec::new();
        for boundary in 0..left.first().map_or(0, |claim| claim.list.inner().len()) {
            let said = |claim: &Claim| claim.list.inner().get(boundary).copied().flatten();
            let mut said_here = left.iter().filter_map(|claim| said(claim));
            let first = said_here.next();
            if said_here.all(|state| Some(state) == first) {
                continue;
            }
            let mut votes: Vec<(State, BTreeSet<Option<Group>>)> = Vec::new();
            for (state, network) in
                left.iter().filter_map(|claim| Some((said(claim)?, claim.voice.network())))
            {
                match votes.iter_mut().find(|(of, _)| *of == state) {
                    Some((_, networks)) => _ = networks.insert(network),
                    None => votes.push((state, BTreeSet::from([network]))),
                }
            }
            // The last of several is taken: the first in the order in which they came.
            let most = votes.iter().rev().max_by_key(|(_, networks)| networks.len()).map(|(state, _)| *state);
            left.retain(|claim| {
                let stays = said(claim).is_none_or(|state| Some(state) == most);
                if !stays {
                    outvoted.push(claim.voice.source());
                }
                stays
            });
        }
        outvoted
    }

    /// Counts what a list of the leading camp makes of each boundary; says whether it made anything more of one.
    fn weigh(&mut self, claim: &Claim) -> bool {
        if claim.voice == Voice::Found {
            return false;
        }
        let (rank, network) = (claim.voice.rank(), claim.voice.network());
        let stands = !self.contested.contains(&rank);
        let signed = stands && rank == Rank::Publisher;
        let vouches = signed || (stands && rank == Rank::Neighbour);
        let mut more = false;
        let words = claim.list.inner().iter().zip(&mut self.trust).zip(&mut self.attested);
        for (((state, trust), attested), first) in words.zip(&mut self.first_networks) {
            if state.is_none() {
                continue;
            }
            let second = network.is_some() && first.is_some() && *first != network;
            let (opens, attests) = (vouches || second, signed || second);
            more |= (opens && *trust == Trust::Lone) || (attests && !*attested);
            if opens {
                *trust = Trust::Open;
            }
            *attested |= attests;
            *first = first.or(network);
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::{Geometry, PIECE_LENGTH};
    use proptest::prelude::*;
    use std::net::IpAddr;

    /// What the claims say of the boundaries.
    fn words(claims: &Claims) -> (Vec<Trust>, Vec<Option<State>>, Vec<bool>) {
        let trust = (0..=3).map(|boundary| claims.trust(boundary)).collect();
        let states = (0..=3).map(|boundary| claims.state(boundary)).collect();
        (trust, states, claims.attested(3))
    }

    proptest! {
        #[test]
        fn lists_that_only_add_come_to_the_same_as_all_of_them_looked_at_anew(
            puts in prop::collection::vec((0_u32..6, prop::option::of(1_u8..3), prop::option::of(1_u8..3)), 1..30),
        ) {
            let mut claims = Claims::default();
            let mut last = None;
            for (source, first, second) in puts {
                // Sources 0 and 1 are neighbours; two are of one network.
                let kind = if source < 2 { PeerKind::Neighbour } else { PeerKind::Stranger };
                let group = group(u8::try_from(source / 2).unwrap());
                let news = claims.put(SourceId(source), kind, group, list([first, second]));
                let (quick, members) = (words(&claims), claims.members());
                prop_assert!(news || last == Some(quick.clone()));
                claims.form_camps();
                prop_assert_eq!((&quick, members), (&words(&claims), claims.members()));
                last = Some(quick);
            }
        }
    }

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

    #[test]
    fn found_lists_are_no_witnesses_however_many() {
        let mut claims = Claims::default();
        assert!(claims.put_found(list([Some(1), None]), false));
        assert!(claims.put_found(list(FULL), false));
        assert_eq!(claims.trust(1), Trust::Lone);
        assert!(claims.is_lone() && claims.is_found_only(1) && claims.members().is_empty());
        claims.put(SourceId(1), PeerKind::Stranger, group(1), list([Some(1), None]));
        assert_eq!(claims.trust(1), Trust::Lone, "one hand may be both");
        assert_eq!(claims.trust(2), Trust::Lone);
        assert!(claims.is_lone());
        claims.put(SourceId(2), PeerKind::Stranger, group(2), list([Some(1), None]));
        assert_eq!(claims.trust(1), Trust::Open);
        assert!(!claims.is_lone());
        assert!(!claims.is_found_only(1) && claims.is_found_only(2));
        claims.discard_found();
        assert_eq!((claims.trust(1), claims.state(2)), (Trust::Open, None));
    }

    #[test]
    fn a_found_list_gives_way_to_any_that_a_peer_answers_for() {
        let mut claims = Claims::default();
        claims.put_found(list([Some(8), Some(9)]), false);
        claims.put(SourceId(1), PeerKind::Stranger, group(1), list(FULL));
        assert!(claims.supports(SourceId(1)));
        assert_eq!(claims.state(1), Some(State::from_bytes(&[1; 32])));
        assert_eq!(claims.trust(1), Trust::Lone);
    }

    #[test]
    fn only_the_first_found_lists_are_taken() {
        let mut claims = Claims::default();
        assert!(claims.put_found(list(FULL), false));
        assert!(!claims.put_found(list(FULL), false), "the same again");
        let taken = (10..30).filter(|seed| claims.put_found(list([Some(*seed), None]), false)).count();
        assert_eq!(taken, FOUND_LISTS - 1);
        assert!(claims.put_found(list(FULL), true), "rubbish keeps no publisher out");
    }

    #[test]
    fn a_publisher_leads_and_opens_unless_publishers_contradict_each_other() {
        let mut claims = Claims::default();
        claims.put(SourceId(1), PeerKind::Neighbour, group(1), list([Some(8), Some(9)]));
        claims.put_found(list(FULL), true);
        assert_eq!((claims.trust(1), claims.trust(2)), (Trust::Open, Trust::Open));
        assert!(claims.is_signed() && !claims.is_lone() && !claims.supports(SourceId(1)));
        let proven = [State::from_bytes(&[8; 32]), State::from_bytes(&[9; 32])];
        assert!(claims.is_publisher_wrong(&proven) && claims.proven_wrong(&proven).is_empty());
        claims.put_found(list([Some(1), Some(7)]), true);
        assert_eq!(claims.trust(1), Trust::Lone);
        claims.discard_camp();
        assert_eq!(claims.state(2), Some(State::from_bytes(&[7; 32])));
    }
}
