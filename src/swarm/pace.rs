//! How long to wait for what. Each figure with its reason.

use std::time::Duration;

/// What apt's user gets at once from a mirror may wait this long for peers: the hedge where nothing is known of them.
pub(super) const HEDGE_UNKNOWN: Duration = Duration::from_secs(1);

/// A known peer gets four times its usual time to the first byte, but at least this: less than the round trips that a
/// mirror across the world takes anyway.
pub(super) const HEDGE_LEAST: Duration = Duration::from_millis(150);

/// `transfer.prefer = "offload"`: how long the mirror is spared; well within the 30 s after which apt hangs up.
pub(super) const HEDGE_OFFLOAD: Duration = Duration::from_secs(5);

/// The same, while nobody is known who has the object and somebody looks: the first answers of a look-up come after one or
/// two round trips.
pub(super) const SEARCH_OFFLOAD: Duration = Duration::from_secs(2);

/// Peers that deliver are left alone with an object that they finish within this time.
pub(super) const CONTENT_WITH: Duration = Duration::from_secs(2);

/// Peers get this long before their throughput is judged.
pub(super) const JUDGE_AFTER: Duration = Duration::from_secs(1);

/// A mirror of which nothing is known is taken to give this, in bytes a second (100 Mbit/s).
pub(super) const MIRROR_RATE_GUESS: f64 = 12.5e6;

/// Under `offload` only peers slower than this, in bytes a second, bring the mirror in.
pub(super) const OFFLOAD_RATE: f64 = 100e3;

/// No byte for this long: a fetch from a peer is stalled. Apt itself waits 30 s; a piece can still be had elsewhere.
pub(super) const STALL: Duration = Duration::from_secs(3);

/// A fetch that takes longer than this, where the source's own figures say nothing, is late: in the endgame a second
/// peer is asked for the same piece.
pub(super) const LATE_UNKNOWN: Duration = Duration::from_secs(1);

/// Nothing was released for this long: the mirror helps, whose bytes can be handed on as they come. While bytes were waiting
/// under a stranger's list, that counts as a neighbour's. A third of apt's 30 s.
pub(super) const APT_PATIENCE: Duration = Duration::from_secs(10);

/// How often a holder that is still growing is asked for its list again.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A growing holder that has not grown for this long is given up: apt's own patience.
pub(super) const GROWING: Duration = Duration::from_secs(30);

/// Walks that may set out from the same piece before the mirror is given up: peers that take over in the middle and fail
/// cause a few.
pub(super) const WALKS_FROM_ONE_PLACE: u32 = 16;

/// Requests in flight to one peer: one that delivers and one that waits behind it, so that no round trip is lost.
pub(super) const PER_PEER: usize = 2;

/// Pieces in flight for one object.
pub(super) const PER_DOWNLOAD: usize = 8;

/// Fetches of the same piece in the endgame.
pub(super) const PER_PIECE: usize = 2;

/// How far, in pieces, strangers may work below the proven suffix on the word of a lone list: what is wasted at most
/// when it is false.
pub(super) const BACKWARD_WINDOW: u32 = 8;
