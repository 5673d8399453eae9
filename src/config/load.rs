//! Gathering: defaults, files, environment, flags, each over the one before; then one look at the whole.

use super::files::{cut, nearest, read_file};
use super::keys::{KEYS, Settings};
use super::places::{Surroundings, Typed};
use super::problem::{ConfigError, Origin, Problem, Warning};
use super::table::{Effect, Key, VARIABLE_PREFIX};
use super::values::Setting;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What container platforms add to the environment of a program that is called `aptpeer` there; not meant for us.
const FOREIGN_VARIABLES: &[&str] = &["APTPEER_SERVICE_", "APTPEER_PORT"];

/// A configuration that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Every value.
    pub settings: Settings,
    /// Where each value came from, in the order of [`KEYS`].
    pub origins: Vec<Origin>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    /// The files that were read, the most important first.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration: flags before environment before `--config` before the machine's file before the user's
/// file before the defaults, key by key.
///
/// # Errors
/// Every problem that was found, not only the first.
pub fn load(typed: &Typed, around: &Surroundings) -> Result<Loaded, ConfigError> {
    let mut reader = Reader::default();
    let files = read_files(typed, around, &mut reader);
    read_variables(around, &mut reader);
    read_flags(typed, &mut reader);

    let settings = Settings::read(&mut reader);
    if let Some(settings) = &settings {
        check_exposure(settings, &mut reader);
        check_ports(settings, &mut reader);
    }
    let mut problems = std::mem::take(&mut reader.problems);
    match settings {
        Some(mut settings) => {
            let warnings = warnings(&settings, &reader);
            around.settle(&mut settings, &mut problems);
            if problems.is_empty() {
                return Ok(Loaded { settings, origins: reader.origins(), warnings, files });
            }
            Err(ConfigError { problems })
        }
        None => Err(ConfigError { problems }),
    }
}

/// From the least important to the most important, so that later ones win.
fn read_files(typed: &Typed, around: &Surroundings, reader: &mut Reader) -> Vec<PathBuf> {
    let usual = [around.user_file(), Some(around.system_file.clone())];
    let usual = usual.into_iter().flatten().filter(|path| Some(path) != typed.config.as_ref());
    let mut files = Vec::new();
    for path in usual {
        if read_file(&path, false, reader) {
            files.push(path);
        }
    }
    if let Some(path) = &typed.config
        && read_file(path, true, reader)
    {
        files.push(path.clone());
    }
    files.reverse();
    files
}

fn read_variables(around: &Surroundings, reader: &mut Reader) {
    for (name, value) in &around.variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else { continue };
        if FOREIGN_VARIABLES.iter().any(|foreign| name.starts_with(foreign)) {
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
            let near = nearest(name, KEYS.iter().map(|key| (key.variable(), key.variable())));
            let advice = match near {
                Some(near) => format!("did you mean {near}?"),
                None => "the names are those of the keys, such as APTPEER_PROXY_LISTEN for proxy.listen"
                    .to_owned(),
            };
            let value = cut(&format!("{value:?}"));
            reader.note(Problem::UnknownVariable { name: name.to_owned(), value, advice });
            continue;
        };
        let origin = Origin::Variable(name.to_owned());
        match value.to_str() {
            Some(text) => reader.give(key, Given { raw: Raw::Text(text.to_owned()), origin }),
            None => reader.note(Problem::Refused {
                key: key.name.to_owned(),
                value: cut(&format!("{value:?}")),
                origin,
                allowed: format!("{}, in UTF-8", key.allowed),
            }),
        }
    }
}

fn read_flags(typed: &Typed, reader: &mut Reader) {
    for (name, flag, text) in &typed.flags {
        if let Some(key) = KEYS.iter().find(|key| key.name == *name) {
            reader.give(key, Given { raw: Raw::Text(text.clone()), origin: Origin::Flag(flag) });
        }
    }
}

/// An open proxy is a present to strangers: it has to be asked for.
fn check_exposure(settings: &Settings, reader: &mut Reader) {
    let listen = settings.proxy.listen;
    if listen.ip().is_loopback() || reader.origin("proxy.allow_clients") != Origin::Default {
        return;
    }
    reader.note(Problem::Refused {
        key: "proxy.listen".to_owned(),
        value: format!("\"{listen}\""),
        origin: reader.origin("proxy.listen"),
        allowed: "an address of this machine alone, such as \"127.0.0.1:9977\", unless proxy.allow_clients says which \
                  networks may use the proxy, such as allow_clients = [\"127.0.0.0/8\", \"192.168.0.0/16\"]"
            .to_owned(),
    });
}

/// Two TCP listeners cannot share an address; the second would fail with a text that names neither key.
fn check_ports(settings: &Settings, reader: &mut Reader) {
    let mut taken: Vec<(&str, SocketAddr)> = vec![("proxy.listen", settings.proxy.listen)];
    let peers = settings.network.listen.iter().map(|address| ("network.listen", *address));
    for (key, address) in std::iter::once(("status.listen", settings.status.listen)).chain(peers) {
        let clash = taken.iter().find(|(_, other)| *other == address && address.port() != 0);
        if let Some((other, _)) = clash {
            reader.note(Problem::Refused {
                key: key.to_owned(),
                value: format!("\"{address}\""),
                origin: reader.origin(key),
                allowed: format!("an address that {other} does not have already"),
            });
        }
        taken.push((key, address));
    }
}

fn warnings(settings: &Settings, reader: &Reader) -> Vec<Warning> {
    let later = KEYS.iter().zip(settings.to_toml()).filter_map(|(key, value)| {
        let Effect::Later { off } = key.effect else { return None };
        let value = value.to_string();
        let silent = value == canonical(key.default) || off.is_some_and(|off| value == canonical(off));
        (!silent).then(|| Warning::NoEffect { key: key.name, value, origin: reader.origin(key.name) })
    });
    let mut warnings: Vec<_> = later.collect();
    let listen = settings.proxy.listen;
    let local = |net: &ipnet::IpNet| net.addr().is_loopback();
    if !listen.ip().is_loopback() && settings.proxy.allow_clients.iter().all(local) {
        warnings.push(Warning::NobodyAdmitted { listen: listen.to_string() });
    }
    warnings
}

/// The same value as our own writer spells it.
fn canonical(text: &str) -> String {
    parse(text).map_or_else(|| text.to_owned(), |value| value.to_string())
}

fn parse(text: &str) -> Option<toml::Value> {
    use serde::Deserialize as _;
    toml::Value::deserialize(toml::de::ValueDeserializer::parse(text).ok()?).ok()
}

/// A value as it was given.
#[derive(Debug)]
pub(super) enum Raw {
    /// In a file.
    Toml(toml::Value),
    /// In a variable or a flag.
    Text(String),
}

#[derive(Debug)]
pub(super) struct Given {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// The values given so far, the most important of each key, and every problem.
#[derive(Debug, Default)]
pub(super) struct Reader {
    given: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
}

impl Reader {
    /// Puts a value over the one that was given before.
    pub(super) fn give(&mut self, key: &Key, given: Given) {
        self.given.insert(key.name, given);
    }

    pub(super) fn note(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The value of a key, or `None` after noting why it is refused.
    pub(super) fn value<T: Setting>(&mut self, name: &'static str) -> Option<T> {
        let parsed = match self.given.get(name) {
            Some(Given { raw: Raw::Toml(value), .. }) => T::from_toml(value),
            Some(Given { raw: Raw::Text(text), .. }) => T::from_text(text),
            None => {
                let default = KEYS.iter().find(|key| key.name == name).and_then(|key| parse(key.default));
                default.map_or(Err(super::values::Refused(String::new())), |value| T::from_toml(&value))
            }
        };
        parsed
            .map_err(|refused| {
                let origin = self.origin(name);
                let value = cut(&refused.0);
                let allowed = T::ALLOWED.to_owned();
                self.note(Problem::Refused { key: name.to_owned(), value, origin, allowed });
            })
            .ok()
    }

    fn origin(&self, name: &str) -> Origin {
        self.given.get(name).map_or(Origin::Default, |given| given.origin.clone())
    }

    fn origins(&self) -> Vec<Origin> {
        KEYS.iter().map(|key| self.origin(key.name)).collect()
    }

    #[cfg(test)]
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Place {
        folder: tempfile::TempDir,
        around: Surroundings,
        typed: Typed,
    }

    /// A machine with an empty environment and a home.
    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join(".config/aptpeer")).unwrap();
        let around = Surroundings {
            variables: BTreeMap::from([("HOME".into(), home.into())]),
            system_file: folder.path().join("etc.toml"),
            root: false,
        };
        Place { folder, around, typed: Typed::default() }
    }

    impl Place {
        fn user(self, text: &str) -> Self {
            fs::write(self.folder.path().join("home/.config/aptpeer/config.toml"), text).unwrap();
            self
        }

        fn system(self, text: &str) -> Self {
            fs::write(&self.around.system_file, text).unwrap();
            self
        }

        fn named(mut self, text: &str) -> Self {
            let path = self.folder.path().join("named.toml");
            fs::write(&path, text).unwrap();
            self.typed.config = Some(path);
            self
        }

        fn variable(mut self, name: &str, value: &str) -> Self {
            self.around.variables.insert(name.into(), value.into());
            self
        }

        fn load(&self) -> Loaded {
            load(&self.typed, &self.around).unwrap()
        }

        fn problems(&self) -> Vec<String> {
            load(&self.typed, &self.around).unwrap_err().problems.iter().map(ToString::to_string).collect()
        }
    }

    fn sizes(text: &str) -> String {
        format!("[cache]\nmax_size = \"{text}\"\n")
    }

    #[test]
    fn each_layer_wins_over_the_one_below() {
        let size = |place: &Place| place.load().settings.cache.max_size.bytes();
        let place = place();
        assert_eq!(size(&place), 10_000_000_000);
        let place = place.user(&sizes("1MB"));
        assert_eq!(size(&place), 1_000_000);
        let place = place.system(&sizes("2MB"));
        assert_eq!(size(&place), 2_000_000);
        let place = place.named(&sizes("3MB"));
        assert_eq!(size(&place), 3_000_000);
        let place = place.variable("APTPEER_CACHE_MAX_SIZE", "4MB");
        assert_eq!(size(&place), 4_000_000);
        let mut place = place;
        place.typed.flags.push(("cache.max_size", "--max-size", "5MB".to_owned()));
        assert_eq!(size(&place), 5_000_000);
    }

    #[test]
    fn layers_are_mixed_key_by_key() {
        let place = place()
            .user("[log]\nlevel = \"debug\"\nformat = \"json\"\n")
            .system("[log]\nlevel = \"warn\"\n")
            .variable("APTPEER_NETWORK_PEERS", "a.example.org:1, b.example.org:2");
        let loaded = place.load();
        assert_eq!(loaded.settings.log.level, super::super::LogLevel::Warn);
        assert_eq!(loaded.settings.log.format, super::super::LogFormat::Json);
        let peers: Vec<_> = loaded.settings.network.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["a.example.org:1", "b.example.org:2"]);
        assert_eq!(loaded.files.len(), 2);
        assert_eq!(loaded.files[0], place.around.system_file);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems = place()
            .user("[cache]\nmaxsize = 5\n")
            .named("[cache]\nmax_size = \"big\"\n[proxy]\nlisten = \"localhost\"\n")
            .variable("APTPEER_LOG_LEVEL", "loud")
            .variable("APTPEER_LOG_LEVLE", "info")
            .problems();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        let has = |words: &[&str]| {
            assert!(
                problems.iter().any(|p| words.iter().all(|w| p.contains(w))),
                "{words:?} in {problems:#?}"
            );
        };
        has(&["cache.maxsize", "5", "config.toml line 2", "cache.max_size"]);
        has(&["cache.max_size = \"big\"", "named.toml line 2", "10GB"]);
        has(&["proxy.listen = \"localhost\"", "named.toml line 4", "127.0.0.1:9977"]);
        has(&["log.level = \"loud\"", "APTPEER_LOG_LEVEL", "\"trace\""]);
        has(&["APTPEER_LOG_LEVLE", "did you mean APTPEER_LOG_LEVEL?"]);
    }

    #[test]
    fn broken_toml_names_file_and_line() {
        let problems = place().named("[cache]\nmax_size = \n").problems();
        assert!(problems[0].contains("named.toml line 2 is not valid TOML"), "{problems:?}");
    }

    #[test]
    fn a_key_outside_its_section_and_a_section_that_is_none_are_told() {
        let problems =
            place().named("max_size = \"1GB\"\nproxy = 3\nnothing = {}\ncache.path.x = 1\n").problems();
        assert!(problems.iter().any(|p| p.contains("unknown key max_size") && p.contains("cache.max_size")));
        assert!(problems.iter().any(|p| p.contains("proxy = 3") && p.contains("write [proxy]")));
        assert!(problems.iter().any(|p| p.contains("unknown key nothing")));
        assert!(
            problems.iter().any(|p| p.contains("cache.path = ") && p.contains("absolute path")),
            "{problems:?}"
        );
    }

    #[test]
    fn a_number_beyond_64_bits_is_a_problem_like_others() {
        let problems = place().named("[cache]\nmax_size = 99999999999999999999999\n").problems();
        assert!(problems[0].contains("cache.max_size = 99999999999999999999999"), "{problems:?}");
    }

    #[test]
    fn a_missing_file_matters_only_if_it_was_named() {
        let mut place = place();
        assert!(place.load().files.is_empty());
        place.typed.config = Some("/nonexistent/aptpeer.toml".into());
        assert!(place.problems()[0].contains("/nonexistent/aptpeer.toml"));
    }

    #[test]
    fn a_file_that_was_named_is_not_read_twice() {
        let mut place = place().system("[cache]\nmaxsize = 1\n");
        place.typed.config = Some(place.around.system_file.clone());
        assert_eq!(place.problems().len(), 1);
    }

    #[test]
    fn an_open_proxy_must_say_for_whom() {
        let open = "[proxy]\nlisten = \"0.0.0.0:9977\"\n";
        let problems = place().named(open).problems();
        assert!(problems[0].contains("proxy.listen = \"0.0.0.0:9977\""), "{problems:?}");
        assert!(problems[0].contains("proxy.allow_clients"), "{problems:?}");

        let allowed = format!("{open}allow_clients = [\"192.168.0.0/16\"]\n");
        assert!(place().named(&allowed).load().warnings.is_empty());
        let useless = format!("{open}allow_clients = [\"127.0.0.0/8\"]\n");
        let warnings = place().named(&useless).load().warnings;
        assert_eq!(warnings, [Warning::NobodyAdmitted { listen: "0.0.0.0:9977".to_owned() }]);
    }

    #[test]
    fn two_listeners_cannot_share_an_address() {
        let problems = place().named("[status]\nlisten = \"127.0.0.1:9977\"\n").problems();
        assert!(
            problems[0].contains("status.listen") && problems[0].contains("proxy.listen"),
            "{problems:?}"
        );
        let any = "[status]\nlisten = \"127.0.0.1:0\"\n[proxy]\nlisten = \"127.0.0.1:0\"\n";
        place().named(any).load();
    }

    #[test]
    fn what_works_or_is_off_earns_no_warning() {
        let quiet = "[dht]\nenabled = false\nannounce_interval = \"25m\"\n[lan]\nenabled = true\n[privacy]\nannounce = false\n";
        assert_eq!(place().named(quiet).load().warnings, []);
        let private =
            "[swarm]\nsecret_file = \"/etc/key\"\n[privacy]\nlan_only = true\nannounce = \"always\"\n";
        assert_eq!(place().named(private).load().warnings, []);
    }

    #[test]
    fn variables_of_container_platforms_are_not_ours() {
        place()
            .variable("APTPEER_SERVICE_HOST", "10.0.0.1")
            .variable("APTPEER_PORT_9977_TCP", "tcp://x")
            .load();
    }

    #[test]
    fn without_a_home_the_places_must_be_given() {
        let mut place = place();
        place.around.variables.clear();
        let problems = place.problems();
        assert!(problems[0].contains("cache.path") && problems[1].contains("state.path"), "{problems:?}");
        let place = place.named("[cache]\npath = \"/c\"\n[state]\npath = \"/s\"\n");
        assert_eq!(place.load().settings.state.path, PathBuf::from("/s"));
    }
}
