//! One neighbour: when it is asked, what it told, and what it is good for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{OLDEST, Refusal};
use crate::digest::Sha256;
use crate::swarm::source::PeerKind;
use crate::wire::HaveSet;

/// How often the set of a neighbour that we chose is asked for where nothing is wanted: a conditional request.
const REFRESH_CHOSEN: Duration = Duration::from_secs(60);

/// How often that of a stranger.
const REFRESH_MET: Duration = Duration::from_secs(10 * 60);

/// Where something is wanted, a set that is older than this is asked for anew.
const HURRY_CHOSEN: Duration = Duration::from_secs(5);

/// The same for strangers.
const HURRY_MET: Duration = Duration::from_secs(60);

/// The first pause after a failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(15);

/// The longest pause of those that we chose: a machine that was switched on is noticed within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// When one that has no place for us, or tells nothing, is asked again.
const BUSY_PAUSE: Duration = Duration::from_secs(30);
const SILENT_PAUSE: Duration = Duration::from_secs(600);

/// A stranger that failed so often in a row is given up.
const GIVEN_UP_AFTER: u32 = 3;

/// The most archives that are remembered of one peer: a machine uses a dozen.
const MAX_ARCHIVES: usize = 16;

/// How much the newest object, of those that were wanted, counts for what a neighbour is good for.
const NEWEST: f64 = 1.0 / 32.0;

/// How much the newest answer counts for how soon a neighbour usually answers.
const NEWEST_ANSWER: u32 = 4;

/// The time to an answer that is neither good nor bad.
const MIDDLING_ANSWER: f64 = 0.1;

/// How a neighbour came to be one; the later ones outweigh the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bond {
    /// It uses the same archives: a stranger.
    Met,
    /// The user named it.
    Fixed,
    /// It is on the local network.
    Lan,
}

impl Bond {
    /// What it is to a download.
    pub const fn kind(self) -> PeerKind {
        match self {
            Self::Met => PeerKind::Stranger,
            Self::Fixed | Self::Lan => PeerKind::Neighbour,
        }
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) bond: Bond,
    pub(super) archives: Vec<Sha256>,
    pub(super) since: Instant,
    pub(super) known: Option<Known>,
    pub(super) ask_at: Instant,
    pub(super) asking: bool,
    /// In a row.
    failures: u32,
    /// How soon it usually answers.
    pub(super) answer: Option<Duration>,
    /// When it last told what it holds.
    answered_at: Option<Instant>,
    /// When it last answered, or gave us something.
    pub(super) exchanged_at: Option<Instant>,
    /// When it last named its own neighbours.
    pub(super) introduced_at: Option<Instant>,
    /// How much of what was wanted it names, from 0 to 1.
    useful: Option<f64>,
}

/// What a neighbour told.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) set: HaveSet,
    pub(super) tag: Option<String>,
    /// Of when it is.
    pub(super) as_of: Instant,
    /// Objects that it names and that were not there.
    pub(super) misses: u32,
}

impl Member {
    pub(super) const fn new(bond: Bond, archives: Vec<Sha256>, now: Instant) -> Self {
        Self {
            bond,
            archives,
            since: now,
            known: None,
            ask_at: now,
            asking: false,
            failures: 0,
            answer: None,
            answered_at: None,
            exchanged_at: None,
            introduced_at: None,
            useful: None,
        }
    }

    /// It uses these archives, too.
    pub(super) fn uses(&mut self, archives: &[Sha256]) {
        for archive in archives {
            if self.archives.len() < MAX_ARCHIVES && !self.archives.contains(archive) {
                self.archives.push(*archive);
            }
        }
    }

    pub(super) const fn end_question(&mut self) {
        self.asking = false;
    }

    pub(super) fn is_banned(&mut self, now: Instant) {
        self.known = None;
        self.exchanged_at = None;
        self.ask_at = self.ask_at.max(now + LONGEST_PAUSE);
    }

    pub(super) fn answered(&mut self, took: Duration, seed: u64, peer: &SocketAddr, now: Instant) {
        self.failures = 0;
        let usual = self.answer.unwrap_or(took);
        self.answer = Some((usual * (NEWEST_ANSWER - 1) + took) / NEWEST_ANSWER);
        (self.answered_at, self.exchanged_at) = (Some(now), Some(now));
        let pause = if self.bond == Bond::Met { REFRESH_MET } else { REFRESH_CHOSEN };
        self.ask_at = now + jittered(pause, seed, peer, now, self.since);
    }

    pub(super) fn learn(
        &mut self,
        set: HaveSet,
        tag: Option<String>,
        as_of: Instant,
        wants: &VecDeque<Sha256>,
    ) {
        if !wants.is_empty() {
            let named = wants.iter().filter(|object| set.contains(object)).count();
            #[allow(clippy::cast_precision_loss, reason = "some hundred at most")]
            let useful = named as f64 / wants.len() as f64;
            self.useful = Some(useful);
        }
        self.known = Some(Known { set, tag, as_of, misses: 0 });
    }

    /// It still holds what it told.
    pub(super) fn confirm(&mut self, as_of: Instant) {
        if let Some(known) = &mut self.known {
            known.as_of = known.as_of.max(as_of);
        }
    }

    pub(super) fn tells_nothing(&mut self, now: Instant) {
        self.known = None;
        self.ask_at = now + SILENT_PAUSE;
    }

    /// Says whether it is to be given up.
    pub(super) fn fails(&mut self, why: Refusal, seed: u64, peer: &SocketAddr, now: Instant) -> bool {
        if why == Refusal::Busy {
            self.ask_at = now + jittered(BUSY_PAUSE, seed, peer, now, self.since);
            return false;
        }
        if why == Refusal::Wrong {
            self.known = None;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.ask_at = now + jittered(pause, seed, peer, now, self.since);
        self.failures = self.failures.saturating_add(1);
        self.bond == Bond::Met && (why == Refusal::Wrong || self.failures >= GIVEN_UP_AFTER)
    }

    pub(super) fn delivered(&mut self, now: Instant) {
        self.exchanged_at = Some(now);
        self.failures = 0;
    }

    pub(super) fn note_want(&mut self, object: &Sha256) {
        let Some(known) = &self.known else { return };
        let named = if known.set.contains(object) { 1.0 } else { 0.0 };
        let useful = self.useful.unwrap_or(named);
        self.useful = Some(useful + (named - useful) * NEWEST);
    }

    /// Something is wanted: its set is asked for sooner where it is old. Says whether it is.
    pub(super) fn hurry(&mut self, now: Instant) -> bool {
        let age = if self.bond == Bond::Met { HURRY_MET } else { HURRY_CHOSEN };
        let Some(due) = self.answered_at.map(|at| at + age) else { return false };
        if !self.is_well() || self.asking || self.ask_at <= now || now < due {
            return false;
        }
        self.ask_at = now;
        true
    }

    pub(super) const fn is_well(&self) -> bool {
        self.failures == 0 && self.known.is_some()
    }

    pub(super) fn is_believed(&self, now: Instant) -> bool {
        self.is_well() && self.known.as_ref().is_some_and(|known| now < known.as_of + OLDEST)
    }

    pub(super) fn names(&self, object: &Sha256, now: Instant) -> bool {
        self.is_believed(now) && self.known.as_ref().is_some_and(|known| known.set.contains(object))
    }

    pub(super) fn set_bytes(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.set.bytes())
    }

    /// From 0 to 1: half for how soon it answers, half for how much it has of what we want. Nobody knows yet: in the
    /// middle.
    pub(super) fn score(&self) -> f64 {
        let quick = self.answer.map_or(0.5, |took| MIDDLING_ANSWER / (MIDDLING_ANSWER + took.as_secs_f64()));
        let quick = if self.failures > 0 { 0.0 } else { quick };
        0.5 * quick + 0.5 * self.useful.unwrap_or(0.5)
    }
}

/// A pause that is up to a quarter longer, by who waits for whom and since when, so that not all ask at once.
fn jittered(pause: Duration, seed: u64, peer: &SocketAddr, now: Instant, since: Instant) -> Duration {
    let ip = match peer.ip() {
        std::net::IpAddr::V4(v4) => u64::from(u32::from(v4)),
        std::net::IpAddr::V6(v6) => (u128::from(v6) >> 32) as u64,
    };
    let age = u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
    // SplitMix64.
    let mut z = seed ^ ip.rotate_left(16) ^ u64::from(peer.port()) ^ age.rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = u32::try_from((z ^ (z >> 31)) >> 54).unwrap_or(0);
    pause + pause * part / 4096
}
