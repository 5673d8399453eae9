//! Whether the daemon can read a file that it is to serve in place: it runs as a user of its own, and systemd may hide
//! folders from it.

use crate::config::Settings;
use crate::daemon::Record;
use rustix::process::geteuid;
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The right to read a file, and to pass through a folder, in the three bits of a class (inode(7)).
const READ: u32 = 0o4;
const PASS: u32 = 0o1;

/// The daemon, as far as files are concerned.
#[derive(Debug)]
pub(super) struct Reader {
    user: u32,
    groups: Vec<u32>,
    /// The root of the file system as the daemon sees it.
    root: Option<PathBuf>,
    /// What was found of folders: why they keep the daemon out.
    folders: HashMap<PathBuf, Option<String>>,
}

impl Reader {
    /// The daemon that runs on the settings' state; while none runs, whoever owns the cache. `None` where that is nobody
    /// but us.
    pub(super) fn of_daemon(settings: &Settings) -> Option<Self> {
        Self::running(&settings.state.path).or_else(|| {
            let owner = fs::metadata(&settings.cache.path).ok()?;
            (owner.uid() != geteuid().as_raw()).then(|| Self::new(owner.uid(), vec![owner.gid()], None))
        })
    }

    fn new(user: u32, groups: Vec<u32>, root: Option<PathBuf>) -> Self {
        Self { user, groups, root, folders: HashMap::new() }
    }

    /// By what Linux tells of the process (proc_pid_status(5), proc_pid_root(5)).
    fn running(state: &Path) -> Option<Self> {
        let process = PathBuf::from(format!("/proc/{}", Record::read(state)?.pid));
        let status = fs::read_to_string(process.join("status")).ok()?;
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().filter_map(|number| number.parse().ok()).collect())
        };
        // Real, effective, saved, and that for files.
        let user = *numbers("Uid:")?.get(3)?;
        let mut groups = numbers("Groups:").unwrap_or_default();
        groups.extend(numbers("Gid:")?.get(3));
        let root = process.join("root");
        // Only root may look there, as a rule.
        let root = fs::metadata(&root).is_ok().then_some(root);
        Some(Self::new(user, groups, root))
    }

    /// Whether the daemon may read the file at `path`.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn may_read(&mut self, path: &Path) -> Result<(), String> {
        // What cannot be looked at is told by the import.
        let Ok(full) = path.canonicalize() else { return Ok(()) };
        if let Some(why) = full.parent().and_then(|folder| self.closed(folder)) {
            return Err(why);
        }
        match fs::metadata(&full) {
            Ok(metadata) if !self.has(&full, &metadata, READ) => {
                Err(format!("the daemon (user id {}) may not read it: `chmod o+r` lets it", self.user))
            }
            _ => Ok(()),
        }
    }

    /// Why the daemon cannot pass through `folder`.
    fn closed(&mut self, folder: &Path) -> Option<String> {
        if let Some(known) = self.folders.get(folder) {
            return known.clone();
        }
        let above = folder.parent().and_then(|parent| self.closed(parent));
        let found = above.or_else(|| self.judge(folder));
        self.folders.insert(folder.to_owned(), found.clone());
        found
    }

    fn judge(&self, folder: &Path) -> Option<String> {
        let metadata = fs::metadata(folder).ok()?;
        if let Some(seen) =
            self.root.as_ref().map(|root| root.join(folder.strip_prefix("/").unwrap_or(folder)))
            && !fs::metadata(seen)
                .is_ok_and(|seen| (seen.dev(), seen.ino()) == (metadata.dev(), metadata.ino()))
        {
            return Some(format!(
                "{} is hidden from the daemon (ProtectHome or PrivateTmp of its unit): move the files elsewhere, or give it \
                 that folder with BindReadOnlyPaths= in `systemctl edit aptpeer`",
                folder.display()
            ));
        }
        (!self.has(folder, &metadata, PASS)).then(|| {
            let (folder, user) = (folder.display(), self.user);
            format!("the daemon (user id {user}) may not enter {folder}: `chmod o+x {folder}` lets it")
        })
    }

    fn has(&self, path: &Path, metadata: &Metadata, right: u32) -> bool {
        let class = if metadata.uid() == self.user {
            6
        } else if self.groups.contains(&metadata.gid()) {
            3
        } else {
            0
        };
        // Access control lists may say more than the mode (acl(5)); the daemon tells if they do not.
        self.user == 0 || metadata.mode() >> class & right != 0 || has_list(path)
    }
}

fn has_list(path: &Path) -> bool {
    let empty: &mut [u8] = &mut [];
    rustix::fs::getxattr(path, c"system.posix_acl_access", empty).is_ok_and(|length| length > 0)
}
