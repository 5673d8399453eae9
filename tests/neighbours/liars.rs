//! Strangers whose have-sets, and whose neighbours, are not what they say.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use aptpeer::digest::{InfoHash, Sha256};
use aptpeer::wire::HaveSet;

use crate::support::mirror::Mirror;
use crate::support::server::{Connection, Server};
use crate::tracker::Tracker;
use crate::{SOON, archive, install, node, packages, through, wait_for};

/// A stranger that sends these bytes as his have-set, and has nothing.
pub(crate) struct Liar {
    pub(crate) server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What he answers to `/have` and to `/neighbours`.
#[derive(Clone, Default)]
pub(crate) struct Lies {
    pub(crate) have: Vec<u8>,
    /// The body begins so, and has no end.
    endless: bool,
    neighbours: Option<String>,
}

impl Liar {
    pub(crate) fn start(ip: &str, lies: Lies) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let ip: IpAddr = ip.parse().unwrap();
        let server = Server::start_on(ip, move |connection| {
            while let Some(head) = connection.next_request()? {
                noted.lock().unwrap().push(head.path());
                match (&*head.path(), &lies.neighbours) {
                    ("/have", _) if lies.endless => endless(connection, &lies.have)?,
                    ("/have", _) => answer(connection, "200 OK", &lies.have)?,
                    ("/neighbours", Some(json)) => answer(connection, "200 OK", json.as_bytes())?,
                    _ => answer(connection, "404 Not Found", b"")?,
                }
            }
            Ok(())
        });
        Self { server, asked }
    }

    pub(crate) fn asked(&self, prefix: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.starts_with(prefix)).count()
    }
}

fn answer(connection: &mut Connection, status: &str, body: &[u8]) -> io::Result<()> {
    connection.send(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())?;
    connection.send(body)
}

/// A body that begins so and goes on for ever.
fn endless(connection: &mut Connection, begin: &[u8]) -> io::Result<()> {
    connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    connection.send(begin)?;
    loop {
        connection.send(&[0; 4096])?;
    }
}

pub(crate) fn have(bytes: Vec<u8>) -> Lies {
    Lies { have: bytes, ..Lies::default() }
}

#[test]
fn false_have_sets_cost_nothing() {
    let repository = packages(40);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let objects: Vec<Sha256> = repository.built().iter().map(|built| built.sha256).collect();
    let everything = HaveSet::of(&objects).to_bytes();
    let mut unsorted = everything.clone();
    unsorted[12..].reverse();
    let mut count = everything.clone();
    count[11] += 1;
    let mut beyond = everything.clone();
    beyond[8..12].fill(0xff);
    let long = [everything.clone(), vec![0; 100_000]].concat();
    let liars = [
        Liar::start("127.1.1.1", have(everything.clone())),
        Liar::start("127.1.2.1", have(b"<html>not found</html>".to_vec())),
        Liar::start("127.1.3.1", have(unsorted)),
        Liar::start("127.1.4.1", have(count)),
        Liar::start("127.1.5.1", have(beyond)),
        Liar::start("127.1.6.1", have(long)),
        Liar::start("127.1.7.1", Lies { have: everything, endless: true, neighbours: None }),
        Liar::start("127.1.8.1", Lies { have: Vec::new(), endless: true, neighbours: None }),
    ];
    liars.iter().for_each(|liar| tracker.add(InfoHash::from(archive()), liar.server.address()));

    let daemon = node(&repository, &tracker).start();
    daemon.wait_for_dht();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    let all_asked = || liars.iter().all(|liar| liar.asked("/have") > 0).then_some(());
    assert!(wait_for(SOON, all_asked).is_some(), "not all were asked");
    let refused = || (daemon.log().matches("a neighbour tells nothing").count() >= 7).then_some(());
    assert!(wait_for(SOON, refused).is_some(), "a false set was taken");
    let began = Instant::now();
    install(&apt, &repository);
    println!("40 packages among eight liars in {:.1?}", began.elapsed());
    println!("{:?}", liars.iter().map(|liar| (liar.asked("/have"), liar.asked("/hash"))).collect::<Vec<_>>());
    assert!(liars[1..].iter().all(|liar| liar.asked("/hash/") == 0), "only one could be believed");
    // What apt asks for at once may be under way when the third false claim is found out.
    assert!(liars[0].asked("/hash/") < 30, "{} requests to a liar", liars[0].asked("/hash/"));
    assert!(liars.iter().all(|liar| liar.asked("/have") == 1), "nobody who lied is asked again");
    assert_eq!(mirror.bytes("*/pool/*"), repository.built().iter().map(|built| built.size).sum::<u64>());
}

#[test]
fn a_flood_of_neighbours_is_not_followed() {
    let repository = packages(3);
    let (mirror, tracker) = (Mirror::start(&repository.root()), Tracker::start());
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = visits.clone();
    let bystander = Server::start_on("127.3.3.3".parse().unwrap(), move |_connection| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let address = bystander.address();
    let many = |count: usize, address: &dyn Fn(usize) -> String| {
        let named: Vec<String> = (0..count).map(|number| format!("\"{}\"", address(number))).collect();
        Some(format!("{{\"neighbours\":[{}]}}", named.join(",")))
    };
    let empty = HaveSet::default().to_bytes();
    let lies = [
        // Ten thousand: no list at all.
        Lies { neighbours: many(10_000, &|_| address.to_string()), ..have(empty.clone()) },
        // Fifty of one network and one host: a few are tried.
        Lies {
            neighbours: many(50, &|n| format!("127.3.3.{}:{}", n + 4, address.port())),
            ..have(empty.clone())
        },
        Lies { neighbours: many(50, &|_| "0.0.0.0:9".to_owned()), ..have(empty) },
    ];
    let liars: Vec<_> = lies
        .into_iter()
        .zip(["127.1.1.1", "127.1.2.1", "127.1.3.1"])
        .map(|(lies, ip)| Liar::start(ip, lies))
        .collect();
    liars.iter().for_each(|liar| tracker.add(InfoHash::from(archive()), liar.server.address()));
    let daemon = node(&repository, &tracker).start();
    daemon.wait_for_dht();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    let all_asked = || liars.iter().all(|liar| liar.asked("/neighbours") > 0).then_some(());
    assert!(wait_for(SOON, all_asked).is_some(), "not all were asked");
    let tried = || {
        let log = daemon.log();
        let failed = log.matches("a neighbour tells nothing").count();
        (failed >= 4).then_some(failed)
    };
    let tried = wait_for(SOON, tried).expect("a few are tried");
    assert!(tried <= 12, "{tried} tries");
    install(&apt, &repository);
    assert_eq!(visits.load(Ordering::SeqCst), 0, "somebody else was sent our questions");
}
