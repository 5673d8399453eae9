//! A real apt-get in a private root: nothing of the machine's own configuration, lists or caches.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use aptpeer::digest::Sha256;

use super::repository::{Repository, native};

/// How long one apt-get may run, in seconds; what takes longer has hung.
const LIMIT: &str = "180";

/// A private root for apt.
pub struct Apt {
    root: tempfile::TempDir,
    options: Vec<String>,
    /// The words before `apt-get`.
    within: Vec<String>,
}

/// What a run of apt-get came to.
#[derive(Debug)]
pub struct Run {
    /// apt's exit status; 124 when it was stopped because it hung.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Apt {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("apt").tempdir().unwrap();
        for folder in [
            "etc/apt/sources.list.d",
            "etc/apt/trusted.gpg.d",
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/lib/dpkg",
            "var/cache/apt/archives/partial",
            "var/log/apt",
            "sources",
        ] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("var/lib/dpkg/status"), "").unwrap();
        // APT_CONFIG is read before everything else (apt.conf(5)), so the machine's hooks and settings never are.
        let config = format!(
            "Dir \"{root}/\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\nDir::Etc::parts \"/dev/null\";\n\
             Dir::Etc::main \"/dev/null\";\nAPT::Architecture \"{native}\";\nAPT::Architectures {{ \"{native}\"; }};\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAPT::Get::Assume-Yes \"true\";\n\
             Debug::NoLocking \"true\";\n",
            root = root.path().display(),
            native = native(),
        );
        fs::write(root.path().join("apt.conf"), config).unwrap();
        Self { root, options: Vec::new(), within: Vec::new() }
    }

    /// Sends all http through the proxy at `address`.
    pub fn proxy(self, address: SocketAddr) -> Self {
        self.option("Acquire::http::Proxy", &format!("http://{address}"))
    }

    /// Runs in this network namespace.
    pub fn within(self, namespace: &str) -> Self {
        let within = ["ip", "netns", "exec", namespace].map(str::to_owned).to_vec();
        Self { within, ..self }
    }

    /// Sets an option for every run, such as `Acquire::Retries` or `Acquire::http::Timeout`.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push(format!("-o{name}={value}"));
        self
    }

    /// Adds `deb` and `deb-src` in the one-line style (sources.list(5)). `base` is the URL of the repository's root:
    /// a mirror's own, or that of a proxy with the mirror's host and port behind it.
    pub fn one_line(self, base: &str, repository: &Repository) -> Self {
        let keyring = repository.keyring();
        let line = |kind| format!("{kind} [signed-by={}] {base}/debian test main\n", keyring.display());
        self.append("etc/apt/sources.list", &(line("deb") + &line("deb-src")))
    }

    /// Adds the same in the deb822 style.
    pub fn deb822(self, base: &str, repository: &Repository) -> Self {
        let keyring = repository.keyring();
        let stanza = format!(
            "Types: deb deb-src\nURIs: {base}/debian\nSuites: test\nComponents: main\nSigned-By: {}\n\n",
            keyring.display()
        );
        self.append("etc/apt/sources.list.d/test.sources", &stanza)
    }

    /// Adds the flat repository.
    pub fn flat(self, base: &str, repository: &Repository) -> Self {
        let keyring = repository.keyring();
        self.append(
            "etc/apt/sources.list",
            &format!("deb [signed-by={}] {base}/flat ./\n", keyring.display()),
        )
    }

    fn append(self, file: &str, text: &str) -> Self {
        let path = self.root.path().join(file);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, before + text).unwrap();
        self
    }

    pub fn update(&self) -> Run {
        self.run(&["update"])
    }

    /// Downloads these packages and what they depend on.
    pub fn install(&self, packages: &[&str]) -> Run {
        self.run(&[&["install", "--download-only"], packages].concat())
    }

    /// Downloads the files of a source package.
    pub fn source(&self, package: &str) -> Run {
        self.run(&["source", "--download-only", package])
    }

    /// Runs `apt-get` with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT]).args(&self.within);
        command.args(["apt-get", "--quiet"]).args(&self.options).args(arguments);
        for name in ["http", "https", "ftp", "all", "no"] {
            command.env_remove(format!("{name}_proxy")).env_remove(format!("{name}_proxy").to_uppercase());
        }
        command.env("APT_CONFIG", self.root.path().join("apt.conf"));
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        let output = command.current_dir(self.root.path().join("sources")).output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The folder of lists, as a daemon's `mirrors.lists_dir` wants it.
    pub fn lists(&self) -> PathBuf {
        self.root.path().join("var/lib/apt/lists")
    }

    /// The packages that were downloaded whole: name of the file (apt spells an epoch's colon `%3a`) and digest, sorted.
    pub fn archives(&self) -> Vec<(String, Sha256)> {
        files(&self.root.path().join("var/cache/apt/archives"), ".deb")
    }

    /// The files of source packages that were downloaded whole.
    pub fn sources(&self) -> Vec<(String, Sha256)> {
        files(&self.root.path().join("sources"), "")
    }

    /// Throws away the downloaded packages, also unfinished ones.
    pub fn clean(&self) {
        assert_eq!(self.run(&["clean"]).code, 0);
    }
}

impl Default for Apt {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// Fails the test with everything apt said unless it succeeded, and without a word of complaint.
    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        assert!(self.code == 0 && self.complaints().is_empty(), "{self}");
        self
    }

    /// The lines that begin with `Err:` or `Ign:`, apt's words for a download that failed or is tried again, and its
    /// warnings and errors.
    pub fn complaints(&self) -> Vec<&str> {
        let complaint = |line: &&str| ["Err:", "Ign:", "W:", "E:"].iter().any(|word| line.starts_with(word));
        self.stdout.lines().chain(self.stderr.lines()).filter(complaint).collect()
    }

    /// The lines that begin with `Ign:`: tries that failed and were repeated.
    pub fn retries(&self) -> Vec<&str> {
        self.stdout.lines().filter(|line| line.starts_with("Ign:")).collect()
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "apt-get ended with {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

fn files(folder: &Path, suffix: &str) -> Vec<(String, Sha256)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_file() && name.ends_with(suffix) {
            found.push((name, Sha256::of(&fs::read(path).unwrap())));
        }
    }
    found.sort();
    found
}
