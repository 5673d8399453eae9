//! Every key of the configuration has an effect, and a test that shows it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A key, and the test that shows what it does: its file below `tests/` and its function. A key that does nothing is a
/// defect, so a new key needs a line here and the test that it names.
const SHOWN: &[(&str, &str, &str)] = &[
    ("proxy.listen", "cli/settings.rs", "every_listener_is_where_its_key_says"),
    ("proxy.allow_clients", "apt/wire.rs", "the_page_is_at_the_root_of_the_proxy"),
    ("mirrors.allow", "apt/wire.rs", "a_host_that_is_no_mirror_is_refused_by_name_of_the_key"),
    ("mirrors.allow_private", "apt/wire.rs", "a_host_that_is_no_mirror_is_refused_by_name_of_the_key"),
    ("mirrors.lists_dir", "apt/change.rs", "lists_that_apt_fetched_without_us_teach_the_hashes"),
    (
        "mirrors.keyrings",
        "cli/settings.rs",
        "a_signature_counts_by_the_keyrings_and_as_strictly_as_the_keys_say",
    ),
    (
        "mirrors.verify_signatures",
        "cli/settings.rs",
        "a_signature_counts_by_the_keyrings_and_as_strictly_as_the_keys_say",
    ),
    ("mirrors.proxy", "cli/settings.rs", "mirrors_are_asked_through_the_proxy_that_the_key_names"),
    ("mirrors.ca_file", "apt/private.rs", "repositories_over_tls_are_fetched_cached_and_shared"),
    ("network.listen", "cli/settings.rs", "every_listener_is_where_its_key_says"),
    (
        "network.peers",
        "apt/peers.rs",
        "a_second_node_gets_small_packages_from_the_first_and_none_from_the_mirror",
    ),
    (
        "network.allow_private_peers",
        "cli/settings.rs",
        "nodes_on_private_addresses_are_asked_only_where_the_key_allows_it",
    ),
    (
        "network.port_mapping",
        "lan/router.rs",
        "the_router_is_asked_for_a_port_by_those_who_may_and_by_nobody_else",
    ),
    (
        "swarm.secret_file",
        "sharing/secret.rs",
        "members_find_and_serve_each_other_and_strangers_find_nothing",
    ),
    ("cache.path", "cli/settings.rs", "cache_and_state_are_where_their_keys_say"),
    (
        "cache.max_size",
        "cli/settings.rs",
        "a_cache_keeps_to_its_size_and_lets_go_what_was_not_used_for_longest",
    ),
    ("cache.min_free_space", "cli/settings.rs", "room_that_is_to_stay_free_is_not_taken"),
    ("state.path", "cli/settings.rs", "cache_and_state_are_where_their_keys_say"),
    ("transfer.max_upload_rate", "peers/limits.rs", "uploads_are_as_fast_as_their_limit_and_share_it_evenly"),
    (
        "transfer.max_download_rate",
        "peers/limits.rs",
        "downloads_are_as_fast_as_their_limit_and_share_it_evenly",
    ),
    ("transfer.max_concurrent_uploads", "peers/server.rs", "taken_upload_slots_are_said_and_given_back"),
    (
        "transfer.max_concurrent_downloads",
        "cli/settings.rs",
        "no_more_pieces_are_fetched_at_a_time_than_the_key_says",
    ),
    (
        "transfer.prefer",
        "cli/settings.rs",
        "a_mirror_is_asked_beside_peers_for_speed_and_spared_to_offload_it",
    ),
    (
        "seed.apt_archives",
        "seeding/archives.rs",
        "packages_of_apts_archives_are_offered_if_an_index_names_them",
    ),
    (
        "transfer.prefetch",
        "lookahead/sources.rs",
        "nothing_is_looked_for_where_that_is_off_or_the_mirror_is_private",
    ),
    ("dht.enabled", "finding/start.rs", "nothing_listens_for_datagrams_where_the_dht_is_off"),
    ("dht.bootstrap", "finding/start.rs", "a_node_that_starts_before_its_entrance_gets_in_when_that_appears"),
    ("dht.announce_interval", "cli/settings.rs", "a_file_is_announced_again_as_often_as_the_key_says"),
    ("dht.announce_budget", "cli/settings.rs", "announcing_takes_no_more_packets_than_its_budget"),
    (
        "dht.publishers",
        "sharing/switches.rs",
        "lists_are_looked_for_under_the_keys_of_those_publishers_that_are_named",
    ),
    ("lan.enabled", "lan/off.rs", "nothing_listens_for_multicast_where_it_is_off"),
    ("lan.interfaces", "lan/off.rs", "only_the_interfaces_that_are_named_are_used"),
    ("privacy.announce", "sharing/switches.rs", "who_does_not_announce_looks_for_peers_all_the_same"),
    (
        "privacy.lan_only",
        "sharing/switches.rs",
        "lan_only_sends_no_datagram_and_still_downloads_from_named_peers",
    ),
    (
        "privacy.share_private_mirrors",
        "sharing/scope.rs",
        "what_a_private_mirror_has_is_never_announced_nor_looked_up",
    ),
    ("status.listen", "cli/settings.rs", "every_listener_is_where_its_key_says"),
    ("log.level", "cli/settings.rs", "the_log_is_as_loud_and_has_the_form_that_its_keys_say"),
    ("log.format", "cli/settings.rs", "the_log_is_as_loud_and_has_the_form_that_its_keys_say"),
];

#[test]
fn every_key_has_a_test_that_shows_its_effect() {
    let keys: BTreeSet<&str> = aptpeer::config::KEYS.iter().map(|key| key.name).collect();
    let shown: BTreeSet<&str> = SHOWN.iter().map(|(key, ..)| *key).collect();
    assert_eq!(shown, keys, "the keys with a test, and those that there are");
    for (key, file, function) in SHOWN {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{key}: {file}: {error}"));
        assert!(is_run(&source, function), "{key}: {file} has no test {function} that is run");
    }
}

/// Whether `source` has this function as a test that is not left out.
fn is_run(source: &str, function: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = [format!("fn {function}("), format!("async fn {function}(")];
    let Some(at) = lines.iter().position(|line| begins.iter().any(|begin| line.starts_with(begin))) else {
        return false;
    };
    let attributes: Vec<_> = lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).collect();
    attributes.iter().any(|line| line.contains("test]") || line.contains("test("))
        && !attributes.iter().any(|line| line.contains("ignore") || line.contains("cfg"))
}

#[test]
fn a_function_that_is_no_test_or_is_left_out_counts_for_nothing() {
    let source = "#[test]\nfn good() {}\n\nfn helper() {}\n\n#[test]\n#[ignore]\nfn left_out() {}\n\
                  #[tokio::test]\nasync fn also() {}\n";
    assert!(is_run(source, "good") && is_run(source, "also"));
    assert!(!is_run(source, "helper") && !is_run(source, "left_out") && !is_run(source, "goo"));
}
