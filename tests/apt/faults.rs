//! A mirror's bad moments, each once: apt hears nothing of them. And its refusals, which apt hears as they are.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use super::*;
use support::mirror::{Fault, Rule};
use support::repository::dozen;
use support::server::Server;

/// The kinds of files of which apt's run is made.
const RELEASE: &str = "*/InRelease";
const INDEX: &str = "*/by-hash/SHA256/*";
const PACKAGES: &str = "*/binary-*/by-hash/SHA256/*";
const PACKAGE: &str = "*/native_*";

/// Lets each fault befall one file of each kind in a run of its own, all runs side by side: most of the time nothing
/// but waiting is done.
fn apt_hears_nothing_of(faults: &[(Fault, u32)]) {
    let repository = few();
    std::thread::scope(|scope| {
        let run = |fault: &Fault, times| {
            let mirror = Mirror::start(&repository.root());
            let daemon = trusting(&repository).start();
            let apt = through(&daemon, &mirror, &repository);
            for file in [RELEASE, INDEX, PACKAGE] {
                mirror.script(Rule::new(file, fault.clone()).times(times));
            }
            let runs = [apt.update(), apt.install(&["native", "plain"])];
            for run in &runs {
                assert!(run.code == 0 && run.complaints().is_empty(), "{fault:?}: {run}\n{}", daemon.log());
            }
            assert_eq!(downloaded(&apt), digests(&repository, &["native", "plain"]), "{fault:?}");
            let befallen =
                [RELEASE, INDEX, PACKAGE].iter().all(|file| mirror.requests(file) > times as usize);
            assert!(befallen, "{fault:?} did not befall all: {:?}", mirror.records());
        };
        let runs: Vec<_> =
            faults.iter().map(|(fault, times)| scope.spawn(move || run(fault, *times))).collect();
        // All are heard before the first is blamed.
        let failed = runs.into_iter().map(std::thread::ScopedJoinHandle::join).filter(Result::is_err).count();
        assert_eq!(failed, 0, "some faults came through");
    });
}

#[test]
fn apt_hears_nothing_of_a_transient_status() {
    apt_hears_nothing_of(&[
        (Fault::Status(503), 2),
        (Fault::EmptyStatus(503), 1),
        (Fault::Status(500), 1),
        (Fault::Status(502), 1),
        (Fault::Status(504), 1),
        (Fault::Status(429), 1),
        (Fault::Status(408), 1),
    ]);
}

#[test]
fn apt_hears_nothing_of_a_connection_that_breaks() {
    apt_hears_nothing_of(&[
        (Fault::Close, 1),
        (Fault::Reset, 1),
        (Fault::CutBody(200), 1),
        (Fault::CutBody(0), 1),
        (Fault::WrongLength(100), 1),
    ]);
}

#[test]
fn apt_hears_nothing_of_a_mirror_that_falls_silent() {
    apt_hears_nothing_of(&[(Fault::StallHead, 1), (Fault::StallBody(200), 1)]);
}

/// Without us apt gives up after 30 s without a byte, and goes on for as long as bytes come.
#[test]
fn a_mirror_that_takes_its_time_is_waited_for_as_long_as_apt_would() {
    let repository = few();
    let late = Fault::Latency(Duration::from_secs(24));
    let cases = [
        (RELEASE, late.clone()),
        (PACKAGES, late.clone()),
        ("*/plain_*", late),
        // Some 35 s each.
        (RELEASE, Fault::Rate(25)),
        (PACKAGES, Fault::Rate(15)),
        ("*/plain_*", Fault::Rate(600)),
    ];
    std::thread::scope(|scope| {
        let run = |file: &str, fault: Fault| {
            let mirror = Mirror::start(&repository.root());
            let daemon = trusting(&repository).start();
            let apt = through(&daemon, &mirror, &repository);
            mirror.script(Rule::new(file, fault.clone()));
            for run in [apt.update(), apt.install(&["plain"])] {
                let log = daemon.log();
                assert!(run.code == 0 && run.complaints().is_empty(), "{fault:?} for {file}: {run}\n{log}");
            }
            has(&apt, &repository, &["plain"]);
        };
        let runs: Vec<_> =
            cases.into_iter().map(|(file, fault)| scope.spawn(move || run(file, fault))).collect();
        let failed = runs.into_iter().filter_map(|run| run.join().err()).count();
        assert_eq!(failed, 0, "apt was failed by some");
    });
}

#[test]
fn a_large_package_is_resumed_where_the_mirror_broke_off() {
    let repository = Repository::with(&[Package::new("large", "5.0~beta2-1", 9_000_000).all()]);
    for fault in [Fault::CutBody(5_000_000), Fault::StallBody(5_000_000)] {
        let mirror = Mirror::start(&repository.root());
        let daemon = trusting(&repository).start();
        let apt = through(&daemon, &mirror, &repository);
        apt.update().succeeded();
        mirror.script(Rule::new("*/large_*", fault.clone()).once());
        apt.install(&["large"]).succeeded();
        has(&apt, &repository, &["large"]);
        let records = mirror.records();
        let (first, second) = (&records[records.len() - 2], &records[records.len() - 1]);
        assert_eq!(first.body, 5_000_000, "{fault:?}");
        assert_eq!(
            (second.status, second.body),
            (206, repository.package("large").size - 5_000_000),
            "{fault:?}"
        );
    }
}

#[test]
fn a_mirror_that_is_down_for_a_moment_is_waited_for() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    // Bound and not yet listening: who comes is refused (tcp(7)).
    let (address, socket) = support::peers::dead();
    let apt = Apt::new().proxy(daemon.proxy()).one_line(&format!("http://{address}"), &repository);
    std::thread::scope(|scope| {
        let updating = scope.spawn(|| apt.update());
        daemon.wait_for_log("Connection refused");
        socket.listen(16).unwrap();
        let _door = Door::open(socket.into(), mirror.address());
        updating.join().unwrap().succeeded();
        apt.install(&["native"]).succeeded();
    });
    has(&apt, &repository, &["native"]);
}

/// Hands every connection on to another address, until it is dropped.
struct Door {
    address: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Door {
    fn open(listener: TcpListener, behind: SocketAddr) -> Self {
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut carriers = Vec::new();
            loop {
                let (client, _) = listener.accept().unwrap();
                let mut first = [0];
                // A connection without a word is the one that ends this.
                if client.peek(&mut first).unwrap_or(0) == 0 {
                    break;
                }
                let server = TcpStream::connect(behind).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    carriers.push(std::thread::spawn(move || carry(from, to)));
                }
            }
            // The daemon keeps its connections for the next file; the mirror's end closes them.
            drop(carriers);
        });
        Self { address, thread: Some(thread) }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn what_apt_hears_of_a_refusal_is_what_it_would_hear_directly() {
    let repository = few();
    let cases = [
        (PACKAGE, 404),
        (PACKAGE, 403),
        (PACKAGE, 410),
        (PACKAGE, 401),
        (INDEX, 404),
        (RELEASE, 404),
        (RELEASE, 403),
    ];
    let outcome = |daemon: Option<&Daemon>, file: &str, status: u16| {
        let mirror = Mirror::start(&repository.root());
        mirror.script(Rule::new(file, Fault::Status(status)));
        let apt = match daemon {
            Some(daemon) => through(daemon, &mirror, &repository),
            None => Apt::new().one_line(&mirror.url(), &repository),
        };
        let runs = [apt.update(), apt.install(&["native", "plain"])];
        let said = runs.iter().flat_map(Run::complaints).map(|line| without_addresses(line, &mirror));
        (runs.iter().map(|run| run.code).collect::<Vec<_>>(), said.collect::<Vec<_>>())
    };
    for (file, status) in cases {
        let daemon = trusting(&repository).start();
        assert_eq!(outcome(Some(&daemon), file, status), outcome(None, file, status), "{status} for {file}");
    }
}

/// A line of apt's without what differs from run to run: ports, and whom it spoke to.
fn without_addresses(line: &str, mirror: &Mirror) -> String {
    let line = line.replace(&mirror.address().to_string(), "MIRROR");
    match line.find("[IP:") {
        Some(at) => line[..at].trim_end().to_owned(),
        None => line,
    }
}

#[test]
fn a_refusal_reaches_the_client_with_the_mirrors_status_and_a_text() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    through(&daemon, &mirror, &repository).update().succeeded();
    for status in [400, 401, 403, 404, 410, 451] {
        mirror.behave();
        mirror.script(Rule::new("*", Fault::Status(status)));
        let paths =
            [path_of(&repository, "native"), "/debian/dists/test/InRelease".into(), "/debian/unknown".into()];
        for path in paths {
            let answer = fetch(&daemon, &mirror, &path);
            assert_eq!((answer.status, &*answer.text()), (status, "scripted\n"), "{path}");
            assert_eq!(answer.header("via"), Some("1.1 aptpeer"));
            assert_eq!(answer.header("retry-after"), None);
        }
        // apt needs a body to take an answer for worth a retry, and to show something.
        mirror.behave();
        mirror.script(Rule::new("*", Fault::EmptyStatus(status)));
        let answer = fetch(&daemon, &mirror, &path_of(&repository, "plain"));
        assert_eq!(answer.status, status);
        assert!(!answer.body.is_empty(), "{}", answer.head);
    }
}

#[test]
fn a_mirror_that_stays_away_costs_a_status_of_ours_with_a_text() {
    let repository = few();
    let daemon = trusting(&repository).start();
    let (address, _kept) = support::peers::dead();
    for path in ["debian/dists/test/InRelease", "debian/unknown.deb"] {
        let answer = http::get(daemon.proxy(), &format!("http://{address}/{path}"));
        assert_eq!(answer.status, 502, "{}", answer.head);
        assert!(
            answer.text().contains("refused") && answer.text().contains(&address.to_string()),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("via"), Some("1.1 aptpeer"));
        assert_eq!(answer.header("retry-after"), None);
    }
    let mirror = Mirror::start(&repository.root());
    through(&daemon, &mirror, &repository).update().succeeded();
    mirror.script(Rule::new("*", Fault::EmptyStatus(503)));
    for path in
        [path_of(&repository, "native"), "/debian/dists/test/InRelease".into(), "/debian/unknown".into()]
    {
        let answer = fetch(&daemon, &mirror, &path);
        assert!(answer.status >= 500 && !answer.body.is_empty(), "{path}: {}", answer.head);
    }
}

#[test]
fn a_mirror_without_dates_is_fine() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    mirror.script(Rule::new("*", Fault::NoLastModified));
    let daemon = trusting(&repository).start();
    for _ in 0..2 {
        let apt = through(&daemon, &mirror, &repository);
        apt.update().succeeded();
        apt.update().succeeded();
        apt.install(&names(&repository)).succeeded();
        has(&apt, &repository, &names(&repository));
    }
    assert_eq!(mirror.requests("*/native_*"), 1);
    for path in [path_of(&repository, "native"), "/debian/dists/test/InRelease".into()] {
        assert_eq!(fetch(&daemon, &mirror, &path).header("last-modified"), None);
    }
}

#[test]
fn a_mirror_without_ranges_is_fine() {
    let repository = Repository::with(&[Package::new("large", "5.0~beta2-1", 9_000_000).all()]);
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    mirror.script(Rule::new("*/large_*", Fault::NoRanges));
    mirror.script(Rule::new("*/large_*", Fault::CutBody(5_000_000)).once());
    apt.install(&["large"]).succeeded();
    has(&apt, &repository, &["large"]);
}

#[test]
fn redirects_are_followed_for_apt() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let other = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    for file in ["debian/dists/test/InRelease".to_owned(), path_of(&repository, "native")[1..].to_owned()] {
        let decoded = file.replace("%2b", "+").replace("%7e", "~");
        mirror.script(Rule::new(&format!("/{decoded}"), Fault::Redirect(format!("{}/{file}", other.url()))));
    }
    apt.update().succeeded();
    apt.install(&["native", "plain"]).succeeded();
    has(&apt, &repository, &["native", "plain"]);
    assert_eq!(other.records().len(), 2, "{:?}", other.records());
    // The file is known by where apt asked for it.
    until_cached(&daemon, &repository, &["native"]);
    assert_eq!(cache_status(&fetch(&daemon, &mirror, &path_of(&repository, "native"))), "aptpeer; hit");
}

/// Without us a hash mismatch, which apt takes as final: whoever checks can ask again.
#[test]
fn a_bit_that_flips_once_on_the_way_is_put_right() {
    let repository = Repository::with(&dozen(5_000_000, 9_000_000)[8..]);
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    for (name, offset) in [("one-piece", 100_000), ("medium", 4_900_000), ("large", 5_000_000)] {
        mirror.script(Rule::new(&format!("*/{name}_*"), Fault::FlipBit(offset)).once());
        let run = apt.install(&[name]);
        assert_eq!(run.code, 0, "{name}: {run}");
    }
    has(&apt, &repository, &["one-piece", "medium", "large"]);
    cache_is_whole(&daemon);
}

#[test]
fn wrong_bytes_from_the_mirror_never_stay_in_the_cache() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    mirror.script(Rule::new("*/native_*", Fault::FlipBit(100_000)));
    let run = apt.install(&["native"]);
    assert_ne!(run.code, 0, "{run}");
    has(&apt, &repository, &[]);
    assert!(!cached(&daemon).contains(&repository.package("native").sha256));
    mirror.behave();
    apt.install(&["native"]).succeeded();
    has(&apt, &repository, &["native"]);
    cache_is_whole(&daemon);
}

/// A captive portal: its page must not become our idea of the repository.
#[test]
fn a_captive_portal_is_forgotten_as_soon_as_it_is_gone() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    mirror.script(Rule::new("*", Fault::Html("<html>please log in</html>")));
    assert!(!apt.update().complaints().is_empty());
    mirror.behave();
    apt.update().succeeded();
    apt.install(&["native"]).succeeded();
    mirror.script(Rule::new("*", Fault::Html("<html>please log in</html>")));
    let run = apt.install(&["plain"]);
    assert_ne!(run.code, 0, "{run}");
    mirror.behave();
    apt.install(&["plain"]).succeeded();
    has(&apt, &repository, &["native", "plain"]);
    cache_is_whole(&daemon);
}

/// apt sends the date back as it came, and compares it as text.
#[test]
fn dates_are_handed_on_byte_for_byte() {
    const ODD: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
    let server = Server::start(|connection| {
        while connection.next_request()?.is_some() {
            let head = format!("HTTP/1.1 200 OK\r\nLast-Modified: {ODD}\r\nContent-Length: 5\r\n\r\n");
            connection.send(head.as_bytes())?;
            connection.send(b"bytes")?;
        }
        Ok(())
    });
    let repository = few();
    let daemon = trusting(&repository).start();
    for path in ["debian/unknown.deb", "debian/dists/test/InRelease", "debian/dists/test/Release.gpg"] {
        let answer = http::get(daemon.proxy(), &format!("http://{}/{path}", server.address()));
        assert_eq!((answer.status, answer.header("last-modified")), (200, Some(ODD)), "{path}");
    }
    let mirror = Mirror::start(&repository.root());
    through(&daemon, &mirror, &repository).update().succeeded();
    let path = path_of(&repository, "native");
    let direct = http::get(mirror.address(), &path);
    for _ in 0..2 {
        let answer = fetch(&daemon, &mirror, &path);
        assert_eq!(answer.header("last-modified"), direct.header("last-modified"));
    }
}
