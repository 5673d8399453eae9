//! The routing table (BEP 5, "Routing Table"): nodes that answered us, many near us, few far away.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::address::{Contact, is_local};
use super::id::{Distance, Id};
use super::prefix::Prefix;

/// Nodes of one bucket (BEP 5: "up to eight").
const BUCKET: usize = 8;

/// Nodes that wait until one of their bucket fails.
const SPARES: usize = 8;

/// Nodes of one network (see [`Prefix`]) in one bucket: a rented /24 must not become our view of the world.
const PER_NETWORK: usize = 2;

/// Of the nodes of a bucket or an answer, so many may have ids that do not fit their addresses (BEP 42) where there are
/// others: whoever has many addresses can choose those ids, and would be all that is known around a point.
pub(super) const MISFITS: usize = 4;

/// A node is good for this long after it was heard (BEP 5).
const GOOD_FOR: Duration = Duration::from_secs(15 * 60);

/// A node that did not answer once is asked again so soon, for datagrams get lost; then ever later.
const RETRY: Duration = Duration::from_secs(20);

/// A node that did not answer so often in a row is bad (BEP 5: "multiple queries in a row").
const BAD: u8 = 2;

/// A node that did not answer so often in a row is forgotten, unless nobody answers.
const GONE: u8 = 5;

/// Somebody answered within this time: the network is there, and who does not answer has itself to blame.
const REACHED: Duration = Duration::from_secs(30);

/// Nodes by how close they are to us: bucket `i` has those that share exactly `i` leading bits with our id, which comes
/// to the same as splitting the bucket that we are in.
#[derive(Debug)]
pub(super) struct Table {
    own: Id,
    buckets: BTreeMap<u32, Bucket>,
    last_answer: Option<Instant>,
}

#[derive(Debug, Default)]
struct Bucket {
    nodes: Vec<Entry>,
    /// The latest last.
    spares: Vec<Entry>,
    refreshed: Option<Instant>,
}

/// A node that answered us at least once.
#[derive(Debug, Clone, Copy)]
struct Entry {
    contact: Contact,
    /// Its id follows from its address (BEP 42).
    fits: bool,
    /// When it last answered, or, having answered once, asked (BEP 5 counts both).
    heard: Instant,
    /// When it last failed to answer.
    failed: Option<Instant>,
    /// When it was last named by [`Table::check`].
    checked: Option<Instant>,
    /// Queries without an answer since the last answer.
    failures: u8,
}

/// A node that should be asked whether it is still there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    pub(super) node: Contact,
    /// The node's bucket has room: ask for nodes of that bucket, which tells more than a ping.
    pub(super) wants_more: Option<u32>,
}

impl Table {
    pub(super) const fn new(own: Id) -> Self {
        Self { own, buckets: BTreeMap::new(), last_answer: None }
    }

    /// A node answered. It enters if there is room.
    pub(super) fn answered(&mut self, contact: Contact, now: Instant) {
        self.last_answer = Some(now);
        let fits = contact.id.fits_address(contact.address.ip());
        let entry = Entry { contact, fits, heard: now, failed: None, checked: None, failures: 0 };
        if let Some(known) = self.find(contact.address) {
            if known.contact.id == contact.id {
                *known = entry;
                return;
            }
            // It took another id, as many do when they start anew.
            let address = contact.address;
            self.remove(|entry| entry.contact.address == address);
        }
        if contact.id != self.own && !self.is_taken(contact) {
            self.insert(entry);
        }
    }

    /// A node asked us something. That keeps a node good which we know; it makes none known.
    pub(super) fn heard(&mut self, contact: Contact, now: Instant) {
        if let Some(known) = self.find(contact.address)
            && known.contact.id == contact.id
            && known.failures == 0
        {
            known.heard = now;
        }
    }

    /// A node did not answer.
    pub(super) fn failed(&mut self, address: SocketAddr, now: Instant) {
        let is_reached = self.is_reached(now);
        self.buckets.values_mut().for_each(|bucket| {
            bucket.spares.retain(|spare| spare.contact.address != address);
            let Some(at) = bucket.nodes.iter().position(|entry| entry.contact.address == address) else {
                return;
            };
            let entry = &mut bucket.nodes[at];
            entry.failures = entry.failures.saturating_add(1).min(if is_reached { GONE } else { BAD });
            entry.failed = Some(now);
            let failures = entry.failures;
            if failures < BAD {
                return;
            }
            if let Some(spare) = bucket.spares.pop() {
                bucket.nodes[at] = spare;
            } else if failures >= GONE {
                bucket.nodes.remove(at);
            }
        });
    }

    /// Whether a node that is not known yet would find room, so that it is worth a ping.
    pub(super) fn wants(&self, contact: Contact) -> bool {
        if contact.id == self.own || self.is_taken(contact) {
            return false;
        }
        self.buckets.get(&self.index(&contact.id)).is_none_or(|bucket| {
            bucket.has_room_in(contact.address.ip())
                && (bucket.nodes.len() < BUCKET
                    || bucket.nodes.iter().any(Entry::is_bad)
                    || bucket.nodes.iter().filter(|entry| !entry.fits).count() > MISFITS
                        && contact.id.fits_address(contact.address.ip()))
        })
    }

    /// The nodes closest to a point, bad ones left out, and not more than [`MISFITS`] that do not fit their addresses
    /// as long as there are others.
    pub(super) fn closest(&self, target: &Id, count: usize) -> Vec<Contact> {
        let of = |fits: bool| self.entries().filter(move |entry| !entry.is_bad() && entry.fits == fits);
        let (mut chosen, mut misfits) = (nearest(of(true), target, count), nearest(of(false), target, count));
        let passed_over = misfits.split_off(misfits.len().min(MISFITS));
        chosen.append(&mut misfits);
        chosen.sort_unstable_by_key(|contact| contact.id.distance(target));
        chosen.extend(passed_over);
        chosen.truncate(count);
        chosen
    }

    /// The nodes closest to a point; bad ones too, behind the others, where there are too few.
    pub(super) fn closest_of_all(&self, target: &Id, count: usize) -> Vec<Contact> {
        let mut found = self.closest(target, count);
        if found.len() < count {
            found.extend(nearest(self.entries().filter(|entry| entry.is_bad()), target, count - found.len()));
        }
        found
    }

    /// How many nodes are good.
    pub(super) fn good(&self, now: Instant) -> usize {
        self.entries().filter(|entry| entry.is_good(now)).count()
    }

    /// How many nodes it has.
    pub(super) fn len(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.nodes.len()).sum()
    }

    /// All nodes, those that are most likely to answer first.
    pub(super) fn ranked(&self) -> Vec<Contact> {
        let mut entries: Vec<&Entry> = self.entries().collect();
        entries.sort_by_key(|entry| (entry.failures, std::cmp::Reverse(entry.heard)));
        entries.into_iter().map(|entry| entry.contact).collect()
    }

    /// The node that should be asked next, if one should be by now. It is not named again for a while.
    pub(super) fn check(&mut self, now: Instant) -> Option<Check> {
        let is_reached = self.is_reached(now);
        let (index, has_room, entry) = self
            .buckets
            .iter_mut()
            .flat_map(|(index, bucket)| {
                let has_room = bucket.nodes.len() < BUCKET;
                bucket.nodes.iter_mut().map(move |entry| (*index, has_room, entry))
            })
            .filter(|(_, _, entry)| is_reached || !entry.is_bad())
            .min_by_key(|(_, _, entry)| entry.due())?;
        if entry.due() > now {
            return None;
        }
        entry.checked = Some(now);
        Some(Check { node: entry.contact, wants_more: has_room.then_some(index) })
    }

    /// A bucket that has room and that nobody looked at for 15 minutes (BEP 5): it counts as looked at from now on.
    pub(super) fn stale(&mut self, now: Instant) -> Option<u32> {
        let deepest = *self.buckets.iter().rfind(|(_, bucket)| !bucket.nodes.is_empty())?.0;
        let stale = (0..=deepest).find(|index| {
            self.buckets.get(index).is_none_or(|bucket| {
                bucket.nodes.iter().filter(|entry| !entry.is_bad()).count() < BUCKET
                    && bucket.refreshed.is_none_or(|at| now.saturating_duration_since(at) >= GOOD_FOR)
            })
        })?;
        self.buckets.entry(stale).or_default().refreshed = Some(now);
        Some(stale)
    }

    /// A point of bucket `index`: the first `index` bits are ours, the next one is not, the others are `random`'s.
    pub(super) fn point_of(&self, index: u32, random: Id) -> Id {
        let (own, random) = (self.own.as_bytes(), random.as_bytes());
        let mut bytes = [0; Id::LENGTH];
        for (at, byte) in bytes.iter_mut().enumerate() {
            for bit in 0..8 {
                let mask = 0x80_u8 >> bit;
                *byte |= match (at as u64 * 8 + bit).cmp(&u64::from(index)) {
                    std::cmp::Ordering::Less => own[at] & mask,
                    std::cmp::Ordering::Equal => !own[at] & mask,
                    std::cmp::Ordering::Greater => random[at] & mask,
                };
            }
        }
        Id::new(bytes)
    }

    /// We have another id now: everybody finds a new place, as far as there is room.
    pub(super) fn rename(&mut self, own: Id) {
        self.own = own;
        let buckets = std::mem::take(&mut self.buckets);
        let entries = buckets.into_values().flat_map(|bucket| bucket.nodes.into_iter().chain(bucket.spares));
        for entry in entries.filter(|entry| entry.contact.id != own).collect::<Vec<_>>() {
            self.insert(entry);
        }
    }

    fn insert(&mut self, entry: Entry) {
        let index = self.index(&entry.contact.id);
        let bucket = self.buckets.entry(index).or_default();
        if !bucket.has_room_in(entry.contact.address.ip()) {
            return;
        }
        if bucket.nodes.len() < BUCKET {
            bucket.nodes.push(entry);
        } else if let Some(bad) = bucket.nodes.iter_mut().find(|entry| entry.is_bad()) {
            *bad = entry;
        } else if entry.fits && bucket.misfits().count() > MISFITS {
            bucket.misfits().last().into_iter().for_each(|misfit| *misfit = entry);
        } else {
            let id = entry.contact.id;
            bucket.spares.retain(|spare| {
                spare.contact.id != id
                    && Prefix::host(spare.contact.address.ip()) != Prefix::host(entry.contact.address.ip())
            });
            if bucket.spares.len() == SPARES {
                bucket.spares.remove(0);
            }
            bucket.spares.push(entry);
        }
    }

    /// Whether another node has the id or the address: the first keeps it until it is bad, so that nobody can take its
    /// place by naming himself like it.
    fn is_taken(&self, contact: Contact) -> bool {
        self.entries().filter(|entry| !entry.is_bad()).any(|entry| {
            entry.contact.id == contact.id
                || (Prefix::host(entry.contact.address.ip()) == Prefix::host(contact.address.ip())
                    && !is_local(contact.address.ip()))
        })
    }

    /// Whether anybody answered lately. Where nobody did, asking each bad node again tells nothing.
    fn is_reached(&self, now: Instant) -> bool {
        self.last_answer.is_some_and(|last| now.saturating_duration_since(last) < REACHED)
    }

    fn index(&self, id: &Id) -> u32 {
        self.own.distance(id).common_bits()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.values().flat_map(|bucket| &bucket.nodes)
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Entry> {
        self.buckets
            .values_mut()
            .flat_map(|bucket| bucket.nodes.iter_mut())
            .find(|entry| entry.contact.address == address)
    }

    fn remove(&mut self, gone: impl Fn(&Entry) -> bool) {
        self.buckets.values_mut().for_each(|bucket| bucket.nodes.retain(|entry| !gone(entry)));
    }
}

impl Bucket {
    fn misfits(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.nodes.iter_mut().filter(|entry| !entry.fits)
    }

    fn has_room_in(&self, ip: IpAddr) -> bool {
        let same = |entry: &&Entry| {
            !entry.is_bad() && Prefix::network(entry.contact.address.ip()) == Prefix::network(ip)
        };
        is_local(ip) || self.nodes.iter().filter(same).count() < PER_NETWORK
    }
}

impl Entry {
    const fn is_bad(&self) -> bool {
        self.failures >= BAD
    }

    fn is_good(&self, now: Instant) -> bool {
        self.failures == 0 && now.saturating_duration_since(self.heard) < GOOD_FOR
    }

    /// When it should be asked whether it is still there.
    fn due(&self) -> Instant {
        let due = match (self.failures, self.failed) {
            // After 20 s, 1, 3 and 9 minutes.
            (failures, Some(failed)) => failed + RETRY * 3_u32.pow(u32::from(failures.clamp(1, GONE)) - 1),
            (_, None) => self.heard + GOOD_FOR - RETRY,
        };
        self.checked.map_or(due, |checked| due.max(checked + RETRY))
    }
}

fn nearest<'a>(entries: impl Iterator<Item = &'a Entry>, target: &Id, count: usize) -> Vec<Contact> {
    let mut found: Vec<(Distance, Contact)> =
        entries.map(|entry| (entry.contact.id.distance(target), entry.contact)).collect();
    if found.len() > count && count > 0 {
        found.select_nth_unstable_by_key(count - 1, |(distance, _)| *distance);
        found.truncate(count);
    }
    found.sort_unstable_by_key(|(distance, _)| *distance);
    found.into_iter().map(|(_, contact)| contact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Id = Id::new([0; 20]);

    /// Node number `n` of bucket `index`, in a network of its own.
    fn node(index: u32, n: u8) -> Contact {
        let mut bytes = [0; 20];
        let index = u8::try_from(index).unwrap();
        bytes[usize::from(index / 8)] = 0x80 >> (index % 8);
        bytes[19] = n;
        Contact { id: Id::new(bytes), address: SocketAddr::from(([60 + index, n, 1, 1], 6881)) }
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn a_bucket_holds_eight_and_a_spare_steps_in_for_a_bad_one() {
        let now = Instant::now();
        let mut table = Table::new(OWN);
        (0..12).for_each(|n| table.answered(node(0, n), now));
        assert_eq!((table.len(), table.good(now)), (8, 8));
        table.failed(node(0, 3).address, now);
        assert_eq!((table.len(), table.good(now)), (8, 7), "once is no failure");
        table.failed(node(0, 3).address, now);
        assert_eq!(table.good(now), 8);
        assert!(table.ranked().contains(&node(0, 11)) && !table.ranked().contains(&node(0, 3)));
    }

    #[test]
    fn one_host_and_one_network_do_not_fill_it() {
        let now = Instant::now();
        let mut table = Table::new(OWN);
        for n in 0..8 {
            let same_host = SocketAddr::from(([9, 9, 9, 9], 1000 + u16::from(n)));
            table.answered(Contact { address: same_host, ..node(0, n) }, now);
            let same_network = SocketAddr::from(([8, 8, 8, n], 1));
            table.answered(Contact { address: same_network, ..node(1, n) }, now);
            let at_home = SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(n)));
            table.answered(Contact { address: at_home, ..node(2, n) }, now);
        }
        assert_eq!(table.len(), 1 + PER_NETWORK + 8);
    }

    #[test]
    fn nobody_takes_anothers_place_by_its_id() {
        let now = Instant::now();
        let mut table = Table::new(OWN);
        table.answered(node(0, 1), now);
        table.answered(Contact { address: node(0, 2).address, ..node(0, 1) }, now);
        assert_eq!(table.ranked(), [node(0, 1)]);
        table.answered(Contact { id: OWN, ..node(0, 2) }, now);
        assert_eq!(table.ranked(), [node(0, 1)], "nor ours");
    }

    #[test]
    fn ids_that_were_chosen_leave_room_for_those_that_were_not() {
        let now = Instant::now();
        let mut table = Table::new(OWN);
        (0..8).for_each(|n| table.answered(node(0, n), now));
        let fitting = |n: u8| {
            let address = SocketAddr::from(([80, n, 1, 1], 1));
            Contact { id: Id::of_address(address.ip(), Id::new([n; 20])), address }
        };
        let far = |contact: &Contact| OWN.distance(&contact.id).common_bits() == 0;
        let all: Vec<Contact> = (0..60).map(fitting).filter(far).take(8).collect();
        for (n, contact) in all.iter().enumerate() {
            assert_eq!(table.wants(*contact), n < 8 - MISFITS);
            table.answered(*contact, now);
        }
        let known = table.ranked();
        assert_eq!(known.iter().filter(|contact| all.contains(contact)).count(), 8 - MISFITS);
        (0..8).for_each(|n| table.answered(node(1, n), now));
        let told = table.closest(&node(1, 0).id, 8);
        assert_eq!(told.iter().filter(|contact| all.contains(contact)).count(), 8 - MISFITS, "{told:?}");
    }

    #[test]
    fn a_node_that_took_a_new_id_moves() {
        let now = Instant::now();
        let mut table = Table::new(OWN);
        table.answered(node(0, 1), now);
        let moved = Contact { id: node(3, 1).id, ..node(0, 1) };
        table.answered(moved, now);
        assert_eq!(table.ranked(), [moved]);
    }

    #[test]
    fn nodes_are_checked_before_they_are_questionable_and_kept_while_nobody_answers() {
        let start = Instant::now();
        let mut table = Table::new(OWN);
        table.answered(node(0, 1), start);
        assert!(table.check(start + minutes(10)).is_none());
        let late = start + minutes(15);
        assert_eq!(table.check(late).unwrap().node, node(0, 1));
        assert_eq!((table.good(late), table.len()), (0, 1));
        for _ in 0..20 {
            table.failed(node(0, 1).address, late);
        }
        assert_eq!(table.len(), 1, "the network is gone, not the node");
        assert!(table.closest(&OWN, 8).is_empty());
        assert_eq!(table.closest_of_all(&OWN, 8), [node(0, 1)]);
        table.answered(node(0, 2), late);
        (0..20).for_each(|_| table.failed(node(0, 1).address, late));
        assert_eq!(table.ranked(), [node(0, 2)]);
    }

    #[test]
    fn buckets_with_room_become_stale_each_quarter_of_an_hour() {
        let now = Instant::now();
        let mut table = Table::new(OWN);
        (0..8).for_each(|n| table.answered(node(0, n), now));
        table.answered(node(2, 1), now);
        assert_eq!([table.stale(now), table.stale(now), table.stale(now)], [Some(1), Some(2), None]);
        assert_eq!(table.stale(now + minutes(15)), Some(1));
        for index in [0, 1, 7, 8, 77, 159] {
            let point = table.point_of(index, Id::new([0xff; 20]));
            assert_eq!(OWN.distance(&point).common_bits(), index);
        }
    }

    #[test]
    fn the_closest_come_in_order_and_survive_a_new_name() {
        let now = Instant::now();
        let mut table = Table::new(OWN);
        for index in 0..6 {
            (0..8).for_each(|n| table.answered(node(index, n), now));
        }
        let closest = table.closest(&OWN, 8);
        assert_eq!(closest, (0..8).map(|n| node(5, n)).collect::<Vec<_>>());
        let target = node(2, 200).id;
        table.rename(Id::new([0x55; 20]));
        let closest = table.closest(&target, 8);
        assert!(
            closest.iter().all(|contact| contact.id.distance(&target).common_bits() > 100),
            "{closest:?}"
        );
        assert!(closest.is_sorted_by_key(|contact| contact.id.distance(&target)));
    }
}
