//! Which hosts apt's own sources name (sources.list(5)): apt would go there without us, so we may too.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::policy::is_ours;
use super::target::{Host, Target, strip_tls_marker};

/// No sources file of a sane machine is longer, and no machine has more of them.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
const MAX_FILES: usize = 1000;

/// One URI that apt fetches from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file that names it.
    pub file: PathBuf,
    /// As it is written there.
    pub uri: String,
}

/// The URIs of `sources.list`, `sources.list.d/*.list` and `*.sources` under `apt_dir` (usually `/etc/apt`), those of a
/// `mirror+file:` list in its place. Files that cannot be read are passed over. Blocks on the disk.
pub fn sources(apt_dir: &Path) -> Vec<Source> {
    let mut files = vec![apt_dir.join("sources.list")];
    if let Ok(folder) = fs::read_dir(apt_dir.join("sources.list.d")) {
        files.extend(folder.flatten().map(|entry| entry.path()));
    }
    let mut found = Vec::new();
    for file in files.into_iter().take(MAX_FILES) {
        let uris = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line_uris(&read(&file)),
            Some("sources") => deb822_uris(&read(&file)),
            _ => continue,
        };
        for uri in uris {
            match mirror_list(&uri) {
                Some(list) => {
                    let uris = mirror_list_uris(&read(&list)).into_iter();
                    found.extend(uris.map(|uri| Source { file: list.clone(), uri }));
                }
                None => found.push(Source { file: file.clone(), uri }),
            }
        }
    }
    found
}

/// The hosts that these [`sources`] name.
///
/// `own` are our listen addresses: behind them, in prefix form, stands the host that is really meant. Blocks on the disk.
pub fn named_hosts(apt_dir: &Path, own: &[SocketAddr]) -> HashSet<Host> {
    sources(apt_dir).iter().filter_map(|source| host_of(&source.uri, own)).collect()
}

/// The text of a file, empty where it cannot be read.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    if let Err(error) = read
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(path = %path.display(), %error, "cannot read one of apt's sources");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `deb [option=value …] uri suite component…`, one a line.
fn one_line_uris(text: &str) -> Vec<String> {
    let uri = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb-src").or_else(|| line.strip_prefix("deb"))?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        rest.split_whitespace().next().map(str::to_owned)
    };
    text.lines().filter_map(uri).collect()
}

/// The `URIs` of every stanza that is not `Enabled: no`.
fn deb822_uris(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut stanza = Vec::new();
    let (mut enabled, mut in_uris) = (true, false);
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            if enabled {
                found.append(&mut stanza);
            }
            stanza.clear();
            (enabled, in_uris) = (true, false);
            continue;
        }
        let value = if line.starts_with([' ', '\t']) {
            line
        } else {
            let Some((name, value)) = line.split_once(':') else { continue };
            in_uris = name.eq_ignore_ascii_case("URIs");
            if name.eq_ignore_ascii_case("Enabled") {
                enabled = !matches!(value.trim(), "no" | "false" | "without" | "off" | "disable" | "0");
            }
            value
        };
        if in_uris {
            stanza.extend(value.split_whitespace().map(str::to_owned));
        }
    }
    found
}

/// The local file that holds the URIs of a `mirror+file:` source (apt-transport-mirror(1)).
fn mirror_list(uri: &str) -> Option<PathBuf> {
    let path = uri.strip_prefix("mirror+file:")?;
    Some(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
}

fn mirror_list_uris(text: &str) -> Vec<String> {
    let uri = |line: &str| line.split('#').next()?.split_whitespace().next().map(str::to_owned);
    text.lines().filter_map(uri).collect()
}

/// The host that is asked in the end: behind `mirror+`, `tor+` and the like, and behind our own prefix.
fn host_of(uri: &str, own: &[SocketAddr]) -> Option<Host> {
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = match scheme.rsplit('+').next()? {
        "mirror" => "http",
        last => last,
    };
    let target = Target::parse(&format!("{scheme}://{rest}")).ok()?;
    if is_ours(own, &target.host, target.port) {
        let inner = rest.split_once('/')?.1;
        let inner = strip_tls_marker(inner).unwrap_or(inner);
        return Target::parse(&format!("http://{inner}")).ok().map(|target| target.host);
    }
    Some(target.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            let list = folder.path().join("mirrors.txt").display().to_string();
            fs::write(folder.path().join(name), text.replace("MIRRORS", &list)).unwrap();
        }
        let own = ["127.0.0.1:9977".parse().unwrap()];
        let mut hosts: Vec<_> = named_hosts(folder.path(), &own).iter().map(Host::to_string).collect();
        hosts.sort();
        hosts
    }

    #[test]
    fn one_line_sources_are_read_with_options_and_comments() {
        let text = "# deb http://no.example.org/ x y\n\
            deb http://a.example.org/debian bookworm main # http://no.example.org\n\
            deb-src [arch=amd64 signed-by=/x.gpg] https://user:pw@B.example.org:8443/x/ ./\n\
            deb [ trusted=yes ] http://[2001:db8::1]/x ./\n\
            deb\thttp://10.0.0.5/debian bookworm main\n\
            deb file:///srv/x ./\n deb cdrom:[Debian 12]/ x main\ndebug http://no.example.org/ x\n";
        assert_eq!(
            hosts(&[("sources.list", text)]),
            ["10.0.0.5", "[2001:db8::1]", "a.example.org", "b.example.org"]
        );
    }

    #[test]
    fn deb822_sources_are_read_unless_disabled() {
        let text = "Types: deb\nURIs: http://a.example.org/debian\n  https://b.example.org/debian\n# URIs: http://no/\n\
            \thttp://c.example.org/\nSuites: x\n\nEnabled: no\nURIs: http://no.example.org/\n\n\
            uris: http://d.example.org/\nEnabled: yes";
        assert_eq!(
            hosts(&[
                ("sources.list.d/x.sources", text),
                ("sources.list.d/x.bak", "URIs: http://no.example.org/")
            ]),
            ["a.example.org", "b.example.org", "c.example.org", "d.example.org"]
        );
    }

    #[test]
    fn the_host_behind_a_prefix_a_marker_or_a_mirror_list_is_meant() {
        let text = "deb http://127.0.0.1:9977/a.example.org/debian x main\n\
            deb http://localhost:9977/HTTPS///b.example.org:8443/debian x main\n\
            deb http://HTTPS///c.example.org/debian x main\n\
            deb mirror+https://d.example.org/list x main\n\
            deb mirror://e.example.org/list x main\n\
            deb tor+http://f.example.org/ x main\n\
            deb mirror+file:MIRRORS x main\n\
            deb http://127.0.0.1:3142/g.example.org/ x main\n";
        let list = "http://h.example.org/debian\tpriority:1\nhttps://i.example.org/debian\n# http://no/\n";
        assert_eq!(
            hosts(&[("sources.list.d/x.list", text), ("mirrors.txt", list)]),
            [
                "127.0.0.1",
                "a.example.org",
                "b.example.org",
                "c.example.org",
                "d.example.org",
                "e.example.org",
                "f.example.org",
                "h.example.org",
                "i.example.org"
            ]
        );
    }
}
