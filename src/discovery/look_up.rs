//! A look-up: what it finds, and the two ends of the queue that carries it.

use std::task::{Context, Poll};

use tokio::sync::mpsc;

use super::Provider;
use crate::digest::Sha256;
use crate::pieces::{Geometry, PieceList};

/// Findings that wait for a download. A look-up that is quicker than it goes on and loses what is beyond this: a
/// download takes fewer strangers anyway.
const WAITING: usize = 64;

/// Something that a look-up came upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A peer that may hold the object.
    Provider(Provider),
    /// A list of the object's states. It is anybody's word, and names nobody who could be charged for it.
    List {
        /// The list; it fits the geometry that was asked with.
        list: PieceList,
        /// It bears the signature of a publisher whom the user's configuration trusts.
        signed: bool,
    },
}

/// A look-up under way, as the one who wants to know holds it. Dropping it cancels the look-up.
#[derive(Debug)]
pub struct LookUp {
    found: mpsc::Receiver<Found>,
}

/// The same look-up, as the one who carries it out holds it. Dropping it ends the look-up: nothing more is found.
#[derive(Debug)]
pub struct Finder {
    found: mpsc::Sender<Found>,
}

/// A look-up that somebody has asked for, as it is handed to the one who carries it out.
#[derive(Debug)]
pub struct Asked {
    /// The object that is looked for.
    pub object: Sha256,
    /// Its geometry: how many states a list of it has.
    pub geometry: Geometry,
    /// Whether its list is looked for as well, where it has one.
    pub list: bool,
    /// Where to tell what is found.
    pub finder: Finder,
}

impl LookUp {
    /// A look-up and the end that carries it out.
    pub fn new() -> (Self, Finder) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { found: receiver }, Finder { found: sender })
    }

    /// What is found next; `None` once the look-up has ended. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Found> {
        self.found.recv().await
    }

    /// The same for whoever waits for several.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Found>> {
        self.found.poll_recv(context)
    }
}

impl Finder {
    /// Tells of a finding, without waiting; says whether anybody still wants to know more.
    pub fn tell(&self, found: Found) -> bool {
        !matches!(self.found.try_send(found), Err(mpsc::error::TrySendError::Closed(_)))
    }

    /// Whether nobody wants to know any more.
    pub fn is_cancelled(&self) -> bool {
        self.found.is_closed()
    }

    /// Waits until nobody wants to know any more.
    pub async fn cancelled(&self) {
        self.found.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::PeerKind;

    fn found(port: u16) -> Found {
        Found::Provider(Provider { address: ([127, 0, 0, 1], port).into(), kind: PeerKind::Stranger })
    }

    #[tokio::test]
    async fn a_look_up_that_is_dropped_is_cancelled() {
        let (look_up, finder) = LookUp::new();
        assert!(finder.tell(found(1)) && !finder.is_cancelled());
        drop(look_up);
        finder.cancelled().await;
        assert!(finder.is_cancelled() && !finder.tell(found(2)));
    }

    #[tokio::test]
    async fn what_was_found_is_there_after_the_end_of_the_look_up() {
        let (mut look_up, finder) = LookUp::new();
        finder.tell(found(1));
        drop(finder);
        assert_eq!(look_up.next().await, Some(found(1)));
        assert_eq!(look_up.next().await, None);
    }

    #[tokio::test]
    async fn a_look_up_that_nobody_reads_is_bounded() {
        let (mut look_up, finder) = LookUp::new();
        assert!((0..1000).all(|port| finder.tell(found(port))), "it goes on");
        drop(finder);
        let mut count = 0;
        while look_up.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, WAITING);
    }
}
