//! Whose have-sets are kept, when they are asked for, and what comes of what they say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aptpeer::digest::Sha256;
use aptpeer::swarm::PeerKind;
use aptpeer::swarm::neighbourhood::{
    About, Bond, ENOUGH, MAX_NEIGHBOURS, MAX_SET_BYTES, Neighbourhood, Question, Refusal, Told,
};
use aptpeer::wire::{HaveSet, MAX_HAVE_OBJECTS};

fn object(number: u64) -> Sha256 {
    Sha256::of(&number.to_be_bytes())
}

fn objects(numbers: std::ops::Range<u64>) -> Vec<Sha256> {
    numbers.map(object).collect()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The address of a stranger; each is of another network.
fn stranger(number: u16) -> SocketAddr {
    SocketAddr::from((
        [9, 1 + u8::try_from(number >> 8).unwrap(), u8::try_from(number & 255).unwrap(), 1],
        9979,
    ))
}

/// A neighbourhood and its clock.
struct World {
    all: Neighbourhood,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(100_000);
        Self { all: Neighbourhood::new(7, false, now), now }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn meet(&mut self, peers: &[SocketAddr]) {
        self.all.handle_found(&archive(), peers, self.now);
    }

    /// Answers every question that is due; those about objects by `told`.
    fn answer(&mut self, told: impl Fn(SocketAddr) -> Result<Told, Refusal>) -> Vec<Question> {
        let mut asked = Vec::new();
        while let Some(question) = self.all.poll_question(self.now) {
            match &question.about {
                About::Neighbours => self.all.handle_introduced(question.peer, &[], self.now),
                About::Objects(_) => match told(question.peer) {
                    Ok(told) => {
                        let took = Duration::from_millis(20);
                        self.all.handle_told(question.peer, told, took, self.now);
                    }
                    Err(why) => self.all.handle_refusal(question.peer, why, self.now),
                },
            }
            asked.push(question);
            assert!(asked.len() < 1000, "it asks for ever");
        }
        asked
    }

    fn holders(&self, number: u64) -> Vec<SocketAddr> {
        self.all.who_has(&object(number), self.now).iter().map(|holder| holder.address).collect()
    }
}

fn archive() -> Sha256 {
    Sha256::of(b"an archive")
}

fn set(numbers: std::ops::Range<u64>) -> Result<Told, Refusal> {
    Ok(Told::Set {
        set: HaveSet::of(&objects(numbers)),
        tag: Some("\"one\"".to_owned()),
        age: Duration::ZERO,
    })
}

#[test]
fn who_has_an_object_is_known_without_a_question() {
    let mut world = World::new();
    world.all.set_always(Bond::Fixed, &[at("10.0.0.1:9979")], world.now);
    world.meet(&[stranger(1), stranger(2)]);
    world.answer(|peer| if peer == stranger(1) { set(0..10) } else { set(5..20) });
    assert_eq!(world.holders(3), [stranger(1)]);
    assert_eq!(world.holders(15), [at("10.0.0.1:9979"), stranger(2)], "those that the user chose come first");
    assert_eq!(world.holders(99), []);
    let kinds: Vec<_> = world.all.who_has(&object(15), world.now).iter().map(|holder| holder.kind).collect();
    assert_eq!(kinds, [PeerKind::Neighbour, PeerKind::Stranger]);
    assert_eq!(world.all.poll_question(world.now), None);
}

#[test]
fn sets_are_asked_for_again_slowly_and_with_their_tags_and_sooner_where_something_is_wanted() {
    let mut world = World::new();
    world.all.set_always(Bond::Lan, &[at("192.168.1.2:9979")], world.now);
    world.meet(&[stranger(1)]);
    world.answer(|_| set(0..10));
    let mut asked = (0, 0);
    for _ in 0..3600 {
        world.pass(1);
        for question in world.answer(|_| Ok(Told::Same(Duration::ZERO))) {
            match question.about {
                About::Objects(tag) => assert_eq!(tag.as_deref(), Some("\"one\"")),
                About::Neighbours => continue,
            }
            if question.peer == stranger(1) { asked.1 += 1 } else { asked.0 += 1 }
        }
    }
    assert!((48..=60).contains(&asked.0) && (4..=6).contains(&asked.1), "{asked:?} questions in an hour");
    // Wanted: within seconds of the last answer nothing is asked, then those that are near.
    world.pass(6);
    world.all.want(&object(1), world.now);
    let lan = world.answer(|_| Ok(Told::Same(Duration::ZERO)));
    assert!(lan.iter().any(|question| question.peer == at("192.168.1.2:9979")), "{lan:?}");
    assert!(!world.all.want(&object(2), world.now), "not twice");
}

#[test]
fn what_a_fresh_set_does_not_name_is_not_asked_for() {
    let mut world = World::new();
    let [fixed, lan] = [at("10.0.0.1:9979"), at("10.0.0.2:9979")];
    world.all.set_always(Bond::Fixed, &[fixed], world.now);
    world.all.set_always(Bond::Lan, &[lan], world.now);
    world.answer(|_| set(0..10));
    world.pass(4);
    world.all.want(&object(50), world.now);
    assert_eq!(world.all.lacking(&object(50), world.now), [], "it may have got it since");
    world.pass(1);
    world.all.want(&object(51), world.now);
    assert_eq!(world.answer(|_| Ok(Told::Same(Duration::ZERO))).len(), 2, "looked at again");
    assert_eq!(world.all.lacking(&object(52), world.now), [fixed], "never those of the local network");
    assert_eq!(world.all.lacking(&object(3), world.now), []);
    world.pass(10);
    assert_eq!(world.all.lacking(&object(52), world.now), [], "that was a while ago");
    // A set that was old when it came says nothing of now.
    world.all.want(&object(53), world.now);
    world.answer(|_| Ok(Told::Same(Duration::from_secs(3))));
    assert_eq!(world.all.lacking(&object(54), world.now), []);
    assert!(!world.all.want(&object(55), world.now), "and is no reason to ask again at once");
}

#[test]
fn false_claims_cost_a_few_answers_and_the_place() {
    let mut world = World::new();
    world.meet(&[stranger(1), stranger(2)]);
    world.answer(|_| set(0..1000));
    for number in 0..3 {
        assert_eq!(world.holders(number).len(), 2);
        world.all.handle_tried(&object(number), stranger(1), false, world.now);
        world.all.handle_tried(&object(number), stranger(2), true, world.now);
    }
    assert_eq!(world.holders(3), [stranger(2)]);
    world.meet(&[stranger(1)]);
    world.answer(|_| set(0..1000));
    assert_eq!(world.holders(3), [stranger(2)], "nor is it taken again");
    // Long after the set was told, eviction explains it: it is asked anew.
    world.pass(500);
    (0..3).for_each(|number| world.all.handle_tried(&object(number), stranger(2), false, world.now));
    assert_eq!(world.holders(3), []);
    world.answer(|_| set(500..1000));
    assert_eq!(world.holders(600), [stranger(2)]);
}

#[test]
fn those_that_fail_are_asked_less_and_less_and_strangers_given_up() {
    let mut world = World::new();
    let fixed = at("10.0.0.1:9979");
    world.all.set_always(Bond::Fixed, &[fixed], world.now);
    world.meet(&[stranger(1), stranger(2)]);
    world.answer(|_| set(0..10));
    let mut asked = Vec::new();
    for _ in 0..4000 {
        world.pass(1);
        let wrong = |peer| Err(if peer == stranger(2) { Refusal::Wrong } else { Refusal::Silent });
        asked.extend(world.answer(wrong).into_iter().map(|question| question.peer));
    }
    let of = |peer| asked.iter().filter(|asked| **asked == peer).count();
    assert!((10..=20).contains(&of(fixed)), "{} times", of(fixed));
    assert_eq!((of(stranger(1)), of(stranger(2))), (3, 1));
    assert_eq!(world.holders(1), [], "whoever fails is not a holder");
    assert_eq!(world.all.counts(), (1, 0));
}

#[test]
fn neighbours_candidates_and_sets_are_bounded() {
    let mut world = World::new();
    let many: Vec<_> = (0..1000).map(stranger).collect();
    world.meet(&many);
    let of_one: Vec<_> = (1..1000).map(|port| at(&format!("8.8.8.8:{port}"))).collect();
    world.meet(&of_one);
    assert_eq!(world.all.counts(), (MAX_NEIGHBOURS, MAX_NEIGHBOURS));
    let bad = ["127.0.0.1:1", "10.1.1.1:1", "0.0.0.0:1", "9.9.9.9:0", "224.1.1.1:1", "[fe80::1]:1"];
    let bad = bad.map(at);
    world.meet(&bad);

    let largest = HaveSet::of(&objects(0..MAX_HAVE_OBJECTS as u64));
    let asked = world.answer(|_| Ok(Told::Set { set: largest.clone(), tag: None, age: Duration::ZERO }));
    assert!(!asked.iter().any(|question| bad.contains(&question.peer)), "{asked:?}");
    let bytes = world.all.set_bytes();
    assert!(bytes > 15 << 20 && bytes <= MAX_SET_BYTES, "{bytes}");
    assert_eq!(world.holders(5).len(), 16, "no more than a download asks");
    // Those that the user and the network chose find a place all the same.
    let lan: Vec<_> = (1..=20).map(|host| at(&format!("192.168.1.{host}:9979"))).collect();
    world.all.set_always(Bond::Lan, &lan, world.now);
    assert_eq!(world.all.counts(), (MAX_NEIGHBOURS, MAX_NEIGHBOURS - 20));
    world.all.set_always(Bond::Lan, &[], world.now);
    assert_eq!(world.all.counts().0, MAX_NEIGHBOURS - 20);
}

#[test]
fn the_stranger_that_is_of_least_use_makes_room() {
    let mut world = World::new();
    let many: Vec<_> = (0..u16::try_from(MAX_NEIGHBOURS).unwrap() + 1).map(stranger).collect();
    (0..20).for_each(|number| _ = world.all.want(&object(number), world.now));
    world.meet(&many);
    let useless = stranger(30);
    let told = move |peer| if peer == useless { set(900..999) } else { set(0..10) };
    world.answer(told);
    assert_eq!(world.holders(950), [useless]);
    for _ in 0..700 {
        world.pass(1);
        world.answer(told);
    }
    assert_eq!(world.holders(950), [], "parted with");
    assert_eq!(world.all.counts().0, MAX_NEIGHBOURS, "and the one that waited is in");
}

#[test]
fn an_archive_is_covered_by_a_few_that_tell() {
    let mut world = World::new();
    let few: Vec<_> = (0..u16::try_from(ENOUGH).unwrap()).map(stranger).collect();
    world.meet(&few);
    assert!(!world.all.is_covered(&archive(), world.now), "nobody has told anything yet");
    assert!(world.all.has_few());
    world.answer(|_| set(0..10));
    assert!(world.all.is_covered(&archive(), world.now));
    assert!(!world.all.is_covered(&object(1), world.now), "another archive");
    world.pass(3 * 3600);
    assert!(!world.all.is_covered(&archive(), world.now), "old news");
}

#[test]
fn only_those_are_told_of_that_answered_and_local_ones_only_where_they_can_be_reached() {
    let mut world = World::new();
    let lan = at("192.168.1.2:9979");
    world.all.set_always(Bond::Lan, &[lan], world.now);
    world.meet(&[stranger(1), stranger(2)]);
    world.answer(|peer| if peer == stranger(2) { Err(Refusal::Silent) } else { set(0..1) });
    let to = |world: &World, asker: &str| world.all.introduced_to(asker.parse().unwrap(), world.now);
    assert_eq!(to(&world, "8.8.8.8"), [stranger(1)]);
    assert_eq!(to(&world, "192.168.1.9"), [stranger(1), lan]);
    assert_eq!(to(&world, "192.168.1.2"), [stranger(1)], "not of itself");
    assert_eq!(to(&world, "::ffff:8.8.8.8"), [stranger(1)]);
    world.pass(7200);
    assert_eq!(to(&world, "8.8.8.8"), []);
}

#[test]
fn what_a_poisoned_introduction_names_is_sifted() {
    let mut world = World::new();
    world.meet(&[stranger(1)]);
    world.answer(|_| set(0..1));
    world.pass(1);
    let mut flood: Vec<_> = (1..10_000).map(|port| at(&format!("8.8.8.8:{port}"))).collect();
    world.all.handle_introduced(stranger(1), &flood, world.now);
    assert_eq!(world.all.counts().0, 5, "a few of one network");
    flood = (0..250).map(|host| at(&format!("10.0.0.{host}:9979"))).collect();
    world.all.handle_introduced(stranger(1), &flood, world.now);
    assert_eq!(world.all.counts().0, 5, "none of ours");
    world.all.handle_introduced(stranger(77), &[stranger(78)], world.now);
    assert_eq!(world.all.counts().0, 5, "nobody asked that one");
}

#[test]
fn the_banned_are_neither_asked_nor_told_of_and_without_strangers_there_are_none() {
    let mut world = World::new();
    let fixed = at("10.0.0.1:9979");
    world.all.set_always(Bond::Fixed, &[fixed], world.now);
    world.meet(&[stranger(1)]);
    world.answer(|_| set(0..10));
    assert_eq!(world.holders(1).len(), 2);
    world.all.handle_banned(&[fixed, stranger(1)], world.now);
    assert_eq!(world.holders(1), []);
    assert_eq!(world.all.introduced_to([10, 0, 0, 9].into(), world.now), []);
    world.pass(200);
    assert_eq!(world.answer(|_| set(0..10)), [], "nobody is asked");

    let mut alone = World::new();
    alone.all = Neighbourhood::new(7, true, alone.now).without_strangers();
    alone.meet(&[stranger(1)]);
    alone.all.set_always(Bond::Lan, &[fixed], alone.now);
    assert_eq!(alone.answer(|_| set(0..10)).len(), 1, "the one of the local network, and only for its set");
    alone.all.handle_introduced(fixed, &[stranger(2)], alone.now);
    assert_eq!(alone.all.counts(), (1, 0));
}
