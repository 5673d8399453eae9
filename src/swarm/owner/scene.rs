//! What the tests of this room begin with: downloads on a local network with others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::NodeId;
use crate::digest::Sha256;
use crate::pieces::{Geometry, PieceList, PieceSet};
use crate::swarm::download::{Download, Prefer};
use crate::swarm::order::Order;
use crate::swarm::source::{SourceId, Standing};
use crate::wire::Intent;

pub(super) const SMALL: u64 = 50_000;
pub(super) const LARGE: u64 = 50_000_000;
pub(super) const MS: Duration = Duration::from_millis(1);

pub(super) fn node(number: u64) -> NodeId {
    NodeId::new(number.to_be_bytes())
}

pub(super) fn object() -> Sha256 {
    Sha256::of(b"object")
}

/// Some nodes, the highest of rank first.
pub(super) fn ranked(count: u64) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = (0..count).map(node).collect();
    nodes.sort_by_key(|node| std::cmp::Reverse(node.rank(&object())));
    nodes
}

/// A download on a network with others, with a mirror that is there.
pub(super) fn download(
    length: u64,
    own: NodeId,
    others: &[NodeId],
    now: Instant,
) -> (Download, Vec<SourceId>) {
    let mut download = Download::new(object(), Geometry::new(length).unwrap(), Prefer::Speed, now);
    download.add_mirror(None);
    download.join_lan(Some(own));
    let add = |node: &NodeId| download.add_node(*node, [10, 0, 0, 1].into(), Standing::default(), now);
    let sources = others.iter().map(add).collect();
    download.handle_timeout(now);
    (download, sources)
}

/// The node says that it has so many pieces of the object, and this of the rest.
pub(super) fn says(download: &mut Download, source: SourceId, intent: Intent, have: u32, now: Instant) {
    let geometry = download.geometry();
    let mut pieces = PieceSet::none(geometry.pieces());
    (0..have).for_each(|piece| pieces.insert(piece));
    download.handle_intent(source, Some(intent), now);
    download.handle_list(source, PieceList::unknown(geometry), pieces, now);
    download.handle_timeout(now);
}

pub(super) fn has_not(download: &mut Download, source: SourceId, now: Instant) {
    download.handle_no_list(source, now);
    download.handle_timeout(now);
}

pub(super) fn walks(download: &Download) -> bool {
    matches!(download.intent(), Some(Intent::Walks(_)))
}

pub(super) fn asked(download: &mut Download) -> usize {
    let mut orders = std::iter::from_fn(|| download.poll_order());
    orders.by_ref().filter(|order| matches!(order, Order::AskList(_))).count()
}

/// The walks of the mirror that were ordered and not given up.
pub(super) fn walking(download: &mut Download) -> usize {
    let mut walks = BTreeSet::new();
    while let Some(order) = download.poll_order() {
        match order {
            Order::Walk { fetch, .. } => _ = walks.insert(fetch),
            Order::Cancel(fetch) => _ = walks.remove(&fetch),
            _ => {}
        }
    }
    walks.len()
}
