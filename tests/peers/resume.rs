//! A daemon that is killed in the middle of a download, and goes on with it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use aptpeer::digest::Sha256;

use crate::support::daemon::Daemon;
use crate::support::http::{Wire, request};
use crate::support::mirror::{Fault, Mirror, Rule};
use crate::support::repository::{Package, Repository};
use crate::support::wait_for;
use crate::world::{fetch, learn, metric, url};

const PIECE: u64 = 4 << 20;

/// What is not here by then never comes.
const LIMIT: Duration = Duration::from_secs(60);

/// A daemon that was killed while it downloaded a package of 200 MB, and started again.
struct Killed {
    daemon: Daemon,
    mirror: Mirror,
    object: Vec<u8>,
    url: String,
    _repository: Repository,
}

impl Killed {
    /// `between` is done to the partial file while the daemon is down.
    fn new(between: impl FnOnce(&fs::File)) -> Self {
        let repository = Repository::with(&[Package::new("large", "1.0", 200_000_000).all()]);
        let mirror = Mirror::start(&repository.root());
        mirror.script(Rule::new("*large*", Fault::Rate(25_000_000)));
        let mut daemon = Daemon::start();
        learn(daemon.proxy(), &mirror);
        let (object, url) = (repository.bytes("large"), url(&mirror, &repository, "large"));
        let mut apt = Wire::connect(daemon.proxy());
        apt.ask("GET", &url, &[]);
        let list = format!("/hash/{}/pieces", Sha256::of(&object));
        let half = || {
            let list: serde_json::Value =
                serde_json::from_slice(&request(daemon.peer(), "GET", &list, &[]).body).ok()?;
            let last: u32 = list["have"].as_str()?.split_once('-')?.1.parse().ok()?;
            (last >= 25).then_some(())
        };
        assert!(wait_for(LIMIT, half).is_some(), "half of it never came");
        daemon.kill();
        drop(apt);
        let partials: Vec<_> = fs::read_dir(daemon.cache().join("v1/partial")).unwrap().collect();
        assert_eq!(partials.len(), 1);
        let partial = partials[0].as_ref().unwrap().path();
        between(&fs::File::options().read(true).write(true).open(partial).unwrap());
        mirror.behave();
        daemon.restart();
        learn(daemon.proxy(), &mirror);
        mirror.forget_records();
        Self { daemon, mirror, object, url, _repository: repository }
    }

    fn metric(&self, name: &str) -> u64 {
        metric(&self.daemon.metrics(), name)
    }

    /// Where the mirror was asked to begin, each time.
    fn begins(&self) -> Vec<u64> {
        let records = self.mirror.records().into_iter().filter(|record| record.path.contains("large"));
        let begin = |range: &str| range.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok();
        records.map(|record| record.head.header("range").and_then(begin).unwrap_or(0)).collect()
    }
}

#[test]
fn a_killed_daemon_asks_the_mirror_for_the_rest_only_and_hashes_nothing_again() {
    let killed = Killed::new(|_| {});
    let length = killed.object.len() as u64;
    // As apt comes back: it has a part itself.
    let fetched = fetch(killed.daemon.proxy(), &killed.url, &[("Range", "bytes=150000000-")]);
    assert_eq!(fetched.head.status, 206);
    assert!(fetched.body == killed.object[150_000_000..]);
    let resumed = killed.metric("aptpeer_bytes_resumed_total");
    println!("{resumed} of {length} bytes resumed");
    assert!(resumed >= 10 * PIECE && resumed.is_multiple_of(PIECE), "{resumed}");
    assert_eq!(killed.begins(), [resumed]);
    assert_eq!(killed.mirror.bytes("*large*"), length - resumed);
    assert_eq!(killed.metric("aptpeer_bytes_rehashed_total"), 0);

    let whole = fetch(killed.daemon.proxy(), &killed.url, &[]);
    assert!(whole.body == killed.object);
    assert_eq!(killed.begins().len(), 1, "it is in the store");
}

#[test]
fn damage_to_what_was_left_is_found_and_only_that_is_fetched_again() {
    let killed = Killed::new(|partial| {
        let mut byte = [0];
        partial.read_exact_at(&mut byte, 3 * PIECE + 5).unwrap();
        partial.write_all_at(&[byte[0] ^ 1], 3 * PIECE + 5).unwrap();
    });
    let whole = fetch(killed.daemon.proxy(), &killed.url, &[]);
    assert!(
        whole.is_whole() && whole.body == killed.object,
        "{} of {}",
        whole.body.len(),
        killed.object.len()
    );
    let resumed = killed.metric("aptpeer_bytes_resumed_total");
    assert!(resumed >= 10 * PIECE);
    let mut begins = killed.begins();
    begins.sort_unstable();
    assert_eq!(begins, [3 * PIECE, resumed]);
    let sent = killed.mirror.bytes("*large*");
    assert_eq!(sent, killed.object.len() as u64 - resumed + PIECE);
    assert_eq!(killed.metric("aptpeer_verification_failures_total{reason=\"stored\"}"), 1);
    assert!(killed.metric("aptpeer_bytes_rehashed_total") <= resumed - PIECE);
}
