//! The door of a private swarm (docs/protocol.md, section 13): who has proved the secret is answered, and answered with a
//! proof; to everybody else nothing is here.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};

use crate::clock;
use crate::dht::is_local;
use crate::digest::Sha256;
use crate::http::Body;
use crate::wire::{ANSWER_PROOF, Answered, Asked, Nonce, Nonces, Proof, Swarm};

/// The addresses by which others see us, as far as they are known.
pub type External = Arc<dyn Fn() -> Vec<IpAddr> + Send + Sync>;

/// Knows members by their proofs.
pub struct Guard {
    swarm: Swarm,
    external: External,
    nonces: Mutex<Nonces>,
}

/// The content of an answer that is a document: what it says is proven with it.
#[derive(Clone)]
pub(super) struct Document(pub(super) Bytes);

/// A request of a member.
pub(super) struct Admitted {
    method: String,
    target: String,
    host: String,
    nonce: Nonce,
}

impl Guard {
    /// The door of `swarm`. `external` tells where others reach us: a proof that was made for another address is of
    /// somebody who was led astray, and brought here by whoever did it.
    pub fn new(swarm: Swarm, external: External) -> Self {
        Self { swarm, external, nonces: Mutex::default() }
    }

    /// The member who asks; `None` for everybody else. Nothing that is held here has been looked at by then.
    pub(super) fn admit(&self, request: &Request<Incoming>, local: IpAddr) -> Option<Admitted> {
        let secret = self.swarm.secret()?;
        let field = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (proof, host) = (Proof::parse(field(header::AUTHORIZATION)?)?, field(header::HOST)?);
        let admitted = Admitted {
            method: request.method().to_string(),
            target: request.uri().path_and_query()?.to_string(),
            host: host.to_owned(),
            nonce: proof.nonce,
        };
        let now = clock::unix_seconds();
        if !proof.holds(secret, &admitted.asked(), now) || !self.is_here(host, local) {
            return None;
        }
        let new = self.nonces.lock().unwrap_or_else(PoisonError::into_inner).note(&proof, now);
        new.then_some(admitted)
    }

    /// Proves an answer to whoever asked.
    pub(super) fn prove(&self, response: &mut Response<Body>, admitted: &Admitted) {
        let Some(secret) = self.swarm.secret() else { return };
        let document = response.extensions_mut().remove::<Document>();
        let document = document.filter(|_| response.status() == StatusCode::OK);
        let answered = Answered {
            asked: admitted.asked(),
            nonce: &admitted.nonce,
            status: response.status().as_u16(),
            content: document.map(|Document(bytes)| Sha256::of(&bytes)),
        };
        if let Ok(proof) = HeaderValue::try_from(answered.prove(secret)) {
            response.headers_mut().insert(HeaderName::from_static(ANSWER_PROOF), proof);
        }
    }

    fn is_here(&self, host: &str, local: IpAddr) -> bool {
        let Ok(host) = host.parse::<SocketAddr>() else { return false };
        may_be_ours(host.ip().to_canonical(), local.to_canonical(), &(self.external)())
    }
}

impl Admitted {
    fn asked(&self) -> Asked<'_> {
        Asked { method: &self.method, target: &self.target, host: &self.host }
    }
}

/// Whether a request that arrived at `local` was sent to us when it was sent to `host`. Behind a router nobody may know the
/// address that others see, and within a local network there may be further ones.
fn may_be_ours(host: IpAddr, local: IpAddr, external: &[IpAddr]) -> bool {
    if host == local {
        return true;
    }
    if !is_local(local) {
        return false;
    }
    let mut known = external.iter().filter(|ip| ip.is_ipv4() == host.is_ipv4()).peekable();
    is_local(host) || known.peek().is_none() || known.any(|ip| *ip == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_for_another_address_is_refused_where_ours_is_known() {
        let may = |host: &str, local: &str, external: &[&str]| {
            let external: Vec<IpAddr> = external.iter().map(|ip| ip.parse().unwrap()).collect();
            may_be_ours(host.parse().unwrap(), local.parse().unwrap(), &external)
        };
        assert!(may("8.8.8.8", "8.8.8.8", &[]) && may("10.0.0.1", "10.0.0.1", &["8.8.8.8"]));
        assert!(!may("9.9.9.9", "8.8.8.8", &[]), "no router between us and others");
        assert!(may("8.8.8.8", "10.0.0.1", &["8.8.8.8"]), "behind a router");
        assert!(may("8.8.8.8", "10.0.0.1", &[]) && may("8.8.8.8", "10.0.0.1", &["2a00::1"]), "nobody knows");
        assert!(!may("9.9.9.9", "10.0.0.1", &["8.8.8.8"]));
        assert!(may("192.168.1.5", "172.17.0.2", &["8.8.8.8"]), "a container");
    }
}
