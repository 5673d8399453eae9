//! Peers that were looked for before anybody wanted the object: a later download begins with them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Discovery, Outlook, Provider};
use crate::clock;
use crate::digest::Sha256;
use crate::swarm::PeerKind;
use crate::swarm::lookahead::MEMORY;

/// The most objects that peers are remembered of, several runs of the look-ahead; the oldest makes room.
const OBJECTS: usize = 256;

/// Peers of one object: as many strangers as a download takes.
const PEERS: usize = 32;

/// What look-ups ahead have found. Strangers all, whatever they are to others.
#[derive(Debug, Default)]
pub struct Remembered {
    found: Mutex<HashMap<Sha256, Found>>,
}

#[derive(Debug)]
struct Found {
    at: Instant,
    peers: Vec<SocketAddr>,
}

impl Remembered {
    /// A look-up has found a peer of `object`.
    pub fn add(&self, object: &Sha256, peer: SocketAddr) {
        let now = clock::now();
        let mut found = self.lock();
        if !found.contains_key(object) && found.len() >= OBJECTS {
            found.retain(|_, found| now < found.at + MEMORY);
            if found.len() >= OBJECTS {
                let oldest = found.iter().min_by_key(|(_, found)| found.at).map(|(object, _)| *object);
                oldest.map(|object| found.remove(&object));
            }
        }
        let of_object = found.entry(*object).or_insert_with(|| Found { at: now, peers: Vec::new() });
        if now >= of_object.at + MEMORY {
            *of_object = Found { at: now, peers: Vec::new() };
        }
        if of_object.peers.len() < PEERS && !of_object.peers.contains(&peer) {
            of_object.peers.push(peer);
        }
    }

    fn peers(&self, object: &Sha256) -> Vec<SocketAddr> {
        let now = clock::now();
        let found = self.lock();
        found
            .get(object)
            .filter(|found| now < found.at + MEMORY)
            .map(|found| found.peers.clone())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sha256, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery for Remembered {
    fn providers(&self, object: &Sha256) -> Vec<Provider> {
        let stranger = |address| Provider { address, kind: PeerKind::Stranger };
        self.peers(object).into_iter().map(stranger).collect()
    }

    /// They announced that they hold it, which is their word; how soon they answer is not known.
    fn outlook(&self, object: &Sha256, _archive: Option<&Sha256>) -> Outlook {
        let named_by = self.peers(object).into_iter().map(|peer| (peer, Duration::ZERO)).collect();
        Outlook { named_by, ..Outlook::default() }
    }

    fn note_unreachable(&self, address: SocketAddr) {
        self.lock().values_mut().for_each(|found| found.peers.retain(|peer| *peer != address));
    }

    fn tried(&self, object: &Sha256, peer: SocketAddr, had_it: bool) {
        if !had_it && let Some(found) = self.lock().get_mut(object) {
            found.peers.retain(|other| *other != peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> SocketAddr {
        ([9, 9, 9, 9], number).into()
    }

    #[test]
    fn a_download_begins_with_those_who_were_found_and_not_with_those_who_are_gone() {
        let (remembered, object, other) = (Remembered::default(), Sha256::of(b"1"), Sha256::of(b"2"));
        (1..=3).for_each(|number| remembered.add(&object, peer(number)));
        remembered.add(&object, peer(1));
        remembered.add(&other, peer(2));
        let known = |object: &Sha256| -> Vec<SocketAddr> {
            let providers = remembered.providers(object);
            assert!(providers.iter().all(|provider| provider.kind == PeerKind::Stranger));
            providers.into_iter().map(|provider| provider.address).collect()
        };
        assert_eq!(known(&object), [peer(1), peer(2), peer(3)]);
        remembered.tried(&object, peer(1), false);
        remembered.tried(&object, peer(3), true);
        remembered.note_unreachable(peer(2));
        assert_eq!(known(&object), [peer(3)]);
        assert_eq!(known(&other), []);
        let outlook = remembered.outlook(&object, None);
        assert_eq!(outlook.named_by, [(peer(3), Duration::ZERO)]);
        assert!(!outlook.covered && outlook.lacking.is_empty());
    }

    #[test]
    fn it_is_forgotten_in_time_and_bounded() {
        let (remembered, object) = (Remembered::default(), Sha256::of(b"1"));
        (0..999).for_each(|number| remembered.add(&object, peer(number)));
        assert_eq!(remembered.providers(&object).len(), PEERS);
        if let Some(found) = remembered.lock().get_mut(&object) {
            found.at = clock::now().checked_sub(MEMORY).unwrap();
        }
        assert_eq!(remembered.providers(&object), []);
        remembered.add(&object, peer(1));
        assert_eq!(remembered.providers(&object).len(), 1);
        (0..999_u32).for_each(|number| remembered.add(&Sha256::of(&number.to_be_bytes()), peer(1)));
        assert_eq!(remembered.lock().len(), OBJECTS);
    }
}
