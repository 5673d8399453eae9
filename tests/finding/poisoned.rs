//! Piece lists in the DHT that somebody filled with rubbish: anybody can, for everybody can derive the key.

use aptpeer::dht::{OwnedItem, Signer};
use aptpeer::digest::Sha256;
use aptpeer::discovery::list_items;
use aptpeer::wire::{ListItems, list_seed};

use crate::nodes::Network;
use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::peers::states;
use crate::support::repository::{Package, Repository};
use crate::world::{fetch, learn, metric, url};

/// Peers come before the mirror, so that what they give shows.
const PATIENT: &str = "[transfer]\nprefer = \"offload\"\n";

/// The files: three pieces, whose list stands in its head, and 22, whose list stands in a chunk.
const SHORT: usize = 9_000_000;
const LONG: usize = 89_000_000;

/// A value that somebody who knows the object puts under its derived key.
fn head(object: &Sha256, value: &[u8], seq: i64) -> OwnedItem {
    Signer::from_seed(&list_seed(object)).unwrap().sign(value, b"", seq).unwrap()
}

/// States that have nothing to do with any object.
fn made_up(count: usize) -> Vec<[u8; 32]> {
    (0..count).map(|number| *Sha256::of(&number.to_be_bytes()).as_bytes()).collect()
}

/// What is put for an object of these bytes.
fn poison(kind: &str, bytes: &[u8]) -> Vec<OwnedItem> {
    let object = Sha256::of(bytes);
    let (length, true_states) = (bytes.len() as u64, states(bytes));
    let true_states: Vec<[u8; 32]> = true_states.iter().map(|state| state.to_bytes()).collect();
    let lie = ListItems::of(length, &made_up(true_states.len())).unwrap();
    let truth = ListItems::of(length, &true_states).unwrap();
    let longer = ListItems::of(length + 4_194_304, &made_up(true_states.len() + 1)).unwrap();
    match kind {
        "nothing" => Vec::new(),
        "the truth" => {
            list_items(&object, length, &true_states, None, &aptpeer::wire::Swarm::PUBLIC).unwrap()
        }
        "no dictionary" => vec![head(&object, b"li1ei2ee", i64::MAX)],
        "no dictionary, seq 1" => vec![head(&object, b"4:list", 1)],
        "another length" => vec![head(&object, &longer.head, 1)],
        "wrong states" => vec![head(&object, &lie.head, i64::MAX)],
        "wrong states, seq 1" => vec![head(&object, &lie.head, 1)],
        "the truth, but a huge seq" => vec![head(&object, &truth.head, i64::MAX)],
        // The head of a long list alone.
        "no chunks" => vec![head(&object, &lie.head, 1)],
        "chunks of another file" => {
            list_items(&object, length, &made_up(true_states.len()), None, &aptpeer::wire::Swarm::PUBLIC)
                .unwrap()
        }
        _ => panic!("{kind}"),
    }
}

/// Has `daemon` fetch everything there is.
fn fetch_all(daemon: &Daemon, mirror: &Mirror, repository: &Repository) {
    for built in repository.built() {
        fetch(daemon.proxy(), &url(mirror, repository, &built.package.name), || {});
    }
}

/// Every warning and error that a daemon wrote.
fn complaints(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""));
    lines.map(str::to_owned).collect()
}

#[test]
fn rubbish_under_the_key_of_a_list_costs_a_download_nothing_but_the_list() {
    let short = [
        "nothing",
        "the truth",
        "no dictionary",
        "no dictionary, seq 1",
        "another length",
        "wrong states",
        "wrong states, seq 1",
        "the truth, but a huge seq",
    ];
    let long = ["nothing", "no chunks", "chunks of another file"];
    let kinds: Vec<(String, &str, usize)> = short
        .iter()
        .map(|kind| (*kind, SHORT))
        .chain(long.iter().map(|kind| (*kind, LONG)))
        .enumerate()
        .map(|(number, (kind, length))| (format!("file{number:02}"), kind, length + number))
        .collect();
    let packages: Vec<_> = kinds.iter().map(|(name, _, length)| Package::new(name, "1", *length)).collect();
    let repository = Repository::with(&packages);
    let mirror = Mirror::start(&repository.root());

    let network = Network::new(6);
    // It announces nothing itself, so that nobody writes a list but this test.
    let provider = Setup::new().with("[privacy]\nannounce = false\n").start();
    learn(&provider, &mirror);
    fetch_all(&provider, &mirror, &repository);
    for (name, kind, _) in &kinds {
        let bytes = repository.bytes(name);
        network.announce(1, Sha256::of(&bytes), provider.peer().port());
        for item in poison(kind, &bytes) {
            let ended = network.store(2, item);
            assert!(ended.stored > 0, "{kind}: {ended:?}");
        }
    }

    let daemon = Setup::new().dht(&[network.entrance()]).with(PATIENT).start();
    daemon.wait_for_dht();
    learn(&daemon, &mirror);
    mirror.forget_records();
    for (name, kind, length) in &kinds {
        let fetched = fetch(daemon.proxy(), &url(&mirror, &repository, name), || {});
        assert!(fetched.body == repository.bytes(name), "{kind}: wrong bytes");
        let from_mirror = mirror.bytes(&format!("*/{name}_*"));
        println!(
            "{length} bytes, {kind}: first byte {:.1?}, whole {:.1?}, {from_mirror} bytes from the mirror",
            fetched.first, fetched.whole
        );
    }
    assert_eq!(complaints(&daemon), [""; 0]);
    assert!(!daemon.log().contains("handed out proved wrong"), "a lie was believed");
    let rubbish = daemon.log().matches("a piece list in the DHT is no list").count();
    println!("{rubbish} lists were no lists");
    // The provider was never blamed for what others wrote.
    assert_eq!(metric(&daemon, "aptpeer_verification_failures_total{reason=\"piece\"}"), 0);
}

#[test]
fn an_honest_list_that_a_poisoned_one_keeps_out_troubles_nobody() {
    let repository = Repository::with(&[Package::new("poisoned", "1", SHORT)]);
    let mirror = Mirror::start(&repository.root());
    let bytes = repository.bytes("poisoned");
    let object = Sha256::of(&bytes);
    let network = Network::new(4);
    let rubbish = head(&object, b"7:rubbish", i64::MAX);
    assert!(network.store(1, rubbish).stored > 0);

    let holder = Setup::new().dht(&[network.entrance()]).start();
    holder.wait_for_dht();
    learn(&holder, &mirror);
    fetch_all(&holder, &mirror, &repository);
    holder.wait_for_log("published its piece list");
    let log = holder.log();
    let published = log.lines().find(|line| line.contains("published its piece list")).unwrap();
    println!("{published}");
    assert_eq!(complaints(&holder), [""; 0]);

    let finder = Setup::new().dht(&[network.entrance()]).with(PATIENT).start();
    finder.wait_for_dht();
    learn(&finder, &mirror);
    mirror.forget_records();
    let fetched = fetch(finder.proxy(), &url(&mirror, &repository, "poisoned"), || {});
    assert!(fetched.body == bytes);
    assert_eq!(mirror.bytes("*/pool/*"), 0, "the holder was found");
    assert_eq!(complaints(&finder), [""; 0]);
}
