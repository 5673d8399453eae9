//! By which address others see us (BEP 42, "bootstrapping"): what enough strangers agree about.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::address::{is_dialable, is_local};
use super::prefix::Prefix;

/// Votes that are kept, one for each network that a voter is in: the latest count.
const MAX_VOTES: usize = 16;

/// Voters of different networks that must agree.
const ENOUGH: usize = 3;

/// What answers say about where we are.
#[derive(Debug, Default)]
pub(super) struct Votes {
    votes: VecDeque<(Prefix, IpAddr)>,
    elected: Option<IpAddr>,
}

impl Votes {
    /// Counts the vote of `voter`. Returns the address that we are now known to have, if that is news.
    pub(super) fn cast(&mut self, voter: IpAddr, seen_at: SocketAddr) -> Option<IpAddr> {
        let address = seen_at.ip();
        if voter.is_ipv4() != address.is_ipv4() || is_local(address) || !is_dialable(seen_at) {
            return None;
        }
        let voter = Prefix::network(voter);
        self.votes.retain(|(earlier, _)| *earlier != voter);
        if self.votes.len() == MAX_VOTES {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, address));
        let agree = self.votes.iter().filter(|(_, vote)| *vote == address).count();
        let news = agree >= ENOUGH && agree * 2 > self.votes.len() && self.elected != Some(address);
        news.then(|| *self.elected.insert(address))
    }

    /// The address that enough agree about.
    pub(super) const fn elected(&self) -> Option<IpAddr> {
        self.elected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(votes: &mut Votes, voter: &str, seen: &str) -> Option<String> {
        votes.cast(voter.parse().unwrap(), seen.parse().unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn three_networks_must_agree() {
        let mut votes = Votes::default();
        for voter in ["1.1.1.1", "1.1.1.2", "1.1.1.3", "2.2.2.2"] {
            assert_eq!(cast(&mut votes, voter, "9.9.9.9:1"), None, "{voter}");
        }
        assert_eq!(cast(&mut votes, "3.3.3.3", "9.9.9.9:2").as_deref(), Some("9.9.9.9"));
        assert_eq!(cast(&mut votes, "4.4.4.4", "9.9.9.9:2"), None, "no news");
        for voter in ["5.5.5.5", "6.6.6.6", "7.7.7.7", "8.8.8.8"] {
            assert_eq!(cast(&mut votes, voter, "8.7.6.5:1"), None, "liars are no majority yet");
        }
        assert_eq!(votes.elected().map(|address| address.to_string()).as_deref(), Some("9.9.9.9"));
    }

    #[test]
    fn a_new_address_wins_in_the_end_and_impossible_ones_never() {
        let mut votes = Votes::default();
        for voter in 1..=16 {
            cast(&mut votes, &format!("1.1.{voter}.1"), "9.9.9.9:1");
            cast(&mut votes, &format!("1.2.{voter}.1"), "192.168.1.1:1");
            cast(&mut votes, &format!("1.3.{voter}.1"), "[2a00::1]:1");
        }
        let won = (1..=16).find_map(|voter| cast(&mut votes, &format!("1.1.{voter}.1"), "8.8.8.8:1"));
        assert_eq!(won.as_deref(), Some("8.8.8.8"));
    }
}
