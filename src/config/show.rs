//! Writing a configuration: the sample with every key, and the one in use.

use super::keys::KEYS;
use super::load::Loaded;
use super::problem::Origin;
use super::table::{Effect, Key};
use std::fmt::Write as _;

/// A file with every key, its meaning, what is allowed and its default.
pub fn sample_file() -> String {
    let mut text = String::from(
        "# aptpeer configuration. Every key is here with its default; what is left out keeps it.\n\
         # Sizes: \"4MB\" is powers of 1000, \"4MiB\" powers of 1024. An environment variable such as\n\
         # APTPEER_PROXY_LISTEN (lists: comma-separated) wins over this file.\n",
    );
    each_section(&mut text, |text, key| {
        for line in key.meaning.lines() {
            push_comment(text, line.trim());
        }
        push_comment(text, &format!("Allowed: {}.", key.allowed));
        if matches!(key.effect, Effect::Later { .. }) {
            push_comment(text, "No effect in this version.");
        }
        push_line(text, &format!("{} = {}\n", key.leaf(), key.default));
    });
    text
}

impl Loaded {
    /// The values in use as a configuration file, each with where it came from.
    pub fn to_toml(&self) -> String {
        let mut values = self.settings.to_toml().into_iter().zip(&self.origins);
        let mut text = String::new();
        each_section(&mut text, |text, key| {
            if let Some((value, origin)) = values.next() {
                push_line(text, &format!("{} = {value}  # {origin}", key.leaf()));
            }
        });
        text
    }

    /// The values in use, by section, and where those came from that somebody set.
    pub fn to_json(&self) -> serde_json::Value {
        let mut sections = serde_json::Map::new();
        let mut origins = serde_json::Map::new();
        for ((key, value), origin) in KEYS.iter().zip(self.settings.to_toml()).zip(&self.origins) {
            let value = serde_json::to_value(value).unwrap_or_default();
            let section = sections.entry(key.section).or_insert_with(|| serde_json::json!({}));
            section[key.leaf()] = value;
            if *origin != Origin::Default {
                origins.insert(key.name.to_owned(), origin.to_string().into());
            }
        }
        serde_json::json!({ "settings": sections, "origins": origins })
    }
}

/// Writes the header of each section, and each of its keys with `write`, in the order of [`KEYS`].
fn each_section(text: &mut String, mut write: impl FnMut(&mut String, &'static Key)) {
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            if !text.is_empty() && !text.ends_with("\n\n") {
                text.push('\n');
            }
            for line in key.about.lines() {
                push_comment(text, line.trim());
            }
            push_line(text, &format!("[{section}]"));
        }
        write(text, key);
    }
}

fn push_comment(text: &mut String, line: &str) {
    push_line(text, &format!("# {line}"));
}

fn push_line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::super::{Surroundings, Typed, load};
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn load_from(folder: &Path, text: Option<&str>) -> Loaded {
        let config = text.map(|text| {
            let path = folder.join("aptpeer.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        let around = Surroundings {
            variables: BTreeMap::from([("HOME".into(), folder.into())]),
            system_file: folder.join("none.toml"),
            root: false,
        };
        load(&Typed { config, flags: Vec::new() }, &around).unwrap()
    }

    #[test]
    fn the_sample_sets_every_key_to_its_default() {
        let folder = tempfile::tempdir().unwrap();
        let sample = load_from(folder.path(), Some(&sample_file()));
        assert!(sample.origins.iter().all(|origin| matches!(origin, Origin::File { .. })));
        assert_eq!(sample.settings, load_from(folder.path(), None).settings);
        assert!(sample.warnings.is_empty());
    }

    #[test]
    fn what_is_shown_loads_to_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[mirrors]\nproxy = \"http://proxy.example.org:3128\"\n\
                    [transfer]\nmax_upload_rate = \"1.5MB/s\"\n[dht]\nannounce_interval = \"90m\"\n";
        let first = load_from(folder.path(), Some(text));
        let shown = first.to_toml();
        assert!(shown.contains("max_upload_rate = \"1500kB/s\"  # "), "{shown}");
        let second = load_from(folder.path(), Some(&shown));
        assert_eq!(first.settings, second.settings);
    }

    #[test]
    fn json_has_sections_and_origins() {
        let folder = tempfile::tempdir().unwrap();
        let json = load_from(folder.path(), Some("[cache]\nmax_size = 5\n")).to_json();
        assert_eq!(json["settings"]["cache"]["max_size"], "5B");
        assert_eq!(json["settings"]["proxy"]["listen"], "127.0.0.1:9977");
        assert_eq!(json["origins"].as_object().unwrap().len(), 1);
        assert!(json["origins"]["cache.max_size"].as_str().unwrap().ends_with("aptpeer.toml line 2"));
    }
}
