//! Randomness out of a seed: SHA-256(seed ‖ counter), so that a pure machine has secrets and a test repeats itself.

use super::id::Id;
use crate::digest::Sha256;

/// A stream of bytes that nobody without the seed can foretell.
#[derive(Debug)]
pub(super) struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    pub(super) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// 32 bytes.
    pub(super) fn block(&mut self) -> [u8; 32] {
        self.counter += 1;
        let mut input = [0; 40];
        input[..32].copy_from_slice(&self.seed);
        input[32..].copy_from_slice(&self.counter.to_be_bytes());
        *Sha256::of(&input).as_bytes()
    }

    /// A point anywhere.
    pub(super) fn id(&mut self) -> Id {
        let mut bytes = [0; Id::LENGTH];
        bytes.copy_from_slice(&self.block()[..Id::LENGTH]);
        Id::new(bytes)
    }

    /// Any number.
    pub(super) fn number(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.block();
        u32::from_be_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_says_the_same_twice_and_depends_on_the_seed_alone() {
        let (mut one, mut same, mut other) =
            (Random::new([1; 32]), Random::new([1; 32]), Random::new([2; 32]));
        let first = one.block();
        assert_eq!(first, same.block());
        assert_ne!(first, one.block());
        assert_ne!(first, other.block());
        assert_ne!(one.id(), one.id());
    }
}
