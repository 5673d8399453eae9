//! Whole networks of DHT nodes in virtual time: what is announced is found, whoever dies, lies or loses datagrams.
//!
//! The figures that docs quote are printed: `cargo test --test dht -- --nocapture`.
#![allow(clippy::unwrap_used)]

mod net;

use std::net::SocketAddr;
use std::time::Duration;

use aptpeer::dht::message::{Ask, Body, Packet, Query, Reply};
use aptpeer::dht::{Contact, Ended, Family, Id, LookUp, NodeConfig, OwnedItem, Signer, Urgency};

use self::net::{BACKGROUND_RATE, Found, Host, Liar, Net, Random, beside, seconds};

const SEED: u64 = 0x5eed_0042;

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn mean(values: impl Iterator<Item = u32>) -> f64 {
    let values: Vec<f64> = values.map(f64::from).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// 20 announce, everybody looks for one of the 20.
#[test]
fn every_node_finds_what_any_other_announced() {
    let mut net = Net::of(200, SEED);
    let known: Vec<usize> = (0..200).map(|at| net.node(at).status(net.now).good_nodes).collect();
    println!(
        "200 nodes after two minutes: tables of {} to {} good nodes",
        known.iter().min().unwrap(),
        known.iter().max().unwrap()
    );
    assert!(known.iter().all(|known| *known >= 16), "seed {SEED:#x}: {known:?}");
    for at in 0..200 {
        let status = net.node(at).status(net.now);
        assert_eq!(status.external, Some(net.addresses[at].ip()), "seed {SEED:#x}");
        assert!(status.id.fits_address(net.addresses[at].ip()), "seed {SEED:#x}: BEP 42");
    }

    let announcers = net.choose(0..200, 20);
    let hashes: Vec<Id> = announcers.iter().map(|_| net.random.id()).collect();
    let announced: Vec<Found> =
        announcers.iter().zip(&hashes).map(|(at, hash)| net.announce(*at, *hash)).collect();
    assert!(announced.iter().all(|found| found.outcome.stored == 8), "seed {SEED:#x}: {announced:?}");

    let look_ups: Vec<(usize, LookUp)> = (0..200)
        .map(|at| (at, net.with(at, |node, now| node.find_peers(hashes[at % 20], Urgency::Now, now))))
        .collect();
    let found = net.finish(&look_ups);
    for (at, found) in found.iter().enumerate() {
        assert_eq!(found.peers, [net.peer(announcers[at % 20])], "seed {SEED:#x}: node {at}: {found:?}");
    }
    let firsts: Vec<Duration> = found.iter().map(|found| found.first.unwrap()).collect();
    let (announce, look_up) = (
        mean(announced.iter().map(|found| found.outcome.datagrams)),
        mean(found.iter().map(|found| found.outcome.datagrams)),
    );
    println!(
        "200 nodes, all well: {announce:.0} datagrams an announce, {look_up:.0} a look-up; first value after {:?} \
         (median), {:?} (worst); end after {:?} (median)",
        median(firsts.clone()),
        firsts.iter().max().unwrap(),
        median(found.iter().map(|found| found.ended).collect()),
    );
    assert!(announce < 70.0 && look_up < 50.0, "seed {SEED:#x}");
    assert!(firsts.iter().all(|first| *first < Duration::from_millis(1500)), "seed {SEED:#x}");
}

#[test]
#[ignore = "only for its figures; takes 20 s"]
fn a_thousand_nodes() {
    let mut net = Net::of(1000, SEED + 18);
    let announcers = net.choose(0..1000, 40);
    let hashes: Vec<Id> = announcers.iter().map(|_| net.random.id()).collect();
    let announced: Vec<Found> =
        announcers.iter().zip(&hashes).map(|(at, hash)| net.announce(*at, *hash)).collect();
    let found: Vec<Found> = (0..200).map(|at| net.find(at * 5, hashes[at % 40])).collect();
    let firsts: Vec<Duration> = found.iter().map(|found| found.first.unwrap()).collect();
    println!(
        "1,000 nodes: {:.0} datagrams an announce, {:.0} a look-up; first value after {:?} (median), {:?} (worst); end \
         after {:?} (median)",
        mean(announced.iter().map(|found| found.outcome.datagrams)),
        mean(found.iter().map(|found| found.outcome.datagrams)),
        median(firsts.clone()),
        firsts.iter().max().unwrap(),
        median(found.iter().map(|found| found.ended).collect()),
    );
    assert!(announced.iter().all(|found| found.outcome.stored == 8), "seed {:#x}", net.seed);
}

#[test]
fn announcing_again_is_cheap_and_so_is_rest() {
    let mut net = Net::of(60, SEED + 13);
    let hash = net.random.id();
    let first = net.announce(5, hash);
    let again = net.announce(5, hash);
    net.run(seconds(25 * 60));
    let later = net.announce(5, hash);
    net.run(seconds(90 * 60));
    let anew = net.announce(5, hash);
    let all = [&first, &again, &later, &anew];
    let [first, again, later, anew] = all.map(|found| found.outcome.datagrams);
    println!(
        "60 nodes: {first} datagrams an announce; {again} for another at once, {later} after 25 minutes, {anew} after \
         two hours"
    );
    assert!(all.iter().all(|found| found.outcome.stored == 8), "seed {:#x}: {all:?}", net.seed);
    assert!(again <= 16 && later <= 40, "seed {:#x}", net.seed);

    let sent = |net: &Net| (0..60).map(|at| net.node(at).status(net.now).sent).sum::<u64>();
    let before = sent(&net);
    net.run(seconds(1800));
    let each = (sent(&net) - before) as f64 / 60.0 / 1800.0;
    println!("60 nodes at rest: each sends {each:.2} datagrams a second");
    assert!(each < 0.5, "seed {:#x}", net.seed);
}

#[test]
fn what_was_announced_is_found_in_time_with_two_fifths_of_the_nodes_dead() {
    let mut net = Net::of(200, SEED + 1);
    let announcers = net.choose(0..100, 20);
    let hashes: Vec<Id> = announcers.iter().map(|_| net.random.id()).collect();
    announcers.iter().zip(&hashes).for_each(|(at, hash)| {
        net.announce(*at, *hash);
    });
    for at in net.choose(100..200, 80) {
        net.hosts[at] = Host::Dead;
    }
    let seekers: Vec<usize> = (0..100).collect();
    let mut found = Vec::new();
    for at in seekers {
        found.push((at, net.find(at, hashes[at % 20])));
    }
    for (at, found) in &found {
        assert_eq!(
            found.peers,
            [net.peer(announcers[at % 20])],
            "seed {:#x}: node {at}: {found:?}",
            net.seed
        );
        assert!(found.first.unwrap() < Duration::from_millis(1500), "seed {:#x}: {found:?}", net.seed);
        assert!(found.ended < seconds(6), "seed {:#x}: {found:?}", net.seed);
    }
    let firsts: Vec<Duration> = found.iter().map(|(_, found)| found.first.unwrap()).collect();
    println!(
        "200 nodes, 80 of them just dead: {:.0} datagrams a look-up; first value after {:?} (median), {:?} (worst); \
         end after {:?} (median), {:?} (worst)",
        mean(found.iter().map(|(_, found)| found.outcome.datagrams)),
        median(firsts.clone()),
        firsts.iter().max().unwrap(),
        median(found.iter().map(|(_, found)| found.ended).collect()),
        found.iter().map(|(_, found)| found.ended).max().unwrap(),
    );
}

#[test]
fn one_datagram_in_ten_may_be_lost() {
    let mut net = Net::of(100, SEED + 2);
    net.loss = 10;
    let mut stored = Vec::new();
    for at in 0..100 {
        let hash = net.random.id();
        stored.push(net.announce(at, hash).outcome.stored);
        let found = net.find((at + 37) % 100, hash);
        assert_eq!(found.peers, [net.peer(at)], "seed {:#x}: {found:?}", net.seed);
    }
    println!("100 nodes, 10 % lost: {:.1} of 8 nodes take an announce", mean(stored.into_iter()));
}

#[test]
fn liars_lead_nobody_about() {
    let mut net = Net::of(100, SEED + 3);
    for (n, at) in net.choose(50..100, 20).into_iter().enumerate() {
        net.hosts[at] = Host::Liar(if n % 2 == 0 { Liar::Inventor } else { Liar::Narcissus });
    }
    let mut found = Vec::new();
    for at in 0..50 {
        let hash = net.random.id();
        net.announce(at, hash);
        found.push(net.find((at + 7) % 50, hash));
        let last = found.last().unwrap();
        assert_eq!(last.peers, [net.peer(at)], "seed {:#x}: {last:?}", net.seed);
        assert!(last.outcome.asked <= 80 && last.ended < seconds(20), "seed {:#x}: {last:?}", net.seed);
    }
    println!(
        "100 nodes, 20 of them liars: {:.0} datagrams a look-up, {:?} (median) to its end",
        mean(found.iter().map(|found| found.outcome.datagrams)),
        median(found.iter().map(|found| found.ended).collect()),
    );
}

/// 24 nodes of one mind sit right at the info-hash before anything is announced. They give no values and take
/// announces only to drop them.
#[test]
fn whoever_surrounds_an_info_hash_does_not_hide_it() {
    let mut net = Net::of(100, SEED + 4);
    let hash = net.random.id();
    let friends: Vec<Contact> = (0..24)
        .map(|_| Contact { id: beside(&hash, &mut net.random), address: net.random.address(Family::V4) })
        .collect();
    for friend in &friends {
        let friends = friends.iter().take(16).copied().collect();
        net.add(friend.address, Host::Liar(Liar::Conspirator { id: friend.id, friends }));
    }
    let addresses: Vec<SocketAddr> = friends.iter().map(|friend| friend.address).collect();
    for at in 0..100 {
        for addresses in addresses.chunks(16) {
            net.with(at, |node, now| node.add_nodes(addresses.iter().copied(), now));
        }
    }
    net.run(seconds(60));
    let announced = net.announce(3, hash);
    let mut lucky = 0;
    for at in 10..60 {
        lucky += usize::from(net.find(at, hash).peers.contains(&net.peer(3)));
    }
    println!(
        "100 nodes, 24 conspirators around the target: announced to {}, found by {lucky} of 50",
        announced.outcome.stored
    );
    assert_eq!(lucky, 50, "seed {:#x}", net.seed);
}

#[test]
fn a_node_with_saved_nodes_needs_no_bootstrap_node() {
    let mut net = Net::of(60, SEED + 5);
    let saved: Vec<SocketAddr> = net.node(30).good_nodes().iter().map(|node| node.address).collect();
    net.hosts[0] = Host::Dead;
    net.hosts[30] = Host::Dead;
    for address in saved.iter().take(saved.len() / 3) {
        let at = net.by_address[address];
        if at != 7 {
            net.hosts[at] = Host::Dead;
        }
    }
    let hash = net.random.id();
    net.announce(7, hash);
    let again = net.add_node();
    net.with(again, |node, now| node.add_nodes(saved, now));
    let found = net.find(again, hash);
    assert_eq!(found.peers, [net.peer(7)], "seed {:#x}: at once: {found:?}", net.seed);
    net.run(seconds(30));
    assert!(net.node(again).status(net.now).good_nodes >= 16, "seed {:#x}", net.seed);
}

#[test]
fn a_network_that_went_away_is_found_again_without_help() {
    let mut net = Net::of(40, SEED + 6);
    let hash = net.random.id();
    net.announce(7, hash);
    net.loss = 100;
    for _ in 0..3 {
        let found = net.find(20, hash);
        assert!(found.peers.is_empty() && found.ended < seconds(60), "seed {:#x}: {found:?}", net.seed);
    }
    net.run(seconds(3600));
    assert_eq!(net.node(20).status(net.now).good_nodes, 0, "seed {:#x}", net.seed);
    assert!(net.node(20).good_nodes().len() >= 8, "seed {:#x}: they are still worth saving", net.seed);
    let before = net.node(20).status(net.now).sent;
    net.run(seconds(3600));
    let sent = net.node(20).status(net.now).sent - before;
    println!("alone for the second hour: {sent} datagrams");
    assert!(sent < 3600, "seed {:#x}: {sent}", net.seed);
    net.loss = 0;
    net.run(seconds(360));
    let good = net.node(20).status(net.now).good_nodes;
    assert!(good >= 8, "seed {:#x}: {good}", net.seed);
    net.announce(7, hash);
    assert_eq!(net.find(20, hash).peers, [net.peer(7)], "seed {:#x}", net.seed);
}

#[test]
fn a_first_look_up_goes_by_the_bootstrap_node_alone() {
    let mut net = Net::of(60, SEED + 7);
    let hash = net.random.id();
    net.announce(7, hash);
    let new = net.add_node();
    let first = net.addresses[0];
    net.with(new, |node, now| node.add_nodes([first], now));
    let found = net.find(new, hash);
    assert_eq!(found.peers, [net.peer(7)], "seed {:#x}: {found:?}", net.seed);
}

#[test]
fn ipv6_is_a_network_of_its_own() {
    let mut net = Net::grown(Net::new(SEED + 14).of_family(Family::V6), 40);
    for at in 0..40 {
        let status = net.node(at).status(net.now);
        assert!(status.id.fits_address(net.addresses[at].ip()), "seed {:#x}: BEP 42", net.seed);
        assert!(status.good_nodes >= 8, "seed {:#x}: {status:?}", net.seed);
    }
    let hash = net.random.id();
    net.announce(7, hash);
    assert_eq!(net.find(20, hash).peers, [net.peer(7)], "seed {:#x}", net.seed);
    let before = net.node(20).status(net.now).sent;
    net.with(20, |node, now| node.add_nodes(["60.1.1.1:1".parse().unwrap()], now));
    assert_eq!(net.node(20).status(net.now).sent, before, "IPv4 is no concern of it");
}

/// BEP 43.
#[test]
fn a_read_only_node_asks_but_is_asked_by_nobody() {
    let mut net = Net::of(40, SEED + 15);
    let hash = net.random.id();
    net.announce(7, hash);
    let config = NodeConfig { read_only: true, ..net.config() };
    let reader = net.add_node_with(config);
    let first = net.addresses[0];
    net.with(reader, |node, now| node.add_nodes([first], now));
    net.run(seconds(300));
    assert_eq!(net.find(reader, hash).peers, [net.peer(7)], "seed {:#x}", net.seed);
    let own = net.addresses[reader];
    for at in 0..40 {
        let knows = net.node(at).good_nodes().iter().any(|node| node.address == own);
        assert!(!knows, "seed {:#x}: node {at}", net.seed);
    }
    let ping = Query { id: Id::new([1; 20]), read_only: false, ask: Ask::Ping, want: None }.encode(b"xy");
    let before = net.node(reader).status(net.now).sent;
    net.with(reader, |node, now| node.handle_datagram("60.1.1.1:1".parse().unwrap(), &ping, now));
    assert!(net.node(reader).status(net.now).sent <= before + 1, "a ping at most, no answer");
}

/// Nodes that only ever hear of each other because one asked the other.
#[test]
fn nodes_learn_from_those_who_ask_them() {
    let mut net = Net::new(SEED + 16);
    let first = net.add_node();
    let address = net.addresses[first];
    for _ in 0..8 {
        let node = net.add_node();
        net.with(node, |node, now| node.add_nodes([address], now));
    }
    net.run(seconds(30));
    assert_eq!(net.node(first).status(net.now).good_nodes, 8, "seed {:#x}", net.seed);
    net.run(seconds(600));
    for at in 0..9 {
        assert_eq!(net.node(at).status(net.now).good_nodes, 8, "seed {:#x}: node {at}", net.seed);
    }
}

#[test]
fn many_look_ups_at_once_are_answered_as_soon_as_one() {
    let mut net = Net::of(60, SEED + 17);
    for at in net.choose(30..60, 20) {
        net.hosts[at] = Host::Dead;
    }
    let hashes: Vec<Id> = (0..64).map(|_| net.random.id()).collect();
    for (n, hash) in hashes.iter().enumerate() {
        net.announce(n % 30, *hash);
    }
    let look_ups: Vec<(usize, LookUp)> = hashes
        .iter()
        .map(|hash| (9, net.with(9, |node, now| node.find_peers(*hash, Urgency::Now, now))))
        .collect();
    let found = net.finish(&look_ups);
    let firsts: Vec<Duration> = found.iter().map(|found| found.first.unwrap()).collect();
    println!(
        "60 nodes, 20 of them dead, 64 look-ups at once: first value after {:?} (median), {:?} (worst)",
        median(firsts.clone()),
        firsts.iter().max().unwrap()
    );
    assert!(firsts.iter().all(|first| *first < Duration::from_millis(1500)), "seed {:#x}", net.seed);
}

#[test]
fn who_knows_nobody_is_told_so_at_once() {
    let mut net = Net::new(SEED + 8);
    let alone = net.add_node();
    let hash = net.random.id();
    let found = net.find(alone, hash);
    assert_eq!((found.outcome, found.ended), (Ended::default(), Duration::ZERO));
    let announced = net.announce(alone, hash);
    assert_eq!(announced.outcome, Ended::default());
}

#[test]
fn values_are_stored_and_found_by_others_only_if_they_are_right() {
    let mut net = Net::of(60, SEED + 9);
    let immutable = OwnedItem::immutable(b"5:hello").unwrap();
    let signer = Signer::from_seed(&[7; 32]).unwrap();
    let mutable = signer.sign(b"5:world", b"salt", 3).unwrap();
    for item in [&immutable, &mutable] {
        let look_up = net.with(5, |node, now| node.store_item(item.clone(), now));
        let stored = net.finish(&[(5, look_up)]).remove(0);
        assert_eq!(stored.outcome.stored, 8, "seed {:#x}: {stored:?}", net.seed);
        println!("60 nodes: {} datagrams a store", stored.outcome.datagrams);
    }
    let find = |net: &mut Net, target, salt: &[u8]| {
        let look_up = net.with(40, |node, now| node.find_item(target, salt.to_vec(), Urgency::Now, now));
        net.finish(&[(40, look_up)]).remove(0)
    };
    assert_eq!(find(&mut net, immutable.target(), b"").items, [immutable], "seed {SEED:#x}");
    assert_eq!(
        find(&mut net, mutable.target(), b"salt").items,
        std::slice::from_ref(&mutable),
        "seed {SEED:#x}"
    );
    assert!(find(&mut net, mutable.target(), b"pepper").items.is_empty(), "seed {SEED:#x}");
}

#[test]
fn look_ups_of_one_info_hash_do_not_disturb_each_other() {
    let mut net = Net::of(60, SEED + 10);
    let hash = net.random.id();
    net.announce(7, hash);
    let at = 33;
    let mut look_ups = vec![(at, net.with(at, |node, now| node.announce(hash, 1234, now)))];
    for urgency in [Urgency::Now, Urgency::Background, Urgency::Now] {
        look_ups.push((at, net.with(at, |node, now| node.find_peers(hash, urgency, now))));
    }
    let cancelled = net.with(at, |node, now| node.find_peers(hash, Urgency::Now, now));
    net.with(at, |node, _| node.cancel(cancelled));
    let found = net.finish(&look_ups);
    assert!(found.iter().all(|found| found.peers.contains(&net.peer(7))), "seed {:#x}: {found:?}", net.seed);
    assert_eq!(found[0].outcome.stored, 8, "seed {:#x}", net.seed);
    assert!(net.events.iter().all(|(host, _, event)| *host != at || event.look_up() != cancelled));
}

#[test]
fn no_more_look_ups_than_the_limit_are_under_way() {
    let mut net = Net::of(20, SEED + 11);
    let look_ups: Vec<(usize, LookUp)> = (0..100)
        .map(|_| {
            let hash = net.random.id();
            (3, net.with(3, |node, now| node.find_peers(hash, Urgency::Background, now)))
        })
        .collect();
    assert!(net.node(3).status(net.now).look_ups <= 64);
    let begun = net.now;
    let found = net.finish(&look_ups);
    let refused = found.iter().filter(|found| found.outcome == Ended::default()).count();
    assert!((1..=36).contains(&refused), "seed {:#x}: {refused}", net.seed);
    let sent: u32 = found.iter().map(|found| found.outcome.datagrams.div_ceil(2)).sum();
    let rate = f64::from(sent) / net.now.duration_since(begun).as_secs_f64();
    assert!(rate <= f64::from(BACKGROUND_RATE) * 1.1, "seed {:#x}: {rate} a second", net.seed);
}

/// Strangers by the thousand: queries with made-up senders, answers that nobody asked for, rubbish.
#[test]
fn a_flood_fills_nothing() {
    let mut net = Net::of(20, SEED + 12);
    let hash = net.random.id();
    net.announce(7, hash);
    let mut look_up = None;
    let mut random = Random(SEED + 12);
    let (known, sent) = (net.node(3).status(net.now).known_nodes, net.node(3).status(net.now).sent);
    let mut pings = 0;
    for n in 0..20_000 {
        let from = random.address(Family::V4);
        let ask = match n % 3 {
            0 => Ask::Ping,
            1 => Ask::FindNode { target: random.id() },
            _ => Ask::GetPeers { info_hash: random.id() },
        };
        let query = Query { id: random.id(), read_only: n % 7 == 0, ask, want: None };
        let datagram = match n % 5 {
            0 => Reply::default().encode(&random.id(), &random.next().to_be_bytes()[..4], from),
            1 => b"A\x01\x00\x00utp".to_vec(),
            _ => query.encode(&random.next().to_be_bytes()[..2]),
        };
        let now = net.now;
        let Host::Honest(node) = &mut net.hosts[3] else { unreachable!() };
        node.handle_datagram(from, &datagram, now);
        while let Some(transmit) = node.poll_transmit() {
            let packet = Packet::parse(&transmit.payload).unwrap();
            pings += u32::from(matches!(packet.body, Body::Query(_)));
        }
        if n % 100 == 0 {
            net.run(Duration::from_millis(50));
        }
        if n == 10_000 {
            look_up = Some(net.with(3, |node, now| node.find_peers(hash, Urgency::Now, now)));
        }
    }
    let found = net.finish(&[(3, look_up.unwrap())]).remove(0);
    assert_eq!(found.peers, [net.peer(7)], "a flood does not keep our own answers out");
    let status = net.node(3).status(net.now);
    println!("after a flood of 20,000 in 10 s: {status:?}");
    assert!(pings <= 40, "{pings} strangers were pinged");
    assert_eq!(status.known_nodes, known, "who answers no ping does not enter");
    assert!(status.queries <= 256 && status.rubbish + status.refused > 15_000, "{status:?}");
    assert!(status.sent - sent < 3_000, "250 answers a second at most: {status:?}");
}
