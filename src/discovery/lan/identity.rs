//! `node.id` in the state directory: the name of this node on the local network.

use std::fs;
use std::io;
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::warn;

use crate::swarm::NodeId;

/// The node's name; a new one where there is none, or none that can be read.
pub(super) fn of(state: &Path) -> io::Result<NodeId> {
    let path = state.join("node.id");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(id) => return Ok(id),
            Err(_) => warn!(path = %path.display(), "the node's name cannot be read: it gets a new one"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0; NodeId::LENGTH];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let id = NodeId::new(bytes);
    let new = state.join("node.id.new");
    fs::write(&new, format!("{id}\n"))?;
    fs::rename(new, path)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let id = of(folder.path()).unwrap();
        assert_eq!(of(folder.path()).unwrap(), id);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(of(other.path()).unwrap(), id);
    }

    #[test]
    fn rubbish_is_replaced_by_a_new_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("node.id"), "me").unwrap();
        let id = of(folder.path()).unwrap();
        assert_eq!(of(folder.path()).unwrap(), id);
    }
}
