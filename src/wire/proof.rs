//! Proofs of membership in a private swarm: what a request and its answer say so that either side knows the other one.
//!
//! docs/protocol.md, section 13. Codes are compared in constant time.

use std::collections::{HashSet, VecDeque};

use ring::hmac;

use super::secret::Secret;
use crate::digest::{Sha256, parse_hex, to_hex};

/// How the `Authorization` of a request begins (RFC 9110, section 11.4).
const SCHEME: &str = "Aptpeer-HMAC-SHA256";

/// The header with the proof of an answer.
pub const ANSWER_PROOF: &str = "aptpeer-proof";

/// What the messages begin with, so that no code can stand for another.
const REQUEST: &str = "aptpeer request 1\n";
const ANSWER: &str = "aptpeer answer 1\n";

/// How far the clocks of two members may be apart, in seconds.
pub const MAX_SKEW: u64 = 300;

/// Nonces that are remembered: 53 requests a second for as long as a proof is good. A nonce takes some 60 bytes, all
/// together 2 MiB, and only members can make any.
const MEMORY: usize = 32_768;

/// Drawn by the client for each request.
pub type Nonce = [u8; 16];

/// What a proof vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The request target as it stands in the request line: path and query.
    pub target: &'a str,
    /// The `Host` header: `ADDRESS:PORT` as the client knows the server.
    pub host: &'a str,
}

/// The proof that a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// When the request was made, in seconds since 1970 UTC.
    pub time: u64,
    /// Differs from request to request.
    pub nonce: Nonce,
    code: [u8; 32],
}

impl Proof {
    /// The proof of a member for one request.
    pub fn new(secret: &Secret, asked: &Asked<'_>, time: u64, nonce: Nonce) -> Self {
        let mut code = [0; 32];
        code.copy_from_slice(hmac::sign(secret.key(), request(asked, time, &nonce).as_bytes()).as_ref());
        Self { time, nonce, code }
    }

    /// Reads the value of an `Authorization` header; `None` for anything but a proof as [`Proof::to_header`] writes it.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, parameters) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let mut parts = parameters.split(',').map(str::trim);
        let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
        let (time, nonce, code) = (part("time")?, part("nonce")?, part("code")?);
        let all_digits = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
        let proof = Self { time: time.parse().ok()?, nonce: parse_hex(nonce)?, code: parse_hex(code)? };
        (all_digits && parts.next().is_none()).then_some(proof)
    }

    /// The value of the `Authorization` header.
    pub fn to_header(&self) -> String {
        format!("{SCHEME} time={}, nonce={}, code={}", self.time, to_hex(&self.nonce), to_hex(&self.code))
    }

    /// Whether a member has made it for this request, at a time that is not far from `now` (seconds since 1970 UTC).
    pub fn holds(&self, secret: &Secret, asked: &Asked<'_>, now: u64) -> bool {
        let message = request(asked, self.time, &self.nonce);
        let made = hmac::verify(secret.key(), message.as_bytes(), &self.code).is_ok();
        made && self.time.abs_diff(now) <= MAX_SKEW
    }
}

/// What the proof of an answer vouches for.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// What was asked.
    pub asked: Asked<'a>,
    /// The nonce of the request's proof.
    pub nonce: &'a Nonce,
    /// The status of the answer.
    pub status: u16,
    /// The SHA-256 of the content where it is a piece list; an object's bytes are proven by its own digest.
    pub content: Option<Sha256>,
}

impl Answered<'_> {
    /// The value of the header [`ANSWER_PROOF`].
    pub fn prove(&self, secret: &Secret) -> String {
        to_hex(hmac::sign(secret.key(), self.message().as_bytes()).as_ref())
    }

    /// Whether `header` is a member's proof of it.
    pub fn holds(&self, secret: &Secret, header: &str) -> bool {
        parse_hex::<32>(header)
            .is_some_and(|code| hmac::verify(secret.key(), self.message().as_bytes(), &code).is_ok())
    }

    fn message(&self) -> String {
        let Asked { method, target, host } = self.asked;
        let content = self.content.map(|digest| digest.to_string()).unwrap_or_default();
        let (nonce, status) = (to_hex(self.nonce), self.status);
        format!("{ANSWER}{method}\n{target}\n{host}\n{nonce}\n{status}\n{content}\n")
    }
}

/// No part of a request line or of a header can have a line break, so that no two requests have the same message.
fn request(asked: &Asked<'_>, time: u64, nonce: &Nonce) -> String {
    let Asked { method, target, host } = asked;
    format!("{REQUEST}{method}\n{target}\n{host}\n{time}\n{}\n", to_hex(nonce))
}

/// The nonces of requests that were answered: nobody who overhears a proof can use it again while it is good.
#[derive(Debug, Default)]
pub struct Nonces {
    seen: HashSet<Nonce>,
    /// In the order in which they came, each with when it is good for nothing any more.
    order: VecDeque<(Nonce, u64)>,
}

impl Nonces {
    /// Notes the nonce of a proof that holds; says whether it is new. Beyond what is remembered the oldest are forgotten.
    pub fn note(&mut self, proof: &Proof, now: u64) -> bool {
        while let Some((nonce, until)) = self.order.front().copied()
            && (until < now || self.order.len() >= MEMORY)
        {
            self.order.pop_front();
            self.seen.remove(&nonce);
        }
        if !self.seen.insert(proof.nonce) {
            return false;
        }
        self.order.push_back((proof.nonce, proof.time.saturating_add(MAX_SKEW)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked { method: "GET", target: "/hash/0", host: "192.0.2.1:9979" };
    const NOW: u64 = 1_800_000_000;

    fn secret(first: u8) -> Secret {
        Secret::new(std::array::from_fn(|at| first.wrapping_add(u8::try_from(at).unwrap()))).unwrap()
    }

    #[test]
    fn a_proof_is_read_as_it_is_written_and_holds() {
        let proof = Proof::new(&secret(1), &ASKED, NOW, [9; 16]);
        let read = Proof::parse(&proof.to_header()).unwrap();
        assert_eq!(read, proof);
        assert!(read.holds(&secret(1), &ASKED, NOW));
        assert!(read.holds(&secret(1), &ASKED, NOW + 300) && read.holds(&secret(1), &ASKED, NOW - 300));
    }

    #[test]
    fn another_request_time_nonce_or_secret_has_another_proof() {
        let proof = Proof::new(&secret(1), &ASKED, NOW, [9; 16]);
        assert!(!proof.holds(&secret(2), &ASKED, NOW));
        assert!(!proof.holds(&secret(1), &ASKED, NOW + 301) && !proof.holds(&secret(1), &ASKED, NOW - 301));
        for other in [
            Asked { method: "HEAD", ..ASKED },
            Asked { target: "/hash/1", ..ASKED },
            Asked { host: "192.0.2.2:9979", ..ASKED },
        ] {
            assert!(!proof.holds(&secret(1), &other, NOW), "{other:?}");
        }
        assert!(!Proof { time: NOW + 1, ..proof }.holds(&secret(1), &ASKED, NOW));
        assert!(!Proof { nonce: [8; 16], ..proof }.holds(&secret(1), &ASKED, NOW));
        assert!(!Proof { code: [8; 32], ..proof }.holds(&secret(1), &ASKED, NOW));
    }

    #[test]
    fn what_is_no_proof_is_none() {
        let good = Proof::new(&secret(1), &ASKED, NOW, [9; 16]).to_header();
        assert!(Proof::parse(&good.replace(SCHEME, "aptpeer-hmac-sha256")).is_some());
        let (head, code) = good.split_at(good.len() - 1);
        for bad in [
            "",
            "Basic dXNlcjpwYXNz",
            SCHEME,
            head,
            &format!("{good}, more=1"),
            &good.replace("time=", "time=+"),
            &good.replace("time=", "time=99999999999999999999"),
            &good.replace("nonce=", "nonce=0"),
            &good.replace("code=", "mac="),
            &format!("{head}é{code}"),
        ] {
            assert_eq!(Proof::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_is_proven_for_its_request_alone() {
        let nonce = [7; 16];
        let answer = Answered { asked: ASKED, nonce: &nonce, status: 200, content: None };
        let header = answer.prove(&secret(1));
        assert!(answer.holds(&secret(1), &header));
        assert!(!answer.holds(&secret(2), &header) && !answer.holds(&secret(1), ""));
        assert!(!Answered { status: 404, ..answer }.holds(&secret(1), &header));
        assert!(!Answered { nonce: &[8; 16], ..answer }.holds(&secret(1), &header));
        assert!(!Answered { content: Some(Sha256::of(b"")), ..answer }.holds(&secret(1), &header));
        let elsewhere = Asked { host: "192.0.2.9:9979", ..ASKED };
        assert!(!Answered { asked: elsewhere, ..answer }.holds(&secret(1), &header));
    }

    #[test]
    fn a_request_is_no_answer() {
        let proof = Proof::new(&secret(1), &ASKED, NOW, [7; 16]);
        let answer = Answered { asked: ASKED, nonce: &[7; 16], status: 200, content: None };
        assert!(!answer.holds(&secret(1), &to_hex(&proof.code)));
    }

    #[test]
    fn a_nonce_is_good_once_and_the_memory_is_bounded() {
        let mut nonces = Nonces::default();
        let proof = |number: u64, time| {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&number.to_be_bytes());
            Proof { time, nonce, code: [0; 32] }
        };
        assert!(nonces.note(&proof(0, NOW), NOW) && !nonces.note(&proof(0, NOW), NOW + 300));
        assert!(nonces.note(&proof(1, NOW + 301), NOW + 301), "the first is outdated by now");
        assert_eq!(nonces.order.len(), 1);
        for number in 2..2 * MEMORY as u64 {
            assert!(nonces.note(&proof(number, NOW + 301), NOW + 301));
        }
        assert_eq!((nonces.order.len(), nonces.seen.len()), (MEMORY, MEMORY));
    }
}
