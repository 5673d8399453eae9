//! What a Debian repository says about its files: paths, stanzas, Release, Packages and Sources.
//!
//! Everything here is pure: it reads bytes that somebody else brings and yields (path, length, SHA-256).

mod clearsign;
mod installed;
mod packages;
mod path;
mod release;
mod sources;
mod stanza;
mod version;

pub use clearsign::{ClearsignError, Clearsigned};
pub use installed::{Installed, Newer};
pub use packages::{read_packages, read_upgrades};
pub use path::{ByHash, MAX_DEPTH, MAX_PATH, PathError, RepoPath, RepoUrl};
pub use release::{MAX_RELEASE, Release, ReleaseError, ReleaseFile, Weaker};
pub use sources::read_sources;
pub use stanza::{Line, Lines, MAX_LINE};
pub use version::{MAX_VERSION, Version};
