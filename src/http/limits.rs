//! What one listener gives to strangers.

use std::time::Duration;

/// The longest request head, start line included: eight times what Apache takes, and nothing real comes near it.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The most header fields of one request.
pub const MAX_HEADERS: usize = 100;

/// How much is read from a client ahead of what is being answered: hundreds of apt's requests, where apt sends ten.
pub const READ_AHEAD_BYTES: usize = 64 * 1024;

/// How many requests are announced ahead of the one being answered: apt's pipeline is ten deep.
pub const READ_AHEAD_REQUESTS: u64 = 32;

/// How many of a connection's first bytes are remembered: enough to tell what protocol a stranger tried.
pub const OPENING_BYTES: usize = 20;

/// How much may wait unsent in the kernel for one client. A small value makes a slow reader's progress visible to the
/// write limit (the kernel reports room only when half of it has gone) and keeps idle uploads cheap.
pub const UNSENT_BYTES: u32 = 512 * 1024;

/// What happens to a connection above [`Limits::connections`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It waits in the listener's backlog until another one ends: apt is patient, and never forgives a refusal.
    Queue,
    /// It is told 503 and closed: a peer asks somebody else.
    TurnAway,
}

/// The limits of one listener and its connections. Every time limit is per progress, never per answer.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most connections at a time.
    pub connections: usize,
    /// The most connections at a time from one IPv4 address or one IPv6 /64 network.
    pub connections_per_origin: usize,
    /// What happens above `connections`; above `connections_per_origin` it is always [`Overflow::TurnAway`].
    pub overflow: Overflow,
    /// The longest time for a request head to arrive, from its first byte; also for the first byte of a connection.
    pub head: Duration,
    /// The longest time without a byte of a request body.
    pub body: Duration,
    /// The longest pause between two requests.
    pub idle: Duration,
    /// The longest time for a client to take nothing of an answer.
    pub write: Duration,
    /// The longest time for answers in flight after a shutdown was asked for.
    pub grace: Duration,
}

impl Limits {
    /// For listeners that only this machine or an administrator's network reaches: the proxy and the status page.
    pub const fn local() -> Self {
        Self {
            connections: 1024,
            connections_per_origin: 1024,
            overflow: Overflow::Queue,
            head: Duration::from_secs(30),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(120),
            // apt may be stopped for a while, or write to a slow disk.
            write: Duration::from_secs(300),
            grace: Duration::from_secs(30),
        }
    }

    /// For the port that the whole world reaches.
    pub const fn public() -> Self {
        Self {
            connections: 1024,
            connections_per_origin: 128,
            overflow: Overflow::TurnAway,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }
}
