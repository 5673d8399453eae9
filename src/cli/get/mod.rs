//! `aptpeer get`: one file, by its hash or its URL, from peers and the mirror into a file.

mod place;
mod watch;

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::place::{Place, WorkFolder, cannot_write};
use self::watch::fetch;
use super::Context;
use super::output::Failure;
use crate::clock;
use crate::config::Settings;
use crate::daemon;
use crate::dht::is_local;
use crate::digest::Sha256;
use crate::discovery::{Dht, Discovery, Memory, Provider};
use crate::download::{Downloads, DownloadsConfig, Want};
use crate::metrics::Metrics;
use crate::mirror::{Mirror, Target, UpstreamSetting};
use crate::peer::{PeerClient, PeerError};
use crate::store::Store;
use crate::swarm::PeerKind;
use crate::wire::Swarm;

/// How long peers are asked how long a file is that is known by its hash only.
const LENGTH_LIMIT: Duration = Duration::from_secs(5);

/// How long peers of a file that is known by its hash only are looked for, entering the DHT included.
const FIND_LIMIT: Duration = Duration::from_secs(20);

/// The most peers that are asked how long a file is.
const MOST_PEERS: usize = 64;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file's SHA-256, or its URL on a mirror
    #[arg(value_name = "SHA256|URL")]
    what: String,

    /// Where to write it; `-` is standard output [default: the name in the URL, or the hash]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// A peer to ask, besides those of the configuration
    #[arg(long = "peer", value_name = "HOST:PORT")]
    peers: Vec<String>,
}

/// What the user named.
enum What {
    Hash(Sha256),
    Url(Target),
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let what = parse(&arguments.what)?;
    let settings = context.settings()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Work(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(get(&what, arguments, &settings, context))
}

fn parse(text: &str) -> Result<What, Failure> {
    if text.contains("://") {
        return Target::parse(text)
            .map(What::Url)
            .map_err(|error| Failure::Usage(format!("{text}: {error}")));
    }
    text.parse().map(What::Hash).map_err(|error| Failure::Usage(format!("{error}; give a SHA-256 or a URL")))
}

async fn get(
    what: &What,
    arguments: &Arguments,
    settings: &Settings,
    context: &mut Context,
) -> Result<(), Failure> {
    let place = Place::of(arguments, what)?;
    let providers = providers(arguments, settings).await?;
    let metrics = Metrics::new(clock::now());
    let swarm = daemon::swarm_of(settings).map_err(|error| Failure::Usage(error.to_string()))?;
    let (dht, driver) = daemon::dht_client(settings, &swarm, &metrics).unzip();
    let memory = Arc::new(Memory::new(providers.clone()));
    let client = PeerClient::of(swarm.clone());
    let job = Job { settings, place, providers, client, swarm, memory, dht, metrics };
    let work = async {
        match what {
            What::Url(target) => {
                let want = want_by_url(target, settings).await?;
                job.download(want, context).await.map_err(Setback::into_failure)
            }
            What::Hash(id) => job.download_by_hash(*id, context).await,
        }
    };
    let shutdown = CancellationToken::new();
    let Some(driver) = driver else { return work.await };
    let work = async {
        let done = work.await;
        shutdown.cancel();
        done
    };
    let (done, ()) = tokio::join!(work, driver.run(shutdown.clone()));
    done
}

/// What the search for a length came upon.
enum Next {
    Peers(Vec<SocketAddr>),
    Answer(Result<u64, PeerError>),
}

/// One file that is to be fetched.
struct Job<'a> {
    settings: &'a Settings,
    place: Place,
    providers: Vec<Provider>,
    client: PeerClient,
    swarm: Swarm,
    /// What is known of who has it; the DHT adds to it.
    memory: Arc<Memory>,
    dht: Option<Dht>,
    metrics: Metrics,
}

/// Why a try came to nothing.
enum Setback {
    /// The download failed before anything was written to standard output; with another length it may succeed.
    Fruitless(Failure),
    /// Anything else.
    Final(Failure),
}

impl Setback {
    fn into_failure(self) -> Failure {
        match self {
            Self::Fruitless(failure) | Self::Final(failure) => failure,
        }
    }
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

impl Job<'_> {
    fn discovery(&self) -> Vec<Arc<dyn Discovery>> {
        let dht = self.dht.iter().map(|dht| Arc::new(dht.clone()) as Arc<dyn Discovery>);
        std::iter::once(self.memory.clone() as Arc<dyn Discovery>).chain(dht).collect()
    }

    /// Strangers' addresses, without those of local networks unless the settings allow them.
    fn acceptable(&self, addresses: Vec<SocketAddr>) -> impl Iterator<Item = SocketAddr> {
        let local = self.settings.network.allow_private_peers;
        addresses.into_iter().filter(move |address| local || !is_local(address.ip()))
    }

    /// Tries one length after another of those that peers claim: the digest covers the length, so that a peer which
    /// lies about it wastes our time, no more.
    async fn download_by_hash(&self, id: Sha256, context: &mut Context) -> Result<(), Failure> {
        let mut known = self.providers.clone();
        let found = self.dht.as_ref().and_then(|dht| dht.find_peers(self.swarm.info_hash(&id)));
        if known.is_empty() && found.is_none() {
            let text = format!(
                "no peer to ask for {id}: name one with --peer HOST:PORT or in network.peers, or switch dht.enabled on"
            );
            return Err(Failure::Work(text));
        }
        let limit = if found.is_some() { FIND_LIMIT } else { LENGTH_LIMIT };
        let mut found = found;
        let mut answers: FuturesUnordered<_> =
            known.iter().map(|provider| self.client.length(provider.address, id)).collect();
        let deadline = clock::now() + limit;
        let mut tried: Vec<u64> = Vec::new();
        let mut failure = None;
        loop {
            let next = tokio::select! {
                Some(addresses) = next_of(&mut found) => Next::Peers(addresses),
                Some(answer) = answers.next() => Next::Answer(answer),
                () = tokio::time::sleep_until(deadline.into()) => break,
                else => break,
            };
            let length = match next {
                Next::Answer(Ok(length)) if !tried.contains(&length) => length,
                Next::Answer(_) => continue,
                Next::Peers(addresses) => {
                    for address in self.acceptable(addresses) {
                        if known.len() < MOST_PEERS && !known.iter().any(|peer| peer.address == address) {
                            known.push(Provider { address, kind: PeerKind::Stranger });
                            answers.push(self.client.length(address, id));
                        }
                    }
                    continue;
                }
            };
            tried.push(length);
            self.memory.set(known.clone());
            let want = Want { id, length, mirror: None, name: id.to_string(), archive: None };
            match self.download(want, context).await {
                Ok(()) => return Ok(()),
                Err(Setback::Fruitless(why)) => failure = Some(why),
                Err(Setback::Final(why)) => return Err(why),
            }
        }
        Err(failure.unwrap_or_else(|| self.nobody(&id)))
    }

    /// Why nobody gave a file that is known by its hash only.
    fn nobody(&self, id: &Sha256) -> Failure {
        let advice = match self.dht.as_ref().map(|dht| dht.status().waiting_for.is_some()) {
            Some(true) => {
                ", and no node of the DHT answers (dht.bootstrap): name a peer with --peer HOST:PORT"
            }
            Some(false) | None => ": name another with --peer HOST:PORT, or give the file's URL on a mirror",
        };
        Failure::Work(format!("no peer holds {id}{advice}"))
    }

    async fn download(&self, want: Want, context: &mut Context) -> Result<(), Setback> {
        let mut config = daemon::mirror_config(self.settings, Vec::new());
        if want.mirror.is_none() {
            // Nobody will ask a mirror: what apt says of its proxies need not be looked up.
            config.upstream = UpstreamSetting::None;
        }
        let mirror = Mirror::new(config).map_err(|error| Failure::Work(error.to_string()))?;
        let work = WorkFolder::beside(&self.place)?;
        let store = Store::open_scratch(work.0.clone()).map_err(|error| Failure::Work(error.to_string()))?;
        let downloads = Downloads::new(
            store,
            mirror,
            self.client.clone(),
            self.discovery(),
            self.metrics.clone(),
            DownloadsConfig {
                max_pieces: pieces(self.settings),
                max_rate: self.settings.transfer.max_download_rate.bytes_per_second(),
                prefer: daemon::preference(self.settings),
                allow_private_peers: self.settings.network.allow_private_peers,
                lan_only: self.settings.privacy.lan_only,
                share_private: self.settings.privacy.share_private_mirrors,
                own_addresses: Vec::new(),
            },
        );
        let id = want.id;
        let absurd = |error| Setback::Fruitless(Failure::Work(format!("{id}: {error}")));
        let download = downloads.open(want).map_err(absurd)?;
        let fetched = tokio::select! {
            fetched = fetch(&downloads, &download, &self.place, context) => fetched,
            _ = tokio::signal::ctrl_c() => Err(Failure::Work("interrupted".into()).into()),
        };
        downloads.stop().await;
        fetched?;
        if let Place::File(path) = &self.place {
            let object = work.0.join("v1/objects").join(&id.to_string()[..2]).join(id.to_string());
            fs::rename(&object, path).map_err(|error| cannot_write(path, &error))?;
        }
        Ok(())
    }
}

/// What a look-up finds next; `None` where there is none, or it has ended.
async fn next_of(found: &mut Option<mpsc::Receiver<Vec<SocketAddr>>>) -> Option<Vec<SocketAddr>> {
    let next = found.as_mut()?.recv().await;
    if next.is_none() {
        *found = None;
    }
    next
}

async fn want_by_url(target: &Target, settings: &Settings) -> Result<Want, Failure> {
    let index = daemon::read_lists(settings).await;
    let url = crate::debian::RepoUrl::new(&target.authority(), target.path_and_query.path());
    let known = url.ok().and_then(|url| index.lookup(&url));
    let Some((id, length)) = known.and_then(|known| Some((known.id, known.length?))) else {
        return Err(Failure::Work(format!(
            "{target}: no index in {} names this file, so its hash is not known: run `apt-get update`, or give its SHA-256",
            settings.mirrors.lists_dir.as_deref().unwrap_or(Path::new("mirrors.lists_dir")).display()
        )));
    };
    let path = target.path_and_query.path();
    let name = path.rsplit('/').next().unwrap_or(path).to_owned();
    Ok(Want { id, length, mirror: Some(target.clone()), name, archive: None })
}

/// The peers of the command line and the configuration, and the daemon on this machine if one runs.
async fn providers(arguments: &Arguments, settings: &Settings) -> Result<Vec<Provider>, Failure> {
    let mut providers: Vec<Provider> = Vec::new();
    let mut add = |address: SocketAddr| {
        if !providers.iter().any(|known| known.address == address) {
            providers.push(Provider { address, kind: PeerKind::Neighbour });
        }
    };
    for name in &arguments.peers {
        let mut found = tokio::net::lookup_host(name)
            .await
            .map_err(|error| Failure::Usage(format!("--peer {name}: {error}; give HOST:PORT")))?;
        found.next().map(&mut add);
    }
    for name in &settings.network.peers {
        // A static peer that cannot be resolved now is no reason to fail.
        let found = tokio::net::lookup_host(name.to_string()).await;
        found.ok().and_then(|mut found| found.next()).map(&mut add);
    }
    daemon::Record::read(&settings.state.path).and_then(|record| record.reachable_peer()).map(&mut add);
    Ok(providers)
}

fn pieces(settings: &Settings) -> NonZeroUsize {
    NonZeroUsize::new(settings.transfer.max_concurrent_downloads.get() as usize).unwrap_or(NonZeroUsize::MIN)
}
