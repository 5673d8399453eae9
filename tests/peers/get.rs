//! `aptpeer get`, with good and with bad peers.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aptpeer::digest::Sha256;

use crate::support::apt::Apt;
use crate::support::mirror::Mirror;
use crate::support::noise;
use crate::support::peers::{self, Fault, Peer};
use crate::support::repository::Repository;
use crate::support::server::Server;

const PIECE: usize = 4 << 20;

/// How long one command may run, in seconds; what takes longer has hung, and ends with 124.
const LIMIT: &str = "40";

/// A folder to work in, with a configuration that knows nobody.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with_lists("")
    }

    fn with_lists(lists: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("get").tempdir().unwrap();
        let inner = folder.path().join("settings");
        fs::create_dir_all(folder.path().join("work")).unwrap();
        fs::create_dir(&inner).unwrap();
        let config = format!(
            "[mirrors]\nallow_private = true\nlists_dir = \"{lists}\"\nproxy = \"none\"\n\
             [dht]\nenabled = false\n[cache]\npath = \"{cache}\"\n[state]\npath = \"{state}\"\n",
            cache = inner.join("cache").display(),
            state = inner.join("state").display(),
        );
        fs::write(inner.join("config.toml"), config).unwrap();
        Self { folder }
    }

    /// Where the command runs.
    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn run(&self, arguments: &[&str], peers: &[SocketAddr]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT, env!("CARGO_BIN_EXE_aptpeer")]);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .current_dir(self.work());
        command
            .arg("--config")
            .arg(self.folder.path().join("settings/config.toml"))
            .arg("get")
            .args(arguments);
        for peer in peers {
            command.args(["--peer", &peer.to_string()]);
        }
        command.output().unwrap()
    }

    /// What lies where the command ran.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.work()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[track_caller]
fn check_good(output: &Output) {
    let said = (output.status.code(), text(&output.stderr));
    assert_eq!(said, (Some(0), String::new()));
}

/// Fails unless the command ended with this code and one line that has these words; gives the line.
#[track_caller]
fn check_bad(output: &Output, code: i32, words: &[&str]) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
    }
    stderr
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is(path: &Path, object: &[u8]) -> bool {
    fs::read(path).unwrap() == object
}

fn large() -> (Vec<u8>, String) {
    let object = noise(5, 5 * PIECE + 77);
    let id = Sha256::of(&object).to_string();
    (object, id)
}

#[test]
fn two_peers_give_a_file_by_its_hash() {
    let (object, id) = large();
    let peers = [Peer::honest(&[&object]), Peer::honest(&[&object])];
    let addresses = [peers[0].address(), peers[1].address()];
    let place = Place::new();
    let output = place.run(&[&id], &addresses);
    check_good(&output);
    assert!(output.stdout.is_empty());
    assert!(is(&place.work().join(&id), &object));
    assert_eq!(place.left(), [id]);
    assert!(peers.iter().all(|peer| peer.bytes() >= PIECE as u64), "one peer did all the work");
}

#[test]
fn objects_of_every_size_come_to_the_place_that_was_named() {
    for length in [0, 1, 1000, PIECE, PIECE + 1] {
        let object = noise(6, length);
        let peer = Peer::honest(&[&object]);
        let place = Place::new();
        let output = place.run(&[&Sha256::of(&object).to_string(), "-o", "there.deb"], &[peer.address()]);
        check_good(&output);
        assert!(is(&place.work().join("there.deb"), &object), "{length} bytes");
    }
}

#[test]
fn a_plain_file_server_is_a_peer() {
    let (object, id) = large();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("hash")).unwrap();
    fs::write(root.path().join("hash").join(&id), &object).unwrap();
    let server = Mirror::start(root.path());
    let place = Place::new();
    check_good(&place.run(&[&id], &[server.address()]));
    assert!(is(&place.work().join(&id), &object));

    // A small one beside it, which needs no list.
    let small = noise(7, 10_000);
    let id = Sha256::of(&small).to_string();
    fs::write(root.path().join("hash").join(&id), &small).unwrap();
    check_good(&place.run(&[&id], &[server.address()]));
    assert!(is(&place.work().join(&id), &small));
}

#[test]
fn a_holder_that_publishes_no_states_is_as_good_as_a_plain_file_server() {
    let (object, id) = large();
    let peer = Peer::start(&[&object], &[Fault::NullStates]);
    let place = Place::new();
    check_good(&place.run(&[&id], &[peer.address()]));
    assert!(is(&place.work().join(&id), &object));
}

#[test]
fn a_file_goes_to_standard_output() {
    let (object, id) = large();
    let peer = Peer::honest(&[&object]);
    let place = Place::new();
    let output = place.run(&[&id, "-o", "-"], &[peer.address()]);
    check_good(&output);
    assert!(output.stdout == object);
    assert_eq!(place.left(), [] as [String; 0]);
}

#[test]
fn a_file_comes_by_its_url_once_apt_knows_it() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    let apt = Apt::new().one_line(&mirror.url(), &repository);
    apt.update().succeeded();
    let place = Place::with_lists(apt.lists().to_str().unwrap());
    for name in ["g++-tool", "large"] {
        let url = format!("{}/debian/{}", mirror.url(), repository.package(name).filename);
        check_good(&place.run(&[&url], &[]));
        let file = url.rsplit('/').next().unwrap();
        assert!(is(&place.work().join(file), &repository.bytes(name)), "{name}");
    }
    let unknown = format!("{}/debian/pool/main/n/nothing.deb", mirror.url());
    check_bad(&place.run(&[&unknown], &[]), 1, &[&unknown, "apt-get update"]);
}

#[test]
fn what_is_no_hash_and_no_url_is_bad_usage() {
    let place = Place::new();
    let short = "abc";
    let long = "a".repeat(65);
    let wrong = "g".repeat(64);
    for what in [short, &long, &wrong, ""] {
        check_bad(&place.run(&[what], &[]), 2, &["SHA-256"]);
    }
    check_bad(
        &place.run(&["ftp://mirror.example.org/file.deb"], &[]),
        2,
        &["ftp://mirror.example.org/file.deb"],
    );
    let id = Sha256::of(b"x").to_string();
    check_bad(&place.run(&[&id, "--peer", "no-port"], &[]), 2, &["no-port", "HOST:PORT"]);
    check_bad(&place.run(&[&id, "-o", "."], &["127.0.0.1:1".parse().unwrap()]), 2, &["-o FILE"]);
    assert_eq!(place.left(), [] as [String; 0]);
}

#[test]
fn without_a_peer_that_has_it_the_command_says_so() {
    let id = Sha256::of(b"nobody has this").to_string();
    let place = Place::new();
    check_bad(&place.run(&[&id], &[]), 1, &[&id, "--peer"]);
    let stranger = Peer::honest(&[b"something else"]);
    let (dead, _kept) = peers::dead();
    check_bad(&place.run(&[&id], &[stranger.address(), dead]), 1, &[&id, "no peer holds"]);
    assert_eq!(place.left(), [] as [String; 0]);
}

#[test]
fn a_peer_that_lies_of_the_length_is_found_out() {
    for fault in [Fault::ShortBody(1), Fault::LongBody(1), Fault::LongBody(2_000_000)] {
        for length in [1000, 2 * PIECE + 5] {
            let object = noise(8, length);
            let id = Sha256::of(&object).to_string();
            let liar = Peer::start(&[&object], std::slice::from_ref(&fault));
            let place = Place::new();
            check_bad(&place.run(&[&id], &[liar.address()]), 1, &[&id]);
            assert_eq!(place.left(), [] as [String; 0], "{fault:?}");

            let honest = Peer::honest(&[&object]);
            for peers in [[liar.address(), honest.address()], [honest.address(), liar.address()]] {
                let output = place.run(&[&id], &peers);
                check_good(&output);
                assert!(is(&place.work().join(&id), &object), "{fault:?}");
                fs::remove_file(place.work().join(&id)).unwrap();
            }
        }
    }
}

#[test]
fn a_peer_that_claims_an_absurd_length_costs_neither_the_file_nor_the_disk() {
    let object = noise(9, 10_000);
    let id = Sha256::of(&object).to_string();
    let honest = Peer::honest(&[&object]);
    for length in ["1099511627776", "1099511627777", "18446744073709551615", "99999999999999999999999", "-1"]
    {
        let liar = Server::start(move |connection| {
            while let Some(head) = connection.next_request()? {
                let status = if head.method == "HEAD" { "200 OK" } else { "404 Not Found" };
                let length = if head.method == "HEAD" { length } else { "0" };
                connection
                    .send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
            }
            Ok(())
        });
        let place = Place::new();
        check_bad(&place.run(&[&id], &[liar.address()]), 1, &[&id]);
        check_good(&place.run(&[&id], &[liar.address(), honest.address()]));
        assert!(is(&place.work().join(&id), &object), "{length}");
    }
}

#[test]
fn wrong_bytes_never_become_a_file() {
    let (object, id) = large();
    let lies: &[&[Fault]] = &[
        &[Fault::WrongPiece(0)],
        &[Fault::WrongEverywhere],
        &[Fault::WrongEverywhere, Fault::Conspiracy],
        &[Fault::NoList, Fault::WrongEverywhere],
        &[Fault::TrueTail(2)],
    ];
    for lie in lies {
        println!("{lie:?}");
        let liar = Peer::start(&[&object], lie);
        let place = Place::new();
        // A holder of a part may be growing, and is waited for: too long for a test.
        if !lie.iter().any(|fault| matches!(fault, Fault::TrueTail(_))) {
            check_bad(&place.run(&[&id], &[liar.address()]), 1, &[&id]);
            assert_eq!(place.left(), [] as [String; 0], "{lie:?}");
            let output = place.run(&[&id, "-o", "-"], &[liar.address()]);
            check_bad(&output, 1, &[&id]);
            assert!(output.stdout.len() < object.len(), "{lie:?}: a wrong file was completed");
        }

        let honest = Peer::honest(&[&object]);
        check_good(&place.run(&[&id], &[liar.address(), honest.address()]));
        assert!(is(&place.work().join(&id), &object), "{lie:?}");
    }
}

#[test]
fn a_place_that_cannot_be_written_to_is_said() {
    let (object, id) = large();
    let peer = Peer::honest(&[&object]);
    let place = Place::new();
    check_bad(&place.run(&[&id, "-o", "no/such/folder/file"], &[peer.address()]), 1, &["no/such/folder"]);
}
