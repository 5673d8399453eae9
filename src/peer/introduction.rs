//! Asking a peer what it holds, and whom it knows.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use super::client::{MAX_TAG, PeerClient, PeerError, check, check_document, next_bytes};
use crate::swarm::PeerFault;
use crate::swarm::neighbourhood::Told;
use crate::wire::{
    HAVE_PATH, HAVE_SET_HEAD, HaveSet, HaveSetProblem, MAX_NEIGHBOURS_BYTES, NEIGHBOURS_PATH,
    neighbours_from_json,
};

/// The oldest that a set is taken to be: what says that it is older is not to be believed.
const MAX_AGE: u64 = 3600;

impl PeerClient {
    /// Asks for the have-set of a peer, unless it is the one that `known` names.
    ///
    /// # Errors
    /// [`PeerError::Busy`] where the peer says so, [`PeerError::Fault`] for anything that is no have-set.
    pub async fn have(&self, peer: SocketAddr, known: Option<String>) -> Result<Told, PeerError> {
        let known = known.and_then(|tag| HeaderValue::try_from(tag).ok());
        let known = known.map(|tag| (header::IF_NONE_MATCH, tag));
        let (mut response, question) = self.send(Method::GET, peer, HAVE_PATH, known.as_slice()).await?;
        if response.status() != StatusCode::OK {
            check(question.as_ref(), &response, None)?;
        }
        let age = age(response.headers());
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Told::Same(age)),
            StatusCode::NOT_FOUND => return Ok(Told::Nothing),
            status => return Err(refusal(status)),
        }
        let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.filter(|tag| tag.len() <= MAX_TAG).map(str::to_owned);
        let bad = |problem: HaveSetProblem| PeerError::new(PeerFault::BadList, problem.to_string());
        let (mut bytes, mut most) = (Vec::new(), None);
        while let Some(more) = next_bytes(response.body_mut()).await? {
            bytes.extend_from_slice(&more);
            if most.is_none() && bytes.len() >= HAVE_SET_HEAD {
                most = Some(HaveSet::announced_length(&bytes).map_err(bad)?);
            }
            // A frame is bounded by the connection's buffer: no more than that is taken beyond what was announced.
            if most.is_some_and(|most| bytes.len() > most) {
                return Err(PeerError::new(PeerFault::Long, "more than the have-set's count says"));
            }
        }
        check_document(question.as_ref(), &response, &bytes)?;
        let set = HaveSet::parse(&bytes).map_err(bad)?;
        Ok(Told::Set { set, tag, age })
    }

    /// Asks whom a peer knows; nobody, where it does not tell. The addresses may be anything.
    ///
    /// # Errors
    /// As [`PeerClient::have`].
    pub async fn neighbours(&self, peer: SocketAddr) -> Result<Vec<SocketAddr>, PeerError> {
        let (mut response, question) = self.send(Method::GET, peer, NEIGHBOURS_PATH, &[]).await?;
        if response.status() != StatusCode::OK {
            check(question.as_ref(), &response, None)?;
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Vec::new()),
            status => return Err(refusal(status)),
        }
        let mut json = Vec::new();
        while let Some(more) = next_bytes(response.body_mut()).await? {
            json.extend_from_slice(&more);
            if json.len() > MAX_NEIGHBOURS_BYTES {
                return Err(PeerError::new(PeerFault::BadList, "a list of neighbours beyond all bounds"));
            }
        }
        check_document(question.as_ref(), &response, &json)?;
        neighbours_from_json(&json)
            .ok_or_else(|| PeerError::new(PeerFault::BadList, "not a list of neighbours"))
    }
}

fn refusal(status: StatusCode) -> PeerError {
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => PeerError::Busy,
        _ => PeerError::new(PeerFault::ServerError, status.to_string()),
    }
}

/// How old the answer says that it is (RFC 9111, section 5.1).
fn age(headers: &HeaderMap) -> Duration {
    let text = headers.get(header::AGE).and_then(|value| value.to_str().ok());
    let seconds: u64 = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds.min(MAX_AGE))
}
