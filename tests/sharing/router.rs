//! Routers that open ports: what they are asked, renewed and told in the end, over real sockets.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aptpeer::reach::{Door, Mapped, Mapper, Mapping, Pinhole, Ways};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(60);
const PORT: u16 = 9979;

/// The ports that are open at a router, such as `TCP 9979`.
pub(crate) type Open = Arc<Mutex<BTreeSet<String>>>;

/// A socket that nobody answers on.
fn nobody() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A router that answers each datagram with what `answer` makes of it, until the test ends.
fn router(answer: impl Fn(&[u8], &Open) -> Vec<u8> + Send + 'static) -> (SocketAddr, Open) {
    let (socket, address) = nobody();
    let open = Open::default();
    let shared = open.clone();
    std::thread::spawn(move || {
        let mut space = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut space) {
            socket.send_to(&answer(&space[..length], &shared), from).unwrap();
        }
    });
    (address, open)
}

fn note(open: &Open, transport: &str, port: &[u8], lifetime: &[u8]) {
    let name = format!("{transport} {}", u16::from_be_bytes(port.try_into().unwrap()));
    let mut open = open.lock().unwrap();
    if lifetime == [0; 4] {
        open.remove(&name)
    } else {
        open.insert(name)
    };
}

/// RFC 6886, with another external port than was asked for.
pub(crate) fn natpmp(question: &[u8], open: &Open) -> Vec<u8> {
    match question {
        [0, 0] => vec![0, 128, 0, 0, 0, 0, 0, 1, 8, 8, 4, 4],
        [0, opcode @ (1 | 2), ..] if question.len() == 12 => {
            note(open, if *opcode == 1 { "UDP" } else { "TCP" }, &question[4..6], &question[8..]);
            let answer =
                [&[0, 128 + opcode, 0, 0, 0, 0, 0, 1], &question[4..6], &[0x30, 0x39], &question[8..]];
            answer.concat()
        }
        // "Unsupported version", in the form of version 0 (section 3.5).
        _ => vec![0, 128, 0, 1, 0, 0, 0, 1],
    }
}

/// RFC 6887.
fn pcp(question: &[u8], open: &Open) -> Vec<u8> {
    assert_eq!((question[0], question[1], question.len()), (2, 1, 60));
    note(open, if question[36] == 17 { "UDP" } else { "TCP" }, &question[40..42], &question[4..8]);
    let mut answer = question.to_vec();
    answer[1] = 0x81;
    answer[3] = 0;
    answer[54..].copy_from_slice(&[255, 255, 8, 8, 4, 4]);
    answer
}

/// Runs a mapper until it has an answer, and to its end; the answer, and what was open meanwhile and is open afterwards.
fn run(ways: Ways, open: &Open) -> (Mapped, Vec<String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mapper = Mapper::new(PORT, ways);
        let (mut mapped, shutdown) = (mapper.mapped(), CancellationToken::new());
        let running = tokio::spawn(mapper.run(shutdown.clone()));
        let answered = mapped.wait_for(Option::is_some);
        let answer = *tokio::time::timeout(SOON, answered).await.unwrap().unwrap();
        let meanwhile = open.lock().unwrap().iter().cloned().collect();
        shutdown.cancel();
        tokio::time::timeout(SOON, running).await.unwrap().unwrap();
        (answer, meanwhile, open.lock().unwrap().iter().cloned().collect())
    })
}

fn both() -> Vec<String> {
    vec![format!("TCP {PORT}"), format!("UDP {PORT}")]
}

#[test]
fn an_old_router_opens_both_ports_and_closes_them_at_the_end() {
    let ((_silent, ssdp), (at, open)) = (nobody(), router(natpmp));
    let (answer, meanwhile, afterwards) = run(Ways { router: Some(at), ssdp }, &open);
    assert_eq!(answer, Some(Some(Mapping { port: 12345, address: Some([8, 8, 4, 4].into()) })));
    assert_eq!((meanwhile, afterwards), (both(), Vec::new()));
}

#[test]
fn a_newer_router_does_so_too() {
    let ((_silent, ssdp), (at, open)) = (nobody(), router(pcp));
    let (answer, meanwhile, afterwards) = run(Ways { router: Some(at), ssdp }, &open);
    assert_eq!(answer, Some(Some(Mapping { port: PORT, address: Some([8, 8, 4, 4].into()) })));
    assert_eq!((meanwhile, afterwards), (both(), Vec::new()));
}

#[test]
fn a_router_lets_others_in_by_ipv6_for_the_address_that_asks_and_is_told_the_end() {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else {
        println!("skipped: no IPv6 here");
        return;
    };
    let at = socket.local_addr().unwrap();
    let (open, asked) = (Open::default(), Open::default());
    let (shared, noted) = (open.clone(), asked.clone());
    std::thread::spawn(move || {
        let mut space = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut space) {
            let client: [u8; 16] = space[8..24].try_into().unwrap();
            noted.lock().unwrap().insert(std::net::Ipv6Addr::from(client).to_string());
            socket.send_to(&pcp(&space[..length], &shared), from).unwrap();
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let door = Door { own: std::net::Ipv6Addr::LOCALHOST, router: at };
        let pinhole = Pinhole::new(PORT, Some(door));
        let mut opened = pinhole.opened();
        let running = tokio::spawn(pinhole.run(shutdown.clone()));
        tokio::time::timeout(SOON, opened.wait_for(|opened| *opened)).await.unwrap().unwrap();
        assert_eq!(open.lock().unwrap().iter().cloned().collect::<Vec<_>>(), both());
        shutdown.cancel();
        tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    });
    assert!(open.lock().unwrap().is_empty());
    assert_eq!(asked.lock().unwrap().iter().collect::<Vec<_>>(), ["::1"]);
}

/// One request after another: the description, and calls.
fn serve_soap(listener: &TcpListener, open: &Open) {
    for stream in listener.incoming() {
        let (mut stream, open) = (stream.unwrap(), open.clone());
        std::thread::spawn(move || {
            let mut text = String::new();
            let mut space = [0; 4096];
            let whole = |text: &str| {
                let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                let head = head.to_ascii_lowercase();
                let length =
                    head.split_once("content-length: ").map_or("0", |(_, rest)| rest.lines().next().unwrap());
                body.len() >= length.parse().unwrap()
            };
            loop {
                text.clear();
                while !whole(&text) {
                    match stream.read(&mut space) {
                        Ok(0) | Err(_) => return,
                        Ok(length) => text.push_str(std::str::from_utf8(&space[..length]).unwrap()),
                    }
                }
                let body = answer_soap(&text, &open);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        });
    }
}

fn answer_soap(request: &str, open: &Open) -> String {
    let field = |name: &str| {
        let (_, rest) = request.split_once(&format!("<{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    if request.starts_with("GET /desc.xml") {
        return "<root><device><serviceList><service>\
                <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
                <controlURL>/control</controlURL></service></serviceList></device></root>"
            .to_owned();
    }
    assert!(request.starts_with("POST /control"), "{request}");
    if request.contains("#AddPortMapping\"") {
        assert_eq!(field("NewInternalClient"), "127.0.0.1");
        open.lock().unwrap().insert(format!("{} {}", field("NewProtocol"), field("NewExternalPort")));
    } else if request.contains("#DeletePortMapping\"") {
        open.lock().unwrap().remove(&format!("{} {}", field("NewProtocol"), field("NewExternalPort")));
    } else {
        return "<NewExternalIPAddress>8.8.4.4</NewExternalIPAddress>".to_owned();
    }
    "<ok/>".to_owned()
}

#[test]
fn a_upnp_router_is_found_and_asked_where_nobody_else_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = listener.local_addr().unwrap();
    let (ssdp, open) = router(move |question, _| {
        assert!(question.starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
        format!("HTTP/1.1 200 OK\r\nLOCATION: http://{http}/desc.xml\r\n\r\n").into_bytes()
    });
    let shared = open.clone();
    std::thread::spawn(move || serve_soap(&listener, &shared));
    // Refused at once: nobody has the port any more.
    let gone = nobody().1;
    let (answer, meanwhile, afterwards) = run(Ways { router: Some(gone), ssdp }, &open);
    assert_eq!(answer, Some(Some(Mapping { port: PORT, address: Some([8, 8, 4, 4].into()) })));
    assert_eq!((meanwhile, afterwards), (both(), Vec::new()));
}

#[test]
fn a_router_that_refuses_is_told_from_one_that_was_not_asked_yet() {
    let gone = nobody().1;
    let (at, open) = router(|question, _| match question {
        [2, ..] => [&[2, 0x81, 0, 2], &[0; 56][..]].concat(),
        [0, opcode, ..] => vec![0, 128 + opcode, 0, 2, 0, 0, 0, 1],
        _ => Vec::new(),
    });
    assert_eq!(*Mapper::new(PORT, Ways::default()).mapped().borrow(), None);
    let (answer, meanwhile, _) = run(Ways { router: Some(at), ssdp: gone }, &open);
    assert_eq!((answer, meanwhile), (Some(None), Vec::new()));
}
