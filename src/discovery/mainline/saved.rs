//! What a node keeps over a restart: its id, nodes that answered, and where it was.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dht::Id;

/// The name of the file in the state directory.
const SAVED_NODES: &str = "dht.json";

/// The most that is read of the file; it has some 10 KiB.
const LONGEST: u64 = 1 << 20;

/// The id and the good nodes of a node, the best first, and where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) id: Id,
    pub(super) nodes: Vec<SocketAddr>,
    /// By which addresses others saw us.
    pub(super) external: Vec<IpAddr>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    id: String,
    nodes: Vec<SocketAddr>,
    #[serde(default)]
    external: Vec<IpAddr>,
}

impl Saved {
    /// What was saved in `folder`; `None` where there is nothing, or nothing that can be read.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let path = folder.join(SAVED_NODES);
        if fs::metadata(&path).ok()?.len() > LONGEST {
            return None;
        }
        let document: Document = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let Document { id, nodes, external } = document;
        Some(Self { id: id.parse().ok()?, nodes, external })
    }

    /// Writes it, in one step.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let document =
            Document { id: self.id.to_string(), nodes: self.nodes.clone(), external: self.external.clone() };
        let path = folder.join(SAVED_NODES);
        let new = path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec(&document).map_err(io::Error::other)?)?;
        fs::rename(new, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_rubbish_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Saved::read(folder.path()), None);
        let nodes = vec!["1.2.3.4:5".parse().unwrap(), "[2a00::1]:6".parse().unwrap()];
        let external = vec![[1, 2, 3, 4].into()];
        let saved = Saved { id: Id::new([0xab; 20]), nodes, external };
        saved.write(folder.path()).unwrap();
        assert_eq!(Saved::read(folder.path()), Some(saved));
        for rubbish in ["", "{}", r#"{"id":"zz","nodes":[]}"#, r#"{"id":"","nodes":["x"]}"#] {
            fs::write(folder.path().join(SAVED_NODES), rubbish).unwrap();
            assert_eq!(Saved::read(folder.path()), None, "{rubbish}");
        }
    }
}
