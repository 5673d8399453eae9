//! The whole node inside the test, so that a test can tell it of strangers.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aptpeer::config::{Surroundings, Typed, load};
use aptpeer::daemon::{DaemonError, Node as Whole};
use aptpeer::discovery::{Asked, Discovery, Memory, Provider};
use aptpeer::swarm::PeerKind;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::http;

/// A running node that knows these strangers and nobody else; dropping it stops it in order.
pub(crate) struct Node {
    pub(crate) proxy: SocketAddr,
    status: SocketAddr,
    shutdown: CancellationToken,
    running: Option<JoinHandle<Result<(), DaemonError>>>,
    runtime: Runtime,
    log: Log,
    _folder: tempfile::TempDir,
}

impl Node {
    /// A node to which `strangers` are strangers that may hold everything.
    pub(crate) fn start(strangers: &[SocketAddr]) -> Self {
        let provider = |address: &SocketAddr| Provider { address: *address, kind: PeerKind::Stranger };
        Self::launch(Memory::new(strangers.iter().map(provider).collect()))
    }

    /// A node that knows nobody and looks for peers: whoever holds the receiver says what it finds.
    pub(crate) fn looking() -> (Self, Receiver<Asked>) {
        let (memory, asked) = Memory::with_look_ups(Vec::new());
        (Self::launch(memory), asked)
    }

    fn launch(memory: Memory) -> Self {
        let log = Log::default();
        let runtime = runtime(&log);
        let folder = tempfile::Builder::new().prefix("node").tempdir().unwrap();
        let settings = settings(folder.path());
        let shutdown = CancellationToken::new();
        // In a task of its own: what is logged on this thread goes elsewhere.
        let starting = runtime.spawn(Whole::new(settings, vec![Arc::new(memory) as Arc<dyn Discovery>]));
        let node = runtime.block_on(starting).unwrap().unwrap();
        let (proxy, status) = (node.record().proxy, node.record().status.unwrap());
        let running = Some(runtime.spawn(node.run(shutdown.clone())));
        let proxy = proxy.unwrap();
        Self { proxy, status, shutdown, running, runtime, log, _folder: folder }
    }

    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    pub(crate) fn metrics(&self) -> String {
        http::get(self.status, "/metrics").text()
    }

    /// Where the bytes of the finished download called `name` came from: peers and mirror.
    #[track_caller]
    pub(crate) fn tally(&self, name: &str) -> (u64, u64) {
        let log = self.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let of_name = |line: &serde_json::Value| {
            let fields = &line["fields"];
            fields["message"] == "download finished"
                && fields["name"].as_str().is_some_and(|n| n.starts_with(name))
        };
        let line = lines.rfind(of_name).unwrap_or_else(|| panic!("{name} was not finished:\n{log}"));
        let field = |name: &str| line["fields"][name].as_u64().unwrap();
        (field("bytes_peers"), field("bytes_mirror"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let ended = self.running.take().map(|running| self.runtime.block_on(running));
        if std::thread::panicking() {
            eprintln!("--- log of the node\n{}", self.log());
        } else {
            assert!(matches!(ended, Some(Ok(Ok(())))), "the node ended badly: {ended:?}");
        }
    }
}

fn settings(folder: &std::path::Path) -> aptpeer::config::Settings {
    let config = folder.join("config.toml");
    let text = format!(
        "[proxy]\nlisten = \"127.0.0.1:0\"\n\
         [mirrors]\nallow_private = true\nlists_dir = \"\"\nproxy = \"none\"\n\
         [network]\nlisten = [\"127.0.0.1:0\"]\nallow_private_peers = true\nport_mapping = false\n\
         [cache]\npath = \"{cache}\"\nmin_free_space = \"0\"\n[state]\npath = \"{state}\"\n\
         [dht]\nenabled = false\n[lan]\nenabled = false\n[privacy]\nshare_private_mirrors = true\n[status]\nlisten = \"127.0.0.1:0\"\n",
        cache = folder.join("cache").display(),
        state = folder.join("state").display(),
    );
    std::fs::write(&config, text).unwrap();
    let mut around = Surroundings::of_this_process();
    around.system_file = folder.join("none.toml");
    around.variables.clear();
    load(&Typed { config: Some(config), flags: Vec::new() }, &around).unwrap().settings
}

thread_local! {
    /// Keeps the node's log the one of this thread.
    static LOGGING: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// A runtime all of whose threads write to `log`, and to no other.
fn runtime(log: &Log) -> Runtime {
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(log.clone())
        .finish();
    let dispatch = tracing::Dispatch::new(subscriber);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || {
            let guard = tracing::dispatcher::set_default(&dispatch);
            LOGGING.with(|slot| slot.replace(Some(guard)));
        })
        .on_thread_stop(|| drop(LOGGING.with(RefCell::take)))
        .build()
        .unwrap()
}

/// Lines that were logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
