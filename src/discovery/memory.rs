//! Peers that were told to us by the program itself: `aptpeer get --peer`, and tests.

use std::sync::RwLock;

use tokio::sync::mpsc;

use super::{Asked, Discovery, LookUp, Provider};
use crate::digest::Sha256;
use crate::pieces::Geometry;

/// Look-ups that wait for the one who answers them; more are not carried out.
const WAITING: usize = 64;

/// A list of providers, the same for every object.
#[derive(Debug, Default)]
pub struct Memory {
    providers: RwLock<Vec<Provider>>,
    asked: Option<mpsc::Sender<Asked>>,
}

impl Memory {
    /// With these providers.
    pub const fn new(providers: Vec<Provider>) -> Self {
        Self { providers: RwLock::new(providers), asked: None }
    }

    /// With these providers, and with look-ups: whoever holds the receiver carries them out.
    pub fn with_look_ups(providers: Vec<Provider>) -> (Self, mpsc::Receiver<Asked>) {
        let (asked, receiver) = mpsc::channel(WAITING);
        (Self { providers: RwLock::new(providers), asked: Some(asked) }, receiver)
    }

    /// Replaces the providers.
    pub fn set(&self, providers: Vec<Provider>) {
        *self.providers.write().unwrap_or_else(std::sync::PoisonError::into_inner) = providers;
    }
}

impl Discovery for Memory {
    fn providers(&self, _object: &Sha256) -> Vec<Provider> {
        self.providers.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn look_up(&self, object: &Sha256, geometry: Geometry) -> Option<LookUp> {
        let (look_up, finder) = LookUp::new();
        let asked = Asked { object: *object, geometry, list: true, finder };
        self.asked.as_ref()?.try_send(asked).ok()?;
        Some(look_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Found;
    use crate::swarm::PeerKind;

    #[tokio::test]
    async fn whoever_holds_the_receiver_carries_look_ups_out() {
        let object = Sha256::of(b"object");
        let geometry = Geometry::new(6).unwrap();
        assert!(Memory::default().look_up(&object, geometry).is_none());
        let (memory, mut asked) = Memory::with_look_ups(Vec::new());
        let mut look_up = memory.look_up(&object, geometry).unwrap();
        let asked = asked.recv().await.unwrap();
        assert_eq!((asked.object, asked.geometry), (object, geometry));
        let address = ([127, 0, 0, 1], 1).into();
        let found = Found::Provider(Provider { address, kind: PeerKind::Stranger });
        assert!(asked.finder.tell(found.clone()));
        assert_eq!(look_up.next().await, Some(found));
    }
}
