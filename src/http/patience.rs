//! When a connection has been waited for long enough. Decides only; the connection's driver acts.

use std::time::Instant;

use super::limits::Limits;

/// What a connection is doing, as far as its bytes show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activity {
    /// What we want from the client next; `None` while an answer is being made.
    pub wanted: Option<Wanted>,
    /// When the client last sent a byte, or connected.
    pub last_read: Instant,
    /// When the request head that is half here began.
    pub head_began: Instant,
    /// When the client last took a byte, or connected.
    pub last_write: Instant,
    /// Since when the client takes nothing although we have something for it.
    pub write_blocked: Option<Instant>,
}

/// What we want from the client next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The first byte of the first request.
    FirstByte,
    /// The first byte of another request.
    NextRequest,
    /// The rest of a request head.
    RestOfHead,
    /// More of a request body.
    MoreBody,
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing was asked for too long: no answer is owed.
    Idle,
    /// A request began and did not end: 408 (RFC 9110 §15.5.9).
    Request,
    /// The client takes nothing of our answer.
    Reader,
}

/// When the connection is to be ended if nothing happens, and why.
pub(super) fn deadline(activity: &Activity, limits: &Limits) -> Option<(Instant, Overdue)> {
    if let Some(since) = activity.write_blocked {
        return Some((since + limits.write, Overdue::Reader));
    }
    // Waiting for the client only counts from when it had our last answer.
    let quiet = activity.last_read.max(activity.last_write);
    Some(match activity.wanted? {
        Wanted::FirstByte => (quiet + limits.head, Overdue::Idle),
        Wanted::NextRequest => (quiet + limits.idle, Overdue::Idle),
        Wanted::RestOfHead => (activity.head_began.max(activity.last_write) + limits.head, Overdue::Request),
        Wanted::MoreBody => (quiet + limits.body, Overdue::Request),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn quiet_since(start: Instant, wanted: Option<Wanted>) -> Activity {
        Activity { wanted, last_read: start, head_began: start, last_write: start, write_blocked: None }
    }

    #[test]
    fn an_answer_in_the_making_has_no_deadline() {
        assert_eq!(deadline(&quiet_since(crate::clock::now(), None), &Limits::local()), None);
    }

    #[test]
    fn a_head_that_trickles_in_has_one_deadline_from_its_first_byte() {
        let start = crate::clock::now();
        let mut activity = quiet_since(start, Some(Wanted::RestOfHead));
        activity.last_read = start + seconds(9);
        assert_eq!(deadline(&activity, &Limits::public()), Some((start + seconds(10), Overdue::Request)));
    }

    #[test]
    fn idle_time_counts_from_the_end_of_the_last_answer() {
        let start = crate::clock::now();
        let mut activity = quiet_since(start, Some(Wanted::NextRequest));
        activity.last_write = start + seconds(100);
        assert_eq!(deadline(&activity, &Limits::public()), Some((start + seconds(160), Overdue::Idle)));
    }

    #[test]
    fn a_client_that_reads_nothing_is_overdue_whatever_it_sends() {
        let start = crate::clock::now();
        let mut activity = quiet_since(start, None);
        activity.write_blocked = Some(start);
        activity.last_read = start + seconds(59);
        assert_eq!(deadline(&activity, &Limits::public()), Some((start + seconds(60), Overdue::Reader)));
    }
}
