//! A request to a member of a private swarm: what it proves, and whether its answer does (docs/protocol.md, section 13).

use std::net::SocketAddr;
use std::time::SystemTime;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock;
use crate::digest::Sha256;
use crate::wire::{ANSWER_PROOF, Answered, Asked, MAX_SKEW, Nonce, Proof, Swarm};

/// What was asked, to be compared with the proof of the answer.
#[derive(Debug)]
pub(super) struct Question {
    swarm: Swarm,
    method: Method,
    target: String,
    host: String,
    nonce: Nonce,
}

impl Question {
    /// A question to `peer`, and the headers that go with it. `None` in the public swarm, or where the system gives no random
    /// bytes.
    pub(super) fn new(
        swarm: &Swarm,
        method: &Method,
        peer: SocketAddr,
        target: &str,
    ) -> Option<(Self, [(HeaderName, HeaderValue); 2])> {
        let secret = swarm.secret()?;
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let (host, target) = (SocketAddr::new(peer.ip(), peer.port()).to_string(), target.to_owned());
        let question = Self { swarm: swarm.clone(), method: method.clone(), target, host, nonce };
        let proof = Proof::new(secret, &question.asked(), clock::unix_seconds(), nonce);
        let mut code = HeaderValue::try_from(proof.to_header()).ok()?;
        code.set_sensitive(true);
        let host = HeaderValue::try_from(&question.host).ok()?;
        Some((question, [(header::HOST, host), (header::AUTHORIZATION, code)]))
    }

    /// Whether a member has answered; `content` is the digest of a document.
    ///
    /// # Errors
    /// What speaks against it.
    pub(super) fn check<B>(&self, response: &Response<B>, content: Option<Sha256>) -> Result<(), String> {
        let Some(secret) = self.swarm.secret() else { return Ok(()) };
        let (asked, status) = (self.asked(), response.status().as_u16());
        let answered = Answered { asked, nonce: &self.nonce, status, content };
        let header = response.headers().get(ANSWER_PROOF).and_then(|value| value.to_str().ok());
        if header.is_some_and(|header| answered.holds(secret, header)) {
            return Ok(());
        }
        Err(match skew(response.headers()) {
            Some(skew) if skew > MAX_SKEW => {
                format!("no proof that it is of our swarm; its clock and ours are {skew} s apart")
            }
            _ => "no proof that it is of our swarm".to_owned(),
        })
    }

    fn asked(&self) -> Asked<'_> {
        Asked { method: self.method.as_str(), target: &self.target, host: &self.host }
    }
}

/// How far the clock of a server is from ours, in seconds, as far as it tells.
fn skew(headers: &HeaderMap) -> Option<u64> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let theirs = date.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Some(theirs.abs_diff(clock::unix_seconds()))
}
