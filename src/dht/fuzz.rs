//! Datagrams that were good once, against the responder: no panic, and every bound holds.

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use super::super::address::Contact;
    use super::super::id::Id;
    use super::super::item::Signer;
    use super::super::message::{Ask, Item, MAX_DATAGRAM, Packet, Query, Want, may_be_krpc};
    use super::super::responder::{Limits, MAX_ANSWER, Responder};

    const OWN: Id = Id::new([0xee; 20]);
    const ASKER: Id = Id::new([0xaa; 20]);

    /// `APTPEER_TEST_FUZZ_ROUNDS` makes it longer, `APTPEER_TEST_FUZZ_SEED` another run.
    #[test]
    fn rubbish_neither_panics_nor_breaks_a_bound() {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let rounds = number("APTPEER_TEST_FUZZ_ROUNDS").unwrap_or(10_000);
        let seed = number("APTPEER_TEST_FUZZ_SEED").unwrap_or(1);
        let start = Instant::now();
        let limits =
            Limits { info_hashes: 50, items: 40, item_bytes: 30_000, queries_per_second: 100, sources: 64 };
        let mut responder = Responder::new(limits, [1; 32], start);
        let (mut random, mut answered, mut stored) = (seed, 0, 0);
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for round in 0..rounds {
            let now = start + Duration::from_millis(round * 100);
            let from = match next(3) {
                0 => SocketAddr::from(((next(1 << 31) as u32).to_be_bytes(), next(65536) as u16)),
                1 => SocketAddr::from(([8, 8, next(40) as u8, next(5) as u8], 5)),
                _ => SocketAddr::from(([0x2a00, next(40) as u16, 0, 0, 0, 0, 0, next(3) as u16], 5)),
            };
            let token = responder.token(from.ip(), now);
            let mut datagram = some_query(&token, &mut next);
            for _ in 0..next(4) {
                mutate(&mut datagram, &mut next);
            }
            let _ = (may_be_krpc(&datagram), responder.admit(from.ip(), now));
            let Ok(packet) = Packet::parse(&datagram) else { continue };
            let answer = responder.answer(&OWN, from, &packet, |_| nodes(from), now);
            if let Some(answer) = answer {
                assert!(answer.len() <= MAX_ANSWER, "seed {seed}, round {round}: {} bytes", answer.len());
                assert_eq!(Packet::parse(&answer).unwrap().transaction, packet.transaction);
                answered += 1;
            }
            if next(500) == 0 {
                responder.expire(now);
            }
            let counts = responder.counts();
            assert!(
                counts.info_hashes <= 50 && counts.items <= 40 && counts.bytes <= 30_000,
                "seed {seed}: {counts:?}"
            );
            assert!(counts.peers <= 50 * 64);
            stored = stored.max(counts.items + counts.info_hashes);
        }
        assert!(answered * 4 > rounds && stored > 20, "{answered} answers, {stored} stored: hardly a test");
    }

    fn nodes(from: SocketAddr) -> Vec<Contact> {
        (0..8)
            .map(|at| Contact { id: Id::new([at; 20]), address: SocketAddr::new(from.ip(), 6881) })
            .collect()
    }

    fn some_query(token: &[u8; 8], next: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
        let target = Id::new([next(100) as u8; 20]);
        let signer = Signer::from_seed(&[next(8) as u8; 32]).unwrap();
        let value = [b"200:".to_vec(), vec![next(256) as u8; 200]].concat();
        let (salt, seq) = ([next(4) as u8], next(3) as i64);
        let signed = signer.sign(&value, &salt, seq).unwrap();
        let cas = (next(4) == 0).then(|| next(4) as i64);
        let ask = match next(8) {
            0 => Ask::Ping,
            1 => Ask::FindNode { target },
            2 => Ask::GetPeers { info_hash: target },
            3 => Ask::AnnouncePeer { info_hash: target, port: Some(next(65536) as u16), token },
            4 => Ask::AnnouncePeer { info_hash: target, port: None, token },
            5 => Ask::Put { item: Item { value: &value, signed: None }, cas, token },
            6 => Ask::Put { item: signed.as_message(), cas, token },
            _ => Ask::Get { target: signed.target(), seq: cas },
        };
        let want = (next(2) == 0).then(|| Want { v4: next(2) == 0, v6: next(2) == 0 });
        Query { id: ASKER, read_only: next(2) == 0, ask, want }.encode(&vec![b't'; next(34) as usize])
    }

    fn mutate(datagram: &mut Vec<u8>, next: &mut impl FnMut(u64) -> u64) {
        let mut at = |datagram: &[u8]| next(datagram.len().max(1) as u64) as usize;
        let (a, b) = (at(datagram), at(datagram));
        let (a, b) = (a.min(b), a.max(b));
        if datagram.is_empty() {
            return;
        }
        match next(7) {
            0 => datagram[a] = next(256) as u8,
            1 => datagram[a] = b"dlei0123456789:-"[next(16) as usize],
            2 => datagram.insert(a, b"dlei0123456789:-"[next(16) as usize]),
            3 => drop(datagram.drain(a..b.min(a + 8))),
            4 => datagram.truncate(b),
            5 => {
                let piece = datagram[a..b].to_vec();
                datagram.splice(b..b, piece);
            }
            _ => datagram.extend(std::iter::repeat_n(b'x', next(MAX_DATAGRAM as u64) as usize)),
        }
    }
}
