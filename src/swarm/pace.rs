//! How long to wait for what. Each figure with its reason.

use std::time::Duration;

use super::source::Standing;

/// What apt's user gets at once from a mirror may wait this long for peers: the hedge where nothing is known of them.
pub(super) const HEDGE_UNKNOWN: Duration = Duration::from_secs(1);

/// Of an object of several pieces a known peer gets the time after which its answer is overdue ([`Standing::overdue`]), but at
/// least this: less than the round trips that a mirror across the world takes anyway. Nobody is late who took less.
pub(super) const HEDGE_LEAST: Duration = Duration::from_millis(150);

/// Of a large object the mirror is asked for the first bytes after this time, whatever peers promise: enough for a list and
/// the first pieces over a local network that is quick enough, and less than anybody notices.
pub(super) const OPENING: Duration = Duration::from_millis(10);

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

/// No byte for this long: a fetch from a peer of which nothing is known is stalled. Apt itself waits 30 s; a piece can still
/// be had elsewhere.
pub(super) const STALL_UNKNOWN: Duration = Duration::from_secs(3);

/// A known peer is given up after this many times the time after which it is overdue: to ask somebody else as well costs
/// little, to give up what is on its way costs all of it.
pub(super) const STALL_FACTOR: u32 = 4;

/// No peer is given up sooner: a packet that is lost twice takes so long.
pub(super) const STALL_LEAST: Duration = Duration::from_secs(2);

/// No peer is waited for longer: below [`APT_PATIENCE`], so that there is time to ask another.
pub(super) const STALL_MOST: Duration = Duration::from_secs(8);

/// A fetch that takes longer than this, where the source's own figures say nothing, is late: in the endgame a second
/// peer is asked for the same piece.
pub(super) const LATE_UNKNOWN: Duration = Duration::from_secs(1);

/// Nothing was released for this long: the mirror helps, whose bytes can be handed on as they come. While bytes were waiting
/// under a stranger's list, that counts as a neighbour's. A third of apt's 30 s.
pub(super) const APT_PATIENCE: Duration = Duration::from_secs(10);

/// How often a holder of a part is asked for news, where it has none or answers without waiting for them.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How soon it is asked again when it had some: a list of 38 GiB that comes ten times a second takes half of what a gigabit
/// gives, one of a package next to nothing.
pub(super) const ASK_SOON: Duration = Duration::from_millis(100);

/// How long a holder of a part is asked to wait for news: half of what it may be asked.
pub(super) const NEWS: Duration = Duration::from_secs(10);

/// How long a holder of a part may have nothing at all: as long as one that does not answer.
pub(super) const EMPTY: Duration = STALL_UNKNOWN;

/// The same while the mirror is there, and nothing waits for the holder: 20 who share a line of 5 Mbit/s have their first
/// piece after that time. It costs a question every [`NEWS`].
pub(super) const EMPTY_BESIDE_MIRROR: Duration = Duration::from_secs(135);

/// A growing holder that has not grown for this long is given up: apt's own patience.
pub(super) const GROWING: Duration = Duration::from_secs(30);

/// Walks that may set out from the same piece before the mirror is given up: peers that take over in the middle and fail
/// cause a few.
pub(super) const WALKS_FROM_ONE_PLACE: u32 = 16;

/// Requests in flight to one peer: one that delivers and one that waits behind it, so that no round trip is lost.
pub(super) const PER_PEER: usize = 2;

/// Pieces in flight for one object.
pub(super) const PER_DOWNLOAD: usize = 8;

/// Peers whose scores differ by less than this are equals: whose turn it is decides, so that the work is spread.
pub(super) const SAME_SCORE: f64 = 0.1;

/// Fetches of the same piece in the endgame.
pub(super) const PER_PIECE: usize = 2;

/// How far, in pieces, strangers may work below the proven suffix on the word of a lone list: what is wasted at most
/// when it is false.
pub(super) const BACKWARD_WINDOW: u32 = 8;

/// How long the mirror is spared for a peer that is asked for an object of one piece: no longer than it usually takes. There
/// every millisecond is one that apt waits, and a request too many costs the mirror one small file.
pub(super) fn hedge_of_one(standing: &Standing) -> Duration {
    standing.overdue.map_or(HEDGE_UNKNOWN, |overdue| overdue.min(HEDGE_UNKNOWN))
}

/// How long the mirror is spared for a peer that answers after so many round trips.
pub(super) fn hedge(standing: &Standing, trips: u32) -> Duration {
    standing.overdue.map_or(HEDGE_UNKNOWN, |overdue| (trips * overdue).clamp(HEDGE_LEAST, HEDGE_UNKNOWN))
}

/// How long a peer may send nothing before it is given up.
pub(super) fn stall(standing: &Standing) -> Duration {
    standing.overdue.map_or(STALL_UNKNOWN, |overdue| (STALL_FACTOR * overdue).clamp(STALL_LEAST, STALL_MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_time_outs_within_bounds() {
        let times = |ms: Option<u64>| {
            let standing = Standing { overdue: ms.map(Duration::from_millis), ..Standing::default() };
            (hedge(&standing, 1).as_millis(), hedge(&standing, 2).as_millis(), stall(&standing).as_millis())
        };
        assert_eq!(times(None), (1000, 1000, 3000));
        assert_eq!(times(Some(1)), (150, 150, 2000));
        assert_eq!(times(Some(300)), (300, 600, 2000));
        assert_eq!(times(Some(800)), (800, 1000, 3200));
        assert_eq!(times(Some(60_000)), (1000, 1000, 8000));
        assert!(STALL_MOST < APT_PATIENCE);
        let of_one = |ms: Option<u64>| {
            let standing = Standing { overdue: ms.map(Duration::from_millis), ..Standing::default() };
            hedge_of_one(&standing).as_millis()
        };
        assert_eq!([None, Some(15), Some(300), Some(60_000)].map(of_one), [1000, 15, 300, 1000]);
    }
}
