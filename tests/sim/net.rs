//! The network as a flow model: every transfer has the smaller of its fair shares of the sender's uplink and the
//! receiver's downlink. Rates are computed anew where a transfer starts or ends, and only for those that share a line
//! with it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Whoever has a line.
pub(crate) type Host = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowId(u64);

/// A moment at which a transfer ends, unless its rate changes before; then the version is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    pub(crate) flow: FlowId,
    version: u64,
}

#[derive(Debug)]
struct Line {
    /// Bytes a second.
    capacity: f64,
    flows: Vec<FlowId>,
    /// By how many the capacity was divided last.
    shares: usize,
}

#[derive(Debug)]
struct Flow {
    from: Host,
    to: Host,
    total: f64,
    done: f64,
    rate: f64,
    /// When `done` was counted.
    at: Instant,
    version: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    up: Vec<Line>,
    down: Vec<Line>,
    flows: HashMap<FlowId, Flow>,
    sequence: u64,
    /// New ends of transfers, for the queue of events.
    pub(crate) due: Vec<Due>,
}

impl Net {
    /// A host with these capacities in bytes a second.
    pub(crate) fn add(&mut self, up: f64, down: f64) -> Host {
        self.up.push(Line { capacity: up, flows: Vec::new(), shares: 1 });
        self.down.push(Line { capacity: down, flows: Vec::new(), shares: 1 });
        self.up.len() - 1
    }

    /// From now on the host sends at most this, in bytes a second.
    pub(crate) fn set_up(&mut self, host: Host, capacity: f64, now: Instant) {
        self.up[host].capacity = capacity;
        let flows = self.up[host].flows.clone();
        flows.into_iter().for_each(|flow| self.settle(flow, now));
    }

    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn start(&mut self, from: Host, to: Host, bytes: u64, now: Instant) -> FlowId {
        self.sequence += 1;
        let id = FlowId(self.sequence);
        let flow = Flow { from, to, total: bytes as f64, done: 0.0, rate: 0.0, at: now, version: 0 };
        self.flows.insert(id, flow);
        self.up[from].flows.push(id);
        self.down[to].flows.push(id);
        self.share_out(from, to, now);
        self.settle(id, now);
        id
    }

    /// Ends a transfer, done or not; says how many bytes came through.
    pub(crate) fn end(&mut self, id: FlowId, now: Instant) -> f64 {
        let Some(flow) = self.flows.remove(&id) else { return 0.0 };
        self.up[flow.from].flows.retain(|other| *other != id);
        self.down[flow.to].flows.retain(|other| *other != id);
        self.share_out(flow.from, flow.to, now);
        (flow.done + flow.rate * (now - flow.at).as_secs_f64()).min(flow.total)
    }

    pub(crate) fn is_due(&self, due: Due) -> bool {
        self.flows.get(&due.flow).is_some_and(|flow| flow.version == due.version)
    }

    /// The transfer ends after so many bytes in all.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn shorten(&mut self, id: FlowId, bytes: u64, now: Instant) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.total = bytes as f64;
        // Its end is to be computed anew.
        flow.done += flow.rate * (now - flow.at).as_secs_f64();
        (flow.rate, flow.at) = (0.0, now);
        self.settle(id, now);
    }

    /// Bytes so far.
    pub(crate) fn done(&self, id: FlowId, now: Instant) -> f64 {
        let flow = &self.flows[&id];
        (flow.done + flow.rate * (now - flow.at).as_secs_f64()).min(flow.total)
    }

    fn share_out(&mut self, from: Host, to: Host, now: Instant) {
        let mut touched = Vec::new();
        for line in [&mut self.up[from], &mut self.down[to]] {
            let count = line.flows.len().max(1);
            // A line that a thousand share is divided anew when their number has changed by a twentieth.
            if count.abs_diff(line.shares) * 20 > line.shares {
                line.shares = count;
                touched.extend(&line.flows);
            }
        }
        touched.into_iter().for_each(|flow| self.settle(flow, now));
    }

    #[allow(clippy::cast_precision_loss)]
    fn settle(&mut self, id: FlowId, now: Instant) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let share = |line: &Line| line.capacity / line.shares as f64;
        let rate = share(&self.up[flow.from]).min(share(&self.down[flow.to]));
        if (rate - flow.rate).abs() < 1e-9 * rate {
            return;
        }
        flow.done += flow.rate * (now - flow.at).as_secs_f64();
        (flow.rate, flow.at) = (rate, now);
        self.sequence += 1;
        flow.version = self.sequence;
        let left = Duration::from_secs_f64(((flow.total - flow.done).max(0.0) / rate).min(1e6));
        self.due.push(Due { at: now + left, flow: id, version: flow.version });
    }
}
