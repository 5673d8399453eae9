//! Tokens: who sends one back has received what we sent to that address, so that nobody stores in another's name.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ring::hmac;

/// How long one secret makes new tokens (BEP 5: "a secret that changes every five minutes").
const PERIOD: Duration = Duration::from_secs(5 * 60);

/// A token: an HMAC cut to 64 bits. Whoever guesses gets one answer for each try, a few times a second.
pub(super) type Token = [u8; 8];

/// Makes and checks tokens; nothing is stored for any of them.
#[derive(Debug)]
pub(super) struct Tokens {
    key: hmac::Key,
    started: Instant,
}

impl Tokens {
    /// Tokens of a key that nobody else knows.
    pub(super) const fn new(key: hmac::Key, now: Instant) -> Self {
        Self { key, started: now }
    }

    /// The token of an address now.
    pub(super) fn issue(&self, to: IpAddr, now: Instant) -> Token {
        self.token(to, self.period(now))
    }

    /// Whether `token` was issued to `from` at most ten minutes ago (BEP 5: "tokens up to ten minutes old are
    /// accepted"): in this period or the one before.
    pub(super) fn accepts(&self, token: &[u8], from: IpAddr, now: Instant) -> bool {
        let period = self.period(now);
        let before = period.checked_sub(1);
        [Some(period), before].into_iter().flatten().any(|period| self.token(from, period) == *token)
    }

    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / PERIOD.as_secs()
    }

    fn token(&self, address: IpAddr, period: u64) -> Token {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"token");
        context.update(&period.to_be_bytes());
        match address.to_canonical() {
            IpAddr::V4(v4) => context.update(&v4.octets()),
            IpAddr::V6(v6) => context.update(&v6.octets()),
        }
        let mut token = Token::default();
        let tag = context.sign();
        token.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: u8, now: Instant) -> Tokens {
        Tokens::new(hmac::Key::new(hmac::HMAC_SHA256, &[secret; 32]), now)
    }

    #[test]
    fn a_token_is_good_for_five_to_ten_minutes() {
        let start = Instant::now();
        let tokens = tokens(1, start);
        let from: IpAddr = "1.2.3.4".parse().unwrap();
        for minute in [0, 1, 4, 5, 9, 100] {
            let issued = start + Duration::from_secs(60 * minute);
            let token = tokens.issue(from, issued);
            for age in [0, 60, 299] {
                assert!(tokens.accepts(&token, from, issued + Duration::from_secs(age)), "{minute} {age}");
            }
            assert!(!tokens.accepts(&token, from, issued + Duration::from_secs(600)), "{minute}");
        }
    }

    #[test]
    fn a_token_is_bound_to_its_address_and_its_node() {
        let now = Instant::now();
        let here = tokens(1, now);
        let from: IpAddr = "2a00::1".parse().unwrap();
        let token = here.issue(from, now);
        assert!(!here.accepts(&token, "2a00::2".parse().unwrap(), now));
        assert!(!tokens(2, now).accepts(&token, from, now));
        for wrong in [&b""[..], &token[..7], &[token.as_slice(), b"x"].concat()] {
            assert!(!here.accepts(wrong, from, now));
        }
        let mapped = here.issue("::ffff:1.2.3.4".parse().unwrap(), now);
        assert!(here.accepts(&mapped, "1.2.3.4".parse().unwrap(), now), "one address, two spellings");
    }
}
