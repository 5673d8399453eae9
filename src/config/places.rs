//! What the process finds around it: arguments, environment, and the usual places for files.

use super::keys::Settings;
use super::problem::Problem;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What the user typed on the command line that concerns the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Typed {
    /// The file of `--config`; it must exist.
    pub config: Option<PathBuf>,
    /// Flags that set a key: the key's name, the flag with its dashes, the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// What the process finds around it. A value, so that tests can make their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The environment.
    pub variables: BTreeMap<OsString, OsString>,
    /// The configuration file of the whole machine; need not exist.
    pub system_file: PathBuf,
    /// Whether we run as root.
    pub root: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            system_file: PathBuf::from("/etc/aptpeer/config.toml"),
            root: rustix::process::geteuid().is_root(),
        }
    }

    /// The configuration file of the user; need not exist.
    pub(super) fn user_file(&self) -> Option<PathBuf> {
        Some(self.base("XDG_CONFIG_HOME", ".config")?.join("aptpeer/config.toml"))
    }

    /// A folder below the user's home (XDG Base Directory Specification: a relative path is ignored).
    fn base(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        self.absolute(variable).or_else(|| Some(self.absolute("HOME")?.join(below_home)))
    }

    fn absolute(&self, variable: &str) -> Option<PathBuf> {
        let value = Path::new(self.variables.get(OsStr::new(variable))?);
        value.is_absolute().then(|| value.to_owned())
    }

    /// The folder that systemd made for the unit: the first where it made several (systemd.exec(5), `CacheDirectory=`).
    fn unit_folder(&self, variable: &str) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStrExt as _;
        let value = self.variables.get(OsStr::new(variable))?;
        let first = Path::new(OsStr::from_bytes(value.as_bytes().split(|byte| *byte == b':').next()?));
        first.is_absolute().then(|| first.to_owned())
    }

    fn cache_path(&self) -> Option<PathBuf> {
        if let Some(folder) = self.unit_folder("CACHE_DIRECTORY") {
            return Some(folder);
        }
        if self.root {
            return Some(PathBuf::from("/var/cache/aptpeer"));
        }
        Some(self.base("XDG_CACHE_HOME", ".cache")?.join("aptpeer"))
    }

    fn state_path(&self) -> Option<PathBuf> {
        if let Some(folder) = self.unit_folder("STATE_DIRECTORY") {
            return Some(folder);
        }
        if self.root {
            return Some(PathBuf::from("/var/lib/aptpeer"));
        }
        Some(self.base("XDG_STATE_HOME", ".local/state")?.join("aptpeer"))
    }

    /// Puts the usual places where the paths are empty.
    pub(super) fn settle(&self, settings: &mut Settings, problems: &mut Vec<Problem>) {
        let mut settle = |path: &mut PathBuf, usual: Option<PathBuf>, key| {
            if path.as_os_str().is_empty() {
                match usual {
                    Some(usual) => *path = usual,
                    None => problems.push(Problem::NoPlace { key }),
                }
            }
        };
        settle(&mut settings.cache.path, self.cache_path(), "cache.path");
        settle(&mut settings.state.path, self.state_path(), "state.path");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(root: bool, variables: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            system_file: PathBuf::from("/nonexistent"),
            root,
        }
    }

    #[test]
    fn folders_of_the_unit_come_before_the_usual_ones() {
        let unit = surroundings(true, &[("CACHE_DIRECTORY", "/c/one:/c/two"), ("STATE_DIRECTORY", "/s")]);
        assert_eq!(unit.cache_path(), Some("/c/one".into()));
        assert_eq!(unit.state_path(), Some("/s".into()));
    }

    #[test]
    fn root_uses_var_and_others_their_home() {
        let root = surroundings(true, &[("HOME", "/root")]);
        assert_eq!(root.cache_path(), Some("/var/cache/aptpeer".into()));
        assert_eq!(root.state_path(), Some("/var/lib/aptpeer".into()));
        let user = surroundings(false, &[("HOME", "/home/u"), ("XDG_STATE_HOME", "relative")]);
        assert_eq!(user.cache_path(), Some("/home/u/.cache/aptpeer".into()));
        assert_eq!(user.state_path(), Some("/home/u/.local/state/aptpeer".into()));
        assert_eq!(user.user_file(), Some("/home/u/.config/aptpeer/config.toml".into()));
        assert_eq!(surroundings(false, &[]).cache_path(), None);
    }
}
