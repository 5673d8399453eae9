//! The binary from outside: what it prints where, what it says about mistakes, and how it exits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod bootstrap;
mod doctor;
mod keygen;
mod keys;
mod manual;
mod service;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_aptpeer");

/// A home with nothing in it, and an environment that knows only that.
struct Place {
    folder: tempfile::TempDir,
}

/// How a command ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = self.command(arguments);
        Ended::from(command.envs(variables.iter().copied()).output().unwrap())
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// Exit code 0 and a silent standard error; gives standard output.
    fn good(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// This exit code and an empty standard output; gives standard error.
    fn bad(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{}", self.stderr);
        self.stderr
    }
}

fn has_all(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn shown(place: &Place, config: &Path, variables: &[(&str, &str)], flags: &[&str]) -> serde_json::Value {
    let arguments = [&["config", "show", "--json", "--config", config.to_str().unwrap()], flags].concat();
    serde_json::from_str(&place.run_with(&arguments, variables).good()).unwrap()
}

mod version {
    use super::*;

    #[test]
    fn is_printed_for_people_and_for_programs() {
        let place = Place::new();
        let line = format!("aptpeer {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(place.run(&["version"]).good(), line);
        assert_eq!(place.run(&["--version"]).good(), line);
        let json: serde_json::Value =
            serde_json::from_str(&place.run(&["version", "--json"]).good()).unwrap();
        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    }
}

mod usage {
    use super::*;

    #[test]
    fn nothing_or_nonsense_on_the_command_line_is_bad_usage() {
        let place = Place::new();
        has_all(&place.run(&[]).bad(2), &["Usage: aptpeer", "config", "version"]);
        has_all(&place.run(&["confg"]).bad(2), &["confg", "config"]);
        let stderr = place.run(&["--log-level", "loud", "version"]).bad(2);
        has_all(&stderr, &["--log-level", "loud", "error, warn, info, debug, trace"]);
    }

    #[test]
    fn help_is_a_result() {
        has_all(&Place::new().run(&["config", "--help"]).good(), &["show", "init", "check", "--log-level"]);
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_command_quietly() {
        for arguments in
            [&["config", "init"][..], &["config", "show"], &["config", "show", "--json"], &["version"]]
        {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let output = Place::new().command(arguments).stdout(writer).output().unwrap();
            assert_eq!(
                (output.status.code(), output.stderr.as_slice()),
                (Some(0), &b""[..]),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn a_full_disk_behind_standard_output_is_a_failure() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Place::new().command(&["config", "init"]).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        has_all(&String::from_utf8(output.stderr).unwrap(), &["standard output"]);
    }
}

mod config {
    use super::*;

    #[test]
    fn init_prints_a_file_that_is_good_and_equals_the_defaults() {
        let place = Place::new();
        let sample = place.file("sample.toml", &place.run(&["config", "init"]).good());
        let empty = place.file("empty.toml", "");
        let checked = place.run(&["config", "check", "--config", sample.to_str().unwrap()]).good();
        has_all(&checked, &["good", "sample.toml"]);
        let (sample, empty) = (shown(&place, &sample, &[], &[]), shown(&place, &empty, &[], &[]));
        assert_eq!(sample["settings"], empty["settings"]);
        assert!(empty["origins"].as_object().unwrap().is_empty());
        assert_eq!(sample["origins"].as_object().unwrap().len(), aptpeer::config::KEYS.len());
    }

    #[test]
    fn the_keys_and_defaults_that_users_rely_on_stay() {
        let relied_on = r#"
            proxy = { listen = "127.0.0.1:9977", allow_clients = ["127.0.0.0/8", "::1"] }
            cache = { path = "", max_size = "10GB", min_free_space = "1GB" }
            seed = { apt_archives = "" }
            state = { path = "" }
            swarm = { secret_file = "" }
            lan = { enabled = true, interfaces = [] }
            privacy = { announce = true, lan_only = false, share_private_mirrors = false }
            status = { listen = "127.0.0.1:9978" }
            log = { level = "info", format = "text" }
            [mirrors]
            allow = []
            allow_private = false
            lists_dir = "/var/lib/apt/lists"
            keyrings = ["/usr/share/keyrings", "/etc/apt/trusted.gpg.d", "/etc/apt/keyrings"]
            verify_signatures = "auto"
            proxy = "auto"
            ca_file = ""
            [network]
            listen = ["0.0.0.0:9979", "[::]:9979"]
            peers = []
            allow_private_peers = false
            port_mapping = true
            [transfer]
            max_upload_rate = "0"
            max_download_rate = "0"
            max_concurrent_uploads = 20
            max_concurrent_downloads = 8
            prefer = "speed"
            prefetch = "sources"
            [dht]
            enabled = true
            bootstrap = ["router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "router.utorrent.com:6881"]
            announce_interval = "25m"
            announce_budget = "50/s"
            publishers = []
        "#;
        let place = Place::new();
        let (relied_on, empty) = (place.file("all.toml", relied_on), place.file("empty.toml", ""));
        let (relied_on, empty) = (shown(&place, &relied_on, &[], &[]), shown(&place, &empty, &[], &[]));
        assert_eq!(relied_on["settings"], empty["settings"]);
        assert_eq!(relied_on["origins"].as_object().unwrap().len(), aptpeer::config::KEYS.len());
    }

    #[test]
    fn init_writes_a_file_but_never_over_another() {
        let place = Place::new();
        let path = place.path("new.toml");
        let arguments = ["config", "init", "-o", path.to_str().unwrap()];
        assert_eq!(place.run(&arguments).good(), "");
        assert_eq!(fs::read_to_string(&path).unwrap(), place.run(&["config", "init"]).good());
        has_all(&place.run(&arguments).bad(1), &["new.toml", "choose another name"]);
    }

    #[test]
    fn show_prints_a_file_that_means_the_same() {
        let place = Place::new();
        let config = place.file(
            "a.toml",
            "[cache]\nmax_size = \"3GiB\"\npath = \"/c\"\n[network]\npeers = [\"p.example.org:9979\"]\n",
        );
        let text = place.run(&["config", "show", "--config", config.to_str().unwrap()]).good();
        has_all(
            &text,
            &["max_size = \"3GiB\"  # ", "a.toml line 2", "listen = \"127.0.0.1:9977\"  # default"],
        );
        let again = place.file("b.toml", &text);
        assert_eq!(shown(&place, &config, &[], &[])["settings"], shown(&place, &again, &[], &[])["settings"]);
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let place = Place::new();
        let config = place.file("a.toml", "[log]\nlevel = \"error\"\nformat = \"json\"\n");
        let level = |variables: &[(&str, &str)], flags: &[&str]| {
            let json = shown(&place, &config, variables, flags);
            (
                json["settings"]["log"]["level"].clone(),
                json["origins"]["log.level"].as_str().unwrap().to_owned(),
            )
        };
        let variables = [("APTPEER_LOG_LEVEL", "warn")];
        assert_eq!(level(&[], &[]).0, "error");
        assert_eq!(
            level(&variables, &[]),
            ("warn".into(), "environment variable APTPEER_LOG_LEVEL".to_owned())
        );
        assert_eq!(
            level(&variables, &["--log-level", "trace"]),
            ("trace".into(), "flag --log-level".to_owned())
        );
        assert_eq!(shown(&place, &config, &variables, &[])["settings"]["log"]["format"], "json");
    }

    #[test]
    fn a_named_file_wins_over_the_one_of_the_user_key_by_key() {
        let place = Place::new();
        place.file(
            ".config/aptpeer/config.toml",
            "[transfer]\nprefer = \"offload\"\nmax_concurrent_uploads = 3\n",
        );
        let named = place.file("named.toml", "[transfer]\nmax_concurrent_uploads = 4\n");
        let json = shown(&place, &named, &[], &[]);
        assert_eq!(json["settings"]["transfer"]["prefer"], "offload");
        assert_eq!(json["settings"]["transfer"]["max_concurrent_uploads"], 4);
    }

    #[test]
    fn lists_in_the_environment_are_separated_by_commas() {
        let place = Place::new();
        let empty = place.file("empty.toml", "");
        let variables = [
            ("APTPEER_NETWORK_LISTEN", "127.0.0.1:0,[::1]:0"),
            ("APTPEER_MIRRORS_ALLOW", "*.example.org, mirror.example.com"),
            ("APTPEER_MIRRORS_LISTS_DIR", ""),
        ];
        let json = shown(&place, &empty, &variables, &[]);
        assert_eq!(json["settings"]["network"]["listen"], serde_json::json!(["127.0.0.1:0", "[::1]:0"]));
        assert_eq!(
            json["settings"]["mirrors"]["allow"],
            serde_json::json!(["*.example.org", "mirror.example.com"])
        );
        assert_eq!(json["settings"]["mirrors"]["lists_dir"], "");
    }

    /// Each mistake with what the text must name: key, value, place and what would do.
    #[test]
    fn every_mistake_names_key_value_place_and_remedy() {
        let cases: &[(&str, &[&str])] = &[
            ("[cache]\nmax_size = \"10 Gigs\"", &["cache.max_size", "\"10 Gigs\"", "line 2", "\"10GB\""]),
            ("[cache]\nmax_size = -1", &["cache.max_size", "-1", "line 2", "\"10GB\""]),
            ("[cache]\npath = \"here\"", &["cache.path", "\"here\"", "absolute path"]),
            ("[cache]\nmaxsize = 1", &["cache.maxsize = 1", "line 2", "did you mean cache.max_size?"]),
            ("max_size = 1", &["max_size = 1", "line 1", "did you mean cache.max_size?"]),
            (
                "[proxy]\nlisten = \"localhost:9977\"",
                &["proxy.listen", "\"localhost:9977\"", "\"127.0.0.1:9977\""],
            ),
            ("[proxy]\nlisten = 9977", &["proxy.listen", "9977", "\"127.0.0.1:9977\""]),
            (
                "[proxy]\nlisten = \"0.0.0.0:9977\"",
                &["proxy.listen", "\"0.0.0.0:9977\"", "proxy.allow_clients"],
            ),
            (
                "[proxy]\nallow_clients = [\"10.0.0.0/33\"]",
                &["proxy.allow_clients", "\"10.0.0.0/33\"", "192.168.0.0/16"],
            ),
            ("[network]\npeers = [\"a:1\", \"b\"]", &["network.peers", "\"b\"", "\"peer.example.org:9979\""]),
            ("[network]\npeers = \"a:1\"", &["network.peers", "\"a:1\"", "a list"]),
            (
                "[mirrors]\nverify_signatures = \"yes\"",
                &["mirrors.verify_signatures", "\"yes\"", "\"enforce\""],
            ),
            (
                "[mirrors]\nproxy = \"proxy:3128\"",
                &["mirrors.proxy", "\"proxy:3128\"", "\"none\"", "http://"],
            ),
            ("[mirrors]\nallow = [\"http://x\"]", &["mirrors.allow", "\"http://x\"", "\"*.example.org\""]),
            ("[mirrors]\nallow_private = \"yes\"", &["mirrors.allow_private", "\"yes\"", "true or false"]),
            (
                "[transfer]\nmax_upload_rate = \"fast\"",
                &["transfer.max_upload_rate", "\"fast\"", "\"10MB/s\""],
            ),
            (
                "[transfer]\nmax_concurrent_downloads = 0",
                &["max_concurrent_downloads", "= 0", "from 1 to 1000"],
            ),
            ("[dht]\nannounce_interval = \"25\"", &["dht.announce_interval", "\"25\"", "\"30s\""]),
            ("[dht]\nannounce_budget = 50", &["dht.announce_budget", "50", "\"50/s\""]),
            ("[log]\nlevel = \"loud\"", &["log.level", "\"loud\"", "\"debug\""]),
            ("[proxy", &["line 1", "not valid TOML"]),
            ("proxy = true", &["proxy", "true", "write [proxy]"]),
        ];
        for (text, words) in cases {
            let place = Place::new();
            let config = place.file("mine.toml", text);
            let stderr = place.run(&["config", "check", "--config", config.to_str().unwrap()]).bad(2);
            has_all(&stderr, words);
            has_all(&stderr, &["error: ", "mine.toml"]);
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }

    #[test]
    fn mistakes_in_the_environment_name_the_variable() {
        let place = Place::new();
        let stderr = place.run_with(&["config", "check"], &[("APTPEER_CACHE_MAX_SIZE", "big")]).bad(2);
        has_all(&stderr, &["cache.max_size", "\"big\"", "APTPEER_CACHE_MAX_SIZE", "\"10GB\""]);
        let stderr = place.run_with(&["config", "check"], &[("APTPEER_CACHE_MAXSIZE", "1GB")]).bad(2);
        has_all(&stderr, &["APTPEER_CACHE_MAXSIZE", "\"1GB\"", "did you mean APTPEER_CACHE_MAX_SIZE?"]);
    }

    #[test]
    fn all_mistakes_are_told_a_line_each() {
        let place = Place::new();
        place.file(".config/aptpeer/config.toml", "[log]\nlevle = \"info\"\n");
        let config = place.file("a.toml", "[cache]\nmax_size = \"x\"\n[state]\npath = \"y\"\n");
        let arguments = ["config", "show", "--config", config.to_str().unwrap()];
        let stderr = place.run_with(&arguments, &[("APTPEER_LOG_FORMAT", "xml")]).bad(2);
        assert_eq!(stderr.lines().count(), 4, "{stderr}");
        has_all(&stderr, &["log.levle", "cache.max_size", "state.path", "log.format", "xml"]);
    }

    #[test]
    fn a_missing_file_is_told_by_name() {
        let stderr = Place::new().run(&["config", "check", "--config", "/nonexistent/a.toml"]).bad(2);
        has_all(&stderr, &["/nonexistent/a.toml", "No such file"]);
    }
}

/// A place with a cache of its own and three files to import, the second of several pieces.
fn seeded() -> (Place, Vec<aptpeer::digest::Sha256>) {
    let place = Place::new();
    let config = format!("[cache]\npath = \"{}\"\nmin_free_space = 0\n", place.path("cache").display());
    place.file(".config/aptpeer/config.toml", &config);
    let big: String = (0..900_000).map(|n| format!("{n:09}\n")).collect();
    let texts = ["one", big.as_str(), "three"];
    let files = ["files/a_1.0+b~c.deb", "files/sub/b.deb", "files/Packages"];
    for (name, text) in files.iter().zip(texts) {
        let path = place.file(name, text);
        // Others than root may write them: so they are copied, and what is done to the cache is not done to them.
        fs::set_permissions(path, fs::Permissions::from_mode(0o664)).unwrap();
    }
    let ids = texts.iter().map(|text| aptpeer::digest::Sha256::of(text.as_bytes())).collect();
    (place, ids)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

impl Place {
    fn import(&self) {
        self.run(&["seed", "import", "-r", self.path("files").to_str().unwrap()]).good();
    }

    /// The one file of the cache that holds the object.
    fn stored(&self, id: &str) -> PathBuf {
        self.path("cache").join("v1/objects").join(&id[..2]).join(id)
    }
}

mod seed {
    use super::*;

    #[test]
    fn import_prints_digest_size_and_path_of_each_file() {
        let (place, ids) = seeded();
        let files = place.path("files");
        let stdout = place.run(&["seed", "import", "-r", files.to_str().unwrap()]).good();
        let wanted =
            [(ids[2], 5, "Packages"), (ids[0], 3, "a_1.0+b~c.deb"), (ids[1], 9_000_000, "sub/b.deb")];
        let wanted: String = wanted
            .iter()
            .map(|(id, size, name)| format!("{id}  {size}  {}\n", files.join(name).display()))
            .collect();
        assert_eq!(stdout, wanted);
        assert_eq!(
            place.run(&["seed", "import", "-r", files.to_str().unwrap()]).good(),
            wanted,
            "a second time"
        );
        let listed = json(&place.run(&["seed", "list", "--json"]).good());
        assert_eq!(listed.as_array().unwrap().len(), 3);
        assert!(listed.as_array().unwrap().iter().all(|seed| seed["announce"] == true));
    }

    #[test]
    fn what_is_no_regular_file_is_skipped_with_a_word() {
        let (place, _) = seeded();
        std::os::unix::fs::symlink("/etc/hostname", place.path("files/link.deb")).unwrap();
        place.file("files/partial/half.deb", "half");
        place.file("files/lock", "");
        let ended = place.run(&["seed", "import", "-r", place.path("files").to_str().unwrap()]);
        assert_eq!((ended.code, ended.stdout.lines().count()), (0, 3), "{}", ended.stderr);
        has_all(
            &ended.stderr,
            &["link.deb", "no regular file", "unfinished downloads", "lock", "it is empty"],
        );
        assert_eq!(ended.stderr.lines().count(), 3, "{}", ended.stderr);
    }

    #[test]
    fn what_cannot_be_imported_is_told_and_the_rest_is_done() {
        let (place, ids) = seeded();
        let (directory, file) = (place.path("files"), place.path("files/Packages"));
        let paths =
            ["seed", "import", directory.to_str().unwrap(), "/nonexistent.deb", file.to_str().unwrap()];
        let ended = place.run(&paths);
        assert_eq!(ended.code, 1);
        has_all(&ended.stdout, &[&ids[2].to_string()]);
        has_all(&ended.stderr, &["add -r", "/nonexistent.deb: No such file", "2 paths were not imported"]);
    }

    #[test]
    fn seeds_may_be_silent() {
        let (place, _) = seeded();
        place
            .run(&["seed", "import", "--no-announce", place.path("files/Packages").to_str().unwrap()])
            .good();
        assert_eq!(json(&place.run(&["seed", "list", "--json"]).good())[0]["announce"], false);
        has_all(&place.run(&["seed", "list"]).good(), &["5 B", "seed silent"]);
    }

    #[test]
    fn a_full_cache_names_the_key_to_change() {
        let (place, _) = seeded();
        let file = place.path("files/sub/b.deb");
        let arguments = ["seed", "import", file.to_str().unwrap()];
        let stderr = place.run_with(&arguments, &[("APTPEER_CACHE_MAX_SIZE", "1MB")]).bad(1);
        has_all(&stderr, &["b.deb", "no room", "cache.max_size"]);
    }
}

mod cache {
    use super::*;

    #[test]
    fn list_and_stats_show_what_is_there() {
        let (place, ids) = seeded();
        assert_eq!(place.run(&["cache", "list"]).good(), "");
        assert_eq!(place.run(&["cache", "list", "--json"]).good(), "[]\n");
        place.import();
        let listed = json(&place.run(&["cache", "--json", "list"]).good());
        let found =
            listed.as_array().unwrap().iter().find(|entry| entry["sha256"] == ids[1].to_string()).unwrap();
        assert_eq!(
            (&found["size"], &found["pinned"], &found["origin"]),
            (&9_000_000.into(), &false.into(), &"seed".into())
        );
        has_all(&place.run(&["cache", "list"]).good(), &[&ids[1].to_string(), "9 MB", " ago  seed\n"]);
        let stats = json(&place.run(&["cache", "stats", "--json"]).good());
        assert_eq!((&stats["files"], &stats["bytes"]), (&3.into(), &9_000_008.into()));
        assert_eq!((&stats["max_size"], &stats["min_free_space"]), (&10_000_000_000_u64.into(), &0.into()));
        has_all(&place.run(&["cache", "stats"]).good(), &["9 MB of at most 10 GB"]);
    }

    #[test]
    fn pinned_files_survive_a_clear() {
        let (place, ids) = seeded();
        place.import();
        let id = ids[1].to_string();
        has_all(&place.run(&["cache", "pin", &id]).good(), &[&id, "pinned"]);
        let cleared = json(&place.run(&["cache", "clear", "--json"]).good());
        assert_eq!((&cleared["files"], &cleared["bytes"]), (&2.into(), &8.into()));
        has_all(&place.run(&["cache", "list"]).good(), &[&id, "pinned seed"]);
        assert_eq!(json(&place.run(&["cache", "unpin", &id, "--json"]).good())["pinned"], false);
        has_all(&place.run(&["cache", "clear"]).good(), &["removed 1 file (9 MB)"]);
        assert_eq!(place.run(&["cache", "list"]).good(), "");
    }

    #[test]
    fn export_gives_the_bytes_back() {
        let (place, ids) = seeded();
        place.import();
        let (id, target) = (ids[1].to_string(), place.file("out.deb", "old"));
        let wanted = fs::read(place.path("files/sub/b.deb")).unwrap();
        assert!(place.run(&["cache", "export", &id]).good().as_bytes() == wanted);
        assert_eq!(place.run(&["cache", "export", &id, "-o", target.to_str().unwrap()]).good(), "");
        assert!(fs::read(&target).unwrap() == wanted);
        assert_eq!(place.run(&["cache", "export", &id, "-o", "/dev/null"]).good(), "");
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        has_all(&place.run(&["cache", "export", &id, "--json"]).bad(2), &["--json", "-o FILE"]);
        has_all(
            &place.run(&["cache", "export", &id, "-o", "/nonexistent/x"]).bad(1),
            &[&id, "/nonexistent/x"],
        );
    }

    #[test]
    fn damage_is_found_told_and_never_exported() {
        let (place, ids) = seeded();
        place.import();
        let id = ids[1].to_string();
        damage(&place.stored(&id));
        let target = place.path("out.deb");
        has_all(
            &place.run(&["cache", "export", &id, "-o", target.to_str().unwrap()]).bad(1),
            &[&id, "damaged"],
        );
        assert!(!target.exists());
        let left = |name: &str| fs::read_dir(place.path(name)).unwrap().count();
        assert_eq!(left("."), 3, "a partial file is left behind");

        place.import();
        damage(&place.stored(&id));
        let ended = place.run(&["cache", "verify", "--json"]);
        assert_eq!(ended.code, 1);
        let found = json(&ended.stdout);
        assert_eq!((&found["whole_files"], &found["damaged"]), (&2.into(), &serde_json::json!([id])));
        has_all(&ended.stderr, &[&id, "1 file damaged"]);
        has_all(&place.run(&["cache", "verify"]).good(), &["2 files (8 B) whole"]);
    }

    /// Flips a bit in the last piece.
    fn damage(path: &Path) {
        use std::os::unix::fs::FileExt as _;
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 8_999_990).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 8_999_990).unwrap();
    }

    #[test]
    fn a_file_that_is_not_there_and_a_digest_that_is_none_are_told_apart() {
        let (place, ids) = seeded();
        let id = ids[0].to_string();
        for action in ["pin", "unpin", "export"] {
            has_all(
                &place.run(&["cache", action, &id]).bad(1),
                &[&id, "not in the cache", "aptpeer cache list"],
            );
            has_all(&place.run(&["cache", action, "abc"]).bad(2), &["abc", "64 hexadecimal digits"]);
        }
    }

    #[test]
    fn a_cache_that_cannot_be_made_names_path_and_key() {
        let place = Place::new();
        let file = place.file("file", "");
        let path = file.join("cache");
        let stderr =
            place.run_with(&["cache", "list"], &[("APTPEER_CACHE_PATH", path.to_str().unwrap())]).bad(1);
        has_all(&stderr, &["file/cache", "Not a directory", "cache.path"]);
    }
}

#[test]
fn the_document_of_the_configuration_is_what_config_init_writes() {
    let document = include_str!("../../docs/configuration.md");
    let (_, rest) = document.split_once("```toml\n").expect("the document has the file");
    let (file, _) = rest.split_once("```").expect("the file has an end");
    let output = Command::new(env!("CARGO_BIN_EXE_aptpeer")).args(["config", "init"]).output().unwrap();
    assert_eq!(
        file,
        String::from_utf8(output.stdout).unwrap(),
        "run `aptpeer config init` into docs/configuration.md"
    );
}

#[test]
fn commands_that_ask_the_daemon_say_when_there_is_none() {
    let place = Place::new();
    let state = place.path("state");
    let run = |command: &str| place.run_with(&[command], &[("APTPEER_STATE_PATH", state.to_str().unwrap())]);
    for command in ["peers", "status"] {
        has_all(&run(command).bad(1), &["no daemon runs", "state.path", "aptpeer daemon"]);
    }
    // Left behind by one that was killed.
    let record = r#"{"pid":1,"version":"0","proxy":null,"status":"127.0.0.1:1","peers":[],"dht":null}"#;
    place.file("state/daemon.json", record);
    has_all(&run("peers").bad(1), &["127.0.0.1:1", "does it still run?"]);
}
