//! The peers of a download: who is looked for, who is taken, and what they say and did.

use std::net::SocketAddr;
use std::time::Instant;

use tracing::{debug, warn};

use super::Flight;
use crate::clock;
use crate::discovery::{Found, Provider};
use crate::download::Want;
use crate::download::findings::Findings;
use crate::metrics::VerificationFailure;
use crate::peer::{ListAnswer, News, PeerError, is_near};
use crate::swarm::{Fact, PeerFault, PeerKind, Prefer, SourceId};

impl Flight {
    /// Starts to look for peers: at once where an object has several pieces, or no peer is known; for a small one that
    /// somebody may hold, only when it turns out that none of those does. It costs apt nothing: nothing waits for it
    /// that could be had elsewhere.
    pub(super) fn look_up_if_due(&mut self) {
        let small = self.canvas.geometry().pieces() == 1;
        let spared = small && self.machine.has_live_peer();
        // Whoever is asked for it learns that there is such an object.
        if self.looked_up || self.shared.is_local() || spared || self.machine.ledger().is_closed() {
            return;
        }
        self.looked_up = true;
        let Want { id, .. } = self.shared.want;
        self.findings = self.context.look_ups.start(&self.context.discovery, id, self.canvas.geometry());
        if let Some(findings) = &self.findings {
            self.machine.expect_findings(findings.until());
        }
    }

    pub(super) fn handle_found(&mut self, found: Option<Found>) {
        match found {
            Some(Found::Provider(provider)) => self.add_found(provider),
            Some(Found::List { list, signed }) => self.machine.handle_found_list(list, signed),
            None => {
                self.findings = None;
                self.machine.handle_findings_end();
            }
        }
    }

    /// The peers that are known. Those that nobody chose do not learn of an object that is not for everybody.
    pub(super) fn add_all_known(&mut self, now: Instant) {
        let choosy = self.shared.is_local() && !self.context.peers.is_private();
        for provider in self.context.providers(&self.shared.want.id) {
            if !choosy || provider.kind == PeerKind::Neighbour || is_near(provider.address.ip()) {
                self.add_known(provider, now);
            }
        }
    }

    /// A peer that was known when the download began.
    fn add_known(&mut self, provider: Provider, now: Instant) {
        let Some(standing) = self.context.standing(provider.address, now) else { return };
        if self.admission.admit(&provider, &self.context.borders) {
            let source = self.machine.add_peer(self.kind(&provider), provider.address.ip(), standing, now);
            self.peers.insert(source, provider);
        }
    }

    /// A peer that a look-up has found. Nothing waits for a stranger that has not proved itself before, unless the user
    /// wants the mirror to be spared.
    fn add_found(&mut self, provider: Provider) {
        let now = clock::now();
        let Some(mut standing) = self.context.standing(provider.address, now) else { return };
        if !self.admission.admit(&provider, &self.context.borders) {
            return;
        }
        debug!(object = %self.shared.want.id, peer = %provider.address, "a look-up found a peer");
        let untried = provider.kind == PeerKind::Stranger && standing.first_byte.is_none();
        standing.doubtful |= untried && self.context.prefer == Prefer::Speed;
        let source = self.machine.add_peer(self.kind(&provider), provider.address.ip(), standing, now);
        self.peers.insert(source, provider);
    }

    /// What a peer's word is worth. In a private swarm nothing is heard of those who are no members, and members are
    /// neighbours, however they were found.
    fn kind(&self, provider: &Provider) -> PeerKind {
        if self.context.peers.is_private() { PeerKind::Neighbour } else { provider.kind }
    }

    pub(super) fn address(&self, source: SourceId) -> Option<SocketAddr> {
        self.peers.get(&source).map(|peer| peer.address)
    }

    pub(super) fn ask_list(&mut self, source: SourceId, news: Option<News>) {
        let Some(peer) = self.address(source) else { return };
        let (client, canvas) = (self.context.peers.clone(), self.canvas.clone());
        self.lists.spawn(async move {
            let id = canvas.assembly().id();
            (source, client.list(peer, id, canvas.geometry(), news).await)
        });
    }

    pub(super) fn handle_list(&mut self, source: SourceId, answer: Result<ListAnswer, PeerError>) {
        let now = clock::now();
        match answer {
            Ok(ListAnswer::List { list, have, tag }) => {
                match tag {
                    Some(tag) => drop(self.tags.insert(source, tag)),
                    None => drop(self.tags.remove(&source)),
                }
                self.machine.handle_list(source, list, have, now);
            }
            Ok(ListAnswer::NoNews) => self.machine.handle_no_news(source),
            Ok(ListAnswer::None) => self.machine.handle_no_list(source, now),
            Err(PeerError::NotHeld) => self.machine.handle_not_held(source),
            Err(PeerError::Busy) => {
                // It has no room for a list, nor would it have for what is larger.
                debug!(object = %self.shared.want.id, peer = ?self.address(source), "a peer is busy");
                self.machine.handle_not_held(source);
            }
            Err(PeerError::Fault { fault, detail }) => {
                let peer = self.address(source);
                debug!(object = %self.shared.want.id, ?peer, %fault, detail, "a peer's piece list could not be had");
                self.machine.handle_list_failure(source, fault);
            }
        }
    }

    pub(super) fn note(&self, fact: &Fact) {
        let object = self.shared.want.id;
        match fact {
            Fact::PeerFaulted(source, fault) => {
                let Some(peer) = self.peers.get(source) else { return };
                debug!(%object, peer = %peer.address, %fault, "peer faulted");
                if *fault == PeerFault::WrongList {
                    self.context.metrics.verification_failed(VerificationFailure::PieceList);
                }
                self.context.note_fault(peer, *fault);
            }
            Fact::PeerLate(source) => {
                let Some(peer) = self.peers.get(source) else { return };
                debug!(%object, peer = %peer.address, "peer is late");
                self.context.note_late(peer);
            }
            Fact::PublisherWrong => {
                warn!(
                    %object,
                    name = self.shared.want.name,
                    "a piece list signed by a publisher of dht.publishers is not the file's"
                );
                self.context.metrics.verification_failed(VerificationFailure::PieceList);
            }
            Fact::MirrorDiffers => {
                warn!(%object, name = self.shared.want.name, "the mirror's file is not the one its index names");
                self.context.metrics.verification_failed(VerificationFailure::Mirror);
                self.shared.progress.send_modify(|progress| progress.mirror_differs = true);
                if self.machine.released() > 0 {
                    // Whoever has read some of it must not resume behind it.
                    self.context.note_taint(object);
                }
            }
            Fact::Tainted => {
                warn!(%object, "bytes that were handed out proved wrong: whoever reads them starts over");
                self.context.note_taint(object);
            }
            Fact::PieceLinked(..) | Fact::NotHeld(_) | Fact::ListDiscarded | Fact::MirrorJoined => {
                debug!(%object, ?fact, "download");
            }
        }
    }
}

/// The next finding; never, where nobody looks.
pub(super) async fn next_finding(findings: &mut Option<Findings>) -> Option<Found> {
    match findings {
        Some(findings) => findings.next().await,
        None => std::future::pending().await,
    }
}
