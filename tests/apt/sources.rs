//! Every way to name a repository: proxy form and prefix form, both styles of sources, flat, by-hash, source packages.

use super::*;

/// The bytes of what apt fetches from `repository` with everything installed, by kind.
struct Sizes {
    release: u64,
    indexes: u64,
    files: u64,
}

impl Sizes {
    fn of(repository: &Repository) -> Self {
        let root = repository.root().join("debian");
        let size = |path: &str| std::fs::metadata(root.join(path)).unwrap().len();
        let native = support::repository::native();
        let packages = format!("dists/test/main/binary-{native}/Packages.xz");
        let debs: u64 = repository.built().iter().map(|built| built.size).sum();
        let (_, sources) = repository.source();
        let source = sources.iter().map(|name| size(&format!("pool/main/g/greet/{name}")));
        Self {
            release: size("dists/test/InRelease"),
            indexes: size(&packages) + size("dists/test/main/source/Sources.gz"),
            files: debs + source.sum::<u64>(),
        }
    }
}

/// Fetches everything that `repository` has: the lists, all packages, the source package.
fn fetch_everything(apt: &Apt, repository: &Repository) {
    apt.update().succeeded();
    let all = names(repository);
    apt.install(&all).succeeded();
    has(apt, repository, &all);
    apt.source("greet").succeeded();
    let (_, names) = repository.source();
    let pool = repository.root().join("debian/pool/main/g/greet");
    let mut sources: Vec<_> = names
        .into_iter()
        .map(|name| (name.clone(), Sha256::of(&std::fs::read(pool.join(name)).unwrap())))
        .collect();
    sources.sort();
    assert_eq!(apt.sources(), sources);
}

#[test]
fn everything_arrives_in_proxy_form_and_in_prefix_form_with_sources_in_both_styles() {
    let repository = Repository::small();
    for (prefix, deb822) in [(false, false), (false, true), (true, false), (true, true)] {
        let mirror = Mirror::start(&repository.root());
        let daemon = trusting(&repository).start();
        let (apt, base) = match prefix {
            false => (Apt::new().proxy(daemon.proxy()), mirror.url()),
            true => (Apt::new(), format!("http://{}/{}", daemon.proxy(), mirror.address())),
        };
        let apt = if deb822 { apt.deb822(&base, &repository) } else { apt.one_line(&base, &repository) };
        fetch_everything(&apt, &repository);

        assert_eq!(mirror.requests("*/by-hash/SHA256/*"), 2, "by-hash was not used");
        // A colon in a file's name is apt's own affair; what it asks for has none.
        assert!(
            apt.archives().iter().any(|(name, _)| name.starts_with("libgreet++1_1%3a2.0+dfsg-1~deb12u1_"))
        );
    }
}

#[test]
fn the_figures_count_every_request_and_every_byte_once() {
    let repository = Repository::small();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let sizes = Sizes::of(&repository);
    let asked = 1 + 2 + repository.built().len() as u64 + 3;

    fetch_everything(&through(&daemon, &mirror, &repository), &repository);
    assert_eq!(daemon.stat("requests_total"), asked);
    assert_eq!(daemon.stat("requests_mirror"), asked);
    assert_eq!(daemon.stat("bytes_from_mirror"), sizes.release + sizes.indexes + sizes.files);
    assert_eq!((daemon.stat("requests_cache"), daemon.stat("bytes_from_cache")), (0, 0));
    assert_eq!((daemon.stat("requests_p2p"), daemon.stat("bytes_from_p2p")), (0, 0));
    // All but the InRelease.
    until_cached_files(&daemon, asked - 1);
    assert_eq!(daemon.stat("cache_bytes"), sizes.indexes + sizes.files);

    // A second machine of the house: only the InRelease is asked of the mirror.
    mirror.forget_records();
    fetch_everything(&through(&daemon, &mirror, &repository), &repository);
    assert_eq!(mirror.records().len(), 1, "{:?}", mirror.records());
    assert_eq!(daemon.stat("requests_total"), 2 * asked);
    assert_eq!(daemon.stat("requests_cache"), asked - 1);
    assert_eq!(daemon.stat("bytes_from_cache"), sizes.indexes + sizes.files);
    assert_eq!(daemon.stat("bytes_from_mirror"), 2 * sizes.release + sizes.indexes + sizes.files);
    cache_is_whole(&daemon);
}

#[test]
fn a_flat_repository_is_known_by_its_hashes_too() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = Apt::new().proxy(daemon.proxy()).flat(&mirror.url(), &repository);
    apt.update().succeeded();
    apt.install(&["plain"]).succeeded();
    has(&apt, &repository, &["plain"]);
    until_cached(&daemon, &repository, &["plain"]);

    // The mirror is not asked for what the other repository has under another name.
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    mirror.forget_records();
    apt.install(&["plain"]).succeeded();
    assert_eq!(mirror.records().len(), 0, "{:?}", mirror.records());
}

#[test]
fn plain_names_of_indexes_serve_an_apt_that_does_not_use_by_hash() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    for _ in 0..2 {
        let apt = through(&daemon, &mirror, &repository).option("Acquire::By-Hash", "no");
        apt.update().succeeded();
        apt.install(&names(&repository)).succeeded();
        has(&apt, &repository, &names(&repository));
    }
    assert_eq!(mirror.requests("*/by-hash/*"), 0);
    assert_eq!(mirror.requests("*/Packages.xz"), 1, "{:?}", mirror.records());
}

#[test]
fn one_daemon_serves_several_repositories_to_one_apt() {
    let (one, mut other) = (few(), few());
    other.put(Package::new("other", "1.0", 5_000).all());
    other.publish();
    let mirrors = [Mirror::start(&one.root()), Mirror::start(&other.root())];
    // Of one of them it has no key, as it has of a vendor's whose sources name a keyring of their own.
    let daemon = trusting(&one).start();
    let apt = Apt::new().proxy(daemon.proxy());
    let apt = apt
        .one_line(&mirrors[0].url(), &one)
        .deb822(&mirrors[1].url(), &other)
        .flat(&mirrors[1].url(), &other);
    apt.update().succeeded();
    apt.install(&["other", "native"]).succeeded();
    assert_eq!(apt.archives().len(), 2);
    assert!(downloaded(&apt).contains(&other.package("other").sha256));
}

#[test]
fn an_unchanged_repository_is_confirmed_without_being_sent_again() {
    let repository = few();
    let mirror = Mirror::start(&repository.root());
    let daemon = trusting(&repository).start();
    let apt = through(&daemon, &mirror, &repository);
    apt.update().succeeded();
    mirror.forget_records();
    let again = apt.update();
    again.succeeded();
    assert!(again.stdout.contains("Hit:1 "), "{again}");
    let records = mirror.records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((records[0].status, records[0].body), (304, 0));
}
