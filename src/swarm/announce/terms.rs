//! What goes into the schedule of announces, and what comes out.

use std::time::Duration;

use crate::digest::Sha256;

/// What [`super::Schedule`] has to keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// An object is announced again after this time, at least a second.
    pub interval: Duration,
    /// A piece list is published again after this time, at the announce before it.
    pub list_interval: Duration,
    /// Datagrams per second that announcing may cost.
    pub budget: f64,
}

/// An object that could be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub id: Sha256,
    /// Its length in bytes.
    pub length: u64,
    /// How long ago it was last used.
    pub unused: Duration,
    /// Its last announce, as far as it is known from before the start.
    pub last: Option<Last>,
    /// Whether it may be announced at all; one that may not is as good as gone.
    pub announce: bool,
    /// Whether all of it is held. One that is still on its way is wanted by others now: it is announced before all that wait,
    /// without its list, which is not known yet, and once more with its list when it is whole.
    pub whole: bool,
}

/// The last announce of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// How long ago it was.
    pub ago: Duration,
    /// How many other providers it saw.
    pub others: u32,
}

/// An announce that is to start now. [`super::Schedule::handle_done`] has to follow, whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Of which object.
    pub id: Sha256,
    /// Whether its piece list is to be published as well.
    pub list: bool,
}

/// How an announce ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How many nodes took it; none is a failure.
    pub stored: u32,
    /// How many other providers it saw.
    pub others: u32,
    /// What it cost; `None` where nobody knows, as after a time-out.
    pub datagrams: Option<u32>,
    /// The piece list, where it was to be published.
    pub list: Option<ListOutcome>,
}

/// How the publishing of a piece list ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListOutcome {
    /// How many nodes took it; none is a failure.
    pub stored: u32,
    /// What it cost; `None` where nobody knows.
    pub datagrams: Option<u32>,
}

/// The schedule in figures.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// Objects that may be announced.
    pub held: usize,
    /// Those that the last plan keeps announced.
    pub kept: usize,
    /// Those for which the budget is not enough.
    pub waiting: usize,
    /// Announces in flight.
    pub in_flight: usize,
    /// Datagrams per second that keeping them costs.
    pub per_second: f64,
    /// The part of the worth of all objects that is kept, from 0 to 1.
    pub worth: f64,
}
