//! `node.id` in the state directory: the name of this node on the local network, and the mark of the machine that it was made on.

use std::fs;
use std::io;
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::{info, warn};

use crate::digest::Sha256;
use crate::swarm::NodeId;

/// What tells this machine from a copy of its disk, where that was prepared as machine-id(5) wants it.
const MACHINE_ID: &str = "/etc/machine-id";

/// The node's name; a new one where there is none, or none that can be read, or where it was made on another machine: of two with
/// one name, each would take the other for itself, and the others would know one of them at a time.
pub(super) fn of(state: &Path) -> io::Result<NodeId> {
    of_machine(state, fs::read(MACHINE_ID).ok().as_deref())
}

fn of_machine(state: &Path, machine: Option<&[u8]>) -> io::Result<NodeId> {
    let path = state.join("node.id");
    let mark = machine.map(mark_of);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mut words = text.split_whitespace();
            let (id, made_on) = (words.next().and_then(|word| word.parse().ok()), words.next());
            match (id, made_on, &mark) {
                (None, ..) => {
                    warn!(path = %path.display(), "the node's name cannot be read: it gets a new one");
                }
                (Some(_), Some(made_on), Some(mark)) if made_on != mark => {
                    info!(path = %path.display(), "the node's name was made on another machine: it gets a new one");
                }
                (Some(id), None, Some(_)) => {
                    // Without it nothing is lost but that a copy of this disk is not noticed.
                    let _ = write(&path, &id, mark.as_deref());
                    return Ok(id);
                }
                (Some(id), ..) => return Ok(id),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0; NodeId::LENGTH];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let id = NodeId::new(bytes);
    write(&path, &id, mark.as_deref())?;
    Ok(id)
}

/// What is kept of a machine's id, which is not to be known elsewhere (machine-id(5)).
fn mark_of(machine: &[u8]) -> String {
    let mark = Sha256::of(&[b"aptpeer node.id\n", machine.trim_ascii()].concat());
    mark.to_string()[..16].to_owned()
}

fn write(path: &Path, id: &NodeId, mark: Option<&str>) -> io::Result<()> {
    let new = path.with_extension("id.new");
    fs::write(&new, format!("{id} {}\n", mark.unwrap_or_default()))?;
    fs::rename(new, path)
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

    #[test]
    fn a_copy_of_the_disk_on_another_machine_gets_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (Some(&b"0123456789abcdef\n"[..]), Some(&b"fedcba9876543210\n"[..]));
        let id = of_machine(folder.path(), here).unwrap();
        assert_eq!(of_machine(folder.path(), here).unwrap(), id);
        assert_eq!(of_machine(folder.path(), None).unwrap(), id, "nobody knows where it is");
        let copy = of_machine(folder.path(), there).unwrap();
        assert_ne!(copy, id);
        assert_eq!(of_machine(folder.path(), there).unwrap(), copy);
        let text = fs::read_to_string(folder.path().join("node.id")).unwrap();
        assert!(!text.contains("fedcba9876543210"), "the machine's id is kept to itself: {text}");
    }

    #[test]
    fn a_name_without_a_mark_stays_and_gets_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("node.id"), "0001020304050607\n").unwrap();
        let id = of_machine(folder.path(), Some(b"here")).unwrap();
        assert_eq!(id, NodeId::new([0, 1, 2, 3, 4, 5, 6, 7]));
        assert_ne!(of_machine(folder.path(), Some(b"there")).unwrap(), id);
    }
}
