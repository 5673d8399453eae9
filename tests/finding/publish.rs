//! `aptpeer publish`: lists that a publisher vouches for.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use aptpeer::dht::Limits;
use aptpeer::digest::Sha256;
use aptpeer::discovery::{Dht, DhtConfig, Discovery as _, Found, Names};
use aptpeer::metrics::Metrics;
use aptpeer::pieces::{ChainWalk, Geometry, PieceList, State};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::support::daemon::{Daemon, Setup};

/// Long enough for a look-up among a few nodes, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn aptpeer(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
    command.arg("--config").arg(config).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Digest and list of so many zero bytes, in blocks that divide a piece.
fn zeros(length: usize) -> (Sha256, Geometry, PieceList) {
    let geometry = Geometry::new(length as u64).unwrap();
    let mut walk = ChainWalk::from_state(State::INITIAL);
    let mut inner = Vec::new();
    for index in 0..geometry.pieces() {
        let range = geometry.range(index);
        walk.update(&vec![0; usize::try_from(range.end - range.start).unwrap()]);
        if index != geometry.last() {
            inner.push(walk.state());
        }
    }
    (walk.finish(length as u64), geometry, PieceList::new(geometry, inner).unwrap())
}

/// The first list of the object that a node finds which trusts this publisher, and whether it is signed.
async fn look_up(
    entrance: &Daemon,
    publisher: [u8; 32],
    object: Sha256,
    geometry: Geometry,
) -> Option<(PieceList, bool)> {
    let (dht, driver) = Dht::new(DhtConfig {
        sockets: vec![UdpSocket::bind("127.0.0.1:0").await.unwrap()],
        bootstrap: Names::new(vec![entrance.addresses().dht.unwrap().to_string()]),
        state: None,
        read_only: true,
        allow_local: true,
        background_rate: 50,
        limits: Limits::daemon(),
        publishers: vec![publisher],
        swarm: aptpeer::wire::Swarm::PUBLIC,
        metrics: Metrics::new(std::time::Instant::now()),
    })
    .unwrap();
    let shutdown = CancellationToken::new();
    let work = async {
        assert!(dht.ready(SOON).await, "the DHT is not reached");
        let mut look_up = dht.look_up(&object, geometry).unwrap();
        let list = async {
            while let Some(found) = look_up.next().await {
                if let Found::List { list, signed } = found {
                    return Some((list, signed));
                }
            }
            None
        };
        let list = tokio::time::timeout(SOON, list).await.expect("a look-up ends");
        shutdown.cancel();
        list
    };
    tokio::join!(work, driver.run(shutdown.clone())).0
}

#[test]
fn a_published_list_is_found_by_whoever_trusts_the_publisher_and_nobody_else() {
    let entrance = Setup::bootstrap().start();
    let to_entrance = [entrance.addresses().dht.unwrap()];
    let _others = [(); 2].map(|()| Setup::bootstrap().dht(&to_entrance).start());
    let machine = Setup::new().dht(&to_entrance).start();

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (key, files) = (at("key"), at("files"));
    std::fs::create_dir(&files).unwrap();
    // In line, with chunks, and without a list.
    let lengths = [9_000_000, 90_000_001, 5];
    for length in lengths {
        let file = File::create(Path::new(&files).join(format!("{length:09}.deb"))).unwrap();
        file.set_len(length as u64).unwrap();
    }

    let public = stdout(&aptpeer(&machine.config(), &["keygen", &key]));
    let publisher: Sha256 = public.trim_end().parse().unwrap();
    let published = aptpeer(&machine.config(), &["publish", "--key", &key, "-r", &files]);
    let lines = stdout(&published);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(String::from_utf8_lossy(&published.stderr).contains("one piece"), "the small one is skipped");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for length in &lengths[..2] {
        let (object, geometry, list) = zeros(*length);
        let line = lines.lines().find(|line| line.starts_with(&object.to_string())).unwrap();
        assert!(line.contains(" nodes  ") && !line.contains(" 0 nodes"), "{line}");
        let found = runtime.block_on(look_up(&entrance, *publisher.as_bytes(), object, geometry));
        assert_eq!(found, Some((list, true)), "{length}");
        let stranger = runtime.block_on(look_up(&entrance, [9; 32], object, geometry));
        assert_eq!(stranger, None, "{length}: nobody else has put a list there");
    }
}

#[test]
fn what_keeps_publish_from_working_is_said() {
    let machine = Setup::new().start();
    let key = machine.state().join("key");
    let key = key.to_str().unwrap();
    let fails = |words: &[&str]| {
        let output = aptpeer(&machine.config(), &["publish", "--key", key, "/etc/hostname"]);
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
    };
    fails(&[key, "No such file", "aptpeer keygen"]);
    stdout(&aptpeer(&machine.config(), &["keygen", key]));
    fails(&["the DHT is off", "dht.enabled = true"]);
}
