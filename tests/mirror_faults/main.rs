//! The mirror room against servers that misbehave, each fault once, on real sockets.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aptpeer::mirror::{
    Mirror, MirrorConfig, MirrorError, MirrorRequest, Patience, Resume, ResumingBody, RetryPolicy, Target,
    UpstreamSetting, Wanted,
};
use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

mod server;

use server::{Act, DATE, Faulty, cut, ok, part, status};

const SOON: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("in time")
}

fn config() -> MirrorConfig {
    MirrorConfig {
        allow_private: true,
        apt_dir: None,
        upstream: UpstreamSetting::None,
        patience: Patience {
            second_try: Duration::from_secs(60),
            connect: Duration::from_secs(2),
            first_byte: Duration::from_millis(400),
            stall: Duration::from_millis(400),
            slow: Duration::from_millis(500),
        },
        ..MirrorConfig::default()
    }
}

fn mirror() -> Mirror {
    Mirror::new(config()).unwrap()
}

fn quick() -> RetryPolicy {
    RetryPolicy {
        hard_budget: Duration::from_millis(600),
        stall_budget: Duration::from_secs(2),
        ..RetryPolicy::default()
    }
}

async fn all(mut body: ResumingBody) -> Result<String, MirrorError> {
    let mut text = Vec::new();
    while let Some(bytes) = soon(body.chunk()).await? {
        text.extend_from_slice(&bytes);
    }
    assert_eq!(body.chunk().await.unwrap(), None, "after the end comes nothing");
    Ok(String::from_utf8(text).unwrap())
}

/// Opens and reads `/file` whole.
async fn get(server: &Faulty, resume: Resume) -> Result<(StatusCode, String), MirrorError> {
    let response = soon(mirror().open(MirrorRequest::get(server.url("/file")), resume, quick())).await?;
    Ok((response.status, all(response.body).await?))
}

fn good(body: &str) -> (StatusCode, String) {
    (StatusCode::OK, body.to_owned())
}

#[tokio::test]
async fn the_request_goes_out_as_it_was_spelled_and_the_answer_comes_back_whole() {
    let server = Faulty::start(|_, _| Act::Send(ok("hello"))).await;
    let mut request = MirrorRequest::get(server.url("/flat/./a%2bb%7e1.deb?x=%41"));
    request.if_modified_since = Some(HeaderValue::from_static(DATE));
    request.cache_control = Some(HeaderValue::from_static("max-age=0"));
    request.authorization = Some(HeaderValue::from_static("Basic c2VjcmV0"));
    let mirror = mirror();
    for _ in 0..2 {
        let response = soon(mirror.fetch(&request)).await.unwrap();
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(response.content_length, Some(5));
        assert_eq!(response.last_modified.as_ref().unwrap(), DATE);
        assert_eq!(response.etag.as_ref().unwrap(), "\"v1\"");
        let mut body = response.body;
        assert_eq!(body.chunk().await.unwrap(), Some(Bytes::from("hello")));
        assert_eq!(body.chunk().await.unwrap(), None);
    }
    let head = server.asked()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /flat/./a%2bb%7e1.deb?x=%41 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", server.addr)), "{head}");
    assert!(head.contains("if-modified-since: sat, 01 nov 2025 10:00:00 gmt\r\n"), "{head}");
    assert!(
        head.contains("cache-control: max-age=0\r\n") && head.contains("authorization: basic c2vjcmv0\r\n")
    );
    assert!(!head.contains("accept-encoding"), "{head}");
    assert!(!format!("{request:?}").contains("c2VjcmV0"), "credentials must not reach a log");
}

#[tokio::test]
async fn a_refused_connection_is_retried_within_the_budget() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::parse(&format!("http://{}/file", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let started = std::time::Instant::now();
    let error = soon(mirror().open(MirrorRequest::get(target), Resume::Never, quick())).await.unwrap_err();
    assert!(matches!(error, MirrorError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(started.elapsed() >= Duration::from_millis(300) && started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_reset_before_the_head_is_absorbed() {
    let server = Faulty::start(|n, _| if n == 1 { Act::Reset } else { Act::Send(ok("good")) }).await;
    assert_eq!(get(&server, Resume::Never).await.unwrap(), good("good"));
}

#[tokio::test]
async fn a_connection_that_went_stale_in_the_pool_is_absorbed() {
    let server =
        Faulty::start(|n, _| if n == 2 { Act::Cut(String::new()) } else { Act::Send(ok("good")) }).await;
    let mirror = mirror();
    for _ in 0..3 {
        let request = MirrorRequest::get(server.url("/file"));
        let response = soon(mirror.open(request, Resume::Never, quick())).await.unwrap();
        assert_eq!(all(response.body).await.unwrap(), "good");
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_asked_for_again() {
    let server =
        Faulty::start(|n, _| if n == 1 { Act::Stall("HTTP/1.1 2".into()) } else { Act::Send(ok("good")) })
            .await;
    assert_eq!(get(&server, Resume::Never).await.unwrap(), good("good"));
}

#[tokio::test]
async fn a_silent_mirror_is_given_up_within_the_budget() {
    let server = Faulty::start(|_, _| Act::Stall(String::new())).await;
    let started = std::time::Instant::now();
    let error = get(&server, Resume::Never).await.unwrap_err();
    assert!(matches!(error, MirrorError::Stalled { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_mirror_that_lost_the_request_is_asked_a_second_time_beside_the_first() {
    let server =
        Faulty::start(|n, _| if n == 1 { Act::Stall(String::new()) } else { Act::Send(ok("good")) }).await;
    let patience = Patience { second_try: Duration::from_millis(50), first_byte: SOON, ..config().patience };
    let mirror = Mirror::new(MirrorConfig { patience, ..config() }).unwrap();
    let request = MirrorRequest::get(server.url("/file"));
    let mut response = soon(mirror.open(request, Resume::Never, RetryPolicy::default())).await.unwrap();
    assert_eq!(response.body.chunk().await.unwrap().unwrap(), "good");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_cut_or_stalled_body_is_resumed_under_the_same_validator() {
    for stalls in [false, true] {
        let server = Faulty::start(move |n, _| match n {
            1 if stalls => Act::Stall(cut("0123456789", 4)),
            1 => Act::Cut(cut("0123456789", 4)),
            _ => Act::Send(part("4-9/10", "456789")),
        })
        .await;
        assert_eq!(get(&server, Resume::IfUnchanged).await.unwrap(), good("0123456789"));
        let again = server.asked()[1].to_ascii_lowercase();
        assert!(again.contains("range: bytes=4-\r\n") && again.contains("if-range: \"v1\"\r\n"), "{again}");
    }
}

#[tokio::test]
async fn a_mirror_that_drips_is_asked_again_if_that_is_safe() {
    let body = "x".repeat(100);
    let server = Faulty::start(move |n, head| match n {
        1 => Act::Drip(ok(&body)),
        _ => {
            let from = head.split("bytes=").nth(1).unwrap().split('-').next().unwrap();
            let rest = &body[from.parse::<usize>().unwrap()..];
            Act::Send(part(&format!("{from}-99/100"), rest))
        }
    })
    .await;
    assert_eq!(get(&server, Resume::Verified).await.unwrap(), good(&"x".repeat(100)));
    assert_eq!(server.asked().len(), 2);
    // What cannot be resumed is better slow than not at all.
    let server = Faulty::start(move |_, _| Act::Drip(ok(&"y".repeat(40)))).await;
    assert_eq!(get(&server, Resume::Never).await.unwrap(), good(&"y".repeat(40)));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_reader_that_pauses_does_not_use_up_the_mirror_s_time() {
    let server = Faulty::start(|n, _| match n {
        1 => Act::Cut(cut("0123456789", 4)),
        _ => Act::Send(part("4-9/10", "456789")),
    })
    .await;
    let request = MirrorRequest::get(server.url("/file"));
    let mut body = soon(mirror().open(request, Resume::Verified, quick())).await.unwrap().body;
    assert_eq!(body.chunk().await.unwrap().unwrap(), "0123");
    tokio::time::sleep(quick().hard_budget * 2).await;
    assert_eq!(all(body).await.unwrap(), "456789");
}

#[tokio::test]
async fn a_stall_is_noticed_by_a_reader_that_asks_again_and_again() {
    let server = Faulty::start(|n, _| match n {
        1 => Act::Stall(cut("0123456789", 4)),
        // The second attempt outlasts the patience of the reader, who must not make it begin anew.
        2 => Act::Stall("HTTP/1.1 206".into()),
        _ => Act::Send(part("4-9/10", "456789")),
    })
    .await;
    let request = MirrorRequest::get(server.url("/file"));
    let mut body = soon(mirror().open(request, Resume::Verified, quick())).await.unwrap().body;
    assert_eq!(body.chunk().await.unwrap().unwrap(), "0123");
    let rest = async {
        loop {
            if let Ok(rest) = tokio::time::timeout(Duration::from_millis(100), body.chunk()).await {
                break rest.unwrap().unwrap();
            }
        }
    };
    assert_eq!(soon(rest).await, "456789");
}

#[tokio::test]
async fn an_error_page_that_drips_is_cut_short() {
    let page = format!("HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000));
    let server = Faulty::start(move |_, _| Act::Drip(page.clone())).await;
    let (status, text) = get(&server, Resume::Never).await.unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(!text.is_empty() && text.len() < 500, "{}", text.len());
}

#[tokio::test]
async fn a_file_that_may_change_is_not_spliced() {
    let cuts = |_: usize, _: &str| Act::Cut(cut("0123456789", 4));
    let server = Faulty::start(cuts).await;
    let error = get(&server, Resume::Never).await.unwrap_err();
    assert!(matches!(error, MirrorError::Broken { .. }), "{error:?}");
    assert_eq!(server.asked().len(), 1);
    // Nothing handed out: it may begin anew.
    let server =
        Faulty::start(|n, _| if n == 1 { Act::Cut(cut("0123", 0)) } else { Act::Send(ok("0123")) }).await;
    assert_eq!(get(&server, Resume::Never).await.unwrap(), good("0123"));
}

#[tokio::test]
async fn another_version_is_never_joined_to_the_first() {
    for second in [
        ok("abcdefghij").replace("v1", "v2"),
        part("4-9/10", "efghij").replace("v1", "v2"),
        part("4-9/11", "efghij"),
        ok("abcdefghijk"),
        status("404 Not Found", ""),
    ] {
        let server = Faulty::start(move |n, _| match n {
            1 => Act::Cut(cut("0123456789", 4)),
            _ => Act::Send(second.clone()),
        })
        .await;
        let error = get(&server, Resume::IfUnchanged).await.unwrap_err();
        assert!(matches!(error, MirrorError::Unusable { .. }), "{error:?}");
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_verified_file_goes_on_without_validators_and_without_ranges() {
    let bare = |body: &str, sent: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        head + &body[..sent]
    };
    let server = Faulty::start(move |n, _| match n {
        1 => Act::Cut(bare("0123456789", 4)),
        2 => Act::Cut(bare("0123456789", 7)),
        3 => Act::Send(status("503 Service Unavailable", "")),
        _ => Act::Send(part("7-9/10", "789").replace("ETag: \"v1\"\r\n", "")),
    })
    .await;
    assert_eq!(get(&server, Resume::Verified).await.unwrap(), good("0123456789"));
    let ranges: Vec<_> =
        server.asked().iter().map(|head| head.to_ascii_lowercase().contains("range: bytes=")).collect();
    assert_eq!(ranges, [false, true, true, true]);
}

#[tokio::test]
async fn a_part_is_resumed_within_its_bounds() {
    let server = Faulty::start(|n, head| match n {
        1 => Act::Cut(part("2-7/10", "234567").replace("567", "")),
        2 => {
            assert!(head.to_ascii_lowercase().contains("range: bytes=5-7\r\n"), "{head}");
            Act::Send(ok("0123456789"))
        }
        _ => Act::Reset,
    })
    .await;
    let mut request = MirrorRequest::get(server.url("/file"));
    request.range = Some(Wanted::Span(2..8));
    let response = soon(mirror().open(request, Resume::Verified, quick())).await.unwrap();
    assert_eq!(response.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(response.body.position(), 2);
    assert_eq!(all(response.body).await.unwrap(), "234567");
}

#[tokio::test]
async fn a_wrong_content_range_is_an_error() {
    for answer in [
        part("3-9/10", "3456789"),
        part("2-9/10", "23"),
        status("206 Partial Content", ""),
        part("*/10", "x"),
    ] {
        let server = Faulty::start(move |_, _| Act::Send(answer.clone())).await;
        let mut request = MirrorRequest::get(server.url("/file"));
        request.range = Some(Wanted::From(2));
        let error = soon(mirror().open(request, Resume::Verified, quick())).await.unwrap_err();
        assert!(matches!(error, MirrorError::Unusable { .. }), "{error:?}");
        assert_eq!(server.asked().len(), 1);
    }
    let unasked = Faulty::start(|_, _| Act::Send(part("0-1/2", "01"))).await;
    assert!(get(&unasked, Resume::Verified).await.is_err());
}

#[tokio::test]
async fn a_transient_status_is_absorbed_and_handed_on_when_it_stays() {
    let server = Faulty::start(|n, _| match n {
        1 => Act::Send(status("503 Service Unavailable", "Retry-After: 3600\r\n")),
        2 => Act::Send(status("429 Too Many Requests", "")),
        _ => Act::Send(ok("good")),
    })
    .await;
    assert_eq!(get(&server, Resume::Never).await.unwrap(), good("good"));
    let server = Faulty::start(|_, _| Act::Send(status("503 Service Unavailable", ""))).await;
    let stays = get(&server, Resume::Never).await.unwrap();
    assert_eq!(stays, (StatusCode::SERVICE_UNAVAILABLE, "sorry".into()));
    assert!(server.asked().len() > 1);
}

#[tokio::test]
async fn a_final_status_is_handed_on_at_once_with_its_text() {
    for (line, code) in
        [("404 Not Found", 404), ("401 Unauthorized", 401), ("410 Gone", 410), ("416 No", 416)]
    {
        let server = Faulty::start(move |_, _| Act::Send(status(line, ""))).await;
        let (status, text) = get(&server, Resume::Verified).await.unwrap();
        assert_eq!((status.as_u16(), text.as_str()), (code, "sorry"));
        assert_eq!(server.asked().len(), 1);
    }
    let page = "x".repeat(200_000);
    let long = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    let server = Faulty::start(move |_, _| Act::Cut(long.clone())).await;
    let request = MirrorRequest::get(server.url("/file"));
    let response = soon(mirror().open(request, Resume::Verified, quick())).await.unwrap();
    assert_eq!(response.content_length, Some(65536));
    assert_eq!(all(response.body).await.unwrap().len(), 65536);
}

#[tokio::test]
async fn not_modified_and_head_have_no_body() {
    let not_modified = format!("HTTP/1.1 304 Not Modified\r\nLast-Modified: {DATE}\r\n\r\n");
    let server = Faulty::start(move |_, head| {
        if head.starts_with("HEAD") {
            Act::Send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".into())
        } else {
            Act::Send(not_modified.clone())
        }
    })
    .await;
    assert_eq!(get(&server, Resume::Never).await.unwrap(), (StatusCode::NOT_MODIFIED, String::new()));
    let request = MirrorRequest { method: Method::HEAD, ..MirrorRequest::get(server.url("/file")) };
    let response = soon(mirror().open(request, Resume::Never, quick())).await.unwrap();
    assert_eq!(response.content_length, Some(12345));
    assert_eq!(all(response.body).await.unwrap(), "");
}

#[tokio::test]
async fn a_chunked_body_is_whole_or_resumed() {
    let chunked =
        |rest: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"v1\"\r\n\r\n{rest}");
    let server = Faulty::start(move |n, _| match n {
        1 => Act::Cut(chunked("4\r\n0123\r\n4\r\n45")),
        _ => Act::Send(part("6-9/10", "6789")),
    })
    .await;
    assert_eq!(get(&server, Resume::IfUnchanged).await.unwrap(), good("0123456789"));
}

#[tokio::test]
async fn redirects_are_followed_and_credentials_stay_at_home() {
    let elsewhere = Faulty::start(|_, _| Act::Send(ok("moved"))).await;
    let there = elsewhere.url("/new");
    let server = Faulty::start(move |n, _| match n {
        1 => Act::Send(status("302 Found", "Location: ../here?x\r\n")),
        _ => Act::Send(status("301 Moved Permanently", &format!("Location: {there}\r\n"))),
    })
    .await;
    let mut request = MirrorRequest::get(server.url("/a/b"));
    request.authorization = Some(HeaderValue::from_static("Basic c2VjcmV0"));
    let response = soon(mirror().open(request, Resume::Never, quick())).await.unwrap();
    assert_eq!(response.target, elsewhere.url("/new"));
    assert_eq!(all(response.body).await.unwrap(), "moved");
    let asked = server.asked();
    assert!(
        asked[1].starts_with("GET /here?x HTTP/1.1\r\n") && asked[1].contains("authorization"),
        "{asked:?}"
    );
    assert!(!elsewhere.asked()[0].contains("authorization"), "{:?}", elsewhere.asked());
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let server = Faulty::start(|_, _| Act::Send(status("302 Found", "Location: /again\r\n"))).await;
    let error = get(&server, Resume::Verified).await.unwrap_err();
    assert!(matches!(error, MirrorError::Unusable { .. }), "{error:?}");
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_refused() {
    let secret = Faulty::start(|_, _| Act::Send(ok("secret"))).await;
    let port = secret.addr.port();
    for location in [
        format!("http://127.0.0.2:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://0x7f000001:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let server =
            Faulty::start(move |_, _| Act::Send(status("302 Found", &format!("Location: {location}\r\n"))))
                .await;
        // Only the first server is named by apt's sources.
        let apt = tempfile::tempdir().unwrap();
        std::fs::write(apt.path().join("sources.list"), format!("deb http://{}/ x main\n", server.addr))
            .unwrap();
        let config = MirrorConfig { allow_private: false, apt_dir: Some(apt.path().to_owned()), ..config() };
        let mirror = Mirror::new(config).unwrap();
        let request = MirrorRequest::get(server.url("/file"));
        let error = soon(mirror.open(request, Resume::Verified, quick())).await.unwrap_err();
        assert!(matches!(error, MirrorError::Refused(_)), "{error:?}");
    }
    assert!(secret.asked().is_empty(), "{:?}", secret.asked());
}

#[tokio::test]
async fn a_host_is_refused_until_apt_s_sources_name_it() {
    let server = Faulty::start(|_, _| Act::Send(ok("good"))).await;
    let apt = tempfile::tempdir().unwrap();
    let config = MirrorConfig { allow_private: false, apt_dir: Some(apt.path().to_owned()), ..config() };
    let mirror = Mirror::new(config).unwrap();
    let request = MirrorRequest::get(server.url("/file"));
    let error = soon(mirror.fetch(&request)).await.unwrap_err();
    assert!(error.to_string().contains("mirrors.allow_private"), "{error}");
    std::fs::write(apt.path().join("sources.list"), format!("deb http://{}/ x main\n", server.addr)).unwrap();
    assert_eq!(soon(mirror.fetch(&request)).await.unwrap().status, StatusCode::OK, "without a restart");
}

#[tokio::test]
async fn we_never_ask_ourselves() {
    let server = Faulty::start(|_, _| Act::Send(ok("loop"))).await;
    let config = MirrorConfig { own: vec![server.addr], ..config() };
    let request = MirrorRequest::get(server.url("/file"));
    let error = soon(Mirror::new(config).unwrap().fetch(&request)).await.unwrap_err();
    assert!(matches!(error, MirrorError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_captive_portal_gives_itself_away_by_its_type() {
    let portal = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let server = Faulty::start(move |_, _| Act::Send(portal.into())).await;
    let request = MirrorRequest::get(server.url("/dists/x/InRelease"));
    let response = soon(mirror().open(request, Resume::Never, quick())).await.unwrap();
    assert_eq!(response.content_type.as_ref().unwrap(), "text/html");
    assert_eq!(all(response.body).await.unwrap(), "<html>");
}

#[tokio::test]
async fn nonsense_instead_of_http_is_an_error_at_once() {
    let server = Faulty::start(|_, _| Act::Cut("SSH-2.0-OpenSSH_9.2\r\n\r\n".into())).await;
    let error = get(&server, Resume::Verified).await.unwrap_err();
    assert!(matches!(error, MirrorError::Unusable { .. }), "{error:?}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn another_address_is_tried_when_the_first_does_not_answer() {
    // Bound on IPv4 only, while localhost usually leads to ::1 first.
    let server = Faulty::start(|_, _| Act::Send(ok("good"))).await;
    let target = Target::parse(&format!("http://localhost:{}/file", server.addr.port())).unwrap();
    let response = soon(mirror().fetch(&MirrorRequest::get(target))).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
}

#[tokio::test]
async fn the_user_s_proxy_is_asked_with_the_whole_url_and_a_password() {
    let proxy = Faulty::start(|_, _| Act::Send(ok("via"))).await;
    let upstream = format!("http://me:pw@{}", proxy.addr).parse().unwrap();
    let config = MirrorConfig { allow_private: false, upstream, ..config() };
    let mirror = Mirror::new(config).unwrap();
    let target = Target::parse("http://mirror.example.org/a/./b").unwrap();
    let response = soon(mirror.fetch(&MirrorRequest::get(target))).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    let head = proxy.asked()[0].clone();
    assert!(head.starts_with("GET http://mirror.example.org/a/./b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: Basic bWU6cHc=\r\n"), "{head}");
    let private = Target::parse("http://10.0.0.1/x").unwrap();
    let error = soon(mirror.fetch(&MirrorRequest::get(private))).await.unwrap_err();
    assert!(matches!(error, MirrorError::Refused(_)), "the policy holds behind a proxy too: {error:?}");
}

/// A certificate authority with a server certificate for `mirror.example.org` and 127.0.0.1.
fn authority() -> (String, TlsAcceptor) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["mirror.example.org".to_owned(), "127.0.0.1".to_owned()];
    let cert = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (ca_pem, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn https_is_trusted_by_ca_file_and_by_nothing_less() {
    let (ca_pem, acceptor) = authority();
    let server = Faulty::start_with(Arc::new(|_, _: &str| Act::Send(ok("secure"))), Some(acceptor)).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ca_pem).unwrap();
    let target = Target::parse(&format!("https://{}/x", server.addr)).unwrap();
    let trusting = Mirror::new(MirrorConfig { ca_file: Some(ca_file), ..config() }).unwrap();
    let request = MirrorRequest::get(target);
    let response = soon(trusting.open(request.clone(), Resume::Never, quick())).await.unwrap();
    assert_eq!(all(response.body).await.unwrap(), "secure");

    let started = std::time::Instant::now();
    let error = soon(mirror().open(request, Resume::Never, RetryPolicy::default())).await.unwrap_err();
    assert!(matches!(error, MirrorError::Untrusted { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "a bad certificate is not retried");
    let missing = MirrorConfig { ca_file: Some(folder.path().join("none.pem")), ..config() };
    assert!(Mirror::new(missing).unwrap_err().to_string().contains("mirrors.ca_file"));
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_refused() {
    let (ca_pem, acceptor) = authority();
    let plain = Faulty::start(|_, _| Act::Send(ok("plain"))).await;
    let location = plain.url("/x");
    let script =
        move |_: usize, _: &str| Act::Send(status("302 Found", &format!("Location: {location}\r\n")));
    let server = Faulty::start_with(Arc::new(script), Some(acceptor)).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), ca_pem).unwrap();
    let config = MirrorConfig { ca_file: Some(folder.path().join("ca.pem")), ..config() };
    let target = Target::parse(&format!("https://{}/x", server.addr)).unwrap();
    let error = soon(Mirror::new(config).unwrap().fetch(&MirrorRequest::get(target))).await.unwrap_err();
    assert!(error.to_string().contains("from https to plain http"), "{error}");
    assert!(plain.asked().is_empty());
}

#[tokio::test]
async fn https_goes_through_the_user_s_proxy_by_connect() {
    let (ca_pem, acceptor) = authority();
    let server = Faulty::start_with(Arc::new(|_, _: &str| Act::Send(ok("tunnelled"))), Some(acceptor)).await;
    let inside = server.addr;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut proxy = JoinSet::new();
    proxy.spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"CONNECT mirror.example.org:443 HTTP/1.1\r\n"));
        let mut mirror = TcpStream::connect(inside).await.unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut mirror).await;
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), ca_pem).unwrap();
    let config = MirrorConfig { upstream, ca_file: Some(folder.path().join("ca.pem")), ..config() };
    let target = Target::parse("https://mirror.example.org/x").unwrap();
    let request = MirrorRequest::get(target);
    let response = soon(Mirror::new(config).unwrap().open(request, Resume::Never, quick())).await.unwrap();
    assert_eq!(all(response.body).await.unwrap(), "tunnelled");
}
