//! A server that misbehaves by a script, and the answers that scripts are made of.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aptpeer::mirror::Target;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(crate) const DATE: &str = "Sat, 01 Nov 2025 10:00:00 GMT";

/// What a scripted server does with one request.
pub(crate) enum Act {
    /// Sends this and waits for the next request on the same connection.
    Send(String),
    /// Sends this and closes.
    Cut(String),
    /// Sends this, the body a byte every 20 ms.
    Drip(String),
    /// Sends this and then nothing more.
    Stall(String),
    /// Closes with a reset, without a word.
    Reset,
}

pub(crate) type Script = Arc<dyn Fn(usize, &str) -> Act + Send + Sync>;

/// A server that follows a script: request number and head in, an act out.
pub(crate) struct Faulty {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Faulty {
    pub(crate) async fn start(script: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with(Arc::new(script), None).await
    }

    pub(crate) async fn start_with(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let heads = asked.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, heads, tls) = (script.clone(), heads.clone(), tls.clone());
                connections.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    match tls {
                        None => {
                            if follow(&stream, &script, &heads).await {
                                stream.set_zero_linger().unwrap();
                            }
                        }
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                follow_on(stream, &script, &heads).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, asked, _tasks: tasks }
    }

    pub(crate) fn url(&self, path: &str) -> Target {
        Target::parse(&format!("http://{}{path}", self.addr)).unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Serves a plain connection; true if it is to be reset.
async fn follow(stream: &TcpStream, script: &Script, heads: &Mutex<Vec<String>>) -> bool {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.readable().await.unwrap();
            let mut byte = [0];
            match stream.try_read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => return false,
            }
        }
        let act = note(&head, script, heads);
        let text = match &act {
            Act::Send(text) | Act::Cut(text) | Act::Stall(text) | Act::Drip(text) => text.as_str(),
            Act::Reset => return true,
        };
        let mut rest = text;
        let mut drops = tokio::time::interval(Duration::from_millis(20));
        while !rest.is_empty() {
            if matches!(act, Act::Drip(_)) {
                drops.tick().await;
            }
            stream.writable().await.unwrap();
            let head = text.len() - text.split("\r\n\r\n").last().map_or(0, str::len);
            let next = match act {
                Act::Drip(_) if rest.len() < text.len() => &rest[..1],
                Act::Drip(_) => &rest[..head],
                _ => rest,
            };
            match stream.try_write(next.as_bytes()) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        match act {
            Act::Send(_) => {}
            Act::Stall(_) => std::future::pending().await,
            _ => return false,
        }
    }
}

async fn follow_on(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &Script,
    heads: &Mutex<Vec<String>>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let Act::Send(text) = note(&head, script, heads) else { return };
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

fn note(head: &[u8], script: &Script, heads: &Mutex<Vec<String>>) -> Act {
    let head = String::from_utf8(head.to_vec()).unwrap();
    let mut heads = heads.lock().unwrap();
    heads.push(head.clone());
    script(heads.len(), &head)
}

pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nLast-Modified: {DATE}\r\nETag: \"v1\"\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn status(line: &str, fields: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 5\r\n{fields}\r\nsorry")
}

pub(crate) fn part(range: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {range}\r\nContent-Length: {}\r\nETag: \"v1\"\r\n\r\n{body}",
        body.len()
    )
}

/// A whole answer of `body`, of which only the first `sent` bytes come.
pub(crate) fn cut(body: &str, sent: usize) -> String {
    let whole = ok(body);
    whole[..whole.len() - body.len() + sent].to_owned()
}
