//! The task behind the neighbours: asks them what they hold, and meets others in the DHT.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Archive, Neighbours};
use crate::clock;
use crate::digest::{InfoHash, Sha256};
use crate::discovery::Dht;
use crate::http::leads_to;
use crate::swarm::meetings::{Meeting, Meetings};
use crate::swarm::neighbourhood::{About, Bond, Question, Refusal, Told};

/// How long a question may take: 320 KiB over a slow line. Nobody waits for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// How long it is looked for who uses an archive.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// How often it is looked at which archives are used, and which peers the configuration's names lead to.
const LOOK_AROUND: Duration = Duration::from_secs(5);

/// How many of those that a look-up finds are taken: a popular archive has thousands.
const FOUND_AT_ONCE: usize = 100;

/// What has come of a task.
enum Done {
    Told(SocketAddr, Result<Told, Refusal>, Duration),
    Introduced(SocketAddr, Result<Vec<SocketAddr>, Refusal>),
    Announced(Sha256, bool),
    Found(Sha256, Vec<SocketAddr>),
}

/// One run of the driver.
struct Round<'a> {
    all: &'a Neighbours,
    /// Where others reach us now, `None` where they cannot.
    port: &'a (dyn Fn() -> Option<u16> + Send + Sync),
    meetings: Meetings,
    archives: Vec<Archive>,
    looked_around: Option<Instant>,
    tasks: JoinSet<Done>,
}

impl Neighbours {
    /// Asks and announces until `shutdown`. `lan` are the peers of the local network as they come and go, with their
    /// `addresses`; `banned` says who is banned for lies, and `port` at which port others reach us, if they do: both are
    /// asked every few seconds.
    pub async fn run<T: Send + Sync>(
        &self,
        mut lan: watch::Receiver<T>,
        addresses: impl Fn(&T) -> Vec<SocketAddr> + Send + Sync,
        banned: impl Fn() -> Vec<SocketAddr> + Send + Sync,
        port: impl Fn() -> Option<u16> + Send + Sync,
        shutdown: CancellationToken,
    ) {
        let mut round = Round {
            all: self,
            port: &port,
            meetings: Meetings::new(self.config.announce),
            archives: Vec::new(),
            looked_around: None,
            tasks: JoinSet::new(),
        };
        let mut moves = self.config.dht.as_ref().map(Dht::moves);
        loop {
            if round.is_to_look_around() {
                let present = addresses(&lan.borrow_and_update());
                round.look_around(&present, &banned());
            }
            round.start_due();
            let until = round.next_event();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(until.into()) => {}
                () = changed(&mut lan) => round.looked_around = None,
                () = moved(&mut moves) => round.meetings.handle_moved(clock::now()),
                Some(Ok(done)) = round.tasks.join_next() => round.handle(done),
            }
        }
        round.tasks.shutdown().await;
    }
}

impl Round<'_> {
    fn is_to_look_around(&self) -> bool {
        self.looked_around.is_none_or(|at| clock::now() >= at + LOOK_AROUND)
    }

    /// Takes note of who and what there is: `lan` are the peers of the local network.
    fn look_around(&mut self, lan: &[SocketAddr], banned: &[SocketAddr]) {
        let now = clock::now();
        self.looked_around = Some(now);
        let config = &self.all.config;
        self.archives = (config.archives)();
        let names: Vec<_> = self.archives.iter().map(|archive| archive.name).collect();
        self.meetings.set_archives(&names, now);
        self.meetings.set_reachable((self.port)().is_some());
        let mut machine = self.all.lock();
        machine.set_always(Bond::Fixed, &self.others(&config.fixed.addresses()), now);
        machine.set_always(Bond::Lan, &self.others(lan), now);
        machine.handle_banned(banned, now);
    }

    /// Those that are not us: not at an address of this machine, nor at the one by which others reach us.
    fn others(&self, peers: &[SocketAddr]) -> Vec<SocketAddr> {
        let outside = self.all.config.dht.as_ref().and_then(|dht| dht.status().external);
        let outside = outside.zip((self.port)()).map(|(ip, port)| SocketAddr::new(ip, port));
        let own = |peer: &SocketAddr| Some(*peer) == outside || leads_to(&self.all.config.own, *peer);
        peers.iter().filter(|peer| !own(peer)).copied().collect()
    }

    fn start_due(&mut self) {
        let now = clock::now();
        loop {
            let question = self.all.lock().poll_question(now);
            let Some(question) = question else { break };
            self.ask(question);
        }
        let Some(dht) = self.usable_dht() else { return };
        let few = self.all.lock().has_few();
        while let Some(meeting) = self.meetings.poll(few, now) {
            self.meet(&dht, meeting);
        }
    }

    /// The DHT, once it works: before, everything would be in vain.
    fn usable_dht(&self) -> Option<Dht> {
        self.all.config.dht.clone().filter(|dht| dht.status().good_nodes > 0)
    }

    fn next_event(&self) -> Instant {
        let now = clock::now();
        let machine = self.all.lock();
        let meeting = self.usable_dht().and_then(|_| self.meetings.next_timeout(machine.has_few(), now));
        let around = self.looked_around.map_or(now, |at| at + LOOK_AROUND);
        [machine.next_timeout(now), meeting].into_iter().flatten().fold(around, Instant::min)
    }

    fn ask(&mut self, Question { peer, about }: Question) {
        let ask = self.all.ask.clone();
        self.tasks.spawn(async move {
            let began = clock::now();
            match about {
                About::Objects(known) => {
                    let told = timeout(ANSWER_LIMIT, ask.objects(peer, known)).await;
                    Done::Told(peer, told.unwrap_or(Err(Refusal::Silent)), clock::now() - began)
                }
                About::Neighbours => {
                    let told = timeout(ANSWER_LIMIT, ask.neighbours(peer)).await;
                    Done::Introduced(peer, told.unwrap_or(Err(Refusal::Silent)))
                }
            }
        });
    }

    fn meet(&mut self, dht: &Dht, meeting: Meeting) {
        let dht = dht.clone();
        match meeting {
            Meeting::Announce(name) => {
                let (Some(info_hash), port) = (self.info_hash(&name), (self.port)()) else { return };
                self.tasks.spawn(async move {
                    let ended = match port {
                        Some(port) => dht.announce(info_hash, port).await,
                        None => None,
                    };
                    Done::Announced(name, ended.is_some_and(|ended| ended.stored > 0))
                });
            }
            Meeting::LookUp(name) => {
                let Some(info_hash) = self.info_hash(&name) else { return };
                self.tasks.spawn(async move { Done::Found(name, find(&dht, info_hash).await) });
            }
        }
    }

    fn info_hash(&self, name: &Sha256) -> Option<InfoHash> {
        self.archives.iter().find(|archive| archive.name == *name).map(|archive| archive.info_hash)
    }

    fn handle(&mut self, done: Done) {
        let now = clock::now();
        match done {
            Done::Told(peer, Ok(told), took) => {
                self.all.lock().handle_told(peer, told, took, now);
                debug!(%peer, ?took, "a neighbour told what it holds");
            }
            Done::Told(peer, Err(why), _) => {
                debug!(%peer, ?why, "a neighbour tells nothing");
                self.all.lock().handle_refusal(peer, why, now);
            }
            Done::Introduced(peer, others) => {
                // Whoever does not tell this is still good for what he holds.
                let others = others.unwrap_or_default();
                debug!(%peer, count = others.len(), "a neighbour named others");
                let others = self.others(&others);
                self.all.lock().handle_introduced(peer, &others, now);
            }
            Done::Announced(archive, taken) => {
                debug!(%archive, taken, "announced as a user of an archive");
                self.meetings.handle_announced(&archive, taken, now);
            }
            Done::Found(archive, peers) => {
                debug!(%archive, count = peers.len(), "looked for users of an archive");
                let peers = self.others(&peers);
                self.meetings.handle_looked(&archive, !peers.is_empty(), now);
                self.all.lock().handle_found(&archive, &peers, now);
            }
        }
    }
}

/// Who has announced himself, without ourselves, as far as the network knows.
async fn find(dht: &Dht, info_hash: InfoHash) -> Vec<SocketAddr> {
    let mut peers = Vec::new();
    let Some(mut found) = dht.find_peers(info_hash) else { return peers };
    let gather = async {
        while let Some(more) = found.recv().await {
            peers.extend(more);
            if peers.len() >= FOUND_AT_ONCE {
                break;
            }
        }
    };
    // What has come by then is of use all the same.
    let _ = timeout(LOOK_LIMIT, gather).await;
    peers.truncate(FOUND_AT_ONCE);
    peers.sort_unstable();
    peers.dedup();
    peers
}

/// Waits until the peers of the local network are others; for ever, where nobody would tell.
async fn changed<T>(lan: &mut watch::Receiver<T>) {
    if lan.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for the next move; for ever, where there is none to come.
async fn moved(moves: &mut Option<watch::Receiver<u64>>) {
    if let Some(told) = moves
        && told.changed().await.is_ok()
    {
        return;
    }
    *moves = None;
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::discovery::{Ask, Discovery as _, Fixed, NeighboursConfig, Reply};
    use crate::metrics::Metrics;
    use crate::wire::HaveSet;

    /// Everybody holds this.
    struct All(Sha256);

    impl Ask for All {
        fn objects(&self, _peer: SocketAddr, _known: Option<String>) -> Reply<'_, Told> {
            let set = HaveSet::of(&[self.0]);
            Box::pin(async { Ok(Told::Set { set, tag: None, age: Duration::ZERO }) })
        }

        fn neighbours(&self, _peer: SocketAddr) -> Reply<'_, Vec<SocketAddr>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    #[tokio::test]
    async fn peers_of_the_local_network_are_asked_as_they_come_and_forgotten_as_they_go() {
        let object = Sha256::of(b"object");
        let config = NeighboursConfig {
            seed: 1,
            allow_local: false,
            own: vec!["192.168.1.1:1".parse().unwrap(), "0.0.0.0:1".parse().unwrap()],
            fixed: Arc::new(Fixed::new(Vec::new())),
            dht: None,
            announce: None,
            strangers: false,
            metrics: Metrics::new(clock::now()),
            archives: Box::new(Vec::new),
        };
        let neighbours = Neighbours::new(config, Arc::new(All(object)));
        let (network, lan) = watch::channel(Vec::new());
        let shutdown = CancellationToken::new();
        let test = async {
            let until = async |count: usize| {
                while neighbours.providers(&object).len() != count {
                    tokio::task::yield_now().await;
                }
            };
            let peer = |text: &str| text.parse::<SocketAddr>().unwrap();
            // The first two are ourselves.
            let all = ["192.168.1.1:1", "127.9.9.9:1", "192.168.1.2:1", "192.168.1.3:1"];
            network.send(all.map(peer).to_vec()).unwrap();
            until(2).await;
            network.send(vec![peer("192.168.1.3:1")]).unwrap();
            until(1).await;
            assert_eq!(neighbours.counts(), (1, 0));
            assert_eq!(neighbours.introduced_to([9, 9, 9, 9].into()), []);
            shutdown.cancel();
        };
        tokio::join!(neighbours.run(lan, Vec::clone, Vec::new, || None, shutdown.clone()), test);
    }
}
