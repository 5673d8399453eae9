//! The peers of a download: who is looked for, who is taken, and what they say and did.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::{Flight, REFUSED};
use crate::clock;
use crate::discovery::{Found, Provider};
use crate::download::OriginError;
use crate::download::findings::{Again, Findings};
use crate::metrics::VerificationFailure;
use crate::peer::{ListAnswer, News, PeerError, is_near};
use crate::swarm::{Fact, PeerFault, PeerKind, Prefer, SourceId, Standing};

/// What is smaller, in bytes, and common in its archive, is not looked for: the mirror gives it in the time, and for some of
/// the packets, that a look-up takes.
const WORTH_A_LOOK_UP: u64 = 1 << 20;

/// For how long the peers that have an object by their own word are enough. What is not through by then is large, or they
/// are slow: more of them may help.
const NAMED: Duration = Duration::from_secs(5);

/// A download that would be over sooner than this is not helped by a look-up, which takes seconds itself.
const WORTHWHILE: Duration = Duration::from_secs(10);

impl Flight {
    /// Takes the peers that are known, but for those that just said that they do not hold the object.
    pub(super) fn gather(&mut self, now: Instant) {
        self.outlook = self.context.outlook(&self.shared.want);
        self.add_all_known(now);
    }

    /// Takes those that may know of the object now.
    pub(super) fn add_all_known(&mut self, now: Instant) {
        // What a peer downloads itself is not in its set: whoever may have a part is asked.
        let small = self.canvas.geometry().pieces() == 1;
        // Those that nobody chose do not learn of an object that is not for everybody.
        let choosy = self.shared.is_local() && !self.context.peers.is_private();
        for provider in self.context.providers(&self.shared.want.id) {
            if choosy && provider.kind == PeerKind::Stranger && !is_near(provider.address.ip()) {
                continue;
            }
            // Any node of the local network may want the object at this moment, and fetch it for all.
            let may_fetch = self.context.node_at(provider.address).is_some();
            if !small || may_fetch || !self.outlook.lacking.contains(&provider.address) {
                self.add_known(provider, now);
            }
        }
    }

    /// Starts to look for strangers: at once where an object has several pieces that nobody is known to have, or no peer
    /// is known; for a small one, and for one that a peer said it has, only when it turns out that none of those does. It
    /// costs apt nothing: nothing waits for it that could be had elsewhere.
    pub(super) fn look_up_if_due(&mut self) {
        // Whoever is asked for it learns that there is such an object.
        if self.shared.is_local() || self.machine.ledger().is_closed() {
            return;
        }
        if self.again.is_some() {
            return self.look_again_if_due();
        }
        if self.is_look_up_spared() {
            return;
        }
        self.again = Some(Again::after_first(clock::now()));
        let id = self.shared.want.id;
        self.findings = self.context.look_ups.start(&self.context.discovery, id, self.canvas.geometry());
        if let Some(findings) = &self.findings {
            self.context.metrics.look_up_started();
            let refused =
                self.shared.progress.borrow().mirror_error.as_ref().is_some_and(OriginError::is_answer);
            let until = findings.until();
            self.machine.expect_findings(if refused { until.min(self.began + REFUSED) } else { until });
        }
    }

    /// Looks for more peers while an object of several pieces would still take a while: others have begun meanwhile, and
    /// some that were found are gone. Nothing waits for what is found so.
    fn look_again_if_due(&mut self) {
        let (now, geometry) = (clock::now(), self.canvas.geometry());
        let Some(again) = self.again.as_mut().filter(|again| again.is_due(now)) else { return };
        if geometry.pieces() == 1 || self.findings.is_some() {
            return;
        }
        if !self.admission.has_room() || !self.machine.wants_more_peers(WORTHWHILE, now) {
            return again.put_off(now);
        }
        let id = self.shared.want.id;
        self.findings = self.context.look_ups.start_again(&self.context.discovery, id, geometry);
        match &self.findings {
            Some(_) => {
                self.context.metrics.look_up_started();
                again.note_start(now);
            }
            None => again.put_off(now),
        }
        debug!(object = %id, began = self.findings.is_some(), "looking for more peers");
    }

    fn is_look_up_spared(&self) -> bool {
        let geometry = self.canvas.geometry();
        let small = geometry.pieces() == 1;
        if self.machine.has_live_peer() {
            let named = !self.outlook.named_by.is_empty();
            return small || (named && clock::now() < self.began + NAMED);
        }
        let common = self.outlook.covered && self.outlook.named_by.is_empty();
        common && geometry.length() < WORTH_A_LOOK_UP && self.machine.has_mirror()
    }

    pub(super) fn handle_found(&mut self, found: Option<Found>) {
        match found {
            Some(Found::Provider(provider)) => self.add_found(provider),
            // One that was found before, and perhaps given up since.
            Some(Found::List { .. }) if self.again.as_ref().is_some_and(Again::has_looked_again) => {}
            Some(Found::List { list, signed }) => self.machine.handle_found_list(list, signed),
            None => {
                self.findings = None;
                self.machine.handle_findings_end();
            }
        }
    }

    /// A peer that was known when the download began.
    fn add_known(&mut self, provider: Provider, now: Instant) {
        let Some(mut standing) = self.context.standing(&provider, now) else { return };
        if self.admission.admit(&provider, &self.context.borders) {
            self.judge_stranger(&provider, &mut standing, now);
            let ip = provider.address.ip();
            let source = match self.context.node_at(provider.address) {
                Some(node) => self.machine.add_node(node, ip, standing, now),
                None => self.machine.add_peer(self.kind(&provider), ip, standing, now),
            };
            self.peers.insert(source, provider);
        }
    }

    /// A peer that a look-up has found. Nothing waits for a stranger that has not proved itself before, unless the user
    /// wants the mirror to be spared.
    fn add_found(&mut self, provider: Provider) {
        let now = clock::now();
        let Some(mut standing) = self.context.standing(&provider, now) else { return };
        if !self.admission.admit(&provider, &self.context.borders) {
            return;
        }
        debug!(object = %self.shared.want.id, peer = %provider.address, "a look-up found a peer");
        if let Some(again) = &mut self.again {
            again.note_found();
        }
        standing.doubtful |= is_untried(&provider, &standing) && self.context.prefer == Prefer::Speed;
        let source = self.machine.add_peer(self.kind(&provider), provider.address.ip(), standing, now);
        self.peers.insert(source, provider);
    }

    /// What a peer's word is worth. In a private swarm nothing is heard of those who are no members, and members are
    /// neighbours, however they were found.
    fn kind(&self, provider: &Provider) -> PeerKind {
        if self.context.peers.is_private() { PeerKind::Neighbour } else { provider.kind }
    }

    /// Nothing waits for a stranger that is known by its have-set and has not delivered before, but that one of those gets
    /// a chance now and then: as long as its answer to that took, and a little more.
    fn judge_stranger(&self, provider: &Provider, standing: &mut Standing, now: Instant) {
        if !is_untried(provider, standing) || self.context.prefer != Prefer::Speed {
            return;
        }
        let named = self.outlook.named_by.iter().find(|(peer, _)| *peer == provider.address);
        let Some((_, answer)) = named else { return };
        if !standing.doubtful && self.context.take_trial(now) {
            standing.overdue = Some(*answer * 2);
        } else {
            standing.doubtful = true;
        }
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
        if let (Ok(_), Some(peer)) = (&answer, self.peers.get(&source)) {
            self.context.note_answer(peer);
        }
        match answer {
            Ok(ListAnswer::List { list, have, intent, tag }) => {
                match tag {
                    Some(tag) => drop(self.tags.insert(source, tag)),
                    None => drop(self.tags.remove(&source)),
                }
                self.machine.handle_intent(source, intent, now);
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

    pub(super) fn note(&mut self, fact: &Fact) {
        let object = self.shared.want.id;
        match fact {
            Fact::PeerFaulted(source, fault) => {
                let Some(peer) = self.peers.get(source) else { return };
                debug!(%object, peer = %peer.address, %fault, "peer faulted");
                self.admission.release(peer);
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
            Fact::NotHeld(source) => {
                let Some(peer) = self.peers.get(source) else { return };
                debug!(%object, peer = %peer.address, "peer does not hold it");
                self.admission.release(peer);
                self.context.note_tried(&object, peer, false);
            }
            Fact::PieceLinked(..) | Fact::ListDiscarded | Fact::MirrorJoined => {
                debug!(%object, ?fact, "download");
            }
        }
    }
}

/// Whether it is a stranger that never delivered anything to us.
fn is_untried(provider: &Provider, standing: &Standing) -> bool {
    provider.kind == PeerKind::Stranger && standing.first_byte.is_none()
}

/// The next finding; never, where nobody looks.
pub(super) async fn next_finding(findings: &mut Option<Findings>) -> Option<Found> {
    match findings {
        Some(findings) => findings.next().await,
        None => std::future::pending().await,
    }
}
