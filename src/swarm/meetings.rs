//! When to announce ourselves under the archives that we use, and when to look who else does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::digest::Sha256;

/// The most archives at a time: a machine uses a dozen, a proxy for many machines some dozens.
const MAX_ARCHIVES: usize = 32;

/// How often those are looked for who use an archive.
const LOOK_EVERY: Duration = Duration::from_secs(30 * 60);

/// How soon at first while few are known; each time in vain doubles it.
const LOOK_FEW: Duration = Duration::from_secs(60);

/// How soon an announce that nobody took is tried again; each further one doubles it.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Something to be done in the DHT. Its end must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// Tell that we use the archive.
    Announce(Sha256),
    /// Ask who uses it.
    LookUp(Sha256),
}

/// One announce and one look-up for each archive, however many files it has.
#[derive(Debug)]
pub struct Meetings {
    /// How often to announce; `None` for never.
    announce_every: Option<Duration>,
    /// Somebody who came to us would find us.
    reachable: bool,
    archives: BTreeMap<Sha256, Times>,
}

#[derive(Debug)]
struct Times {
    /// `None` while it is under way.
    announce_at: Option<Instant>,
    announce_pause: Duration,
    looking: bool,
    looked_at: Option<Instant>,
    look_pause: Duration,
}

impl Meetings {
    /// No archive yet.
    pub const fn new(announce_every: Option<Duration>) -> Self {
        Self { announce_every, reachable: true, archives: BTreeMap::new() }
    }

    /// Whether others could come to us. Where they could not, nothing is announced, and what is due then is due afterwards.
    pub const fn set_reachable(&mut self, reachable: bool) {
        self.reachable = reachable;
    }

    /// These archives are used now; of too many, the first.
    pub fn set_archives(&mut self, archives: &[Sha256], now: Instant) {
        let archives = &archives[..archives.len().min(MAX_ARCHIVES)];
        self.archives.retain(|archive, _| archives.contains(archive));
        for archive in archives {
            self.archives.entry(*archive).or_insert(Times {
                announce_at: Some(now),
                announce_pause: TRY_AGAIN,
                looking: false,
                looked_at: None,
                look_pause: LOOK_FEW,
            });
        }
    }

    /// What is to be done now, if anything. `few`: more peers are wanted soon.
    pub fn poll(&mut self, few: bool, now: Instant) -> Option<Meeting> {
        for (archive, times) in &mut self.archives {
            if times.look_at(few, now).is_some_and(|at| at <= now) {
                times.looking = true;
                return Some(Meeting::LookUp(*archive));
            }
            if self.announce_every.is_some()
                && self.reachable
                && times.announce_at.is_some_and(|at| at <= now)
            {
                times.announce_at = None;
                return Some(Meeting::Announce(*archive));
            }
        }
        None
    }

    /// When there is something to be done although nothing happens.
    pub fn next_timeout(&self, few: bool, now: Instant) -> Option<Instant> {
        let announces = self.archives.values().filter_map(|times| times.announce_at);
        let announces = announces.filter(|_| self.announce_every.is_some() && self.reachable);
        announces.chain(self.archives.values().filter_map(|times| times.look_at(few, now))).min()
    }

    /// An announce has ended; somebody took it or nobody did.
    pub fn handle_announced(&mut self, archive: &Sha256, taken: bool, now: Instant) {
        let Some(times) = self.archives.get_mut(archive) else { return };
        let every = self.announce_every.unwrap_or(LOOK_EVERY);
        if taken {
            times.announce_pause = TRY_AGAIN;
            times.announce_at = Some(now + every);
        } else {
            times.announce_at = Some(now + times.announce_pause.min(every));
            times.announce_pause = (times.announce_pause * 2).min(every);
        }
    }

    /// A look-up has ended, and has found somebody or nobody.
    pub fn handle_looked(&mut self, archive: &Sha256, found: bool, now: Instant) {
        let Some(times) = self.archives.get_mut(archive) else { return };
        times.looking = false;
        if times.looked_at.is_some() && !found {
            times.look_pause = (times.look_pause * 2).min(LOOK_EVERY);
        } else if found {
            times.look_pause = LOOK_FEW * 5;
        }
        times.looked_at = Some(now);
    }

    /// We have another address: everybody is told anew.
    pub fn handle_moved(&mut self, now: Instant) {
        for times in self.archives.values_mut() {
            times.announce_at = times.announce_at.map(|_| now);
        }
    }
}

impl Times {
    fn look_at(&self, few: bool, now: Instant) -> Option<Instant> {
        let pause = if few { self.look_pause } else { LOOK_EVERY };
        (!self.looking).then(|| self.looked_at.map_or(now, |at| at + pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(number: u8) -> Sha256 {
        Sha256::of(&[number])
    }

    fn all(meetings: &mut Meetings, few: bool, now: Instant) -> Vec<Meeting> {
        std::iter::from_fn(|| meetings.poll(few, now)).collect()
    }

    #[test]
    fn each_archive_is_looked_for_and_announced_once_a_period() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut meetings = Meetings::new(Some(25 * minute));
        let one = archive(1);
        meetings.set_archives(&[one], start);
        assert_eq!(all(&mut meetings, false, start), [Meeting::LookUp(one), Meeting::Announce(one)]);
        meetings.handle_announced(&one, true, start);
        meetings.handle_looked(&one, true, start);
        meetings.set_archives(&[one], start);
        let mut done = 0;
        for at in (0..600).map(|after| start + after * minute) {
            for meeting in all(&mut meetings, false, at) {
                match meeting {
                    Meeting::Announce(_) => meetings.handle_announced(&one, true, at),
                    Meeting::LookUp(_) => meetings.handle_looked(&one, true, at),
                }
                done += 1;
            }
        }
        assert_eq!(done, 600 / 25 - 1 + 600 / 30 - 1, "in ten hours");
    }

    #[test]
    fn while_few_are_known_it_looks_sooner_and_less_and_less() {
        let start = Instant::now();
        let mut meetings = Meetings::new(None);
        meetings.set_archives(&[archive(1)], start);
        let mut looked = Vec::new();
        for at in (0..7200).map(Duration::from_secs) {
            for meeting in all(&mut meetings, true, start + at) {
                assert_eq!(meeting, Meeting::LookUp(archive(1)), "nothing is announced");
                meetings.handle_looked(&archive(1), false, start + at);
                looked.push(at.as_secs() / 60);
            }
        }
        assert_eq!(looked, [0, 1, 3, 7, 15, 31, 61, 91]);
    }

    #[test]
    fn an_announce_that_nobody_takes_is_tried_again_and_a_move_tells_everybody() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut meetings = Meetings::new(Some(1500 * second));
        meetings.set_archives(&[archive(1)], start);
        assert_eq!(all(&mut meetings, false, start).len(), 2);
        meetings.handle_looked(&archive(1), true, start);
        meetings.handle_announced(&archive(1), false, start);
        assert_eq!(meetings.next_timeout(false, start), Some(start + 30 * second));
        assert_eq!(all(&mut meetings, false, start + 30 * second), [Meeting::Announce(archive(1))]);
        meetings.handle_announced(&archive(1), true, start + 30 * second);
        assert_eq!(all(&mut meetings, false, start + 1000 * second), []);
        meetings.handle_moved(start + 1000 * second);
        assert_eq!(all(&mut meetings, false, start + 1000 * second), [Meeting::Announce(archive(1))]);
    }

    #[test]
    fn who_cannot_be_reached_looks_and_announces_nothing_until_he_can() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut meetings = Meetings::new(Some(25 * minute));
        let one = archive(1);
        meetings.set_archives(&[one], start);
        meetings.set_reachable(false);
        assert_eq!(all(&mut meetings, false, start), [Meeting::LookUp(one)]);
        meetings.handle_looked(&one, true, start);
        assert_eq!(meetings.next_timeout(false, start), Some(start + LOOK_EVERY), "nothing else is due");
        meetings.set_reachable(true);
        assert_eq!(all(&mut meetings, false, start + minute), [Meeting::Announce(one)]);
        meetings.handle_announced(&one, true, start + minute);
        meetings.set_reachable(false);
        meetings.handle_looked(&one, true, start + 40 * minute);
        assert_eq!(all(&mut meetings, false, start + 40 * minute), []);
        meetings.set_reachable(true);
        assert_eq!(all(&mut meetings, false, start + 41 * minute), [Meeting::Announce(one)]);
    }

    #[test]
    fn archives_are_bounded() {
        let mut meetings = Meetings::new(None);
        let many: Vec<_> = (0..200).map(archive).collect();
        meetings.set_archives(&many, Instant::now());
        assert_eq!(all(&mut meetings, true, Instant::now()).len(), MAX_ARCHIVES);
        meetings.set_archives(&[], Instant::now());
        assert!(meetings.archives.is_empty());
    }
}
