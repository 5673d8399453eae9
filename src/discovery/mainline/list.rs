//! An object's piece list as the values that stand for it in the DHT.

use super::Dht;
use crate::dht::{Ended, OwnedItem, Signer};
use crate::digest::Sha256;
use crate::wire::{LIST_SEQUENCE, ListItems, Swarm};

/// The values for the list of `object`: those that the last one names first. Signed by `publisher`, or with the key that
/// everybody in `swarm` can derive from the object. `None` where an object of this length, with these inner states, has no list in
/// the DHT (docs/protocol.md).
pub fn list_items(
    object: &Sha256,
    length: u64,
    states: &[[u8; 32]],
    publisher: Option<&Signer>,
    swarm: &Swarm,
) -> Option<Vec<OwnedItem>> {
    let list = ListItems::veiled(length, states, &swarm.veil(object))?;
    let mut items = list
        .chunks
        .iter()
        .map(|chunk| OwnedItem::immutable(&chunk.value).ok())
        .collect::<Option<Vec<_>>>()?;
    let head = match publisher {
        Some(signer) => signer.sign(&list.head, &swarm.list_salt(object), LIST_SEQUENCE),
        None => Signer::from_seed(&swarm.list_seed(object))?.sign(&list.head, b"", LIST_SEQUENCE),
    };
    items.push(head.ok()?);
    Some(items)
}

impl Dht {
    /// Stores the values of a list, one after the other. What it came to: nodes that took the last one, datagrams of
    /// all. A value that nobody takes does not keep the others: it may be there already.
    pub async fn store_list(&self, items: Vec<OwnedItem>) -> Ended {
        let mut sum = Ended::default();
        for item in items {
            let ended = self.store(item).await.unwrap_or_default();
            sum = Ended { datagrams: sum.datagrams.saturating_add(ended.datagrams), ..ended };
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::PIECE_LENGTH;

    #[test]
    fn a_long_list_is_stored_from_its_leaves_up() {
        let object = Sha256::of(b"object");
        let states = vec![[7; 32]; 30];
        let items = list_items(&object, 30 * PIECE_LENGTH + 1, &states, None, &Swarm::PUBLIC).unwrap();
        assert_eq!(items.len(), 3);
        assert!(items[..2].iter().all(|item| item.seq().is_none()));
        assert_eq!(items[2].seq(), Some(1));
        let signer = Signer::from_seed(&[1; 32]).unwrap();
        let signed =
            list_items(&object, 30 * PIECE_LENGTH + 1, &states, Some(&signer), &Swarm::PUBLIC).unwrap();
        assert_eq!(signed[..2], items[..2], "the leaves are nobody's");
        assert_eq!(signed[2].target(), signer.target(object.as_bytes()));
        assert_eq!(list_items(&object, 100, &[], None, &Swarm::PUBLIC), None, "one piece has no list");
    }
}
