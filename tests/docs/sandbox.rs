//! A place for the commands of the documents: everything that they name is another thing of the same kind, in a folder of the
//! test or on a port of loopback.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::apt::Apt;
use crate::support::daemon::{Daemon, Setup};
use crate::support::mirror::Mirror;
use crate::support::repository::{Repository, native};
use crate::support::{http, wait_for};

/// How long a command may take, and a server to start.
const LIMIT: Duration = Duration::from_secs(90);

/// Programs that do nothing beyond the sandbox when their words do not. `apt-get` is a real one in a private root.
const HARMLESS: [&str; 10] =
    ["aptpeer", "apt-get", "cat", "curl", "install", "mkdir", "printf", "promtool", "tee", "test"];

pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    /// What the documents say, and what that is here.
    names: Vec<(&'static str, String)>,
    apt: Apt,
    _repository: Repository,
    _mirror: Mirror,
    daemon: Daemon,
    _other: Daemon,
    _entrance: Daemon,
}

impl Sandbox {
    /// A daemon that knows a repository, holds one of its packages, and has a peer and a DHT.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("docs").tempdir().unwrap();
        let repository = Repository::small();
        let mirror = Mirror::start(&repository.root());
        let entrance = Setup::bootstrap().start();
        let other = Setup::new().start();
        let apt = Apt::new().deb822(&mirror.url(), &repository);
        apt.update().succeeded();
        // Places with one package each.
        let debian = repository.root().join("debian");
        for (place, name) in [("directory", "medium"), ("archives", "g++-tool")] {
            let deb = debian.join(&repository.package(name).filename);
            fs::create_dir(folder.path().join(place)).unwrap();
            fs::copy(&deb, folder.path().join(place).join(deb.file_name().unwrap())).unwrap();
        }
        let config = format!(
            "[mirrors]\nlists_dir = \"{}\"\n[seed]\napt_archives = \"{}\"\n",
            apt.lists().display(),
            folder.path().join("archives").display()
        );
        let daemon = Setup::new().with(&config).dht(&[entrance.dht()]).peer(other.peer()).start();
        daemon.wait_for_dht();

        let package = repository.package("large");
        let url = format!("{}/debian/{}", mirror.url(), package.filename);
        for holder in [&daemon, &other] {
            for file in ["InRelease".to_owned(), format!("main/binary-{}/Packages.xz", native())] {
                http::get(holder.proxy(), &format!("{}/debian/dists/test/{file}", mirror.url()));
            }
            assert_eq!(http::get(holder.proxy(), &url).status, 200);
        }
        let within = |name: &str| folder.path().join(name).display().to_string();
        let deb = debian.join(&package.filename).display().to_string();
        let names = vec![
            ("http://mirror.example.org/debian/pool/main/h/hello/hello_2.10-3_amd64.deb", url.clone()),
            ("http://mirror.example.org/debian/pool/…", url.clone()),
            ("http://127.0.0.1:9977 URL", format!("http://{} {url}", daemon.proxy())),
            ("127.0.0.1:9977", daemon.proxy().to_string()),
            ("127.0.0.1:9978", daemon.status().to_string()),
            ("other.example.org:9979", other.peer().to_string()),
            ("0.0.0.0:9979", "127.0.0.1:0".to_owned()),
            ("/etc/aptpeer", within("etc/aptpeer")),
            ("/etc/prometheus", within("etc/prometheus")),
            ("/usr/local/bin", within("bin")),
            ("/usr/share/doc/aptpeer/examples", format!("{}/packaging", env!("CARGO_MANIFEST_DIR"))),
            ("/srv/mirror/pool", debian.join("pool").display().to_string()),
            ("/srv/mirror/debian", debian.display().to_string()),
            ("DIRECTORY", within("directory")),
            ("FILE…", deb),
            ("SHA256", package.sha256.to_string()),
            ("FILE", within("file")),
            ("target/release/aptpeer", within("programs/aptpeer")),
        ];
        let sandbox = Self {
            names,
            apt,
            _repository: repository,
            _mirror: mirror,
            _other: other,
            _entrance: entrance,
            folder,
            daemon,
        };
        sandbox.furnish();
        sandbox
    }

    /// The programs that stand in for others, and apt's configuration as docs/operations.md has it.
    fn furnish(&self) {
        for folder in ["bin", "programs", "home", "work", "etc"] {
            fs::create_dir_all(self.path(folder)).unwrap();
        }
        let program = |name: &str, text: &str| {
            let path = self.path("programs").join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("aptpeer", &format!("exec {} --config \"$CONFIG\" \"$@\"", env!("CARGO_BIN_EXE_aptpeer")));
        program("sudo", "exec \"$@\"");
        // scripts/check says where it is.
        if let Some(promtool) = std::env::var_os("PROMTOOL") {
            program("promtool", &format!("exec {} \"$@\"", promtool.display()));
        }
        let proxy = &self.names.iter().find(|(name, _)| *name == "127.0.0.1:9977").unwrap().1;
        let conf = self.apt_conf();
        let text = fs::read_to_string(&conf).unwrap();
        fs::write(conf, format!("{text}Acquire::http::Proxy \"http://{proxy}\";\n")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn apt_conf(&self) -> PathBuf {
        // <root>/var/lib/apt/lists
        self.apt.lists().ancestors().nth(4).unwrap().join("apt.conf")
    }

    /// The command as it is run here.
    fn here(&self, command: &str) -> Result<String, String> {
        let mut here = command.to_owned();
        for (there, instead) in &self.names {
            here = here.replace(there, instead);
        }
        match refusal(&here) {
            None => Ok(here),
            Some(why) => Err(why),
        }
    }

    fn command(&self, line: &str, config: &Path) -> Command {
        let mut command = Command::new("bash");
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("programs").display());
        command
            .args(["-o", "pipefail", "-c", line])
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("LC_ALL", "C.UTF-8")
            .env("CONFIG", config)
            .env("APT_CONFIG", self.apt_conf())
            .env("DPKG_ADMINDIR", self.path("dpkg"))
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command, which must end with 0 or with `other`.
    pub(crate) fn run(&self, command: &str, other: Option<i32>) -> Result<(), String> {
        let here = self.here(command)?;
        let config = self.daemon.config();
        if command.starts_with("promtool ")
            && !self.command("command -v promtool >/dev/null", &config).status().unwrap().success()
        {
            println!(
                "left out: there is no promtool here; scripts/promtool gets it, scripts/check does so itself"
            );
            return Ok(());
        }
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut line = self.command(&here, &config);
        line.stdout(log.reopen().unwrap()).stderr(log.reopen().unwrap());
        let mut child = line.spawn().unwrap();
        let ended = ended(&mut child);
        let said = || fs::read_to_string(log.path()).unwrap_or_default();
        match ended.and_then(|status| status.code()) {
            Some(0) => Ok(()),
            code if code.is_some() && code == other => Ok(()),
            code => Err(format!("{here}\n    ended with {code:?}: {}", said())),
        }
    }

    /// Starts a server, with a configuration of its own, and ends it when it listens.
    pub(crate) fn serve(&self, command: &str) -> Result<(), String> {
        let here = self.here(command)?;
        let place = tempfile::tempdir_in(self.folder.path()).unwrap();
        let config = place.path().join("config.toml");
        let free = "listen = \"127.0.0.1:0\"\n";
        let text = format!(
            "[proxy]\n{free}[status]\n{free}[network]\nlisten = [\"127.0.0.1:0\"]\nport_mapping = false\n\
             [mirrors]\nlists_dir = \"\"\n[dht]\nbootstrap = []\n[lan]\nenabled = false\n\
             [cache]\npath = \"{0}/cache\"\n[state]\npath = \"{0}/state\"\n",
            place.path().display()
        );
        fs::write(&config, text).unwrap();
        for folder in ["cache", "state"] {
            fs::create_dir(place.path().join(folder)).unwrap();
        }
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut line = self.command(&here, &config);
        let mut child = line.stdout(log.reopen().unwrap()).stderr(log.reopen().unwrap()).spawn().unwrap();
        let record = place.path().join("state/daemon.json");
        let listens = wait_for(LIMIT, || match child.try_wait().unwrap() {
            None => record.exists().then_some(true),
            Some(_) => Some(false),
        });
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap_or_default();
        let ended = ended(&mut child);
        let said = fs::read_to_string(log.path()).unwrap_or_default();
        match (listens, ended.and_then(|status| status.code())) {
            (Some(true), Some(0)) => Ok(()),
            (listens, code) => Err(format!("{here}\n    listened: {listens:?}, ended with {code:?}: {said}")),
        }
    }
}

/// Why a command must not be run, `None` for one that is harmless.
pub(crate) fn refusal(command: &str) -> Option<String> {
    for part in command.split(['|', '&', ';']).filter(|part| !part.trim().is_empty()) {
        let mut words = part.split_whitespace().filter(|word| *word != "sudo");
        let program = words.next().unwrap_or_default();
        if !HARMLESS.contains(&program) {
            return Some(format!(
                "{program:?} is not known to be harmless: see HARMLESS and ELSEWHERE in tests/docs"
            ));
        }
        if program == "apt-get" && words.next() != Some("update") {
            return Some("of apt-get only the update is run in a sandbox".to_owned());
        }
        if let Some(outside) = part.split_whitespace().find(|word| !is_inside(word)) {
            return Some(format!(
                "{outside} is outside of the sandbox: see the names in tests/docs/sandbox.rs"
            ));
        }
    }
    None
}

/// Whether a word is no path of this machine's own.
fn is_inside(word: &str) -> bool {
    let path = word.trim_start_matches(['>', '<', '"', '\'']);
    let ours = [std::env::temp_dir(), PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    !(path.starts_with('/') || path.starts_with('~'))
        || path == "/dev/null"
        || (ours.iter().any(|folder| Path::new(path).starts_with(folder)) && !path.contains(".."))
}

/// Every `section.key` that there is, as `config init` writes them.
pub(crate) fn all_keys() -> Vec<String> {
    let config: toml::Table = config("init", "").unwrap().parse().unwrap();
    let keys = |(section, table): (&String, &toml::Value)| {
        let names = table.as_table().unwrap().keys();
        names.map(|name| format!("{section}.{name}")).collect::<Vec<_>>()
    };
    config.iter().flat_map(keys).collect()
}

/// Whether a piece of configuration would be accepted.
pub(crate) fn check_config(text: &str) -> Result<(), String> {
    config("check", text).map(|_| ())
}

/// What `aptpeer config …` says with this configuration; as an error where it fails.
fn config(action: &str, text: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aptpeer"));
    command.args(["config", action, "--config"]).arg(file).env_clear().env("HOME", folder.path());
    let output = command.output().unwrap();
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    let said = String::from_utf8_lossy(said).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// How the command ended; it is killed when it does not.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    let ended = wait_for(LIMIT, || child.try_wait().unwrap());
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    ended
}
