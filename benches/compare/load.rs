//! The load: keep-alive connections of one thread that ask, receive, and throw away.
//!
//! The bytes are copied out of the kernel into a buffer that stays in the processor's cache, as every real client must
//! at least do; nothing else is done with them. [`Source`] measures the generator itself: it answers from memory.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// How much is received at once.
const BUFFER: usize = 256 << 10;

/// What is asked, by the number of the request.
pub type Requests = Arc<dyn Fn(usize) -> Bytes + Send + Sync>;

/// What a load came to.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    pub seconds: f64,
    pub bytes: u64,
}

/// A request to `address`.
pub fn request(target: &str, host: &str, range: Option<(u64, u64)>) -> Bytes {
    let range = range.map(|(first, last)| format!("Range: bytes={first}-{last}\r\n")).unwrap_or_default();
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{range}\r\n").into()
}

/// Sends `count` requests over `connections` connections to `address` and throws the answers away.
pub fn drive(address: SocketAddr, connections: usize, count: usize, requests: &Requests) -> Received {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let began = Instant::now();
    let bytes = LocalSet::new().block_on(&runtime, async {
        let buffer = Rc::new(RefCell::new(vec![0; BUFFER]));
        let next = Rc::new(RefCell::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (buffer, next, requests) = (buffer.clone(), next.clone(), requests.clone());
            tasks.spawn_local(async move {
                let mut stream = connect(address).await;
                let mut bytes = 0;
                loop {
                    let number = next.replace_with(|number| *number + 1);
                    if number >= count {
                        return bytes;
                    }
                    let request = requests(number);
                    bytes += loop {
                        stream.write_all(&request).await.unwrap();
                        if let Some(length) = answer(&stream, &buffer).await.unwrap() {
                            break length;
                        }
                        // A server may end a kept connection at any time (RFC 9112 §9.3.1); apt-cacher-ng does.
                        stream = connect(address).await;
                    };
                }
            });
        }
        tasks.join_all().await.into_iter().sum()
    });
    Received { seconds: began.elapsed().as_secs_f64(), bytes }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Receives one answer; the length of its body, `None` where the connection ended before it.
async fn answer(stream: &TcpStream, buffer: &RefCell<Vec<u8>>) -> io::Result<Option<u64>> {
    let (length, mut left) = loop {
        stream.readable().await?;
        let mut buffer = buffer.borrow_mut();
        // The buffer is everybody's: a head must come whole, as it does from every server here.
        let filled = match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let Some((end, length)) = parse(&buffer[..filled])? else {
            return Err(io::Error::other("a head in two parts"));
        };
        break (length, length.checked_sub((filled - end) as u64).ok_or(io::ErrorKind::InvalidData)?);
    };
    while left > 0 {
        stream.readable().await?;
        match stream.try_read(&mut buffer.borrow_mut()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => left = left.checked_sub(got as u64).ok_or(io::ErrorKind::InvalidData)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(length))
}

/// Where the head ends, and the length of the body that follows; an error for an answer that is no success.
pub fn parse(head: &[u8]) -> io::Result<Option<(usize, u64)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let end = match response.parse(head).map_err(io::Error::other)? {
        httparse::Status::Complete(end) => end,
        httparse::Status::Partial => return Ok(None),
    };
    if !matches!(response.code, Some(200 | 206)) {
        return Err(io::Error::other(String::from_utf8_lossy(head).into_owned()));
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    Ok(Some((end, length.ok_or_else(|| io::Error::other("no Content-Length"))?)))
}

/// A server that answers every request with the same bytes out of memory: the bound of the sockets and of the
/// generator.
pub struct Source {
    address: SocketAddr,
}

impl Source {
    /// Answers with bodies of `length` bytes, from threads that end with the program.
    pub fn start(length: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + length, 7);
        let answer: Arc<[u8]> = answer.into();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let mut request = [0; 4096];
                    stream.set_nodelay(true).unwrap();
                    // A keep-alive client waits for its answer: each read is one request.
                    while matches!(stream.read(&mut request), Ok(1..)) && stream.write_all(&answer).is_ok() {}
                });
            }
        });
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
