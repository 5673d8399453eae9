//! How often strangers are listened to: each host, each network, and all together.
//!
//! Two tables of buckets of a fixed size, no map. A source has two places in each, by a hash that nobody else can
//! compute, and draws from the fuller one. So nothing grows and nothing is evicted, and a source that floods empties
//! its own two places only: another suffers if both of its places are among those, that is hardly ever. A flood from
//! forged addresses all over the world can empty no more places than the ceiling for all lets through, and what it
//! emptied is full again within seconds after it ends; while it lasts, a stranger's datagrams get their share of the
//! ceiling by chance.

use std::net::IpAddr;
use std::time::Instant;

use ring::hmac;

use super::prefix::Prefix;

/// What each of a host's two places lets through: a look-up asks a node once or twice, a machine that announces much
/// some times a second. A shared address of a provider has many hosts behind it.
const HOST: Pace = Pace::new(10, 50);

/// The same for a network of 256 or more hosts.
const NETWORK: Pace = Pace::new(40, 200);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Limiter {
    key: hmac::Key,
    started: Instant,
    hosts: Table,
    networks: Table,
    all: Bucket,
    ceiling: Pace,
}

impl Limiter {
    /// `places` of each table (8 bytes each), and at most so many datagrams of all strangers in a second, which may
    /// all come at once.
    pub(super) fn new(key: hmac::Key, places: usize, per_second: u32, now: Instant) -> Self {
        Self {
            key,
            started: now,
            hosts: Table::new(places, HOST),
            networks: Table::new(places, NETWORK),
            all: Bucket::default(),
            ceiling: Pace::new(per_second, per_second),
        }
    }

    /// Whether a datagram from there may cost us anything; if so, it is counted.
    pub(super) fn admit(&mut self, from: IpAddr, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX);
        // In a flood this is all that is looked at.
        if self.all.drawn(self.ceiling, now).is_none() {
            return false;
        }
        // No router forwards loopback addresses (RFC 1122, section 3.2.1.3): this is our own machine.
        if !from.to_canonical().is_loopback() {
            let host = self.places(b"host", Prefix::host(from));
            if !self.hosts.take(host, now) {
                return false;
            }
            let network = self.places(b"network", Prefix::network(from));
            if !self.networks.take(network, now) {
                return false;
            }
        }
        self.all.take(self.ceiling, now)
    }

    /// Two numbers of a source that nobody without the key can compute.
    fn places(&self, kind: &[u8], source: Prefix) -> [u64; 2] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(kind);
        context.update(&source.to_bytes());
        let tag = context.sign();
        let number = |at: usize| tag.as_ref()[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        [number(0), number(8)]
    }
}

/// How fast a bucket fills and how much it holds, both as times in microseconds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// What one datagram costs.
    each: u64,
    /// How far a bucket may be drawn in advance.
    ahead: u64,
}

impl Pace {
    const fn new(per_second: u32, burst: u32) -> Self {
        let each = 1_000_000 / if per_second == 0 { 1 } else { per_second as u64 };
        Self { each, ahead: each * burst as u64 }
    }
}

/// A token bucket as one number: when it will be full again, in microseconds since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket(u64);

impl Bucket {
    fn take(&mut self, pace: Pace, now: u64) -> bool {
        let drawn = self.drawn(pace, now);
        *self = drawn.unwrap_or(*self);
        drawn.is_some()
    }

    /// What it is after one datagram more, if there is enough in it.
    fn drawn(self, pace: Pace, now: u64) -> Option<Self> {
        let full_at = self.0.max(now).saturating_add(pace.each);
        (full_at <= now.saturating_add(pace.ahead)).then_some(Self(full_at))
    }
}

#[derive(Debug)]
struct Table {
    buckets: Box<[Bucket]>,
    pace: Pace,
}

impl Table {
    fn new(places: usize, pace: Pace) -> Self {
        Self { buckets: vec![Bucket::default(); places.max(1)].into(), pace }
    }

    fn take(&mut self, [a, b]: [u64; 2], now: u64) -> bool {
        #[allow(clippy::cast_possible_truncation, reason = "less than the length")]
        let place = |number: u64| (number % self.buckets.len() as u64) as usize;
        let (a, b) = (place(a), place(b));
        let fuller = if self.buckets[b] < self.buckets[a] { b } else { a };
        self.buckets[fuller].take(self.pace, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    const PLENTY: u32 = 1_000_000;

    fn limiter(per_second: u32, now: Instant) -> Limiter {
        Limiter::new(hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), 4096, per_second, now)
    }

    fn v4(bits: u32) -> IpAddr {
        Ipv4Addr::from_bits(bits).into()
    }

    fn admitted(limiter: &mut Limiter, from: impl Iterator<Item = IpAddr>, now: Instant) -> usize {
        from.filter(|from| limiter.admit(*from, now)).count()
    }

    #[test]
    fn a_host_gets_a_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut limiter = limiter(PLENTY, start);
        let host = v4(0x0102_0304);
        let burst = admitted(&mut limiter, std::iter::repeat_n(host, 1000), start);
        assert_eq!(burst, 100, "two places of 50");
        let later = (1..=1000_u64).map(|at| start + Duration::from_millis(10 * at));
        let then = later.filter(|now| limiter.admit(host, *now)).count();
        assert!((195..=205).contains(&then), "{then} in ten seconds");
        assert!(limiter.admit(v4(0x0102_0305), start + Duration::from_secs(10)), "its neighbour");
    }

    #[test]
    fn a_network_has_less_than_the_sum_of_its_hosts() {
        let now = Instant::now();
        let sixty_four = |at: u128| IpAddr::from(Ipv6Addr::from_bits(0x2a00_0001_0002 << 80 | at << 64));
        let mut limiter = limiter(PLENTY, now);
        let burst = admitted(&mut limiter, (0..5000).map(sixty_four), now);
        assert_eq!(burst, 400, "two places of 200");
        let burst = admitted(&mut limiter, (0..5000).map(|at| v4(0x0505_0500 + at % 256)), now);
        assert_eq!(burst, 400, "two places of 200");
    }

    #[test]
    fn the_ceiling_holds_for_all_and_this_machine_is_under_it_too() {
        let start = Instant::now();
        let mut limiter = limiter(100, start);
        let strangers = (0..10_000).map(|at: u32| v4(at.wrapping_mul(2_654_435_761)));
        assert_eq!(admitted(&mut limiter, strangers, start), 100);
        assert!(!limiter.admit(Ipv4Addr::LOCALHOST.into(), start));
        let second = start + Duration::from_secs(1);
        let local = std::iter::repeat_n(Ipv4Addr::LOCALHOST.into(), 1000);
        assert_eq!(admitted(&mut limiter, local, second), 100, "no limit of its own");
    }

    #[test]
    fn a_flood_of_forged_sources_locks_out_nobody_for_long() {
        let start = Instant::now();
        let mut limiter = limiter(500, start);
        let honest = v4(0x5809_0a0b);
        for second in 0..20 {
            let now = start + Duration::from_secs(second);
            let forged =
                (0..20_000_u32).map(|at| v4((at + 20_000 * second as u32).wrapping_mul(2_654_435_761)));
            admitted(&mut limiter, forged, now);
        }
        let after = start + Duration::from_secs(20);
        assert_eq!(admitted(&mut limiter, std::iter::repeat_n(honest, 50), after), 50);
    }

    #[test]
    fn hosts_that_flood_do_not_silence_others() {
        let now = Instant::now();
        let mut limiter = limiter(PLENTY, now);
        for host in 0..40_u32 {
            admitted(&mut limiter, std::iter::repeat_n(v4(0x0909_0000 + (host << 8)), 1000), now);
        }
        let others = (0..1000).map(|at| v4(0x2000_0000 + (at << 8)));
        let heard = admitted(&mut limiter, others, now);
        assert!(heard >= 990, "{heard} of 1000");
    }
}
