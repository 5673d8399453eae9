//! What a request to the proxy asks for, decided from its method and target alone.

use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::mirror::{Target, TargetError};

/// The one port that is tunnelled to: TLS of a mirror, nothing else.
const TUNNEL_PORT: u16 = 443;

/// What of the status is here, too, so that the page works at this address. None of them can be a file: as prefix forms they
/// would be hosts without a path.
const PAGES: [&str; 7] = ["/", "/events", "/snapshot", "/stats", "/peers", "/metrics", "/health"];

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// The page, or one of the answers that it leads to.
    Page,
    /// A blind tunnel to this host's TLS port (`CONNECT`, RFC 9110 section 9.3.6).
    Tunnel(String),
    /// A file of a mirror.
    File(Target),
    /// A file of a mirror, asked for with credentials: straight to the mirror, leaving no trace.
    Private(Target),
}

/// Why a request is refused without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Another method than GET, HEAD or CONNECT.
    #[error("aptpeer knows GET, HEAD and CONNECT, not {0}")]
    Method(String),
    /// A path that climbs out of its repository.
    #[error("the path {0:?} climbs: `..` is not allowed, also not percent-encoded")]
    Climbs(String),
    /// A tunnel to another port than TLS's.
    #[error("CONNECT is allowed to port 443 only, not to {0:?}")]
    Port(String),
    /// No URL that can be fetched.
    #[error("{0}; ask for http://HOST/PATH through the proxy, or for /HOST/PATH")]
    Target(String),
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Self {
        Self::Target(error.to_string())
    }
}

/// Decides what a request asks for.
pub(super) fn route(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Route, Refusal> {
    match *method {
        Method::CONNECT => return tunnel(uri),
        Method::GET | Method::HEAD => {}
        _ => return Err(Refusal::Method(method.to_string())),
    }
    let absolute = uri.scheme().is_some();
    let path = uri.path();
    if !absolute && PAGES.contains(&path) {
        return Ok(Route::Page);
    }
    if climbs(path) {
        return Err(Refusal::Climbs(path.chars().take(200).collect()));
    }
    let target = if absolute {
        Target::parse(&uri.to_string())?
    } else {
        Target::from_prefix(uri.path_and_query().map_or(path, |both| both.as_str()))?
    };
    let credentials = headers.contains_key(AUTHORIZATION) || names_user(uri);
    Ok(if credentials { Route::Private(target) } else { Route::File(target) })
}

fn tunnel(uri: &Uri) -> Result<Route, Refusal> {
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    if uri.port_u16() != Some(TUNNEL_PORT) || authority.contains('@') {
        return Err(Refusal::Port(authority.chars().take(200).collect()));
    }
    Ok(Route::Tunnel(uri.host().unwrap_or_default().to_owned()))
}

/// Whether any segment is `..` once it is decoded. A backslash counts as a slash, as some servers read it so.
fn climbs(path: &str) -> bool {
    let decoded = percent_decode_str(path).collect::<Vec<u8>>();
    decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| segment == b"..")
}

fn names_user(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(uri: &str) -> Result<Route, Refusal> {
        route(&Method::GET, &uri.parse().unwrap(), &HeaderMap::new())
    }

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn proxy_form_and_prefix_form_are_the_same_request() {
        let file = Route::File(target("http://mirror.example.org/debian/pool/a%2bb.deb"));
        assert_eq!(get("http://mirror.example.org/debian/pool/a%2bb.deb"), Ok(file.clone()));
        assert_eq!(get("/mirror.example.org/debian/pool/a%2bb.deb"), Ok(file));
        let tls = Route::File(target("https://mirror.example.org/x"));
        assert_eq!(get("http://HTTPS///mirror.example.org/x"), Ok(tls.clone()));
        assert_eq!(get("/HTTPS///mirror.example.org/x"), Ok(tls));
        assert_eq!(get("/"), Ok(Route::Page));
    }

    #[test]
    fn what_climbs_is_refused_in_every_spelling() {
        for path in [
            "/m.example.org/../x",
            "/m.example.org/a/%2e%2e/x",
            "/m.example.org/.%2E/x",
            "/m/a/..",
            "/m/..%5cx",
        ] {
            assert!(matches!(get(path), Err(Refusal::Climbs(_))), "{path}");
        }
        assert!(get("/m.example.org/a..b/...").is_ok());
    }

    #[test]
    fn tunnels_go_to_tls_only() {
        let connect = |uri: &str| route(&Method::CONNECT, &uri.parse().unwrap(), &HeaderMap::new());
        assert_eq!(connect("mirror.example.org:443"), Ok(Route::Tunnel("mirror.example.org".into())));
        for uri in ["mirror.example.org:22", "mirror.example.org:80", "127.0.0.1:25"] {
            let refusal = connect(uri).unwrap_err();
            assert!(refusal.to_string().contains(uri), "{refusal}");
        }
    }

    #[test]
    fn credentials_make_a_request_private() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Basic eDp5".parse().unwrap());
        let uri = "http://mirror.example.org/x".parse().unwrap();
        assert_eq!(
            route(&Method::GET, &uri, &headers),
            Ok(Route::Private(target("http://mirror.example.org/x")))
        );
        let route = get("http://user:secret@mirror.example.org/x");
        assert_eq!(route, Ok(Route::Private(target("http://mirror.example.org/x"))));
    }

    #[test]
    fn other_methods_are_refused_by_name() {
        let refusal = route(&Method::POST, &"/m/x".parse().unwrap(), &HeaderMap::new()).unwrap_err();
        assert!(refusal.to_string().contains("POST"));
    }
}
