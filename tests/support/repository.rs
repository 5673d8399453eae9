//! A small Debian repository, made and signed for real: .debs by dpkg-deb, a source package, indexes, by-hash copies,
//! InRelease and Release.gpg by a throw-away key.
//!
//! ```text
//! root/                     what a mirror serves as /
//!   debian/                 deb http://mirror/debian test main
//!     dists/test/…          Release, InRelease, Release.gpg, main/binary-<arch>/, main/source/, by-hash/
//!     pool/main/h/hello/…
//!   flat/                   deb http://mirror/flat ./
//!     Packages InRelease *.deb by-hash/
//! keyring.gpg               for Signed-By
//! gnupg/                    the key; its agent ends with the repository
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aptpeer::digest::Sha256;

use super::noise;

/// The time stamp of everything inside a package, so that the same seed gives the same bytes.
const EPOCH: u64 = 1_700_000_000;

fn epoch() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(EPOCH)
}

/// What a binary package is to contain.
#[derive(Debug, Clone)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// `all`, or the machine's own architecture (see [`native`]).
    pub architecture: String,
    /// How many bytes of noise it carries.
    pub payload: usize,
    pub seed: u64,
    pub depends: String,
    /// Also in the flat repository.
    pub flat: bool,
}

/// A file that apt may ask for by a name from an index.
#[derive(Debug, Clone)]
pub struct Built {
    pub package: Package,
    /// Relative to `debian/`, as the index says it.
    pub filename: String,
    pub size: u64,
    pub sha256: Sha256,
}

/// A repository in a temporary folder of its own.
pub struct Repository {
    folder: tempfile::TempDir,
    built: Vec<Built>,
    source: Source,
    /// The date of what is written now. Every publication is ten seconds later than the one before, however quickly
    /// they follow: HTTP dates have whole seconds, and apt rightly keeps what was not modified since.
    date: SystemTime,
}

struct Source {
    name: &'static str,
    version: &'static str,
    /// The .dsc first.
    files: Vec<PathBuf>,
}

/// The architecture of this machine, as dpkg calls it.
pub fn native() -> &'static str {
    static NATIVE: OnceLock<String> = OnceLock::new();
    NATIVE.get_or_init(|| {
        let output = run(Command::new("dpkg").arg("--print-architecture"));
        String::from_utf8(output).unwrap().trim().to_owned()
    })
}

impl Package {
    /// A package with `payload` bytes of noise that its name and version determine.
    pub fn new(name: &str, version: &str, payload: usize) -> Self {
        let seed = name.bytes().chain(version.bytes()).fold(7, |seed: u64, byte| {
            seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(byte)) // FNV's prime
        });
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: native().to_owned(),
            payload,
            seed,
            depends: String::new(),
            flat: false,
        }
    }

    pub fn all(self) -> Self {
        Self { architecture: "all".to_owned(), ..self }
    }

    pub fn depends(self, on: &str) -> Self {
        Self { depends: on.to_owned(), ..self }
    }

    pub fn flat(self) -> Self {
        Self { flat: true, ..self }
    }

    /// Other bytes under the same name and version, as some vendors publish them.
    pub fn reseeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The name of the .deb: the version loses its epoch (Debian Policy, section 5.6.12).
    fn file_name(&self) -> String {
        let version = self.version.split_once(':').map_or(&*self.version, |(_, rest)| rest);
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }

    fn pool_name(&self) -> String {
        let letters = if self.name.starts_with("lib") { &self.name[..4] } else { &self.name[..1] };
        format!("pool/main/{letters}/{}/{}", self.name, self.file_name())
    }

    fn control(&self) -> String {
        let mut text = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: Nobody <nobody@example.org>\n\
             Installed-Size: {}\nSection: misc\nPriority: optional\n",
            self.name,
            self.version,
            self.architecture,
            self.payload.div_ceil(1024)
        );
        if !self.depends.is_empty() {
            writeln!(text, "Depends: {}", self.depends).unwrap();
        }
        text.push_str("Description: made for a test\n It carries noise and does nothing.\n");
        text
    }
}

/// A dozen packages whose names and versions are as odd as Debian's; the two large ones have these payloads.
pub fn dozen(medium: usize, large: usize) -> Vec<Package> {
    vec![
        Package::new("hello", "2.10-3+b1", 9_000).depends("libgreet++1 (>= 1:2.0)").flat(),
        Package::new("libgreet++1", "1:2.0+dfsg-1~deb12u1", 40_000).depends("greet-data"),
        Package::new("greet-data", "1:2.0+dfsg-1~deb12u1", 70_000).all(),
        Package::new("tilde", "0~rc1+git20240101.abcdef-1", 3_000).flat(),
        Package::new("plain", "1.0", 1_000).all().flat(),
        Package::new("empty", "1", 0).all(),
        Package::new("native", "12.4+deb12u5", 20_000),
        Package::new("g++-tool", "4:12.2.0-3", 5_000),
        Package::new("a2ps-like", "1:4.14-8", 33_333),
        Package::new("one-piece", "1.0-1", 3_900_000),
        Package::new("medium", "3.0-1+deb12u2", medium).all(),
        Package::new("large", "5.0~beta2-1", large).all(),
    ]
}

impl Repository {
    /// The dozen with payloads small enough for a quick test: the largest has three pieces.
    pub fn small() -> Self {
        Self::with(&dozen(5_000_000, 9_000_000))
    }

    /// The dozen with one package of 30 MB and one of 200 MB.
    pub fn big() -> Self {
        Self::with(&dozen(30_000_000, 200_000_000))
    }

    /// A signed repository of `packages` and one source package.
    pub fn with(packages: &[Package]) -> Self {
        let folder = tempfile::Builder::new().prefix("repo").tempdir().unwrap();
        make_key(folder.path());
        let source = Source::build(folder.path());
        let date = SystemTime::now() - Duration::from_secs(24 * 3600);
        let mut repository = Self { folder, built: Vec::new(), source, date };
        for package in packages {
            repository.put(package.clone());
        }
        repository.publish();
        repository
    }

    /// The folder that a mirror serves as `/`.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The public key, for `Signed-By`.
    pub fn keyring(&self) -> PathBuf {
        self.folder.path().join("keyring.gpg")
    }

    /// Every binary package in its present version.
    pub fn built(&self) -> &[Built] {
        &self.built
    }

    /// The present version of the package called `name`.
    pub fn package(&self, name: &str) -> &Built {
        self.built.iter().find(|built| built.package.name == name).unwrap()
    }

    /// The bytes of the package called `name`.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.root().join("debian").join(&self.package(name).filename)).unwrap()
    }

    /// The name of the source package, and its files as apt names them in the current folder.
    pub fn source(&self) -> (&str, Vec<String>) {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        (self.source.name, self.source.files.iter().map(name).collect())
    }

    /// Builds `package` and puts it in the place of any other with its name. Nobody sees it before [`Self::publish`];
    /// a file of the same name has its bytes replaced.
    pub fn put(&mut self, package: Package) {
        let deb = build_deb(self.folder.path(), &package);
        let filename = package.pool_name();
        let bytes = fs::read(&deb).unwrap();
        write_file(&self.root().join("debian").join(&filename), &bytes, self.date);
        if package.flat {
            write_file(&self.root().join("flat").join(package.file_name()), &bytes, self.date);
        }
        let built = Built { filename, size: bytes.len() as u64, sha256: Sha256::of(&bytes), package };
        fs::remove_file(&deb).unwrap();
        self.built.retain(|other| other.package.name != built.package.name);
        self.built.push(built);
    }

    /// Writes and signs the indexes. By-hash files of earlier publications stay, as mirrors keep them for a while.
    pub fn publish(&mut self) {
        let dist = self.root().join("debian/dists/test");
        let binary = dist.join(format!("main/binary-{}", native()));
        write_index(&binary.join("Packages"), &self.packages_index(), &["", ".gz", ".xz"], self.date);
        write_index(&dist.join("main/source/Sources"), &self.source.index(), &["", ".gz"], self.date);
        let fields = format!("Suite: test\nCodename: test\nArchitectures: {}\nComponents: main\n", native());
        self.release(&dist, &fields);

        let flat = self.root().join("flat");
        write_index(&flat.join("Packages"), &self.flat_index(), &["", ".gz", ".xz"], self.date);
        self.release(&flat, "Suite: flat\n");
        self.date += Duration::from_secs(10);
    }

    fn packages_index(&self) -> String {
        self.built.iter().map(|built| stanza(built, &built.filename)).collect()
    }

    fn flat_index(&self) -> String {
        let flat = self.built.iter().filter(|built| built.package.flat);
        flat.map(|built| stanza(built, &format!("./{}", built.package.file_name()))).collect()
    }

    /// Writes Release, InRelease and Release.gpg of the indexes below `folder`.
    fn release(&self, folder: &Path, fields: &str) {
        let date = httpdate::fmt_http_date(self.date);
        let mut text =
            format!("Origin: test\nLabel: test\n{fields}Date: {date}\nAcquire-By-Hash: yes\nSHA256:\n");
        for name in indexes_below(folder) {
            let bytes = fs::read(folder.join(&name)).unwrap();
            writeln!(text, " {} {} {name}", Sha256::of(&bytes), bytes.len()).unwrap();
        }
        let release = folder.join("Release");
        write_file(&release, text.as_bytes(), self.date);
        for (name, how) in [("InRelease", "--clearsign"), ("Release.gpg", "--detach-sign")] {
            let mut gpg = gpg(&self.folder.path().join("gnupg"));
            gpg.args(["--yes", "--armor", how, "--output"]).arg(folder.join(name)).arg(&release);
            run(&mut gpg);
            set_date(&folder.join(name), self.date);
        }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let home = self.folder.path().join("gnupg");
        let ended = Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]).status();
        if !ended.is_ok_and(|status| status.success()) {
            eprintln!("could not end the gpg-agent of a test repository");
        }
    }
}

impl Source {
    /// A source package of format 3.0 (quilt): .dsc, .orig.tar.gz, .debian.tar.xz (dsc(5)).
    fn build(work: &Path) -> Self {
        let (name, version) = ("greet", "1:2.0+dfsg-1~deb12u1");
        let folder = work.join("root/debian/pool/main/g/greet");
        let tree = work.join("greet-source");
        write_file(&tree.join("greet-2.0+dfsg/README"), &noise(99, 300_000), epoch());
        write_file(
            &tree.join("debian/changelog"),
            b"greet (1:2.0+dfsg-1~deb12u1) test; urgency=low\n",
            epoch(),
        );
        fs::create_dir_all(&folder).unwrap();
        let tarballs = [
            ("greet_2.0+dfsg.orig.tar.gz", "greet-2.0+dfsg"),
            ("greet_2.0+dfsg-1~deb12u1.debian.tar.xz", "debian"),
        ];
        let mut files = vec![folder.join("greet_2.0+dfsg-1~deb12u1.dsc")];
        for (tarball, content) in tarballs {
            let path = folder.join(tarball);
            run(Command::new("tar").arg("--auto-compress").arg("--create").arg("--file").arg(&path).args([
                "--owner=0:0",
                &format!("--mtime=@{EPOCH}"),
                "--sort=name",
                "--directory",
                tree.to_str().unwrap(),
                content,
            ]));
            files.push(path);
        }
        let dsc = format!(
            "Format: 3.0 (quilt)\nSource: {name}\nBinary: libgreet++1, greet-data\nArchitecture: any\n\
             Version: {version}\nMaintainer: Nobody <nobody@example.org>\n{}",
            checksums(&files[1..])
        );
        write_file(&files[0], dsc.as_bytes(), epoch());
        Self { name, version, files }
    }

    fn index(&self) -> String {
        format!(
            "Package: {}\nFormat: 3.0 (quilt)\nBinary: libgreet++1, greet-data\nArchitecture: any\nVersion: {}\n\
             Maintainer: Nobody <nobody@example.org>\nDirectory: pool/main/g/greet\n{}\n",
            self.name,
            self.version,
            checksums(&self.files)
        )
    }
}

fn checksums(files: &[PathBuf]) -> String {
    let mut text = "Checksums-Sha256:\n".to_owned();
    for path in files {
        let bytes = fs::read(path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        writeln!(text, " {} {} {name}", Sha256::of(&bytes), bytes.len()).unwrap();
    }
    text
}

fn stanza(built: &Built, filename: &str) -> String {
    let control = built.package.control();
    format!("{control}Filename: {filename}\nSize: {}\nSHA256: {}\n\n", built.size, built.sha256)
}

fn build_deb(work: &Path, package: &Package) -> PathBuf {
    let tree = work.join("package");
    write_file(&tree.join("DEBIAN/control"), package.control().as_bytes(), epoch());
    let share = tree.join("usr/share").join(&package.name);
    write_file(&share.join("noise"), &noise(package.seed, package.payload), epoch());
    let deb = work.join("package.deb");
    run(Command::new("dpkg-deb")
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .args(["--root-owner-group", "-Znone", "--build"])
        .arg(&tree)
        .arg(&deb));
    fs::remove_dir_all(&tree).unwrap();
    deb
}

/// Writes an index in each of the spellings, and each under its by-hash name.
fn write_index(path: &Path, text: &str, suffixes: &[&str], date: SystemTime) {
    for suffix in suffixes {
        let bytes = match *suffix {
            "" => text.as_bytes().to_vec(),
            ".gz" => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                gzip.write_all(text.as_bytes()).unwrap();
                gzip.finish().unwrap()
            }
            ".xz" => liblzma::encode_all(text.as_bytes(), 6).unwrap(),
            other => panic!("no way to compress {other}"),
        };
        let by_hash = path.parent().unwrap().join("by-hash/SHA256").join(Sha256::of(&bytes).to_string());
        write_file(&by_hash, &bytes, date);
        write_file(Path::new(&format!("{}{suffix}", path.display())), &bytes, date);
    }
}

/// The names, relative to `folder`, of the Packages and Sources files below it, sorted.
fn indexes_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !name.ends_with("by-hash") {
                folders.push(path);
            } else if ["Packages", "Sources"].iter().any(|index| name.contains(index)) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn make_key(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let home = folder.join("gnupg");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    run(gpg(&home).args(["--quick-generate-key", "test@example.org", "ed25519", "sign", "never"]));
    let key = run(gpg(&home).arg("--export"));
    fs::write(folder.join("keyring.gpg"), key).unwrap();
}

fn gpg(home: &Path) -> Command {
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(home);
    gpg.args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
    gpg
}

/// Writes a file into its place at once, so that a mirror never serves half of it.
fn write_file(path: &Path, bytes: &[u8], date: SystemTime) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = PathBuf::from(format!("{}.new", path.display()));
    fs::write(&new, bytes).unwrap();
    set_date(&new, date);
    fs::rename(new, path).unwrap();
}

fn set_date(path: &Path, date: SystemTime) {
    fs::File::options().append(true).open(path).unwrap().set_modified(date).unwrap();
}

/// Runs a command to its end and gives what it printed; a failure fails the test with what it said.
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
