//! A mirror on loopback: serves a folder as HTTP/1.1 says, counts what it is asked, and fails exactly as scripted.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::server::{Connection, Head, Server, step};

/// One way to fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The head comes this much later.
    Latency(Duration),
    /// This status and a text body instead of the file.
    Status(u16),
    /// This status and no body at all, which apt takes as final.
    EmptyStatus(u16),
    /// This 200 and this HTML body instead of the file, as a captive portal answers.
    Html(&'static str),
    /// A redirect to this place.
    Redirect(String),
    /// The connection closes before the head.
    Close,
    /// The connection is reset before the head.
    Reset,
    /// Nothing comes, ever.
    StallHead,
    /// The connection closes after this many bytes of the body.
    CutBody(u64),
    /// Nothing more comes after this many bytes of the body.
    StallBody(u64),
    /// The bit at this offset of the file is another one, wherever a body covers it.
    FlipBit(u64),
    /// `Content-Length` says this much more or less; the body is as it is, and the connection closes.
    WrongLength(i64),
    /// A range is answered from this many bytes further on than asked, and `Content-Range` says so.
    WrongRange(u64),
    /// Ranges are ignored: 200 and the whole file.
    NoRanges,
    NoLastModified,
    /// The body comes at this many bytes a second.
    Rate(u64),
    /// All such bodies together come at this many bytes a second, each in turn.
    RateInAll(u64),
}

/// A fault and the requests it befalls.
#[derive(Debug, Clone)]
pub struct Rule {
    /// A path, percent-decoded, where `*` stands for anything.
    pattern: String,
    fault: Fault,
    /// How many requests it lets pass first.
    spared: u32,
    /// How many more requests it befalls.
    left: u32,
}

/// What one request was and what became of it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Counts the requests of this mirror from 0.
    pub number: u64,
    pub head: Head,
    /// Percent-decoded, without host and query.
    pub path: String,
    /// The status sent, 0 when none was.
    pub status: u16,
    /// The bytes of body that were sent, or a little more when the client hung up.
    pub body: u64,
    pub connection: u64,
    pub at: Instant,
}

/// A running mirror; dropping it ends it.
pub struct Mirror {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    rules: Mutex<Vec<Rule>>,
    records: Mutex<Vec<Record>>,
    asked: AtomicU64,
    /// When the line is free, for those that share it.
    free: Mutex<Instant>,
}

impl Rule {
    /// `fault` for every request whose path matches `pattern`.
    pub fn new(pattern: &str, fault: Fault) -> Self {
        Self { pattern: pattern.to_owned(), fault, spared: 0, left: u32::MAX }
    }

    /// Only for the first `count` of them.
    pub fn times(self, count: u32) -> Self {
        Self { left: count, ..self }
    }

    /// Not for the first `count` of them.
    pub fn after(self, count: u32) -> Self {
        Self { spared: count, ..self }
    }

    pub fn once(self) -> Self {
        self.times(1)
    }

    /// The fault, if it befalls this request.
    fn take(&mut self) -> Option<Fault> {
        if self.spared > 0 {
            self.spared -= 1;
            return None;
        }
        // Four thousand million requests are as good as all of them.
        self.left = self.left.checked_sub(1)?;
        Some(self.fault.clone())
    }
}

impl Mirror {
    /// Serves the files below `root`. Several mirrors may serve one folder, each on a port of its own.
    pub fn start(root: &Path) -> Self {
        Self::start_on([127, 0, 0, 1].into(), root)
    }

    /// The same at another address of this machine.
    pub fn start_on(ip: IpAddr, root: &Path) -> Self {
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            rules: Mutex::default(),
            records: Mutex::default(),
            asked: AtomicU64::new(0),
            free: Mutex::new(Instant::now()),
        });
        let server = Server::start_on(ip, {
            let shared = Arc::clone(&shared);
            move |connection| shared.converse(connection)
        });
        Self { server, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://ADDRESS:PORT`, without a slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Adds a fault to the script. All rules that match a request apply to it.
    pub fn script(&self, rule: Rule) {
        self.shared.rules.lock().unwrap().push(rule);
    }

    /// From now on nothing fails.
    pub fn behave(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// Everything that was asked so far, in order of its arrival.
    pub fn records(&self) -> Vec<Record> {
        self.shared.records.lock().unwrap().clone()
    }

    /// How many requests there were for paths that match `pattern`.
    pub fn requests(&self, pattern: &str) -> usize {
        self.records().iter().filter(|record| matches(pattern, &record.path)).count()
    }

    /// How many bytes of body went out for paths that match `pattern`.
    pub fn bytes(&self, pattern: &str) -> u64 {
        self.records().iter().filter(|record| matches(pattern, &record.path)).map(|record| record.body).sum()
    }

    pub fn forget_records(&self) {
        self.shared.records.lock().unwrap().clear();
    }
}

impl Shared {
    fn converse(&self, connection: &mut Connection) -> io::Result<()> {
        while let Some(head) = connection.next_request()? {
            let path = head.path();
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            let record = Record {
                number,
                path: path.clone(),
                status: 0,
                body: 0,
                connection: connection.number,
                at: Instant::now(),
                head: head.clone(),
            };
            self.records.lock().unwrap().push(record);
            let faults = self.take_faults(&path);
            self.answer(connection, &head, &path, &faults, number)?;
            if head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                break;
            }
        }
        Ok(())
    }

    /// The faults that befall a request for `path`, which counts for their rules.
    fn take_faults(&self, path: &str) -> Vec<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let matching = rules.iter_mut().filter(|rule| matches(&rule.pattern, path));
        matching.filter_map(Rule::take).collect()
    }

    /// How long it takes until so many bytes are through a line that all share.
    fn turn(&self, bytes: usize, rate: u64) -> Duration {
        let now = Instant::now();
        let mut free = self.free.lock().unwrap();
        #[allow(clippy::cast_precision_loss, reason = "a pace needs no more than six digits")]
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        *free = now.max(*free) + takes;
        *free - now
    }

    fn note(&self, number: u64, change: impl FnOnce(&mut Record)) {
        // A test may have forgotten the records meanwhile.
        if let Some(record) = self.records.lock().unwrap().iter_mut().find(|record| record.number == number) {
            change(record);
        }
    }

    fn answer(
        &self,
        connection: &mut Connection,
        head: &Head,
        path: &str,
        faults: &[Fault],
        number: u64,
    ) -> io::Result<()> {
        for fault in faults {
            match fault {
                Fault::Latency(duration) => connection.pause(*duration)?,
                Fault::Close => return Err(io::Error::other("closed as scripted")),
                Fault::Reset => connection.reset()?,
                Fault::StallHead => connection.fall_silent()?,
                Fault::Status(code) => {
                    return self.short(connection, head, number, (*code, "", "scripted\n"));
                }
                Fault::EmptyStatus(code) => return self.short(connection, head, number, (*code, "", "")),
                Fault::Html(html) => return self.short(connection, head, number, (200, "", html)),
                Fault::Redirect(to) => {
                    let location = format!("Location: {to}\r\n");
                    return self.short(connection, head, number, (302, &location, "elsewhere\n"));
                }
                _ => {}
            }
        }
        let Some(file) = self.open(path) else {
            return self.short(connection, head, number, (404, "", "no such file\n"));
        };
        let plan = Plan::new(head, file, faults)?;
        self.note(number, |record| record.status = plan.status);
        connection.send(plan.head.as_bytes())?;
        if head.method == "HEAD" {
            return Ok(());
        }
        self.send_body(connection, &plan, faults, number)
    }

    /// The file that `path` names, unless it is none or lies outside the root.
    fn open(&self, path: &str) -> Option<File> {
        let file = self.root.join(path.trim_start_matches('/')).canonicalize().ok()?;
        let inside = file.starts_with(self.root.canonicalize().ok()?) && file.is_file();
        inside.then(|| File::open(file).ok()).flatten()
    }

    fn send_body(
        &self,
        connection: &mut Connection,
        plan: &Plan,
        faults: &[Fault],
        number: u64,
    ) -> io::Result<()> {
        let cut = faults.iter().find_map(|fault| match fault {
            Fault::CutBody(after) | Fault::StallBody(after) => Some(*after),
            _ => None,
        });
        let rate =
            faults.iter().find_map(|fault| if let Fault::Rate(rate) = fault { Some(*rate) } else { None });
        let shared = faults.iter().find_map(|fault| match fault {
            Fault::RateInAll(rate) => Some(*rate),
            _ => None,
        });
        let end = plan.range.end.min(plan.range.start.saturating_add(cut.unwrap_or(u64::MAX)));
        let mut at = plan.range.start;
        while at < end {
            let left = usize::try_from(end - at).unwrap();
            let mut chunk = vec![0; left.min(step(rate.or(shared), 256 << 10))];
            plan.file.read_exact_at(&mut chunk, at)?;
            flip_bits(&mut chunk, at, faults);
            // Counted before they go: who has received them can rely on the count.
            self.note(number, |record| record.body += chunk.len() as u64);
            if let Some(rate) = shared {
                connection.pause(self.turn(chunk.len(), rate))?;
            }
            match rate {
                Some(rate) => connection.send_slowly(&chunk, rate)?,
                None => connection.send(&chunk)?,
            }
            at += chunk.len() as u64;
        }
        for fault in faults {
            match fault {
                Fault::StallBody(_) => connection.fall_silent()?,
                Fault::CutBody(_) | Fault::WrongLength(_) => return Err(io::Error::other("cut as scripted")),
                _ => {}
            }
        }
        Ok(())
    }

    fn short(
        &self,
        connection: &mut Connection,
        head: &Head,
        number: u64,
        (code, extra, body): (u16, &str, &str),
    ) -> io::Result<()> {
        self.note(number, |record| record.status = code);
        let kind = if body.starts_with('<') { "text/html" } else { "text/plain" };
        let answer = format!(
            "HTTP/1.1 {code} {}\r\n{extra}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            reason(code),
            body.len()
        );
        // HEAD has the head of GET and no body (RFC 9110, section 9.3.2).
        connection.send((answer + if head.method == "HEAD" { "" } else { body }).as_bytes())
    }
}

fn flip_bits(chunk: &mut [u8], start: u64, faults: &[Fault]) {
    for fault in faults {
        if let Fault::FlipBit(at) = fault
            && let Some(offset) = at.checked_sub(start)
            && let Some(byte) = chunk.get_mut(usize::try_from(offset).unwrap())
        {
            *byte ^= 1;
        }
    }
}

/// An answer from a file: its head, and the bytes of the file that follow.
struct Plan {
    status: u16,
    head: String,
    file: File,
    range: Range<u64>,
}

impl Plan {
    fn new(head: &Head, file: File, faults: &[Fault]) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (length, modified) = (metadata.len(), metadata.modified()?);
        let last_modified = httpdate::fmt_http_date(modified);
        let dated = !faults.contains(&Fault::NoLastModified);
        let mut fields = "Accept-Ranges: bytes\r\nContent-Type: application/octet-stream\r\n".to_owned();
        if dated {
            fields += &format!("Last-Modified: {last_modified}\r\n");
        }
        // A validator that is not the present one means the whole file (RFC 9110, section 13.1.5).
        let still_valid = head.header("if-range").is_none_or(|value| dated && value == last_modified);
        let ranged = still_valid && !faults.contains(&Fault::NoRanges);
        let shift = faults.iter().find_map(|f| if let Fault::WrongRange(by) = f { Some(*by) } else { None });
        let (status, range) = match head.range(length).filter(|_| ranged) {
            _ if dated && not_modified(head, modified) => (304, 0..0),
            None => (200, 0..length),
            Some(Ok(range)) => (206, (range.start + shift.unwrap_or(0)).min(range.end)..range.end),
            Some(Err(())) => (416, 0..0),
        };
        let wrong = faults.iter().find_map(|f| if let Fault::WrongLength(by) = f { Some(*by) } else { None });
        let said = (range.end - range.start).saturating_add_signed(wrong.unwrap_or(0));
        fields += &match status {
            206 => {
                format!("Content-Range: bytes {}-{}/{length}\r\n", range.start, range.end.saturating_sub(1))
            }
            416 => format!("Content-Range: bytes */{length}\r\n"),
            _ => String::new(),
        };
        if status != 304 {
            fields += &format!("Content-Length: {said}\r\n");
        }
        let head = format!("HTTP/1.1 {status} {}\r\n{fields}\r\n", reason(status));
        Ok(Self { status, head, file, range })
    }
}

fn not_modified(head: &Head, modified: SystemTime) -> bool {
    let since = head.header("if-modified-since").and_then(|value| httpdate::parse_http_date(value).ok());
    // HTTP dates have whole seconds.
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    since.is_some_and(|since| seconds(modified) <= seconds(since))
}

/// The reason phrase of a status.
pub fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}

/// Whether `path` fits `pattern`, in which `*` stands for any characters, also none and also slashes.
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = path.strip_prefix(parts.next().unwrap()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
