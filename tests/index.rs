//! The index of hashes, from the files of real repositories to the answers that the proxy relies on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aptpeer::debian::RepoUrl;
use aptpeer::digest::Sha256;
use aptpeer::index::{
    Index, Kind, Known, Learned, Offer, Open, Options, Outcome, ReadError, Reading, Taught, Verification,
};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(30);

fn url(text: &str) -> RepoUrl {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn sum(content: &str) -> Sha256 {
    Sha256::of(content.as_bytes())
}

fn file(content: &str) -> Option<Known> {
    Some(Known { id: sum(content), length: Some(content.len() as u64), kind: Kind::File })
}

fn named(content: &[u8]) -> Option<Known> {
    Some(Known { id: Sha256::of(content), length: Some(content.len() as u64), kind: Kind::Index })
}

/// A Packages with these (path, content).
fn packages(files: &[(&str, &str)]) -> Vec<u8> {
    let stanza = |(path, content): &(&str, &str)| {
        format!(
            "Package: x\nFilename: {path}\nSize: {}\nSHA256: {}\nDescription: x\n y\n\n",
            content.len(),
            sum(content)
        )
    };
    files.iter().map(stanza).collect::<String>().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A Release made on this day of July 2026.
fn release(day: u32, files: &[(&str, &[u8])]) -> Vec<u8> {
    use sha2::Digest as _;
    let weekday = ["Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon"][(day % 7) as usize];
    let mut text = format!("Suite: stable\nDate: {weekday}, {day:02} Jul 2026 10:00:00 UTC\nSHA512:\n");
    for (path, content) in files {
        let hex: String = sha2::Sha512::digest(content).iter().map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!(" {hex} {} {path}\n", content.len()));
    }
    text.push_str("SHA256:\n");
    for (path, content) in files {
        text.push_str(&format!(" {} {} {path}\n", Sha256::of(content), content.len()));
    }
    text.into_bytes()
}

/// As an InRelease whose signature nobody checks.
fn clearsigned(release: &[u8]) -> Vec<u8> {
    let head = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n";
    let tail = b"-----BEGIN PGP SIGNATURE-----\n\nxxxx\n-----END PGP SIGNATURE-----\n";
    [&head[..], release, tail].concat()
}

/// An index with somebody who runs it.
struct Node {
    index: Index,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Node {
    fn start(options: Options) -> Self {
        let (index, shutdown) = (Index::new(options), CancellationToken::new());
        let running = tokio::spawn(index.clone().run(shutdown.clone()));
        Self { index, shutdown, running }
    }

    fn unchecked() -> Self {
        Self::start(Options { verification: Verification::Off, ..Options::default() })
    }

    fn lookup(&self, address: &str) -> Option<Known> {
        self.index.lookup(&url(address))
    }

    async fn settle(&self) {
        assert!(self.index.settled(LONG).await, "readings never ended");
    }

    async fn refresh(&self) {
        self.index.refresh();
        self.settle().await;
    }

    async fn pass(&self, address: &str, release: &[u8]) -> Taught {
        self.index.learn_release(&url(address), release, Learned::Passing).await.unwrap()
    }

    async fn read(&self, index: &[u8]) -> Reading {
        let bytes = index.to_vec();
        self.index.learn_index(Sha256::of(index), move || Ok(io::Cursor::new(bytes))).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(LONG, self.running).await.expect("the index does not stop").unwrap();
    }
}

/// An apt lists directory.
struct Lists(TempDir);

impl Lists {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("partial")).unwrap();
        fs::write(folder.path().join("lock"), "").unwrap();
        Self(folder)
    }

    fn options(&self) -> Options {
        Options {
            lists_dir: Some(self.0.path().to_owned()),
            verification: Verification::Enforce,
            ..Options::default()
        }
    }

    /// Puts a file there as apt does: by a rename out of `partial`.
    fn put(&self, name: &str, content: &[u8]) {
        let partial = self.0.path().join("partial").join(name);
        fs::write(&partial, content).unwrap();
        fs::rename(partial, self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[tokio::test]
async fn everything_in_apts_lists_is_known() {
    let (lists, contents) = (Lists::new(), b"the translation".as_slice());
    let index = packages(&[("pool/main/g/g++_1%3a2~3_amd64.deb", "a package"), ("pool/no.deb", "x")]);
    let sources =
        format!("Package: s\nDirectory: pool/s\nChecksums-Sha256:\n {} 3 s_1.dsc\n", sum("dsc")).into_bytes();
    let udebs = packages(&[("pool/i.udeb", "installer")]);
    let packed = gzip(&index);
    let release = release(
        1,
        &[
            ("main/binary-amd64/Packages", &index),
            ("main/binary-amd64/Packages.gz", &packed),
            ("main/debian-installer/binary-amd64/Packages", &udebs),
            ("main/source/Sources", &sources),
            ("main/i18n/Translation-en", contents),
        ],
    );
    let base = "mirror.example.org_debian_dists_stable";
    lists.put(&format!("{base}_InRelease"), &clearsigned(&release));
    lists.put(&format!("{base}_main_binary-amd64_Packages.lz4"), &lz4(&index));
    lists.put(&format!("{base}_main_debian-installer_binary-amd64_Packages"), &udebs);
    lists.put(&format!("{base}_main_source_Sources.gz"), &gzip(&sources));
    let node = Node::start(lists.options());
    node.settle().await;

    let root = "http://mirror.example.org/debian";
    for spelling in ["g%2b%2b_1%253a2%7e3", "g++_1%253a2~3", "./g%2B+_1%253%612~3"] {
        let address = format!("{root}/pool/main/g/{spelling}_amd64.deb");
        assert_eq!(node.lookup(&address), file("a package"), "{address}");
    }
    assert_eq!(node.lookup(&format!("{root}/pool/i.udeb")), file("installer"));
    assert_eq!(node.lookup(&format!("{root}/pool/s/s_1.dsc")), file("dsc"));
    assert_eq!(node.lookup(&format!("{root}/pool/other.deb")), None);
    assert_eq!(node.lookup("http://other.example.org/debian/pool/i.udeb"), None);

    let dist = format!("{root}/dists/stable/main");
    assert_eq!(node.lookup(&format!("{dist}/binary-amd64/Packages.gz")), named(&packed));
    assert_eq!(node.lookup(&format!("{dist}/i18n/Translation-en")), named(contents));
    let by_hash = format!("{dist}/binary-amd64/by-hash");
    assert_eq!(node.lookup(&format!("{by_hash}/SHA256/{}", Sha256::of(&packed))), named(&packed));
    let sha512: String = {
        use sha2::Digest as _;
        sha2::Sha512::digest(&packed).iter().map(|b| format!("{b:02x}")).collect()
    };
    assert_eq!(node.lookup(&format!("{by_hash}/SHA512/{sha512}")), named(&packed));
    assert_eq!(node.lookup(&format!("{by_hash}/SHA512/{}", sha512.replace(&sha512[..1], "g"))), None);
    node.stop().await;
}

#[tokio::test]
async fn a_by_hash_address_says_itself_what_it_is() {
    let node = Node::unchecked();
    let address = format!("http://mirror.example.org/debian/dists/sid/main/by-hash/SHA256/{}", sum("x"));
    assert_eq!(node.lookup(&address), Some(Known { id: sum("x"), length: None, kind: Kind::Index }));
    node.stop().await;
}

#[tokio::test]
async fn an_update_of_apt_replaces_what_was_known() {
    let lists = Lists::new();
    let put = |day, index: &[u8]| {
        lists.put(
            "h_d_dists_s_InRelease",
            &clearsigned(&release(day, &[("main/binary-all/Packages", index)])),
        );
        lists.put("h_d_dists_s_main_binary-all_Packages", index);
    };
    put(2, &packages(&[("pool/a.deb", "old bytes"), ("pool/gone.deb", "gone")]));
    let node = Node::start(lists.options());
    node.settle().await;
    assert_eq!(node.lookup("h/d/pool/a.deb"), file("old bytes"));

    // The same path with other bytes; apt's clock may even have gone back.
    put(1, &packages(&[("pool/a.deb", "new bytes")]));
    node.refresh().await;
    assert_eq!(node.lookup("h/d/pool/a.deb"), file("new bytes"));
    assert_eq!(node.lookup("h/d/pool/gone.deb"), None);
    assert_eq!(node.index.figures().tables, 1);

    fs::remove_file(lists.path("h_d_dists_s_InRelease")).unwrap();
    node.refresh().await;
    assert_eq!(node.lookup("h/d/pool/a.deb"), None);
    assert_eq!(node.index.figures().releases, 0);
    node.stop().await;
}

#[tokio::test]
async fn half_an_update_of_apt_teaches_nothing_wrong() {
    let lists = Lists::new();
    let (old, new) = (packages(&[("pool/a.deb", "old")]), packages(&[("pool/a.deb", "new")]));
    lists.put("h_d_dists_s_InRelease", &clearsigned(&release(2, &[("Packages", &new)])));
    lists.put("h_d_dists_s_Packages", &old);
    let node = Node::start(lists.options());
    node.settle().await;
    assert_eq!(node.lookup("h/d/pool/a.deb"), None);
    lists.put("h_d_dists_s_Packages", &new);
    node.refresh().await;
    assert_eq!(node.lookup("h/d/pool/a.deb"), file("new"));
    node.stop().await;
}

#[tokio::test]
async fn an_index_whose_release_names_only_compressed_files_is_read_and_followed() {
    let lists = Lists::new();
    for content in ["old", "new"] {
        let index = packages(&[("pool/a.deb", content)]);
        let release = release(3, &[("main/binary-all/Packages.gz", &gzip(&index))]);
        lists.put("h_d_dists_s_Release", &release);
        lists.put("h_d_dists_s_main_binary-all_Packages.lz4", &lz4(&index));
        let node = Node::start(lists.options());
        node.settle().await;
        assert_eq!(node.lookup("h/d/pool/a.deb"), file(content));
        // The list is replaced after its Release was read.
        lists.put("h_d_dists_s_main_binary-all_Packages.lz4", &lz4(&packages(&[("pool/a.deb", "later")])));
        node.refresh().await;
        assert_eq!(node.lookup("h/d/pool/a.deb"), file("later"));
        node.stop().await;
    }
}

#[tokio::test]
async fn flat_repositories_are_relative_to_the_sources_uri() {
    let node = Node::unchecked();
    let here = packages(&[("./a_1.deb", "in ./"), ("b/b_1.deb", "below")]);
    node.pass("http://h/repo/./Release", &release(1, &[("Packages", &here)])).await;
    node.read(&here).await;
    assert_eq!(node.lookup("http://h/repo/./a_1.deb"), file("in ./"));
    assert_eq!(node.lookup("http://h/repo/a_1.deb"), file("in ./"));
    assert_eq!(node.lookup("http://h/repo/./b/b_1.deb"), file("below"));
    assert_eq!(node.lookup("http://h/repo/./Packages"), named(&here));

    // `deb http://h/jobs binary/`: the sources URI ends above the Release.
    let above = packages(&[("binary/j_1.deb", "j")]);
    node.pass("http://h/jobs/binary/Release", &release(1, &[("Packages", &above)])).await;
    node.read(&above).await;
    assert_eq!(node.lookup("http://h/jobs/binary/j_1.deb"), file("j"));
    node.stop().await;
}

#[tokio::test]
async fn one_repository_cannot_speak_for_another_on_the_same_host() {
    let node = Node::unchecked();
    let good = packages(&[("a.deb", "good")]);
    node.pass("http://h/~good/Release", &release(1, &[("Packages", &good)])).await;
    node.read(&good).await;
    let evil = packages(&[("~good/a.deb", "evil"), ("~good/b.deb", "evil")]);
    node.pass("http://h/~evil/Release", &release(9, &[("Packages", &evil)])).await;
    node.read(&evil).await;
    assert_eq!(node.lookup("http://h/~good/a.deb"), file("good"));
    assert_eq!(node.lookup("http://h/~good/b.deb"), None);
    node.stop().await;
}

#[tokio::test]
async fn passing_indexes_are_learnt_and_shared_between_mirrors() {
    let node = Node::unchecked();
    let index = packages(&[("pool/a.deb", "a")]);
    let packed = gzip(&index);
    let names =
        release(1, &[("main/binary-amd64/Packages", &index), ("main/binary-amd64/Packages.xz", &packed)]);
    let inrelease = clearsigned(&names);
    assert_eq!(node.pass("http://one.example.org/debian/dists/s/InRelease", &inrelease).await, Taught::New);
    assert_eq!(node.pass("http://one.example.org/debian/dists/s/InRelease", &inrelease).await, Taught::Same);
    assert!(node.index.wants(&Sha256::of(&packed)));

    // The name says xz; the content is what counts.
    let open: Open = Box::new({
        let packed = packed.clone();
        move || Ok(Box::new(io::Cursor::new(packed)))
    });
    assert_eq!(node.index.offer_index(Sha256::of(&packed), open), Offer::Queued);
    node.settle().await;
    assert_eq!(node.lookup("http://one.example.org/debian/pool/a.deb"), file("a"));

    node.pass("http://two.example.org:8080/mirror/debian/dists/s/InRelease", &inrelease).await;
    assert_eq!(node.lookup("http://two.example.org:8080/mirror/debian/pool/a.deb"), file("a"));
    for digest in [Sha256::of(&packed), Sha256::of(&index)] {
        let never: Open = Box::new(|| panic!("it was read already"));
        assert_eq!(node.index.offer_index(digest, never), Offer::NotNeeded);
    }
    assert_eq!((node.index.figures().releases, node.index.figures().tables), (2, 1));
    node.stop().await;
}

#[tokio::test]
async fn only_what_a_release_names_as_an_index_is_read() {
    let node = Node::unchecked();
    let files: [(&str, &[u8]); 4] = [
        ("main/Contents-amd64.gz", b"contents"),
        ("main/binary-amd64/Packages.diff/Index", b"differences"),
        ("packages/icons.tar", b"icons"),
        ("main/binary-amd64/Release", b"a Release of a component"),
    ];
    node.pass("http://h/packages/dists/s/Release", &release(1, &files)).await;
    for (path, content) in files {
        assert_eq!(node.lookup(&format!("http://h/packages/dists/s/{path}")), named(content));
        assert!(!node.index.wants(&Sha256::of(content)), "{path} is not to be read");
    }
    node.stop().await;
}

#[tokio::test]
async fn an_index_with_other_bytes_teaches_nothing() {
    let node = Node::unchecked();
    let index = packages(&[("pool/a.deb", "a")]);
    node.pass("http://h/d/dists/s/Release", &release(1, &[("Packages", &index)])).await;
    let forged = packages(&[("pool/a.deb", "forged")]);
    let read = node.index.learn_index(Sha256::of(&index), move || Ok(io::Cursor::new(forged))).await;
    assert!(matches!(read, Err(ReadError::Differs { .. })), "{read:?}");
    assert_eq!(node.lookup("http://h/d/pool/a.deb"), None);
    assert_eq!(node.read(&index).await, Reading::Read(1));
    assert_eq!(node.lookup("http://h/d/pool/a.deb"), file("a"));
    node.stop().await;
}

#[tokio::test]
async fn the_newest_release_wins_within_a_place_and_between_suites() {
    let node = Node::unchecked();
    let (old, new) =
        (packages(&[("pool/a.deb", "old"), ("pool/o.deb", "o")]), packages(&[("pool/a.deb", "new")]));
    node.pass("http://h/d/dists/new/Release", &release(9, &[("Packages", &new)])).await;
    node.read(&new).await;
    node.pass("http://h/d/dists/old/Release", &release(3, &[("Packages", &old)])).await;
    node.read(&old).await;
    assert_eq!(node.lookup("http://h/d/pool/a.deb"), file("new"));
    assert_eq!(node.lookup("http://h/d/pool/o.deb"), file("o"));

    // A mirror that lags behind does not bring back the past; a newer one brings the future.
    let newer = packages(&[("pool/a.deb", "newer")]);
    assert_eq!(
        node.pass("http://h/d/dists/old/Release", &release(2, &[("Packages", &newer)])).await,
        Taught::Older
    );
    assert_eq!(
        node.pass("http://h/d/dists/old/Release", &release(10, &[("Packages", &newer)])).await,
        Taught::New
    );
    assert_eq!(node.lookup("http://h/d/pool/o.deb"), None, "its index is not named any more");
    node.read(&newer).await;
    assert_eq!(node.lookup("http://h/d/pool/a.deb"), file("newer"));
    assert_eq!(node.index.figures().tables, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_release_from_the_far_future_can_be_replaced() {
    let node = Node::unchecked();
    let (odd, good) = (packages(&[("pool/a.deb", "odd")]), packages(&[("pool/a.deb", "good")]));
    let future = String::from_utf8(release(1, &[("Packages", &odd)]))
        .unwrap()
        .replace("Wed, 01 Jul 2026", "Tue, 01 Jul 2098");
    node.pass("http://h/d/dists/s/Release", future.as_bytes()).await;
    assert_eq!(
        node.pass("http://h/d/dists/s/Release", &release(2, &[("Packages", &good)])).await,
        Taught::New
    );
    node.stop().await;
}

#[tokio::test]
async fn unchanged_components_are_not_read_again_after_a_new_release() {
    let node = Node::unchecked();
    let (main, contrib) = (packages(&[("pool/a.deb", "a")]), packages(&[("pool/c.deb", "1")]));
    node.pass(
        "http://h/d/dists/s/Release",
        &release(1, &[("main/Packages", &main), ("contrib/Packages", &contrib)]),
    )
    .await;
    node.read(&main).await;
    node.read(&contrib).await;
    let contrib = packages(&[("pool/c.deb", "2")]);
    node.pass(
        "http://h/d/dists/s/Release",
        &release(2, &[("main/Packages", &main), ("contrib/Packages", &contrib)]),
    )
    .await;
    assert_eq!(node.lookup("http://h/d/pool/a.deb"), file("a"));
    assert!(!node.index.wants(&Sha256::of(&main)) && node.index.wants(&Sha256::of(&contrib)));
    node.stop().await;
}

#[tokio::test]
async fn what_passes_is_bounded_and_the_least_used_goes_first() {
    let state = tempfile::tempdir().unwrap();
    let node = Node::start(Options {
        state_dir: Some(state.path().to_owned()),
        verification: Verification::Off,
        ..Options::default()
    });
    for n in 0..100 {
        let release = release(1, &[(&format!("file{n}"), b"x")]);
        node.pass(&format!("http://h{n}/d/dists/s/Release"), &release).await;
        assert!(node.lookup("http://h0/d/dists/s/file0").is_some(), "what is used was forgotten");
    }
    let figures = node.index.figures();
    assert_eq!(figures.releases, 64);
    assert_eq!(node.lookup("http://h1/d/dists/s/file1"), None);
    assert!(node.lookup("http://h99/d/dists/s/file99").is_some());
    assert_eq!(fs::read_dir(state.path().join("indexes/v1")).unwrap().count(), 2 * 64);
    node.stop().await;
}

#[tokio::test]
async fn what_passed_is_known_again_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let options = || Options {
        state_dir: Some(state.path().to_owned()),
        verification: Verification::Off,
        ..Options::default()
    };
    let (kept, evicted) = (packages(&[("pool/a.deb", "a")]), packages(&[("pool/b.deb", "b")]));
    let packed = gzip(&kept);
    let names = release(1, &[("main/Packages.gz", &packed), ("contrib/Packages", &evicted)]);

    let node = Node::start(options());
    node.pass("http://h/d/dists/s/InRelease", &clearsigned(&names)).await;
    node.read(&packed).await;
    node.read(&evicted).await;
    node.stop().await;

    let store: HashMap<Sha256, Vec<u8>> = HashMap::from([(Sha256::of(&packed), packed.clone())]);
    let opened = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let node = Node::start(options());
        let (store, opened) = (store.clone(), Arc::clone(&opened));
        node.index.replay(Box::new(move |digest| {
            opened.fetch_add(1, Ordering::Relaxed);
            store.get(digest).map(|bytes| Box::new(io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>)
        }));
        node.settle().await;
        assert_eq!(node.lookup("http://h/d/pool/a.deb"), file("a"));
        assert_eq!(node.lookup("http://h/d/dists/s/main/Packages.gz"), named(&packed));
        assert_eq!(node.lookup("http://h/d/pool/b.deb"), None);
        assert!(node.index.wants(&Sha256::of(&evicted)), "it is learnt when it passes again");
        node.stop().await;
    }
    assert_eq!(opened.load(Ordering::Relaxed), 4);
}

/// Of `tests/data/signed`: `test.*` is the key that signed, `other.asc` is a key that did not.
fn signed(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/signed").join(name)).unwrap()
}

fn checking(verification: Verification, keyring: &str) -> Node {
    let keyring = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/signed").join(keyring);
    Node::start(Options { verification, keyrings: vec![keyring], ..Options::default() })
}

#[tokio::test]
async fn signatures_decide_what_is_learnt() {
    use Verification::{Auto, Enforce, Off};
    let forged = String::from_utf8(signed("InRelease")).unwrap().replace("ba7816bf", "badbad00").into_bytes();
    let (bad, unknown) = (Taught::Refused(Outcome::Bad), Taught::Refused(Outcome::UnknownKey));
    for (verification, keyring, body, want) in [
        (Auto, "test.asc", signed("InRelease"), Taught::New),
        (Auto, "test.asc", forged.clone(), bad),
        (Auto, "other.asc", signed("InRelease"), Taught::New),
        (Auto, "missing", signed("InRelease"), Taught::New),
        (Enforce, "test.gpg", signed("InRelease"), Taught::New),
        (Enforce, "test.gpg", forged.clone(), bad),
        (Enforce, "other.asc", signed("InRelease"), unknown),
        (Enforce, "missing", signed("InRelease"), unknown),
        (Off, "test.asc", forged.clone(), Taught::New),
    ] {
        let node = checking(verification, keyring);
        let taught = node.pass("http://h/d/dists/s/InRelease", &body).await;
        assert_eq!(taught, want, "{verification:?} with {keyring}");
        let known = node.lookup("http://h/d/dists/s/main/binary-amd64/Packages").is_some();
        assert_eq!(known, want == Taught::New, "{verification:?} with {keyring}");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_release_is_believed_by_its_detached_signature() {
    let address = "http://h/d/dists/s/main/binary-amd64/Packages";
    let forged = String::from_utf8(signed("Release")).unwrap().replace("ba7816bf", "badbad00").into_bytes();

    let node = checking(Verification::Enforce, "test.asc");
    assert_eq!(node.pass("http://h/d/dists/s/Release", &signed("Release")).await, Taught::Waiting);
    assert_eq!(node.lookup(address), None);
    assert_eq!(node.pass("http://h/d/dists/s/Release.gpg", &signed("Release.gpg")).await, Taught::New);
    assert!(node.lookup(address).is_some());
    node.stop().await;

    let node = checking(Verification::Auto, "test.asc");
    assert_eq!(node.pass("http://h/d/dists/s/Release", &forged).await, Taught::New);
    let taught = node.pass("http://h/d/dists/s/Release.gpg", &signed("Release.gpg")).await;
    assert_eq!(taught, Taught::Refused(Outcome::Bad));
    assert_eq!(node.lookup(address), None, "what was believed too early is still there");
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_checked_never_displaces_what_was_proven() {
    let node = checking(Verification::Auto, "test.asc");
    node.pass("http://h/d/dists/s/InRelease", &signed("InRelease")).await;
    let unproven = clearsigned(&release(31, &[("main/binary-amd64/Packages", b"other")]));
    assert_eq!(node.pass("http://h/d/dists/s/InRelease", &unproven).await, Taught::Older);
    let known = node.lookup("http://h/d/dists/s/main/binary-amd64/Packages").unwrap();
    assert_eq!(known.id, sum("abc"));
    node.stop().await;
}

#[tokio::test]
async fn a_captive_portal_teaches_nothing() {
    let node = checking(Verification::Auto, "test.asc");
    for name in ["InRelease", "Release"] {
        let address = url(&format!("http://h/d/dists/s/{name}"));
        assert!(Index::is_release(&address));
        let taught =
            node.index.learn_release(&address, b"<html>please log in</html>", Learned::Passing).await;
        assert!(taught.is_err(), "{name}: {taught:?}");
    }
    assert_eq!(node.index.figures().releases, 0);
    node.stop().await;
}

/// Gives an index that never ends, and says when somebody reads it.
struct Endless(Option<tokio::sync::oneshot::Sender<()>>);

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(begun) = self.0.take() {
            let _ = begun.send(());
        }
        buf.fill(b'\n');
        // Small steps: the limit of two gigabytes is far away.
        Ok(buf.len().min(16))
    }
}

#[tokio::test]
async fn a_stop_breaks_off_a_reading_and_patience_ends() {
    let node = Node::unchecked();
    let index = packages(&[("pool/a.deb", "a")]);
    node.pass("http://h/d/dists/s/Release", &release(1, &[("Packages", &index)])).await;
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let open: Open = Box::new(|| Ok(Box::new(Endless(Some(begun)))));
    assert_eq!(node.index.offer_index(Sha256::of(&index), open), Offer::Queued);
    has_begun.await.unwrap();
    assert!(!node.index.settled(Duration::from_millis(20)).await);
    let index = node.index.clone();
    node.stop().await;
    assert!(index.settled(LONG).await, "nothing is read any more, so nothing is waited for");
}
