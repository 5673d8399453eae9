//! The built daemon as a process of its own, with its own configuration, cache and state.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{http, wait_for};

/// A daemon that has not bound its ports by then never will, even in a debug build on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A daemon that has not announced a dozen objects by then never will.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(90);

/// A daemon that has not drained by then never will.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What a daemon is to be started with.
#[derive(Debug, Clone)]
pub struct Setup {
    program: PathBuf,
    command: &'static str,
    peers: Vec<String>,
    extra: toml::Table,
    environment: Vec<(String, String)>,
}

/// A running daemon; dropping it ends it and removes its folders.
pub struct Daemon {
    setup: Setup,
    folder: tempfile::TempDir,
    child: Option<Child>,
    addresses: Addresses,
}

/// Where it listens, as its `daemon.json` says.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub proxy: SocketAddr,
    pub status: Option<SocketAddr>,
    pub peers: Vec<SocketAddr>,
    pub dht: Option<SocketAddr>,
}

impl Setup {
    /// Everything on loopback and free ports, nothing of the machine's own apt, nobody known.
    pub fn new() -> Self {
        Self {
            program: env!("CARGO_BIN_EXE_aptpeer").into(),
            command: "daemon",
            peers: Vec::new(),
            extra: toml::Table::new(),
            environment: Vec::new(),
        }
    }

    /// A node of the DHT and nothing else.
    pub fn bootstrap() -> Self {
        Self { command: "bootstrap", ..Self::new() }.dht(&[])
    }

    /// Takes part in the DHT, which it enters by these nodes.
    pub fn dht(self, nodes: &[SocketAddr]) -> Self {
        let nodes: Vec<String> = nodes.iter().map(|node| format!("\"{node}\"")).collect();
        self.with(&format!("[dht]\nenabled = true\nbootstrap = [{}]\n", nodes.join(", ")))
    }

    /// Another program in the place of the built one.
    pub fn program(self, program: &Path) -> Self {
        Self { program: program.to_owned(), ..self }
    }

    /// Adds a static peer.
    pub fn peer(mut self, address: SocketAddr) -> Self {
        self.peers.push(address.to_string());
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds configuration in TOML, over what is there.
    pub fn with(mut self, toml: &str) -> Self {
        merge(&mut self.extra, toml.parse().unwrap());
        self
    }

    /// Starts a daemon with empty folders and waits until it listens.
    pub fn start(self) -> Daemon {
        match self.try_start() {
            Ok(daemon) => daemon,
            Err(log) => panic!("the daemon did not start; its log:\n{log}"),
        }
    }

    /// The same, but gives the log of a daemon that ends, or does not listen, instead.
    pub fn try_start(self) -> Result<Daemon, String> {
        let folder = tempfile::Builder::new().prefix("daemon").tempdir().unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = Addresses { proxy: nowhere, status: None, peers: Vec::new(), dht: None };
        let mut daemon = Daemon { setup: self, folder, child: None, addresses };
        daemon.launch()?;
        Ok(daemon)
    }

    fn config(&self, folder: &Path) -> toml::Table {
        let mut config: toml::Table = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n\
             [mirrors]\nallow_private = true\nlists_dir = \"\"\nproxy = \"none\"\n\
             [network]\nlisten = [\"127.0.0.1:0\"]\nallow_private_peers = true\nport_mapping = false\n\
             [cache]\npath = \"{cache}\"\nmin_free_space = \"0\"\n\
             [state]\npath = \"{state}\"\n\
             [dht]\nenabled = false\n[lan]\nenabled = false\n[privacy]\nshare_private_mirrors = true\n\
             [status]\nlisten = \"127.0.0.1:0\"\n\
             [log]\nlevel = \"debug\"\nformat = \"json\"\n",
            cache = folder.join("cache").display(),
            state = folder.join("state").display(),
        )
        .parse()
        .unwrap();
        let peers = self.peers.iter().cloned().map(toml::Value::String).collect();
        config["network"].as_table_mut().unwrap().insert("peers".to_owned(), toml::Value::Array(peers));
        merge(&mut config, self.extra.clone());
        config
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Daemon {
    /// A daemon with no peers.
    pub fn start() -> Self {
        Setup::new().start()
    }

    fn launch(&mut self) -> Result<(), String> {
        let folder = self.folder.path();
        let config = folder.join("config.toml");
        fs::write(&config, self.setup.config(folder).to_string()).unwrap();
        for name in ["cache", "state"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new(&self.setup.program);
        command
            .arg(self.setup.command)
            .arg("--config")
            .arg(&config)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("APTPEER_")) {
            command.env_remove(name);
        }
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        // What is installed on this machine is no matter of a test's.
        command.env("DPKG_ADMINDIR", folder.join("dpkg"));
        command.envs(self.setup.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().unwrap();
        let pid = child.id();
        let state = folder.join("state/daemon.json");
        let found = wait_for(START_LIMIT, || match child.try_wait() {
            Ok(None) => read_addresses(&state, pid).map(Ok),
            ended => Some(Err(format!("it ended at once: {ended:?}"))),
        });
        self.child = Some(child);
        match found {
            Some(Ok(addresses)) => self.addresses = addresses,
            Some(Err(why)) => return Err(format!("{why}\n{}", self.log())),
            None => return Err(format!("no daemon.json within {START_LIMIT:?}\n{}", self.log())),
        }
        Ok(())
    }

    /// Where apt finds it.
    pub fn proxy(&self) -> SocketAddr {
        self.addresses.proxy
    }

    /// Where peers find it.
    pub fn peer(&self) -> SocketAddr {
        *self.addresses.peers.first().unwrap()
    }

    /// Where nodes of the DHT find it.
    pub fn dht(&self) -> SocketAddr {
        self.addresses.dht.unwrap()
    }

    /// Waits until nodes of the DHT have answered it.
    #[track_caller]
    pub fn wait_for_dht(&self) {
        let found = wait_for(START_LIMIT, || (self.stat("dht_nodes") > 0).then_some(()));
        assert!(found.is_some(), "no node of the DHT answers: {}", self.stats());
    }

    /// Waits until so many announces of its were taken by the DHT.
    #[track_caller]
    pub fn wait_for_announced(&self, objects: u64) {
        let announced = || {
            let metrics = self.metrics();
            let line = metrics.lines().find_map(|line| line.strip_prefix("aptpeer_announces_total "));
            line.and_then(|count| count.parse::<u64>().ok())
        };
        let found = wait_for(ANNOUNCE_LIMIT, || (announced() >= Some(objects)).then_some(()));
        assert!(found.is_some(), "not {objects} objects announced: {}", self.stats());
    }

    /// Where the status pages are.
    pub fn status(&self) -> SocketAddr {
        self.addresses.status.unwrap()
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The folder of its cache.
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// The folder of its state.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Its configuration file, for commands that work beside it.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// `/stats`.
    pub fn stats(&self) -> serde_json::Value {
        let response = http::get(self.status(), "/stats");
        assert_eq!(response.status, 200, "{}", response.text());
        serde_json::from_slice(&response.body).unwrap()
    }

    /// One number of `/stats`.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.stats();
        stats[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {stats}"))
    }

    /// `/metrics`.
    pub fn metrics(&self) -> String {
        http::get(self.status(), "/metrics").text()
    }

    /// Everything it has written so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until the log has `text`; fails with the whole log when it does not come.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let found = wait_for(START_LIMIT, || self.log().contains(text).then_some(()));
        assert!(found.is_some(), "{text:?} never came:\n{}", self.log());
    }

    /// Asks it to stop, without waiting.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// Stops it cleanly and gives its exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let status = wait_for(STOP_LIMIT, || child.try_wait().unwrap());
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        status.unwrap_or_else(|| panic!("the daemon did not end within {STOP_LIMIT:?}:\n{}", self.log()))
    }

    /// Changes what it will be started with the next time.
    pub fn reconfigure(&mut self, setup: Setup) {
        self.setup = setup;
    }

    /// Starts it again with the same folders, after it was terminated or killed. Its ports are others.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        self.launch().unwrap_or_else(|log| panic!("the daemon did not start again:\n{log}"));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the daemon\n{}", self.log());
        }
    }
}

/// The addresses in a `daemon.json`, `None` while it is not there or is that of another process.
fn read_addresses(path: &Path, pid: u32) -> Option<Addresses> {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    if json["pid"] != pid {
        return None;
    }
    let address = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse().ok());
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let peers = json["peers"].as_array().map(|list| list.iter().filter_map(address).collect());
    Some(Addresses {
        // A bootstrap node has none.
        proxy: address(&json["proxy"]).unwrap_or(nowhere),
        status: address(&json["status"]),
        peers: peers.unwrap_or_default(),
        dht: address(&json["dht"]),
    })
}

/// Puts `over` on top of `base`, table by table.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}
