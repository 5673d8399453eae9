//! Whether the object of a download is for everybody, which its mirror's address tells.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::debug;

use super::Flight;
use crate::clock;

/// How long a download that nobody else can help waits until its mirror's name is resolved: as long as a connection may take.
const RESOLVING: Duration = Duration::from_secs(5);

impl Flight {
    /// Notes whether the object is for everybody, or begins to find it out: meanwhile it is not.
    pub(super) fn find_scope(&mut self, now: Instant) {
        let want = &self.shared.want;
        match (self.context.is_local(want), want.mirror.clone()) {
            (Some(local), _) => self.shared.local.store(local, Ordering::Relaxed),
            (None, Some(target)) => {
                let mirror = self.context.mirror.clone();
                self.scoping.spawn(async move { mirror.find_private(&target).await });
                self.machine.expect_findings(now + RESOLVING);
            }
            (None, None) => {}
        }
    }

    /// It is known now.
    pub(super) fn handle_scope(&mut self, local: bool) {
        debug!(object = %self.shared.want.id, local, "with whom it may be shared is known");
        self.shared.local.store(local, Ordering::Relaxed);
        // What may be given to everybody may be announced.
        self.context.growing.send_modify(|count| *count = count.wrapping_add(1));
        self.add_all_known(clock::now());
        self.look_up_if_due();
        if self.findings.is_none() {
            self.machine.handle_findings_end();
        }
    }
}
