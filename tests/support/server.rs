//! A small threaded HTTP/1.1 server whose handler holds the socket itself, so that it can break every rule.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest head that is read from a client.
const MAX_HEAD: u64 = 64 << 10;

/// A listening server; dropping it closes every connection and waits for every thread.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    stopped: Mutex<bool>,
    changed: Condvar,
    /// The sockets of open connections, to be cut when the server ends.
    open: Mutex<HashMap<u64, TcpStream>>,
}

/// One connection, as its handler sees it.
pub struct Connection {
    /// Counts the connections of this server from 0.
    pub number: u64,
    reader: BufReader<TcpStream>,
    shared: Arc<Shared>,
    resetting: bool,
}

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Head {
    pub method: String,
    /// The request target as it was sent.
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Server {
    /// Listens on a free port of loopback and calls `handler` once for each connection, in a thread of its own.
    pub fn start(handler: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start_on([127, 0, 0, 1].into(), handler)
    }

    /// The same on another address of this machine; on Linux all of 127.0.0.0/8 is.
    pub fn start_on(
        ip: IpAddr,
        handler: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            stopped: Mutex::new(false),
            changed: Condvar::new(),
            open: Mutex::new(HashMap::new()),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &Arc::new(handler))
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.shared.stopped.lock().unwrap() = true;
        self.shared.changed.notify_all();
        // The accepting thread looks at the flag after each connection: give it one.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.accepting.take()
            && thread.join().is_err()
        {
            eprintln!("a test server's thread panicked");
        }
    }
}

fn accept<H>(listener: &TcpListener, shared: &Arc<Shared>, handler: &Arc<H>)
where
    H: Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
{
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (number, stream) in (0_u64..).zip(listener.incoming()) {
        if *shared.stopped.lock().unwrap() {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        let Ok(stream) = stream else { continue };
        stream.set_nodelay(true).unwrap();
        shared.open.lock().unwrap().insert(number, stream.try_clone().unwrap());
        let (shared, handler) = (Arc::clone(shared), Arc::clone(handler));
        threads.push(std::thread::spawn(move || {
            let reader = BufReader::new(stream);
            let mut connection = Connection { number, reader, shared: Arc::clone(&shared), resetting: false };
            // A client that hangs up is its own business; the test sees what it wants to see in the records.
            let _ = handler(&mut connection);
            shared.open.lock().unwrap().remove(&number);
            // A shutdown would send the orderly end that a reset wants to avoid.
            if !connection.resetting {
                let _ = connection.reader.get_ref().shutdown(Shutdown::Both);
            }
        }));
    }
    for stream in shared.open.lock().unwrap().values() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

impl Connection {
    /// The next request, `None` when the client is done. Bodies of requests are not read: nobody sends one.
    pub fn next_request(&mut self) -> io::Result<Option<Head>> {
        let mut limited = self.reader.by_ref().take(MAX_HEAD);
        let mut line = String::new();
        if limited.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a request line: {line:?}")));
        };
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if limited.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => return Ok(Some(Head { method, target, headers })),
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Sends `bytes` at about `rate` bytes a second, in steps of a fiftieth of a second.
    pub fn send_slowly(&mut self, bytes: &[u8], rate: u64) -> io::Result<()> {
        let step = usize::try_from((rate / 50).max(1)).unwrap();
        let started = Instant::now();
        let mut sent = 0;
        for chunk in bytes.chunks(step) {
            self.send(chunk)?;
            sent += chunk.len();
            #[allow(clippy::cast_precision_loss, reason = "a pace needs no more than six digits")]
            let due = Duration::from_secs_f64(sent as f64 / rate as f64);
            self.pause(due.saturating_sub(started.elapsed()))?;
        }
        Ok(())
    }

    /// Holds this connection for `duration`; an error as soon as the server ends.
    pub fn pause(&self, duration: Duration) -> io::Result<()> {
        let stopped = self.shared.stopped.lock().unwrap();
        let (stopped, _) = self.shared.changed.wait_timeout_while(stopped, duration, |s| !*s).unwrap();
        if *stopped { Err(io::Error::other("the server ends")) } else { Ok(()) }
    }

    /// Sends nothing until the client hangs up or the server ends.
    pub fn fall_silent(&mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink())?;
        Err(io::Error::other("the client has given up"))
    }

    /// Ends the connection so that the client sees a reset instead of an orderly end.
    pub fn reset(&mut self) -> io::Result<()> {
        let socket = socket2::SockRef::from(self.reader.get_ref());
        socket.set_linger(Some(Duration::ZERO))?;
        self.resetting = true;
        Err(io::Error::other("reset"))
    }
}

/// How many bytes to send at once: `most`, or what takes a twentieth of a second at this many bytes a second.
pub fn step(rate: Option<u64>, most: usize) -> usize {
    rate.map_or(most, |rate| usize::try_from(rate / 20).unwrap().clamp(1, most))
}

impl Head {
    /// The value of header `name`, in any spelling of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path of the target without scheme, host and query, percent-decoded once.
    pub fn path(&self) -> String {
        let path = match self.target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => &self.target,
        };
        let path = path.split('?').next().unwrap();
        percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
    }

    /// The single range of the request's `Range` in an object of `length` bytes (RFC 9110, section 14.1.2): `None` for
    /// no range or one that is not understood, an error for one that cannot be satisfied.
    pub fn range(&self, length: u64) -> Option<Result<std::ops::Range<u64>, ()>> {
        let spec = self.header("range")?.strip_prefix("bytes=")?;
        let (first, last) = spec.split_once('-')?;
        if first.is_empty() {
            let suffix: u64 = last.parse().ok()?;
            return Some(if suffix == 0 { Err(()) } else { Ok(length.saturating_sub(suffix)..length) });
        }
        let start: u64 = first.parse().ok()?;
        let end =
            if last.is_empty() { length } else { last.parse::<u64>().ok()?.saturating_add(1).min(length) };
        Some(if start >= length || end <= start { Err(()) } else { Ok(start..end) })
    }
}
