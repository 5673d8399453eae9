//! What is on the wire exactly, for clients that are not apt.

use super::*;
use support::http::Wire;

type Headers<'a> = &'a [(&'a str, &'a str)];

/// A repository, its mirror and a daemon that knows its hashes.
fn scene() -> (Repository, Mirror, Daemon) {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    through(&daemon, &mirror, &repository).update().succeeded();
    (repository, mirror, daemon)
}

#[test]
fn ranges_and_conditions_are_answered_as_http_says_from_the_mirror_and_from_the_cache() {
    let (repository, mirror, daemon) = scene();
    let bytes = repository.bytes("native");
    let length = bytes.len();
    let url = format!("{}{}", mirror.url(), path_of(&repository, "native"));
    let ask = |headers: &[(&str, &str)]| http::request(daemon.proxy(), "GET", &url, headers);

    // The first comes while nothing is here yet.
    for fresh in [true, false] {
        let part = ask(&[("Range", "bytes=1000-1999")]);
        assert_eq!(part.status, 206, "{}", part.head);
        assert!(part.body == bytes[1000..2000], "fresh: {fresh}");
        assert_eq!(part.header("content-range"), Some(&*format!("bytes 1000-1999/{length}")));
        assert_eq!(part.header("accept-ranges"), Some("bytes"));
        let whole = ask(&[]);
        assert!(whole.status == 200 && whole.body == bytes);
    }
    until_cached(&daemon, &repository, &["native"]);
    let whole = ask(&[]);
    let (date, tag) = (whole.header("last-modified").unwrap(), whole.header("etag").unwrap());
    assert_eq!(tag, format!("\"{}\"", repository.package("native").sha256));
    let rest = format!("bytes={}-", length - 500);
    let old = "Thu, 01 Jan 1970 00:00:00 GMT";
    let cases: &[(Headers<'_>, u16, &[u8])] = &[
        (&[("Range", &rest)], 206, &bytes[length - 500..]),
        (&[("Range", "bytes=-300")], 206, &bytes[length - 300..]),
        (&[("Range", "bytes=0-")], 206, &bytes),
        (&[("Range", "bytes=10-99999999")], 206, &bytes[10..]),
        (&[("Range", "lines=1-2")], 200, &bytes),
        (&[("Range", "bytes=5-2")], 200, &bytes),
        (&[("Range", &rest), ("If-Range", date)], 206, &bytes[length - 500..]),
        (&[("Range", &rest), ("If-Range", tag)], 206, &bytes[length - 500..]),
        (&[("Range", &rest), ("If-Range", old)], 200, &bytes),
        (&[("Range", &rest), ("If-Range", "\"other\"")], 200, &bytes),
        (&[("If-Modified-Since", date)], 304, b""),
        (&[("If-Modified-Since", old)], 200, &bytes),
        (&[("If-None-Match", tag)], 304, b""),
        (&[("If-None-Match", "*")], 304, b""),
        (&[("If-None-Match", "\"other\"")], 200, &bytes),
        // The tag has the last word (RFC 9110, section 13.1.3).
        (&[("If-None-Match", "\"other\""), ("If-Modified-Since", date)], 200, &bytes),
    ];
    for (headers, status, body) in cases {
        let answer = ask(headers);
        assert_eq!(answer.status, *status, "{headers:?}: {}", answer.head);
        assert!(answer.body == *body, "{headers:?}: {} bytes", answer.body.len());
        assert_eq!(cache_status(&answer), "aptpeer; hit", "{headers:?}");
        assert_eq!(answer.header("via"), Some("1.1 aptpeer"), "{headers:?}");
    }
    let beyond = ask(&[("Range", &format!("bytes={length}-"))]);
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some(&*format!("bytes */{length}")));
    assert!(!beyond.body.is_empty());
    assert_eq!(mirror.requests("*/native_*"), 1, "{:?}", mirror.records());
}

#[test]
fn head_is_get_without_the_body() {
    let (repository, mirror, daemon) = scene();
    let path = path_of(&repository, "native");
    let length = repository.package("native").size.to_string();
    let mut wire = Wire::connect(daemon.proxy());
    for known in [false, true] {
        for path in [&*path, "/debian/dists/test/InRelease"] {
            wire.ask("HEAD", &format!("{}{path}", mirror.url()), &[]);
            let head = wire.response_to("HEAD").unwrap();
            let direct = http::request(mirror.address(), "HEAD", path, &[]);
            assert_eq!(head.status, 200, "{}", head.head);
            for name in ["content-length", "last-modified"] {
                assert_eq!(head.header(name), direct.header(name), "{name} of {path}, known: {known}");
            }
        }
        // The connection is in step: nothing came after the head.
        wire.ask("GET", &format!("{}{path}", mirror.url()), &[]);
        let answer = wire.response().unwrap();
        assert_eq!(answer.header("content-length"), Some(&*length));
        assert!(answer.body == repository.bytes("native"));
    }
    wire.ask("HEAD", &format!("{}/debian/none", mirror.url()), &[]);
    assert_eq!(wire.response_to("HEAD").unwrap().status, 404);
    wire.ask("GET", &format!("{}/debian/none", mirror.url()), &[]);
    assert_eq!(wire.response().unwrap().status, 404);
}

#[test]
fn answers_are_counted_never_interim_never_coded() {
    let (repository, mirror, daemon) = scene();
    let mut wire = Wire::connect(daemon.proxy());
    let paths =
        [path_of(&repository, "native"), "/debian/dists/test/InRelease".into(), "/debian/none".into()];
    for path in paths.iter().chain(&paths) {
        let encodings = [("Accept-Encoding", "gzip, br"), ("Expect", "100-continue")];
        wire.ask("GET", &format!("{}{path}", mirror.url()), &encodings);
        let answer = wire.response().unwrap();
        assert!(matches!(answer.status, 200 | 404), "{path}: {}", answer.head);
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()), "{path}");
        for name in ["content-encoding", "transfer-encoding", "retry-after"] {
            assert_eq!(answer.header(name), None, "{path}");
        }
        assert!(answer.header("via").is_some() && answer.header("cache-status").is_some(), "{}", answer.head);
    }
}

#[test]
fn a_connection_is_kept_and_an_old_client_is_served() {
    let (repository, mirror, daemon) = scene();
    let url = format!("{}{}", mirror.url(), path_of(&repository, "plain"));
    let mut wire = Wire::connect(daemon.proxy());
    for _ in 0..3 {
        wire.ask("GET", &url, &[]);
        assert!(wire.response().unwrap().body == repository.bytes("plain"));
    }
    wire.ask("GET", &url, &[("Connection", "close")]);
    assert_eq!(wire.response().unwrap().status, 200);
    assert_eq!(wire.rest().unwrap(), b"");

    let mut wire = Wire::connect(daemon.proxy());
    wire.send(format!("GET {url} HTTP/1.0\r\n\r\n").as_bytes());
    let answer = wire.response().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.body == repository.bytes("plain"));
    assert_eq!(wire.rest().unwrap(), b"", "HTTP/1.0 ends with its connection");

    let mut wire = Wire::connect(daemon.proxy());
    wire.send(format!("GET {url} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").as_bytes());
    assert_eq!(wire.response().unwrap().status, 200);
}

#[test]
fn a_name_is_the_same_however_it_is_spelled() {
    let (repository, mirror, daemon) = scene();
    let spelled = path_of(&repository, "libgreet++1");
    assert!(fetch(&daemon, &mirror, &spelled).body == repository.bytes("libgreet++1"));
    until_cached(&daemon, &repository, &["libgreet++1"]);
    let plain = format!("/debian/{}", repository.package("libgreet++1").filename);
    for other in [
        plain.clone(),
        spelled.replace("%2b", "%2B").replace("%7e", "%7E"),
        plain.replace("/pool/", "/./pool/"),
        plain.replace("main", "%6dain"),
    ] {
        assert_eq!(cache_status(&fetch(&daemon, &mirror, &other)), "aptpeer; hit", "{other}");
    }
    let prefix = format!("/{}{spelled}", mirror.address());
    assert_eq!(cache_status(&http::get(daemon.proxy(), &prefix)), "aptpeer; hit");
}

#[test]
fn what_has_no_known_hash_is_handed_through() {
    let (repository, mirror, daemon) = scene();
    let pool = repository.root().join("debian/unknown");
    let bytes = support::noise(5, 100_000);
    std::fs::write(&pool, &bytes).unwrap();
    let url = format!("{}/debian/unknown", mirror.url());
    let before = cached(&daemon);
    let whole = http::get(daemon.proxy(), &url);
    assert_eq!((whole.status, cache_status(&whole)), (200, "aptpeer; fwd=bypass"));
    assert!(whole.body == bytes);
    let date = whole.header("last-modified").unwrap();
    let part = [("Range", "bytes=500-"), ("If-Range", date)];
    let part = http::request(daemon.proxy(), "GET", &url, &part);
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 500-99999/100000")));
    assert!(part.body == bytes[500..]);
    let stale = [("Range", "bytes=500-"), ("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT")];
    assert!(http::request(daemon.proxy(), "GET", &url, &stale).body == bytes);
    let unchanged = http::request(daemon.proxy(), "GET", &url, &[("If-Modified-Since", date)]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let beyond = http::request(daemon.proxy(), "GET", &url, &[("Range", "bytes=100000-")]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */100000")));
    assert_eq!(cached(&daemon), before);
}

/// A resumed InRelease may be two halves of different files.
#[test]
fn release_files_are_never_sent_in_part() {
    let (repository, mirror, daemon) = scene();
    for name in ["InRelease", "Release", "Release.gpg"] {
        let path = format!("/debian/dists/test/{name}");
        let whole = std::fs::read(repository.root().join(&path[1..])).unwrap();
        let url = format!("{}{path}", mirror.url());
        let answer = http::request(daemon.proxy(), "GET", &url, &[("Range", "bytes=10-")]);
        assert_eq!(answer.status, 200, "{name}");
        assert!(answer.body == whole, "{name}");
        let date = answer.header("last-modified").unwrap();
        let again = http::request(daemon.proxy(), "GET", &url, &[("If-Modified-Since", date)]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{name}");
    }
}

#[test]
fn tunnels_lead_to_tls_ports_only() {
    let daemon = Daemon::start();
    for target in ["127.0.0.1:22", "mirror.example.org:25", "mirror.example.org:80", "127.0.0.1"] {
        let mut wire = Wire::connect(daemon.proxy());
        wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes());
        let answer = wire.response().unwrap();
        assert!(matches!(answer.status, 400 | 403), "{target}: {}", answer.head);
        assert!(!answer.body.is_empty(), "{target}");
    }
}

#[test]
fn what_climbs_and_what_is_no_request_for_a_file_is_refused() {
    let (_repository, mirror, daemon) = scene();
    mirror.forget_records();
    let (url, host) = (mirror.url(), mirror.address());
    for target in [
        format!("{url}/debian/../secret"),
        format!("{url}/debian/%2e%2e/secret"),
        format!("{url}/debian/.%2E/secret"),
        format!("/{host}/debian/../../secret"),
        format!("/{host}/debian/%2e%2e/%2e%2e/secret"),
        format!("/{host}/..%2fsecret"),
        "/nonsense%zz/".to_owned(),
        "ftp://mirror.example.org/debian/x".to_owned(),
    ] {
        let answer = http::get(daemon.proxy(), &target);
        assert_eq!(answer.status, 400, "{target}: {}", answer.head);
        assert!(!answer.body.is_empty(), "{target}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let headers: &[_] = if method == "POST" { &[("Content-Length", "0")] } else { &[] };
        let answer = http::request(daemon.proxy(), method, &format!("{url}/debian/x"), headers);
        assert_eq!(answer.status, 405, "{method}");
    }
    assert_eq!(mirror.records().len(), 0, "{:?}", mirror.records());
}

#[test]
fn a_host_that_is_no_mirror_is_refused_by_name_of_the_key() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = Setup::new().with("[mirrors]\nallow_private = false").start();
    for target in [
        format!("{}/debian/dists/test/InRelease", mirror.url()),
        format!("/{}/debian/pool/x.deb", mirror.address()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://localhost:{}/debian/x", mirror.address().port()),
        "http://[::1]/x".to_owned(),
    ] {
        let answer = http::get(daemon.proxy(), &target);
        assert_eq!(answer.status, 403, "{target}: {}", answer.head);
        assert!(answer.text().contains("mirrors.allow_private"), "{target}: {}", answer.text());
    }
    let listed = Setup::new().with("[mirrors]\nallow = [\"mirror.example.org\"]").start();
    let answer = http::get(listed.proxy(), &format!("{}/debian/x", mirror.url()));
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("mirrors.allow"), "{}", answer.text());
    assert_eq!(mirror.records().len(), 0);

    let named = "[mirrors]\nallow = [\"127.0.0.1\"]\nallow_private = false";
    let named = trusting(&repository).with(named).start();
    through(&named, &mirror, &repository).update().succeeded();
}

#[test]
fn the_daemon_never_asks_itself() {
    let daemon = Daemon::start();
    for address in [daemon.proxy(), daemon.status(), daemon.peer()] {
        let answer = http::get(daemon.proxy(), &format!("http://{address}/debian/x"));
        assert_eq!(answer.status, 403, "{address}: {}", answer.text());
    }
}

#[test]
fn the_page_is_at_the_root_of_the_proxy() {
    let daemon = Daemon::start();
    let page = http::get(daemon.proxy(), "/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{}", page.head);
    let outside = Setup::new().with("[proxy]\nallow_clients = [\"10.0.0.0/8\"]").start();
    let answer = http::get(outside.proxy(), "/");
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("proxy.allow_clients"), "{}", answer.text());
}
