//! What the black-box tests stand on: a signed repository, a real apt, mirrors and peers that misbehave on demand, the
//! daemon itself and a client that speaks bytes. Everything listens on loopback, on ports the kernel picks, and ends
//! with its owner.

// Every test file compiles this module for itself and uses a part of it; helpers are not `#[test]`, but may unwrap.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod apt;
pub mod capture;
pub mod daemon;
pub mod http;
pub mod mirror;
pub mod namespaces;
pub mod peers;
pub mod relay;
pub mod repository;
pub mod server;
pub mod switch;
pub mod terminal;

use std::time::{Duration, Instant};

/// Waits until `ready` gives something, looking every few milliseconds; `None` after `limit`.
///
/// For what announces itself in no other way: a file that appears, a process that ends.
pub fn wait_for<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = ready() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// `length` bytes that do not compress and are the same for the same `seed`, everywhere and always.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    // xorshift64* (Vigna, 2016); its state must not be 0.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
