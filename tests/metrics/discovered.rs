//! The DHT: nodes, look-ups, announces that were taken, and those that nobody took.

use crate::support::daemon::Setup;
use crate::support::mirror::Mirror;
use crate::world::{fetch_whole, learn, metric, node, repository, url, wait_for_metric};

#[test]
fn what_the_dht_is_asked_and_told_is_counted() {
    let repository = repository();
    let mirror = Mirror::start(&repository.root());
    let entrance = Setup::bootstrap().start();
    let daemon = node(&repository).dht(&[entrance.dht()]).start();
    wait_for_metric(&daemon, "aptpeer_routing_table_size", 1);
    learn(&daemon, &mirror);
    fetch_whole(&daemon, &url(&mirror, &repository, "three"));
    wait_for_metric(&daemon, "aptpeer_object_look_ups_total", 1);
    wait_for_metric(&daemon, "aptpeer_dht_lookup_seconds_count", 1);
    wait_for_metric(&daemon, "aptpeer_announces_total", 1);
    assert_eq!(metric(&daemon, "aptpeer_failed_announces_total"), 0);

    // The only node that it knows is gone.
    drop(entrance);
    fetch_whole(&daemon, &url(&mirror, &repository, "one"));
    wait_for_metric(&daemon, "aptpeer_failed_announces_total", 1);
}
