//! One walk towards a point: whom to ask next, and when it is over (BEP 5; the Kademlia paper, section 2.3).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::address::{Contact, is_local};
use super::id::{Distance, Id};
use super::prefix::Prefix;
use super::table::MISFITS;

/// The nodes that are to know a thing: those 8 that are closest to its point (BEP 5's bucket size).
pub(super) const CLOSEST: usize = 8;

/// Nodes with ids that do not fit their addresses (BEP 42) that are asked, of the closest. Only [`MISFITS`] of them count
/// among the 8, as long as there are others: whoever has many addresses owns no whole neighbourhood.
const MISFITS_ASKED: usize = 8;

/// Queries of one walk. Those in networks of a million nodes need some 30; more is somebody leading us about.
const MAX_ASKED: u32 = 80;

/// Nodes that a walk remembers: the closest of those it was told.
const MAX_CANDIDATES: usize = 200;

/// Nodes that are taken from one answer: BEP 5 has 8, some tell 16.
const MAX_TOLD: usize = 16;

/// Candidates of one network: nobody's /24 is a neighbourhood.
const PER_NETWORK: usize = 3;

/// Who named so many nodes that are silent, and none that answered, is no longer believed.
const MAX_SILENT: u8 = 6;

/// The candidates for the neighbourhood of a point, and how far each has got.
#[derive(Debug)]
pub(super) struct Walk {
    target: Id,
    /// The closest first; at the end those whose id is not known yet.
    candidates: Vec<Candidate>,
    /// What became of those whom somebody named.
    sponsors: BTreeMap<SocketAddr, Sponsor>,
    alpha: usize,
    pub(super) asked: u32,
    pub(super) answered: u32,
}

/// What a walk wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask this one.
    Ask(SocketAddr),
    /// Wait for answers.
    Wait,
    /// It is over.
    Done,
}

/// A node that can be told something: it gave a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) node: Contact,
    pub(super) token: Box<[u8]>,
    pub(super) told_at: Instant,
}

#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    id: Option<Id>,
    fits: bool,
    state: State,
    sponsor: Option<SocketAddr>,
}

#[derive(Debug)]
enum State {
    Fresh,
    Asked,
    /// It has not answered yet, though most would have: others are asked in its place.
    Late,
    Answered {
        token: Option<Box<[u8]>>,
        at: Instant,
    },
    Dead,
}

#[derive(Debug, Default)]
struct Sponsor {
    answered: u8,
    silent: u8,
}

impl Walk {
    /// A walk towards `target` with at most `alpha` queries that wait for an answer in time.
    pub(super) const fn new(target: Id, alpha: usize) -> Self {
        Self { target, candidates: Vec::new(), sponsors: BTreeMap::new(), alpha, asked: 0, answered: 0 }
    }

    pub(super) const fn target(&self) -> Id {
        self.target
    }

    /// Adds a node that we know ourselves.
    pub(super) fn add(&mut self, contact: Contact) {
        self.insert(contact, None);
    }

    /// Adds a node of which only the address is known. It is asked where closer ones are lacking.
    pub(super) fn add_address(&mut self, address: SocketAddr) {
        if self.candidates.len() < MAX_CANDIDATES && self.has_room_for(address) {
            let (id, sponsor) = (None, None);
            self.candidates.push(Candidate { address, id, fits: false, state: State::Fresh, sponsor });
        }
    }

    /// Adds what `by` told.
    pub(super) fn told(&mut self, by: SocketAddr, contacts: impl Iterator<Item = Contact>) {
        if self.sponsors.get(&by).is_some_and(Sponsor::is_liar) {
            return;
        }
        let mut contacts: Vec<Contact> = contacts.collect();
        contacts.sort_by_key(|contact| contact.id.distance(&self.target));
        contacts.into_iter().take(MAX_TOLD).for_each(|contact| self.insert(contact, Some(by)));
    }

    /// What to do next. `is_free` says who can be asked now: others are asked in the place of those who cannot.
    pub(super) fn step(&self, is_free: impl Fn(SocketAddr) -> bool) -> Step {
        let in_time = self.candidates.iter().filter(|node| matches!(node.state, State::Asked)).count();
        let mut nearest = Nearest::default();
        let (mut fresh, mut waiting) = (None, false);
        for node in &self.candidates {
            if nearest.is_full() {
                break;
            }
            match node.state {
                State::Late | State::Dead => continue,
                _ if !node.fits && nearest.misfits >= MISFITS_ASKED => continue,
                State::Fresh if self.asked < MAX_ASKED && !is_free(node.address) => {
                    waiting = true;
                    continue;
                }
                State::Fresh => fresh = fresh.or(Some(node.address)),
                State::Asked => waiting = true,
                State::Answered { .. } => {}
            }
            nearest.count(node.fits);
        }
        match fresh {
            Some(address) if self.asked < MAX_ASKED => {
                if in_time < self.alpha {
                    Step::Ask(address)
                } else {
                    Step::Wait
                }
            }
            _ if waiting => Step::Wait,
            _ if nearest.is_full() => Step::Done,
            _ if self.candidates.iter().any(|node| matches!(node.state, State::Late)) => Step::Wait,
            _ => Step::Done,
        }
    }

    /// The node was asked.
    pub(super) fn asked(&mut self, address: SocketAddr) {
        self.asked += 1;
        if let Some(node) = self.find(address) {
            node.state = State::Asked;
        }
    }

    /// The node has not answered yet, though most would have.
    pub(super) fn late(&mut self, address: SocketAddr) {
        let Some(node) = self.find(address).filter(|node| matches!(node.state, State::Asked)) else { return };
        node.state = State::Late;
        let sponsor = node.sponsor;
        self.blame(sponsor);
    }

    /// The node answered, as `id`, whatever it was said to be: it counts where it says that it is.
    pub(super) fn answered(&mut self, address: SocketAddr, id: Id, token: Option<&[u8]>, now: Instant) {
        let Some(at) = self.candidates.iter().position(|node| node.address == address) else { return };
        let mut node = self.candidates.remove(at);
        self.answered += 1;
        if let Some(sponsor) = node.sponsor {
            let sponsor = self.sponsors.entry(sponsor).or_default();
            sponsor.answered = sponsor.answered.saturating_add(1);
        }
        if node.id != Some(id) && self.candidates.iter().any(|other| other.id == Some(id)) {
            return;
        }
        node.id = Some(id);
        node.fits = id.fits_address(address.ip());
        node.state = State::Answered { token: token.map(Into::into), at: now };
        self.place(node);
    }

    /// The node will not answer any more, or answered with an error.
    pub(super) fn dead(&mut self, address: SocketAddr) {
        let Some(node) = self.find(address) else { return };
        let was_in_time = matches!(node.state, State::Asked);
        node.state = State::Dead;
        let sponsor = node.sponsor;
        if was_in_time {
            self.blame(sponsor);
        }
    }

    /// The `count` closest nodes that answered with a token; ids that fit their addresses are preferred.
    pub(super) fn closest(&self, count: usize) -> Vec<Holder> {
        let answered: Vec<(bool, Holder)> = self.candidates.iter().filter_map(Candidate::holder).collect();
        let mut misfits = 0;
        let mut chosen = Vec::new();
        let mut passed_over = Vec::new();
        for (fits, holder) in answered {
            misfits += usize::from(!fits);
            if fits || misfits <= MISFITS { chosen.push(holder) } else { passed_over.push(holder) }
        }
        chosen.extend(passed_over);
        chosen.truncate(count);
        chosen
    }

    fn insert(&mut self, contact: Contact, sponsor: Option<SocketAddr>) {
        let known = self.candidates.iter().any(|node| node.id == Some(contact.id));
        // Now it is known where the node is that only had an address.
        self.candidates.retain(|node| {
            known
                || node.id.is_some()
                || node.address != contact.address
                || !matches!(node.state, State::Fresh)
        });
        if known || !self.has_room_for(contact.address) {
            return;
        }
        if self.candidates.len() >= MAX_CANDIDATES {
            let last = self.candidates.iter().rposition(|node| matches!(node.state, State::Fresh));
            let distance = Some(contact.id.distance(&self.target));
            match last {
                Some(last) if closer(distance, self.distance(&self.candidates[last])) => {
                    self.candidates.remove(last);
                }
                _ => return,
            }
        }
        let fits = contact.id.fits_address(contact.address.ip());
        let id = Some(contact.id);
        self.place(Candidate { address: contact.address, id, fits, state: State::Fresh, sponsor });
    }

    fn place(&mut self, node: Candidate) {
        let distance = self.distance(&node);
        let at = self.candidates.partition_point(|other| !closer(distance, self.distance(other)));
        self.candidates.insert(at, node);
    }

    fn distance(&self, node: &Candidate) -> Option<Distance> {
        node.id.map(|id| id.distance(&self.target))
    }

    fn has_room_for(&self, address: SocketAddr) -> bool {
        if is_local(address.ip()) {
            return self.candidates.iter().all(|node| node.address != address);
        }
        let same_host = |node: &Candidate| Prefix::host(node.address.ip()) == Prefix::host(address.ip());
        let same_network =
            |node: &&Candidate| Prefix::network(node.address.ip()) == Prefix::network(address.ip());
        !self.candidates.iter().any(same_host)
            && self.candidates.iter().filter(same_network).count() < PER_NETWORK
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|node| node.address == address)
    }

    /// Counts against whoever named a silent node. Who named only silent ones loses the others, too: somebody else may
    /// name them again.
    fn blame(&mut self, sponsor: Option<SocketAddr>) {
        let Some(address) = sponsor else { return };
        let sponsor = self.sponsors.entry(address).or_default();
        sponsor.silent = sponsor.silent.saturating_add(1);
        if sponsor.is_liar() {
            let by_liar = |node: &Candidate| node.sponsor == Some(address);
            self.candidates.retain(|node| !(by_liar(node) && matches!(node.state, State::Fresh)));
        }
    }
}

impl Candidate {
    fn holder(&self) -> Option<(bool, Holder)> {
        let State::Answered { token, at } = &self.state else { return None };
        let node = Contact { id: self.id?, address: self.address };
        Some((self.fits, Holder { node, token: token.clone()?, told_at: *at }))
    }
}

impl Sponsor {
    const fn is_liar(&self) -> bool {
        self.answered == 0 && self.silent >= MAX_SILENT
    }
}

/// How many of the closest have been counted.
#[derive(Debug, Default)]
struct Nearest {
    fitting: usize,
    misfits: usize,
}

impl Nearest {
    const fn count(&mut self, fits: bool) {
        if fits { self.fitting += 1 } else { self.misfits += 1 }
    }

    fn is_full(&self) -> bool {
        self.fitting + self.misfits.min(MISFITS) >= CLOSEST
    }
}

/// Whether `a` is closer than `b`; what has no distance is the farthest.
fn closer(a: Option<Distance>, b: Option<Distance>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a < b,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Id = Id::new([0; 20]);

    /// Node number `n`, in a network of its own, at distance `n`. Its id fits only by chance.
    fn node(n: u16) -> Contact {
        let mut bytes = [0; 20];
        bytes[18..].copy_from_slice(&n.to_be_bytes());
        let [a, b] = n.to_be_bytes();
        Contact { id: Id::new(bytes), address: SocketAddr::from(([60, a, b, 1], 6881)) }
    }

    /// The same at home, where every id fits.
    fn at_home(n: u16) -> Contact {
        Contact { address: SocketAddr::from(([127, 0, 0, 1], n)), ..node(n) }
    }

    fn walk(nodes: impl IntoIterator<Item = Contact>) -> Walk {
        let mut walk = Walk::new(TARGET, 3);
        nodes.into_iter().for_each(|node| walk.add(node));
        walk
    }

    fn ask_all(walk: &mut Walk) -> Vec<SocketAddr> {
        let mut asked = Vec::new();
        while let Step::Ask(address) = walk.step(|_| true) {
            walk.asked(address);
            asked.push(address);
        }
        asked
    }

    #[test]
    fn the_closest_are_asked_first_and_it_ends_when_eight_have_answered() {
        let now = Instant::now();
        let mut walk = walk((1..=20).rev().map(at_home));
        assert_eq!(ask_all(&mut walk), [1, 2, 3].map(|n| at_home(n).address));
        for n in 1..=8 {
            walk.answered(at_home(n).address, at_home(n).id, Some(b"token"), now);
            ask_all(&mut walk);
        }
        assert_eq!(walk.step(|_| true), Step::Done);
        assert_eq!((walk.asked, walk.answered), (8, 8));
        let closest: Vec<Contact> = walk.closest(8).iter().map(|holder| holder.node).collect();
        assert_eq!(closest, (1..=8).map(at_home).collect::<Vec<_>>());
    }

    #[test]
    fn who_is_late_or_dead_or_busy_does_not_block() {
        let now = Instant::now();
        let mut walk = walk((1..=12).map(at_home));
        let busy = |address: SocketAddr| address.port() != 4;
        for n in 1..=3 {
            assert_eq!(walk.step(busy), Step::Ask(at_home(n).address));
            walk.asked(at_home(n).address);
        }
        assert_eq!(walk.step(busy), Step::Wait);
        (1..=3).for_each(|n| walk.late(at_home(n).address));
        assert_eq!(walk.step(busy), Step::Ask(at_home(5).address), "the fourth has to wait");
        for n in 4..=11 {
            walk.asked(at_home(n).address);
            walk.answered(at_home(n).address, at_home(n).id, None, now);
        }
        assert_eq!(walk.step(busy), Step::Done, "nobody waits for the late ones");
        walk.answered(at_home(2).address, at_home(2).id, Some(b"token"), now);
        assert_eq!(walk.closest(8).len(), 1, "but a late answer counts");
    }

    #[test]
    fn with_too_few_nodes_it_waits_for_the_late_ones() {
        let mut walk = walk([at_home(1)]);
        ask_all(&mut walk);
        walk.late(at_home(1).address);
        assert_eq!(walk.step(|_| true), Step::Wait);
        walk.dead(at_home(1).address);
        assert_eq!(walk.step(|_| true), Step::Done);
    }

    #[test]
    fn ids_that_do_not_fit_do_not_make_up_the_neighbourhood() {
        let now = Instant::now();
        let fitting = |n: u8| {
            let address = SocketAddr::from(([80, n, 1, 1], 1));
            Contact { id: Id::of_address(address.ip(), Id::new([n; 20])), address }
        };
        let mut walk = walk((1..=30).map(node).chain((1..=8).map(fitting)));
        let mut asked = 0;
        while let Step::Ask(address) = walk.step(|_| true) {
            walk.asked(address);
            let misfits = (1..=30).map(node);
            let contact = misfits.chain((1..=8).map(fitting)).find(|node| node.address == address).unwrap();
            walk.answered(address, contact.id, Some(b"token"), now);
            asked += 1;
        }
        assert_eq!(asked, MISFITS_ASKED + 4, "it looks further than the misfits");
        let chosen = walk.closest(8);
        let fits = chosen.iter().filter(|holder| holder.node.id.fits_address(holder.node.address.ip()));
        assert_eq!((fits.count(), chosen.len()), (4, 8));
    }

    #[test]
    fn a_chain_of_nodes_that_name_ever_closer_ones_ends() {
        let now = Instant::now();
        let mut walk = walk([node(60_000)]);
        let mut next = 59_999;
        while let Step::Ask(address) = walk.step(|_| true) {
            walk.asked(address);
            walk.answered(address, node(next + 1).id, None, now);
            walk.told(address, [node(next)].into_iter());
            next -= 1;
        }
        assert_eq!((walk.step(|_| true), walk.asked), (Step::Done, MAX_ASKED));
    }

    #[test]
    fn who_names_only_silent_nodes_is_no_longer_believed() {
        let now = Instant::now();
        let mut walk = walk([node(50_000), node(50_001)]);
        ask_all(&mut walk);
        walk.answered(node(50_000).address, node(50_000).id, None, now);
        walk.told(node(50_000).address, (1..=16).map(node));
        let mut silent = 0;
        while let Step::Ask(address) = walk.step(|_| true) {
            walk.asked(address);
            walk.late(address);
            silent += 1;
        }
        assert_eq!(silent, MAX_SILENT);
        walk.told(node(50_000).address, (100..=116).map(node));
        assert!(matches!(walk.step(|_| true), Step::Wait), "the other one is still to answer");
        walk.answered(node(50_001).address, node(50_001).id, None, now);
        walk.told(node(50_001).address, [node(9)].into_iter());
        assert_eq!(walk.step(|_| true), Step::Ask(node(9).address), "somebody else may name them again");
    }

    #[test]
    fn one_host_or_network_is_no_neighbourhood_and_candidates_are_bounded() {
        let mut walk = Walk::new(TARGET, 3);
        let at = |n: u16, address: [u8; 4]| Contact { address: SocketAddr::from((address, n)), ..node(n) };
        (1..=20).for_each(|n| walk.add(at(n, [90, 1, 1, 1])));
        assert_eq!(walk.candidates.len(), 1);
        (21..=40).for_each(|n| walk.add(at(n, [91, 1, 1, n.to_be_bytes()[1]])));
        assert_eq!(walk.candidates.len(), 1 + PER_NETWORK);
        (1000..=2000).rev().for_each(|n| walk.add(node(n)));
        (0..1000_u16).for_each(|n| walk.add_address(at(1, [92, 2, n.to_be_bytes()[1], 1]).address));
        assert_eq!(walk.candidates.len(), MAX_CANDIDATES);
        assert!(walk.candidates.iter().any(|candidate| candidate.id == Some(node(1000).id)));
        assert!(walk.candidates.iter().all(|candidate| candidate.id != Some(node(2000).id)));
    }

    #[test]
    fn an_address_finds_its_place_as_soon_as_somebody_names_its_id() {
        let mut walk = Walk::new(TARGET, 3);
        (1..=20).for_each(|n| walk.add_address(at_home(n).address));
        assert_eq!(walk.step(|_| true), Step::Ask(at_home(1).address));
        walk.asked(at_home(1).address);
        walk.told(at_home(1).address, [at_home(20)].into_iter());
        assert_eq!(walk.step(|_| true), Step::Ask(at_home(20).address));
        assert_eq!(walk.candidates.len(), 20);
    }

    #[test]
    fn a_node_counts_where_it_says_that_it_is() {
        let now = Instant::now();
        let mut walk = walk([at_home(1), at_home(2)]);
        ask_all(&mut walk);
        walk.answered(at_home(1).address, node(300).id, Some(b"a"), now);
        walk.answered(at_home(2).address, at_home(2).id, Some(b"b"), now);
        let ids: Vec<Id> = walk.closest(8).iter().map(|holder| holder.node.id).collect();
        assert_eq!(ids, [at_home(2).id, node(300).id]);
    }
}
