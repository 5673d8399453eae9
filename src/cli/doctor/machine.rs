//! Do the disk, the cache, the mirror and the clock do what is needed of them?

use std::path::Path;
use std::time::{Duration, SystemTime};

use hyper::Method;

use super::Finding;
use crate::clock;
use crate::config::Settings;
use crate::daemon::mirror_config;
use crate::mirror::{Mirror, MirrorRequest, Target, sources};
use crate::status::rounded_bytes;
use crate::store::{Store, StoreConfig, Verdict};

/// How much of the cache is read as a sample, in bytes and in files: a second of work on a slow disk.
const SAMPLE_BYTES: u64 = 200_000_000;
const SAMPLE_FILES: usize = 50;

/// How far the clock may be from the mirror's: apt refuses a Release file of the future, and one that has expired.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(600);

/// How long a mirror may take.
const MIRROR_LIMIT: Duration = Duration::from_secs(20);

/// Where apt's sources are.
const APT: &str = "/etc/apt";

pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = disk(settings);
    findings.extend(mirror(settings));
    findings
}

/// The cache: room, and whether what is in it is whole.
fn disk(settings: &Settings) -> Vec<Finding> {
    let path = settings.cache.path.clone();
    let config = StoreConfig {
        path: path.clone(),
        max_size: settings.cache.max_size.bytes(),
        min_free_space: settings.cache.min_free_space.bytes(),
    };
    let place = path.display();
    if !path.exists() {
        return vec![Finding::ok("disk", format!("{place} will be made when it is needed"))];
    }
    let cannot = |error: &dyn std::fmt::Display| {
        let text = format!("the cache in {place} cannot be used: {error}");
        vec![Finding::failure(
            "disk",
            text,
            "run this as root, or see who owns that directory and whether the disk is well",
        )]
    };
    let store = match Store::open(config) {
        Ok(store) => store,
        Err(error) => return cannot(&crate::causes::Causes(&error)),
    };
    let stats = match store.stats() {
        Ok(stats) => stats,
        Err(error) => return cannot(&crate::causes::Causes(&error)),
    };
    let (free, least) = (rounded_bytes(stats.free_space), rounded_bytes(stats.min_free_space));
    let room = if stats.free_space > stats.min_free_space {
        Finding::ok("disk", format!("{free} free at {place}, of which {least} stay free"))
    } else {
        Finding::warning(
            "disk",
            format!("{free} free at {place}, {least} are to stay free: nothing can be kept"),
            "make room, move cache.path to another disk, or lower cache.min_free_space",
        )
    };
    vec![room, sample(&store)]
}

/// Reads a part of what is kept. What is damaged is removed.
fn sample(store: &Store) -> Finding {
    let Ok(mut entries) = store.list() else {
        return Finding::failure(
            "cache",
            "the list of its files cannot be read",
            "`aptpeer cache verify` says why",
        );
    };
    // Their names are hashes: in their order any run of them is a fair choice.
    entries.sort_by_key(|entry| entry.id);
    let (mut bytes, mut files, mut damaged) = (0, 0_usize, 0_usize);
    for entry in &entries {
        if files >= SAMPLE_FILES || bytes >= SAMPLE_BYTES {
            break;
        }
        damaged += usize::from(matches!(store.verify(&entry.id), Ok(Verdict::Damaged)));
        bytes += entry.length;
        files += 1;
    }
    match damaged {
        0 => Finding::ok("cache", format!("{files} of {} files were read and are whole", entries.len())),
        _ => Finding::failure(
            "cache",
            format!("{damaged} of {files} files were damaged, and are removed"),
            "look at the disk (`dmesg`, `smartctl`), then `aptpeer cache verify`",
        ),
    }
}

/// The first mirror of apt's sources, and what time it has.
fn mirror(settings: &Settings) -> Vec<Finding> {
    let uris = sources(Path::new(APT)).into_iter().map(|source| source.uri);
    let Some(target) = uris.filter_map(|uri| Target::parse(&uri).ok()).next() else {
        return vec![Finding::warning(
            "mirror",
            "apt has no http or https source",
            "add one to /etc/apt/sources.list.d",
        )];
    };
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(ask(settings, &target)));
    match asked {
        Ok(date) => {
            let mut findings = vec![Finding::ok("mirror", format!("{} answers", target.host))];
            findings.extend(date.map(clock_against));
            findings
        }
        Err(error) => vec![Finding::failure(
            "mirror",
            format!("{} cannot be asked: {error}", target.host),
            "try `curl -I` with that host; name a proxy on the way in mirrors.proxy",
        )],
    }
}

/// The mirror's `Date`, if it has one.
async fn ask(settings: &Settings, target: &Target) -> Result<Option<SystemTime>, String> {
    let mirror = Mirror::new(mirror_config(settings, Vec::new())).map_err(|error| error.to_string())?;
    let request = MirrorRequest { method: Method::HEAD, ..MirrorRequest::get(target.clone()) };
    let answer = tokio::time::timeout(MIRROR_LIMIT, mirror.fetch(&request)).await;
    let answer = answer.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    let date = answer.date.as_ref().and_then(|date| date.to_str().ok());
    Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
}

fn clock_against(date: SystemTime) -> Finding {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(clock::unix_seconds());
    let off = now.duration_since(date).or_else(|_| date.duration_since(now)).unwrap_or_default();
    if off <= CLOCK_TOLERANCE {
        return Finding::ok("clock", "it agrees with the mirror's");
    }
    Finding::failure(
        "clock",
        format!(
            "it is {} s away from the mirror's: apt may take its files for expired or from the future",
            off.as_secs()
        ),
        "set it: `timedatectl set-ntp true`",
    )
}
