//! How long a peer is waited for: by its own answers, over wires that are long and wires that are cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::world::{
    RATE, alone, client, download, faults, got_from, holder, mirror, peer, repository, switch,
};

/// A packet to the distant peer and back.
const ROUND_TRIP: Duration = Duration::from_millis(600);

/// The mirror's rate, in bytes a second: peers are worth their while.
const SLOW_MIRROR: u64 = 100_000;

/// No peer is waited for longer, whatever it was like before (docs/protocol.md, section 9).
const LONGEST: Duration = Duration::from_secs(8);

/// What a busy machine takes longer.
const SLACK: Duration = Duration::from_secs(4);

#[test]
fn a_peer_behind_600_ms_is_used_and_never_punished() {
    let _alone = alone();
    let Some(switch) = switch() else { return };
    let names = ["first", "second"];
    let repository = repository(&names, 12_000_000);
    let (near, far) = (switch.host(), switch.host());
    let mirror = mirror(&far, &repository, Some(SLOW_MIRROR));
    let distant = switch.distant(ROUND_TRIP);
    let holder = holder(&distant, &repository);
    distant.send_at_most(RATE);
    let mut daemon = client(&near, &mirror, &[holder.peer()]);
    for name in names {
        let fetched = download(&mut daemon, &mirror, &repository, name, |_| {});
        println!("{name}: {:.2?}, first byte after {:.2?}", fetched.whole, fetched.first);
    }
    let known = peer(&mut daemon, distant.ip());
    println!("{known}");
    assert_eq!(
        (&known["state"], known["faults"].as_u64()),
        (&"well".into(), Some(0)),
        "{:?}",
        faults(&daemon)
    );
    assert!(known["first_byte_milliseconds"].as_f64().unwrap() >= 600.0, "{known}");
    let got = got_from(&mut daemon, &distant);
    assert!(got > 18e6, "it gave {got} bytes of 24 million");
}

#[test]
fn a_peer_that_is_suddenly_cut_off_is_left_within_its_own_time_out() {
    let _alone = alone();
    let Some(switch) = switch() else { return };
    let repository = repository(&["warm", "object"], 24_000_000);
    let (near, far) = (switch.host(), switch.host());
    let mirror = mirror(&far, &repository, Some(SLOW_MIRROR));
    let (steady, cut) = (switch.host(), switch.host());
    let holders = [&steady, &cut].map(|host| holder(host, &repository));
    [&steady, &cut].iter().for_each(|host| host.send_at_most(RATE));
    let mut daemon = client(&near, &mirror, &holders.each_ref().map(|holder| holder.peer()));
    download(&mut daemon, &mirror, &repository, "warm", |_| {});

    // From then on only half of the peers are there, for three quarters of the object.
    let (done, mut since) = (AtomicBool::new(false), None);
    let fetched = download(&mut daemon, &mirror, &repository, "object", |_| {
        if !done.swap(true, Ordering::Relaxed) {
            cut.cut();
            since = Some(Instant::now());
        }
    });
    let took = since.unwrap().elapsed();
    println!("{:.2?}, of which {took:.2?} after the cut; {:?}", fetched.whole, faults(&daemon));
    // What is left takes 3 s at the other's rate.
    assert!(took < Duration::from_secs(3) + LONGEST + SLACK, "{took:?} after the cut");
    // Or everything was there before its time was over.
    let known = peer(&mut daemon, cut.ip());
    assert!(known["faults"].as_u64() > Some(0) || took < LONGEST, "{known} {:?}", faults(&daemon));
}
