//! Crowds that want the same object at about the same time.

use aptpeer::swarm::Prefer;

use crate::report::{HEADER, Report};
use crate::world::Plan;

fn table(title: &str) {
    eprintln!("\n{title}\n{HEADER}");
}

#[test]
#[ignore = "the figures of docs/swarms.md, for whoever changes the engine"]
fn figures() {
    table("crowds");
    let count = std::env::var("NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    for prefer in [Prefer::Speed, Prefer::Offload] {
        Report::of(&format!("{prefer:?}"), Plan::crowd(count, prefer));
        Report::of(&format!("{prefer:?}, liars"), Plan { liars: 0.1, ..Plan::crowd(count, prefer) });
        Report::of(&format!("{prefer:?}, leavers"), Plan { leavers: 0.5, ..Plan::crowd(count, prefer) });
    }
}
