//! The peers whose have-sets we keep, so that "who has this?" is answered from memory.
//!
//! Some tens of *neighbours in the wide sense*: those that the user or the local network chose, always, and others that
//! use the same archives, chosen by how soon they answer and by how much of what we want they hold. What they say is a
//! hint: a false one costs an answer of 404 and their place here. Events and the time go in, questions come out.

mod candidates;
mod member;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::candidates::Candidates;
pub use self::member::Bond;
use self::member::Member;
use super::source::PeerKind;
use crate::digest::Sha256;
use crate::wire::{HaveSet, MAX_NEIGHBOURS_TOLD, is_dialable, is_local};

/// Neighbours whose sets are kept. Beyond some tens, one more hardly ever has what no other has.
pub const MAX_NEIGHBOURS: usize = 50;

/// All sets together, in bytes: fifty of the largest. Where they need more, the worst strangers' are dropped.
pub const MAX_SET_BYTES: usize = 17 << 20;

/// Questions under way: a few, for nobody waits for them.
const MAX_ASKING: usize = 4;

/// As many neighbours of an archive know what is common in it: what none of them names is rare, or new.
pub const ENOUGH: usize = 4;

/// With fewer strangers than this, more are looked for sooner.
const FEW: usize = 8;

/// How many wanted objects are remembered, to see what a set would have been good for.
const WANTS: usize = 256;

/// The most peers that are told to have one object: more than a download asks at a time.
const MAX_HOLDERS: usize = 16;

/// After a pause of this length what is wanted belongs together no more: another run of apt, on this machine or there.
const BURST: Duration = Duration::from_secs(2);

/// For how long a set says what a peer has *not*: what it got since is not in it.
const LACKS: Duration = Duration::from_secs(10);

/// How old a set becomes before it says nothing any more.
const OLDEST: Duration = Duration::from_secs(2 * 3600);

/// As many objects that a set named in vain make it a wrong one. Eviction explains one or two.
const WRONG_AFTER: u32 = 3;

/// A set so new that eviction does not explain why it is wrong.
const NEW: Duration = Duration::from_secs(60);

/// How often a neighbour is asked whom it knows.
const INTRODUCE_EVERY: Duration = Duration::from_secs(30 * 60);

/// Whom we exchanged something with in this time is told to others.
const LATELY: Duration = Duration::from_secs(3600);

/// How often the worst stranger makes room for one that waits.
const REVIEW_EVERY: Duration = Duration::from_secs(10 * 60);

/// What a peer said of all that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Its have-set.
    Set {
        /// The objects.
        set: HaveSet,
        /// What names this set among those that it may tell later.
        tag: Option<String>,
        /// How old what it says is.
        age: Duration,
    },
    /// The set is the one that was named; what it says is so old.
    Same(Duration),
    /// It tells nobody, or not us.
    Nothing,
}

/// Why a peer told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has no place for us now.
    Busy,
    /// It is not there, or does not answer.
    Silent,
    /// It answered what is not of the protocol.
    Wrong,
}

/// A question to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whom.
    pub peer: SocketAddr,
    /// What.
    pub about: About,
}

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// What it holds, unless that is what this tag names.
    Objects(Option<String>),
    /// Whom it knows.
    Neighbours,
}

/// A peer whose set names an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Where it is.
    pub address: SocketAddr,
    /// What it is to us.
    pub kind: PeerKind,
    /// How soon it usually answers.
    pub answer: Duration,
}

/// A neighbour, whatever came of it so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Where it is.
    pub address: SocketAddr,
    /// How it came to be one.
    pub bond: Bond,
    /// How many objects it said it holds, and how old that is; `None` where it has told nothing.
    pub told: Option<(usize, Duration)>,
}

/// Decides whose have-sets are kept and when they are asked for, and answers who has what.
///
/// Memory: [`MAX_SET_BYTES`] of sets, and some hundred kilobytes beside.
#[derive(Debug)]
pub struct Neighbourhood {
    seed: u64,
    /// Strangers may be at addresses that the internet does not reach.
    allow_local: bool,
    takes_strangers: bool,
    members: BTreeMap<SocketAddr, Member>,
    candidates: Candidates,
    /// What was wanted last, the newest last.
    wants: VecDeque<Sha256>,
    last_want: Option<Instant>,
    burst: Option<Instant>,
    review_at: Instant,
}

impl Neighbourhood {
    /// The same, which takes nobody but those that are named by [`Self::set_always`].
    pub const fn without_strangers(mut self) -> Self {
        self.takes_strangers = false;
        self
    }

    /// Nobody yet. `seed` distinguishes our times from those of others; strangers at local addresses are taken only
    /// where `allow_local`.
    pub fn new(seed: u64, allow_local: bool, now: Instant) -> Self {
        Self {
            seed,
            allow_local,
            takes_strangers: true,
            members: BTreeMap::new(),
            candidates: Candidates::default(),
            wants: VecDeque::new(),
            last_want: None,
            burst: None,
            review_at: now + REVIEW_EVERY,
        }
    }

    /// These are all that are neighbours by this bond, whatever they do; of too many, the first.
    pub fn set_always(&mut self, bond: Bond, addresses: &[SocketAddr], now: Instant) {
        let listed: Vec<_> = addresses.iter().map(|address| canonical(*address)).collect();
        self.members.retain(|address, member| member.bond != bond || listed.contains(address));
        for address in listed {
            if let Some(member) = self.members.get_mut(&address) {
                member.bond = member.bond.max(bond);
                continue;
            }
            if self.members.len() >= MAX_NEIGHBOURS && !self.drop_worst(now, Duration::ZERO) {
                return;
            }
            self.candidates.forget(&address);
            self.members.insert(address, Member::new(bond, Vec::new(), now));
        }
    }

    /// Somebody said that these peers use an archive.
    pub fn handle_found(&mut self, archive: &Sha256, peers: &[SocketAddr], now: Instant) {
        peers.iter().for_each(|peer| self.add_candidate(*peer, &[*archive], now));
        self.fill(now);
    }

    /// A neighbour was asked whom it knows, and named these.
    pub fn handle_introduced(&mut self, by: SocketAddr, peers: &[SocketAddr], now: Instant) {
        let Some(member) = self.members.get_mut(&by) else { return };
        member.end_question();
        member.introduced_at = Some(now);
        let archives = member.archives.clone();
        for peer in peers.iter().take(MAX_NEIGHBOURS_TOLD) {
            self.add_candidate(*peer, &archives, now);
        }
        self.fill(now);
    }

    fn add_candidate(&mut self, peer: SocketAddr, archives: &[Sha256], now: Instant) {
        let peer = canonical(peer);
        if !self.takes_strangers || !is_dialable(peer) || (is_local(peer.ip()) && !self.allow_local) {
            return;
        }
        if let Some(member) = self.members.get_mut(&peer) {
            member.uses(archives);
            return;
        }
        let alike = self.members.iter().filter(|(_, member)| member.bond == Bond::Met).map(|(peer, _)| *peer);
        self.candidates.add(peer, archives, alike, now);
    }

    /// Candidates take the places that are free.
    fn fill(&mut self, now: Instant) {
        while self.members.len() < MAX_NEIGHBOURS
            && let Some((peer, archives)) = self.candidates.take(now)
        {
            self.members.insert(peer, Member::new(Bond::Met, archives, now));
        }
    }

    /// The next question to be asked now, if there is one. Its end must be told.
    pub fn poll_question(&mut self, now: Instant) -> Option<Question> {
        self.review(now);
        if self.members.values().filter(|member| member.asking).count() >= MAX_ASKING {
            return None;
        }
        let due = self.members.iter_mut().filter(|(_, member)| !member.asking && member.ask_at <= now);
        if let Some((peer, member)) = due.min_by_key(|(_, member)| member.ask_at) {
            member.asking = true;
            let known = member.known.as_ref().and_then(|known| known.tag.clone());
            return Some(Question { peer: *peer, about: About::Objects(known) });
        }
        if !self.wants_introductions() {
            return None;
        }
        let (peer, member) = self.members.iter_mut().find(|(_, member)| may_introduce(member, now))?;
        member.asking = true;
        Some(Question { peer: *peer, about: About::Neighbours })
    }

    /// When there is a question although nothing happens; `None` while there is nobody to ask.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        if self.members.values().filter(|member| member.asking).count() >= MAX_ASKING {
            return None;
        }
        let idle = || self.members.values().filter(|member| !member.asking);
        let introduced = idle()
            .filter(|member| self.has_room() && member.is_well())
            .map(|member| member.introduced_at.map_or(now, |at| at + INTRODUCE_EVERY));
        let review = (!self.candidates.is_empty()).then_some(self.review_at);
        idle().map(|member| member.ask_at).chain(introduced).chain(review).min()
    }

    /// A peer has told what it holds, after this time.
    pub fn handle_told(&mut self, peer: SocketAddr, told: Told, took: Duration, now: Instant) {
        let seed = self.seed;
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.end_question();
        match told {
            Told::Set { set, tag, age } => {
                member.answered(took, seed, &peer, now);
                member.learn(set, tag, back(now, age), &self.wants);
                self.keep_within_bytes();
            }
            Told::Same(age) => {
                member.answered(took, seed, &peer, now);
                member.confirm(back(now, age));
            }
            Told::Nothing if member.bond == Bond::Met => self.shun(peer, now),
            Told::Nothing => member.tells_nothing(now),
        }
    }

    /// A peer has told nothing.
    pub fn handle_refusal(&mut self, peer: SocketAddr, why: Refusal, now: Instant) {
        let seed = self.seed;
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.end_question();
        if member.fails(why, seed, &peer, now) {
            self.shun(peer, now);
        }
    }

    /// These peers are banned for lies: they are neither asked nor believed nor told of.
    pub fn handle_banned(&mut self, peers: &[SocketAddr], now: Instant) {
        for peer in peers.iter().map(|peer| canonical(*peer)) {
            match self.members.get_mut(&peer) {
                Some(member) if member.bond == Bond::Met => self.shun(peer, now),
                Some(member) => member.is_banned(now),
                None => {}
            }
        }
    }

    /// An object is wanted. Says whether there are questions now that would not have been asked so soon.
    pub fn want(&mut self, object: &Sha256, now: Instant) -> bool {
        if self.last_want.is_none_or(|last| now >= last + BURST) {
            self.burst = Some(now);
        }
        self.last_want = Some(now);
        if !self.wants.contains(object) {
            self.wants.push_back(*object);
            if self.wants.len() > WANTS {
                self.wants.pop_front();
            }
            self.members.values_mut().for_each(|member| member.note_want(object));
        }
        self.members.values_mut().fold(false, |any, member| member.hurry(now) | any)
    }

    /// A download has asked a peer for an object, which it had or had not.
    pub fn handle_tried(&mut self, object: &Sha256, peer: SocketAddr, had_it: bool, now: Instant) {
        let peer = canonical(peer);
        let Some(member) = self.members.get_mut(&peer) else { return };
        if had_it {
            member.delivered(now);
            return;
        }
        if !member.names(object, now) {
            return;
        }
        let Some(known) = &mut member.known else { return };
        known.misses += 1;
        if known.misses < WRONG_AFTER {
            return;
        }
        let is_new = now < known.as_of + NEW;
        member.known = None;
        member.ask_at = member.ask_at.min(now);
        // Those that the user chose are asked again later, and are asked for objects in any case.
        if is_new && member.bond == Bond::Met {
            self.shun(peer, now);
        } else if is_new {
            member.ask_at = now + NEW;
        }
    }

    /// Who has the object by his own word, the best first.
    pub fn who_has(&self, object: &Sha256, now: Instant) -> Vec<Holder> {
        let mut holders: Vec<_> =
            self.members.iter().filter(|(_, member)| member.names(object, now)).collect();
        holders.sort_by(|(_, a), (_, b)| b.bond.cmp(&a.bond).then(b.score().total_cmp(&a.score())));
        let holder = |(address, member): (&SocketAddr, &Member)| Holder {
            address: *address,
            kind: member.bond.kind(),
            answer: member.answer.unwrap_or_default(),
        };
        holders.into_iter().take(MAX_HOLDERS).map(holder).collect()
    }

    /// The peers that need not be asked for an object of one piece: what they said they hold, since this run of
    /// requests began and a moment ago, does not name it. Never those of the local network: they may be about to have
    /// it, and answer within a millisecond.
    pub fn lacking(&self, object: &Sha256, now: Instant) -> Vec<SocketAddr> {
        let Some(burst) = self.burst else { return Vec::new() };
        let lacks = |member: &Member| {
            member.bond == Bond::Fixed
                && member.known.as_ref().is_some_and(|known| {
                    known.as_of >= burst && now < known.as_of + LACKS && !known.set.contains(object)
                })
        };
        self.members.iter().filter(|(_, member)| lacks(member)).map(|(peer, _)| *peer).collect()
    }

    /// Whether so many of an archive's neighbours tell what they hold that a small object which none of them names is
    /// not worth a look-up.
    pub fn is_covered(&self, archive: &Sha256, now: Instant) -> bool {
        let knows = |member: &&Member| {
            member.is_believed(now) && (member.bond != Bond::Met || member.archives.contains(archive))
        };
        self.members.values().filter(knows).count() >= ENOUGH
    }

    /// Whether more strangers are to be looked for soon.
    pub fn has_few(&self) -> bool {
        self.strangers() + self.candidates.len() < FEW && self.has_room()
    }

    /// The peers that `asker` may be told of: those that we exchanged something with lately, and those at local
    /// addresses only where the asker has one.
    pub fn introduced_to(&self, asker: IpAddr, now: Instant) -> Vec<SocketAddr> {
        let asker = asker.to_canonical();
        let lately = |at: Option<Instant>| at.is_some_and(|at| now < at + LATELY);
        let may = |peer: &SocketAddr| {
            is_dialable(*peer) && peer.ip() != asker && (is_local(asker) || !is_local(peer.ip()))
        };
        let known = self.members.iter().filter(|(peer, member)| lately(member.exchanged_at) && may(peer));
        known.map(|(peer, _)| *peer).take(MAX_NEIGHBOURS_TOLD).collect()
    }

    /// All of them, by their addresses.
    pub fn neighbours(&self, now: Instant) -> impl Iterator<Item = Neighbour> + '_ {
        self.members.iter().map(move |(address, member)| Neighbour {
            address: *address,
            bond: member.bond,
            told: member
                .known
                .as_ref()
                .map(|known| (known.set.len(), now.saturating_duration_since(known.as_of))),
        })
    }

    /// How many neighbours answer.
    pub fn answering(&self) -> usize {
        self.members.values().filter(|member| member.is_well()).count()
    }

    /// How many neighbours there are, and how many of them are strangers.
    pub fn counts(&self) -> (usize, usize) {
        (self.members.len(), self.strangers())
    }

    /// The bytes that all sets take together.
    pub fn set_bytes(&self) -> usize {
        self.members.values().map(Member::set_bytes).sum()
    }

    fn strangers(&self) -> usize {
        self.members.values().filter(|member| member.bond == Bond::Met).count()
    }

    fn wants_introductions(&self) -> bool {
        self.takes_strangers && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.members.len() < MAX_NEIGHBOURS
    }

    /// Now and then the worst stranger makes room for one that waits.
    fn review(&mut self, now: Instant) {
        if now < self.review_at {
            return;
        }
        self.review_at = now + REVIEW_EVERY;
        if !self.candidates.is_empty() && !self.has_room() && self.drop_worst(now, REVIEW_EVERY) {
            self.fill(now);
        }
    }

    /// Parts with the worst stranger that had so much time to prove itself; says whether there was one.
    fn drop_worst(&mut self, now: Instant, proved: Duration) -> bool {
        let mut met = self.members.iter().filter(|(_, member)| member.bond == Bond::Met).collect::<Vec<_>>();
        met.retain(|(_, member)| now >= member.since + proved);
        let worst = met.into_iter().min_by(|(_, a), (_, b)| a.score().total_cmp(&b.score()));
        let Some(worst) = worst.map(|(peer, _)| *peer) else { return false };
        self.members.remove(&worst);
        self.candidates.shun(worst, now);
        true
    }

    /// Parts with a peer and does not take it again soon.
    fn shun(&mut self, peer: SocketAddr, now: Instant) {
        self.members.remove(&peer);
        self.candidates.shun(peer, now);
        self.fill(now);
    }

    fn keep_within_bytes(&mut self) {
        while self.set_bytes() > MAX_SET_BYTES {
            let holding = self.members.values_mut().filter(|member| member.known.is_some());
            let worst = holding.min_by(|a, b| a.bond.cmp(&b.bond).then(a.score().total_cmp(&b.score())));
            let Some(worst) = worst else { return };
            worst.known = None;
        }
    }
}

fn may_introduce(member: &Member, now: Instant) -> bool {
    !member.asking && member.is_well() && member.introduced_at.is_none_or(|at| now >= at + INTRODUCE_EVERY)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The moment that lies so long before `now`; `now`, where the clock does not reach back so far.
fn back(now: Instant, age: Duration) -> Instant {
    now.checked_sub(age).unwrap_or(now)
}
